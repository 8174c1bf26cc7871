//! Bad data: what is not finite or too large is skipped and leaves no trace. Bad calls have a suite of their own.
//!
//! Mutants that these tests catch: a gate behind an average; one layer written before another is checked; a comparison
//! that lets NaN through; a limit that forgets the size of the batch; a counter or a random stream that moves on a skip.

use ekfac::{
    Averaging, Clip, Config, Coordinates, Dense, Error, Estimator, Fisher, Learner, Loss, Net, Outcome,
    Progress, Reason, Refresh, Scalar, Shape, Targets, guard,
};
use ekfac_tests::{
    oracle::{bench::Bench, bits},
    random::Draws,
};

const LAYERS: [Dense; 2] = ekfac::layers![3 => 4 Tanh => 2 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
const BATCH: usize = 3;
const BAD: [f32; 4] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30];

fn settings(fisher: Fisher) -> Config<f32> {
    Config { fisher, refresh: Refresh::every(2), clip: Clip::ShareOfLoss(1e-3), ..Config::default() }
}

/// Batches of a fixed stream: the same for every learner.
fn batch(number: u64) -> (Vec<f32>, Vec<f32>) {
    let mut draws = Draws::new(1_000 + number);
    let mut list = |length| draws.list(length).into_iter().map(|value| value as f32).collect();
    (list(3 * BATCH), list(2 * BATCH))
}

/// What must not change: the state, and all counters but those of refused batches and of work.
fn trace(learner: &Learner<'_, f32>) -> (Vec<u64>, Progress<f32>) {
    (bits(learner.state()), Progress { skipped: 0, operations: 0, ..*learner.progress() })
}

/// Runs `clean` batches, then `poison`, then one more batch; compares with the run without the poison.
fn check_no_trace(
    fisher: Fisher,
    clean: u64,
    place: &str,
    poison: impl FnOnce(&mut Learner<'_, f32>) -> Outcome,
    expected: Reason,
) {
    let mut memories = [vec![0.0_f32; NET.words(BATCH)], vec![0.0_f32; NET.words(BATCH)]];
    let [first, second] = &mut memories;
    let mut clean_run = Learner::new(NET, settings(fisher), 5, BATCH, first).unwrap();
    let mut poisoned = Learner::new(NET, settings(fisher), 5, BATCH, second).unwrap();
    for number in 0..clean {
        let (inputs, targets) = batch(number);
        clean_run.step(&inputs, Targets::Values(&targets)).unwrap();
        poisoned.step(&inputs, Targets::Values(&targets)).unwrap();
    }
    let before = trace(&poisoned);
    assert_eq!(poison(&mut poisoned), Outcome::Skipped(expected), "{place}");
    assert_eq!(trace(&poisoned), before, "{place}: the refused batch left a trace");
    assert_eq!(poisoned.progress().skipped, 1, "{place}");
    let event = poisoned.events().recent().copied();
    assert_eq!(
        event.map(|event| (event.step, event.skipped, event.reason)),
        Some((clean, true, expected)),
        "{place}"
    );
    let (inputs, targets) = batch(clean);
    let outcomes =
        [&mut clean_run, &mut poisoned].map(|learner| learner.step(&inputs, Targets::Values(&targets)));
    assert_eq!(outcomes[0], outcomes[1], "{place}");
    assert_eq!(trace(&clean_run), trace(&poisoned), "{place}: the next step differs");
}

fn step_outcome(learner: &mut Learner<'_, f32>, inputs: &[f32], targets: &[f32]) -> Outcome {
    learner.step(inputs, Targets::Values(targets)).unwrap().outcome
}

#[test]
fn a_bad_input_leaves_no_trace() {
    for fisher in [Fisher::Empirical, Fisher::Sampled, Fisher::Exact] {
        for (clean, bad, index) in grid(3 * BATCH) {
            let place = format!("{fisher:?}, {clean} clean batches, {bad} at {index}");
            // A huge input saturates tanh, so the forward pass stays finite and the gate has to find it.
            let expected = if bad.is_finite() {
                Reason::TooLarge { layer: 0, argument: "activations", index }
            } else {
                Reason::NonFinite { layer: 0, argument: "activations", index }
            };
            let poison = |learner: &mut Learner<'_, f32>| {
                let (mut inputs, targets) = batch(77);
                inputs[index] = bad;
                step_outcome(learner, &inputs, &targets)
            };
            check_no_trace(fisher, clean, &place, poison, expected);
        }
    }
}

#[test]
fn a_bad_target_leaves_no_trace() {
    for (clean, bad, index) in grid(2 * BATCH) {
        let poison = |learner: &mut Learner<'_, f32>| {
            let (inputs, mut targets) = batch(77);
            targets[index] = bad;
            step_outcome(learner, &inputs, &targets)
        };
        let place = format!("{clean} clean batches, {bad} at {index}");
        check_no_trace(Fisher::Sampled, clean, &place, poison, Reason::LossNotFinite);
    }
}

