//! The flash that a learner of convolutions takes: a net in f32 that steps and predicts.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{
    Activation::{Identity, Tanh},
    Config, Error, Loss, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet},
};

const FILTERS: Convolution = Convolution::new_1d(2, Axis::new(8, 3), 4);
const LAYERS: [ConvolutionLayer; 2] =
    [ConvolutionLayer::new(FILTERS, Tanh), ConvolutionLayer::dense(FILTERS.output_words(), 2, Identity)];
const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);

ekfac_firmware::firmware!(run);

fn run() -> bool {
    learn(black_box(&mut [0.0; NET.words(1, 2)])).is_ok()
}

fn learn(memory: &mut [f32]) -> Result<(), Error> {
    let (net, config) = (black_box(NET), black_box(Config::default()));
    let mut learner = ConvolutionLearner::new(net, config, 7, 1, 2, memory)?;
    let input = black_box([0.5; NET.inputs()]);
    black_box(learner.step(&input, Targets::Classes(black_box(&[1])))?);
    black_box(learner.predict(&input)?);
    Ok(())
}
