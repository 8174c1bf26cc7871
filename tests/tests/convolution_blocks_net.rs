//! Networks whose layers have blocks beside the full one: gradients by finite differences of the loss, the velocity in a basis that
//! turns, the reach, resumption, wrong calls, and that they learn.
//!
//! Mutants that these tests catch: a gradient handed below a scale without it; the step turned back along the wrong lines; a velocity
//! that does not turn along; shifts that decay, or scales that do not; a token beyond the vocabulary that is read; an embedding above
//! another layer; what the workspace held before; an embedding drawn as if all tokens came at once.

use ekfac::{
    Activation::{Gelu, Identity, Tanh},
    Clip, Config, Damping, Dense, Error, Estimator, Fisher, Loss, MatrixMut, MatrixRef, Net, Outcome,
    Preconditioner, Progress, Reference, Refresh, Targets,
    convolution::{
        Axis, Block, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet,
        ConvolutionPreconditioner, Layout, Pooling, Sharing,
    },
    layer::StaticLayer,
};
use ekfac_std::{
    data::{self, digits},
    offload::{DevicePreconditioner, Fault},
};
use ekfac_tests::{
    oracle::{bits, convolution::Plan, dense, largest_difference},
    plain::Plain,
    random::Draws,
};
use nalgebra::DMatrix;

const VOCABULARY: usize = 7;
const LENGTH: usize = 6;
const TOKENS: Convolution = Convolution::embedding(VOCABULARY, LENGTH, 4);
const SCALES: Convolution = Convolution::affine(4, [1, LENGTH]).layout(Layout::ChannelsLast);
const ALONG: Convolution = Convolution::new_1d(4, Axis::new(LENGTH, 3).padding(1), 4)
    .groups(2)
    .layout(Layout::ChannelsLast)
    .uncorrelated();
/// Without shifts.
const SIZES: Convolution = Convolution::affine(4, [1, LENGTH]).layout(Layout::ChannelsLast).without_bias();
const LAYERS: [ConvolutionLayer; 5] = [
    ConvolutionLayer::new(TOKENS, Identity),
    ConvolutionLayer::new(SCALES, Tanh),
    ConvolutionLayer::new(ALONG, Gelu),
    ConvolutionLayer::new(SIZES, Identity),
    ConvolutionLayer::dense(4 * LENGTH, 3, Identity),
];
const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
const BATCH: usize = 5;

/// Images, with a scale and a shift on the images themselves, and two more in the other layout.
const IMAGES: [ConvolutionLayer; 4] = [
    ConvolutionLayer::new(Convolution::affine(2, [4, 5]), Identity),
    ConvolutionLayer::new(
        Convolution::new_2d(2, [Axis::new(4, 2).padding(1), Axis::new(5, 3).stride(2)], 3).uncorrelated(),
        Tanh,
    ),
    ConvolutionLayer::new(Convolution::affine(3, [5, 2]), Tanh),
    ConvolutionLayer::dense(30, 3, Identity),
];

fn column(values: &[f64]) -> DMatrix<f64> {
    DMatrix::from_column_slice(values.len(), 1, values)
}

fn some_inputs(net: &ConvolutionNet<'_>, draws: &mut Draws) -> Vec<f64> {
    if net.layers()[0].block() == Some(Block::DiagonalInput) {
        (0..net.inputs() * BATCH).map(|_| draws.index(VOCABULARY) as f64).collect()
    } else {
        draws.list(net.inputs() * BATCH)
    }
}

/// Scales and shifts like any others.
fn draw_weights(learner: &mut ConvolutionLearner<'_, f64>, draws: &mut Draws) -> Vec<f64> {
    learner.iter_weights().flatten().for_each(|weight| *weight = 0.5 * draws.normal());
    learner.iter_weights().flat_map(|weights| weights.to_vec()).collect()
}

fn weights(learner: &mut ConvolutionLearner<'_, f64>) -> Vec<f64> {
    learner.iter_weights().flat_map(|weights| weights.to_vec()).collect()
}

