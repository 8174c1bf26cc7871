//! Seeded draws for the suites. Every generator knows its seed, so that a failure can name it.

use nalgebra::DMatrix;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};

/// A seeded stream of random numbers.
#[derive(Clone, Debug)]
pub struct Draws {
    generator: Xoshiro256PlusPlus,
    seed: u64,
}

impl Draws {
    /// The stream of one seed.
    pub fn new(seed: u64) -> Self {
        Self { generator: Xoshiro256PlusPlus::seed_from_u64(seed), seed }
    }

    /// The seed, for messages.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Standard normal, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in 0..count.
    pub fn index(&mut self, count: usize) -> usize {
        (self.uniform() * count as f64) as usize
    }

    /// 1 or -1.
    pub fn sign(&mut self) -> f64 {
        if self.uniform() < 0.5 { 1.0 } else { -1.0 }
    }

    /// A matrix of standard normal entries.
    pub fn matrix(&mut self, rows: usize, columns: usize) -> DMatrix<f64> {
        DMatrix::from_fn(rows, columns, |_, _| self.normal())
    }

    /// A list of standard normal numbers.
    pub fn list(&mut self, length: usize) -> Vec<f64> {
        (0..length).map(|_| self.normal()).collect()
    }

    /// A list of class numbers below `classes`.
    pub fn classes(&mut self, length: usize, classes: usize) -> Vec<u32> {
        (0..length).map(|_| self.index(classes) as u32).collect()
    }

    /// A random order of 0..count.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.index(last + 1));
        }
        order
    }

    /// A random orthogonal matrix: the Q of a normal matrix.
    pub fn orthogonal(&mut self, size: usize) -> DMatrix<f64> {
        self.matrix(size, size).qr().q()
    }

    /// U diag(values) U^T for a random orthogonal U.
    pub fn symmetric_with(&mut self, values: &[f64]) -> DMatrix<f64> {
        let basis = self.orthogonal(values.len());
        let diagonal = DMatrix::from_diagonal(&nalgebra::DVector::from_column_slice(values));
        let product = &basis * diagonal * basis.transpose();
        (&product + product.transpose()) * 0.5
    }

    /// Columns with correlated entries, normal times a random mixing matrix: what makes K-FAC's assumption false.
    pub fn correlated(&mut self, rows: usize, columns: usize) -> DMatrix<f64> {
        self.matrix(rows, rows) * self.matrix(rows, columns)
    }
}
