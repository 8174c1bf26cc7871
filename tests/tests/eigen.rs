//! The eigensolver in the manner of LAPACK's own tests: ratios instead of tolerances, matrix kinds instead of examples.
//!
//! Mutants that these tests catch: a stop rule with a sum instead of a product (graded accuracy), the plain (c, s) update
//! (orthogonality), a wrong sign in the rotation or a line not turned (residual, U C U^T), a gate after the first write
//! or none, a missing power-of-two scaling, no cap on the sweeps, a report made up instead of measured.

use ekfac::{
    Error, MatrixRef, Scalar,
    jacobi::{self, Companion, Limits, Turn},
};
use ekfac_tests::{
    oracle::{eigen, largest_difference, narrowed, orthogonality, unit},
    random::Draws,
    solved::{solve, worse},
    symmetric::graded,
    wide,
};
use nalgebra::DMatrix;

/// Limit on residual and orthogonality ratios; LAPACK's own is 60.
const RATIO: f64 = 30.0;

fn sizes() -> impl Iterator<Item = usize> {
    (0..=17).chain([33, 48])
}

/// The kinds, each with entries of order one.
fn kinds(size: usize, draws: &mut Draws) -> Vec<(&'static str, DMatrix<f64>)> {
    let spectrum = |value: &dyn Fn(usize) -> f64| (0..size).map(value).collect::<Vec<_>>();
    let rank = |count: usize, draws: &mut Draws| {
        let root = draws.matrix(size, count);
        &root * root.transpose() / count.max(1) as f64
    };
    let random = draws.matrix(size, size);
    let geometric =
        spectrum(&|i| 2.0_f64.powf(-30.0 * i as f64 / size as f64) * if i % 2 == 0 { 1.0 } else { -1.0 });
    let clustered = spectrum(&|i| if i == 0 { 1.0 } else { 1e-3 });
    let opposite = spectrum(&|i| if i == 0 { 1e-16 } else { [1.0, -1.0][(i * i + i / 3) % 2] });
    let duplicated = spectrum(&|i| (i / 2 + 1) as f64);
    vec![
        ("zero", DMatrix::zeros(size, size)),
        ("identity", DMatrix::identity(size, size)),
        ("ones", DMatrix::from_element(size, size, 1.0)),
        ("rank 1", rank(1, draws)),
        ("rank n/2", rank(size / 2, draws)),
        ("random", (&random + random.transpose()) * 0.5),
        ("positive definite", rank(2 * size, draws)),
        ("diagonal", DMatrix::from_diagonal(&nalgebra::DVector::from_column_slice(&geometric))),
        ("graded spectrum", draws.symmetric_with(&geometric)),
        ("clustered", draws.symmetric_with(&clustered)),
        ("clusters of opposite sign", draws.symmetric_with(&opposite)),
        ("duplicated", draws.symmetric_with(&duplicated)),
    ]
}

/// The worst ratios of a run, for the message and the record.
#[derive(Debug, Default)]
struct Worst {
    residual: f64,
    orthogonality: f64,
    sweeps: u32,
    trace: f64,
    norm: f64,
}

/// Sweeps allowed, the idle one at the end included.
const SWEEPS: u32 = 10;

fn check_kinds<T: Scalar>(scale: f64, seed: u64) -> Worst {
    let mut draws = Draws::new(seed);
    let mut worst = Worst::default();
    for size in sizes() {
        for (kind, matrix) in kinds(size, &mut draws) {
            let solved = solve::<T>(&(matrix * scale), Limits::default());
            let place = format!("{kind}, n = {size}, scale {scale:e}, seed {seed}: {:?}", solved.report);
            let (residual, orthogonality) = (solved.residual(true), solved.orthogonality());
            assert!(solved.report.converged && solved.report.sweeps <= SWEEPS, "{place}");
            assert!(residual <= RATIO && orthogonality <= RATIO, "{place}: {residual}, {orthogonality}");
            assert!(solved.report.off_diagonal.to_f64() <= solved.rounding(), "{place}");
            // The trace may cancel, so it is measured against the sum of the sizes.
            let size_of_trace = solved.matrix.norm().max(f64::MIN_POSITIVE);
            let trace = (solved.values().iter().sum::<f64>() - solved.matrix.trace()).abs() / size_of_trace;
            let norm =
                solved.values().iter().map(|value| (value / size_of_trace).powi(2)).sum::<f64>().sqrt();
            let norm = (norm - (solved.matrix / size_of_trace).norm()).abs();
            let rounding = RATIO * size.max(1) as f64 * unit::<T>();
            assert!(trace <= rounding && norm <= rounding, "{place}: trace {trace:e}, norm {norm:e}");
            worst.residual = worst.residual.max(residual);
            worst.orthogonality = worst.orthogonality.max(orthogonality);
            worst.sweeps = worst.sweeps.max(solved.report.sweeps);
            worst.trace = worst.trace.max(trace / unit::<T>());
            worst.norm = worst.norm.max(norm / unit::<T>());
        }
    }
    worst
}

