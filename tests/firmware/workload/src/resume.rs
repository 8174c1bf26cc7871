//! A run that is saved on one machine and goes on on another: [`STEPS`] steps that leave the same bits as without a stop.
//!
//! After each of the first [`STOPS`] steps the run is saved, all memory is lost, and it goes on from the bytes alone. Half
//! way the device's snapshot must be the desktop's, `data/snapshot.bin`, byte for byte; and from the desktop's it goes on.

use crate::{Digest, Draws};
use ekfac::{Config, Error, Learner, Loss, Net, Targets, layers, snapshot};

/// What the desktop saved half way: `ekfac-firmware-host snapshot` writes it.
static SNAPSHOT: &[u8] = include_bytes!("../../data/snapshot.bin");

const NET: Net<'static> = Net::new(&layers![8 => 4 Tanh => 2 Identity], Loss::SoftmaxCrossEntropy);
const WORDS: usize = NET.words(1);
/// Bytes of a snapshot.
pub const LENGTH: usize = snapshot::length::<f32>(&NET);

/// Steps of the run.
pub const STEPS: u32 = 10_000;
/// So many steps are each followed by a stop.
pub const STOPS: u32 = 200;

/// What a run with stops found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Bytes of the snapshot half way that are not the desktop's.
    pub differing: usize,
    /// All bits in the end.
    pub digest: Digest,
}

/// The run without a stop.
///
/// # Errors
/// None.
pub fn uninterrupted() -> Result<Digest, Error> {
    let mut memory = [0.0; WORDS];
    let mut learner = Learner::new(NET, Config::default(), 7, 1, &mut memory)?;
    learn(&mut learner, STEPS)?;
    Ok(digest(&learner))
}

/// The snapshot half way.
///
/// # Errors
/// None.
pub fn half_way(bytes: &mut [u8; LENGTH]) -> Result<(), Error> {
    let mut memory = [0.0; WORDS];
    let mut learner = Learner::new(NET, Config::default(), 7, 1, &mut memory)?;
    learn(&mut learner, STEPS / 2)?;
    save(&learner, bytes)
}

/// The run with stops.
///
/// # Errors
/// A snapshot that is refused.
pub fn resumed() -> Result<Resumed, Error> {
    let (mut memory, mut bytes) = ([0.0; WORDS], [0; LENGTH]);
    let mut learner = Learner::new(NET, Config::default(), 7, 1, &mut memory)?;
    for step in 1..=STOPS {
        learn(&mut learner, step)?;
        save(&learner, &mut bytes)?;
        learner = Learner::new(NET, Config::default(), u64::from(step), 1, &mut memory)?;
        restore(&mut learner, &bytes)?;
    }
    learn(&mut learner, STEPS / 2)?;
    save(&learner, &mut bytes)?;
    let differing = if SNAPSHOT.len() == LENGTH {
        bytes.iter().zip(SNAPSHOT).filter(|(own, desktop)| own != desktop).count()
    } else {
        LENGTH
    };
    learner = Learner::new(NET, Config::default(), 1, 1, &mut memory)?;
    restore(&mut learner, SNAPSHOT)?;
    learn(&mut learner, STEPS)?;
    Ok(Resumed { differing, digest: digest(&learner) })
}

/// Goes on until so many steps are done in all; the data depend on the step alone.
fn learn(learner: &mut Learner<'_, f32>, steps: u32) -> Result<(), Error> {
    for step in learner.progress().steps as u32..steps {
        let mut draws = Draws::new(step);
        let input = [0.0; 8].map(|_: f32| draws.uniform());
        let [a, b, c, ..] = input;
        learner.step(&input, Targets::Classes(&[u32::from(a * b + 0.5 * c > 0.0)]))?;
    }
    Ok(())
}

fn save(learner: &Learner<'_, f32>, bytes: &mut [u8]) -> Result<(), Error> {
    learner.save_into(bytes).map(drop).map_err(|_| Error::Empty { argument: "snapshot" })
}

fn restore(learner: &mut Learner<'_, f32>, bytes: &[u8]) -> Result<(), Error> {
    learner.restore_from(bytes).map_err(|_| Error::Empty { argument: "snapshot" })
}

fn digest(learner: &Learner<'_, f32>) -> Digest {
    let (mut digest, progress) = (Digest::default(), learner.progress());
    digest.scalars(learner.state());
    digest.scalars(&[progress.mean_loss, progress.mean_length]);
    for count in [progress.steps, progress.rotations, progress.operations] {
        digest.number(count);
    }
    digest
}
