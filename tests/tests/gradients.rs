//! The network's derivatives against differences and an independent network, and the three Fishers against the
//! distribution that they claim to describe.
//!
//! Mutants that these tests catch: a wrong derivative of an activation or a loss; a gradient divided by the batch size;
//! the bias's row transposed or dropped; a Fisher of the wrong distribution, or off by a factor; samples drawn from the
//! targets; the exact passes not added up, or averaged.

use ekfac::{
    Activation, Averaging, Clip, Config, Dense, Fisher, Learner, Loss, Net, Refresh, Shape, Targets,
};
use ekfac_tests::{
    oracle::{
        bench::reconstructed,
        dense, largest_difference,
        network::{Network, one_hot},
        relative_difference, second_moment,
    },
    random::Draws,
};
use nalgebra::DMatrix;

const ACTIVATIONS: [Activation; 6] = [
    Activation::Identity,
    Activation::Relu,
    Activation::LeakyRelu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Gelu,
];

const LOSSES: [Loss; 4] =
    [Loss::SquaredError, Loss::SoftmaxCrossEntropy, Loss::BinaryCrossEntropy, Loss::Huber(0.8)];

fn layers(activation: Activation, bias: bool) -> [Dense; 3] {
    let shape = |inputs, outputs| {
        let shape = Shape::new(inputs, outputs);
        if bias { shape } else { shape.without_bias() }
    };
    // The activation at the output as well: losses are defined on h, not on z.
    [
        Dense::with_shape(shape(4, 5), activation),
        Dense::with_shape(shape(5, 3), activation),
        Dense::with_shape(shape(3, 3), activation),
    ]
}

/// Statistics of the present batch only, in weights that do not move.
fn still(fisher: Fisher) -> Config<f64> {
    Config {
        learning_rate: 1e-300,
        momentum: 0.0,
        clip: Clip::None,
        fisher,
        statistics_share: 1.0,
        factors: Averaging::Decay(0.0),
        scalings: Averaging::Decay(0.0),
        refresh: Refresh::every(u32::MAX),
        ..Config::default()
    }
}

/// Inputs and targets that suit the loss: probabilities for the cross-entropies, values for the others.
fn examples(loss: Loss, batch: usize, draws: &mut Draws) -> (DMatrix<f64>, DMatrix<f64>) {
    let inputs = draws.matrix(4, batch);
    let targets = match loss {
        Loss::SoftmaxCrossEntropy => {
            let mut shares = draws.matrix(3, batch).map(f64::exp);
            shares.column_iter_mut().for_each(|mut column| column /= column.sum());
            shares
        }
        Loss::BinaryCrossEntropy => DMatrix::from_fn(3, batch, |_, _| draws.uniform()),
        Loss::SquaredError | Loss::Huber(_) => draws.matrix(3, batch),
    };
    (inputs, targets)
}

/// Gives the biases values of their own, so that their derivatives are not those of zero.
fn disturb(learner: &mut Learner<'_, f64>, draws: &mut Draws) {
    for layer in 0..learner.net().layers().len() {
        let mut weights = learner.stored_weights(layer).unwrap();
        weights.as_mut_slice().iter_mut().for_each(|weight| *weight += 0.3 * draws.normal());
    }
}

