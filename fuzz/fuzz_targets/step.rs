//! See [`ekfac_fuzz::step`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ekfac_fuzz::step::run(data));
