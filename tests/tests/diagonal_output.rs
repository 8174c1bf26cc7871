//! The last layer's B, which is diagonal by the way the Fisher gradients are drawn: its basis stays I, and S is exact.
//!
//! Mutants that these tests catch: the rule taken for a softmax or an empirical Fisher, or for a hidden layer; a product with U_B
//! left out where it has turned, or where it goes back to parameters; the noise of the signs in S; the mark lost on the way
//! through a snapshot, or kept where other settings come.

use ekfac::{
    Activation, Averaging, Config, Coordinates, Dense, Fisher, LayerMut, Learner, Loss, MatrixMut, MatrixRef,
    Net, Refresh, Shape, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet},
    layers,
};
use ekfac_tests::random::Draws;
use nalgebra::{DMatrix, DVector};

const LAYERS: [Dense; 2] = layers![6 => 7 Tanh => 5 Sigmoid];
const LINEAR: [Dense; 2] = layers![6 => 7 Tanh => 5 Identity];
const LAST: usize = 1;
const BATCH: usize = 12;
const SEED: u64 = 4;

const DIAGONAL: [Loss; 3] = [Loss::SquaredError, Loss::BinaryCrossEntropy, Loss::Huber(0.7)];

fn config(fisher: Fisher) -> Config<f64> {
    Config { fisher, learning_rate: 0.02, ..Config::default() }
}

fn batch(draws: &mut Draws) -> (Vec<f64>, Vec<f64>) {
    let inputs = draws.matrix(6, BATCH);
    let targets = (0..5 * BATCH).map(|_| draws.between(0.0, 1.0)).collect();
    (inputs.as_slice().to_vec(), targets)
}

fn train(learner: &mut Learner<'_, f64>, steps: usize, draws: &mut Draws) -> Vec<f64> {
    let mut last = Vec::new();
    for _ in 0..steps {
        let (inputs, targets) = batch(draws);
        learner.step(&inputs, Targets::Values(&targets)).unwrap();
        last = inputs;
    }
    last
}

/// The largest entry of U - I.
fn turned(layer: &LayerMut<'_, f64>) -> f64 {
    let mut basis = DMatrix::<f64>::zeros(5, 5);
    layer.output_factor().basis().copy_to(&mut basis).unwrap();
    (basis - DMatrix::identity(5, 5)).amax()
}

#[test]
fn the_basis_of_the_last_outputs_stays_the_identity() {
    for loss in DIAGONAL {
        for fisher in [Fisher::Sampled, Fisher::Exact] {
            for coordinates in [Coordinates::Eigenbasis, Coordinates::Parameter] {
                let net = Net::new(&LAYERS, loss);
                let mut memory = vec![0.0; net.words(BATCH)];
                let mut learner = Learner::new(net, config(fisher), SEED, BATCH, &mut memory).unwrap();
                learner.set_coordinates(LAST, coordinates).unwrap();
                train(&mut learner, 30, &mut Draws::new(SEED));
                let case = format!("{loss:?}, {fisher:?}, {coordinates:?}");
                assert!(learner.layer(LAST).unwrap().output_is_diagonal(), "{case}");
                assert_eq!(turned(&learner.layer(LAST).unwrap()), 0.0, "{case}");
                // The others turn.
                let layer = learner.layer(0).unwrap();
                assert!(!layer.output_is_diagonal(), "{case}");
                assert!(layer.output_factor().basis().get(0, 0) != Some(1.0), "{case}");
                assert!(learner.layer(LAST).unwrap().input_factor().basis().get(0, 0) != Some(1.0), "{case}");
            }
        }
    }
}

#[test]
fn other_outputs_turn() {
    for (loss, fisher) in [
        (Loss::SoftmaxCrossEntropy, Fisher::Sampled),
        (Loss::SoftmaxCrossEntropy, Fisher::Exact),
        (Loss::SquaredError, Fisher::Empirical),
        (Loss::BinaryCrossEntropy, Fisher::Empirical),
    ] {
        let net = Net::new(&LINEAR, loss);
        let mut memory = vec![0.0; net.words(BATCH)];
        let mut learner = Learner::new(net, config(fisher), SEED, BATCH, &mut memory).unwrap();
        train(&mut learner, 30, &mut Draws::new(SEED));
        let layer = learner.layer(LAST).unwrap();
        assert!(!layer.output_is_diagonal() && turned(&layer) > 1e-3, "{loss:?}, {fisher:?}");
    }
}