/// So large a damping that the step is the gradient over it, and a rate that takes the damping back.
fn gradient_descent() -> Config<f64> {
    let damping = Damping::Absolute(1e7);
    Config { learning_rate: 1e7, damping, clip: Clip::None, reach: None, ..Config::default() }
}

fn check_gradient(net: ConvolutionNet<'_>, fisher: Fisher, seed: u64) {
    let mut draws = Draws::new(seed);
    let (inputs, classes) = (some_inputs(&net, &mut draws), draws.classes(BATCH, 3));
    let mut memory = vec![0.0; net.words(BATCH, 4)];
    let config = Config { fisher, momentum: 0.0, ..gradient_descent() };
    let mut learner = ConvolutionLearner::new(net, config, seed, BATCH, 4, &mut memory).unwrap();
    let before = draw_weights(&mut learner, &mut draws);
    let mut differences = Vec::new();
    for (index, weight) in before.iter().enumerate() {
        let mut loss = |by: f64| {
            *learner.iter_weights().flatten().nth(index).unwrap() = weight + by;
            learner.evaluate(&inputs, Targets::Classes(&classes)).unwrap().loss
        };
        differences.push((loss(1e-5) - loss(-1e-5)) / 2e-5);
        loss(0.0);
    }
    let mut gradient = vec![f64::NAN; net.parameters()];
    learner.mean_gradient(&inputs, Targets::Classes(&classes), &mut gradient).unwrap();
    let error = largest_difference(&column(&gradient), &column(&differences));
    assert!(error <= 1e-8, "seed {seed}: {error:e}");
    assert_eq!(learner.step(&inputs, Targets::Classes(&classes)).unwrap().outcome, Outcome::Applied);
    let taken: Vec<f64> = before.iter().zip(weights(&mut learner)).map(|(x, y)| x - y).collect();
    let error = largest_difference(&column(&taken), &column(&differences));
    assert!(error <= 1e-6, "seed {seed}, {fisher:?}: {error:e}");
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    for (seed, fisher) in (0..6).zip([Fisher::Sampled, Fisher::Exact, Fisher::Empirical].into_iter().cycle())
    {
        check_gradient(NET, fisher, seed);
        check_gradient(ConvolutionNet::new(&IMAGES, Loss::SoftmaxCrossEntropy), fisher, seed);
    }
}

/// Descent with momentum in parameter coordinates, while every step turns the bases in which the velocity is held.
fn check_velocity(net: ConvolutionNet<'_>, refresh: Refresh<f64>, seed: u64) {
    const RATE: f64 = 0.05;
    let mut draws = Draws::new(seed);
    let mut memory = vec![0.0; net.words(BATCH, 4)];
    let config = Config {
        learning_rate: RATE * 1e7,
        momentum: 0.7,
        restart: false,
        weight_decay: 1e-3 / (RATE * 1e7),
        refresh,
        ..gradient_descent()
    };
    let mut learner = ConvolutionLearner::new(net, config, seed, BATCH, 4, &mut memory).unwrap();
    let mut expected = draw_weights(&mut learner, &mut draws);
    let mut velocity = vec![0.0; expected.len()];
    let decays: Vec<bool> = net.layers().iter().flat_map(|layer| decaying(layer.convolution())).collect();
    let mut rotations = 0;
    for step in 0..10 {
        let (inputs, classes) = (some_inputs(&net, &mut draws), draws.classes(BATCH, 3));
        let mut gradient = vec![0.0; net.parameters()];
        learner.mean_gradient(&inputs, Targets::Classes(&classes), &mut gradient).unwrap();
        for (((w, v), g), decays) in expected.iter_mut().zip(&mut velocity).zip(&gradient).zip(&decays) {
            *v = 0.7 * *v + g;
            *w = if *decays { *w * (1.0 - 1e-3) } else { *w } - RATE * *v;
        }
        assert_eq!(learner.step(&inputs, Targets::Classes(&classes)).unwrap().outcome, Outcome::Applied);
        let error = largest_difference(&column(&weights(&mut learner)), &column(&expected));
        assert!(error <= 1e-6, "seed {seed}, step {step}: {error:e}");
        assert!(step == 0 || learner.progress().rotations > rotations, "the basis stands still");
        rotations = learner.progress().rotations;
    }
}

