//! The running eigenbasis: bounded work, all state turning along, coordinates, and statistics on a part of the batch.
//!
//! Mutants that these tests catch: a cursor off by one or not stored; a budget counted for both sides together; checks
//! without a bound; W~, S or the velocity left behind or turned the wrong way; the care for orthogonality left out; the
//! bias decayed in the eigenbasis; the statistics of a part of the batch always from its first examples, or weighted with N.

use ekfac::{
    Averaging, Clip, Config, Coordinates, Damping, Dense, Estimator, Fisher, Learner, Loss, Net, Outcome,
    Refresh, Scalar, Shape, Targets,
    jacobi::{self, Budget, Companion, Cursor, Negligible, Turn},
};
use ekfac_tests::{
    oracle::{bench::Bench, bits, largest_difference, relative_difference, weights},
    random::Draws,
};
use nalgebra::DMatrix;

const LAYERS: [Dense; 3] = ekfac::layers![6 => 8 Tanh => 4 Tanh => 3 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
const BOTH: [Coordinates; 2] = [Coordinates::Parameter, Coordinates::Eigenbasis];

/// Inputs that share a few directions and differ in scale, so that the factors are far from diagonal; targets of a teacher.
struct Task {
    draws: Draws,
    mix: DMatrix<f64>,
}

impl Task {
    fn new(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let mix = draws.matrix(6, 6)
            * DMatrix::from_fn(6, 6, |i, j| if i == j { 0.4_f64.powi(i as i32) } else { 0.0 });
        Self { draws, mix }
    }

    fn batch<T: Scalar>(&mut self, size: usize) -> (Vec<T>, Vec<T>) {
        let inputs = &self.mix * self.draws.matrix(6, size);
        let targets = DMatrix::from_fn(3, size, |i, j| (inputs[(i, j)] + 0.5 * inputs[(i + 3, j)]).tanh());
        let cast = |matrix: &DMatrix<f64>| matrix.iter().map(|value| T::from_f64(*value)).collect();
        (cast(&inputs), cast(&targets))
    }
}

fn set_all<T: Scalar>(learner: &mut Learner<'_, T>, coordinates: Coordinates) {
    for layer in 0..learner.net().layers().len() {
        learner.set_coordinates(layer, coordinates).unwrap();
    }
}

fn step<T: Scalar>(learner: &mut Learner<'_, T>, task: &mut Task, size: usize) -> f64 {
    let (inputs, targets) = task.batch::<T>(size);
    let step = learner.step(&inputs, Targets::Values(&targets)).unwrap();
    assert_eq!(step.outcome, Outcome::Applied);
    step.loss.to_f64()
}

fn rotating(per_step: u32, threshold: f64) -> Config<f64> {
    Config { refresh: Refresh::Rotations { per_step, per_line: 0.0, threshold }, ..Config::default() }
}

#[test]
fn a_walk_cut_anywhere_gives_the_same_bits() {
    let mut draws = Draws::new(3);
    for size in [1, 2, 3, 9, 16] {
        let matrix = draws.symmetric_with(&draws.clone().list(size));
        let packed: Vec<f64> =
            (0..size).flat_map(|j| (0..=j).map(move |i| (i, j))).map(|at| matrix[at]).collect();
        let run = |pieces: &[(u32, u32)]| {
            let (mut packed, mut basis) = (packed.clone(), DMatrix::<f64>::identity(size, size));
            let (mut cursor, mut rotations, mut checks) = (Cursor::default(), 0, 0);
            let negligible = Negligible { threshold: 0.01, floor: 0.0 };
            for (most_rotations, most_checks) in pieces {
                let budget = Budget { rotations: *most_rotations, checks: *most_checks };
                let mut turn = |p, q, rotation: &jacobi::Rotation<f64>| {
                    Companion::columns(basis.as_mut_slice(), size, Turn::Linear).rotate(p, q, rotation);
                };
                let walked = jacobi::walk(&mut packed, size, &mut cursor, negligible, budget, &mut turn);
                assert!(walked.rotations <= *most_rotations && walked.checks <= *most_checks);
                rotations += walked.rotations;
                checks += walked.checks;
            }
            (packed, basis, cursor, rotations, checks)
        };
        let checks = 3 * jacobi::pairs(size);
        let whole = run(&[(u32::MAX, checks)]);
        assert_eq!(whole.4, checks, "every check of the budget is spent, n = {size}");
        // Cut by the number of checks: all rotations come at the same places.
        let by_checks = run(&vec![(u32::MAX, 1); checks as usize]);
        assert_eq!((&whole.0, &whole.1), (&by_checks.0, &by_checks.1), "n = {size}");
        assert_eq!(whole.3, by_checks.3);
        // Cut by the number of rotations.
        let some = run(&[(whole.3, checks)]);
        let by_rotations = run(&vec![(1, checks); whole.3 as usize]);
        assert_eq!((&some.0, &some.1), (&by_rotations.0, &by_rotations.1), "n = {size}");
        let turned = &whole.1.transpose() * &matrix * &whole.1;
        let found = DMatrix::from_fn(size, size, |i, j| whole.0[jacobi::packed_index(i.min(j), i.max(j))]);
        assert!(largest_difference(&turned, &found) <= 1e-13 * (1.0 + matrix.amax()), "n = {size}");
    }
}

/// Spending idle time one rotation at a time is spending it at once; and no prediction changes.
#[test]
fn idle_rotations_may_be_cut_anywhere_and_change_no_prediction() {
    for coordinates in BOTH {
        let words = NET.words(8);
        let (mut first, mut second) = (vec![0.0; words], vec![0.0; words]);
        let config = Config { momentum: 0.9, ..rotating(0, 0.0) };
        let mut at_once = Learner::new(NET, config, 5, 8, &mut first).unwrap();
        let mut in_pieces = Learner::new(NET, config, 5, 8, &mut second).unwrap();
        for learner in [&mut at_once, &mut in_pieces] {
            set_all(learner, coordinates);
            let mut task = Task::new(5);
            (0..5).for_each(|_| _ = step(learner, &mut task, 8));
        }
        assert_eq!(at_once.progress().rotations, 0, "no budget, no rotation");
        let input = [0.3, -0.2, 0.7, 0.1, -0.4, 0.2];
        let before = DMatrix::from_column_slice(3, 1, at_once.predict(&input).unwrap());
        let weights_before: Vec<_> = (0..3).map(|layer| weights(&mut at_once, layer)).collect();
        let sums = |learner: &mut Learner<'_, f64>| -> Vec<(f64, f64)> {
            (0..3)
                .map(|index| {
                    let layer = learner.layer(index).unwrap();
                    let velocity = layer.velocity().iter().map(|v| v * v).sum::<f64>();
                    (layer.mean_scaling(), velocity)
                })
                .collect()
        };
        let sums_before = sums(&mut at_once);
        let (mut done, mut pieces) = (0, 0);
        for _ in 0..10 {
            done += at_once.rotate(3).unwrap();
            (0..3).for_each(|_| pieces += in_pieces.rotate(1).unwrap());
        }
        assert!(done > 100, "{done} rotations");
        assert_eq!(done, pieces);
        assert!(bits(at_once.state()) == bits(in_pieces.state()), "{coordinates:?}");
        let after = DMatrix::from_column_slice(3, 1, at_once.predict(&input).unwrap());
        let moved = relative_difference(&after, &before);
        assert!(moved <= 1e-14, "{coordinates:?}: predictions moved by {moved:e}");
        for (layer, before) in weights_before.iter().enumerate() {
            let moved = relative_difference(&weights(&mut at_once, layer), before);
            assert!(moved <= 1e-14, "{coordinates:?}: weights of layer {layer} moved by {moved:e}");
        }
        for ((mean, length), (mean_before, length_before)) in sums(&mut at_once).into_iter().zip(sums_before)
        {
            assert!((mean - mean_before).abs() <= 64.0 * f64::EPSILON * mean_before, "the trace of S");
            assert!((length - length_before).abs() <= 1e-13 * length_before, "the velocity's length");
        }
    }
}

