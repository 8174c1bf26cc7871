//! The digest: every bit that some runs leave behind, in one number.
//!
//! A case trains a net for [`STEPS`] steps on data from a seed. Into its digest (FNV-1a, 64 bits) go the loss of every step,
//! the state at the end (weights, factors, bases, scalings, velocity), all counters, and a prediction.
//! The cases reach every activation, loss, estimator and refresh.

use crate::{Draws, convolution};
use ekfac::{
    Activation, Adaptation, Annealing, Averaging, Config, Dense, Error, Fisher, Learner, Loss, Net, Outcome,
    Progress, Scalar, Targets,
};

/// Steps of a case.
pub const STEPS: usize = 500;

/// FNV-1a (Fowler, Noll and Vo).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Digest {
    /// Takes a number in, byte by byte, the lowest first.
    pub fn number(&mut self, value: u64) {
        for byte in value.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// Takes scalars in; a wider type holds them exactly.
    pub fn scalars<T: Scalar>(&mut self, values: &[T]) {
        values.iter().for_each(|value| self.number(value.to_f64().to_bits()));
    }
}

/// A run with a name.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The run; a wrong call gives no digest.
    pub run: fn() -> Result<Digest, Error>,
}

/// Cases that fit 16 KB of RAM.
pub const SMALL_CASES: &[Case] = &[
    Case {
        name: "8-4-2 default",
        run: || learn(&SMALL, Config::<f32>::default(), 1, &mut [0.0; SMALL_WORDS]),
    },
    Case {
        name: "16-8-4 default",
        run: || learn(&MIDDLE, Config::<f32>::default(), 1, &mut [0.0; MIDDLE_WORDS]),
    },
    Case {
        name: "6-5-4-3 default",
        run: || learn(&DEEP, Config::<f32>::default(), 1, &mut [0.0; DEEP_WORDS]),
    },
    Case { name: "8-4-2 paper", run: || learn(&SMALL, paper(), 4, &mut [0.0; SMALL_BATCH_WORDS]) },
    Case { name: "6-5-4-3 paper running", run: || learn(&DEEP, running(), 3, &mut [0.0; DEEP_BATCH_WORDS]) },
    Case { name: "8-4-2 K-FAC", run: || learn(&SMALL, kfac(), 4, &mut [0.0; SMALL_BATCH_WORDS]) },
    Case { name: "5-4-3 exact Fisher", run: || learn(&TINY, exact(), 2, &mut [0.0; TINY_BATCH_WORDS]) },
    Case { name: "8-4-2 f64", run: || learn(&SMALL, Config::<f64>::default(), 1, &mut [0.0; SMALL_WORDS]) },
];

/// Cases that need more, up to 48 KB.
pub const CASES: &[Case] = &[
    Case {
        name: "32-16-4 default",
        run: || learn(&LARGE, Config::<f32>::default(), 1, &mut [0.0; LARGE_WORDS]),
    },
    Case {
        name: "32-16-4 batch of 4",
        run: || learn(&LARGE, Config::<f32>::default(), 4, &mut [0.0; LARGE_BATCH_WORDS]),
    },
];

/// Cases of convolutions, in a program of their own.
pub const CONVOLUTION_CASES: &[Case] = &[Case { name: "convolutions", run: convolution::learn }];

const SMALL: Net<'static> = Net::new(&ekfac::layers![8 => 4 Tanh => 2 Identity], Loss::SoftmaxCrossEntropy);
const MIDDLE: Net<'static> = Net::new(&ekfac::layers![16 => 8 Relu => 4 Identity], Loss::SoftmaxCrossEntropy);
const DEEP_LAYERS: [Dense; 3] = ekfac::layers![6 => 5 Gelu => 4 Sigmoid => 3 LeakyRelu];
const DEEP: Net<'static> = Net::new(&DEEP_LAYERS, Loss::Huber(1.0));
const TINY: Net<'static> = Net::new(
    &[Dense::new(5, 4, Activation::Tanh), Dense::new(4, 3, Activation::Identity)],
    Loss::BinaryCrossEntropy,
);
const LARGE: Net<'static> = Net::new(&ekfac::layers![32 => 16 Tanh => 4 Identity], Loss::SquaredError);

