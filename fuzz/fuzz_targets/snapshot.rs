//! See [`ekfac_fuzz::snapshot`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ekfac_fuzz::snapshot::run(data));