#[test]
fn residual_and_orthogonality_of_every_kind_at_every_scale() {
    for scale in [1.0, 1e-30, 1e30] {
        for seed in 0..3 {
            println!("f32 {:?}", check_kinds::<f32>(scale, seed));
            println!("f64 {:?}", check_kinds::<f64>(scale, seed));
        }
    }
    for scale in [1e-300, 1e300] {
        println!("f64 {:?}", check_kinds::<f64>(scale, 7));
    }
}

#[test]
fn the_largest_and_the_smallest_finite_entries_give_finite_results() {
    // An eigenvalue may be n times the largest entry, so the entries stay below MAX / n.
    for size in [1, 2, 5, 16] {
        let ones = DMatrix::from_element(size, size, 1.0);
        let largest = f64::from(f32::MAX) / (2.0 * size as f64);
        for scale in [largest, f64::from(f32::MIN_POSITIVE), 1e-44] {
            let solved = solve::<f32>(&(&ones * scale), Limits::default());
            assert!(solved.values().iter().all(|value| value.is_finite()), "{scale:e}, n = {size}");
            assert!(solved.orthogonality() <= RATIO, "{scale:e}, n = {size}");
            // Near the bottom of the range the values themselves are coarse: one step of a subnormal.
            let step = f64::from(f32::from_bits(1)) * solved.unscale.powi(2);
            let step = step / solved.matrix.norm() / solved.rounding();
            let residual = solved.residual(true);
            assert!(residual <= RATIO + 2.0 * size as f64 * step, "{scale:e}, n = {size}: {residual}");
        }
    }
}

#[test]
fn zero_is_exact() {
    let solved = solve::<f32>(&DMatrix::zeros(9, 9), Limits::default());
    assert_eq!(solved.values(), vec![0.0; 9]);
    assert_eq!(solved.basis, DMatrix::identity(9, 9));
    assert_eq!((solved.report.rotations, solved.report.off_diagonal), (0, 0.0));
}

#[test]
fn values_agree_with_another_solver() {
    for seed in 0..20 {
        let mut draws = Draws::new(seed);
        let size = 2 + draws.index(20);
        let random = draws.matrix(size, size);
        let solved = solve::<f64>(&(&random + random.transpose()), Limits::default());
        let mut expected = eigen(&solved.matrix).0.as_slice().to_vec();
        let mut found = solved.values();
        expected.sort_by(f64::total_cmp);
        found.sort_by(f64::total_cmp);
        let limit = 10.0 * solved.rounding() * solved.matrix.norm();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= limit, "seed {seed}: {found} against {expected}");
        }
    }
}

/// Against an oracle of 106 bits.
fn worst_relative_error<T: Scalar>(size: usize, grade: i32, seed: u64) -> f64 {
    let mut draws = Draws::new(seed);
    let solved = solve::<T>(&graded(size, grade, &mut draws), Limits::default());
    assert!(solved.report.converged && solved.report.sweeps <= SWEEPS);
    let mut found = solved.values();
    found.sort_by(f64::total_cmp);
    let expected = wide::eigenvalues(&solved.matrix);
    let errors = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs() / expected);
    errors.fold(0.0, worse) / unit::<T>()
}