/// The logistic function.
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// diag C_B and S of one batch alone against their formulas, b_i the Fisher of output i with respect to z_i.
#[test]
fn the_scalings_of_the_last_layer_are_exact() {
    let newest = |fisher| Config {
        statistics_share: 1.0,
        factors: Averaging::Decay(0.0),
        scalings: Averaging::Decay(0.0),
        ..config(fisher)
    };
    for (layers, loss) in [(&LAYERS, Loss::SquaredError), (&LINEAR, Loss::BinaryCrossEntropy)] {
        for fisher in [Fisher::Sampled, Fisher::Exact] {
            let net = Net::new(layers, loss);
            let mut memory = vec![0.0; net.words(BATCH)];
            let mut learner = Learner::new(net, newest(fisher), SEED, BATCH, &mut memory).unwrap();
            let mut draws = Draws::new(SEED);
            train(&mut learner, 5, &mut draws);
            let (inputs, targets) = batch(&mut draws);
            let [weights, hidden] = [1, 0].map(|layer| {
                let shape = *layers[layer].shape();
                let mut out = DMatrix::zeros(shape.rows(), shape.columns());
                learner.weights(layer, MatrixMut::from(&mut out)).unwrap();
                out
            });
            learner.step(&inputs, Targets::Values(&targets)).unwrap();
            let with_one = |x: &[f64]| DVector::from_iterator(x.len() + 1, x.iter().copied().chain([1.0]));
            let layer = learner.layer(LAST).unwrap();
            let mut basis = DMatrix::zeros(8, 8);
            layer.input_factor().basis().copy_to(&mut basis).unwrap();
            let (mut scalings, mut means) = (DMatrix::zeros(5, 8), [0.0; 5]);
            for input in inputs.chunks(6) {
                let a = with_one((&hidden * with_one(input)).map(f64::tanh).as_slice());
                let b = (&weights * &a).map(|z| {
                    let p = sigmoid(z);
                    // By BCE with a linear output p (1 - p); by squared error the square of the sigmoid's derivative.
                    if loss == Loss::SquaredError { (p * (1.0 - p)).powi(2) } else { p * (1.0 - p) }
                });
                let projected = basis.transpose() * &a;
                scalings += &b * projected.map(|a| a * a).transpose() / BATCH as f64;
                means.iter_mut().zip(b.iter()).for_each(|(mean, b)| *mean += b / BATCH as f64);
            }
            let mut found = DMatrix::zeros(5, 8);
            layer.scalings().copy_to(&mut found).unwrap();
            let case = format!("{loss:?}, {fisher:?}");
            let difference = (&found - &scalings).norm() / scalings.norm();
            assert!(difference <= 1e-12, "S, {case}: {difference:e}");
            let layer = learner.layer(LAST).unwrap();
            for (found, mean) in layer.output_factor().values().zip(means) {
                assert!((found - mean).abs() <= 1e-13 * mean, "diag C_B, {case}: {found} for {mean}");
            }
        }
    }
}

