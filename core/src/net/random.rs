//! Random numbers: xoshiro128++ (Blackman and Vigna 2021) from a seed and a counter, so that a run can be resumed from
//! its [`Progress`](crate::Progress) alone and no generator state has to be stored.

use crate::{Config, Progress, Scalar, progress::is_due, single::built};
use core::ops::Range;
use rand_xoshiro::{
    Xoshiro128PlusPlus,
    rand_core::{Rng, SeedableRng},
};

/// A stream of random numbers.
pub struct Stream(Xoshiro128PlusPlus);

impl Stream {
    /// The stream of one counter value under one seed.
    pub(crate) fn new(seed: u64, counter: u64) -> Self {
        // An odd multiplier is a bijection, so distinct counters give distinct states.
        let state = seed ^ counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(Xoshiro128PlusPlus::seed_from_u64(state))
    }

    /// A function of its own, since code that is drawn with in many places would be in each of them.
    #[inline(never)]
    fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in [0, 1).
    pub(crate) fn uniform<T: Scalar>(&mut self) -> T {
        // As the generator forms 64 bits: the lower half first.
        let low = u64::from(self.bits());
        T::from_unit_bits(u64::from(self.bits()) << 32 | low)
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal<T: Scalar>(&mut self) -> T {
        let radius = (T::from_f64(-2.0) * (-self.uniform::<T>()).ln_1p()).sqrt();
        radius * (T::from_f64(core::f64::consts::TAU) * self.uniform::<T>()).cos()
    }

    /// A seed for a generator that runs elsewhere.
    pub fn seed(&mut self) -> u32 {
        self.bits()
    }

    /// 1 or -1.
    pub(crate) fn sign<T: Scalar>(&mut self) -> T {
        if self.bits() >> 31 == 0 { T::ONE } else { -T::ONE }
    }
}

/// The block of a batch that enters the statistics, and its weight. Blocks are drawn with a probability in proportion to
/// their size, and a shorter last one weighs as much as the others: so every example has the same expected weight, in
/// whatever order they come.
pub(crate) fn measured<T: Scalar>(
    config: &Config<T>,
    progress: &Progress<T>,
    stream: &mut Stream,
    batch: usize,
) -> (Range<usize>, usize) {
    let batch = built(batch);
    if !is_due(progress.steps, config.statistics_period) {
        return (0..0, 0);
    }
    let share = config.share_of_batch(batch);
    if share == T::ONE {
        return (0..batch, batch);
    }
    // Rounded up, so that the very first example is measured.
    let before = progress.examples;
    // Beyond so many examples as a share can be taken of exactly, the difference is rounded.
    let due = share.share_of(before.saturating_add(batch as u64)).saturating_sub(share.share_of(before));
    let count = (due as usize).min(config.measured_at_most(batch));
    if count == 0 {
        return (0..0, 0);
    }
    let drawn = (stream.uniform::<T>() * T::from_usize(batch)).to_usize();
    let start = drawn.min(batch - 1) / count * count;
    (start..(start + count).min(batch), count)
}
