//! Prints the digests of networks of convolutions.
#![no_std]
#![no_main]

use ekfac_workload::CONVOLUTION_CASES;

ekfac_firmware::firmware!(run);

fn run() -> bool {
    let mut good = true;
    for case in CONVOLUTION_CASES {
        match (case.run)() {
            Ok(digest) => semihosting::println!("digest\t{}\t{:016x}", case.name, digest.0),
            Err(_) => good = false,
        }
    }
    good
}
