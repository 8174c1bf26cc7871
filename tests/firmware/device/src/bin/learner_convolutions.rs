//! Learns exercises from the recorded axes of a smartwatch's sensors, by filters along time.
#![no_std]
#![no_main]

use ekfac_workload::convolution_learner::RUNS;

ekfac_firmware::firmware!(run);

fn run() -> bool {
    ekfac_firmware::show(RUNS)
}
