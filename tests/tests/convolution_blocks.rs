//! Blocks of the Fisher beside the full one: kernel points that share a factor, embeddings, scales and shifts, each against the dense
//! definition.
//!
//! Mutants that these tests catch: a pixel weighted by more or fewer kernel points than read it; the bias within the factor, or
//! without its moment; a basis, S or the velocity turned along the wrong lines; a token that comes twice counted as two examples'; A of an
//! embedding not the frequencies; scales and shifts exchanged, or a channel's values taken from its neighbour; S by another estimator
//! than the exact one; T left in a reach that has none.

use ekfac::{
    Averaging, Config, Damping, Estimator, Outcome, Refresh, Scalar,
    convolution::{Block, Convolution, Layout, Sharing},
};
use ekfac_tests::{
    oracle::{
        bench::reconstructed,
        block,
        convolution::{Bench, Plan, batch, fisher, mean, rounded, scalings},
        dense, natural_gradient, orthogonality, relative_difference, unit, widened,
    },
    random::Draws,
};
use nalgebra::DMatrix;

const SHARINGS: [Sharing; 2] = [Sharing::Expand, Sharing::Reduce];

/// One batch, its statistics taken afresh, the basis exact.
fn one_batch<T: Scalar>(damping: f64) -> Config<T> {
    Config::paper(T::ONE, T::from_f64(damping), 1)
}

/// A convolution with more points than one.
fn with_points(draws: &mut Draws) -> Plan {
    loop {
        let plan = Plan::any(draws);
        if plan.points() > 1 {
            return plan;
        }
    }
}

/// K-FAC's factored damping by its definition: U_B [K / ((b + root / pi) (a + root pi)^T)] U_A^T.
fn factored(
    (input_basis, a): (&DMatrix<f64>, &[f64]),
    (output_basis, b): (&DMatrix<f64>, &[f64]),
    lambda: f64,
    gradient: &DMatrix<f64>,
) -> DMatrix<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let pi = if mean(a) > 0.0 && mean(b) > 0.0 { (mean(a) / mean(b)).sqrt() } else { 1.0 };
    let seen = output_basis.transpose() * gradient * input_basis;
    let damped = DMatrix::from_fn(seen.nrows(), seen.ncols(), |i, j| {
        let (a, b) = (a[j].max(0.0), b[i].max(0.0));
        seen[(i, j)] / ((b + lambda.sqrt() / pi) * (a + lambda.sqrt() * pi))
    });
    output_basis * damped * input_basis.transpose()
}

fn kronecker<T: Scalar>(damping: f64) -> Config<T> {
    let damping = Damping::Factored(T::from_f64(damping));
    Config { estimator: Estimator::Kronecker, damping, ..one_batch(1.0) }
}