#[test]
fn every_eigenvalue_of_a_graded_matrix_has_its_own_relative_accuracy() {
    let mut worst = (0.0_f64, 0.0_f64);
    for grade in 3..=9 {
        for size in [4, 5, 8, 9, 12, 16] {
            for seed in 0..10 {
                let limit = 8.0 * size as f64;
                // In f32 the smallest entry, 2^(-2 grade (n - 1)), must stay a normal number.
                if 2 * grade * (size as i32 - 1) <= 100 {
                    let single = worst_relative_error::<f32>(size, grade, seed);
                    assert!(single <= limit, "f32, n = {size}, grade {grade}, seed {seed}: {single} u");
                    worst.0 = worst.0.max(single);
                }
                let double = worst_relative_error::<f64>(size, grade, seed);
                assert!(double <= limit, "f64, n = {size}, grade {grade}, seed {seed}: {double} u");
                worst.1 = worst.1.max(double);
            }
        }
    }
    println!("graded, worst relative error in u: f32 {}, f64 {}", worst.0, worst.1);
}

#[test]
fn non_finite_entries_are_refused_before_any_write() {
    for size in 1..=8 {
        for (i, j) in (0..size).flat_map(|j| (0..=j).map(move |i| (i, j))) {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![0.5_f32; size * size];
                values[j * size + i] = bad;
                let matrix = MatrixRef::new(&values, size, size).unwrap();
                let (mut packed, mut basis) =
                    (vec![7.5_f32; size * (size + 1) / 2], vec![-2.25; size * size]);
                let outcome = jacobi::eigen(matrix, &mut packed, &mut basis, Limits::default());
                let expected = Error::NonFinite { argument: "matrix", index: j * size + i };
                assert_eq!(outcome, Err(expected), "n = {size}, ({i}, {j}), {bad}");
                assert!(packed.iter().all(|value| value.to_bits() == 7.5_f32.to_bits()));
                assert!(basis.iter().all(|value| value.to_bits() == (-2.25_f32).to_bits()));
            }
        }
    }
}

#[test]
fn only_the_upper_triangle_is_read() {
    let values = [2.0, f64::NAN, f64::INFINITY, 1.0, 3.0, f64::NAN, 0.5, 0.25, 4.0];
    let (mut packed, mut basis) = ([0.0; 6], [0.0; 9]);
    let matrix = MatrixRef::new(&values, 3, 3).unwrap();
    let report = jacobi::eigen(matrix, &mut packed, &mut basis, Limits::default()).unwrap();
    assert!(report.converged && packed.iter().chain(&basis).all(|value| value.is_finite()));
}

#[test]
fn limits_that_are_no_numbers_do_no_harm() {
    for threshold in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0] {
        for matrix in [DMatrix::zeros(4, 4), DMatrix::from_element(4, 4, 1.0), DMatrix::identity(4, 4)] {
            let solved = solve::<f64>(&matrix, Limits { threshold, ..Limits::default() });
            assert!(solved.orthogonality() <= RATIO, "threshold {threshold}: {}", solved.basis);
            assert!(solved.residual(false) <= RATIO, "threshold {threshold}");
        }
    }
}

fn check_partial_solve<T: Scalar>(seed: u64) -> (f64, f64) {
    let mut draws = Draws::new(seed);
    let size = 6 + draws.index(12);
    let random = draws.matrix(size, size);
    let mut worst = (0.0_f64, 0.0_f64);
    for sweeps in 0..=2 {
        let limits = Limits { sweeps, ..Limits::default() };
        let solved = solve::<T>(&(&random + random.transpose()), limits);
        let place = format!("seed {seed}, n = {size}, {:?}", solved.report);
        assert!(!solved.report.converged && solved.report.sweeps == sweeps, "{place}");
        let (residual, orthogonality) = (solved.residual(false), solved.orthogonality());
        assert!(residual <= RATIO && orthogonality <= RATIO, "{place}: {residual}, {orthogonality}");
        let inside = solved.inside();
        let off = (&inside - DMatrix::from_diagonal(&inside.diagonal())).norm() / inside.norm();
        let reported = solved.report.off_diagonal.to_f64();
        assert!((off - reported).abs() <= 10.0 * solved.rounding() * off, "{place}: {off:e}");
        worst = (worst.0.max(residual), worst.1.max(orthogonality));
    }
    worst
}

