//! The owner of a network with convolutions: core's steps, the bytes it announces, and columns for the short cut.
//!
//! Mutants that these tests catch: an owner that forgets its sharing, its kernels or its progress; a state that is cut short; a
//! table that leaves groups or poolings out; scratch one column too short for the short cut.

use ekfac::{
    Activation::{Identity, Relu, Tanh},
    Config, Error, Loss, Targets,
    convolution::{
        Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Pooling, Sharing,
    },
};
use ekfac_std::{ConvolutionNetwork, kernels::DeterministicKernels};
use ekfac_tests::{oracle::bits, random::Draws};

const BATCH: usize = 6;

/// Filters in two groups, a pooling, a dense layer along a sequence, classes.
fn layers() -> Vec<ConvolutionLayer> {
    let side = Axis::new(10, 3).padding(1);
    let filters = Convolution::new_2d(2, [side; 2], 8).groups(2);
    let pooling =
        ConvolutionLayer::pool(Pooling::Max, Convolution::depthwise(8, [Axis::new(10, 2).stride(2); 2]));
    let sequence = Convolution::new_2d(8, [Axis::new(5, 1); 2], 6).without_bias();
    let dense = ConvolutionLayer::dense(sequence.output_words(), 3, Identity);
    vec![ConvolutionLayer::new(filters, Tanh), pooling, ConvolutionLayer::new(sequence, Relu), dense]
}

fn network(sharing: Sharing) -> ConvolutionNetwork<f32> {
    let (loss, config) = (Loss::SoftmaxCrossEntropy, Config::default());
    ConvolutionNetwork::new(layers(), loss, config, 3, BATCH).unwrap().deterministic().with_sharing(sharing)
}

/// The batch with this number.
fn batch(number: u64) -> (Vec<f32>, Vec<u32>) {
    let mut draws = Draws::new(number);
    let inputs = draws.list(200 * BATCH).into_iter().map(|value| value as f32).collect();
    (inputs, draws.classes(BATCH, 3))
}

fn step(network: &mut ConvolutionNetwork<f32>, number: u64) {
    let (inputs, classes) = batch(number);
    network.step(&inputs, Targets::Classes(&classes)).unwrap();
}

#[test]
fn the_owner_takes_cores_steps_bit_for_bit() {
    for sharing in [Sharing::Expand, Sharing::Reduce] {
        let mut owner = network(sharing).with_threads(2).unwrap();
        let layers = layers();
        let (net, columns) = (ConvolutionNet::new(&layers, Loss::SoftmaxCrossEntropy), owner.columns());
        let mut memory = vec![0.0; net.words(BATCH, columns)];
        let core = ConvolutionLearner::new(net, Config::default(), 3, BATCH, columns, &mut memory).unwrap();
        let mut core = core.with_sharing(sharing).with_kernels(&DeterministicKernels);
        for number in 0..6 {
            step(&mut owner, number);
            let (inputs, classes) = batch(number);
            core.step(&inputs, Targets::Classes(&classes)).unwrap();
        }
        assert_eq!(bits(owner.state()), bits(core.state()), "{sharing:?}");
        assert_eq!(owner.progress(), core.progress());
        let (inputs, classes) = batch(9);
        assert_eq!(
            bits(&owner.predict(&inputs[..200]).unwrap()),
            bits(core.predict(&inputs[..200]).unwrap())
        );
        let evaluation = owner.evaluate(&inputs, Targets::Classes(&classes)).unwrap();
        assert_eq!(evaluation, core.evaluate(&inputs, Targets::Classes(&classes)).unwrap());
    }
}

#[test]
fn a_resumed_owner_goes_on_bit_for_bit() {
    let mut whole = network(Sharing::Reduce);
    (0..3).for_each(|number| step(&mut whole, number));
    let (config, progress) = (*whole.config(), *whole.progress());
    let parts = |state: &[f32]| {
        ConvolutionNetwork::resume(layers(), Loss::SoftmaxCrossEntropy, config, progress, BATCH, state)
    };
    let parts =
        |cut: usize| parts(&whole.state()[cut..]).map(|network| network.with_sharing(Sharing::Reduce));
    assert!(matches!(parts(1).err(), Some(Error::Length { argument: "state", .. })));
    let mut parts = parts(0).unwrap().deterministic();
    for network in [&mut whole, &mut parts] {
        (3..6).for_each(|number| step(network, number));
    }
    assert_eq!(bits(whole.state()), bits(parts.state()));
    assert_eq!(whole.progress(), parts.progress());
}

#[test]
fn the_table_of_memory_adds_up_to_what_is_allocated() {
    for capacity in [1, 2, BATCH, 100] {
        let (layers, loss) = (layers(), Loss::SoftmaxCrossEntropy);
        let net = ConvolutionNet::new(&layers, loss);
        let memory = ConvolutionNetwork::<f64>::memory(&net, capacity).unwrap();
        let network =
            ConvolutionNetwork::<f64>::new(layers.clone(), loss, Config::default(), 1, capacity).unwrap();
        assert_eq!(memory.total(), network.bytes());
        let state: usize = memory.layers.iter().map(ekfac_std::LayerMemory::state).sum();
        assert_eq!(state, size_of_val(network.state()));
        assert_eq!(memory.layers[0].weights, 8 * 8 * 10);
        assert_eq!((memory.layers[1].state(), memory.layers[1].workspace), (0, 4 * 8 * 8 * 25 * capacity));
    }
    let layers = layers();
    let net = ConvolutionNet::new(&layers, Loss::SoftmaxCrossEntropy);
    let refused = |capacity| ConvolutionNetwork::<f32>::memory(&net, capacity).err();
    assert_eq!(refused(0), Some(Error::Empty { argument: "capacity" }));
    assert_eq!(refused(usize::MAX), Some(Error::SizeOverflow { argument: "memory" }));
}

#[test]
fn the_columns_are_just_enough_for_the_short_cut() {
    // One layer, n = 289 and 6 x 256 samples: the short cut makes its step cheaper.
    let side = Axis::new(16, 3).padding(1);
    let layers = vec![ConvolutionLayer::new(Convolution::new_2d(32, [side; 2], 2), Identity)];
    let make = || {
        ConvolutionNetwork::<f32>::new(layers.clone(), Loss::SquaredError, Config::default(), 1, BATCH)
            .unwrap()
    };
    let columns = make().columns();
    let operations = |columns: usize| {
        let mut network = make().with_columns(columns).unwrap();
        let inputs = vec![0.5; 32 * 256 * BATCH];
        network.step(&inputs, Targets::Values(&vec![0.1; 2 * 256 * BATCH])).unwrap();
        network.progress().operations
    };
    // More columns only make fewer pieces, each of which costs a little.
    let (chosen, few, many) = (operations(columns), operations(1), operations(4 * columns));
    assert!(10 * chosen < 8 * few && 100 * chosen < 101 * many, "{columns}: {few}, {chosen}, {many}");
    // n (1 + 256 + 2 n) words of scratch, 2 m n of them without a column.
    assert_eq!(columns, (289 * (1 + 256 + 2 * 289) - 2 * 2 * 289_usize).div_ceil(2 * 291));
    assert_eq!(make().with_columns(0).err(), Some(Error::Empty { argument: "columns" }));
}
