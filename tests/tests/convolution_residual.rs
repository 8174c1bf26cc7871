//! Residual additions: the gradient of the loss and the Fisher's scalings, each against finite differences, and calls that are wrong.
//!
//! Mutants that these tests catch: a path around that is lost forward, backward, or for the Fisher's gradients; one of two such
//! paths from the same layer; the gradient of a layer overwritten by the one above where it should be added; the outputs of the
//! layer next to the one that is named; the path's values taken from the wrong examples of a batch.

use ekfac::{
    Activation::{Gelu, Identity, Sigmoid, Tanh},
    Clip, Config, Damping, Error, Fisher, Loss, Outcome, Refresh, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Layout, Pooling},
};
use ekfac_tests::random::Draws;

const WIDE: Axis = Axis::new(4, 3).padding(1);
const STEM: Convolution = Convolution::new_2d(1, [WIDE, Axis::new(5, 3).padding(1)], 2);
const SAME: Convolution = Convolution::new_2d(2, [WIDE, Axis::new(5, 3).padding(1)], 2);
const MAP: usize = SAME.output_words();
/// Two paths around from the stem, one within the other, and a third from the first addition to behind the second.
const NESTED: [ConvolutionLayer; 8] = [
    ConvolutionLayer::new(STEM, Tanh),
    ConvolutionLayer::new(SAME, Gelu),
    ConvolutionLayer::add(0, MAP, Sigmoid),
    ConvolutionLayer::new(SAME.groups(2), Tanh),
    ConvolutionLayer::add(0, MAP, Identity),
    ConvolutionLayer::add(2, MAP, Tanh),
    ConvolutionLayer::pool(
        Pooling::Max,
        Convolution::depthwise(2, [Axis::new(4, 2).stride(2), Axis::new(5, 5)]),
    ),
    ConvolutionLayer::dense(4, 3, Identity),
];
/// The path ends at the output, and begins at a pooling.
const LAST: [ConvolutionLayer; 4] = [
    ConvolutionLayer::new(Convolution::sequence(3, 4, 2).layout(Layout::ChannelsLast), Tanh),
    ConvolutionLayer::pool(
        Pooling::Average,
        Convolution::depthwise(2, [Axis::new(4, 2).stride(2), Axis::new(1, 1)]).layout(Layout::ChannelsLast),
    ),
    ConvolutionLayer::dense(4, 4, Tanh),
    ConvolutionLayer::add(1, 4, Identity),
];
const BATCH: usize = 4;

fn nets(loss: Loss) -> [ConvolutionNet<'static>; 2] {
    [ConvolutionNet::new(&NESTED, loss), ConvolutionNet::new(&LAST, loss)]
}

