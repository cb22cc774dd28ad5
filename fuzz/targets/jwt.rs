//! Runs `passmint_fuzz_checks::jwt` on what libFuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(init: passmint_fuzz_checks::jwt::accepts_what_is_genuine(), |data: &[u8]| passmint_fuzz_checks::jwt::check(data));