/// Without turns, a layer that multiplies by U_B = I is bit for bit one that does not.
#[test]
fn a_product_with_the_identity_is_none() {
    for coordinates in [Coordinates::Eigenbasis, Coordinates::Parameter] {
        let still = Refresh::Rotations { per_step: 0, per_line: 0.0, threshold: 0.08 };
        let settings = Config { refresh: still, ..config(Fisher::Sampled) };
        let net = Net::new(&LAYERS, Loss::SquaredError);
        let (mut one, mut other) = (vec![0.0; net.words(BATCH)], vec![0.0; net.words(BATCH)]);
        let mut plain = Learner::new(net, settings, SEED, BATCH, &mut one).unwrap();
        let mut multiplied = Learner::new(net, settings, SEED, BATCH, &mut other).unwrap();
        let identity = |size| DMatrix::<f64>::identity(size, size);
        for (learner, load_output) in [(&mut plain, false), (&mut multiplied, true)] {
            let mut layer = learner.layer(LAST).unwrap();
            layer.load_input_factor(MatrixRef::from(&identity(8)), &[0.0; 36]).unwrap();
            if load_output {
                layer.load_output_factor(MatrixRef::from(&identity(5)), &[0.0; 15]).unwrap();
            }
        }
        for learner in [&mut plain, &mut multiplied] {
            learner.set_coordinates(LAST, coordinates).unwrap();
            train(learner, 20, &mut Draws::new(SEED));
        }
        assert!(plain.layer(LAST).unwrap().output_is_diagonal());
        assert!(!multiplied.layer(LAST).unwrap().output_is_diagonal());
        let of = |learner: &mut Learner<'_, f64>| {
            let weights = learner.stored_weights(LAST).unwrap().as_ref().as_slice().to_vec();
            (weights, learner.layer(LAST).unwrap().scalings().as_slice().to_vec())
        };
        let (plainly, by_products) = (of(&mut plain), of(&mut multiplied));
        assert_eq!(plainly, by_products, "{coordinates:?}");
        let input = [0.3, -0.2, 0.9, 0.1, -0.7, 0.4];
        assert_eq!(plain.predict(&input).unwrap(), multiplied.predict(&input).unwrap());
        assert!(plain.progress().operations < multiplied.progress().operations);
    }
}

/// A basis that has turned under other settings is not taken for I.
#[test]
fn a_basis_that_has_turned_is_measured_in_full_from_then_on() {
    let net = Net::new(&LAYERS, Loss::SquaredError);
    let mut memory = vec![0.0; net.words(BATCH)];
    let mut learner = Learner::new(net, config(Fisher::Sampled), SEED, BATCH, &mut memory).unwrap();
    let mut draws = Draws::new(SEED);
    train(&mut learner, 10, &mut draws);
    assert!(learner.layer(LAST).unwrap().output_is_diagonal());
    learner.set_config(config(Fisher::Empirical)).unwrap();
    train(&mut learner, 10, &mut draws);
    let before_change = turned(&learner.layer(LAST).unwrap());
    assert!(before_change > 1e-3, "{before_change}");
    learner.set_config(config(Fisher::Sampled)).unwrap();
    let probe = [0.3, -0.2, 0.9, 0.1, -0.7, 0.4];
    let before = learner.predict(&probe).unwrap().to_vec();
    let mut stored = DMatrix::zeros(5, 8);
    learner.weights(LAST, MatrixMut::from(&mut stored)).unwrap();
    learner.set_weights(LAST, MatrixRef::from(&stored)).unwrap();
    for (before, after) in before.iter().zip(learner.predict(&probe).unwrap()) {
        assert!((before - after).abs() <= 1e-12, "{before}, {after}");
    }
    train(&mut learner, 10, &mut draws);
    let layer = learner.layer(LAST).unwrap();
    assert!(!layer.output_is_diagonal());
    assert!((turned(&layer) - before_change).abs() > 1e-6);
}

/// A run that other settings take over has correlated gradients from its first step on.
#[test]
fn other_settings_that_take_a_run_over_end_it() {
    let net = Net::new(&LAYERS, Loss::SquaredError);
    let (mut one, mut other) = (vec![0.0; net.words(BATCH)], vec![0.0; net.words(BATCH)]);
    let mut learner = Learner::new(net, config(Fisher::Sampled), SEED, BATCH, &mut one).unwrap();
    train(&mut learner, 3, &mut Draws::new(SEED));
    let mut bytes = vec![0; ekfac::snapshot::length::<f64>(&net)];
    learner.save_into(&mut bytes).unwrap();
    for (fisher, diagonal) in [(Fisher::Sampled, true), (Fisher::Exact, true), (Fisher::Empirical, false)] {
        let mut restored = Learner::new(net, config(fisher), 1, BATCH, &mut other).unwrap();
        restored.restore_from(&bytes).unwrap();
        assert!(restored.layer(LAST).unwrap().output_is_diagonal(), "{fisher:?}, restored");
        train(&mut restored, 3, &mut Draws::new(SEED));
        let layer = restored.layer(LAST).unwrap();
        assert_eq!(layer.output_is_diagonal(), diagonal, "{fisher:?}, after a step");
        assert_eq!(turned(&layer) == 0.0, diagonal, "{fisher:?}, after a step");
    }
}

