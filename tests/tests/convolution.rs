//! Convolutions against their definition: the passes by finite differences, the statistics by dense Fisher blocks, T = 1 by the
//! dense layer.
//!
//! Mutants that these tests catch: stride, padding or dilation of the wrong axis, or left out; a patch in another order; a group that
//! sees its neighbour's channels; T forgotten, or counted twice; S squared before the sum over locations; the last, shorter block
//! weighted like a whole one; the old average kept or dropped by a mean that comes in parts; rows or columns of the layout
//! exchanged.

use ekfac::{
    Averaging, Carry, Config, Estimator, Outcome, Refresh, Scalar,
    convolution::{Axis, Convolution, Layout, Sharing},
};
use ekfac_tests::{
    oracle::{
        bench::{Bench as DenseBench, reconstructed},
        block,
        convolution::{Bench, Plan, batch, fisher, mean, rounded, scalings},
        dense, largest_difference, natural_gradient, relative_difference, unit, widened,
    },
    random::Draws,
};
use nalgebra::DMatrix;

/// One batch, its statistics taken afresh, the basis exact.
fn one_batch<T: Scalar>(damping: f64) -> Config<T> {
    Config::paper(T::ONE, T::from_f64(damping), 1)
}

fn some_weights(plan: &Plan, draws: &mut Draws) -> Vec<f64> {
    draws.list(plan.groups * plan.rows() * plan.lines())
}

#[test]
fn geometry_is_that_of_every_position_tried() {
    for seed in 0..2_000 {
        let plan = Plan::any(&mut Draws::new(seed));
        let convolution = plan.convolution();
        convolution.check().unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        assert_eq!(convolution.axes().map(|axis| axis.positions()), plan.positions(), "{plan:?}");
        assert_eq!(convolution.locations(), plan.locations(), "{plan:?}");
        assert_eq!(convolution.input_words(), plan.inputs(), "{plan:?}");
        assert_eq!(convolution.output_words(), plan.outputs * plan.locations(), "{plan:?}");
        let shape = convolution.shape();
        assert_eq!((shape.rows(), shape.columns(), shape.bias()), (plan.rows(), plan.lines(), plan.bias));
        assert_eq!(convolution.state_words(), plan.groups * shape.words(), "{plan:?}");
    }
}

/// A loss of the pre-activations, quadratic: central differences are exact up to rounding.
fn loss(plan: &Plan, weights: &[f64], image: &[f64], slopes: &[f64]) -> f64 {
    let z = plan.forward(weights, image);
    z.iter().zip(slopes).map(|(z, slope)| slope * z + 0.5 * z * z).sum()
}

/// The central difference of a function along one coordinate.
fn difference(values: &[f64], index: usize, function: impl Fn(&[f64]) -> f64) -> f64 {
    let (mut up, mut down) = (values.to_vec(), values.to_vec());
    (up[index], down[index]) = (values[index] + 0.5, values[index] - 0.5);
    function(&up) - function(&down)
}

#[test]
fn the_passes_are_those_of_the_definition() {
    for seed in 0..300 {
        let mut draws = Draws::new(seed);
        let plan = Plan::any(&mut draws);
        let (images, slopes) = batch::<f64>(&plan, 2, &mut draws);
        let weights = some_weights(&plan, &mut draws);
        let mut bench = Bench::<f64>::new(plan.convolution(), one_batch(0.1));
        let z = bench.pass(&weights, &images, false);
        for (example, image) in images.column_iter().enumerate() {
            let expected = plan.forward(&weights, image.as_slice());
            let expected = DMatrix::from_column_slice(z.nrows(), 1, &expected);
            let error = relative_difference(&z.columns(example, 1).clone_owned(), &expected);
            assert!(error <= 1e-13, "forward, {plan:?}: {error:e}");
        }
        let maps = &slopes + &z;
        let below = bench.pass(&weights, &maps, true);
        let gradient: Vec<f64> = bench.mean_gradient(&images, &maps).iter().flatten().copied().collect();
        let size =
            maps.norm() * (images.norm() + DMatrix::from_vec(weights.len(), 1, weights.clone()).norm());
        for (example, (image, slopes)) in images.column_iter().zip(slopes.column_iter()).enumerate() {
            for index in 0..plan.inputs() {
                let along = |image: &[f64]| loss(&plan, &weights, image, slopes.as_slice());
                let error = below[(index, example)] - difference(image.as_slice(), index, along);
                assert!(error.abs() <= 1e-11 * size, "backward, {plan:?}: {error:e}");
            }
        }
        for (index, found) in gradient.iter().enumerate() {
            let along = |weights: &[f64]| -> f64 {
                let examples = images.column_iter().zip(slopes.column_iter());
                examples.map(|(x, s)| loss(&plan, weights, x.as_slice(), s.as_slice())).sum::<f64>() / 2.0
            };
            let error = found - difference(&weights, index, along);
            assert!(error.abs() <= 1e-11 * size, "gradient, {plan:?}: {error:e}");
        }
    }
}