/// Which of its weights decay: all but biases.
fn decaying(layer: &Convolution) -> Vec<bool> {
    let shape = layer.shape();
    let of_group = |index: usize| match layer.block() {
        Block::Diagonal => index < layer.output_words() / layer.locations(),
        _ => index < shape.inputs() * shape.rows(),
    };
    (0..layer.parameters()).map(|index| of_group(index % shape.parameters())).collect()
}

#[test]
fn the_velocity_turns_with_its_basis() {
    let rotations = Refresh::Rotations { per_step: 5, per_line: 0.0, threshold: 0.0 };
    for (seed, refresh) in (0..6).zip([rotations, Refresh::every(1)].into_iter().cycle()) {
        check_velocity(NET, refresh, seed);
        check_velocity(ConvolutionNet::new(&IMAGES, Loss::SoftmaxCrossEntropy), refresh, seed);
    }
}

/// The reach of a first step's direction D: exact where A is, and by A's own form where kernel points share a factor.
#[test]
fn the_reach_is_the_change_of_a_pre_activation() {
    for (seed, sharing) in (0..10).flat_map(|seed| [(seed, Sharing::Expand), (seed, Sharing::Reduce)]) {
        let mut draws = Draws::new(seed);
        let plan = Plan {
            channels: 3,
            outputs: 3,
            size: [4, 5],
            kernel: [2, 3],
            stride: [1, 2],
            padding: [1, 0],
            dilation: [1, 1],
            groups: 1,
            bias: true,
            channels_last: false,
        };
        let scales = Convolution::affine(3, plan.size);
        for layer in [plan.convolution().uncorrelated(), scales, TOKENS] {
            let words = layer.output_words();
            let layers = [ConvolutionLayer::new(layer, Tanh), ConvolutionLayer::dense(words, 2, Identity)];
            let net = ConvolutionNet::new(&layers, Loss::SquaredError);
            let (inputs, targets) = (some_inputs(&net, &mut draws), draws.list(2 * BATCH));
            let config = Config { reach: Some(1e6), statistics_share: 1.0, ..Config::paper(1e-3, 0.5, 1) };
            let mut memory = vec![0.0; net.words(BATCH, 4)];
            let mut learner =
                ConvolutionLearner::new(net, config, 1, BATCH, 4, &mut memory).unwrap().with_sharing(sharing);
            let before = learner.weights(0).unwrap().to_vec();
            learner.step(&inputs, Targets::Values(&targets)).unwrap();
            let after = learner.weights(0).unwrap().to_vec();
            let direction: Vec<f64> = before.iter().zip(&after).map(|(x, y)| (x - y) / 1e-3).collect();
            let found = learner.layer(0, 0).unwrap().typical_reach();
            let images = DMatrix::from_column_slice(layer.input_words(), BATCH, &inputs);
            let squares = match layer.block() {
                Block::Uncorrelated => {
                    let (a, _) = plan.factors(0, &images, &DMatrix::zeros(words, BATCH), sharing);
                    let bias = a[(plan.patch(), plan.patch())];
                    let a = plan.at_each_point(&plan.shared_factor(&a), bias);
                    let d = DMatrix::from_column_slice(plan.rows(), plan.lines(), &direction);
                    let each = if sharing == Sharing::Expand { layer.locations() } else { 1 };
                    (&d * a * d.transpose()).trace() / (3 * each) as f64
                }
                // A mean patch has no exact counterpart; by what stands in the place of A.
                Block::DiagonalInput if sharing == Sharing::Reduce => {
                    let state = learner.layer(0, 0).unwrap();
                    let columns = direction.chunks_exact(4).zip(state.input_moments());
                    columns.map(|(d, a)| a * d.iter().map(|d| d * d).sum::<f64>()).sum::<f64>() / 4.0
                }
                _ => {
                    let out = |weights: &[f64]| {
                        let mut out = DMatrix::zeros(words, BATCH);
                        layer
                            .forward(
                                &Reference,
                                weights,
                                MatrixRef::from(&images),
                                MatrixMut::from(&mut out),
                                &mut [0.0; 0],
                            )
                            .unwrap();
                        out
                    };
                    out(&direction).norm_squared() / (words * BATCH) as f64
                }
            };
            let error = found / squares.sqrt() - 1.0;
            assert!(error.abs() <= 1e-8, "{:?}, {sharing:?}: {found} for {}", layer.block(), squares.sqrt());
        }
    }
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    for estimator in [Estimator::PerExampleRunning, Estimator::Kronecker, Estimator::MeanGradientRunning] {
        let config = Config { estimator, statistics_share: 0.5, ..Config::default() };
        let (mut memory, mut other) = (vec![0.0; NET.words(BATCH, 5)], vec![0.0; NET.words(BATCH, 5)]);
        let mut learner = ConvolutionLearner::new(NET, config, 9, BATCH, 5, &mut memory).unwrap();
        let mut draws = Draws::new(2);
        let mut batch = || (some_inputs(&NET, &mut draws), draws.classes(BATCH, 3));
        for _ in 0..6 {
            let (inputs, classes) = batch();
            learner.step(&inputs, Targets::Classes(&classes)).unwrap();
        }
        other[..NET.state_words()].copy_from_slice(learner.state());
        // Nothing of the workspace may matter.
        other[NET.state_words()..].fill(f64::NAN);
        let progress = *learner.progress();
        let mut resumed = ConvolutionLearner::resume(NET, config, progress, BATCH, 5, &mut other).unwrap();
        for _ in 0..6 {
            let (inputs, classes) = batch();
            let [one, two] = [&mut learner, &mut resumed]
                .map(|learner| learner.step(&inputs, Targets::Classes(&classes)).unwrap());
            assert_eq!((one, one.outcome), (two, Outcome::Applied));
            assert_eq!(bits(learner.state()), bits(resumed.state()));
        }
    }
}

