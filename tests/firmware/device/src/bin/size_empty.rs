//! The flash that a firmware takes without core: what the others are compared with.
#![no_std]
#![no_main]

ekfac_firmware::firmware!(run);

fn run() -> bool {
    core::hint::black_box(true)
}