#[test]
fn the_passes_agree_in_single_precision_and_in_any_scratch() {
    for seed in 0..100 {
        let mut draws = Draws::new(seed);
        let plan = Plan::any(&mut draws);
        let (images, maps) = batch::<f32>(&plan, 3, &mut draws);
        let weights: Vec<f64> =
            some_weights(&plan, &mut draws).iter().map(|weight| f64::from(*weight as f32)).collect();
        let mut single = Bench::<f32>::new(plan.convolution(), one_batch(0.1));
        let mut double = Bench::<f64>::new(plan.convolution(), one_batch(0.1));
        for (batch, backward) in [(&images, false), (&maps, true)] {
            single.columns = 7;
            let found = single.pass(&weights, batch, backward);
            let error = relative_difference(&found, &double.pass(&weights, batch, backward));
            assert!(error <= 1e-5, "{plan:?}: {error:e}");
            for columns in [1, 64] {
                single.columns = columns;
                assert_eq!(single.pass(&weights, batch, backward), found, "{plan:?}, {columns} columns");
            }
        }
        let found = single.mean_gradient(&images, &maps);
        for (found, expected) in found.iter().zip(double.mean_gradient(&images, &maps)) {
            let error = relative_difference(found, &expected);
            assert!(error <= 1e-4, "{plan:?}: {error:e}");
        }
    }
}

/// All statistics of one batch, group by group, and what they precondition.
fn check_statistics<T: Scalar>(seed: u64, sharing: Sharing) -> f64 {
    let mut draws = Draws::new(seed);
    let plan = Plan::any(&mut draws);
    let count = 1 + draws.index(12);
    let (images, maps) = batch::<T>(&plan, count, &mut draws);
    let damping = T::from_f64(draws.between(0.5, 2.0)).to_f64();
    let mut bench = Bench::<T>::new(plan.convolution(), one_batch(damping));
    (bench.sharing, bench.columns) = (sharing, 1 + draws.index(9));
    assert_eq!(bench.observe(&images, &maps), Outcome::Applied);
    let gradients: Vec<_> =
        (0..plan.groups).map(|_| rounded::<T>(draws.matrix(plan.rows(), plan.lines()))).collect();
    let natural = bench.precondition(&gradients);
    let mut worst = 0.0_f64;
    let mut compare = |what: &str, found: &DMatrix<f64>, expected: &DMatrix<f64>| {
        let error = relative_difference(found, expected) / unit::<T>();
        assert!(error <= 200.0, "{what}, seed {seed}, {plan:?}, {sharing:?}: {error} u");
        worst = worst.max(error);
    };
    for group in 0..plan.groups {
        let examples = plan.example_gradients(group, &images, &maps);
        let (a, b) = plan.factors(group, &images, &maps, sharing);
        let layer = bench.layer(group);
        compare("A", &reconstructed(layer.input_factor()), &a);
        compare("B", &reconstructed(layer.output_factor()), &b);
        let limit = 1e2 * unit::<T>();
        for factor in [layer.input_factor(), layer.output_factor()] {
            let off = factor.off_diagonal().to_f64();
            assert!(off <= limit, "the basis, seed {seed}, {plan:?}: {off:e}");
        }
        let (input_basis, output_basis) =
            (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()));
        let s = scalings(&input_basis, &output_basis, &examples);
        compare("S", &dense(layer.scalings()), &s);
        let expected = natural_gradient(&block(&input_basis, &output_basis, &s), damping, &gradients[group]);
        // Each direction is divided by its own S + lambda: rounding of S counts as that of the largest of them.
        let condition = (s.max() + damping) / damping;
        let error = relative_difference(&natural[group], &expected) / (unit::<T>() * condition);
        assert!(error <= 1e3, "D, seed {seed}, {plan:?}: {error} u kappa");
    }
    worst
}

