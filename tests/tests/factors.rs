//! Factors and scalings: averages, symmetry, and what a refresh carries along.
//!
//! Mutants that these tests catch: an average without its stored weight, or with `(1 - share) v + share m` (drift on equal
//! samples); a mean over the wrong count; the wrong half of the packed triangle; S or the velocity left behind by a
//! refresh, or turned the wrong way; a fresh average that still remembers.

use ekfac::{
    Averaging, Carry, Clip, Config, Estimator, Fisher, Learner, Loss, MatrixRef, Net, Outcome, Refresh,
    Scalar, Shape, Targets,
};
use ekfac_tests::{
    oracle::{
        bench::{Bench, reconstructed},
        bits, dense, largest_difference, orthogonality, packed, relative_difference, scalings, second_moment,
        unit, with_ones,
    },
    random::Draws,
    tampered::Tampered,
};
use nalgebra::DMatrix;

/// Settings of a layer whose basis stays what the first batch made it.
fn one_basis<T: Scalar>(averaging: Averaging<T>) -> Config<T> {
    Config {
        fisher: Fisher::Empirical,
        factors: averaging,
        scalings: averaging,
        refresh: Refresh::every(u32::MAX),
        ..Config::default()
    }
}

/// The same with the identity for ever: no rotation is allowed.
fn identity_basis<T: Scalar>(averaging: Averaging<T>) -> Config<T> {
    Config {
        refresh: Refresh::Rotations { per_step: 0, per_line: T::ZERO, threshold: T::ZERO },
        ..one_basis(averaging)
    }
}

/// Copies of one example.
fn repeated(example: &DMatrix<f64>, count: usize) -> DMatrix<f64> {
    DMatrix::from_fn(example.nrows(), count, |i, _| example[(i, 0)])
}

fn rounded<T: Scalar>(matrix: DMatrix<f64>) -> DMatrix<f64> {
    matrix.map(|value| T::from_f64(value).to_f64())
}

/// Largest relative error entry by entry, in units of u.
fn entrywise<T: Scalar>(found: &DMatrix<f64>, expected: &DMatrix<f64>) -> f64 {
    let relative = DMatrix::from_fn(found.nrows(), found.ncols(), |i, j| {
        (found[(i, j)] - expected[(i, j)]) / expected[(i, j)]
    });
    largest_difference(&relative, &DMatrix::zeros(found.nrows(), found.ncols())) / unit::<T>()
}

/// After k equal samples the factor is a a^T, whatever k and the decay. In the identity basis nothing else rounds, so the
/// limit of 4 u holds entry by entry (4 u + N u for a batch of N, whose mean is a sum of N rounded terms).
fn check_equal_samples<T: Scalar>(decay: f64, batch: usize, seed: u64) -> f64 {
    let mut draws = Draws::new(seed);
    let (a, g) = (rounded::<T>(draws.matrix(4, 1)), rounded::<T>(draws.matrix(3, 1)));
    let mut bench = Bench::<T>::new(Shape::new(4, 3), identity_basis(Averaging::Decay(T::from_f64(decay))));
    let (activations, gradients) = (repeated(&a, batch), repeated(&g, batch));
    let mut worst = 0.0_f64;
    for step in 1..=10_000 {
        assert_eq!(bench.observe(&activations, &gradients), Outcome::Applied);
        if ![1, 2, 3, 10, 100, 1_000, 10_000].contains(&step) {
            continue;
        }
        let (input, output) = bench.factors();
        let (aa, gg) = (second_moment(&with_ones(&a)), second_moment(&g));
        let errors = [entrywise::<T>(&input, &aa), entrywise::<T>(&output, &gg)];
        let limit = if batch == 1 { 4.0 } else { 4.0 + batch as f64 };
        let place = format!("seed {seed}, decay {decay}, batch {batch}, step {step}: {errors:?} u");
        assert!(errors.iter().all(|error| *error <= limit), "{place}");
        let s = with_ones(&a).component_mul(&with_ones(&a)) * g.component_mul(&g).transpose();
        let error = entrywise::<T>(&bench.scalings(), &s.transpose());
        assert!(error <= 2.0 * limit, "S, {place}: {error} u");
        worst = worst.max(errors[0]).max(errors[1]);
    }
    worst
}

#[test]
fn equal_samples_average_to_themselves() {
    for (seed, decay) in [(1, 0.0), (2, 0.5), (3, 0.95), (4, 0.9999)] {
        for batch in [1, 5] {
            let single = check_equal_samples::<f32>(decay, batch, seed);
            let double = check_equal_samples::<f64>(decay, batch, seed);
            println!("equal samples, decay {decay}, batch {batch}: f32 {single} u, f64 {double} u");
        }
    }
}

