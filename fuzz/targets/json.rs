//! Runs `passmint_fuzz_checks::json` on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| passmint_fuzz_checks::json::check(data));
