//! A run that loses all memory again and again, and goes on from snapshots, its own and the desktop's.
#![no_std]
#![no_main]

ekfac_firmware::firmware!(run);

fn run() -> bool {
    let Ok(resumed) = ekfac_workload::resume::resumed() else { return false };
    ekfac_firmware::figure("resumed: bytes not the desktop's", resumed.differing as u64);
    semihosting::println!("digest\tresumed\t{:016x}", resumed.digest.0);
    true
}
