//! Runs the firmware under QEMU and compares what it finds with the committed bounds.

use ekfac_workload::{CASES, SMALL_CASES, learner};

fn main() {
    for case in SMALL_CASES.iter().chain(CASES) {
        println!("{}: {:?}", case.name, (case.run)().map(|digest| format!("{:016x}", digest.0)));
    }
    println!("{:?}", learner::cold(learner::NET, &mut [0.0; learner::NET_WORDS]));
    println!("{:?}", learner::cold(learner::SMALL_NET, &mut [0.0; learner::SMALL_NET_WORDS]));
    println!("{:?}", learner::tuned(&mut [0.0; learner::NET_WORDS]));
    println!("{} {}", learner::NET_WORDS * 4, learner::SMALL_NET_WORDS * 4);
}
