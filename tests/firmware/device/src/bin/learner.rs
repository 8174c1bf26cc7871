//! Learns exercises from a smartwatch's sensors, from scratch and from a desktop's weights.
#![no_std]
#![no_main]

use ekfac_workload::learner::{RUNS, SMALL_RUNS};
use semihosting::println;

ekfac_firmware::firmware!(run);

fn run() -> bool {
    for run in if cfg!(sixteen_kilobytes) { SMALL_RUNS } else { RUNS } {
        let Ok(report) = (run.run)() else { return false };
        report.figures().iter().for_each(|(what, count)| println!("figure\t{}: {what}\t{count}", run.name));
        println!("digest\t{}\t{:016x}", run.name, report.digest.0);
    }
    true
}