fn check_uncorrelated<T: Scalar>(seed: u64, sharing: Sharing) -> f64 {
    let mut draws = Draws::new(seed);
    let plan = with_points(&mut draws);
    let count = 1 + draws.index(12);
    let (images, maps) = batch::<T>(&plan, count, &mut draws);
    let damping = T::from_f64(draws.between(0.5, 2.0)).to_f64();
    let convolution = plan.convolution().uncorrelated();
    assert_eq!(convolution.block(), Block::Uncorrelated);
    let columns = 1 + draws.index(9);
    let [mut bench, mut kfac] = [one_batch(damping), kronecker(damping)].map(|config| {
        let mut bench = Bench::<T>::new(convolution, config);
        (bench.sharing, bench.columns) = (sharing, columns);
        assert_eq!(bench.observe(&images, &maps), Outcome::Applied);
        bench
    });
    let gradients: Vec<_> =
        (0..plan.groups).map(|_| rounded::<T>(draws.matrix(plan.rows(), plan.lines()))).collect();
    let (natural, by_kfac) = (bench.precondition(&gradients), kfac.precondition(&gradients));
    let mut worst = 0.0_f64;
    let mut compare = |what: &str, found: &DMatrix<f64>, expected: &DMatrix<f64>, limit: f64| {
        let error = relative_difference(found, expected) / unit::<T>();
        assert!(error <= limit, "{what}, seed {seed}, {plan:?}, {sharing:?}: {error} u");
        worst = worst.max(error / limit);
    };
    for group in 0..plan.groups {
        let examples = plan.example_gradients(group, &images, &maps);
        let (a, b) = plan.factors(group, &images, &maps, sharing);
        let layer = bench.layer(group);
        let shared = plan.shared_factor(&a);
        compare("Sigma", &reconstructed(layer.input_factor()), &shared, 200.0);
        compare("B", &reconstructed(layer.output_factor()), &b, 200.0);
        let bias = if plan.bias { a[(plan.patch(), plan.patch())] } else { 0.0 };
        let found = widened(layer.input_moments());
        assert_eq!(found.len(), usize::from(plan.bias));
        assert!(found.iter().all(|found| (found - bias).abs() <= 1e-14 * bias), "the bias's moment");
        let (basis, output_basis) =
            (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()));
        let input_basis = plan.at_each_point(&basis, 1.0);
        let s = scalings(&input_basis, &output_basis, &examples);
        compare("S", &dense(layer.scalings()), &s, 200.0);
        let expected = natural_gradient(&block(&input_basis, &output_basis, &s), damping, &gradients[group]);
        compare("D", &natural[group], &expected, 1e3 * (s.max() + damping) / damping);
        // The closest of its form: the same trace, and nothing left of its own form in the difference.
        let closest = plan.at_each_point(&shared, bias);
        assert!((a.trace() - closest.trace()).abs() <= 1e-12 * a.trace(), "the trace, seed {seed}");

        let layer = kfac.layer(group);
        let (basis, output_basis) =
            (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()));
        let (input_basis, values) = (plan.at_each_point(&basis, 1.0), basis.transpose() * &shared * &basis);
        let spread = plan.at_each_point(&values, bias).diagonal();
        let b = (output_basis.transpose() * &b * &output_basis).diagonal();
        let sides = ((&input_basis, spread.as_slice()), (&output_basis, b.as_slice()));
        let expected = factored(sides.0, sides.1, damping, &gradients[group]);
        let condition = (1.0 + spread.max()) * (1.0 + b.max()) / damping.min(1.0);
        compare("K-FAC's D", &by_kfac[group], &expected, 1e3 * condition);
    }
    worst
}

#[test]
fn uncorrelated_statistics_are_those_of_the_dense_fisher() {
    let mut worst = 0.0_f64;
    for (seed, sharing) in (0..400).flat_map(|seed| SHARINGS.map(|sharing| (seed, sharing))) {
        worst = worst.max(check_uncorrelated::<f64>(seed, sharing));
        worst = worst.max(check_uncorrelated::<f32>(seed, sharing));
    }
    println!("the worst share of a limit: {worst}");
}

#[test]
fn an_uncorrelated_block_is_never_further_from_the_fisher_than_its_kronecker_product() {
    let mut smallest = f64::INFINITY;
    for (seed, sharing) in (0..300).flat_map(|seed| SHARINGS.map(|sharing| (seed, sharing))) {
        let mut draws = Draws::new(seed);
        let plan = Plan { groups: 1, ..with_points(&mut draws) };
        let (images, maps) = batch::<f64>(&plan, 4 + draws.index(12), &mut draws);
        let mut bench = Bench::<f64>::new(plan.convolution().uncorrelated(), one_batch(1e-3));
        bench.sharing = sharing;
        bench.observe(&images, &maps);
        let (a, b) = plan.factors(0, &images, &maps, sharing);
        let true_block = fisher(&plan.example_gradients(0, &images, &maps));
        let layer = bench.layer(0);
        let basis = plan.at_each_point(&dense(layer.input_factor().basis()), 1.0);
        let ekfac = block(&basis, &dense(layer.output_factor().basis()), &dense(layer.scalings()));
        let bias = if plan.bias { a[(plan.patch(), plan.patch())] } else { 0.0 };
        let kfac = plan.at_each_point(&plan.shared_factor(&a), bias).kronecker(&b);
        let (ekfac, kfac) = ((&true_block - ekfac).norm(), (&true_block - kfac).norm());
        let margin = (kfac - ekfac) / true_block.norm().max(f64::MIN_POSITIVE);
        assert!(margin >= -1e-9, "seed {seed}, {plan:?}, {sharing:?}: {margin:e}");
        smallest = smallest.min(margin);
    }
    println!("the smallest margin: {smallest:e}");
}

