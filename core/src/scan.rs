//! Passes that only read, as elementwise work: whether all words are within their limits, and what they add up to.
//!
//! *Invariant*: a sum has the bits of [`kernels::sum`](crate::kernels::sum), and is not cut. *Cost*: an operation a word. *Failure*: none;
//! NaN is within no limit, and a sum with one is NaN.

use crate::{
    Kernels, Scalar,
    elementwise::Elementwise,
    guard::are_within,
    kernels::{LONG_SUM, pairwise, sum},
};

/// Pieces that a look at limits can be cut in.
const PIECES: usize = 32;

/// The sum by kernels that have wider vectors.
pub(crate) fn sum_by<T: Scalar>(kernels: &dyn Kernels<T>, values: &[T]) -> T {
    if values.len() <= LONG_SUM {
        return sum(values);
    }
    let mut found = T::ZERO;
    kernels.elementwise(Elementwise::scan(Scan::Sum { values, found: &mut found }));
    found
}

/// Values, and the largest magnitude that they may have.
pub(crate) type Limited<'v, T> = (&'v [T], T);

/// Whether all of these are within their limits, likewise.
pub(crate) fn are_within_by<T: Scalar>(kernels: &dyn Kernels<T>, values: [Limited<'_, T>; 4]) -> bool {
    let mut notes = [true; PIECES];
    kernels.elementwise(Elementwise::scan(Scan::Limits { values, notes: &mut notes }));
    notes.iter().all(|sound| *sound)
}

/// One of these as elementwise work. What is found about limits goes into the notes, which are cut with it.
#[derive(Debug)]
pub(crate) enum Scan<'w, T> {
    Sum { values: &'w [T], found: &'w mut T },
    Limits { values: [Limited<'w, T>; 4], notes: &'w mut [bool] },
}

impl<T: Scalar> Scan<'_, T> {
    #[inline(always)]
    pub(crate) fn go(self) {
        match self {
            Scan::Sum { values, found } => *found = long_sum(values),
            Scan::Limits { values, notes } => {
                if let Some(note) = notes.first_mut() {
                    for (values, limit) in values {
                        *note &= are_within(values, limit);
                    }
                }
            }
        }
    }

    pub(crate) fn words(&self) -> usize {
        match self {
            Scan::Sum { values, .. } => values.len(),
            Scan::Limits { values, .. } => values.iter().map(|(values, _)| values.len()).sum(),
        }
    }

    /// In two halves; one alone of a sum, and where there are no notes for two.
    pub(crate) fn halves(self) -> (Self, Option<Self>) {
        match self {
            whole @ Scan::Sum { .. } => (whole, None),
            Scan::Limits { values, notes } => {
                if notes.len() < 2 {
                    return (Scan::Limits { values, notes }, None);
                }
                let (first, second) = notes.split_at_mut(notes.len() / 2);
                let halves = values.map(|(values, limit)| (values.split_at(values.len() / 2), limit));
                (
                    Scan::Limits { values: halves.map(|((one, _), limit)| (one, limit)), notes: first },
                    Some(Scan::Limits {
                        values: halves.map(|((_, other), limit)| (other, limit)),
                        notes: second,
                    }),
                )
            }
        }
    }
}

/// Over eight accumulators.
#[inline(always)]
fn long_sum<T: Scalar>(values: &[T]) -> T {
    let mut sums = [T::ZERO; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks {
        for (sum, value) in sums.iter_mut().zip(block) {
            *sum += *value;
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += *value;
    }
    pairwise(sums)
}
