//! Networks of convolutions: with one location everywhere the dense learner's run, otherwise gradients by finite differences of
//! the loss, the reach by the change of the pre-activations, and calls that are wrong.
//!
//! Mutants that these tests catch: Fisher gradients of the wrong examples, or in the place of the training gradients; a layer's
//! images taken from the wrong layer; a group's weights taken from its neighbour; A's locations counted in the reach; a step that
//! depends on what an earlier one left in the workspace; statistics by other kernels than the learner's.

use allocation_counter::measure;
use ekfac::{
    Activation::{Gelu, Identity, Sigmoid, Tanh},
    Adaptation, Carry, Clip, Config, Coordinates, Damping, Dense, Error, Estimator, Fisher, Learner, Loss,
    Net, Outcome, Progress, Reason, Refresh, Targets,
    convolution::{
        Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Layout, Pooling, Sharing,
    },
};
use ekfac_std::data::{self, digits};
use ekfac_tests::{
    oracle::{bits, largest_difference},
    random::Draws,
    tampered::Tampered,
};
use nalgebra::DMatrix;
use std::sync::atomic::{AtomicUsize, Ordering};

/// 5 inputs to 4, 3, 2 outputs, in both kinds of network.
const DENSE: [Dense; 3] = ekfac::layers![5 => 4 Tanh => 3 Sigmoid => 2 Identity];
const SHARED: [ConvolutionLayer; 3] = [
    ConvolutionLayer::new(Convolution::new_1d(1, Axis::new(5, 5), 4), Tanh),
    ConvolutionLayer::new(Convolution::new_2d(1, [Axis::new(2, 2), Axis::new(2, 2)], 3), Sigmoid),
    ConvolutionLayer::dense(3, 2, Identity),
];

fn column(values: &[f64]) -> DMatrix<f64> {
    DMatrix::from_column_slice(values.len(), 1, values)
}

fn check_dense(config: Config<f64>, batch: usize, sharing: Sharing, seed: u64) {
    let (dense, shared) =
        (Net::new(&DENSE, Loss::SquaredError), ConvolutionNet::new(&SHARED, Loss::SquaredError));
    let mut memory = vec![0.0; dense.words(batch)];
    let mut expected = Learner::new(dense, config, seed, batch, &mut memory).unwrap();
    (0..3).for_each(|layer| expected.set_coordinates(layer, Coordinates::Parameter).unwrap());
    let mut memory = vec![f64::NAN; shared.words(batch, 3)];
    let made = ConvolutionLearner::new(shared, config, seed, batch, 3, &mut memory);
    let mut found = made.unwrap().with_sharing(sharing);
    let mut draws = Draws::new(seed);
    for step in 0..12 {
        let (inputs, targets) = (draws.list(5 * batch), draws.list(2 * batch));
        let (one, other) = (
            found.step(&inputs, Targets::Values(&targets)).unwrap(),
            expected.step(&inputs, Targets::Values(&targets)).unwrap(),
        );
        let at = format!("step {step}, batch {batch}, {sharing:?}, {config:?}");
        assert_eq!((one.outcome, one.held), (other.outcome, other.held), "{at}");
        for (one, other) in [(one.loss, other.loss), (one.shrink, other.shrink)] {
            assert!((one - other).abs() <= 1e-8 * (1.0 + other.abs()), "{at}: {one} for {other}");
        }
        let ratios = (one.reduction_ratio.unwrap_or(0.0), other.reduction_ratio.unwrap_or(0.0));
        assert!((ratios.0 - ratios.1).abs() <= 1e-5 * (1.0 + ratios.1.abs()), "{at}: {ratios:?}");
        let error = largest_difference(&column(found.state()), &column(expected.state()));
        assert!(error <= 1e-6, "{at}: the states differ by {error:e}");
    }
    let counts = |progress: &Progress<f64>| (progress.steps, progress.examples, progress.rotations);
    assert_eq!(counts(found.progress()), counts(expected.progress()));
}

#[test]
fn with_one_location_it_is_the_dense_learner() {
    let default = Config::<f64>::default();
    let adaptation = Some(Adaptation { interval: 2, ..Adaptation::default() });
    let settings = [
        default,
        Config { fisher: Fisher::Empirical, adaptation, weight_decay: 0.1, ..default },
        Config { fisher: Fisher::Exact, ..default },
        Config { fisher: Fisher::Exact, refresh: Refresh::every(1).carrying(Carry::Rebuild), ..default },
        Config { estimator: Estimator::MeanGradientRunning, statistics_period: 2, ..default },
        Config { statistics_share: 1.0, reach: Some(1e-5), momentum: 0.5, ..default },
        Config { estimator: Estimator::Kronecker, damping: Damping::Factored(0.1), ..default },
    ];
    for (index, config) in settings.into_iter().enumerate() {
        for (batch, sharing) in [(1, Sharing::Expand), (24, Sharing::Expand), (24, Sharing::Reduce)] {
            // A solve of rank-deficient factors would be free in its choice of the null space.
            if batch > 1 || matches!(config.refresh, Refresh::Rotations { .. }) {
                check_dense(config, batch, sharing, index as u64);
            }
        }
    }
}

