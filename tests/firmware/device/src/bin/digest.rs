//! Prints the digest of every case that fits the device.
#![no_std]
#![no_main]

use ekfac_workload::{CASES, Case, SMALL_CASES};

ekfac_firmware::firmware!(run);

fn run() -> bool {
    let cases: &[&[Case]] = if cfg!(sixteen_kilobytes) { &[SMALL_CASES] } else { &[SMALL_CASES, CASES] };
    let mut good = true;
    for case in cases.iter().copied().flatten() {
        match (case.run)() {
            Ok(digest) => semihosting::println!("digest\t{}\t{:016x}", case.name, digest.0),
            Err(_) => good = false,
        }
    }
    good
}