const SMALL_WORDS: usize = SMALL.words(1);
const SMALL_BATCH_WORDS: usize = SMALL.words(4);
const MIDDLE_WORDS: usize = MIDDLE.words(1);
const DEEP_WORDS: usize = DEEP.words(1);
const DEEP_BATCH_WORDS: usize = DEEP.words(3);
const TINY_BATCH_WORDS: usize = TINY.words(2);
const LARGE_WORDS: usize = LARGE.words(1);
const LARGE_BATCH_WORDS: usize = LARGE.words(4);
const WIDEST: usize = 32 * 4;
const MOST_OUTPUTS: usize = 4 * 4;

fn paper() -> Config<f32> {
    Config::paper(0.02, 0.05, 5)
}

fn running() -> Config<f32> {
    Config {
        weight_decay: 1e-3,
        adaptation: Some(Adaptation::default()),
        annealing: Annealing::Stream,
        ..Config::paper_running(0.01, 0.1, 7, 0.95)
    }
}

fn kfac() -> Config<f32> {
    Config { factors: Averaging::Decay(0.9), ..Config::kfac(0.01, 0.1, 3) }
}

fn exact() -> Config<f32> {
    Config { fisher: Fisher::Exact, statistics_share: 1.0, weight_decay: 1e-3, ..Config::default() }
}

/// Trains a net with batches of `batch` examples.
fn learn<T: Scalar>(
    net: &Net<'static>,
    config: Config<T>,
    batch: usize,
    memory: &mut [T],
) -> Result<Digest, Error> {
    let mut digest = Digest::default();
    let mut draws = Draws::new(42);
    let mut learner = Learner::new(*net, config, 7, batch, memory)?;
    let (width, outputs) = (net.inputs(), net.outputs());
    let (mut inputs, mut targets) = ([T::ZERO; WIDEST], [T::ZERO; MOST_OUTPUTS]);
    let inputs = inputs.get_mut(..width * batch).ok_or(Error::Empty { argument: "inputs" })?;
    let targets = targets.get_mut(..outputs * batch).ok_or(Error::Empty { argument: "targets" })?;
    for step in 0..STEPS {
        for (input, target) in inputs.chunks_mut(width).zip(targets.chunks_mut(outputs)) {
            example(&mut draws, net.loss(), input, target);
        }
        let taken = learner.step(inputs, Targets::Values(targets))?;
        digest.number(u64::from(taken.outcome == Outcome::Applied));
        digest.scalars(&[taken.loss, taken.shrink]);
        if step % 50 == 0 {
            digest.number(learner.rotate(3)?);
        }
    }
    digest.scalars(learner.state());
    count(&mut digest, learner.progress());
    let input = inputs.get(..width).unwrap_or_default();
    digest.scalars(learner.predict(input)?);
    Ok(digest)
}

/// Takes all counters and running means in.
pub(crate) fn count<T: Scalar>(digest: &mut Digest, progress: &Progress<T>) {
    digest.scalars(&[progress.mean_loss, progress.mean_length, progress.damping_multiplier]);
    for count in [progress.steps, progress.examples, progress.skipped, progress.degraded, progress.rotations]
    {
        digest.number(count);
    }
    digest.number(progress.operations);
}

/// Uneven inputs, and targets that can be learnt from them.
pub(crate) fn example<T: Scalar>(draws: &mut Draws, loss: Loss, input: &mut [T], target: &mut [T]) {
    let common = draws.uniform();
    let mut sum = 0.0_f32;
    for (index, value) in input.iter_mut().enumerate() {
        let own = common * 0.5 + draws.uniform() / (1.0 + index as f32);
        sum += if index % 2 == 0 { own } else { -own };
        *value = T::from_f64(f64::from(own));
    }
    let outputs = target.len();
    let class = if sum > 0.0 { 0 } else { 1 + (sum < -0.5) as usize } % outputs;
    for (index, value) in target.iter_mut().enumerate() {
        *value = match loss {
            Loss::SoftmaxCrossEntropy | Loss::BinaryCrossEntropy => T::from_usize((index == class) as usize),
            _ => T::from_f64(f64::from(sum) * (1.0 + index as f64)),
        };
    }
}
