//! An on-device learner of real sensor data: exercises from a smartwatch's accelerometer and gyroscope.
//!
//! One example after another, as a device gets them. *Cold*: fresh weights, windows of eight subjects. *Tuned*: weights that
//! `ekfac train` made on a desktop from five subjects, adapted to two new ones. Held out are other windows of the new subjects.

use crate::{
    Digest,
    recordings::{Part, Pupil, Recordings, Report, Run, read},
};
use ekfac::{Config, Error, Learner, MatrixRef, Net, Targets, layers};

/// Rows of a part, an exercise and 36 features; `data/make_windows.py` says how they were made.
static WINDOWS: Recordings<ROW> = Recordings(include_bytes!("../../data/windows.bin"));
/// The weights to start from, f32 little endian: 36 x 16 and bias, 16 x 7 and bias, column after column.
static WEIGHTS: &[u8] = include_bytes!("../../data/weights.bin");

const FEATURES: usize = 36;
const ROW: usize = 2 + FEATURES;

/// The net for 64 KB of RAM.
pub const NET: Net<'static> =
    Net::new(&layers![36 => 16 Tanh => 7 Identity], ekfac::Loss::SoftmaxCrossEntropy);
/// The net for 16 KB: two features of each axis, its mean and its deviation.
pub const SMALL_NET: Net<'static> =
    Net::new(&layers![12 => 8 Tanh => 7 Identity], ekfac::Loss::SoftmaxCrossEntropy);
/// Words of memory for each, one example at a time.
pub const NET_WORDS: usize = NET.words(1);
/// The same for the small net.
pub const SMALL_NET_WORDS: usize = SMALL_NET.words(1);

const COLD_PASSES: usize = 10;
const TUNING_PASSES: usize = 4;

/// Learns from fresh weights.
///
/// # Errors
/// None with memory of the right size.
pub fn cold(net: Net<'static>, memory: &mut [f32]) -> Result<Report, Error> {
    let mut learner = Learner::new(net, Config::default(), 7, 1, memory)?;
    WINDOWS.teach(&mut learner, Part::Scratch, COLD_PASSES)
}

/// Adapts the weights that a desktop has trained ([`NET`] only).
///
/// # Errors
/// None with memory of the right size.
pub fn tuned(memory: &mut [f32]) -> Result<Report, Error> {
    let mut learner = Learner::new(NET, Config::default(), 7, 1, memory)?;
    let mut words = WEIGHTS.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
    let mut weights = [0.0; 16 * 37];
    for (index, dense) in NET.layers().iter().enumerate() {
        let (rows, columns) = (dense.shape().rows(), dense.shape().columns());
        let weights = weights.get_mut(..rows * columns).ok_or(Error::Empty { argument: "weights" })?;
        weights.iter_mut().for_each(|weight| *weight = words.next().unwrap_or(f32::NAN));
        learner.set_weights(index, MatrixRef::new(weights, rows, columns)?)?;
    }
    WINDOWS.teach(&mut learner, Part::Adapt, TUNING_PASSES)
}

impl Pupil<ROW> for Learner<'_, f32> {
    fn learn(&mut self, row: &[u8; ROW]) -> Result<(), Error> {
        let mut input = [0.0; FEATURES];
        let (input, class) = features(row, &mut input, self.net().inputs());
        self.step(input, Targets::Classes(&[class])).map(drop)
    }

    fn knows(&mut self, row: &[u8; ROW]) -> Result<bool, Error> {
        let mut input = [0.0; FEATURES];
        let (input, class) = features(row, &mut input, self.net().inputs());
        Ok(self.evaluate(input, Targets::Classes(&[class]))?.correct == Some(1))
    }

    fn digest(&self, digest: &mut Digest) {
        digest.scalars(self.state());
        digest.number(self.progress().rotations);
    }
}

/// The features that a net of this width takes, and the class.
fn features<'i>(row: &[u8; ROW], input: &'i mut [f32; FEATURES], width: usize) -> (&'i [f32], u32) {
    let (class, values) = read(row);
    let taken = values.enumerate().filter(|(index, _)| width == FEATURES || index % 6 < 2);
    input.iter_mut().zip(taken).for_each(|(into, (_, value))| *into = value);
    (input.get(..width).unwrap_or_default(), class)
}

/// Runs that fit 16 KB of RAM.
pub const SMALL_RUNS: &[Run] =
    &[Run { name: "cold, small net", run: || cold(SMALL_NET, &mut [0.0; SMALL_NET_WORDS]) }];

/// Runs that fit 64 KB.
pub const RUNS: &[Run] = &[
    Run { name: "cold", run: || cold(NET, &mut [0.0; NET_WORDS]) },
    Run { name: "tuned", run: || tuned(&mut [0.0; NET_WORDS]) },
];
