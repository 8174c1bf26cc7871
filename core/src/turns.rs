//! Turns that wait, to be taken all together.
//!
//! A walk over the pairs of a factor reads C alone. Its basis, and all that is held in it, may turn later: in a large matrix that is
//! cheaper at once, a few columns after another, and can be done on several threads. *Invariant*: every word sees the same operations
//! in the same order, so the bits are the same as without a list. *Cost*: [`TURN`] words a turn, of memory that nothing else needs
//! now. *Failure*: a full list is taken and begun anew; where the memory is too small for one worth its while, every turn is taken at
//! once.

use crate::{
    Kernels, Scalar,
    companion::{Companion, Companions, Turn},
    elementwise::Elementwise,
    factor::Basis,
    rotation::Rotation,
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
    turns: &'w [[T; TURN]],
    /// Where this part of the work has it.
    basis: Option<Basis<'w, T>>,
    companions: Companions<'w, T>,
}

impl<T: Scalar> TurnList<'_, T> {
    #[inline(always)]
    pub(crate) fn take<const INLINED: bool>(self) {
        let turns = self
            .turns
            .iter()
            .map(|[p, q, rotation @ ..]| (p.to_usize(), q.to_usize(), Rotation::from_words(*rotation)));
        if let Some(mut basis) = self.basis {
            for (p, q, rotation) in turns.clone() {
                basis.turn_as::<INLINED>(p, q, &rotation);
            }
        }
        for mut companion in self.companions {
            companion.turn_all::<INLINED>(turns.clone());
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

/// The turns of a walk.
pub(crate) struct Waiting<'w, T> {
    kernels: &'w dyn Kernels<T>,
    turns: &'w mut [[T; TURN]],
    count: usize,
}

impl<'w, T: Scalar> Waiting<'w, T> {
    /// A list in these words for a factor of so many lines, if that is worth its while.
    pub(crate) fn new(kernels: &'w dyn Kernels<T>, words: &'w mut [T], lines: usize) -> Option<Self> {
        let turns = words.as_chunks_mut().0;
        (lines >= LARGE && turns.len() >= WORTH).then_some(Self { kernels, turns, count: 0 })
    }

    /// Turns lines p < q of all, later.
    pub(crate) fn turn(
        &mut self,
        basis: &mut Basis<'_, T>,
        companions: &mut [Companion<'_, T>],
        (p, q): (usize, usize),
        rotation: &Rotation<T>,
    ) {
        if let Some(turn) = self.turns.get_mut(self.count) {
            let [tangent, sine, ratio] = rotation.words();
            // Exact: a matrix of 2^24 lines fits into no memory.
            *turn = [T::from_usize(p), T::from_usize(q), tangent, sine, ratio];
            self.count += 1;
        }
        if self.count == self.turns.len() {
            self.finish(basis, companions);
        }
    }

    /// Takes all turns that wait.
    pub(crate) fn finish(&mut self, basis: &mut Basis<'_, T>, companions: &mut [Companion<'_, T>]) {
        let turns = self.turns.get(..self.count).unwrap_or_default();
        let mut companions = companions.iter_mut().map(Companion::reborrow);
        let empty = || Companion::rows(&mut [], 0, Turn::Linear);
        let companions = core::array::from_fn(|_| companions.next().unwrap_or_else(empty));
        let list = TurnList { turns, basis: Some(basis.reborrow()), companions };
        self.kernels.elementwise(Elementwise::turn(list));
        self.count = 0;
    }
}
