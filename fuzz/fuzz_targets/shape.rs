//! See [`ekfac_fuzz::shape`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ekfac_fuzz::shape::run(data));
