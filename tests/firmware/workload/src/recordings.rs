//! Recordings of a sensor in flash, in the order in which a device meets them, and what it learns from them.

use crate::Digest;
use ekfac::Error;

/// The part that a recording plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Part {
    Scratch = 0,
    Adapt = 1,
    HeldOut = 2,
}

/// Rows of a part, a class and the values.
pub(crate) struct Recordings<const ROW: usize>(pub(crate) &'static [u8]);

/// A net that learns from recordings.
pub(crate) trait Pupil<const ROW: usize> {
    /// One step on one recording.
    fn learn(&mut self, row: &[u8; ROW]) -> Result<(), Error>;
    /// Whether it names the recording's class.
    fn knows(&mut self, row: &[u8; ROW]) -> Result<bool, Error>;
    /// Adds all of its bits.
    fn digest(&self, digest: &mut Digest);
}

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

impl<const ROW: usize> Recordings<ROW> {
    /// So many passes over a part, one recording after another, and the held-out ones before and after.
    pub(crate) fn teach(
        &self,
        pupil: &mut impl Pupil<ROW>,
        part: Part,
        passes: usize,
    ) -> Result<Report, Error> {
        let mut report = Report::default();
        (report.wrong_before, report.held_out) = self.examine(pupil)?;
        let count = self.of(part).count();
        // A stride without a common factor is an order that mixes subjects, and needs no memory.
        let stride = (count * 5 / 8..).find(|stride| are_coprime(*stride, count)).unwrap_or(1);
        for index in 0..count * passes {
            let row =
                self.of(part).nth(index * stride % count).ok_or(Error::Empty { argument: "windows" })?;
            pupil.learn(row)?;
            report.steps += 1;
        }
        (report.wrong_after, _) = self.examine(pupil)?;
        pupil.digest(&mut report.digest);
        Ok(report)
    }

    /// How many held-out recordings are named wrongly, and how many there are.
    fn examine(&self, pupil: &mut impl Pupil<ROW>) -> Result<(usize, usize), Error> {
        let (mut wrong, mut all) = (0, 0);
        for row in self.of(Part::HeldOut) {
            wrong += usize::from(!pupil.knows(row)?);
            all += 1;
        }
        Ok((wrong, all))
    }

    fn of(&self, part: Part) -> impl Iterator<Item = &'static [u8; ROW]> {
        self.0.as_chunks::<ROW>().0.iter().filter(move |row| row.first() == Some(&(part as u8)))
    }
}

/// The values of a recording, in standard deviations, and its class.
pub(crate) fn read<const ROW: usize>(row: &[u8; ROW]) -> (u32, impl Iterator<Item = f32>) {
    let class = row.get(1).copied().unwrap_or_default();
    (u32::from(class), row.iter().skip(2).map(|value| f32::from(value.cast_signed()) / 32.0))
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