/// Strides, padding, dilation, groups and both layouts, one after another, and a dense layer on top.
const GROUPED: Convolution =
    Convolution::new_2d(2, [Axis::new(5, 3).padding(1), Axis::new(6, 2).stride(2)], 4).groups(2);
const DILATED: Convolution =
    Convolution::new_2d(4, [Axis::new(5, 2).dilation(2), Axis::new(3, 3).padding(1)], 3).without_bias();
const POINTS: Convolution = Convolution::sequence(3, 9, 2).layout(Layout::ChannelsFirst);
const LAYERS: [ConvolutionLayer; 4] = [
    ConvolutionLayer::new(GROUPED, Tanh),
    ConvolutionLayer::new(DILATED, Gelu),
    ConvolutionLayer::new(POINTS, Sigmoid),
    ConvolutionLayer::dense(18, 3, Identity),
];
const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);

/// Windows that overlap, that are padded, and one over the whole image.
const POOLED: [ConvolutionLayer; 5] = [
    ConvolutionLayer::new(Convolution::new_2d(1, [Axis::new(7, 3).padding(1); 2], 2), Tanh),
    ConvolutionLayer::pool(
        Pooling::Max,
        Convolution::depthwise(2, [Axis::new(7, 3).stride(2).padding(1), Axis::new(7, 2).stride(2)]),
    ),
    ConvolutionLayer::new(Convolution::new_2d(2, [Axis::new(4, 2), Axis::new(3, 2)], 3), Gelu),
    ConvolutionLayer::pool(
        Pooling::Average,
        Convolution::depthwise(3, [Axis::new(3, 2).padding(1), Axis::new(2, 2)]),
    ),
    ConvolutionLayer::pool(Pooling::Average, Convolution::depthwise(3, [Axis::new(4, 4), Axis::new(1, 1)])),
];

/// So large a damping that the step is the gradient over it, and a rate that takes the damping back.
fn gradient_descent() -> Config<f64> {
    Config {
        learning_rate: 1e7,
        damping: Damping::Absolute(1e7),
        clip: Clip::None,
        ..Config::paper(1.0, 1.0, 1)
    }
}

fn check_gradient(net: ConvolutionNet<'_>, fisher: Fisher, seed: u64) {
    const BATCH: usize = 4;
    let mut draws = Draws::new(seed);
    let (inputs, classes) = (draws.list(net.inputs() * BATCH), draws.classes(BATCH, 3));
    let mut memory = vec![0.0; net.words(BATCH, 4)];
    let config = Config { fisher, ..gradient_descent() };
    let mut learner = ConvolutionLearner::new(net, config, seed, BATCH, 4, &mut memory).unwrap();
    let layers = net.layers().len();
    let before: Vec<Vec<f64>> = (0..layers).map(|layer| learner.weights(layer).unwrap().to_vec()).collect();
    let mut differences = Vec::new();
    for (layer, weights) in before.iter().enumerate() {
        for (index, weight) in weights.iter().enumerate() {
            let mut loss = |by: f64| {
                learner.weights(layer).unwrap()[index] = weight + by;
                learner.evaluate(&inputs, Targets::Classes(&classes)).unwrap().loss
            };
            differences.push((loss(1e-5) - loss(-1e-5)) / 2e-5);
            learner.weights(layer).unwrap()[index] = *weight;
        }
    }
    let mut gradient = vec![f64::NAN; net.parameters()];
    let loss = learner.mean_gradient(&inputs, Targets::Classes(&classes), &mut gradient).unwrap();
    assert_eq!(loss, learner.evaluate(&inputs, Targets::Classes(&classes)).unwrap().loss);
    let error = largest_difference(&column(&gradient), &column(&differences));
    assert!(error <= 1e-8, "seed {seed}: {error:e}");
    assert_eq!(learner.step(&inputs, Targets::Classes(&classes)).unwrap().outcome, Outcome::Applied);
    let mut taken = Vec::new();
    for (layer, weights) in before.iter().enumerate() {
        let after = learner.weights(layer).unwrap();
        taken.extend(weights.iter().zip(after).map(|(before, after)| before - *after));
    }
    let error = largest_difference(&column(&taken), &column(&differences));
    assert!(error <= 1e-6, "seed {seed}, {fisher:?}: {error:e}");
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    for (seed, fisher) in (0..6).zip([Fisher::Sampled, Fisher::Exact, Fisher::Empirical].into_iter().cycle())
    {
        check_gradient(NET, fisher, seed);
        check_gradient(ConvolutionNet::new(&POOLED, Loss::SoftmaxCrossEntropy), fisher, seed);
    }
}

