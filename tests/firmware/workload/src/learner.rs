//! An on-device learner of real sensor data: exercises from a smartwatch's accelerometer and gyroscope.
//!
//! One example after another, as a device gets them. *Cold*: fresh weights, windows of eight subjects. *Tuned*: weights that
//! `ekfac train` made on a desktop from five subjects, adapted to two new ones. Held out are other windows of the new subjects.

use crate::Digest;
use ekfac::{Config, Error, Learner, MatrixRef, Net, Targets, layers};

/// Rows of a part, an exercise and 36 features; `data/make_windows.py` says how they were made.
static WINDOWS: &[u8] = include_bytes!("../../data/windows.bin");
/// The weights to start from, f32 little endian: 36 x 16 and bias, 16 x 7 and bias, column after column.
static WEIGHTS: &[u8] = include_bytes!("../../data/weights.bin");

const FEATURES: usize = 36;
const ROW: usize = 2 + FEATURES;

/// The part that a window plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Part {
    Scratch = 0,
    Adapt = 1,
    HeldOut = 2,
}

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

/// What a run on the device found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Examples learnt, one at a time.
    pub steps: usize,
    /// Windows held out.
    pub held_out: usize,
    /// Of these, named wrongly before learning.
    pub wrong_before: usize,
    /// And after.
    pub wrong_after: usize,
    /// All bits of the learner in the end.
    pub digest: Digest,
}

/// Learns from fresh weights.
///
/// # Errors
/// None with memory of the right size.
pub fn cold(net: Net<'static>, memory: &mut [f32]) -> Result<Report, Error> {
    let mut learner = Learner::new(net, Config::default(), 7, 1, memory)?;
    run(&mut learner, Part::Scratch, COLD_PASSES)
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
    run(&mut learner, Part::Adapt, TUNING_PASSES)
}

fn run(learner: &mut Learner<'_, f32>, part: Part, passes: usize) -> Result<Report, Error> {
    let mut report = Report::default();
    (report.wrong_before, report.held_out) = wrong(learner)?;
    let count = rows(part).count();
    // A stride without a common factor is an order that mixes subjects, and needs no memory.
    let stride = (count * 5 / 8..).find(|stride| are_coprime(*stride, count)).unwrap_or(1);
    for index in 0..count * passes {
        let row = rows(part).nth(index * stride % count).ok_or(Error::Empty { argument: "windows" })?;
        let mut input = [0.0; FEATURES];
        let (input, class) = read(row, &mut input, learner.net().inputs());
        learner.step(input, Targets::Classes(&[class]))?;
        report.steps += 1;
    }
    (report.wrong_after, _) = wrong(learner)?;
    report.digest.scalars(learner.state());
    report.digest.number(learner.progress().rotations);
    Ok(report)
}

/// How many held-out windows are named wrongly, and how many there are.
fn wrong(learner: &mut Learner<'_, f32>) -> Result<(usize, usize), Error> {
    let (mut wrong, mut all) = (0, 0);
    for row in rows(Part::HeldOut) {
        let mut input = [0.0; FEATURES];
        let (input, class) = read(row, &mut input, learner.net().inputs());
        let evaluation = learner.evaluate(input, Targets::Classes(&[class]))?;
        wrong += usize::from(evaluation.correct != Some(1));
        all += 1;
    }
    Ok((wrong, all))
}

fn rows(part: Part) -> impl Iterator<Item = &'static [u8; ROW]> {
    WINDOWS.as_chunks::<ROW>().0.iter().filter(move |row| row.first() == Some(&(part as u8)))
}

/// The features that a net of this width takes, and the class.
fn read<'i>(row: &[u8; ROW], input: &'i mut [f32; FEATURES], width: usize) -> (&'i [f32], u32) {
    let [_, class, features @ ..] = row;
    let taken = features.iter().enumerate().filter(|(index, _)| width == FEATURES || index % 6 < 2);
    for (value, (_, feature)) in input.iter_mut().zip(taken) {
        *value = f32::from(feature.cast_signed()) / 32.0;
    }
    (input.get(..width).unwrap_or_default(), u32::from(*class))
}

fn are_coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// A report with a name.
pub struct Run {
    /// Its name.
    pub name: &'static str,
    /// The run.
    pub run: fn() -> Result<Report, Error>,
}

/// Runs that fit 16 KB of RAM.
pub const SMALL_RUNS: &[Run] =
    &[Run { name: "cold, small net", run: || cold(SMALL_NET, &mut [0.0; SMALL_NET_WORDS]) }];

/// Runs that fit 64 KB.
pub const RUNS: &[Run] = &[
    Run { name: "cold", run: || cold(NET, &mut [0.0; NET_WORDS]) },
    Run { name: "tuned", run: || tuned(&mut [0.0; NET_WORDS]) },
];

impl Report {
    /// Its figures, by name.
    #[must_use]
    pub const fn figures(&self) -> [(&'static str, usize); 4] {
        [
            ("steps", self.steps),
            ("held out", self.held_out),
            ("wrong before", self.wrong_before),
            ("wrong after", self.wrong_after),
        ]
    }
}
