//! Kernels that keep the time of what they are asked to do, for a profile of a step.
//!
//! *Cost*: two readings of the clock a call. What a step spends outside its kernels (rotations, the update of the weights) is the
//! rest of its time.

use ekfac::{Activation, Blend, Kernels, MatrixMut, MatrixRef, Scalar};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What the kernels are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// out = left right: through weights and bases.
    Product,
    /// out = left^T right: projections, and weights on the way back.
    Projection,
    /// out = left right^T: gradients.
    Gradient,
    /// The covariances of the factors.
    Factors,
    /// The scalings.
    Scalings,
    /// Activations and their derivatives.
    Activations,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 6] =
        [Self::Product, Self::Projection, Self::Gradient, Self::Factors, Self::Scalings, Self::Activations];
}

/// Time and multiply-adds of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Time.
    pub time: Duration,
    /// Multiply-adds.
    pub products: u64,
}

/// Kernels with a clock.
#[derive(Debug, Default)]
pub struct Timed<K> {
    kernels: K,
    spent: Mutex<[Spent; Kind::ALL.len()]>,
}

impl<K> Timed<K> {
    /// These kernels, timed.
    #[must_use]
    pub fn new(kernels: K) -> Self {
        Self { kernels, spent: Mutex::default() }
    }

    /// What was spent since the last call, kind by kind in the order of [`Kind::ALL`].
    #[must_use]
    pub fn take(&self) -> [Spent; Kind::ALL.len()] {
        std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn time<R>(&self, kind: Kind, products: usize, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = work();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let own = &mut spent[kind as usize];
        own.time += start.elapsed();
        own.products += products as u64;
        result
    }
}

impl<T: Scalar, K: std::ops::Deref<Target: Kernels<T>> + Sync> Kernels<T> for Timed<K> {
    fn product(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        let products = left.rows() * left.columns() * right.columns();
        self.time(Kind::Product, products, || self.kernels.product(out, left, right, scale, keep));
    }

    fn product_left_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        let products = left.rows() * left.columns() * right.columns();
        self.time(Kind::Projection, products, || {
            self.kernels.product_left_transposed(out, left, right, scale, keep);
        });
    }

    fn product_right_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        let products = left.rows() * left.columns() * right.rows();
        self.time(Kind::Gradient, products, || {
            self.kernels.product_right_transposed(out, left, right, scale, keep);
        });
    }

    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]) {
        let products = x.rows() * (x.rows() + 1) / 2 * x.columns();
        self.time(Kind::Factors, products, || self.kernels.symmetric_update(packed, x, blend, scratch));
    }

    fn squared_product(
        &self,
        scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        let products = g.rows() * a.rows() * a.columns();
        self.time(Kind::Scalings, products, || self.kernels.squared_product(scalings, g, a, blend, scratch));
    }

    fn activate(&self, activation: Activation, z: &[T], h: &mut [T]) -> bool {
        self.time(Kind::Activations, 0, || self.kernels.activate(activation, z, h))
    }

    fn through_activation(&self, activation: Activation, g: &mut [T], z: &[T], h: &[T]) {
        self.time(Kind::Activations, 0, || self.kernels.through_activation(activation, g, z, h));
    }
}