/// The dense formulas: velocity and W~ are U_B^T X U_A of something that no rotation changes, S the diagonal of the turned
/// diagonal, pair after pair.
#[test]
fn everything_turns_with_the_basis() {
    let mut memory = vec![0.0; NET.words(8)];
    let mut learner = Learner::new(NET, rotating(0, 0.0), 9, 8, &mut memory).unwrap();
    set_all(&mut learner, Coordinates::Eigenbasis);
    let mut task = Task::new(9);
    (0..4).for_each(|_| _ = step(&mut learner, &mut task, 8));
    let view = |learner: &mut Learner<'_, f64>, index: usize| {
        let layer = learner.layer(index).unwrap();
        let dense = |matrix: ekfac::MatrixRef<'_, f64>| ekfac_tests::oracle::dense(matrix);
        let (a, b) = (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()));
        let velocity = DMatrix::from_column_slice(b.ncols(), a.ncols(), layer.velocity());
        (a, b, velocity, dense(layer.scalings()))
    };
    for turn in 0..30 {
        let before: Vec<_> = (0..3).map(|index| view(&mut learner, index)).collect();
        learner.rotate(1).unwrap();
        for (index, (a, b, velocity, scalings)) in before.into_iter().enumerate() {
            let (a_after, b_after, velocity_after, scalings_after) = view(&mut learner, index);
            let (turn_a, turn_b) = (a.transpose() * &a_after, b.transpose() * &b_after);
            let expected = turn_b.transpose() * velocity * &turn_a;
            let difference = largest_difference(&velocity_after, &expected);
            assert!(
                difference <= 1e-13 * (1.0 + expected.amax()),
                "turn {turn}, layer {index}: {difference:e}"
            );
            // (Q_B o Q_B)^T S (Q_A o Q_A): one rotation a side, so the diagonal of the turned diagonal.
            let square = |turn: &DMatrix<f64>| turn.map(|x| x * x);
            let expected = square(&turn_b).transpose() * scalings * square(&turn_a);
            let difference = largest_difference(&scalings_after, &expected);
            assert!(
                difference <= 1e-13 * (1.0 + expected.amax()),
                "turn {turn}, layer {index}: {difference:e}"
            );
        }
    }
}