/// Every weight of every layer, each with the derivative of `value` by it.
fn derivatives(
    learner: &mut ConvolutionLearner<'_, f64>,
    value: impl Fn(&mut ConvolutionLearner<'_, f64>) -> Vec<f64>,
) -> Vec<Vec<f64>> {
    let mut found = Vec::new();
    for layer in 0..learner.net().layers().len() {
        for index in 0..learner.weights(layer).unwrap().len() {
            let weight = learner.weights(layer).unwrap()[index];
            let mut at = |by: f64| {
                learner.weights(layer).unwrap()[index] = weight + by;
                value(learner)
            };
            let (above, below) = (at(1e-5), at(-1e-5));
            learner.weights(layer).unwrap()[index] = weight;
            found.push(above.iter().zip(&below).map(|(above, below)| (above - below) / 2e-5).collect());
        }
    }
    found
}

fn weights(learner: &mut ConvolutionLearner<'_, f64>) -> Vec<f64> {
    (0..learner.net().layers().len()).flat_map(|layer| learner.weights(layer).unwrap().to_vec()).collect()
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    for (seed, fisher) in (0..6).zip([Fisher::Sampled, Fisher::Exact, Fisher::Empirical].into_iter().cycle())
    {
        for net in nets(Loss::SoftmaxCrossEntropy) {
            let mut draws = Draws::new(seed);
            let (inputs, classes) = (draws.list(net.inputs() * BATCH), draws.classes(BATCH, net.outputs()));
            // So large a damping that the step is the gradient over it, and a rate that takes the damping back.
            let config = Config {
                learning_rate: 1e7,
                damping: Damping::Absolute(1e7),
                clip: Clip::None,
                fisher,
                ..Config::paper(1.0, 1.0, 1)
            };
            let mut memory = vec![0.0; net.words(BATCH, 4)];
            let mut learner = ConvolutionLearner::new(net, config, seed, BATCH, 4, &mut memory).unwrap();
            let expected = derivatives(&mut learner, |learner| {
                vec![learner.evaluate(&inputs, Targets::Classes(&classes)).unwrap().loss]
            });
            let before = weights(&mut learner);
            let outcome = learner.step(&inputs, Targets::Classes(&classes)).unwrap().outcome;
            assert_eq!(outcome, Outcome::Applied);
            let after = weights(&mut learner);
            for (index, ((before, after), expected)) in before.iter().zip(after).zip(expected).enumerate() {
                let error = before - after - expected[0];
                assert!(error.abs() <= 1e-6, "seed {seed}, {fisher:?}, weight {index}: {error:e}");
            }
        }
    }
}

/// In a basis that does not turn, with a squared error: S is the mean over the measured examples of the squared derivatives of all
/// outputs, whichever block of the batch was drawn.
#[test]
fn the_scalings_are_squared_derivatives() {
    for seed in 0..6 {
        for net in nets(Loss::SquaredError) {
            let mut draws = Draws::new(seed);
            let inputs = draws.list(net.inputs() * BATCH);
            let targets = draws.list(net.outputs() * BATCH);
            let config = Config {
                fisher: Fisher::Exact,
                statistics_share: 0.5,
                refresh: Refresh::Rotations { per_step: 0, per_line: 0.0, threshold: 1.0 },
                ..Config::default()
            };
            let mut memory = vec![0.0; net.words(BATCH, 4)];
            let mut learner = ConvolutionLearner::new(net, config, seed, BATCH, 4, &mut memory).unwrap();
            // The squares, summed over the outputs, of each example by each weight.
            let squares: Vec<Vec<f64>> = inputs
                .chunks_exact(net.inputs())
                .map(|input| {
                    derivatives(&mut learner, |learner| learner.predict(input).unwrap().to_vec())
                        .iter()
                        .map(|outputs| outputs.iter().map(|derivative| derivative * derivative).sum())
                        .collect()
                })
                .collect();
            learner.step(&inputs, Targets::Values(&targets)).unwrap();
            let mut found = Vec::new();
            for (index, layer) in net.layers().iter().enumerate() {
                let groups = if layer.parameters() > 0 { layer.convolution().group_count() } else { 0 };
                for group in 0..groups {
                    found.extend_from_slice(learner.layer(index, group).unwrap().scalings().as_slice());
                }
            }
            let error = |start: usize| {
                let mean = |index: usize| (squares[start][index] + squares[start + 1][index]) / 2.0;
                let errors = found.iter().enumerate().map(|(index, s)| (s - mean(index)).abs());
                errors.fold(0.0, |sum, error| sum + error)
            };
            let errors = [0, 1, 2].map(error);
            assert!(errors.iter().any(|error| *error <= 1e-6), "seed {seed}: {errors:?}");
        }
    }
}

#[test]
fn an_addition_that_does_not_fit_is_refused() {
    let check = |index: usize, layer| {
        let mut layers = NESTED;
        layers[index] = layer;
        ConvolutionNet::new(&layers, Loss::SquaredError).check()
    };
    let from = |index| Err(Error::OutOfRange { argument: "from", index });
    assert_eq!(check(2, ConvolutionLayer::add(0, MAP, Tanh)), Ok(()));
    // The layer below, itself, one above, and none at all.
    for named in [1, 2, 3, usize::MAX] {
        assert_eq!(check(2, ConvolutionLayer::add(named, MAP, Tanh)), from(2), "{named}");
    }
    let words = |argument, expected, found| Err(Error::Length { argument, expected, found });
    assert_eq!(check(2, ConvolutionLayer::add(0, MAP - 1, Tanh)), words("layer inputs", MAP, MAP - 1));
    let (narrow, mut layers) = (ConvolutionLayer::dense(MAP, 3, Tanh), NESTED);
    (layers[2], layers[3]) = (narrow, ConvolutionLayer::add(0, 3, Tanh));
    let found = ConvolutionNet::new(&layers[..4], Loss::SquaredError).check();
    assert_eq!(found, words("from", 3, MAP));
    let first = [ConvolutionLayer::add(0, 3, Tanh), narrow];
    assert_eq!(ConvolutionNet::new(&first, Loss::SquaredError).check(), from(0));
    assert_eq!(check(2, ConvolutionLayer::add(0, 0, Tanh)), Err(Error::Empty { argument: "length" }));
}

/// Paths around are nothing that a step needs more memory for.
#[test]
fn an_addition_costs_its_maps_and_nothing_else() {
    let layer = ConvolutionLayer::add(0, MAP, Tanh);
    assert_eq!((layer.parameters(), layer.addition(), layer.pooling()), (0, Some(0), None));
    let words = |layers: &[ConvolutionLayer]| ConvolutionNet::new(layers, Loss::SquaredError).words(3, 2);
    assert_eq!(words(&NESTED[..3]), words(&NESTED[..2]) + 4 * MAP * 3);
}
