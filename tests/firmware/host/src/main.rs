//! Runs the firmware under QEMU and compares what it finds with the committed bounds.

use ekfac_workload::{CASES, SMALL_CASES};

fn main() {
    for case in SMALL_CASES.iter().chain(CASES) {
        println!("{}: {:?}", case.name, (case.run)().map(|digest| format!("{:016x}", digest.0)));
    }
}