#[test]
fn convolutions_have_the_same_rule() {
    const FILTERS: Convolution = Convolution::new_1d(2, Axis::new(8, 3), 4);
    const HIDDEN: ConvolutionLayer = ConvolutionLayer::new(FILTERS, Activation::Tanh);
    const OUT: ConvolutionLayer = ConvolutionLayer::dense(FILTERS.output_words(), 5, Activation::Identity);
    const NET_LAYERS: [ConvolutionLayer; 2] = [HIDDEN, OUT];
    for (loss, fisher, diagonal) in [
        (Loss::SquaredError, Fisher::Sampled, true),
        (Loss::SquaredError, Fisher::Empirical, false),
        (Loss::SoftmaxCrossEntropy, Fisher::Sampled, false),
    ] {
        let net = ConvolutionNet::new(&NET_LAYERS, loss);
        let mut memory = vec![0.0; net.words(BATCH, 8)];
        let mut learner = ConvolutionLearner::new(net, config(fisher), SEED, BATCH, 8, &mut memory).unwrap();
        let mut draws = Draws::new(SEED);
        for _ in 0..20 {
            let inputs = draws.matrix(16, BATCH);
            let targets: Vec<f64> = (0..5 * BATCH).map(|_| draws.between(0.0, 0.2)).collect();
            learner.step(inputs.as_slice(), Targets::Values(&targets)).unwrap();
        }
        let case = format!("{loss:?}, {fisher:?}");
        let layer = learner.layer(1, 0).unwrap();
        assert_eq!(layer.output_is_diagonal(), diagonal, "{case}");
        assert!((turned(&layer) == 0.0) == diagonal, "{case}");
        assert!(!learner.layer(0, 0).unwrap().output_is_diagonal(), "{case}");
        learner.set_config(config(Fisher::Empirical)).unwrap();
        for _ in 0..4 {
            let (inputs, targets) = (draws.matrix(16, BATCH), vec![0.2; 5 * BATCH]);
            learner.step(inputs.as_slice(), Targets::Values(&targets)).unwrap();
        }
        assert!(!learner.layer(1, 0).unwrap().output_is_diagonal(), "{case}");
        assert!(turned(&learner.layer(1, 0).unwrap()) > 0.0, "{case}");
    }
}

/// The state tells by itself: a run that was resumed goes on to the bit.
#[test]
fn a_resumed_run_goes_on_without_the_products() {
    let net = Net::new(&LAYERS, Loss::Huber(0.7));
    let mut whole = vec![0.0; net.words(BATCH)];
    let mut learner = Learner::new(net, config(Fisher::Sampled), SEED, BATCH, &mut whole).unwrap();
    let mut draws = Draws::new(SEED);
    train(&mut learner, 8, &mut draws);
    let mut resumed = vec![0.0; net.words(BATCH)];
    resumed[..net.state_words()].copy_from_slice(learner.state());
    let mut resumed =
        Learner::resume(net, config(Fisher::Sampled), *learner.progress(), BATCH, &mut resumed).unwrap();
    let mut again = draws.clone();
    train(&mut learner, 8, &mut draws);
    train(&mut resumed, 8, &mut again);
    assert!(resumed.layer(LAST).unwrap().output_is_diagonal());
    assert_eq!(learner.state(), resumed.state());
    assert_eq!(learner.progress(), resumed.progress());
}

/// The shapes of the layers above, which the numbers in these tests repeat.
#[test]
fn the_layers_are_those_of_the_numbers() {
    assert_eq!(*LAYERS[LAST].shape(), Shape::new(7, 5));
    assert_eq!(LINEAR[LAST].activation(), Activation::Identity);
}