const BAD_TOKENS: [f64; 6] = [-1.0, VOCABULARY as f64, 0.5, f64::NAN, f64::INFINITY, 1e300];

#[test]
fn a_bad_token_is_an_error_and_writes_nothing() {
    let mut memory = vec![0.0; NET.words(BATCH, 5)];
    let mut learner = ConvolutionLearner::new(NET, Config::default(), 9, BATCH, 5, &mut memory).unwrap();
    let mut draws = Draws::new(2);
    let (inputs, classes) = (some_inputs(&NET, &mut draws), draws.classes(BATCH, 3));
    learner.step(&inputs, Targets::Classes(&classes)).unwrap();
    let (state, progress) = (bits(learner.state()), *learner.progress());
    let index = LENGTH + 2;
    for bad in BAD_TOKENS {
        let mut poisoned = inputs.clone();
        poisoned[index] = bad;
        let targets = || Targets::Classes(&classes);
        let expected = Some(Error::OutOfRange { argument: "inputs", index });
        assert_eq!(learner.step(&poisoned, targets()).err(), expected, "{bad}");
        assert_eq!(learner.evaluate(&poisoned, targets()).err(), expected, "{bad}");
        let mut gradient = vec![7.0; NET.parameters()];
        assert_eq!(learner.mean_gradient(&poisoned, targets(), &mut gradient).err(), expected, "{bad}");
        assert!(gradient.iter().all(|word| *word == 7.0));
        let expected = Some(Error::OutOfRange { argument: "inputs", index: 2 });
        assert_eq!(learner.predict(&poisoned[LENGTH..2 * LENGTH]).err(), expected, "{bad}");

        let images = DMatrix::from_column_slice(LENGTH, BATCH, &poisoned);
        let images = MatrixRef::from(&images);
        let expected = Some(Error::OutOfRange { argument: "images", index });
        let maps = DMatrix::from_element(TOKENS.output_words(), BATCH, 1.0);
        let weights = vec![1.0; TOKENS.parameters()];
        let mut out = DMatrix::from_element(TOKENS.output_words(), BATCH, 7.0);
        let into = MatrixMut::from(&mut out);
        assert_eq!(TOKENS.forward(&Reference, &weights, images, into, &mut []).err(), expected);
        assert!(out.iter().all(|word| *word == 7.0));
        let mut gradient = vec![7.0; TOKENS.parameters()];
        let found = TOKENS.mean_gradient(&Reference, images, MatrixRef::from(&maps), &mut gradient, &mut []);
        assert_eq!(found.err(), expected);
        assert!(gradient.iter().all(|word| *word == 7.0));
        let (config, mut progress) = (Config::default(), Progress::new(0));
        let mut state = vec![0.0; TOKENS.state_words()];
        let mut workspace = vec![0.0; ConvolutionPreconditioner::<f64>::workspace_words(&TOKENS, 2)];
        let mut layer =
            ConvolutionPreconditioner::new(TOKENS, &mut state, &config, &mut progress, &mut workspace)
                .unwrap();
        assert_eq!(layer.observe(images, MatrixRef::from(&maps)).err(), expected);
        assert!(layer.layer(0).unwrap().input_moments().iter().all(|word| *word == 0.0));
    }
    assert_eq!((bits(learner.state()), *learner.progress()), (state, progress));
    // The largest token is one, and -0 is 0.
    assert!(learner.predict(&[VOCABULARY as f64 - 1.0, -0.0, 0.0, 0.0, 0.0, 0.0]).is_ok());
}