#[test]
fn both_coordinates_follow_the_same_trajectory() {
    let plain = Config { statistics_share: 1.0, ..rotating(12, 0.1) };
    let settings = [
        plain,
        Config { weight_decay: 0.3, ..plain },
        Config { statistics_share: 0.4, ..plain },
        Config { fisher: Fisher::Empirical, ..plain },
        Config { fisher: Fisher::Exact, ..plain },
        Config { estimator: Estimator::MeanGradientRunning, ..plain },
        Config { refresh: Refresh::every(3), ..plain },
        Config { statistics_period: 3, ..plain },
    ];
    for (setting, config) in settings.into_iter().enumerate() {
        for size in [1, 20] {
            // Solved to the end, a factor short of full rank has a basis of its null space made of rounding alone.
            if size == 1 && matches!(config.refresh, Refresh::Periodic { .. }) {
                continue;
            }
            // A damping that keeps rounding from growing along the way.
            let config = Config { damping: Damping::Absolute(0.1), ..config };
            let (mut first, mut second) = (vec![0.0; NET.words(size)], vec![0.0; NET.words(size)]);
            let mut parameter = Learner::new(NET, config, 4, size, &mut first).unwrap();
            let mut eigenbasis = Learner::new(NET, config, 4, size, &mut second).unwrap();
            set_all(&mut parameter, Coordinates::Parameter);
            set_all(&mut eigenbasis, Coordinates::Eigenbasis);
            let (mut task, mut same) = (Task::new(4), Task::new(4));
            for number in 0..60 {
                let (left, right) =
                    (step(&mut parameter, &mut task, size), step(&mut eigenbasis, &mut same, size));
                assert!(
                    (left - right).abs() <= 1e-9 * left.abs().max(1e-3),
                    "setting {setting}, batch {size}, step {number}: {left} {right}"
                );
            }
            for layer in 0..3 {
                let (left, right) = (weights(&mut parameter, layer), weights(&mut eigenbasis, layer));
                let difference = relative_difference(&left, &right);
                assert!(difference <= 1e-9, "setting {setting}, batch {size}, layer {layer}: {difference:e}");
            }
        }
    }
}

#[test]
fn weights_cross_between_coordinates_and_back() {
    let mut memory = vec![0.0; NET.words(5)];
    let mut learner = Learner::new(NET, Config::default(), 8, 5, &mut memory).unwrap();
    let mut task = Task::new(8);
    (0..20).for_each(|_| _ = step(&mut learner, &mut task, 5));
    for layer in 0..3 {
        let before = weights(&mut learner, layer);
        for coordinates in [Coordinates::Eigenbasis, Coordinates::Parameter, Coordinates::Eigenbasis] {
            learner.set_coordinates(layer, coordinates).unwrap();
            assert_eq!(learner.layer(layer).unwrap().coordinates(), coordinates);
            let difference = relative_difference(&weights(&mut learner, layer), &before);
            assert!(difference <= 1e-14, "{difference:e}");
        }
        let stored = learner.stored_weights(layer).unwrap().as_mut_slice().to_vec();
        assert!(stored.iter().zip(&before).any(|(x, y)| (x - y).abs() > 1e-3), "W~ is not W");
        let given = before.map(|weight| weight + 0.25);
        learner.set_weights(layer, ekfac::MatrixRef::from(&given)).unwrap();
        let difference = relative_difference(&weights(&mut learner, layer), &given);
        assert!(difference <= 1e-14, "{difference:e}");
    }
}

