//! A step that is taken back where it does harm.
//!
//! ```text
//! keep:  loss after the step <= loss before + rise     (the same batch)
//! else:  every word of state as it was, damping times factor
//! ```
//!
//! *Invariant*: after a rejection the state is what it was to the bit, and the same batch may be tried again: with the same
//! draws and more damping it takes a shorter step. *Cost*: a copy of the state in the caller's memory and a forward pass.
//! *Failure*: a loss after the step that is NaN is a rise.

use super::{Learner, Targets, learner::Step};
use crate::{Error, Outcome, Reason, Scalar, config::expect, error::expect_length, kernels::Counted};

impl<T: Scalar> Learner<'_, T> {
    /// [`step`](Self::step), taken back if it raises the loss per example on its own batch by more than `rise`, or leaves none:
    /// then the outcome is [`Outcome::Skipped`] with [`Reason::LossRose`], and the damping is multiplied by the factor of
    /// [`Config::adaptation`](crate::Config::adaptation), or of its default, within its bounds (Martens and Grosse 2015, section 6.5).
    /// Only adaptation lowers it again. `saved` receives the state as it was, [`Net::state_words`](crate::Net::state_words) words.
    ///
    /// # Errors
    /// Those of [`step`](Self::step); [`Error::Length`] for `saved`, [`Error::OutOfRange`] for a `rise` that is negative or NaN:
    /// before any write. After [`Error::RefreshFailed`] nothing is taken back, but `saved` holds what was.
    ///
    /// ```
    /// use ekfac::{Clip, Config, Damping, Dense, Learner, Loss, Net, Outcome, Reason, Targets};
    /// const LAYERS: [Dense; 1] = ekfac::layers![2 => 1 Identity];
    /// const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
    /// let reckless = Config { learning_rate: 1e3, clip: Clip::None, damping: Damping::Absolute(1e-6), ..Config::default() };
    /// let (mut memory, mut saved) = ([0.0_f32; NET.words(1)], [0.0; NET.state_words()]);
    /// let mut learner = Learner::new(NET, reckless, 7, 1, &mut memory)?;
    /// let step = learner.step_or_undo(&[0.5, -1.0], Targets::Values(&[2.0]), 0.0, &mut saved)?;
    /// assert_eq!(step.outcome, Outcome::Skipped(Reason::LossRose));
    /// assert_eq!(learner.state(), saved);
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    pub fn step_or_undo(
        &mut self,
        inputs: &[T],
        targets: Targets<'_, T>,
        rise: T,
        saved: &mut [T],
    ) -> Result<Step<T>, Error> {
        expect(rise >= T::ZERO, "rise")?;
        expect_length("saved", self.state().len(), saved.len())?;
        saved.iter_mut().zip(self.state()).for_each(|(into, word)| *into = *word);
        let before = *self.progress();
        let mut step = self.step(inputs, targets)?;
        if matches!(step.outcome, Outcome::Skipped(_)) {
            return Ok(step);
        }
        let mut counted = Counted::by(self.kernels);
        let after = self.measure(&mut counted, inputs, targets)?.loss;
        let operations = self.progress.operations.saturating_add(counted.operations());
        self.progress.operations = operations;
        // Written so that NaN is a rise.
        // A loss that is NaN is not at most anything.
        let harmless = after <= step.loss + rise;
        if !harmless {
            self.memory.state_mut().iter_mut().zip(&*saved).for_each(|(word, was)| *word = *was);
            let adaptation = self.config.adaptation.unwrap_or_default();
            self.progress = before;
            self.progress.operations = operations;
            self.progress.damping_multiplier = adaptation.raised(before.damping_multiplier);
            step.outcome = Outcome::Skipped(Reason::LossRose);
            self.finish(step.outcome, 0, 0);
        }
        Ok(step)
    }
}