fn for_every_net(mut check: impl FnMut(&mut Learner<'_, f64>, &mut Draws, &str), fisher: Fisher) {
    let mut seed = 0;
    for activation in ACTIVATIONS {
        for loss in LOSSES {
            for bias in [true, false] {
                seed += 1;
                let layers = layers(activation, bias);
                let net = Net::new(&layers, loss);
                let mut memory = vec![0.0_f64; net.words(6)];
                let mut learner = Learner::new(net, still(fisher), seed, 6, &mut memory).unwrap();
                let mut draws = Draws::new(seed);
                disturb(&mut learner, &mut draws);
                check(
                    &mut learner,
                    &mut draws,
                    &format!("{activation:?}, {loss:?}, bias {bias}, seed {seed}"),
                );
            }
        }
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    let mut worst = 0.0_f64;
    let check = |learner: &mut Learner<'_, f64>, draws: &mut Draws, place: &str| {
        let (inputs, targets) = examples(learner.net().loss(), 4, draws);
        let (inputs, targets) = (inputs.as_slice(), Targets::Values(targets.as_slice()));
        let mut gradient = vec![0.0; learner.net().parameters()];
        let loss = learner.mean_gradient(inputs, targets, &mut gradient).unwrap();
        assert_eq!(loss, learner.evaluate(inputs, targets).unwrap().loss, "{place}");
        let mut start = 0;
        for layer in 0..3 {
            let count = learner.net().layers()[layer].shape().parameters();
            for index in 0..count {
                let step = 1e-5;
                let mut at = |offset: f64| {
                    learner.stored_weights(layer).unwrap().as_mut_slice()[index] += offset;
                    learner.evaluate(inputs, targets).unwrap().loss
                };
                let (above, below) = (at(step), at(-2.0 * step));
                at(step);
                let (found, expected) = (gradient[start + index], (above - below) / (2.0 * step));
                let error = (found - expected).abs() / (1.0 + expected.abs());
                assert!(error <= 1e-8, "{place}, layer {layer}, weight {index}: {found} against {expected}");
                worst = worst.max(error);
            }
            start += count;
        }
    };
    for_every_net(check, Fisher::Empirical);
    println!("central differences: {worst:e}");
}

#[test]
fn losses_outputs_and_gradients_agree_with_another_network() {
    let check = |learner: &mut Learner<'_, f64>, draws: &mut Draws, place: &str| {
        let (inputs, targets) = examples(learner.net().loss(), 6, draws);
        let other = Network::of(learner);
        let trace = other.forward(&inputs);
        for (index, input) in inputs.column_iter().enumerate() {
            let outputs = learner.predict(input.as_slice()).unwrap();
            let outputs = DMatrix::from_column_slice(3, 1, outputs);
            let expected = trace.outputs.columns(index, 1).clone_owned();
            assert!(largest_difference(&outputs, &expected) <= 1e-11, "{place}");
        }
        let mut found = vec![0.0; learner.net().parameters()];
        let values = Targets::Values(targets.as_slice());
        let loss = learner.mean_gradient(inputs.as_slice(), values, &mut found).unwrap();
        assert!((loss - other.mean_loss(&inputs, &targets)).abs() <= 1e-11 * (1.0 + loss), "{place}: {loss}");
        let gradients = other.backward(&trace, &other.output_gradients(&trace, &targets));
        let expected: Vec<f64> = gradients
            .iter()
            .zip(&trace.activations)
            .flat_map(|(g, a)| (g * a.transpose() / 6.0).as_slice().to_vec())
            .collect();
        let error = relative_difference(
            &DMatrix::from_column_slice(1, found.len(), &found),
            &DMatrix::from_column_slice(1, found.len(), &expected),
        );
        assert!(error <= 1e-10, "{place}: {error:e}");
    };
    for_every_net(check, Fisher::Empirical);
}

#[test]
fn classes_are_the_columns_of_the_identity() {
    let layers = layers(Activation::Tanh, true);
    let net = Net::new(&layers, Loss::SoftmaxCrossEntropy);
    let mut memory = vec![0.0_f64; net.words(6)];
    let mut learner = Learner::new(net, still(Fisher::Exact), 4, 6, &mut memory).unwrap();
    let mut draws = Draws::new(4);
    let (inputs, classes) = (draws.list(24), draws.classes(6, 3));
    let (mut first, mut second) = (vec![0.0; net.parameters()], vec![0.0; net.parameters()]);
    let loss = learner.mean_gradient(&inputs, Targets::Classes(&classes), &mut first).unwrap();
    let values = one_hot(&classes, 3);
    let other = learner.mean_gradient(&inputs, Targets::Values(values.as_slice()), &mut second).unwrap();
    assert_eq!((loss, first), (other, second));
    let by_class = learner.evaluate(&inputs, Targets::Classes(&classes)).unwrap();
    assert_eq!(by_class, learner.evaluate(&inputs, Targets::Values(values.as_slice())).unwrap());
    let other = Network::of(&mut learner);
    let outputs = other.forward(&DMatrix::from_column_slice(4, 6, &inputs)).outputs;
    let right =
        outputs.column_iter().zip(&classes).filter(|(h, class)| h.argmax().0 == **class as usize).count();
    assert_eq!(by_class.correct, Some(right));
}

/// B of every layer by the oracle: the mean of J^T F J over the batch.
fn expected_factors(other: &Network, inputs: &DMatrix<f64>) -> Vec<DMatrix<f64>> {
    let mut sums: Vec<DMatrix<f64>> = Vec::new();
    for example in 0..inputs.ncols() {
        let fishers = other.example_fishers(&inputs.columns(example, 1).clone_owned());
        sums =
            if example == 0 { fishers } else { sums.iter().zip(fishers).map(|(sum, f)| sum + f).collect() };
    }
    sums.into_iter().map(|sum| sum / inputs.ncols() as f64).collect()
}

#[test]
fn the_exact_fisher_is_that_of_the_models_own_distribution() {
    let mut worst = 0.0_f64;
    let check = |learner: &mut Learner<'_, f64>, draws: &mut Draws, place: &str| {
        let (inputs, targets) = examples(learner.net().loss(), 5, draws);
        let expected = expected_factors(&Network::of(learner), &inputs);
        learner.step(inputs.as_slice(), Targets::Values(targets.as_slice())).unwrap();
        for (index, expected) in expected.iter().enumerate() {
            let found = reconstructed(learner.layer(index).unwrap().output_factor());
            let error = relative_difference(&found, expected);
            assert!(error <= 1e-10, "{place}, layer {index}: {error:e}");
            worst = worst.max(error);
        }
    };
    for_every_net(check, Fisher::Exact);
    println!("exact Fisher: {worst:e}");
}