#[test]
fn what_a_kind_does_not_have_is_refused() {
    let refused = |layers: &[ConvolutionLayer]| ConvolutionNet::new(layers, Loss::SquaredError).check().err();
    let raised = [ConvolutionLayer::dense(6, LENGTH, Identity), LAYERS[0]];
    assert_eq!(refused(&raised), Some(Error::OutOfRange { argument: "embedding", index: 1 }));
    let groups = Some(Error::OutOfRange { argument: "groups", index: 0 });
    assert_eq!(SCALES.groups(2).check().err(), groups);
    assert_eq!(TOKENS.groups(2).check().err(), groups);
    let windows = Convolution::affine(1, [1, LENGTH]);
    let pooled = [LAYERS[0], ConvolutionLayer::pool(Pooling::Max, windows)];
    assert!(refused(&pooled).is_some(), "scales are no windows");
    let empty = |argument| Some(Error::Empty { argument });
    assert_eq!(Convolution::embedding(0, 2, 2).check().err(), empty("vocabulary"));
    assert_eq!(Convolution::embedding(2, 2, 0).check().err(), empty("outputs"));
    assert_eq!(Convolution::affine(0, [2, 2]).check().err(), empty("channels"));
    let large = Some(Error::SizeOverflow { argument: "vocabulary" });
    assert_eq!(Convolution::embedding((1 << 24) + 1, 2, 2).check().err(), large);
    assert_eq!(Convolution::embedding(1 << 24, 2, 2).check().err(), None);
    // What is nothing but a convolution stays full, and other kinds what they are.
    assert_eq!(Convolution::sequence(3, 4, 2).uncorrelated().block(), Block::Full);
    assert_eq!((TOKENS.uncorrelated(), SCALES.uncorrelated()), (TOKENS, SCALES));
    assert_eq!(
        LAYERS.map(|layer| layer.block()),
        [
            Some(Block::DiagonalInput),
            Some(Block::Diagonal),
            Some(Block::Uncorrelated),
            Some(Block::Diagonal),
            Some(Block::Full),
        ]
    );
    assert_eq!(ConvolutionLayer::add(0, 4, Identity).block(), None);
    // A preconditioner of dense layers does not know what to do with such a shape.
    let mut layer: StaticLayer<f64, { ALONG.shape().words() }> = StaticLayer::new(ALONG.shape());
    let (config, mut progress) = (Config::default(), Progress::new(0));
    let mut workspace = vec![0.0; Preconditioner::<f64>::workspace_words(&ALONG.shape(), 1)];
    let mut layer = Preconditioner::new(layer.view().unwrap(), &config, &mut progress, &mut workspace);
    let (a, g) = (DMatrix::zeros(6, 1), DMatrix::zeros(2, 1));
    let shape = Some(Error::OutOfRange { argument: "shape", index: 0 });
    assert_eq!(layer.observe(MatrixRef::from(&a), MatrixRef::from(&g)).err(), shape);
    // Nor does a network of them, nor a layer on a device.
    let layers = [Dense::with_shape(ALONG.shape(), Tanh)];
    assert_eq!(Net::new(&layers, Loss::SquaredError).check().err(), shape);
    let device = DevicePreconditioner::new(Plain, ALONG.shape(), 1, &mut vec![0.0; ALONG.shape().words()]);
    assert_eq!(device.err(), shape.map(Fault::Call));
}

