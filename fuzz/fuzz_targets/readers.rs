//! See [`ekfac_fuzz::readers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ekfac_fuzz::readers::run(data));
