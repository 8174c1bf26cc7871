//! The work of a step of convolutions has a bound, which hard steps come close to.
//!
//! Mutants that this test catches: a pass, a stage or a group that the bound leaves out; the short cut for many samples taken for the
//! other way; locations that are counted once too seldom.

use ekfac::{
    Activation::{Identity, Tanh},
    Adaptation, Config, Estimator, Fisher, Loss, Refresh, Targets,
    convolution::{
        Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Layout, Pooling, Sharing,
    },
};
use ekfac_tests::random::Draws;

const SEED: u64 = 11;
const NETS: usize = 60;
const STEPS: usize = 15;

/// A convolution around which its input is led, a wider one, pooling, and a dense layer.
fn layers(draws: &mut Draws) -> Vec<ConvolutionLayer> {
    let (channels, groups) = (2 * (1 + draws.index(2)), 1 + draws.index(2));
    let (rows, columns) = (3 + draws.index(4), 3 + draws.index(4));
    let same = [Axis::new(rows, 3).padding(1), Axis::new(columns, 1)];
    let mut first = Convolution::new_2d(channels, same, channels);
    let wider =
        [Axis::new(rows, 2).stride(1 + draws.index(2)), Axis::new(columns, 2).padding(draws.index(2))];
    let mut second = Convolution::new_2d(channels, wider, 2 * (1 + draws.index(3))).groups(groups);
    if draws.index(2) == 0 {
        first = first.without_bias();
        second = second.without_bias();
    }
    if draws.index(2) == 0 {
        (first, second) = (first.layout(Layout::ChannelsLast), second.layout(Layout::ChannelsLast));
    }
    let shape = second.output_words();
    let windows = Convolution::depthwise(1, [Axis::new(1, 1), Axis::new(shape, 2)]);
    let pooled = windows.output_words();
    vec![
        ConvolutionLayer::new(first, Tanh),
        ConvolutionLayer::new(first, Identity),
        ConvolutionLayer::add(0, first.output_words(), Tanh),
        ConvolutionLayer::new(second, Tanh),
        ConvolutionLayer::pool(Pooling::Average, windows),
        ConvolutionLayer::dense(pooled, 3, Identity),
    ]
}

/// Tokens, scales and shifts, and channels along them that kernel points share.
fn other_blocks(draws: &mut Draws) -> Vec<ConvolutionLayer> {
    let (length, outputs) = (4 + draws.index(5), 2 * (1 + draws.index(4)));
    let tokens = Convolution::embedding(TOKENS, length, outputs);
    let scales = Convolution::affine(outputs, [1, length]).layout(Layout::ChannelsLast);
    let axis = Axis::new(length, 2 + draws.index(2)).padding(1).stride(1 + draws.index(2));
    let along = Convolution::new_1d(outputs, axis, 2 * (1 + draws.index(3)))
        .groups(1 + draws.index(2))
        .layout(Layout::ChannelsLast)
        .uncorrelated();
    let (scales, along) =
        if draws.index(2) == 0 { (scales.without_bias(), along.without_bias()) } else { (scales, along) };
    vec![
        ConvolutionLayer::new(tokens, Identity),
        ConvolutionLayer::new(scales, Tanh),
        ConvolutionLayer::new(along, Tanh),
        ConvolutionLayer::dense(along.output_words(), 3, Identity),
    ]
}

const TOKENS: usize = 9;

fn config(draws: &mut Draws) -> Config<f64> {
    let plain = Config::default();
    let fisher = [Fisher::Empirical, Fisher::Sampled, Fisher::Exact][draws.index(3)];
    let estimator = [
        Estimator::PerExampleRunning,
        Estimator::PerExampleFresh,
        Estimator::Kronecker,
        Estimator::MeanGradientRunning,
    ][draws.index(4)];
    let refresh = match draws.index(3) {
        0 => Refresh::every(1),
        1 => plain.refresh,
        _ => Refresh::Rotations { per_step: 20, per_line: 0.0, threshold: 0.0 },
    };
    let adaptation = (draws.index(2) == 0).then(|| Adaptation { interval: 1, ..Adaptation::default() });
    let weight_decay = if draws.index(2) == 0 { 0.0 } else { 1e-3 };
    Config { fisher, estimator, refresh, adaptation, weight_decay, ..plain }
}

#[test]
fn no_step_exceeds_its_bound_and_hard_ones_come_near() {
    check(layers, Draws::normal);
}

#[test]
fn nor_does_one_with_other_blocks() {
    check(other_blocks, |draws| draws.index(TOKENS) as f64);
}

/// Steps of nets on inputs of this kind.
fn check(layers: impl Fn(&mut Draws) -> Vec<ConvolutionLayer>, input: impl Fn(&mut Draws) -> f64) {
    println!("seed {SEED}");
    let mut draws = Draws::new(SEED);
    let mut shares = Vec::new();
    for case in 0..NETS {
        let (layers, config) = (layers(&mut draws), config(&mut draws));
        let net = ConvolutionNet::new(&layers, Loss::SoftmaxCrossEntropy);
        if net.check().is_err() || config.check().is_err() {
            continue;
        }
        let (batch, columns) = (1 + draws.index(5), 1 + draws.index(40));
        let sharing = [Sharing::Expand, Sharing::Reduce][draws.index(2)];
        let mut memory = vec![0.0; net.words(batch, columns)];
        let learner = ConvolutionLearner::new(net, config, 3, batch, columns, &mut memory);
        let mut learner = learner.expect("a good net").with_sharing(sharing);
        let bound = learner.most_operations(batch).expect("a batch within the capacity");
        let mut most = 0;
        for _ in 0..STEPS {
            let inputs: Vec<f64> = (0..batch * net.inputs()).map(|_| input(&mut draws)).collect();
            let classes: Vec<u32> = (0..batch).map(|_| draws.index(3) as u32).collect();
            let before = learner.progress().operations;
            learner.step(&inputs, Targets::Classes(&classes)).expect("a step");
            most = most.max(learner.progress().operations - before);
        }
        assert!(
            most <= bound,
            "net {case}, batch {batch}, {sharing:?}: {most} > {bound}, {config:?}, {layers:?}"
        );
        // A solve has its cap of sweeps as the bound, which no solve takes.
        if !matches!(config.refresh, Refresh::Periodic { .. }) {
            shares.push(most as f64 / bound as f64);
        }
    }
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    println!("of {} nets that rotate, the least share of the bound: {least}", shares.len());
    assert!(shares.len() > NETS / 2 && least > 0.6, "the bound is loose: {least}");
}
