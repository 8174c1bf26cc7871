//! Data from a seed, exact on every target: whole numbers and one exact division.

/// Marsaglia's xorshift with 32 bits of state.
#[derive(Clone, Debug)]
pub struct Draws(u32);

impl Draws {
    /// A sequence of its own for each seed.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9) | 1)
    }

    /// The next 32 bits.
    pub const fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Uniform in [-1, 1): 24 bits, so exact.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 8_388_608.0 - 1.0
    }
}
