//! The eigensolver on matrices of any bit patterns, `f32` and `f64`, 0 to 12 rows, with limits of any kind.
//!
//! ```text
//! byte 0    bit 0: f64; the rest, modulo 13: rows
//! byte 1    0: default limits; else the cap on sweeps plus 1, and a threshold follows as a bit pattern
//! then      the upper triangle, columns one after another, as little-endian bit patterns
//! ```
//!
//! What must hold:
//! - [`Error::NonFinite`] exactly when the upper triangle holds a NaN or an infinity, and then no output word changes;
//!   the lower triangle is all NaN here, so it cannot have been read.
//! - Sweeps never exceed the cap. No solve leaves a NaN, and none an infinity as long as no entry exceeds MAX / 4n;
//!   beyond, an eigenvalue itself may exceed MAX and be infinite.
//! - U is orthogonal and U C U^T is the matrix after any number of rotations, within 30 n u; and U diag(C) U^T is as well
//!   when the default limits converged. Without convergence the drift may grow with the number of rotations.

use crate::{Bits, all_bits, byte};
use arbitrary::Unstructured;
use ekfac::{
    Error, MatrixRef,
    jacobi::{self, Limits, Report},
};

/// Limit on residual and orthogonality ratios; LAPACK's own is 60.
const RATIO: f64 = 30.0;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let head = byte(&mut bytes);
    let size = usize::from(head / 2) % 13;
    if head.is_multiple_of(2) { solve::<f32>(size, &mut bytes) } else { solve::<f64>(size, &mut bytes) }
}

fn solve<T: Bits>(size: usize, bytes: &mut Unstructured<'_>) {
    let (limits, usual) = match byte(bytes) {
        0 => (Limits::default(), true),
        cap => (Limits { sweeps: u32::from(cap) - 1, threshold: T::read(bytes) }, false),
    };
    let mut matrix = vec![T::NAN; size * size];
    let mut first_bad = None;
    for j in 0..size {
        for i in 0..=j {
            let value = T::read(bytes);
            matrix[j * size + i] = value;
            if !value.is_finite() && first_bad.is_none() {
                first_bad = Some(j * size + i);
            }
        }
    }
    let view = MatrixRef::new(&matrix, size, size).expect("a square");
    let mut packed = vec![T::from_f64(7.0); size * (size + 1) / 2];
    let mut basis = vec![T::from_f64(7.0); size * size];
    let result = jacobi::eigen(view, &mut packed, &mut basis, limits);
    match (result, first_bad) {
        (Err(Error::NonFinite { index, .. }), Some(bad)) => {
            assert_eq!(index, bad, "the first offender is named");
            let untouched = T::from_f64(7.0).bits();
            assert!(all_bits(&packed).iter().chain(&all_bits(&basis)).all(|bits| *bits == untouched));
        }
        (Ok(report), None) => check(&matrix, size, &packed, &basis, limits, report, usual),
        (result, bad) => panic!("{result:?} where the first bad entry is {bad:?}"),
    }
}

fn check<T: Bits>(
    matrix: &[T],
    size: usize,
    packed: &[T],
    basis: &[T],
    limits: Limits<T>,
    report: Report<T>,
    usual: bool,
) {
    assert!(report.sweeps <= limits.sweeps, "{report:?}");
    let off = report.off_diagonal.to_f64();
    assert!((0.0..=1.0).contains(&off), "{report:?}");
    assert!(basis.iter().all(|value| value.is_finite()), "the basis is finite");
    assert!(!packed.iter().any(|value| value.to_f64().is_nan()), "no NaN in C");
    let entry = |i: usize, j: usize| matrix[i.max(j) * size + i.min(j)].to_f64();
    let inside = |i: usize, j: usize| packed[jacobi::packed_index(i.min(j), i.max(j))].to_f64();
    let column = |j: usize| basis[j * size..(j + 1) * size].iter().map(|value| value.to_f64());
    let largest = (0..size).flat_map(|j| (0..=j).map(move |i| entry(i, j).abs())).fold(0.0, f64::max);
    if largest > T::MAX.to_f64() / (4 * size.max(1)) as f64 {
        return;
    }
    assert!(packed.iter().all(|value| value.is_finite()), "C is finite for entries up to {largest:e}");

    // A drift of one u a rotation, at most, where the solve was not left to converge.
    let unit = T::EPSILON.to_f64() / 2.0;
    let allowed = if usual && report.converged { RATIO } else { RATIO + f64::from(report.rotations) };
    let allowed = allowed * size as f64 * unit;
    let orthogonality = norm((0..size).flat_map(|i| {
        (0..size).map(move |j| {
            let product: f64 = column(i).zip(column(j)).map(|(x, y)| x * y).sum();
            product - if i == j { 1.0 } else { 0.0 }
        })
    }));
    assert!(orthogonality <= allowed, "orthogonality {orthogonality:e} of {allowed:e}, {report:?}");

    // Everything by the largest entry, so that squares stay in range; and one subnormal a word for what scaling back loses.
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let residual = |diagonal: bool| {
        norm((0..size).flat_map(|i| {
            (0..size).map(move |j| {
                let mut sum = 0.0;
                for k in 0..size {
                    for l in 0..size {
                        if k == l || !diagonal {
                            let outer = basis[k * size + i].to_f64() * basis[l * size + j].to_f64();
                            sum += outer * (inside(k, l) / scale);
                        }
                    }
                }
                sum - entry(i, j) / scale
            })
        }))
    };
    let given = norm((0..size).flat_map(|i| (0..size).map(move |j| entry(i, j) / scale)));
    let limit = allowed * given + (size * size) as f64 * (T::TINY / scale);
    let full = residual(false);
    assert!(full <= limit, "U C U^T is off by {full:e} of {limit:e}, {report:?}");
    if usual && report.converged {
        let diagonal = residual(true);
        assert!(diagonal <= limit, "U diag(C) U^T is off by {diagonal:e} of {limit:e}, {report:?}");
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}