/// A convolution that changes nothing, and a pooling: every window by its definition, in both layouts.
#[test]
fn pooling_is_that_of_the_definition() {
    let (rows, columns) = (Axis::new(5, 3).stride(2).padding(2), Axis::new(4, 2).dilation(2));
    for (pooling, layout) in [Pooling::Max, Pooling::Average]
        .into_iter()
        .flat_map(|pooling| [(pooling, Layout::ChannelsFirst), (pooling, Layout::ChannelsLast)])
    {
        let windows = Convolution::depthwise(2, [rows, columns]).layout(layout);
        let same = Convolution::depthwise(2, [Axis::new(5, 1), Axis::new(4, 1)]).layout(layout);
        let layers =
            [ConvolutionLayer::new(same.without_bias(), Identity), ConvolutionLayer::pool(pooling, windows)];
        let net = ConvolutionNet::new(&layers, Loss::SquaredError);
        let mut memory = vec![0.0; net.words(1, 1)];
        let mut learner = ConvolutionLearner::new(net, Config::default(), 1, 1, 1, &mut memory).unwrap();
        learner.weights(0).unwrap().fill(1.0);
        assert!(learner.weights(1).unwrap().is_empty());
        let image = Draws::new(8).list(40);
        let found = learner.predict(&image).unwrap().to_vec();
        let [height, width] = [rows.positions(), columns.positions()];
        assert_eq!(found.len(), 2 * height * width);
        let last = layout == Layout::ChannelsLast;
        for (c, y, x) in
            (0..2).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))))
        {
            let mut seen = Vec::new();
            for (i, j) in (0..3).flat_map(|i| (0..2).map(move |j| (i, j))) {
                let (row, column) = ((2 * y + i) as isize - 2, x + 2 * j);
                if (0..5).contains(&row) {
                    let row = row as usize;
                    seen.push(
                        image[if last { (row * 4 + column) * 2 + c } else { (c * 5 + row) * 4 + column }],
                    );
                }
            }
            let expected = match pooling {
                Pooling::Max => seen.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Pooling::Average => seen.iter().sum::<f64>() / seen.len() as f64,
            };
            let place = if last { (y * width + x) * 2 + c } else { (c * height + y) * width + x };
            assert!((found[place] - expected).abs() <= 1e-14, "{pooling:?}, {layout:?}, {c} {y} {x}");
        }
    }
}