/// A few turns a step: Sigma is the average all the same, and S keeps the sum that it has for each kernel point and for the bias,
/// which no basis changes.
#[test]
fn a_running_basis_of_channels_loses_nothing() {
    for seed in 0..100 {
        let mut draws = Draws::new(seed);
        let plan = with_points(&mut draws);
        let refresh =
            Refresh::Rotations { per_step: 1 + draws.index(4) as u32, per_line: 0.0, threshold: 0.0 };
        let config = Config {
            refresh,
            factors: Averaging::Decay(0.7),
            scalings: Averaging::Decay(0.6),
            estimator: Estimator::PerExampleRunning,
            ..one_batch(0.1)
        };
        let mut bench = Bench::<f64>::new(plan.convolution().uncorrelated(), config);
        let (mut sigma, mut sums, mut weights) = (vec![], vec![], [0.0; 2]);
        for step in 0..8 {
            let (images, maps) = batch::<f64>(&plan, 5, &mut draws);
            assert_eq!(bench.observe(&images, &maps), Outcome::Applied);
            weights = [0.7 * weights[0] + 0.3, 0.6 * weights[1] + 0.4];
            for group in 0..plan.groups {
                let (a, _) = plan.factors(group, &images, &maps, Sharing::Expand);
                let examples = plan.example_gradients(group, &images, &maps);
                let squares = mean(&examples.iter().map(|g| g.component_mul(g)).collect::<Vec<_>>());
                let sum = |point: usize, s: &DMatrix<f64>| -> f64 {
                    let columns = (0..plan.lines()).filter(|j| {
                        if *j == plan.patch() { point == plan.points() } else { j % plan.points() == point }
                    });
                    columns.map(|j| s.column(j).sum()).sum()
                };
                let places = 0..plan.points() + usize::from(plan.bias);
                let new = DMatrix::from_iterator(places.len(), 1, places.clone().map(|p| sum(p, &squares)));
                if step == 0 {
                    sigma.push(plan.shared_factor(&a));
                    sums.push(new);
                } else {
                    let (sigma, sums) = (&mut sigma[group], &mut sums[group]);
                    *sigma += (plan.shared_factor(&a) - &*sigma) * (0.3 / weights[0]);
                    *sums += (new - &*sums) * (0.4 / weights[1]);
                }
                let layer = bench.layer(group);
                let s = dense(layer.scalings());
                let found = DMatrix::from_iterator(places.len(), 1, places.map(|p| sum(p, &s)));
                let basis = dense(layer.input_factor().basis());
                let errors = [
                    relative_difference(&reconstructed(layer.input_factor()), &sigma[group]),
                    relative_difference(&found, &sums[group]),
                    orthogonality(&basis),
                ];
                assert!(errors.iter().all(|error| *error <= 1e-12), "seed {seed}, {plan:?}: {errors:?}");
            }
        }
    }
}

/// A scale and a shift are a convolution of one point in as many groups as channels, whose blocks are 1 x 2.
fn scales(draws: &mut Draws) -> (Plan, Convolution) {
    let plan = Plan {
        size: [1 + draws.index(3), 1 + draws.index(4)],
        kernel: [1; 2],
        stride: [1; 2],
        padding: [0; 2],
        dilation: [1; 2],
        bias: draws.sign() > 0.0,
        channels_last: draws.sign() > 0.0,
        ..Plan::any(draws)
    };
    let plan = Plan { outputs: plan.channels, groups: plan.channels, ..plan };
    let layer = Convolution::affine(plan.channels, plan.size);
    let layer = if plan.bias { layer } else { layer.without_bias() };
    (plan, if plan.channels_last { layer.layout(Layout::ChannelsLast) } else { layer })
}

/// All scales, then all shifts, from one channel after another.
fn interleaved(plan: &Plan, parts: &[DMatrix<f64>]) -> DMatrix<f64> {
    DMatrix::from_fn(1, plan.channels * plan.lines(), |_, j| parts[j % plan.channels][j / plan.channels])
}