#[test]
fn statistics_are_those_of_the_dense_fisher() {
    let mut worst = 0.0_f64;
    for seed in 0..400 {
        for sharing in [Sharing::Expand, Sharing::Reduce] {
            worst = worst.max(check_statistics::<f64>(seed, sharing));
            worst = worst.max(check_statistics::<f32>(seed, sharing));
        }
    }
    println!("statistics of a convolution: {worst} u");
}

#[test]
fn ekfac_is_never_further_from_the_fisher_than_kfac() {
    let (mut smallest, mut planted, mut tried) = (f64::INFINITY, 0, 0);
    for (seed, sharing) in (0..500).flat_map(|seed| [(seed, Sharing::Expand), (seed, Sharing::Reduce)]) {
        let mut draws = Draws::new(seed);
        let plan = Plan { groups: 1, ..Plan::any(&mut draws) };
        let (images, maps) = batch::<f64>(&plan, 4 + draws.index(12), &mut draws);
        let mut bench = Bench::<f64>::new(plan.convolution(), one_batch(1e-3));
        bench.sharing = sharing;
        bench.observe(&images, &maps);
        let examples = plan.example_gradients(0, &images, &maps);
        let true_block = fisher(&examples);
        let layer = bench.layer(0);
        let (a, b) = (reconstructed(layer.input_factor()), reconstructed(layer.output_factor()));
        let (input_basis, output_basis) =
            (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()));
        let ekfac = block(&input_basis, &output_basis, &dense(layer.scalings()));
        let (ekfac, kfac) = ((&true_block - ekfac).norm(), (&true_block - a.kronecker(&b)).norm());
        // A kernel that meets only padding has no Fisher at all.
        let margin = (kfac - ekfac) / true_block.norm().max(f64::MIN_POSITIVE);
        assert!(margin >= -1e-9, "seed {seed}, {plan:?}, {sharing:?}: {margin:e}");
        smallest = smallest.min(margin);
        if plan.locations() > 1 && sharing == Sharing::Expand {
            // Planted: every location squared for itself, which is what a sum after the square would make of S.
            let split: Vec<DMatrix<f64>> = images
                .column_iter()
                .zip(maps.column_iter())
                .flat_map(|(image, map)| {
                    let (a, g) = (plan.patches(0, image.as_slice()), plan.outputs(0, map.as_slice()));
                    (0..plan.locations())
                        .map(move |t| g.column(t) * a.column(t).transpose())
                        .collect::<Vec<_>>()
                })
                .collect();
            let wrong = scalings(&input_basis, &output_basis, &split) * plan.locations() as f64;
            let wrong = (&true_block - block(&input_basis, &output_basis, &wrong)).norm();
            planted += usize::from(wrong > ekfac + 1e-9 * true_block.norm());
            tried += 1;
        }
    }
    println!(
        "theorem: smallest margin {smallest:e}; squares before the sum are worse on {planted} of {tried}"
    );
    // Where one location alone sees more than padding, there is nothing to mistake.
    assert!(planted * 4 >= tried * 3, "the planted mistake shows on {planted} draws of {tried}");
}

/// Where KFC is exact. Expand: each example sends a gradient from one output at one location only, all of them in turn, so that
/// F = mean over those of (sum_t a a^T) x I. Reduce: one image, gradients alike at all locations.
#[test]
fn the_kronecker_block_has_t_in_the_right_place() {
    let plan = Plan {
        channels: 2,
        outputs: 3,
        size: [4, 5],
        kernel: [2, 3],
        stride: [1, 2],
        padding: [1, 0],
        dilation: [2, 1],
        groups: 1,
        bias: true,
        channels_last: false,
    };
    let (count, mut draws) = (plan.outputs * plan.locations(), Draws::new(5));
    let image = draws.matrix(plan.inputs(), 1);
    let images = DMatrix::from_fn(plan.inputs(), count, |i, _| image[i]);
    let alike = draws.list(plan.outputs);
    let mut spread = DMatrix::zeros(count, 1);
    for (channel, location) in (0..plan.outputs).flat_map(|c| (0..plan.locations()).map(move |t| (c, t))) {
        spread[plan.place(channel, location)] = alike[channel];
    }
    let cases =
        [(Sharing::Expand, &images, &DMatrix::identity(count, count)), (Sharing::Reduce, &image, &spread)];
    for (sharing, images, maps) in cases {
        let mut bench = Bench::<f64>::new(plan.convolution(), Config::kfac(1.0, 0.1, 1));
        bench.config = Config { estimator: Estimator::Kronecker, ..one_batch(0.1) };
        bench.sharing = sharing;
        bench.observe(images, maps);
        let true_block = fisher(&plan.example_gradients(0, images, maps));
        let gradient = draws.matrix(plan.rows(), plan.lines());
        let expected = natural_gradient(&true_block, 0.1, &gradient);
        let error = relative_difference(&bench.precondition(&[gradient])[0], &expected);
        assert!(error <= 1e-10, "{sharing:?}: {error:e}");
        let (a, b) = plan.factors(0, images, maps, sharing);
        let error = relative_difference(&a.kronecker(&b), &true_block);
        assert!(error <= 1e-12, "{sharing:?}, the oracle: {error:e}");
    }
}

