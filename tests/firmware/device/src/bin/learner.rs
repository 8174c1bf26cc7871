//! Learns exercises from a smartwatch's sensors, from scratch and from a desktop's weights.
#![no_std]
#![no_main]

use ekfac::Error;
use ekfac_workload::learner::{self, Report};

ekfac_firmware::firmware!(run);

fn run() -> bool {
    show("cold", if cfg!(sixteen_kilobytes) { small() } else { large() })
        & (cfg!(sixteen_kilobytes) || show("tuned", learner::tuned(&mut [0.0; learner::NET_WORDS])))
}

#[inline(never)]
fn small() -> Result<Report, Error> {
    learner::cold(learner::SMALL_NET, &mut [0.0; learner::SMALL_NET_WORDS])
}

#[inline(never)]
fn large() -> Result<Report, Error> {
    learner::cold(learner::NET, &mut [0.0; learner::NET_WORDS])
}

fn show(name: &str, report: Result<Report, Error>) -> bool {
    let Ok(report) = report else { return false };
    let Report { steps, held_out, wrong_before, wrong_after, digest } = report;
    for (what, count) in [
        ("steps", steps),
        ("held out", held_out),
        ("wrong before", wrong_before),
        ("wrong after", wrong_after),
    ] {
        semihosting::println!("figure\t{name}: {what}\t{count}");
    }
    semihosting::println!("digest\t{name}\t{:016x}", digest.0);
    true
}
