//! What the fuzz targets do, as plain functions of bytes: a finding replays under a debugger or in a test without a
//! fuzzer. Every function panics on a finding and on nothing else.

pub mod checkpoint;
pub mod eigen;
pub mod readers;
pub mod shape;
pub mod snapshot;
pub mod step;

use arbitrary::Unstructured;

/// A scalar by its bit pattern, so that NaN, infinities, subnormals and -0 turn up as often as all else.
trait Bits: ekfac::Scalar {
    /// Not a number.
    const NAN: Self;
    /// The smallest positive subnormal number.
    const TINY: f64;
    /// From the next bytes; 0 where they have run out.
    fn read(bytes: &mut Unstructured<'_>) -> Self;
    /// The bit pattern, widened.
    fn bits(self) -> u64;
}

impl Bits for f32 {
    const NAN: Self = f32::NAN;
    const TINY: f64 = 1.401_298_464_324_817e-45;

    fn read(bytes: &mut Unstructured<'_>) -> Self {
        Self::from_bits(bytes.arbitrary().unwrap_or_default())
    }

    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Bits for f64 {
    const NAN: Self = f64::NAN;
    const TINY: f64 = 5e-324;

    fn read(bytes: &mut Unstructured<'_>) -> Self {
        Self::from_bits(bytes.arbitrary().unwrap_or_default())
    }

    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// The next byte; 0 when there is none.
fn byte(bytes: &mut Unstructured<'_>) -> u8 {
    bytes.arbitrary().unwrap_or_default()
}

/// Bit patterns, for comparisons that NaN and -0 cannot fool.
fn all_bits<T: Bits>(values: &[T]) -> Vec<u64> {
    values.iter().map(|value| value.bits()).collect()
}
