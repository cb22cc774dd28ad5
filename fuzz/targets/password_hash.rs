//! Runs `passmint_fuzz_checks::password_hash` on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| passmint_fuzz_checks::password_hash::check(data));