#[test]
fn the_empirical_fisher_is_that_of_the_training_gradients() {
    let check = |learner: &mut Learner<'_, f64>, draws: &mut Draws, place: &str| {
        let (inputs, targets) = examples(learner.net().loss(), 5, draws);
        let other = Network::of(learner);
        let trace = other.forward(&inputs);
        let gradients = other.backward(&trace, &other.output_gradients(&trace, &targets));
        learner.step(inputs.as_slice(), Targets::Values(targets.as_slice())).unwrap();
        for (index, g) in gradients.iter().enumerate() {
            let layer = learner.layer(index).unwrap();
            let error = relative_difference(&reconstructed(layer.output_factor()), &second_moment(g));
            assert!(error <= 1e-10, "{place}, layer {index}: B is off by {error:e}");
            let error = relative_difference(
                &reconstructed(layer.input_factor()),
                &second_moment(&trace.activations[index]),
            );
            assert!(error <= 1e-10, "{place}, layer {index}: A is off by {error:e}");
        }
    };
    for_every_net(check, Fisher::Empirical);
}

/// Running mean and variance, entry by entry.
struct Statistics {
    count: f64,
    mean: DMatrix<f64>,
    spread: DMatrix<f64>,
}

impl Statistics {
    fn new(rows: usize, columns: usize) -> Self {
        Self { count: 0.0, mean: DMatrix::zeros(rows, columns), spread: DMatrix::zeros(rows, columns) }
    }

    fn add(&mut self, value: &DMatrix<f64>) {
        self.count += 1.0;
        let difference = value - &self.mean;
        self.mean += &difference / self.count;
        self.spread += difference.component_mul(&(value - &self.mean));
    }

    /// The largest |mean - expected| in standard errors.
    fn deviation(&self, expected: &DMatrix<f64>) -> f64 {
        let error = self.spread.map(|spread| (spread / self.count / (self.count - 1.0)).sqrt());
        let slack = 1e-12 * expected.norm();
        let deviations = DMatrix::from_fn(expected.nrows(), expected.ncols(), |i, j| {
            ((self.mean[(i, j)] - expected[(i, j)]).abs() - slack).max(0.0)
                / (error[(i, j)] + f64::MIN_POSITIVE)
        });
        largest_difference(&deviations, &DMatrix::zeros(expected.nrows(), expected.ncols()))
    }
}

#[test]
fn the_sampled_fisher_is_unbiased() {
    let mut worst = 0.0_f64;
    for (seed, loss) in LOSSES.into_iter().enumerate() {
        let layers = layers(Activation::Tanh, true);
        let net = Net::new(&layers, loss);
        let mut memory = vec![0.0_f64; net.words(3)];
        let mut learner = Learner::new(net, still(Fisher::Sampled), seed as u64, 3, &mut memory).unwrap();
        let mut draws = Draws::new(seed as u64);
        disturb(&mut learner, &mut draws);
        let (inputs, targets) = examples(loss, 3, &mut draws);
        let other = Network::of(&mut learner);
        let expected = expected_factors(&other, &inputs);
        let mut statistics: Vec<_> =
            expected.iter().map(|b| (Statistics::new(b.nrows(), b.nrows()), Vec::new())).collect();
        for _ in 0..4_000 {
            learner.step(inputs.as_slice(), Targets::Values(targets.as_slice())).unwrap();
            for (index, (factor, scalings)) in statistics.iter_mut().enumerate() {
                let layer = learner.layer(index).unwrap();
                factor.add(&reconstructed(layer.output_factor()));
                let s = dense(layer.scalings());
                if scalings.is_empty() {
                    // The first step turned the basis after it had measured the factors.
                    scalings.push(Statistics::new(s.nrows(), s.ncols()));
                }
                scalings[0].add(&s);
            }
        }
        for (index, (factor, scalings)) in statistics.iter().enumerate() {
            let deviation = factor.deviation(&expected[index]);
            assert!(deviation <= 5.0, "{loss:?}, seed {seed}, B of layer {index}: {deviation} sigma");
            let expected = expected_scalings(&mut learner, &other, &inputs, index);
            let spread = scalings[0].deviation(&expected);
            assert!(spread <= 5.0, "{loss:?}, seed {seed}, S of layer {index}: {spread} sigma");
            worst = worst.max(deviation).max(spread);
        }
    }
    println!("sampled Fisher: {worst} sigma");
}

/// S of one layer in the learner's basis, by the oracle's J^T F J.
fn expected_scalings(
    learner: &mut Learner<'_, f64>,
    other: &Network,
    inputs: &DMatrix<f64>,
    index: usize,
) -> DMatrix<f64> {
    let layer = learner.layer(index).unwrap();
    let (input_basis, output_basis) =
        (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()));
    let activations = &other.forward(inputs).activations[index];
    let mut sum = DMatrix::zeros(output_basis.ncols(), input_basis.ncols());
    for example in 0..inputs.ncols() {
        let fisher = &other.example_fishers(&inputs.columns(example, 1).clone_owned())[index];
        let seen = (output_basis.transpose() * fisher * &output_basis).diagonal();
        let a = (input_basis.transpose() * activations.columns(example, 1)).map(|value| value * value);
        sum += seen * a.transpose() / inputs.ncols() as f64;
    }
    sum
}