#[test]
fn a_bad_weight_leaves_no_trace_once_it_is_mended() {
    for (layer, dense) in LAYERS.iter().enumerate() {
        for (clean, bad, index) in grid(dense.shape().parameters()) {
            if bad.is_finite() {
                continue;
            }
            let poison = |learner: &mut Learner<'_, f32>| {
                let mut weights = learner.stored_weights(layer).unwrap();
                let good = std::mem::replace(&mut weights.as_mut_slice()[index], bad);
                let before = bits(learner.state());
                let (inputs, targets) = batch(77);
                let outcome = step_outcome(learner, &inputs, &targets);
                assert_eq!(bits(learner.state()), before);
                learner.stored_weights(layer).unwrap().as_mut_slice()[index] = good;
                outcome
            };
            let place = format!("{clean} clean batches, {bad} at {index} of layer {layer}");
            let expected = Reason::NonFinite { layer, argument: "weights", index };
            check_no_trace(Fisher::Sampled, clean, &place, poison, expected);
        }
    }
}

#[test]
fn a_huge_weight_never_makes_the_state_infinite() {
    for (layer, huge) in [(0, 1e30_f32), (1, 1e30), (0, -3e38), (1, 1e15)] {
        for index in 0..LAYERS[layer].shape().parameters() {
            let mut memory = vec![0.0_f32; NET.words(BATCH)];
            let mut learner = Learner::new(NET, settings(Fisher::Empirical), 5, BATCH, &mut memory).unwrap();
            learner.stored_weights(layer).unwrap().as_mut_slice()[index] = huge;
            for number in 0..5 {
                let (inputs, targets) = batch(number);
                learner.step(&inputs, Targets::Values(&targets)).unwrap();
                let finite = learner.state().iter().all(|word| word.is_finite());
                assert!(finite, "{huge} at {index} of layer {layer}, step {number}");
            }
        }
    }
}

/// Numbers of clean batches before, bad values, and indices.
fn grid(length: usize) -> impl Iterator<Item = (u64, f32, usize)> {
    [0, 3].into_iter().flat_map(move |clean| {
        BAD.into_iter().flat_map(move |bad| (0..length).map(move |index| (clean, bad, index)))
    })
}

#[test]
fn the_preconditioner_refuses_bad_batches_without_a_trace() {
    for estimator in [Estimator::PerExampleRunning, Estimator::MeanGradientRunning, Estimator::Kronecker] {
        let mut draws = Draws::new(3);
        let mut bench =
            Bench::<f32>::new(Shape::new(3, 2), Config { estimator, ..settings(Fisher::Empirical) });
        let (a, g) = (draws.matrix(3, 4), draws.matrix(2, 4));
        for clean in 0..3 {
            let before = bench.clone();
            for (bad, index) in BAD.into_iter().flat_map(|bad| (0..20).map(move |index| (bad, index))) {
                let (mut a, mut g) = (a.clone(), g.clone());
                let argument = if index < 12 { "activations" } else { "gradients" };
                let values = if index < 12 { a.as_mut_slice() } else { g.as_mut_slice() };
                let index = if index < 12 { index } else { index - 12 };
                values[index] = f64::from(bad);
                let expected = if bad.is_finite() {
                    Reason::TooLarge { layer: 0, argument, index }
                } else {
                    Reason::NonFinite { layer: 0, argument, index }
                };
                let outcome = bench.observe(&a, &g);
                assert_eq!(outcome, Outcome::Skipped(expected), "{estimator:?}, {bad} at {index}");
                assert_eq!(bits(&bench.state), bits(&before.state), "{estimator:?}, {bad} at {index}");
            }
            assert_eq!(bench.progress.skipped, before.progress.skipped + 80);
            let mut clean_run = before;
            assert_eq!(bench.observe(&a, &g), clean_run.observe(&a, &g));
            assert_eq!(
                bits(&bench.state),
                bits(&clean_run.state),
                "{estimator:?}, after {clean} clean batches"
            );
        }
    }
}

fn check_magnitudes<T: Scalar>(size: f64, batch: usize, estimator: Estimator) {
    let config = Config {
        estimator,
        fisher: Fisher::Empirical,
        factors: Averaging::Decay(T::from_f64(0.5)),
        scalings: Averaging::Decay(T::from_f64(0.5)),
        ..Config::default()
    };
    let shape = Shape::new(5, 4);
    let mut bench = Bench::<T>::new(shape, config);
    let size = if size > 0.0 { size } else { guard::limit::<T>(&shape, batch).to_f64() };
    for (sign, step) in [(1.0, 0), (-1.0, 1), (1.0, 2)] {
        let mut value = |i: usize, j: usize| if (i + j + step) % 5 == 4 { -0.0 } else { sign * size };
        let a = nalgebra::DMatrix::from_fn(5, batch, &mut value);
        let g = nalgebra::DMatrix::from_fn(4, batch, &mut value);
        let outcome = bench.observe(&a, &g);
        let place = format!("{estimator:?}, {size:e}, batch {batch}: {outcome:?}");
        assert!(!matches!(outcome, Outcome::Skipped(_)), "{place}");
        assert!(bench.state.iter().all(|word| word.is_finite()), "{place}");
    }
}

