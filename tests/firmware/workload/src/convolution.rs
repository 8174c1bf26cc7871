//! A network of convolutions among the cases of the digest: along one axis, in groups, with pooling.

use crate::{
    Digest, Draws, STEPS,
    digest::{count, example},
};
use ekfac::{
    Activation::{Identity, Tanh},
    Config, Error, Loss, Outcome, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Pooling},
};

/// Four sensors, sixteen samples each; filters for each pair of sensors; three classes.
const FILTERS: Convolution = Convolution::new_1d(4, Axis::new(16, 5).stride(2).padding(2), 6).groups(2);
const MIXED: Convolution = Convolution::new_1d(6, Axis::new(8, 3).dilation(2), 4);
const WINDOWS: Convolution = Convolution::depthwise(4, [Axis::new(1, 1), Axis::new(4, 2).stride(2)]);
const LAYERS: [ConvolutionLayer; 4] = [
    ConvolutionLayer::new(FILTERS, Tanh),
    ConvolutionLayer::new(MIXED, Tanh),
    ConvolutionLayer::pool(Pooling::Average, WINDOWS),
    ConvolutionLayer::dense(8, 3, Identity),
];
const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
const BATCH: usize = 2;
const COLUMNS: usize = 3;
const WORDS: usize = NET.words(BATCH, COLUMNS);
const INPUTS: usize = NET.inputs();
const OUTPUTS: usize = NET.outputs();

/// Trains it with the default setting.
pub(crate) fn learn() -> Result<Digest, Error> {
    let mut memory = [0.0_f32; WORDS];
    let mut digest = Digest::default();
    let mut draws = Draws::new(42);
    let mut learner = ConvolutionLearner::new(NET, Config::default(), 7, BATCH, COLUMNS, &mut memory)?;
    let (mut inputs, mut targets) = ([0.0; INPUTS * BATCH], [0.0; OUTPUTS * BATCH]);
    for _ in 0..STEPS {
        for (input, target) in inputs.chunks_mut(INPUTS).zip(targets.chunks_mut(OUTPUTS)) {
            example(&mut draws, NET.loss(), input, target);
        }
        let taken = learner.step(&inputs, Targets::Values(&targets))?;
        digest.number(u64::from(taken.outcome == Outcome::Applied));
        digest.scalars(&[taken.loss, taken.shrink]);
    }
    digest.scalars(learner.state());
    count(&mut digest, learner.progress());
    digest.scalars(learner.predict(inputs.get(..INPUTS).unwrap_or_default())?);
    Ok(digest)
}