/// Rotations, checks and operations of a step have a bound, and the first steps reach it.
#[test]
fn the_work_of_a_step_is_bounded_and_the_bound_is_reached() {
    for coordinates in BOTH {
        for (per_step, size, share) in [(1, 1, 1.0), (2, 1, 0.5), (3, 6, 0.5), (2, 30, 1.0)] {
            let config = Config { statistics_share: share, ..rotating(per_step, 0.0) };
            let mut memory = vec![0.0; NET.words(size)];
            let mut learner = Learner::new(NET, config, 2, size, &mut memory).unwrap();
            set_all(&mut learner, coordinates);
            let most = learner.most_operations(size).unwrap();
            let mut task = Task::new(2);
            let (mut largest, mut most_rotations) = (0, 0);
            for _ in 0..40 {
                let before = *learner.progress();
                step(&mut learner, &mut task, size);
                let after = *learner.progress();
                largest = largest.max(after.operations - before.operations);
                most_rotations = most_rotations.max(after.rotations - before.rotations);
            }
            let place = format!("{coordinates:?}, {per_step} rotations, batch {size}, share {share}");
            assert!(largest <= most, "{place}: {largest} operations, bound {most}");
            // B of the last layer is diagonal, and has nothing to turn.
            assert!(most_rotations <= 5 * u64::from(per_step), "{place}: {most_rotations} rotations");
            assert_eq!(most_rotations, 5 * u64::from(per_step), "{place}: the edge");
            // Checks end early where the rotations are spent.
            let spare = 4 * LAYERS
                .iter()
                .map(|layer| {
                    u64::from(jacobi::pairs(layer.shape().columns()) + jacobi::pairs(layer.shape().rows()))
                })
                .sum::<u64>();
            assert!(largest + spare >= most, "{place}: {largest} operations, bound {most}");
        }
    }
}

/// Factors and S over many steps on a part of one fixed batch, in a fixed order, come to those of the whole.
#[test]
fn statistics_on_a_part_of_the_batch_are_unbiased() {
    for share in [0.2, 0.34, 0.5, 0.75] {
        let whole = Config {
            learning_rate: 1e-30,
            clip: Clip::None,
            fisher: Fisher::Empirical,
            statistics_share: 1.0,
            factors: Averaging::Memory(1e9),
            scalings: Averaging::Memory(1e9),
            refresh: Refresh::Rotations { per_step: 0, per_line: 0.0, threshold: 1.0 },
            ..Config::default()
        };
        let part = Config { statistics_share: share, ..whole };
        let (inputs, targets) = Task::new(11).batch::<f64>(7);
        let run = |config: Config<f64>, steps: usize| {
            let mut memory = vec![0.0; NET.words(7)];
            let mut learner = Learner::new(NET, config, 6, 7, &mut memory).unwrap();
            (0..steps).for_each(|_| _ = learner.step(&inputs, Targets::Values(&targets)).unwrap());
            let layer = learner.layer(0).unwrap();
            let covariance = layer.input_factor().covariance().to_vec();
            (covariance, layer.scalings().as_slice().to_vec())
        };
        let (expected, found) = (run(whole, 1), run(part, 40_000));
        for (expected, found) in [(&expected.0, &found.0), (&expected.1, &found.1)] {
            let size = expected.iter().fold(0.0_f64, |size, value| size.max(value.abs()));
            let worst =
                expected.iter().zip(found).fold(0.0, |worst: f64, (x, y)| worst.max((x - y).abs()) + 0.0 * y);
            assert!(worst <= 0.03 * size, "share {share}: off by {worst:e} of {size:e}");
        }
    }
}

