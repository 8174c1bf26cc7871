//! The scalars of a layer's state: a handful of words in front of it, which stay on the host wherever the rest lives.
//!
//! *Invariant*: all-zero marks are those of a fresh layer; those that say that B is diagonal belong to one whose U_B is I.
//! *Cost*: [`HEADER`](crate::shape::HEADER) words. *Failure*: none; a
//! slice that is too short reads as zeros.

use crate::{Coordinates, Scalar, coordinates::HEADER_MARK};

/// Positions in the header.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    Started = 0,
    FactorWeight = 1,
    ScalingWeight = 2,
    FailedRefreshes = 3,
    Coordinates = HEADER_MARK as isize,
    Reach = 5,
    MeanScaling = 6,
}

/// A view of a layer's scalars.
#[derive(Debug)]
pub struct Marks<'a, T>(&'a mut [T]);

/// What [`Mark::Started`] holds of most layers.
pub(crate) const STARTED: f64 = 1.0;

/// What it holds of one whose B is diagonal.
pub(crate) const DIAGONAL: f64 = 2.0;

impl<'a, T: Scalar> Marks<'a, T> {
    /// The marks in the first [`HEADER`](crate::shape::HEADER) words of a layer's state.
    pub fn over(header: &'a mut [T]) -> Self {
        Self(header)
    }

    /// The coordinates in which the owner of this state keeps the weights that belong to it.
    pub fn coordinates(&self) -> Coordinates {
        Coordinates::of(self.0)
    }

    /// Says in which coordinates the weights are kept.
    pub fn set_coordinates(&mut self, coordinates: Coordinates) {
        let eigenbasis = coordinates == Coordinates::Eigenbasis;
        self.set(Mark::Coordinates, if eigenbasis { T::ONE } else { T::ZERO });
    }

    /// Whether B is taken for diagonal, as it has been ever since the layer started, so that U_B is I.
    pub fn output_is_diagonal(&self) -> bool {
        self.get(Mark::Started) == T::from_f64(DIAGONAL)
    }

    /// Says whether it is from now on; it can be where it was before, or where nothing has turned yet.
    pub fn set_output_diagonal(&mut self, diagonal: bool) {
        self.set(Mark::Started, T::from_f64(if diagonal { DIAGONAL } else { STARTED }));
    }

    /// Notes the mean of S once for all that one step asks of it.
    pub fn note_mean_scaling(&mut self, mean: T) {
        self.set(Mark::MeanScaling, mean);
    }

    /// The mean of S when it was last noted.
    pub(crate) fn noted_mean_scaling(&self) -> T {
        self.get(Mark::MeanScaling)
    }

    /// The typical reach of the preconditioned gradient ([`LayerMut::typical_reach`](crate::LayerMut::typical_reach)).
    pub(crate) fn typical_reach(&self) -> T {
        self.get(Mark::Reach)
    }

    /// Moves the typical reach towards a new one by this share. One that is not finite makes no mark.
    pub(crate) fn note_reach(&mut self, reach: T, share: T) {
        if reach.is_finite() && share.is_finite() {
            let typical = self.get(Mark::Reach);
            self.set(Mark::Reach, typical + share * (reach - typical));
        }
    }

    /// How many refreshes in a row did not converge.
    pub(crate) fn failed_refreshes(&self) -> u32 {
        u32::try_from(self.get(Mark::FailedRefreshes).to_usize()).unwrap_or(u32::MAX)
    }

    /// Counts a refresh, and returns how many in a row have failed with it.
    pub(crate) fn note_refresh(&mut self, failed: bool) -> u32 {
        let count = if failed { self.failed_refreshes().saturating_add(1) } else { 0 };
        self.set(Mark::FailedRefreshes, T::from_f64(f64::from(count)));
        count
    }

    /// Moves the stored weight of the factors on and returns the share of the new batch in them.
    pub(crate) fn advance_factors(&mut self, decay: T) -> T {
        self.advance(Mark::FactorWeight, decay);
        self.factor_share(decay)
    }

    /// Lets the next batch take the whole of the factors, whatever they hold. The bases stay.
    pub fn forget_factors(&mut self) {
        self.set(Mark::FactorWeight, T::ZERO);
    }

    /// The stored weight of the factors.
    pub(crate) fn factor_weight(&self) -> T {
        self.get(Mark::FactorWeight)
    }

    /// The share of the newest batch in the factors.
    pub(crate) fn factor_share(&self, decay: T) -> T {
        (T::ONE - decay) / self.get(Mark::FactorWeight)
    }

    /// Moves the stored weight of the scalings on.
    pub(crate) fn advance_scalings(&mut self, decay: T) {
        self.advance(Mark::ScalingWeight, decay);
    }

    /// The share of the newest batch in the scalings.
    pub(crate) fn scaling_share(&self, decay: T) -> T {
        (T::ONE - decay) / self.get(Mark::ScalingWeight)
    }

    /// Makes S count as a full average from now on.
    pub(crate) fn fill_scaling_weight(&mut self) {
        self.set(Mark::ScalingWeight, T::ONE);
    }

    /// A debiased average: with w' = rho w + (1 - rho) the new batch has the share (1 - rho) / w', all of it at first.
    fn advance(&mut self, mark: Mark, decay: T) {
        let weight = decay * self.get(mark) + (T::ONE - decay);
        self.set(mark, weight.minimum(T::ONE));
    }

    pub(crate) fn get(&self, mark: Mark) -> T {
        self.0.get(mark as usize).copied().unwrap_or(T::ZERO)
    }

    pub(crate) fn set(&mut self, mark: Mark, value: T) {
        if let Some(word) = self.0.get_mut(mark as usize) {
            *word = value;
        }
    }
}
