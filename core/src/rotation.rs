//! One plane rotation, in Rutishauser's form ([`jacobi`](crate::jacobi)).
//!
//! *Invariant*: by at most 45 degrees. *Cost*: 8 operations a pair, 5 a pair of second moments. *Failure*: none.

use crate::Scalar;

/// One plane rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation<T> {
    tangent: T,
    sine: T,
    ratio: T,
}

impl<T: Scalar> Rotation<T> {
    /// The rotation by at most 45 degrees that annihilates c_pq.
    pub fn annihilating(c_pp: T, c_qq: T, c_pq: T) -> Self {
        let theta = T::HALF * ((c_qq - c_pp) / c_pq);
        let size = theta.abs();
        // Beyond 1/eps the square root is |theta| to the last bit, and theta^2 could overflow.
        let tangent = if size * T::EPSILON > T::ONE {
            T::HALF / size
        } else {
            T::ONE / (size + (size * size + T::ONE).sqrt())
        };
        let tangent = if theta < T::ZERO { -tangent } else { tangent };
        let cosine = T::ONE / (tangent * tangent + T::ONE).sqrt();
        let sine = tangent * cosine;
        Self { tangent, sine, ratio: sine / (T::ONE + cosine) }
    }

    /// From what [`words`](Self::words) has given.
    #[cfg(feature = "large")]
    pub(crate) fn from_words([tangent, sine, ratio]: [T; 3]) -> Self {
        Self { tangent, sine, ratio }
    }

    #[cfg(feature = "large")]
    pub(crate) fn words(&self) -> [T; 3] {
        [self.tangent, self.sine, self.ratio]
    }

    pub(crate) fn tangent(&self) -> T {
        self.tangent
    }

    /// The pair (x, y) turned.
    pub(crate) fn turned(&self, x: T, y: T) -> (T, T) {
        (x - self.sine * (y + self.ratio * x), y + self.sine * (x - self.ratio * y))
    }

    /// The pair of second moments (x, y) turned: the diagonal of the rotated diagonal. Keeps the sum and the sign.
    pub(crate) fn turned_moments(&self, x: T, y: T) -> (T, T) {
        let moved = self.sine * self.sine * (x - y);
        (x - moved, y + moved)
    }
}
