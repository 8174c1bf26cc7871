//! A device that fails: at any call, in any way, the run goes on from the last good state, bit for bit as if it had always been on
//! the processor from there, with an event and never a panic.
//!
//! Mutants that these tests catch: a fault that is swallowed, a mirror that is not the state of its step, an answer that is waited
//! for without a limit, NaN taken into the mirror.

use ekfac::{
    Activation::{Identity, Tanh},
    Config, Dense, Loss, Outcome, Reason, Targets,
};
use ekfac_std::{
    Network,
    offload::{Fault, Offloaded, Patience},
};
use ekfac_tests::{
    faulty::{Faulty, Trouble},
    plain::Plain,
    random::Draws,
};
use std::time::{Duration, Instant};

const BATCH: usize = 8;
const STEPS: usize = 6;
const LIMIT: Duration = Duration::from_secs(1);

fn fresh() -> Network<f32> {
    let layers = vec![Dense::new(6, 5, Tanh), Dense::new(5, 3, Identity)];
    Network::new(layers, Loss::SoftmaxCrossEntropy, Config::default(), 3, BATCH).unwrap()
}

fn batches() -> Vec<(Vec<f32>, Vec<u32>)> {
    let mut draws = Draws::new(11);
    let mut batch = || {
        let inputs = (0..6 * BATCH).map(|_| draws.normal() as f32).collect();
        (inputs, draws.classes(BATCH, 3))
    };
    (0..STEPS).map(|_| batch()).collect()
}

/// Runs all batches; returns the network on the processor at the end, and what happened.
fn run(trouble: Option<(usize, Trouble)>, mirror: u64) -> (Offloaded, Vec<u64>) {
    let patience = Patience { limit: LIMIT, mirror };
    let mut offloaded =
        Offloaded::new(&fresh(), BATCH, patience, move || Ok(Faulty::new(Plain, trouble))).unwrap();
    let mut counts = Vec::new();
    for (inputs, classes) in batches() {
        let step = offloaded.step(&inputs, Targets::Classes(&classes)).unwrap();
        assert!(step.loss.is_finite() && step.outcome == Outcome::Applied, "{step:?}");
        counts.push(offloaded.progress().steps);
    }
    (offloaded, counts)
}

/// The state of a run on the device that is brought back after so many steps.
fn state_after(steps: usize) -> Network<f32> {
    let patience = Patience { limit: Duration::from_secs(60), mirror: 100 };
    let mut offloaded = Offloaded::new(&fresh(), BATCH, patience, || Ok(Plain)).unwrap();
    for (inputs, classes) in batches().into_iter().take(steps) {
        offloaded.step(&inputs, Targets::Classes(&classes)).unwrap();
    }
    let network = offloaded.network().unwrap();
    let (layers, progress) = (network.net().layers().to_vec(), *network.progress());
    Network::resume(layers, Loss::SoftmaxCrossEntropy, Config::default(), progress, BATCH, network.state())
        .unwrap()
}

#[test]
fn without_a_fault_all_steps_are_the_devices() {
    let (mut offloaded, counts) = run(None, 2);
    assert!(offloaded.on_device() && offloaded.fall_back().is_none(), "{:?}", offloaded.fall_back());
    assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
    assert_eq!(offloaded.network().unwrap().state(), state_after(STEPS).state());
}

#[test]
fn every_fault_at_every_tenth_call_falls_back_to_the_mirror() {
    let faults: [(Trouble, Fault); 4] = [
        (Trouble::Fails(Fault::Lost("pulled out".to_owned())), Fault::Lost("pulled out".to_owned())),
        (Trouble::Fails(Fault::OutOfMemory(7)), Fault::OutOfMemory(7)),
        (Trouble::Dies, Fault::Gone),
        (Trouble::Poisons, Fault::NotFinite),
    ];
    let expected: Vec<Network<f32>> = (0..=STEPS).map(state_after).collect();
    let mut falls = 0;
    for (trouble, fault) in faults {
        for call in (0..1500).step_by(29) {
            let (mut offloaded, counts) = run(Some((call, trouble.clone())), 2);
            let Some(fall) = offloaded.fall_back().cloned() else {
                // The run ended before this call, or the poison came after the last answer.
                assert!(offloaded.on_device(), "{trouble:?} at call {call}");
                continue;
            };
            falls += 1;
            assert_eq!(fall.fault, fault, "call {call}");
            assert!(fall.lost < 2 && !offloaded.on_device(), "{fall:?}");
            // From the mirror on, the processor takes the steps that are left.
            let kept = (fall.step - fall.lost) as usize;
            let mut host = Network::resume(
                expected[kept].net().layers().to_vec(),
                Loss::SoftmaxCrossEntropy,
                Config::default(),
                *expected[kept].progress(),
                BATCH,
                expected[kept].state(),
            )
            .unwrap();
            for (inputs, classes) in batches().into_iter().skip(fall.step as usize) {
                host.step(&inputs, Targets::Classes(&classes)).unwrap();
            }
            assert_eq!(offloaded.network().unwrap().state(), host.state(), "{trouble:?} at call {call}");
            assert_eq!(counts.len(), STEPS);
        }
    }
    println!("{falls} falls");
    assert!(falls > 60, "only {falls} falls");
}

#[test]
fn an_answer_that_comes_late_or_never_is_not_waited_for() {
    for sleep in [Duration::from_secs(3), Duration::from_secs(3600)] {
        for call in [3, 300] {
            let start = Instant::now();
            let (offloaded, _) = run(Some((call, Trouble::Sleeps(sleep))), 1);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(20), "{took:?}");
            assert_eq!(offloaded.fall_back().map(|fall| &fall.fault), Some(&Fault::Late));
        }
    }
}

#[test]
fn a_device_that_is_missing_leaves_the_network_on_the_processor() {
    let missing = || Err::<Plain, _>(Fault::Missing("no such thing".to_owned()));
    let mut offloaded = Offloaded::new(&fresh(), BATCH, Patience::default(), missing).unwrap();
    let (inputs, classes) = batches().swap_remove(0);
    let (step, mut host) = (offloaded.step(&inputs, Targets::Classes(&classes)).unwrap(), fresh());
    assert_eq!(step, host.step(&inputs, Targets::Classes(&classes)).unwrap());
    assert!(!offloaded.on_device());
    assert_eq!(offloaded.fall_back().map(|fall| fall.lost), Some(0));
}

#[test]
fn bad_data_are_skipped_and_no_fault_of_the_device() {
    let (mut offloaded, _) = run(None, 2);
    let before = offloaded.network().unwrap().state().to_vec();
    let (mut inputs, classes) = batches().swap_remove(0);
    inputs[4] = f32::NAN;
    let step = offloaded.step(&inputs, Targets::Classes(&classes)).unwrap();
    let reason = Reason::NonFinite { layer: 0, argument: "activations", index: 4 };
    assert_eq!(step.outcome, Outcome::Skipped(reason));
    assert!(offloaded.step(&inputs[1..], Targets::Classes(&classes)).is_err());
    assert!(offloaded.on_device());
    assert_eq!(offloaded.network().unwrap().state(), before);
}
