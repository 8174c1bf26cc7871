//! Learns exercises from a smartwatch's sensors, from scratch and from a desktop's weights.
#![no_std]
#![no_main]

use ekfac_workload::learner::{RUNS, SMALL_RUNS};

ekfac_firmware::firmware!(run);

fn run() -> bool {
    ekfac_firmware::show(if cfg!(sixteen_kilobytes) { SMALL_RUNS } else { RUNS })
}
