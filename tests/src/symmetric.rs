//! Symmetric matrices that eigensolvers are tested with: LAPACK's 21 kinds, generated here from the description in its test
//! program DCHKST, graded matrices, and matrices of the kinds on which published solvers failed.

use crate::random::Draws;
use nalgebra::{DMatrix, DVector};

/// The number of kinds in DCHKST.
pub const KINDS: usize = 21;

/// What a type brings to the kinds: its unit, and the square roots of its largest and smallest normal number.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// Distance from 1 to the next larger number.
    pub unit: f64,
    /// The square root of the largest number.
    pub large: f64,
    /// The square root of the smallest normal number.
    pub small: f64,
}

impl Range {
    /// That of a scalar of core's.
    pub fn of<T: ekfac::Scalar>() -> Self {
        let (largest, smallest) = (T::MAX.to_f64(), T::MIN_POSITIVE.to_f64());
        Self { unit: T::EPSILON.to_f64(), large: largest.sqrt(), small: smallest.sqrt() }
    }
}

/// How the eigenvalues lie between 1 and the unit.
#[derive(Clone, Copy)]
enum Spread {
    Even,
    Geometric,
    /// 1, unit, ..., unit.
    Clustered,
}

fn spectrum(spread: Spread, size: usize, unit: f64) -> Vec<f64> {
    let last = size.saturating_sub(1).max(1) as f64;
    let value = |i: usize| match spread {
        Spread::Even => 1.0 - i as f64 / last * (1.0 - unit),
        Spread::Geometric => unit.powf(i as f64 / last),
        Spread::Clustered => {
            if i == 0 {
                1.0
            } else {
                unit
            }
        }
    };
    (0..size).map(value).collect()
}

fn with_signs(values: Vec<f64>, draws: &mut Draws) -> Vec<f64> {
    values.into_iter().map(|value| value * draws.sign()).collect()
}

fn diagonal(values: &[f64]) -> DMatrix<f64> {
    DMatrix::from_diagonal(&DVector::from_column_slice(values))
}

/// What a kind is, for tables; kinds count from 1.
pub fn name(kind: usize) -> &'static str {
    const NAMES: [&str; KINDS] = [
        "zero",
        "identity",
        "diagonal, even",
        "diagonal, geometric",
        "diagonal, clustered",
        "diagonal, geometric, large",
        "diagonal, geometric, small",
        "even",
        "geometric",
        "clustered",
        "even, large",
        "even, small",
        "random",
        "random, large",
        "random, small",
        "even, positive",
        "geometric, positive",
        "clustered, positive",
        "even, positive, large",
        "even, positive, small",
        "tridiagonal, dominant",
    ];
    NAMES.get(kind.wrapping_sub(1)).copied().unwrap_or("unknown")
}

/// A matrix of one of the kinds: diagonal (3 to 7) or turned at random (8 to 12, 16 to 20), its eigenvalues from 1 down to the
/// unit, of either sign but where the kind is positive, and "large" or "small" by a factor of the square root of the largest or the smallest
/// number; random entries in (-1, 1) (13 to 15); tridiagonal and diagonally dominant with a geometric diagonal (21).
pub fn lapack(kind: usize, size: usize, range: Range, draws: &mut Draws) -> DMatrix<f64> {
    let turned = |spread, signed: bool, draws: &mut Draws| {
        let values = spectrum(spread, size, range.unit);
        let values = if signed { with_signs(values, draws) } else { values };
        draws.symmetric_with(&values)
    };
    let plain = |spread, draws: &mut Draws| diagonal(&with_signs(spectrum(spread, size, range.unit), draws));
    match kind {
        1 => DMatrix::zeros(size, size),
        2 => DMatrix::identity(size, size),
        3 => plain(Spread::Even, draws),
        4 => plain(Spread::Geometric, draws),
        5 => plain(Spread::Clustered, draws),
        6 => lapack(4, size, range, draws) * range.large,
        7 => lapack(4, size, range, draws) * range.small,
        8 => turned(Spread::Even, true, draws),
        9 => turned(Spread::Geometric, true, draws),
        10 => turned(Spread::Clustered, true, draws),
        11 => lapack(8, size, range, draws) * range.large,
        12 => lapack(8, size, range, draws) * range.small,
        13 => {
            let entries = DMatrix::from_fn(size, size, |_, _| draws.between(-1.0, 1.0));
            DMatrix::from_fn(size, size, |i, j| entries[(i.min(j), i.max(j))])
        }
        14 => lapack(13, size, range, draws) * range.large,
        15 => lapack(13, size, range, draws) * range.small,
        16 => turned(Spread::Even, false, draws),
        17 => turned(Spread::Geometric, false, draws),
        18 => turned(Spread::Clustered, false, draws),
        19 => lapack(16, size, range, draws) * range.large,
        20 => lapack(16, size, range, draws) * range.small,
        21 => dominant(&spectrum(Spread::Geometric, size, range.unit), draws),
        _ => panic!("kinds run from 1 to {KINDS}"),
    }
}

/// Tridiagonal with this diagonal; an entry beside it is at most half the geometric mean of its two neighbours on it.
fn dominant(values: &[f64], draws: &mut Draws) -> DMatrix<f64> {
    let mut matrix = diagonal(values);
    for i in 1..values.len() {
        let beside = draws.between(-0.5, 0.5) * (values[i - 1] * values[i]).sqrt();
        (matrix[(i - 1, i)], matrix[(i, i - 1)]) = (beside, beside);
    }
    matrix
}