/// The reach is the root mean square by which the step's direction changes a pre-activation, over examples and locations.
#[test]
fn the_reach_is_that_of_one_location() {
    const BATCH: usize = 5;
    const FIRST: Convolution = Convolution::new_1d(2, Axis::new(9, 3).padding(1), 3);
    const LAYERS: [ConvolutionLayer; 2] =
        [ConvolutionLayer::new(FIRST, Tanh), ConvolutionLayer::dense(27, 2, Identity)];
    const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SquaredError);
    let mut draws = Draws::new(4);
    let (inputs, targets) = (draws.list(18 * BATCH), draws.list(2 * BATCH));
    // A limit that holds nothing back, so that the reach is measured.
    let config = Config { reach: Some(1e6), ..Config::paper(1e-3, 0.5, 1) };
    let mut memory = vec![0.0; NET.words(BATCH, 4)];
    let mut learner = ConvolutionLearner::new(NET, config, 1, BATCH, 4, &mut memory).unwrap();
    let before = learner.weights(0).unwrap().to_vec();
    learner.step(&inputs, Targets::Values(&targets)).unwrap();
    let direction: Vec<f64> =
        before.iter().zip(learner.weights(0).unwrap()).map(|(x, y)| (x - *y) / 1e-3).collect();
    let mut squares = 0.0;
    for image in inputs.chunks_exact(18) {
        // Without a bias of the image's own, the change of z is linear in the change of W.
        for (output, t) in (0..3).flat_map(|output| (0..9).map(move |t| (output, t))) {
            let mut change = direction[6 * 3 + output];
            for (channel, tap) in (0..2).flat_map(|channel| (0..3_usize).map(move |tap| (channel, tap))) {
                if let Some(place) = (t + tap).checked_sub(1).filter(|place| *place < 9) {
                    change += direction[(channel * 3 + tap) * 3 + output] * image[channel * 9 + place];
                }
            }
            squares += change * change;
        }
    }
    let expected = (squares / (BATCH * 3 * 9) as f64).sqrt();
    let found = learner.layer(0, 0).unwrap().typical_reach();
    assert!((found / expected - 1.0).abs() <= 1e-9, "{found} for {expected}");
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    const BATCH: usize = 3;
    let (mut memory, mut other) = (vec![0.0; NET.words(BATCH, 5)], vec![0.0; NET.words(BATCH, 5)]);
    let mut learner = ConvolutionLearner::new(NET, Config::default(), 9, BATCH, 5, &mut memory).unwrap();
    let mut draws = Draws::new(2);
    let mut batch = || (draws.list(NET.inputs() * BATCH), draws.classes(BATCH, 3));
    for _ in 0..6 {
        let (inputs, classes) = batch();
        learner.step(&inputs, Targets::Classes(&classes)).unwrap();
    }
    other[..NET.state_words()].copy_from_slice(learner.state());
    // Nothing of the workspace may matter.
    other[NET.state_words()..].fill(f64::NAN);
    let mut resumed =
        ConvolutionLearner::resume(NET, Config::default(), *learner.progress(), BATCH, 5, &mut other)
            .unwrap();
    for _ in 0..6 {
        let (inputs, classes) = batch();
        let [one, two] = [&mut learner, &mut resumed]
            .map(|learner| learner.step(&inputs, Targets::Classes(&classes)).unwrap());
        assert_eq!(one, two);
        assert_eq!(bits(learner.state()), bits(resumed.state()));
    }
}

#[test]
fn wrong_calls_and_bad_data_change_nothing() {
    const BATCH: usize = 2;
    let words = NET.words(BATCH, 1);
    let mut memory = vec![0.0; words];
    let open = |net, config, capacity, columns, memory: &mut [f64]| {
        ConvolutionLearner::new(net, config, 1, capacity, columns, memory).err()
    };
    let good = Config::<f64>::default();
    assert_eq!(open(NET, good, 0, 1, &mut memory), Some(Error::Empty { argument: "capacity" }));
    assert_eq!(open(NET, good, 1, 0, &mut memory), Some(Error::Empty { argument: "columns" }));
    let short = Error::Length { argument: "memory", expected: words, found: words - 1 };
    assert_eq!(open(NET, good, BATCH, 1, &mut memory[1..]), Some(short));
    let bad = Config { momentum: 1.0, ..good };
    assert_eq!(open(NET, bad, 1, 1, &mut memory), Some(Error::OutOfRange { argument: "momentum", index: 0 }));
    let none = ConvolutionNet::new(&[], Loss::SquaredError);
    assert_eq!(open(none, good, 1, 1, &mut memory), Some(Error::Empty { argument: "layers" }));
    let alone = [POOLED[1]];
    let alone = ConvolutionNet::new(&alone, Loss::SquaredError);
    assert_eq!(open(alone, good, 1, 1, &mut memory), Some(Error::Empty { argument: "weights" }));
    let mixed = [LAYERS[0], ConvolutionLayer::pool(Pooling::Max, DILATED)];
    let mixed = ConvolutionNet::new(&mixed, Loss::SquaredError);
    assert_eq!(
        open(mixed, good, 1, 1, &mut memory),
        Some(Error::OutOfRange { argument: "groups", index: 0 })
    );
    let apart = [LAYERS[0], LAYERS[2]];
    let apart = ConvolutionNet::new(&apart, Loss::SquaredError);
    let expected = Error::Length { argument: "layer inputs", expected: 60, found: 27 };
    assert_eq!(open(apart, good, 1, 1, &mut memory), Some(expected));
    assert!(memory.iter().all(|word| *word == 0.0), "a refused learner writes nothing");

    let mut learner = ConvolutionLearner::new(NET, good, 1, BATCH, 1, &mut memory).unwrap();
    let width = NET.inputs();
    let (inputs, classes) = (Draws::new(1).list(width * 3), [0, 2, 1]);
    let (state, progress) = (bits(learner.state()), *learner.progress());
    let length = |argument, expected, found| Some(Error::Length { argument, expected, found });
    let step = |learner: &mut ConvolutionLearner<'_, f64>, inputs: &[f64], classes: &[u32]| {
        learner.step(inputs, Targets::Classes(classes)).err()
    };
    assert_eq!(step(&mut learner, &inputs, &classes), length("inputs", 2 * width, 3 * width));
    assert_eq!(step(&mut learner, &inputs[1..width], &[1]), length("inputs", width, width - 1));
    assert_eq!(step(&mut learner, &[], &[]), Some(Error::Empty { argument: "inputs" }));
    assert!(step(&mut learner, &inputs[..width], &[3]).is_some(), "there are three classes");
    assert_eq!(learner.predict(&inputs[1..width]).err(), length("input", width, width - 1));
    assert!(learner.evaluate(&inputs, Targets::Classes(&classes)).is_ok(), "in parts");
    let missing = |argument, index| Some(Error::OutOfRange { argument, index });
    assert_eq!(learner.weights(4).err(), missing("layer", 4));
    assert_eq!(learner.layer(4, 0).err(), missing("layer", 4));
    assert_eq!(learner.layer(0, 2).err(), missing("group", 2));
    assert_eq!((bits(learner.state()), *learner.progress()), (state.clone(), progress));

    let mut poisoned = inputs[..2 * width].to_vec();
    poisoned[width + 3] = f64::NAN;
    let skipped = learner.step(&poisoned, Targets::Classes(&classes[..2])).unwrap().outcome;
    let reason = Reason::NonFinite { layer: 0, argument: "activations", index: width + 3 };
    assert_eq!(skipped, Outcome::Skipped(reason));
    poisoned[width + 3] = 1e300;
    let skipped = learner.step(&poisoned, Targets::Classes(&classes[..2])).unwrap().outcome;
    assert!(matches!(skipped, Outcome::Skipped(_)), "{skipped:?}");
    assert_eq!(bits(learner.state()), state);
    let counts = Progress { operations: learner.progress().operations, skipped: 2, ..progress };
    assert_eq!(*learner.progress(), counts);
}

