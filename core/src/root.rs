//! The square root where division is an instruction and the root is not to be had: on Cortex-M with a unit for `f32`.
//!
//! ```text
//! y <- (y + x / y) / 2, three times from half the exponent;   then the last place by whole numbers: Y^2 - Y < S <= Y^2 + Y
//! ```
//!
//! Y is the mantissa of y and S = x in units of its last place, squared. *Invariant*: correctly rounded, as libm's, which brings a
//! table and more code. *Cost*: some fifty instructions. *Failure*: none; below 0 it is NaN.

/// The root, correctly rounded.
pub(crate) fn root(x: f32) -> f32 {
    if !(x > 0.0 && x <= f32::MAX) {
        // Zeros, infinity and NaN are their own roots.
        return if x < 0.0 { f32::NAN } else { x };
    }
    // An even power of two, so that no digit of a subnormal number is lost.
    let (x, back) = if x < f32::MIN_POSITIVE { (x * 16_777_216.0, 1.0 / 4096.0) } else { (x, 1.0) };
    let bits = x.to_bits();
    let mut y = f32::from_bits((bits >> 1) + 0x1FBB_4F2E);
    for _ in 0..3 {
        y = 0.5 * (y + x / y);
    }
    // Within one place of it: from the place below, up to where it is right.
    let mut found = y.to_bits() - 1;
    let mantissa = |bits: u32| bits & 0x7F_FFFF | 0x80_0000;
    loop {
        let whole = mantissa(found);
        // Both are larger than a word, their difference is not.
        let scaled = mantissa(bits).wrapping_shl((bits >> 23) + 150 - 2 * (found >> 23));
        if scaled.wrapping_sub(whole.wrapping_mul(whole)).cast_signed() <= whole.cast_signed() {
            return f32::from_bits(found) * back;
        }
        found += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::root;

    /// All mantissas and both parities of the exponent, which are all there are up to a power of four, and numbers of every size; a
    /// mutant that leaves the last place to chance, or starts it above, differs in some. An error is a number whose root is another.
    #[test]
    fn it_is_rounded_as_the_processor_rounds() -> Result<(), f32> {
        let mantissas = 1.0_f32.to_bits()..4.0_f32.to_bits();
        let sizes = (0..f32::INFINITY.to_bits()).step_by(4099);
        let ends = [0.0, -0.0, f32::INFINITY, f32::MAX, f32::from_bits(1), f32::MIN_POSITIVE];
        for x in mantissas.chain(sizes).map(f32::from_bits).chain(ends) {
            if root(x).to_bits() != libm::sqrtf(x).to_bits() {
                return Err(x);
            }
        }
        let none = [-1.0, f32::NAN, f32::NEG_INFINITY];
        none.into_iter().find(|x| !root(*x).is_nan()).map_or(Ok(()), Err)
    }
}