/// In a real basis C is what the first sample made it, bit for bit, and only the reconstruction rounds.
fn check_equal_samples_in_a_basis<T: Scalar>(seed: u64) {
    let mut draws = Draws::new(seed);
    let (a, g) = (rounded::<T>(draws.matrix(5, 1)), rounded::<T>(draws.matrix(4, 1)));
    let mut bench = Bench::<T>::new(Shape::new(5, 4), one_basis(Averaging::Decay(T::from_f64(0.999))));
    bench.observe(&a, &g);
    // The first batch went in before the refresh and was turned with it; from the second on the projections are constant.
    bench.observe(&a, &g);
    for step in 3..=1_000 {
        bench.observe(&a, &g);
        let (input, output) = bench.factors();
        let errors = [
            relative_difference(&input, &second_moment(&with_ones(&a))),
            relative_difference(&output, &second_moment(&g)),
        ];
        let limit = 4.0 * 6.0 * unit::<T>();
        assert!(errors.iter().all(|error| *error <= limit), "seed {seed}, step {step}: {errors:?}");
    }
}

#[test]
fn equal_samples_stay_themselves_in_a_turned_basis() {
    for seed in 0..5 {
        check_equal_samples_in_a_basis::<f32>(seed);
        check_equal_samples_in_a_basis::<f64>(seed);
    }
}

/// sum of decay^(k-i) x_i over sum of decay^(k-i).
fn debiased(history: &[DMatrix<f64>], decay: f64) -> DMatrix<f64> {
    let mut sum = DMatrix::zeros(history[0].nrows(), history[0].ncols());
    let mut weight = 0.0;
    for value in history {
        sum = sum * decay + value;
        weight = weight * decay + 1.0;
    }
    sum / weight
}