/// Scales over an image of ones: the diagonal block of any parameters whose gradient of each example is known.
#[test]
fn any_parameters_have_a_diagonal_block() {
    const OWN: Convolution = Convolution::affine(9, [1, 1]).without_bias();
    let mut draws = Draws::new(3);
    let (ones, gradients) = (DMatrix::from_element(9, 4, 1.0), draws.matrix(9, 4));
    let (config, mut progress) = (Config::paper(1.0, 0.5, 1), Progress::new(0));
    let mut state = [0.0; OWN.state_words()];
    let mut workspace = [0.0; ConvolutionPreconditioner::<f64>::workspace_words(&OWN, 1)];
    let made = ConvolutionPreconditioner::new(OWN, &mut state, &config, &mut progress, &mut workspace);
    let mut layer = made.unwrap();
    layer.observe(MatrixRef::from(&ones), MatrixRef::from(&gradients)).unwrap();
    let (gradient, mut natural) = (gradients.column_mean(), [0.0; 9]);
    layer.precondition(gradient.as_slice(), &mut natural).unwrap();
    let squares = gradients.component_mul(&gradients).column_mean();
    let expected = gradient.zip_map(&squares, |g, s| g / (s + 0.5));
    assert!(largest_difference(&column(&natural), &column(expected.as_slice())) <= 1e-15);
    assert_eq!(dense(layer.layer(0).unwrap().scalings()).shape(), (1, 9));
}

