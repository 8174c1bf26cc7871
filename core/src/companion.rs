//! What turns along with an eigenbasis: every matrix that is held in its coordinates.
//!
//! A rotation in the plane (p, q) changes line p and line q of each: columns on the input side, rows on the output side.
//! *Cost*: 8 operations a pair of words that turns like a vector, 5 a pair of second moments. An empty matrix is left alone.

use crate::{Scalar, rotation::Rotation};

/// How the values of a companion change under a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Like a vector: the basis, a gradient, a velocity.
    Linear,
    /// Like second moments: the scalings.
    Moments,
}

/// A matrix that turns along with a basis: line p and line q change with every rotation in the plane (p, q).
#[derive(Debug)]
pub struct Companion<'a, T> {
    data: &'a mut [T],
    stride: usize,
    by_columns: bool,
    turn: Turn,
}

impl<'a, T: Scalar> Companion<'a, T> {
    pub(crate) fn new(data: &'a mut [T], rows: usize, by_columns: bool, turn: Turn) -> Self {
        Self { data, stride: rows, by_columns, turn }
    }

    /// A matrix of `rows` rows whose columns are the lines.
    pub fn columns(data: &'a mut [T], rows: usize, turn: Turn) -> Self {
        Self::new(data, rows, true, turn)
    }

    /// A matrix of `rows` rows whose rows are the lines.
    pub fn rows(data: &'a mut [T], rows: usize, turn: Turn) -> Self {
        Self::new(data, rows, false, turn)
    }

    /// Turns lines p and q.
    pub fn rotate(&mut self, p: usize, q: usize, rotation: &Rotation<T>) {
        self.turn(p, q, Some(rotation));
    }

    /// Turns lines p < q, or exchanges them where there is no rotation.
    #[inline(never)]
    pub(crate) fn turn(&mut self, p: usize, q: usize, rotation: Option<&Rotation<T>>) {
        self.turn_inlined(p, q, rotation);
    }

    #[inline(always)]
    fn turn_inlined(&mut self, p: usize, q: usize, rotation: Option<&Rotation<T>>) {
        let turned = |x, y| match (rotation, self.turn) {
            (Some(rotation), Turn::Linear) => rotation.turned(x, y),
            (Some(rotation), Turn::Moments) => rotation.turned_moments(x, y),
            (None, _) => (y, x),
        };
        let stride = self.stride;
        if !self.by_columns {
            for column in self.data.chunks_exact_mut(stride.max(1)) {
                turn_two(column, p, q, turned);
            }
        } else if let Some((head, tail)) = self.data.split_at_mut_checked(q.saturating_mul(stride)) {
            let Some(xs) = head.get_mut(p * stride..(p + 1) * stride) else { return };
            for (x, y) in xs.iter_mut().zip(tail) {
                (*x, *y) = turned(*x, *y);
            }
        }
    }
}

/// Two values of a slice in the place of the same two turned.
#[inline(always)]
pub(crate) fn turn_two<T: Scalar>(values: &mut [T], p: usize, q: usize, turned: impl Fn(T, T) -> (T, T)) {
    let (Some(x), Some(y)) = (values.get(p), values.get(q)) else { return };
    let (x, y) = turned(*x, *y);
    // One after another: a check that they are two is much code.
    if let Some(word) = values.get_mut(p) {
        *word = x;
    }
    if let Some(word) = values.get_mut(q) {
        *word = y;
    }
}

/// What a list of turns needs ([`turns`](crate::turns)).
#[cfg(feature = "large")]
impl<T: Scalar> Companion<'_, T> {
    /// [`turn`](Self::turn) with a rotation, inlined or by a call.
    #[inline(always)]
    pub(crate) fn turn_as<const INLINED: bool>(&mut self, p: usize, q: usize, rotation: &Rotation<T>) {
        if INLINED { self.turn_inlined(p, q, Some(rotation)) } else { self.turn(p, q, Some(rotation)) }
    }

    pub(crate) fn reborrow(&mut self) -> Companion<'_, T> {
        Companion { data: self.data, ..*self }
    }

    /// All turns of a list, in its order. A row has a word in every column, so that each word of a turn would come from afar: rows
    /// turn in some columns after another.
    #[inline(always)]
    pub(crate) fn turn_all<const INLINED: bool>(
        &mut self,
        turns: impl ExactSizeIterator<Item = (usize, usize, Rotation<T>)> + Clone,
    ) {
        let columns = (NEAR / T::WIDTH / self.stride.max(1)).max(LEAST_COLUMNS);
        let block = if self.by_columns { self.data.len() } else { self.stride.saturating_mul(columns) };
        for data in self.data.chunks_mut(block.max(1)) {
            if !self.by_columns && turns.len() * (LINE / T::WIDTH) >= self.stride {
                fetch(data);
            }
            let mut block = Companion { data, ..*self };
            for (p, q, rotation) in turns.clone() {
                block.turn_as::<INLINED>(p, q, &rotation);
            }
        }
    }

    /// Words of a line.
    pub(crate) fn line(&self) -> usize {
        if self.by_columns { self.data.len().min(self.stride) } else { self.data.len() / self.stride.max(1) }
    }

    /// The same without a word.
    pub(crate) fn emptied<'e>(&mut self) -> Companion<'e, T> {
        Companion { data: &mut [], ..*self }
    }

    /// The companion, with none of its words left where it was.
    pub(crate) fn take(&mut self) -> Self {
        Companion { data: core::mem::take(&mut self.data), ..*self }
    }
}

/// What turns along with a side of a layer in a step, at most: S, the velocity, the weights and what is in flight.
#[cfg(feature = "large")]
pub(crate) type Companions<'a, T> = [Companion<'a, T>; 5];

/// Bytes of a line of most caches.
#[cfg(feature = "large")]
const LINE: usize = 64;

/// Reads a word in each line of a cache, in order, so that all are near when they turn in another order: from main memory that takes a
/// quarter off the time, where the turns reach most lines.
#[cfg(feature = "large")]
#[inline(always)]
fn fetch<T: Scalar>(words: &[T]) {
    core::hint::black_box(words.iter().step_by(LINE / T::WIDTH).fold(T::ZERO, |sum, word| sum + *word));
}

/// Bytes of the columns that are turned together, which stay near. Each column waits for its own last turn, so that many together are
/// faster than the few that the nearest cache would hold: 40 columns of 784 words take two thirds of the time of ten.
#[cfg(feature = "large")]
const NEAR: usize = 128 << 10;

/// At least so many columns together.
#[cfg(feature = "large")]
const LEAST_COLUMNS: usize = 16;