fn check_history<T: Scalar>(averaging: Averaging<T>, decay: f64, bias: bool, seed: u64, limit: f64) {
    let mut draws = Draws::new(seed);
    let shape = if bias { Shape::new(4, 3) } else { Shape::new(4, 3).without_bias() };
    let mut bench = Bench::<T>::new(shape, one_basis(averaging));
    let (mut inputs, mut outputs, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..40 {
        let (a, g) = (draws.matrix(4, 6), draws.matrix(3, 6));
        bench.observe(&a, &g);
        let a = if bias { with_ones(&a) } else { a };
        let (input_basis, output_basis) = bench.bases();
        inputs.push(second_moment(&a));
        outputs.push(second_moment(&g));
        seconds.push(scalings(&input_basis, &output_basis, &a, &g));
        let (input, output) = bench.factors();
        let errors = [
            relative_difference(&input, &debiased(&inputs, decay)),
            relative_difference(&output, &debiased(&outputs, decay)),
            relative_difference(&bench.scalings(), &debiased(&seconds, decay)),
        ];
        assert!(errors.iter().all(|error| *error <= limit), "seed {seed}, step {step}: {errors:?}");
        for factor in [&input, &output] {
            assert!(relative_difference(factor, &factor.transpose()) <= 20.0 * unit::<T>(), "seed {seed}");
        }
        assert!(bench.scalings().iter().all(|s| *s >= 0.0), "seed {seed}, step {step}");
    }
}

#[test]
fn averages_are_debiased_sums_over_the_history() {
    for seed in 0..4 {
        let bias = seed % 2 == 0;
        check_history::<f64>(Averaging::Decay(0.0), 0.0, bias, seed, 1e-13);
        check_history::<f64>(Averaging::Decay(0.9), 0.9, bias, seed, 1e-13);
        check_history::<f64>(Averaging::Memory(50.0), (-6.0_f64 / 50.0).exp(), bias, seed, 1e-13);
        check_history::<f32>(Averaging::Decay(0.9), f64::from(0.9_f32), bias, seed, 1e-5);
    }
}

#[test]
fn a_memory_beyond_the_precision_is_long_and_does_no_harm() {
    // exp(-1 / 1e12) is 1 in f32: the new batch's share would be 0 / 0.
    let mut bench = Bench::<f32>::new(Shape::new(3, 2), one_basis(Averaging::Memory(1e12)));
    let mut draws = Draws::new(1);
    for _ in 0..20 {
        bench.observe(&draws.matrix(3, 1), &draws.matrix(2, 1));
    }
    assert!(bench.state.iter().all(|word| word.is_finite()), "{:?}", bench.state);
}

#[test]
fn a_fresh_average_forgets_a_batch_of_any_size() {
    let mut bench = Bench::<f32>::new(Shape::new(3, 2), Config::paper(0.1, 1e-2, u32::MAX));
    let mut draws = Draws::new(1);
    bench.observe(&(draws.matrix(3, 8) * 1e4), &(draws.matrix(2, 8) * 1e4));
    let (a, g) = (draws.matrix(3, 8), draws.matrix(2, 8));
    bench.observe(&a, &g);
    let (input_basis, output_basis) = bench.bases();
    let expected = scalings(&input_basis, &output_basis, &with_ones(&a), &g);
    let error = relative_difference(&bench.scalings(), &expected);
    assert!(error <= 1e-5, "S of the present batch is off by {error}");
    let error = relative_difference(&bench.factors().1, &second_moment(&g));
    assert!(error <= 1e-5, "B of the present batch is off by {error}");
}

#[test]
fn diagonals_never_fall_below_zero_but_for_rounding() {
    for seed in 0..10 {
        let mut draws = Draws::new(seed);
        let averaging = Averaging::Decay(0.8_f32);
        let mut still = Bench::new(Shape::new(6, 4), one_basis(averaging));
        let config = Config { refresh: Refresh::every(3), ..one_basis(averaging) };
        let mut turning = Bench::new(Shape::new(6, 4), config);
        for step in 0..60 {
            // One direction only, so that most eigenvalues are zero.
            let (a, g) = (draws.matrix(6, 1) * draws.matrix(1, 3), draws.matrix(4, 1) * draws.matrix(1, 3));
            turning.observe(&a, &g);
            if step > 0 {
                still.observe(&a, &g);
            }
            for (bench, slack) in [(&mut turning, 7.0 * f32::EPSILON), (&mut still, 7.0 * f32::EPSILON)] {
                let layer = bench.layer();
                for factor in [layer.input_factor(), layer.output_factor()] {
                    let largest = factor.values().fold(0.0, f32::max);
                    let holds = factor.values().all(|value| value >= -slack * largest);
                    assert!(holds, "seed {seed}, step {step}: {:?}", factor.values().collect::<Vec<_>>());
                }
                assert!(layer.scalings().as_slice().iter().all(|s| *s >= 0.0), "seed {seed}, step {step}");
            }
        }
    }
}

/// A layer with random bases, scalings and covariances, about to be refreshed.
fn before_refresh(input: &DMatrix<f64>, output: &DMatrix<f64>, draws: &mut Draws) -> Bench<f64> {
    let (n, m) = (input.ncols(), output.ncols());
    // A share of nothing for the batch: its factors stay what is loaded here.
    let config =
        Config { statistics_period: 2, refresh: Refresh::every(1), ..one_basis(Averaging::Decay(0.5)) };
    let mut bench = Bench::new(Shape::new(n, m).without_bias(), config);
    bench.progress.steps = 1;
    let (s, input_basis, output_basis) =
        (draws.matrix(m, n).map(|x| x * x), draws.orthogonal(n), draws.orthogonal(m));
    let mut layer = bench.layer();
    layer.load_scalings(MatrixRef::from(&s)).unwrap();
    layer.load_input_factor(MatrixRef::from(&input_basis), &packed::<f64>(input)).unwrap();
    layer.load_output_factor(MatrixRef::from(&output_basis), &packed::<f64>(output)).unwrap();
    bench
}

fn refresh(bench: &mut Bench<f64>, draws: &mut Draws) -> (DMatrix<f64>, DMatrix<f64>) {
    let (input_before, output_before) = bench.bases();
    let (n, m) = (input_before.ncols(), output_before.ncols());
    // S is not measured: what a refresh does to it stands alone.
    let kernels = Tampered { factor: |_: &mut [f64]| {}, scalings: false };
    bench.observe_with(&kernels, &draws.matrix(n, 1), &draws.matrix(m, 1));
    let (input, output) = bench.bases();
    (input_before.transpose() * input, output_before.transpose() * output)
}

#[test]
fn transport_in_one_plane_is_the_squared_rotation() {
    // Blocks of two are one rotation each, in disjoint planes; then S' = (R_B o R_B)^T S (R_A o R_A).
    for seed in 0..50 {
        let mut draws = Draws::new(seed);
        let blocks = |count: usize, draws: &mut Draws| {
            let mut matrix = DMatrix::zeros(2 * count, 2 * count);
            for block in 0..count {
                let root = draws.matrix(2, 3);
                matrix.view_mut((2 * block, 2 * block), (2, 2)).copy_from(&(&root * root.transpose()));
            }
            matrix
        };
        let (input, output) = (blocks(3, &mut draws), blocks(2, &mut draws));
        let mut bench = before_refresh(&input, &output, &mut draws);
        let before = bench.scalings();
        let (turn_a, turn_b) = refresh(&mut bench, &mut draws);
        let squares = |turn: &DMatrix<f64>| turn.component_mul(turn);
        let expected = squares(&turn_b).transpose() * before * squares(&turn_a);
        let error = relative_difference(&bench.scalings(), &expected);
        assert!(error <= 1e-12, "seed {seed}: {error:e}");
        assert!(largest_difference(&turn_a, &DMatrix::identity(6, 6)) > 0.01, "seed {seed}: nothing turned");
    }
}

#[test]
fn transport_keeps_the_sum_the_sign_and_the_range() {
    for seed in 0..50 {
        let mut draws = Draws::new(seed);
        let (n, m) = (2 + draws.index(7), 1 + draws.index(5));
        let (input, output) =
            (second_moment(&draws.matrix(n, n + 2)), second_moment(&draws.matrix(m, m + 2)));
        let mut bench = before_refresh(&input, &output, &mut draws);
        let (before, factors) = (bench.scalings(), bench.factors());
        refresh(&mut bench, &mut draws);
        let (after, limit) = (bench.scalings(), (n.max(m) as f64) * 4.0 * f64::EPSILON);
        assert!((after.sum() - before.sum()).abs() <= limit * before.sum(), "seed {seed}");
        // Every turn takes means of two entries, so nothing leaves the range of what was there.
        let slack = 1.0 + limit;
        assert!(after.min() >= before.min() / slack && after.max() <= before.max() * slack, "seed {seed}");
        let turned = bench.factors();
        assert!(relative_difference(&turned.0, &factors.0) <= 30.0 * limit, "seed {seed}");
        assert!(relative_difference(&turned.1, &factors.1) <= 30.0 * limit, "seed {seed}");
        let (input_basis, output_basis) = bench.bases();
        assert!(orthogonality(&input_basis) <= 10.0 * limit, "seed {seed}");
        assert!(orthogonality(&output_basis) <= 10.0 * limit, "seed {seed}");
    }
}

#[test]
fn rebuild_and_reset_are_what_they_say() {
    for seed in 0..20 {
        let mut draws = Draws::new(seed);
        for carry in [Carry::Rebuild, Carry::Reset] {
            let mut config = one_basis(Averaging::Decay(0.75));
            config.refresh = Refresh::every(4).carrying(carry);
            let mut bench = Bench::<f64>::new(Shape::new(4, 3), config);
            for _ in 0..8 {
                bench.observe(&draws.matrix(4, 5), &draws.matrix(3, 5));
            }
            let (a, g) = (draws.matrix(4, 5), draws.matrix(3, 5));
            bench.observe(&a, &g);
            let (input_basis, output_basis) = bench.bases();
            let measured = scalings(&input_basis, &output_basis, &with_ones(&a), &g);
            let layer = bench.layer();
            let values =
                |factor: ekfac::FactorRef<'_, f64>| DMatrix::from_iterator(factor.size(), 1, factor.values());
            let kronecker = values(layer.output_factor()) * values(layer.input_factor()).transpose();
            let expected = match carry {
                Carry::Rebuild => measured,
                _ => kronecker * 0.75 + measured * 0.25,
            };
            let error = relative_difference(&bench.scalings(), &expected);
            assert!(error <= 1e-12, "{carry:?}, seed {seed}: {error:e}");
        }
    }
}

#[test]
fn the_running_mean_gradient_estimator_averages_squared_mean_gradients() {
    let averaging = Averaging::Decay(0.9);
    let config = Config { estimator: Estimator::MeanGradientRunning, ..one_basis(averaging) };
    let mut bench = Bench::<f64>::new(Shape::new(4, 3), config);
    let mut draws = Draws::new(3);
    let mut history = Vec::new();
    for step in 0..30 {
        let (a, g) = (draws.matrix(4, 7), draws.matrix(3, 7));
        bench.observe(&a, &g);
        let (input_basis, output_basis) = bench.bases();
        let mean = ekfac_tests::oracle::mean_gradient(&with_ones(&a), &g);
        let seen = output_basis.transpose() * mean * input_basis;
        history.push(seen.component_mul(&seen) * 7.0);
        let error = relative_difference(&bench.scalings(), &debiased(&history, 0.9));
        assert!(error <= 1e-12, "step {step}: {error:e}");
    }
}

#[test]
fn the_velocity_turns_with_the_basis() {
    const LAYERS: [ekfac::Dense; 2] = ekfac::layers![5 => 4 Tanh => 3 Identity];
    let net = Net::new(&LAYERS, Loss::SquaredError);
    for seed in 0..10 {
        let config = Config {
            clip: Clip::None,
            refresh: Refresh::every(6),
            factors: Averaging::Decay(0.5),
            ..Config::default()
        };
        let mut memory = vec![0.0_f64; net.words(4)];
        let mut learner = Learner::new(net, config, seed, 4, &mut memory).unwrap();
        let mut draws = Draws::new(seed);
        for _ in 0..6 {
            learner.step(&draws.list(20), Targets::Values(&draws.list(12))).unwrap();
        }
        let before: Vec<_> = (0..2).map(|layer| velocity(&mut learner, layer)).collect();
        // A batch without error has no gradient: the step refreshes and only shrinks the velocity.
        let input = draws.list(5);
        let target = learner.predict(&input).unwrap().to_vec();
        let rotations = learner.progress().rotations;
        learner.step(&input, Targets::Values(&target)).unwrap();
        assert!(learner.progress().rotations > rotations + 5, "seed {seed}: nothing turned");
        for (layer, before) in before.iter().enumerate() {
            let error = relative_difference(&velocity(&mut learner, layer), &(before * config.momentum));
            assert!(error <= 1e-12, "seed {seed}, layer {layer}: {error:e}");
        }
    }
}

/// U_B V U_A^T.
fn velocity(learner: &mut Learner<'_, f64>, layer: usize) -> DMatrix<f64> {
    let layer = learner.layer(layer).unwrap();
    let (rows, columns) = (layer.shape().rows(), layer.shape().columns());
    let seen = DMatrix::from_column_slice(rows, columns, layer.velocity());
    dense(layer.output_factor().basis()) * seen * dense(layer.input_factor().basis()).transpose()
}

#[test]
fn a_loaded_layer_is_the_layer_that_was_saved() {
    let mut draws = Draws::new(5);
    let mut bench = Bench::<f32>::new(Shape::new(4, 3), one_basis(Averaging::Memory(100.0)));
    for _ in 0..5 {
        bench.observe(&draws.matrix(4, 2), &draws.matrix(3, 2));
    }
    let mut copy = Bench { state: bench.state.clone(), ..bench.clone() };
    let (a, g) = (draws.matrix(4, 2), draws.matrix(3, 2));
    assert_eq!(bench.observe(&a, &g), copy.observe(&a, &g));
    assert_eq!(bits(&bench.state), bits(&copy.state));
    let layer = copy.layer();
    assert!(reconstructed(layer.input_factor()).trace() > 0.0);
}

/// Mutant: a loaded factor has no weight, and the next batch takes its place whole.
#[test]
fn loaded_factors_count_as_full_averages() {
    let mut draws = Draws::new(11);
    let mut bench = Bench::<f64>::new(Shape::new(3, 2).without_bias(), one_basis(Averaging::Decay(0.75)));
    // No refresh is due at step 1, so the loaded basis stays.
    bench.progress.steps = 1;
    let (a, b) = (draws.symmetric_with(&[1.0, 2.0, 3.0]), draws.symmetric_with(&[0.5, 4.0]));
    let (u_a, u_b) = (draws.orthogonal(3), draws.orthogonal(2));
    let seen = |basis: &DMatrix<f64>, factor: &DMatrix<f64>| packed(&(basis.transpose() * factor * basis));
    let mut layer = bench.layer();
    layer.load_input_factor(MatrixRef::from(&u_a), &seen(&u_a, &a)).unwrap();
    layer.load_output_factor(MatrixRef::from(&u_b), &seen(&u_b, &b)).unwrap();
    let (x, g) = (draws.matrix(3, 5), draws.matrix(2, 5));
    assert_eq!(bench.observe(&x, &g), Outcome::Applied);
    let (found_a, found_b) = bench.factors();
    let blended = |old: &DMatrix<f64>, fresh: &DMatrix<f64>| old * 0.75 + second_moment(fresh) * 0.25;
    assert!(relative_difference(&found_a, &blended(&a, &x)) <= 1e-14, "{found_a}");
    assert!(relative_difference(&found_b, &blended(&b, &g)) <= 1e-14, "{found_b}");
}