fn check_scales<T: Scalar>(seed: u64) {
    let mut draws = Draws::new(seed);
    let (plan, layer) = scales(&mut draws);
    let count = 1 + draws.index(6);
    let (images, maps) = batch::<T>(&plan, count, &mut draws);
    assert_eq!((layer.block(), layer.parameters()), (Block::Diagonal, plan.channels * plan.lines()));
    let weights: Vec<DMatrix<f64>> =
        (0..plan.channels).map(|_| rounded::<T>(draws.matrix(1, plan.lines()))).collect();
    let apart: Vec<f64> = weights.iter().flatten().copied().collect();
    let compare = |what: &str, found: &DMatrix<f64>, expected: &DMatrix<f64>| {
        let error = relative_difference(found, expected) / unit::<T>();
        assert!(error <= 100.0, "{what}, seed {seed}, {plan:?}: {error} u");
    };
    let gradients: Vec<Vec<DMatrix<f64>>> =
        (0..plan.channels).map(|group| plan.example_gradients(group, &images, &maps)).collect();
    let each = |example: usize| {
        interleaved(&plan, &gradients.iter().map(|group| group[example].clone()).collect::<Vec<_>>())
    };
    let examples: Vec<_> = (0..count).map(each).collect();
    let squares = mean(&examples.iter().map(|g| g.component_mul(g)).collect::<Vec<_>>());
    let g = mean(&examples);
    let direction = rounded::<T>(draws.matrix(1, g.ncols()));
    let estimators = [
        (Estimator::PerExampleRunning, &squares),
        (Estimator::PerExampleFresh, &squares),
        (Estimator::Kronecker, &squares),
        (Estimator::MeanGradientRunning, &(g.component_mul(&g) * count as f64)),
    ];
    for (estimator, expected) in estimators {
        let mut bench = Bench::<T>::new(layer, Config { estimator, ..one_batch(0.5) });
        assert_eq!(bench.observe(&images, &maps), Outcome::Applied);
        let [natural] = &bench.precondition(std::slice::from_ref(&direction))[..] else {
            panic!("one block")
        };
        compare("D", natural, &direction.zip_map(expected, |g, s| g / (s + 0.5)));
        compare("S", &dense(bench.layer(0).scalings()), expected);
        let view = bench.layer(0);
        let moments = widened(view.input_moments());
        compare("diag F", &DMatrix::from_row_slice(1, moments.len(), &moments), &squares);
    }
    let mut bench = Bench::<T>::new(layer, one_batch(0.5));
    let stored = interleaved(&plan, &weights);
    let z = bench.pass(stored.as_slice(), &images, false);
    let below = bench.pass(stored.as_slice(), &maps, true);
    for (example, image) in images.column_iter().enumerate() {
        let expected = DMatrix::from_vec(z.nrows(), 1, plan.forward(&apart, image.as_slice()));
        compare("z", &z.columns(example, 1).clone_owned(), &expected);
    }
    for (channel, location) in
        (0..plan.channels).flat_map(|channel| (0..plan.locations()).map(move |t| (channel, t)))
    {
        let row = plan.place(channel, location);
        compare("dL/dx", &below.rows(row, 1).clone_owned(), &(maps.rows(row, 1) * weights[channel][0]));
    }
    compare("G", &bench.mean_gradient(&images, &maps)[0], &g);
}

#[test]
fn scales_and_shifts_have_the_exact_diagonal() {
    for seed in 0..200 {
        check_scales::<f64>(seed);
        check_scales::<f32>(seed);
    }
}

/// An embedding is a convolution of one point over one-hot channels.
fn tokens(draws: &mut Draws, count: usize) -> (Plan, Convolution, DMatrix<f64>, DMatrix<f64>) {
    let (vocabulary, length, outputs) = (1 + draws.index(9), 1 + draws.index(7), 1 + draws.index(4));
    let plan = Plan {
        channels: vocabulary,
        outputs,
        size: [1, length],
        kernel: [1; 2],
        stride: [1; 2],
        padding: [0; 2],
        dilation: [1; 2],
        groups: 1,
        bias: false,
        channels_last: draws.sign() > 0.0,
    };
    let layer = Convolution::embedding(vocabulary, length, outputs);
    let layer = if plan.channels_last { layer } else { layer.layout(Layout::ChannelsFirst) };
    let tokens = DMatrix::from_fn(length, count, |_, _| draws.index(vocabulary) as f64);
    let one_hot = DMatrix::from_fn(vocabulary * length, count, |i, j| {
        let (channel, t) =
            if plan.channels_last { (i % vocabulary, i / vocabulary) } else { (i / length, i % length) };
        f64::from(u8::from(tokens[(t, j)] == channel as f64))
    });
    (plan, layer, tokens, one_hot)
}

