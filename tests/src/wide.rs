//! Numbers of 106 bits as the unevaluated sum of two `f64` (Dekker 1971, Knuth's two-sum, a fused multiply-add for the error of
//! a product), and an eigensolver in them: the oracle for `f64`.

use nalgebra::DMatrix;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// high + low, |low| at most half a unit in the last place of high.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Wide {
    high: f64,
    low: f64,
}

fn two_sum(x: f64, y: f64) -> Wide {
    let high = x + y;
    let part = high - x;
    Wide { high, low: (x - (high - part)) + (y - part) }
}

impl From<f64> for Wide {
    fn from(high: f64) -> Self {
        Self { high, low: 0.0 }
    }
}

impl Add for Wide {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (high, low) = (two_sum(self.high, other.high), two_sum(self.low, other.low));
        let sum = two_sum(high.high, high.low + low.high);
        two_sum(sum.high, sum.low + low.low)
    }
}

impl Neg for Wide {
    type Output = Self;

    fn neg(self) -> Self {
        Self { high: -self.high, low: -self.low }
    }
}

impl Sub for Wide {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Wide {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let high = self.high * other.high;
        let error = self.high.mul_add(other.high, -high);
        two_sum(high, error + (self.high * other.low + self.low * other.high))
    }
}

impl Div for Wide {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        let first = self.high / other.high;
        let rest = self - other * first.into();
        let second = rest.high / other.high;
        let third = (rest - other * second.into()).high / other.high;
        two_sum(first, second) + third.into()
    }
}

impl Wide {
    /// The nearest `f64`.
    pub fn to_f64(self) -> f64 {
        self.high + self.low
    }

    fn abs(self) -> Self {
        if self.high < 0.0 { -self } else { self }
    }

    /// Square root by one Newton step from that of the leading part.
    pub fn sqrt(self) -> Self {
        let first = self.high.sqrt();
        if first == 0.0 {
            return Self::from(0.0);
        }
        let rest = self - Self::from(first) * Self::from(first);
        Self::from(first) + rest / Self::from(2.0 * first)
    }
}

/// Eigenvalues of a positive definite matrix, ascending, each to about 30 digits of its own even where the matrix is graded.
pub fn eigenvalues(matrix: &DMatrix<f64>) -> Vec<f64> {
    let size = matrix.ncols();
    let mut c: Vec<Vec<Wide>> =
        (0..size).map(|i| (0..size).map(|j| Wide::from(matrix[(i, j)])).collect()).collect();
    let one = Wide::from(1.0);
    let mut idle = false;
    for _ in 0..60 {
        idle = true;
        for p in 0..size {
            for q in p + 1..size {
                let negligible = Wide::from(1e-30) * (c[p][p].abs() * c[q][q].abs()).sqrt();
                if c[p][q].abs() <= negligible {
                    continue;
                }
                idle = false;
                let theta = (c[q][q] - c[p][p]) / (c[p][q] + c[p][q]);
                let tangent = one / (theta.abs() + (theta * theta + one).sqrt());
                let tangent = if theta.high < 0.0 { -tangent } else { tangent };
                let cosine = one / (tangent * tangent + one).sqrt();
                let sine = tangent * cosine;
                for row in &mut c {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (cosine * x - sine * y, sine * x + cosine * y);
                }
                let (head, tail) = c.split_at_mut(q);
                for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
                    (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
                }
            }
        }
        if idle {
            break;
        }
    }
    assert!(idle, "the oracle did not converge");
    let mut values: Vec<f64> = (0..size).map(|i| c[i][i].to_f64()).collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_has_a_hundred_bits() {
        let third = Wide::from(1.0) / Wide::from(3.0);
        let error = third + third + third - Wide::from(1.0);
        assert!(error.abs().to_f64() <= 1e-31, "{error:?}");
        let root = Wide::from(2.0).sqrt();
        let error = root * root - Wide::from(2.0);
        assert!(error.abs().to_f64() <= 1e-31, "{error:?}");
        assert_eq!((Wide::from(1.0) + Wide::from(1e-25) - Wide::from(1.0)).to_f64(), 1e-25);
    }

    #[test]
    fn eigenvalues_are_those_of_a_matrix_known_by_heart() {
        // 2 +- sqrt(4 - 1e-20): the smaller one is 2.5e-21 and lost to f64 arithmetic on the matrix's scale.
        let matrix = DMatrix::from_row_slice(2, 2, &[4.0, 1e-10, 1e-10, 5e-21]);
        let found = eigenvalues(&matrix);
        let (small, large) = (2.5e-21, 4.0);
        assert!((found[0] - small).abs() <= 1e-15 * small && (found[1] - large).abs() <= 1e-15 * large);
    }
}