/// Scales are 1, shifts 0, and what stands for a token is as large as what a unit of one input would give.
#[test]
fn a_fresh_net_begins_where_it_should() {
    let mut memory = vec![0.0; NET.words(1, 1)];
    let mut learner = ConvolutionLearner::new(NET, Config::default(), 1, 1, 1, &mut memory).unwrap();
    assert_eq!(learner.weights(1).unwrap(), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(learner.weights(3).unwrap(), [1.0; 4]);
    let tokens = learner.weights(0).unwrap();
    let (bound, largest) =
        ((6.0_f64 / 5.0).sqrt(), tokens.iter().fold(0.0_f64, |most, w: &f64| most.max(w.abs())));
    assert!(largest <= bound && largest >= 0.7 * bound, "{largest} of {bound}");
}

/// Sequences whose class is that of their most frequent kind of token, which no single place tells.
#[test]
fn an_embedding_learns() {
    const LAYERS: [ConvolutionLayer; 3] = [
        ConvolutionLayer::new(Convolution::embedding(12, 9, 5), Identity),
        ConvolutionLayer::new(
            Convolution::new_1d(5, Axis::new(9, 3), 6).layout(Layout::ChannelsLast).uncorrelated(),
            Tanh,
        ),
        ConvolutionLayer::dense(6 * 7, 3, Identity),
    ];
    const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
    const BATCH: usize = 20;
    for sharing in [Sharing::Expand, Sharing::Reduce] {
        let mut memory = vec![0.0_f32; NET.words(BATCH, 16)];
        let made = ConvolutionLearner::new(NET, Config::default(), 1, BATCH, 16, &mut memory);
        let mut learner = made.unwrap().with_sharing(sharing);
        let mut draws = Draws::new(6);
        let mut batch = |count: usize| {
            let (mut tokens, mut classes) = (vec![], vec![]);
            for _ in 0..count {
                let example: Vec<usize> = (0..9).map(|_| draws.index(12)).collect();
                let often = |kind: usize| example.iter().filter(|token| **token % 3 == kind).count();
                classes.push((0..3).max_by_key(|kind| often(*kind)).unwrap() as u32);
                tokens.extend(example.iter().map(|token| *token as f32));
            }
            (tokens, classes)
        };
        let (tokens, classes) = batch(500);
        let before = learner.evaluate(&tokens, Targets::Classes(&classes)).unwrap();
        for _ in 0..200 {
            let (tokens, classes) = batch(BATCH);
            let step = learner.step(&tokens, Targets::Classes(&classes)).unwrap();
            assert_eq!(step.outcome, Outcome::Applied);
        }
        let after = learner.evaluate(&tokens, Targets::Classes(&classes)).unwrap();
        println!("{sharing:?}: {:.4} to {:.4}, {:?} right", before.loss, after.loss, after.correct);
        assert!(after.loss <= 0.3 * before.loss, "{sharing:?}: {before:?}, {after:?}");
    }
}

/// The digits by the default setting: maps whose kernel points are uncorrelated, each scaled and shifted.
#[test]
fn uncorrelated_maps_and_scales_learn_the_digits() {
    const WIDE: Axis = Axis::new(8, 3).padding(1);
    const LAYERS: [ConvolutionLayer; 5] = [
        ConvolutionLayer::new(Convolution::new_2d(1, [WIDE; 2], 6).uncorrelated(), Identity),
        ConvolutionLayer::new(Convolution::affine(6, [8, 8]), Tanh),
        ConvolutionLayer::new(Convolution::new_2d(6, [WIDE.stride(2); 2], 12).uncorrelated(), Identity),
        ConvolutionLayer::new(Convolution::affine(12, [4, 4]), Tanh),
        ConvolutionLayer::dense(12 * 16, 10, Identity),
    ];
    const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
    const BATCH: usize = 50;
    let digits = digits().expect("the digits");
    let data::Targets::Classes { labels, .. } = &digits.targets else { panic!("digits have classes") };
    for sharing in [Sharing::Expand, Sharing::Reduce] {
        let mut memory = vec![0.0_f32; NET.words(BATCH, 64)];
        let made = ConvolutionLearner::new(NET, Config::default(), 1, BATCH, 64, &mut memory);
        let mut learner = made.unwrap().with_sharing(sharing);
        let (mut draws, mut losses) = (Draws::new(1), Vec::new());
        for _ in 0..5 {
            for chosen in draws.permutation(labels.len()).chunks_exact(BATCH) {
                let images: Vec<f32> =
                    chosen.iter().flat_map(|i| digits.inputs[64 * i..64 * (i + 1)].to_vec()).collect();
                let classes: Vec<u32> = chosen.iter().map(|i| labels[*i]).collect();
                let step = learner.step(&images, Targets::Classes(&classes)).unwrap();
                assert_eq!(step.outcome, Outcome::Applied);
            }
            losses.push(learner.evaluate(&digits.inputs, Targets::Classes(labels)).unwrap().loss);
        }
        println!("{sharing:?}: {losses:.4?}, {:?}", learner.progress());
        assert!(losses[4] <= 0.02, "{sharing:?}: {losses:?}");
    }
}
