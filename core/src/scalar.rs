//! The scalar: `f32` or `f64`, sealed. Only operations whose bits agree on every target go through here:
//! `+ - * /`, comparison, `abs`, `sqrt` (correctly rounded, by libm or by core itself) and libm's software functions.

use core::fmt::{Debug, Display, LowerExp};
use core::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A real number, `f32` or `f64`.
pub trait Scalar:
    sealed::Sealed
    + Copy
    + Default
    + PartialOrd
    + Debug
    + Display
    + LowerExp
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// 1/2.
    const HALF: Self;
    /// Distance from 1 to the next larger number.
    const EPSILON: Self;
    /// The largest finite number.
    const MAX: Self;
    /// The smallest positive normal number.
    const MIN_POSITIVE: Self;
    /// Bytes of a word: 4 for `f32`, 8 for `f64`.
    const WIDTH: usize;
    /// Cap on the sweeps of one Jacobi solve: 30 for `f32`, 40 for `f64`.
    const SWEEP_LIMIT: u32;
    /// Beyond 2 to this power, up or down, a matrix is scaled before it is solved.
    const SAFE_EXPONENT: i32;

    /// The nearest scalar to an `f64`.
    fn from_f64(value: f64) -> Self;
    /// This scalar as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// The bit pattern, in the low [`WIDTH`](Self::WIDTH) bytes.
    fn to_bit_pattern(self) -> u64;
    /// From the low [`WIDTH`](Self::WIDTH) bytes of a bit pattern.
    fn from_bit_pattern(pattern: u64) -> Self;
    /// The nearest scalar to a count.
    fn from_usize(value: usize) -> Self;
    /// The whole number nearest below, at least 0 and at most the largest; 0 for NaN.
    fn to_usize(self) -> usize;
    /// This share, in [0, 1], of a count, rounded up. To the unit for counts below 2^40 in `f32` (by whole numbers: a device
    /// has no fast `f64`), and below 2^53 in `f64`.
    fn share_of(self, count: u64) -> u64;
    /// A uniform number in [0, 1) from 64 random bits; both precisions take the leading bits.
    fn from_unit_bits(bits: u64) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// Square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Exponential function.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + self), accurate near zero.
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Cosine.
    fn cos(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// The power of two just at or below |self|; 0 for zero.
    fn exponent(self) -> i32;
    /// self times 2 to the given power: exact unless it leaves the range.
    fn times_power_of_two(self, exponent: i32) -> Self;

    /// The larger of two numbers; NaN when either is NaN.
    fn maximum(self, other: Self) -> Self {
        if self < other || is_nan(other) { other } else { self }
    }
    /// The smaller of two numbers; NaN when either is NaN.
    fn minimum(self, other: Self) -> Self {
        if other < self || is_nan(other) { other } else { self }
    }
}

fn is_nan<T: Scalar>(value: T) -> bool {
    value.partial_cmp(&value).is_none()
}

macro_rules! scalar {
    ($type:ident, $bits:ident, $sweeps:literal, $safe:literal, $mantissa:literal,
     $sqrt:ident, $exp:ident, $ln:ident, $ln_1p:ident, $tanh:ident, $cos:ident, $erf:ident, $frexp:ident, $scale:ident, $share:ident) => {
        impl Scalar for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const HALF: Self = 0.5;
            const EPSILON: Self = $type::EPSILON;
            const MAX: Self = $type::MAX;
            const MIN_POSITIVE: Self = $type::MIN_POSITIVE;
            const WIDTH: usize = size_of::<$type>();
            const SWEEP_LIMIT: u32 = $sweeps;
            const SAFE_EXPONENT: i32 = $safe;

            fn from_f64(value: f64) -> Self {
                value as $type
            }
            #[allow(clippy::cast_lossless)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[allow(clippy::cast_lossless, clippy::unnecessary_cast)]
            fn to_bit_pattern(self) -> u64 {
                self.to_bits() as u64
            }
            fn from_bit_pattern(pattern: u64) -> Self {
                $type::from_bits(pattern as $bits)
            }
            fn from_usize(value: usize) -> Self {
                value as $type
            }
            fn to_usize(self) -> usize {
                self as usize
            }
            fn share_of(self, count: u64) -> u64 {
                $share(self, count)
            }
            fn from_unit_bits(bits: u64) -> Self {
                // The leading bits that the mantissa holds, times 2^-mantissa: never rounds up to 1.
                (bits >> (64 - $mantissa)) as $type / (1_u64 << $mantissa) as $type
            }
            fn abs(self) -> Self {
                $type::abs(self)
            }
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
            fn sqrt(self) -> Self {
                $sqrt(self)
            }
            fn exp(self) -> Self {
                libm::$exp(self)
            }
            fn ln(self) -> Self {
                libm::$ln(self)
            }
            fn ln_1p(self) -> Self {
                libm::$ln_1p(self)
            }
            fn tanh(self) -> Self {
                libm::$tanh(self)
            }
            fn cos(self) -> Self {
                libm::$cos(self)
            }
            fn erf(self) -> Self {
                libm::$erf(self)
            }
            fn exponent(self) -> i32 {
                if self == 0.0 { 0 } else { libm::$frexp(self).1 - 1 }
            }
            fn times_power_of_two(self, exponent: i32) -> Self {
                libm::$scale(self, exponent)
            }
        }
    };
}

scalar!(
    f32,
    u32,
    30,
    50,
    24,
    single_root,
    expf,
    logf,
    log1pf,
    tanhf,
    cosf,
    erff,
    frexpf,
    scalbnf,
    single_share_of
);
scalar!(f64, u64, 40, 400, 53, double_root, exp, log, log1p, tanh, cos, erf, frexp, scalbn, double_share_of);

fn double_root(x: f64) -> f64 {
    libm::sqrt(x)
}

fn single_root(x: f32) -> f32 {
    #[cfg(all(target_arch = "arm", target_abi = "eabihf"))]
    let root = crate::root::root(x);
    #[cfg(not(all(target_arch = "arm", target_abi = "eabihf")))]
    let root = libm::sqrtf(x);
    root
}

fn double_share_of(share: f64, count: u64) -> u64 {
    libm::ceil(share * count as f64) as u64
}

/// share = mantissa 2^-shift.
fn single_share_of(share: f32, count: u64) -> u64 {
    if share >= 1.0 {
        return count;
    }
    let (exponent, fraction) = ((share.to_bits() >> 23) & 0xFF, share.to_bits() & 0x7F_FFFF);
    let mantissa = if exponent == 0 { fraction } else { fraction | 0x80_0000 };
    let (count, shift) = if count >> 40 == 0 { (count, 150) } else { (count >> 24, 126) };
    let product = count * u64::from(mantissa);
    match shift - exponent.max(1).min(shift) {
        shift @ ..64 => (product >> shift) + u64::from(product & !(u64::MAX << shift) != 0),
        _ => u64::from(product > 0),
    }
}
