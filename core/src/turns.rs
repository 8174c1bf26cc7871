//! Turns that wait, to be taken all together.
//!
//! A walk over the pairs of a factor reads C alone. Its basis, and all that is held in it, may turn later: in a large matrix that is
//! cheaper at once, a few columns after another, and can be done on several threads. *Invariant*: every word sees the same operations
//! in the same order, so the bits are the same as without a list. *Cost*: [`TURN`] words a turn, of memory that nothing else needs
//! now. *Failure*: a full list is taken and begun anew; where the memory is too small for one worth its while, every turn is taken at
//! once.

use crate::{
    Kernels, Scalar,
    carve::cut,
    companion::{Companion, Companions, Turn},
    elementwise::Elementwise,
    factor::{Basis, FactorMut, FactorRef},
    jacobi::{Budget, Negligible, Walked},
    rotation::Rotation,
    row_walk::RowWalk,
};

/// Words of a turn in a list: p, q and the rotation.
const TURN: usize = 5;

/// Factors of fewer lines lie near enough as they are.
const LARGE: usize = 128;

/// A list of fewer turns gains nothing.
const WORTH: usize = 32;

/// Turns to be taken, as [`Elementwise`] work.
#[derive(Debug)]
pub(crate) struct TurnList<'w, T> {
    turns: &'w [Listed<T>],
    /// Where this part of the work has it.
    basis: Option<Basis<'w, T>>,
    companions: Companions<'w, T>,
}

impl<T: Scalar> TurnList<'_, T> {
    #[inline(always)]
    pub(crate) fn take<const INLINED: bool>(self) {
        if let Some(mut basis) = self.basis {
            for (p, q, rotation) in self.turns.iter().map(unlisted) {
                basis.turn_as::<INLINED>(p, q, &rotation);
            }
        }
        for mut companion in self.companions {
            companion.turn_all::<INLINED>(self.turns.iter().map(unlisted));
        }
    }

    /// Words that it goes over: two lines of every matrix for each turn.
    pub(crate) fn words(&self) -> usize {
        self.turns.len().saturating_mul(2 * self.lines())
    }

    /// Words of a line of every matrix.
    fn lines(&self) -> usize {
        self.companions.iter().map(Companion::line).fold(self.basis_lines(), usize::saturating_add)
    }

    /// Two lines of the basis, since the care goes over as many as the turn.
    fn basis_lines(&self) -> usize {
        self.basis.as_ref().map_or(0, |basis| 2 * basis.size())
    }

    /// Some of the matrices and the others, with lines of about as many words each; all where there is but one.
    pub(crate) fn halves(mut self) -> (Self, Option<Self>) {
        let (whole, mut kept) = (self.lines(), self.basis_lines());
        let mut others = self.companions.each_mut().map(Companion::emptied);
        for (companion, other) in self.companions.iter_mut().zip(&mut others) {
            if kept > 0 && 2 * kept + companion.line() > whole {
                *other = companion.take();
            }
            kept += companion.line();
        }
        if kept == whole {
            return (self, None);
        }
        let others = Self { turns: self.turns, basis: None, companions: others };
        (self, Some(others))
    }
}

/// A turn in a list: p, q and the rotation.
pub(crate) type Listed<T> = [T; TURN];

#[inline(always)]
pub(crate) fn listed<T: Scalar>(p: usize, q: usize, rotation: &Rotation<T>) -> Listed<T> {
    let [tangent, sine, ratio] = rotation.words();
    // Exact: a matrix of 2^24 lines fits into no memory.
    [T::from_usize(p), T::from_usize(q), tangent, sine, ratio]
}

#[inline(always)]
pub(crate) fn unlisted<T: Scalar>([p, q, rotation @ ..]: &Listed<T>) -> (usize, usize, Rotation<T>) {
    (p.to_usize(), q.to_usize(), Rotation::from_words(*rotation))
}

/// A walk of one factor whose turns wait.
pub(crate) struct Waiting<'w, T> {
    negligible: Negligible<T>,
    /// What the walk may still do, once the turns that wait are taken.
    left: Budget,
    /// What it has done since turns were taken.
    listed: Walked,
    turns: &'w mut [Listed<T>],
    /// n words, for a row of C.
    row: &'w mut [T],
}

impl<'w, T: Scalar> Waiting<'w, T> {
    /// A walk of this factor with a list in these words, if that is worth its while.
    pub(crate) fn new(
        mut words: &'w mut [T],
        factor: FactorRef<'_, T>,
        threshold: T,
        left: Budget,
    ) -> Option<Self> {
        let row = cut(&mut words, factor.size())?;
        let turns = words.as_chunks_mut().0;
        let worth = factor.size() >= LARGE && turns.len() >= WORTH;
        let listed = Walked { rotations: 0, checks: 0 };
        worth.then(|| Self { negligible: factor.negligible(threshold), left, listed, turns, row })
    }

    /// The walk, as far as the list has room.
    pub(crate) fn list<'l>(&'l mut self, factor: &'l mut FactorMut<'_, T>) -> RowWalk<'l, T> {
        let (size, room) = (factor.size(), u32::try_from(self.turns.len()).unwrap_or(u32::MAX));
        let budget = Budget { rotations: self.left.rotations.min(room), ..self.left };
        let (cursor, covariance) = factor.walked_over();
        let Self { negligible, listed: walked, turns, row, .. } = self;
        *walked = Walked { rotations: 0, checks: 0 };
        RowWalk { cursor, covariance, size, negligible: *negligible, budget, walked, row, turns }
    }

    /// Takes the turns that wait, and walks on to the end.
    pub(crate) fn finish(
        mut self,
        kernels: &dyn Kernels<T>,
        factor: &mut FactorMut<'_, T>,
        companions: &mut [Companion<'_, T>],
    ) -> Walked {
        let mut walked = self.listed;
        self.take(kernels, factor, companions);
        while self.left.rotations > 0 && self.left.checks > 0 {
            kernels.elementwise(Elementwise::walks([Some(self.list(factor)), None]));
            walked.rotations += self.listed.rotations;
            walked.checks += self.listed.checks;
            self.take(kernels, factor, companions);
        }
        walked
    }

    /// Takes all turns that wait.
    fn take(
        &mut self,
        kernels: &dyn Kernels<T>,
        factor: &mut FactorMut<'_, T>,
        companions: &mut [Companion<'_, T>],
    ) {
        let turns = self.turns.get(..self.listed.rotations as usize).unwrap_or_default();
        let mut companions = companions.iter_mut().map(Companion::reborrow);
        let empty = || Companion::rows(&mut [], 0, Turn::Linear);
        let companions = core::array::from_fn(|_| companions.next().unwrap_or_else(empty));
        factor.with_basis(|basis| {
            let list = TurnList { turns, basis: Some(basis), companions };
            kernels.elementwise(Elementwise::turn(list));
        });
        self.left.rotations -= self.listed.rotations;
        self.left.checks -= self.listed.checks;
    }
}