#[test]
fn one_example_at_a_time_every_second_one_is_measured() {
    let config = Config { statistics_share: 0.5, ..rotating(4, 0.1) };
    let mut memory = vec![0.0; NET.words(1)];
    let mut learner = Learner::new(NET, config, 3, 1, &mut memory).unwrap();
    let mut task = Task::new(3);
    for number in 0..12 {
        let before = learner.layer(0).unwrap().scalings().as_slice().to_vec();
        step(&mut learner, &mut task, 1);
        let changed = learner.layer(0).unwrap().scalings().as_slice() != before;
        assert_eq!(changed, number % 2 == 0, "step {number}");
    }
}

/// A net that learns one example at a time for a million steps; its loss over the last tenth, and its worst drift in n eps.
fn long_run<T: Scalar>(steps: usize) -> (f64, f64) {
    const LAYERS: [Dense; 2] = ekfac::layers![6 => 5 Tanh => 3 Identity];
    let net = Net::new(&LAYERS, Loss::SquaredError);
    let mut memory = vec![T::ZERO; net.words(1)];
    // A tighter threshold than the default's: many more rotations, all of which round.
    let refresh = Refresh::Rotations { per_step: 4, per_line: T::ZERO, threshold: T::from_f64(1e-3) };
    let config = Config { refresh, ..Config::<T>::default() };
    let mut learner = Learner::new(net, config, 1, 1, &mut memory).unwrap();
    let mut task = Task::new(1);
    // Noise that no weights explain, so that the loss has a floor and the comparison a meaning.
    let examples: Vec<_> = (0..997)
        .map(|_| {
            let (inputs, mut targets) = task.batch::<T>(1);
            targets.iter_mut().for_each(|target| *target += T::from_f64(0.5 * task.draws.normal()));
            (inputs, targets)
        })
        .collect();
    let (mut late, mut counted, mut drift) = (0.0, 0.0, 0.0_f64);
    for number in 0..steps {
        let (inputs, targets) = &examples[number * 389 % 997];
        let step = learner.step(inputs, Targets::Values(targets)).unwrap();
        assert_eq!(step.outcome, Outcome::Applied, "step {number}");
        if number >= steps - steps / 10 {
            late += step.loss.to_f64();
            counted += 1.0;
        }
        if number % 4_999 == 0 {
            for index in 0..2 {
                let layer = learner.layer(index).unwrap();
                for factor in [layer.input_factor(), layer.output_factor()] {
                    drift = drift.max(factor.orthogonality().to_f64() / factor.size() as f64);
                }
            }
        }
    }
    assert!(learner.state().iter().all(|word| word.is_finite()));
    assert!(learner.progress().rotations > steps as u64 / 4, "{} rotations", learner.progress().rotations);
    (late / counted, drift / T::EPSILON.to_f64())
}

#[test]
fn a_million_steps_in_f32_stay_orthogonal_and_as_good_as_in_f64() {
    let single = std::thread::spawn(|| long_run::<f32>(1_000_000));
    let (double_loss, double_drift) = long_run::<f64>(1_000_000);
    let (single_loss, single_drift) = single.join().unwrap();
    println!(
        "f32: loss {single_loss:.6}, drift {single_drift:.2} n eps; f64: {double_loss:.6}, {double_drift:.2}"
    );
    assert!(single_drift <= 16.0 && double_drift <= 16.0, "{single_drift} and {double_drift} n eps");
    assert!(single_loss <= 1.02 * double_loss, "{single_loss} against {double_loss}");
}

/// One example a step pays for n checks, far less than a sweep: only a cursor that is stored and moves on reaches every pair.
#[test]
fn the_stored_cursor_reaches_every_pair() {
    let mut draws = Draws::new(12);
    let mix = draws.matrix(12, 12);
    let config = Config {
        refresh: Refresh::Rotations { per_step: 2, per_line: 0.0, threshold: 0.01 },
        factors: Averaging::Memory(1e4),
        ..Config::default()
    };
    let mut bench = Bench::<f64>::new(Shape::new(12, 2).without_bias(), config);
    // Enough examples that the factor hardly moves any more, and some forty sweeps of checks.
    for _ in 0..400 {
        let (a, g) = (&mix * draws.matrix(12, 1), draws.matrix(2, 1));
        assert_eq!(bench.observe(&a, &g), Outcome::Applied);
    }
    let layer = bench.layer();
    let (off, orthogonality) = (layer.input_factor().off_diagonal(), layer.input_factor().orthogonality());
    assert!(off <= 0.05, "{off}");
    assert!(orthogonality <= 16.0 * 12.0 * f64::EPSILON, "{orthogonality:e}");
}