#[test]
fn the_gate_lets_no_magnitude_pass_that_overflows() {
    let estimators = [
        Estimator::PerExampleFresh,
        Estimator::PerExampleRunning,
        Estimator::MeanGradientRunning,
        Estimator::Kronecker,
    ];
    // 0 stands for the gate's own limit; then subnormals and the smallest numbers.
    for (estimator, batch) in
        estimators.into_iter().flat_map(|estimator| [1, 2, 100].map(|batch| (estimator, batch)))
    {
        for size in [0.0, 1e-38, 1e-45, 1.0] {
            check_magnitudes::<f32>(size, batch, estimator);
            check_magnitudes::<f64>(size, batch, estimator);
        }
        check_magnitudes::<f64>(5e-324, batch, estimator);
    }
    let limit = guard::limit::<f32>(&Shape::new(64, 10), 100);
    assert!(limit > 1e8 && limit < 1.3e8, "{limit}");
    assert_eq!(guard::first_beyond(&[limit, -limit, limit.next_up()], limit), Some(2));
    assert_eq!(guard::first_beyond(&[0.0, f32::NAN], f32::INFINITY), Some(1));
}

#[test]
fn weights_that_a_turn_could_overflow_are_refused() {
    let limit: f32 = guard::turning_limit(NET.layers()[0].shape());
    for bad in [f32::NAN, f32::INFINITY, f32::MAX, 1.01 * limit] {
        let mut memory = vec![0.0_f32; NET.words(1)];
        let mut learner = Learner::new(NET, settings(Fisher::Sampled), 5, 1, &mut memory).unwrap();
        learner.set_coordinates(0, Coordinates::Eigenbasis).unwrap();
        learner.stored_weights(0).unwrap().as_mut_slice()[5] = bad;
        let before = trace(&learner);
        let refused = Error::OutOfRange { argument: "weights", index: 5 };
        assert_eq!(learner.rotate(3), Err(refused), "{bad}");
        assert_eq!(learner.set_coordinates(0, Coordinates::Parameter), Err(refused), "{bad}");
        // No input reaches the weight, so that only the gate can find it.
        let outcome = step_outcome(&mut learner, &[0.0; 3], &[0.5; 2]);
        assert!(matches!(outcome, Outcome::Skipped(_)), "{bad}: {outcome:?}");
        assert_eq!(trace(&learner), before, "{bad}");
    }
}

#[test]
fn the_mean_of_losses_at_both_ends_of_the_range_is_finite() {
    let mut memory = vec![0.0_f32; NET.words(1)];
    let layers = [Dense::new(1, 2, ekfac::Activation::Identity)];
    let net = Net::new(&layers, Loss::SoftmaxCrossEntropy);
    let mut learner =
        Learner::new(net, settings(Fisher::Sampled), 5, 1, &mut memory[..net.words(1)]).unwrap();
    for targets in [[1e38, 2e38], [-1e38, -2e38], [1e38, 2e38]] {
        learner.step(&[1.0], Targets::Values(&targets)).unwrap();
        assert!(learner.progress().mean_loss.is_finite(), "{:?}", learner.progress());
    }
}

/// Mutant: a step whose length is a number, but not the weights it leads to.
#[test]
fn a_step_that_would_overflow_the_weights_is_left_out() {
    for coordinates in [Coordinates::Parameter, Coordinates::Eigenbasis] {
        let config = Config {
            learning_rate: 3e38,
            clip: Clip::None,
            reach: None,
            refresh: Refresh::Rotations { per_step: 0, per_line: 0.0, threshold: 0.0 },
            ..settings(Fisher::Empirical)
        };
        let mut memory = vec![0.0_f32; NET.words(BATCH)];
        let mut learner = Learner::new(NET, config, 5, BATCH, &mut memory).unwrap();
        let layers = 0..NET.layers().len();
        layers.clone().for_each(|layer| learner.set_coordinates(layer, coordinates).unwrap());
        let moving = |learner: &mut Learner<'_, f32>| -> Vec<u32> {
            let mut words = Vec::new();
            for layer in layers.clone() {
                words.extend_from_slice(learner.stored_weights(layer).unwrap().as_mut_slice());
                words.extend_from_slice(learner.layer(layer).unwrap().velocity());
            }
            words.into_iter().map(f32::to_bits).collect()
        };
        let before = moving(&mut learner);
        let (inputs, targets) = batch(0);
        let outcome = step_outcome(&mut learner, &inputs, &targets);
        assert_eq!(outcome, Outcome::Degraded(Reason::StepTooLarge), "{coordinates:?}");
        assert!(moving(&mut learner) == before, "{coordinates:?}: weights and velocity stay");
    }
}