/// D A D with A well conditioned (eigenvalues in (0.2, 2)) and D = diag(2^(-grade i)) in a random order: positive definite
/// after rounding to any type that can hold the entries.
pub fn graded(size: usize, grade: i32, draws: &mut Draws) -> DMatrix<f64> {
    let spread: Vec<f64> = (0..size).map(|_| draws.between(0.2, 2.0)).collect();
    let core = draws.symmetric_with(&spread);
    let order = draws.permutation(size);
    let side = |i: usize| 2.0_f64.powi(-grade * order[i] as i32);
    DMatrix::from_fn(size, size, |i, j| core[(i, j)] * side(i) * side(j))
}

/// Matrices of the kinds that published solvers failed on, by the issue that reports the failure.
pub fn failures(draws: &mut Draws) -> Vec<(&'static str, DMatrix<f64>)> {
    let countdown =
        |size: usize| DMatrix::from_fn(size, size, |i, j| if i == j { (size - i) as f64 } else { 0.0 });
    vec![
        ("nalgebra 1025: ones and zeros, twin rows, f32", twins(33, draws)),
        ("nalgebra 1109: one direction rules, 4 x 4", ruled()),
        ("nalgebra 379: covariance with empty rows, 10 x 10", covariance(draws)),
        ("faer 82: adjacency of a graph, 20 x 20", adjacency(20, draws)),
        ("faer 124: n, n-1, ..., 1 on the diagonal, n = 32", countdown(32)),
        ("faer 124, n = 33", countdown(33)),
        ("faer 124, n = 34", countdown(34)),
        ("faer 136: springs, coordinates interleaved", springs(16, [0, 1, 2], draws)),
        ("faer 136: coordinates in another order", springs(16, [2, 0, 1], draws)),
    ]
}

/// Sums over groups of rows that are alike: entries 0 and 1, many rows empty, many equal.
fn twins(size: usize, draws: &mut Draws) -> DMatrix<f64> {
    let group: Vec<usize> = (0..size).map(|_| draws.index(6)).collect();
    let linked = DMatrix::from_fn(6, 6, |i, j| if i == j || draws.uniform() < 0.3 { 1.0 } else { 0.0 });
    DMatrix::from_fn(size, size, |i, j| {
        let (low, high) = (group[i].min(group[j]), group[i].max(group[j]));
        if low < 3 { 0.0 } else { linked[(low, high)] }
    })
}

fn ruled() -> DMatrix<f64> {
    let upper = [
        -19884.07, -10.07188, 12.518197, 11.277279, 1.3770627, 14.587362, -188560.63, -102.97504, 113.26099,
        -1788112.3,
    ];
    DMatrix::from_fn(4, 4, |i, j| upper[i.max(j) * (i.max(j) + 1) / 2 + i.min(j)])
}

/// Rank 4 on four of ten coordinates, of very different sizes, as measured in `f32`.
fn covariance(draws: &mut Draws) -> DMatrix<f64> {
    let mut examples = DMatrix::zeros(10, 4);
    for (row, size) in [(0, 0.5), (2, 2.5e-3), (7, 0.5), (9, 1.0)] {
        for column in 0..4 {
            examples[(row, column)] = size * draws.normal();
        }
    }
    (&examples * examples.transpose()).map(|value| f64::from(value as f32))
}

fn adjacency(size: usize, draws: &mut Draws) -> DMatrix<f64> {
    let mut matrix = DMatrix::zeros(size, size);
    for j in 1..size {
        for i in 0..j {
            let linked = if draws.uniform() < 0.15 { 1.0 } else { 0.0 };
            (matrix[(i, j)], matrix[(j, i)]) = (linked, linked);
        }
    }
    matrix
}

/// Masses on a ring with springs in three directions: three eigenvalues are 0 and all others come in pairs.
fn springs(masses: usize, order: [usize; 3], draws: &mut Draws) -> DMatrix<f64> {
    let stiffness = [draws.between(0.5, 2.0), draws.between(0.01, 0.1), draws.between(0.01, 0.1)];
    let mut matrix = DMatrix::zeros(3 * masses, 3 * masses);
    for mass in 0..masses {
        let next = (mass + 1) % masses;
        for (axis, place) in order.into_iter().enumerate() {
            let (here, there) = (3 * mass + place, 3 * next + place);
            matrix[(here, here)] += stiffness[axis];
            matrix[(there, there)] += stiffness[axis];
            matrix[(here, there)] -= stiffness[axis];
            matrix[(there, here)] -= stiffness[axis];
        }
    }
    matrix
}

/// The factor of a layer on images with dead pixels: the second moment of `examples` rows with a last 1, most pixels dark in most of
/// them, some in all. Rank at most `examples`.
pub fn pixels(size: usize, examples: usize, draws: &mut Draws) -> DMatrix<f64> {
    let bright: Vec<f64> = (0..size).map(|_| (draws.uniform() - 0.35).max(0.0)).collect();
    let mut rows = DMatrix::zeros(size, examples);
    for mut example in rows.column_iter_mut() {
        for (pixel, chance) in example.iter_mut().zip(&bright) {
            let lit = draws.uniform() < *chance;
            *pixel = if lit { (draws.index(255) + 1) as f64 / 255.0 } else { 0.0 };
        }
        example[size - 1] = 1.0;
    }
    &rows * rows.transpose() / examples as f64
}
