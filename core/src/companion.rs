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
        let turned = |x, y| match (rotation, self.turn) {
            (Some(rotation), Turn::Linear) => rotation.turned(x, y),
            (Some(rotation), Turn::Moments) => rotation.turned_moments(x, y),
            (None, _) => (y, x),
        };
        let stride = self.stride;
        if !self.by_columns {
            for column in self.data.chunks_exact_mut(stride.max(1)) {
                if let Ok([x, y]) = column.get_disjoint_mut([p, q]) {
                    (*x, *y) = turned(*x, *y);
                }
            }
        } else if let Some((head, tail)) = self.data.split_at_mut_checked(q.saturating_mul(stride)) {
            let xs = head.iter_mut().skip(p * stride).take(stride);
            xs.zip(tail).for_each(|(x, y)| (*x, *y) = turned(*x, *y));
        }
    }
}
