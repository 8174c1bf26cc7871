//! What large factors and large batches change: rotations, threshold and memory by the lines of a factor, and the share of a
//! batch that is measured.
//!
//! Mutants that these tests catch: small factors that no longer keep their settings; a threshold that shrinks; rotations of a
//! whole batch paid by one example; a memory by the shorter side; a share that falls by a jump.

use ekfac::{
    Activation, Averaging, Config, Dense, Learner, Loss, Net, Refresh, Shape, Targets, step::Effort,
};
use ekfac_tests::random::Draws;

fn settled(examples: usize, lines: usize) -> (u32, f64) {
    let refresh = Refresh::Rotations { per_step: 64, per_line: 0.5, threshold: 0.08 };
    let config = Config { refresh, ..Config::default() };
    let effort = Effort::due(&config, 0, examples).unwrap().for_lines(lines);
    assert_eq!(effort.for_lines(lines), effort, "settled once is settled");
    match effort {
        Effort::Rotate { rotations, threshold, .. } => (rotations, threshold),
        Effort::Solve(_) => panic!("a running eigenbasis does not solve"),
    }
}

#[test]
fn factors_within_the_rotations_of_a_step_keep_their_settings() {
    for lines in [1, 2, 64, 128] {
        assert_eq!(settled(100, lines), (64, 0.08), "{lines} lines");
    }
}

#[test]
fn large_factors_take_rotations_and_a_threshold_by_their_lines() {
    let (rotations, threshold) = settled(100, 2048);
    assert_eq!(rotations, 1000, "20 lines for each of 100 examples");
    assert!((threshold - 0.08 * (1000.0_f64 / 64.0).powf(0.25)).abs() <= 1e-15, "{threshold}");
    let (rotations, threshold) = settled(1000, 2048);
    assert_eq!(rotations, 1024);
    assert!((threshold - 0.16).abs() <= 1e-15, "sixteen times the rotations: {threshold}");
    assert_eq!(settled(1, 2048), (64, 0.08), "one example");
}

#[test]
fn memory_grows_with_the_larger_factor() {
    let memory = Averaging::PerLine { least: 1000.0_f64, per_line: 8.0 };
    let examples = |shape: Shape| -50.0 / memory.for_lines(shape.longest_side()).decay(50).ln();
    for (shape, expected) in
        [(Shape::new(30, 100), 1000.0), (Shape::new(999, 10), 8000.0), (Shape::new(10, 1000), 8000.0)]
    {
        let found = examples(shape);
        assert!((found / expected - 1.0).abs() <= 1e-9, "{shape:?}: {found} examples");
    }
    let fixed = Averaging::Decay(0.9_f64);
    assert_eq!(fixed.for_lines(5000), fixed);
}

#[test]
fn a_large_batch_is_measured_by_half_the_share_and_never_less_than_a_smaller_one() {
    let config = Config::<f32>::default();
    for (batch, measured) in [(1, 1), (100, 50), (101, 50), (150, 50), (200, 50), (300, 75), (1024, 256)] {
        assert_eq!(config.measured_at_most(batch), measured, "batch {batch}");
    }
    let most: Vec<_> = (1..1000).map(|batch| config.measured_at_most(batch)).collect();
    assert!(most.is_sorted());
    let whole = Config { statistics_share: 1.0, ..config };
    assert_eq!(whole.measured_at_most(1024), 1024);
    let level = Config { large_batch: None, ..config };
    assert_eq!(level.measured_at_most(1024), 512);
}

/// A wide layer's bias is added to many examples a strip of rows at a time, to one example at once. Mutant: the first strip alone.
#[test]
fn a_wide_layer_predicts_for_many_examples_what_it_predicts_for_each() {
    let layers = [Dense::new(150, 20, Activation::Tanh), Dense::new(20, 3, Activation::Identity)];
    let net = Net::new(&layers, Loss::SquaredError);
    let (mut memory, mut draws) = (vec![0.0; net.words(8)], Draws::new(3));
    let mut learner = Learner::new(net, Config::<f64>::default(), 2, 8, &mut memory).unwrap();
    let (inputs, targets) = (draws.list(150 * 8), draws.list(3 * 8));
    for _ in 0..10 {
        learner.step(&inputs, Targets::Values(&targets)).unwrap();
    }
    // A bias that counts.
    let weights = draws.matrix(20, 151);
    learner.set_weights(0, (&weights).into()).unwrap();
    let together = learner.evaluate(&inputs, Targets::Values(&targets)).unwrap().loss;
    let mut sum = 0.0;
    for (input, target) in inputs.chunks(150).zip(targets.chunks(3)) {
        sum += learner.evaluate(input, Targets::Values(target)).unwrap().loss;
    }
    assert_eq!(together, sum / 8.0);
}
