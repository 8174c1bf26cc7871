//! See [`ekfac_fuzz::checkpoint`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ekfac_fuzz::checkpoint::run(data));