/// One location: whatever the dense layer does on the flattened image.
#[test]
fn one_location_is_the_dense_layer() {
    let settings = [
        Config::default(),
        Config::paper(0.1, 1e-2, 2),
        Config::paper_running(0.1, 1e-2, 3, 0.9),
        Config { refresh: Refresh::every(3).carrying(Carry::Rebuild), ..Config::default() },
        Config::kfac(0.1, 1e-2, 2),
    ];
    for ((seed, config), sharing) in (0..40)
        .flat_map(|seed| settings.map(|config| (seed, config)))
        .zip([Sharing::Expand, Sharing::Reduce].into_iter().cycle())
    {
        let mut draws = Draws::new(seed);
        let (channels, outputs) = (1 + draws.index(3), 1 + draws.index(4));
        let [rows, columns] =
            [1 + draws.index(2), 1 + draws.index(3)].map(|length| Axis::new(length, length));
        let convolution = Convolution::new_2d(channels, [rows, columns], outputs);
        let convolution = if draws.sign() > 0.0 { convolution } else { convolution.without_bias() };
        // Full rank, or a stale basis of the null space would be the solver's choice.
        let (count, inputs) = (24, convolution.input_words());
        let mut shared = Bench::<f64>::new(convolution, config);
        shared.sharing = sharing;
        let mut plain = DenseBench::<f64>::new(convolution.shape(), config);
        for step in 0..8 {
            let (images, maps) = (draws.matrix(inputs, count), draws.matrix(outputs, count));
            assert_eq!(shared.observe(&images, &maps), plain.observe(&images, &maps));
            let gradient = draws.matrix(outputs, plain.shape.columns());
            let found = &shared.precondition(std::slice::from_ref(&gradient))[0];
            let error = relative_difference(found, &plain.precondition(&gradient));
            assert!(error <= 1e-9, "seed {seed}, step {step}, {config:?}: {error:e}");
        }
        let (found, expected) = (widened(&shared.state), widened(&plain.state));
        let column = |values: Vec<f64>| DMatrix::from_vec(values.len(), 1, values);
        let error = largest_difference(&column(found), &column(expected));
        assert!(error <= 1e-8, "seed {seed}, {config:?}: the states differ by {error:e}");
        assert_eq!(shared.progress.rotations, plain.progress.rotations);
    }
}

