//! Runs `passmint_fuzz_checks::config` on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| passmint_fuzz_checks::config::check(data));
