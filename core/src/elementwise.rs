//! The work of a step that is no product: turns of lines, and passes over the state of a layer, word by word.
//!
//! With the feature `large` it is an order that [`Kernels::elementwise`](crate::Kernels::elementwise) carries out: an engine may do so under wider vectors, or
//! on several threads by [`halves`](Elementwise::halves). *Invariant*: every word sees the same operations in the same order
//! whichever way is taken, and sums are added up in one order, so the bits are the same. *Cost*: that of [`refresh`](crate::step) and of
//! [`precondition`](crate::precondition()). *Failure*: none.

use crate::{Scalar, precondition::Advance, row_walk::RowWalk, scan::Scan, survey::Sight, turns::TurnList};

/// A piece of elementwise work.
#[derive(Debug)]
pub struct Elementwise<'w, T>(Work<'w, T>);

#[derive(Debug)]
enum Work<'w, T> {
    Walk([Option<RowWalk<'w, T>>; 2]),
    Turn(TurnList<'w, T>),
    Survey(Sight<'w, T>),
    Advance(Advance<'w, T>),
    Scan(Scan<'w, T>),
}

impl<'w, T: Scalar> Elementwise<'w, T> {
    /// Does it.
    #[inline(never)]
    pub fn run(self) {
        self.run_as::<false>();
    }

    /// Does it, inlined into a caller that has been compiled for wider vectors.
    #[inline(always)]
    pub fn run_inlined(self) {
        self.run_as::<true>();
    }

    #[inline(always)]
    fn run_as<const INLINED: bool>(self) {
        match self.0 {
            Work::Walk(walks) => {
                for walk in walks.into_iter().flatten() {
                    walk.go();
                }
            }
            Work::Turn(list) => list.take::<INLINED>(),
            Work::Survey(sight) => sight.look::<INLINED>(),
            Work::Advance(advance) => advance.go::<INLINED>(),
            Work::Scan(scan) => scan.go(),
        }
    }

    /// Two pieces that can be done at the same time; one alone where it cannot be cut.
    pub fn halves(self) -> (Self, Option<Self>) {
        match self.0 {
            Work::Walk([Some(one), Some(other)]) => {
                (Self::walks([Some(one), None]), Some(Self::walks([None, Some(other)])))
            }
            Work::Turn(list) => {
                let (one, other) = list.halves();
                (Self(Work::Turn(one)), other.map(Self::turn))
            }
            Work::Advance(advance) => {
                let (one, other) = advance.halves();
                (Self(Work::Advance(one)), other.map(Self::advance))
            }
            Work::Survey(sight) => {
                let (one, other) = sight.halves();
                (Self(Work::Survey(one)), other.map(Self::survey))
            }
            Work::Scan(scan) => {
                let (one, other) = scan.halves();
                (Self(Work::Scan(one)), other.map(Self::scan))
            }
            Work::Walk(walks) => (Self(Work::Walk(walks)), None),
        }
    }

    /// Words that it goes over.
    pub fn words(&self) -> usize {
        match &self.0 {
            Work::Walk(walks) => walks.iter().flatten().map(RowWalk::words).fold(0, usize::saturating_add),
            Work::Turn(list) => list.words(),
            Work::Survey(sight) => sight.words(),
            Work::Advance(advance) => advance.words(),
            Work::Scan(scan) => scan.words(),
        }
    }

    pub(crate) fn walks(walks: [Option<RowWalk<'w, T>>; 2]) -> Self {
        Self(Work::Walk(walks))
    }

    pub(crate) fn turn(list: TurnList<'w, T>) -> Self {
        Self(Work::Turn(list))
    }

    pub(crate) fn survey(sight: Sight<'w, T>) -> Self {
        Self(Work::Survey(sight))
    }

    pub(crate) fn scan(scan: Scan<'w, T>) -> Self {
        Self(Work::Scan(scan))
    }

    pub(crate) fn advance(advance: Advance<'w, T>) -> Self {
        Self(Work::Advance(advance))
    }
}