#[test]
fn a_solve_that_is_cut_short_is_valid_and_says_how_far_it_came() {
    for seed in 0..30 {
        let (single, double) = (check_partial_solve::<f32>(seed), check_partial_solve::<f64>(seed));
        println!("partial: f32 {single:?}, f64 {double:?}");
    }
}

/// The floor is that of the smallest entry on the diagonal, which a first solve lowers: a second one may turn what then lies above
/// it, within rounding, and a third one finds nothing.
#[test]
fn a_third_solve_finds_nothing_to_do() {
    for seed in 0..10 {
        let mut draws = Draws::new(seed);
        for (kind, matrix) in kinds(13, &mut draws) {
            let mut solved = solve::<f32>(&matrix, Limits::default());
            let values = solved.values();
            let again = jacobi::diagonalise(&mut solved.packed, 13, &mut [], Limits::default());
            assert!(again.converged && again.sweeps <= SWEEPS, "{kind}, seed {seed}: {again:?}");
            let moved = values.iter().zip(solved.values()).map(|(old, new)| (old - new).abs());
            let limit = solved.rounding() * solved.matrix.norm();
            assert!(moved.fold(0.0, worse) <= limit, "{kind}, seed {seed}");
            let before = solved.packed.clone();
            let third = jacobi::diagonalise(&mut solved.packed, 13, &mut [], Limits::default());
            assert_eq!((third.rotations, third.sweeps, third.converged), (0, 1, true), "{kind}, seed {seed}");
            assert_eq!(solved.packed, before, "{kind}, seed {seed}");
        }
    }
}

#[test]
fn companions_turn_with_the_basis() {
    for seed in 0..20 {
        let mut draws = Draws::new(seed);
        let (size, other) = (2 + draws.index(8), 1 + draws.index(5));
        let root = draws.matrix(size, size);
        let mut packed: Vec<f64> = ekfac_tests::oracle::packed(&(&root * root.transpose()));
        let (by_columns, by_rows) = (draws.matrix(other, size), draws.matrix(size, other));
        let moments = draws.matrix(other, size).map(|x| x * x);
        let mut basis: Vec<f64> = narrowed(&DMatrix::<f64>::identity(size, size));
        let (mut columns, mut rows) = (by_columns.clone(), by_rows.clone());
        let mut turned = moments.clone();
        let mut companions = [
            Companion::columns(&mut basis, size, Turn::Linear),
            Companion::columns(columns.as_mut_slice(), other, Turn::Linear),
            Companion::rows(rows.as_mut_slice(), size, Turn::Linear),
            Companion::columns(turned.as_mut_slice(), other, Turn::Moments),
        ];
        let report = jacobi::diagonalise(&mut packed, size, &mut companions, Limits::default());
        assert!(report.rotations > 0);
        let basis = DMatrix::from_column_slice(size, size, &basis);
        let limit = 30.0 * size as f64 * f64::EPSILON;
        assert!(orthogonality(&basis) <= limit, "seed {seed}");
        assert!(largest_difference(&columns, &(&by_columns * &basis)) <= 10.0 * limit, "seed {seed}");
        assert!(largest_difference(&rows, &(basis.transpose() * &by_rows)) <= 10.0 * limit, "seed {seed}");
        assert!((turned.sum() - moments.sum()).abs() <= limit * moments.sum(), "seed {seed}");
        assert!(turned.iter().all(|moment| *moment >= 0.0), "seed {seed}");
    }
}

#[test]
fn a_size_beyond_the_buffer_ends_at_once() {
    // Mutant: loop over the size that was given, for ever.
    let mut packed = [2.0_f64, 1.0, 2.0];
    assert!((jacobi::off_diagonal(&packed, usize::MAX) - 0.2_f64.sqrt()).abs() <= 1e-15);
    let report = jacobi::diagonalise(&mut packed, usize::MAX, &mut [], Limits::default());
    assert!(report.converged && packed[1] == 0.0, "{report:?}");
}