#[test]
fn a_learner_of_convolutions_allocates_nothing() {
    const BATCH: usize = 4;
    let mut draws = Draws::new(3);
    let (inputs, classes) = (draws.list(NET.inputs() * BATCH), draws.classes(BATCH, 3));
    let mut memory = vec![0.0; NET.words(BATCH, 8)];
    for fisher in [Fisher::Sampled, Fisher::Exact, Fisher::Empirical] {
        let config = Config { fisher, adaptation: Some(Adaptation::default()), ..Config::default() };
        let seen = measure(|| {
            let mut learner = ConvolutionLearner::new(NET, config, 1, BATCH, 8, &mut memory).expect("a net");
            for _ in 0..100 {
                learner.step(&inputs, Targets::Classes(&classes)).expect("a batch");
            }
            learner.predict(&inputs[..NET.inputs()]).expect("an input");
        });
        assert_eq!((seen.count_total, seen.bytes_total), (0, 0), "{fisher:?}");
    }
}

/// The default setting on the digits: 8 x 8, 6 maps of 8 x 8, 12 of 4 x 4, 10 classes.
#[test]
fn the_default_learns_the_digits() {
    const WIDE: Axis = Axis::new(8, 3).padding(1);
    const FIRST: Convolution = Convolution::new_2d(1, [WIDE; 2], 6);
    const SECOND: Convolution = Convolution::new_2d(6, [WIDE.stride(2); 2], 12);
    const LAYERS: [ConvolutionLayer; 3] = [
        ConvolutionLayer::new(FIRST, Tanh),
        ConvolutionLayer::new(SECOND, Tanh),
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
        assert!(losses[4] <= 0.01, "{sharing:?}: {losses:?}");
    }
}

/// The corridor's products are those of the learner's kernels, and not core's own behind them.
#[test]
fn the_statistics_are_those_of_the_kernels() {
    const BATCH: usize = 2;
    let mut draws = Draws::new(4);
    let (inputs, classes) = (draws.list(NET.inputs() * BATCH), draws.classes(BATCH, 3));
    let mut memory = vec![0.0; NET.words(BATCH, 8)];
    let updates = AtomicUsize::new(0);
    let factor = |_: &mut [f64]| {
        updates.fetch_add(1, Ordering::Relaxed);
    };
    let kernels = Tampered { factor, scalings: true };
    let learner = ConvolutionLearner::new(NET, Config::default(), 1, BATCH, 8, &mut memory);
    let mut learner = learner.expect("a net").with_kernels(&kernels);
    learner.step(&inputs, Targets::Classes(&classes)).expect("a batch");
    let groups: usize = NET.layers().iter().filter(|layer| layer.pooling().is_none()).count();
    assert!(updates.into_inner() >= 2 * groups, "two factors a layer");
}
