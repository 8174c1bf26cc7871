//! The exercises of [`learner`](crate::learner) from the recorded axes themselves, by filters that are learnt on the device.
//!
//! ```text
//! 6 axes, 32 samples -> 8 filters of 5 taps, every other sample, tanh -> 12 of 5, every other, tanh -> mean -> 7 exercises
//! ```

use crate::{
    Digest,
    recordings::{Part, Pupil, Recordings, Report, Run, read},
};
use ekfac::{
    Activation::{Identity, Tanh},
    Config, Error, Loss, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Pooling},
};

/// Rows of a part, an exercise and 32 samples of each axis in turn; `data/make_series.py` says how they were made.
static SERIES: Recordings<ROW> = Recordings(include_bytes!("../../data/series.bin"));

const SAMPLES: usize = 32;
const AXES: usize = 6;
const INPUTS: usize = AXES * SAMPLES;
const ROW: usize = 2 + INPUTS;
const EXERCISES: usize = 7;

const FIRST: Convolution = Convolution::new_1d(AXES, Axis::new(SAMPLES, 5).stride(2).padding(2), 8);
const SECOND: Convolution = Convolution::new_1d(8, Axis::new(16, 5).stride(2).padding(2), 12);
const WHOLE: Convolution = Convolution::depthwise(12, [Axis::new(1, 1), Axis::new(8, 8)]);
const LAYERS: [ConvolutionLayer; 4] = [
    ConvolutionLayer::new(FIRST, Tanh),
    ConvolutionLayer::new(SECOND, Tanh),
    ConvolutionLayer::pool(Pooling::Average, WHOLE),
    ConvolutionLayer::dense(12, EXERCISES, Identity),
];
/// The net.
pub const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
/// Patches that are read at a time.
pub const COLUMNS: usize = 8;
/// Words of memory, one example at a time.
pub const WORDS: usize = NET.words(1, COLUMNS);

const PASSES: usize = 10;

/// Learns from fresh weights.
///
/// # Errors
/// None with memory of the right size.
pub fn cold(memory: &mut [f32]) -> Result<Report, Error> {
    let mut learner = ConvolutionLearner::new(NET, Config::default(), 7, 1, COLUMNS, memory)?;
    SERIES.teach(&mut learner, Part::Scratch, PASSES)
}

impl Pupil<ROW> for ConvolutionLearner<'_, f32> {
    fn learn(&mut self, row: &[u8; ROW]) -> Result<(), Error> {
        let (input, class) = samples(row);
        self.step(&input, Targets::Classes(&[class])).map(drop)
    }

    fn knows(&mut self, row: &[u8; ROW]) -> Result<bool, Error> {
        let (input, class) = samples(row);
        Ok(self.evaluate(&input, Targets::Classes(&[class]))?.correct == Some(1))
    }

    fn digest(&self, digest: &mut Digest) {
        digest.scalars(self.state());
        digest.number(self.progress().rotations);
    }
}

fn samples(row: &[u8; ROW]) -> ([f32; INPUTS], u32) {
    let mut input = [0.0; INPUTS];
    let (class, values) = read(row);
    input.iter_mut().zip(values).for_each(|(into, value)| *into = value);
    (input, class)
}

/// The run, in 64 KB.
pub const RUNS: &[Run] = &[Run { name: "cold, convolutions", run: || cold(&mut [0.0; WORDS]) }];