/// Averages over batches: A, B and S with a stored weight, N K^2 of the mean gradient, in a basis that does not turn.
#[test]
fn averages_forget_as_they_should() {
    for seed in 0..60 {
        let mut draws = Draws::new(seed);
        let plan = Plan::any(&mut draws);
        let mean_gradient = seed % 2 == 0;
        let estimator =
            if mean_gradient { Estimator::MeanGradientRunning } else { Estimator::PerExampleRunning };
        let config = Config {
            estimator,
            factors: Averaging::Decay(0.7),
            scalings: Averaging::Decay(0.6),
            refresh: Refresh::every(u32::MAX),
            ..one_batch(0.1)
        };
        let mut bench = Bench::<f64>::new(plan.convolution(), config);
        bench.columns = 1 + draws.index(5);
        let (mut factors, mut moments, mut weights) = (vec![], vec![], (0.0, 0.0));
        for step in 0..4 {
            let count = 1 + draws.index(5);
            let (images, maps) = batch::<f64>(&plan, count, &mut draws);
            assert_eq!(bench.observe(&images, &maps), Outcome::Applied);
            weights = (0.7 * weights.0 + 0.3, 0.6 * weights.1 + 0.4);
            for group in 0..plan.groups {
                let layer = bench.layer(group);
                let bases = (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()));
                let gradients = plan.example_gradients(group, &images, &maps);
                let now = if mean_gradient {
                    let seen = bases.1.transpose() * mean(&gradients) * &bases.0;
                    seen.component_mul(&seen) * count as f64
                } else {
                    scalings(&bases.0, &bases.1, &gradients)
                };
                let (a, b) = plan.factors(group, &images, &maps, Sharing::Expand);
                if step == 0 {
                    factors.push((a * 0.3, b * 0.3));
                    moments.push(now * 0.4);
                } else {
                    factors[group] = (&factors[group].0 * 0.7 + a * 0.3, &factors[group].1 * 0.7 + b * 0.3);
                    moments[group] = &moments[group] * 0.6 + now * 0.4;
                }
                let expected = (&factors[group].0 / weights.0, &factors[group].1 / weights.0);
                let errors = [
                    relative_difference(&reconstructed(layer.input_factor()), &expected.0),
                    relative_difference(&reconstructed(layer.output_factor()), &expected.1),
                    relative_difference(&dense(layer.scalings()), &(&moments[group] / weights.1)),
                ];
                assert!(errors.iter().all(|error| *error <= 1e-12), "seed {seed}, {plan:?}: {errors:?}");
            }
        }
    }
}

/// The blocks in which samples are read change rounding only.
#[test]
fn the_length_of_the_workspace_changes_rounding_only() {
    for seed in 0..60 {
        let mut draws = Draws::new(seed);
        let plan = Plan::any(&mut draws);
        let mut benches = [1, 2, 5, 300].map(|columns| {
            let config = Config { factors: Averaging::Decay(0.5), ..one_batch(0.1) };
            let mut bench = Bench::<f64>::new(plan.convolution(), config);
            bench.columns = columns;
            bench
        });
        for _ in 0..3 {
            let (images, maps) = batch::<f64>(&plan, 6, &mut draws);
            benches.iter_mut().for_each(|bench| assert_eq!(bench.observe(&images, &maps), Outcome::Applied));
        }
        let gradients: Vec<_> = (0..plan.groups).map(|_| draws.matrix(plan.rows(), plan.lines())).collect();
        let found = benches.each_mut().map(|bench| bench.precondition(&gradients));
        for (left, right) in found.iter().flat_map(|other| other.iter().zip(&found[0])) {
            let error = relative_difference(left, right);
            assert!(error <= 1e-9, "seed {seed}, {plan:?}: {error:e}");
        }
    }
}

/// A sequence is a convolution with a kernel of 1 whose channels lie together; the other layout holds the same numbers elsewhere.
#[test]
fn a_sequence_is_a_convolution_and_the_layout_does_not_matter() {
    let mut draws = Draws::new(9);
    let (inputs, length, outputs, count) = (3, 7, 4, 5);
    let sequence = Convolution::sequence(inputs, length, outputs);
    let other = sequence.layout(Layout::ChannelsFirst);
    let (x, g) = (draws.matrix(inputs * length, count), draws.matrix(outputs * length, count));
    let moved = |matrix: &DMatrix<f64>, lines: usize| {
        DMatrix::from_fn(lines * length, count, |i, j| matrix[((i % length) * lines + i / length, j)])
    };
    let [mut last, mut first] =
        [sequence, other].map(|convolution| Bench::<f64>::new(convolution, Config::default()));
    let weights = draws.list(sequence.parameters());
    let z = last.pass(&weights, &x, false);
    // Column t of an example is W [x_t; 1].
    let w = DMatrix::from_column_slice(outputs, inputs + 1, &weights);
    for (example, t) in (0..count).flat_map(|example| (0..length).map(move |t| (example, t))) {
        let x = x.view((t * inputs, example), (inputs, 1)).clone_owned().insert_row(inputs, 1.0);
        let error =
            relative_difference(&z.view((t * outputs, example), (outputs, 1)).clone_owned(), &(&w * x));
        assert!(error <= 1e-14, "{error:e}");
    }
    assert_eq!(first.pass(&weights, &moved(&x, inputs), false), moved(&z, outputs));
    last.observe(&x, &g);
    first.observe(&moved(&x, inputs), &moved(&g, outputs));
    assert_eq!(last.state, first.state, "the same numbers in another order");
}