fn check_tokens<T: Scalar>(seed: u64, sharing: Sharing) {
    let mut draws = Draws::new(seed);
    let count = 1 + draws.index(6);
    let (plan, layer, tokens, one_hot) = tokens(&mut draws, count);
    assert_eq!(layer.block(), Block::DiagonalInput);
    let maps = rounded::<T>(draws.matrix(layer.output_words(), count));
    let weights: Vec<f64> = rounded::<T>(draws.matrix(layer.parameters(), 1)).iter().copied().collect();
    let compare = |what: &str, found: &DMatrix<f64>, expected: &DMatrix<f64>, limit: f64| {
        let error = relative_difference(found, expected) / unit::<T>();
        assert!(error <= limit, "{what}, seed {seed}, {plan:?}, {sharing:?}: {error} u");
    };
    let damping = 0.5;
    let columns = 1 + draws.index(9);
    let [mut bench, mut kfac] = [one_batch(damping), kronecker(damping)].map(|config| {
        let mut bench = Bench::<T>::new(layer, config);
        (bench.sharing, bench.columns) = (sharing, columns);
        assert_eq!(bench.observe(&tokens, &maps), Outcome::Applied);
        bench
    });
    let z = bench.pass(&weights, &tokens, false);
    for (example, image) in one_hot.column_iter().enumerate() {
        let expected = DMatrix::from_vec(z.nrows(), 1, plan.forward(&weights, image.as_slice()));
        assert_eq!(z.columns(example, 1).clone_owned(), expected, "a look-up is exact");
    }
    assert_eq!(bench.pass(&weights, &maps, true), DMatrix::zeros(tokens.nrows(), count));
    let examples = plan.example_gradients(0, &one_hot, &maps);
    compare("G", &bench.mean_gradient(&tokens, &maps)[0], &mean(&examples), 50.0);
    let (a, b) = plan.factors(0, &one_hot, &maps, sharing);
    let frequencies = DMatrix::from_vec(plan.channels, 1, a.diagonal().as_slice().to_vec());
    if sharing == Sharing::Expand {
        assert_eq!(a, DMatrix::from_diagonal(&a.diagonal()), "the oracle's A is diagonal");
    }
    let identity = DMatrix::identity(plan.channels, plan.channels);
    let gradient = rounded::<T>(draws.matrix(plan.outputs, plan.channels));
    let layer = bench.layer(0);
    let found = widened(layer.input_moments());
    compare("A", &DMatrix::from_vec(found.len(), 1, found), &frequencies, 50.0);
    compare("B", &reconstructed(layer.output_factor()), &b, 200.0);
    let output_basis = dense(layer.output_factor().basis());
    let s = scalings(&identity, &output_basis, &examples);
    compare("S", &dense(layer.scalings()), &s, 200.0);
    let expected = natural_gradient(&block(&identity, &output_basis, &s), damping, &gradient);
    let condition = (s.max() + damping) / damping;
    compare("D", &bench.precondition(std::slice::from_ref(&gradient))[0], &expected, 1e3 * condition);
    let output_basis = dense(kfac.layer(0).output_factor().basis());
    let values = (output_basis.transpose() * &b * &output_basis).diagonal();
    let sides = ((&identity, frequencies.as_slice()), (&output_basis, values.as_slice()));
    let expected = factored(sides.0, sides.1, damping, &gradient);
    let condition = (1.0 + frequencies.max()) * (1.0 + values.max()) / damping;
    compare("K-FAC's D", &kfac.precondition(std::slice::from_ref(&gradient))[0], &expected, 1e3 * condition);
}

#[test]
fn an_embedding_is_the_dense_layer_on_one_hot_inputs() {
    for (seed, sharing) in (0..200).flat_map(|seed| SHARINGS.map(|sharing| (seed, sharing))) {
        check_tokens::<f64>(seed, sharing);
        check_tokens::<f32>(seed, sharing);
    }
}
