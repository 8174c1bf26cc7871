//! Random numbers: xoshiro128++ (Blackman and Vigna 2021) from a seed and a counter, so that a run can be resumed from
//! its [`Progress`](crate::Progress) alone and no generator state has to be stored.

use crate::Scalar;
use rand_xoshiro::{
    Xoshiro128PlusPlus,
    rand_core::{Rng, SeedableRng},
};

/// A stream of random numbers.
pub(crate) struct Stream(Xoshiro128PlusPlus);

impl Stream {
    /// The stream of one counter value under one seed.
    pub(crate) fn new(seed: u64, counter: u64) -> Self {
        // An odd multiplier is a bijection, so distinct counters give distinct states.
        let state = seed ^ counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(Xoshiro128PlusPlus::seed_from_u64(state))
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform<T: Scalar>(&mut self) -> T {
        T::from_unit_bits(self.0.next_u64())
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal<T: Scalar>(&mut self) -> T {
        let radius = (T::from_f64(-2.0) * (-self.uniform::<T>()).ln_1p()).sqrt();
        radius * (T::from_f64(core::f64::consts::TAU) * self.uniform::<T>()).cos()
    }

    /// 1 or -1.
    pub(crate) fn sign<T: Scalar>(&mut self) -> T {
        if self.0.next_u32() >> 31 == 0 { T::ONE } else { -T::ONE }
    }
}
