//! See [`ekfac_fuzz::eigen`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ekfac_fuzz::eigen::run(data));
