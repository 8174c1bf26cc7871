//! The desktop's eigensolver: where faer alone is wrong, when an engine lies, and what stands in.
//!
//! Mutants that these tests catch: no scaling, or eigenvalues not scaled back; an answer that is believed without the check; a check that
//! NaN passes; a fall-back that is never reached; a last good basis that stands in for ever, or is lost to a bad matrix.

use ekfac::{MatrixRef, Scalar};
use ekfac_std::{
    Eigen, Eigensolver, Origin,
    eigen::{EigenError, Engine, MAX_STAND_INS, RATIO},
    kernels::Element,
};
use ekfac_tests::{
    oracle::{dense, narrowed, unit},
    random::Draws,
    solved::{near_one, orthogonality, residual},
    symmetric::{self, KINDS, Range, lapack},
};
use nalgebra::DMatrix;

/// Residual and orthogonality ratios of an answer.
fn ratios<T: Scalar>(matrix: &DMatrix<f64>, eigen: &Eigen<T>) -> (f64, f64) {
    let size = eigen.size();
    let (given, unscale) = near_one(&dense(MatrixRef::new(&narrowed::<T>(matrix), size, size).unwrap()));
    let vectors = dense(MatrixRef::new(&eigen.vectors, size, size).unwrap());
    let values = eigen.values.iter().map(|value| value.to_f64() * unscale * unscale);
    let values = DMatrix::from_diagonal(&nalgebra::DVector::from_iterator(size, values));
    let rounding = size.max(1) as f64 * unit::<T>();
    (residual(&given, &vectors, &values) / rounding, orthogonality(&vectors) / rounding)
}

fn solve<T: Element>(
    solver: &mut Eigensolver<T>,
    matrix: &DMatrix<f64>,
) -> Result<(Eigen<T>, Origin), EigenError> {
    let values: Vec<T> = narrowed(matrix);
    let given = MatrixRef::new(&values, matrix.nrows(), matrix.ncols()).unwrap();
    solver.solve(given).map(|(eigen, origin)| (eigen.clone(), origin))
}

fn check<T: Element>(matrix: &DMatrix<f64>, place: &str) -> (Origin, (f64, f64)) {
    let (eigen, origin) = solve(&mut Eigensolver::<T>::new(), matrix).unwrap();
    let found = ratios(matrix, &eigen);
    assert!(found.0 <= RATIO && found.1 <= RATIO, "{place}, {origin:?}: {found:?}");
    (origin, found)
}

/// The factor of output gradients: second moments of normal numbers.
fn wishart(size: usize, draws: &mut Draws) -> DMatrix<f64> {
    let root = draws.matrix(size, 2 * size);
    &root * root.transpose() / (2.0 * size as f64)
}

/// faer's own answer for the matrix as it is.
fn faer_alone(matrix: &DMatrix<f64>) -> Eigen<f32> {
    let size = matrix.ncols();
    let given = faer::Mat::from_fn(size, size, |i, j| matrix[(i, j)] as f32);
    let solved = given.self_adjoint_eigen(faer::Side::Lower).unwrap();
    let (values, vectors) = (solved.S(), solved.U());
    Eigen {
        values: (0..size).map(|i| values[i]).collect(),
        vectors: (0..size).flat_map(|j| (0..size).map(move |i| (i, j))).map(|at| vectors[at]).collect(),
    }
}

#[test]
fn a_matrix_far_from_unit_size_is_solved_where_faer_alone_is_wrong() {
    let matrix = wishart(256, &mut Draws::new(1));
    for scale in [1e-30, 1e-8, 1e-4, 1.0, 1e4, 1e30] {
        let matrix = &matrix * scale;
        let (origin, found) = check::<f32>(&matrix, &format!("scale {scale:e}"));
        assert_eq!(origin, Origin::Engine("faer"));
        let alone = ratios(&matrix, &faer_alone(&matrix));
        println!("scale {scale:e}: residual ratio {:.2}, faer alone {:.2}", found.0, alone.0);
    }
}

#[test]
fn every_size_and_scale_passes() {
    for size in [0, 1, 2, 31, 32, 64, 129] {
        let matrix = wishart(size, &mut Draws::new(2));
        for scale in [1e-36, 1e-8, 1.0, 1e30] {
            check::<f32>(&(&matrix * scale), &format!("f32, n = {size}, scale {scale:e}"));
        }
        for scale in [1e-300, 1e-60, 1.0, 1e300] {
            check::<f64>(&(&matrix * scale), &format!("f64, n = {size}, scale {scale:e}"));
        }
    }
}

#[test]
fn every_kind_of_matrix_passes() {
    for size in [33, 64] {
        for kind in 1..=KINDS {
            let place = format!("{}, n = {size}", symmetric::name(kind));
            check::<f32>(&lapack(kind, size, Range::of::<f32>(), &mut Draws::new(3)), &place);
            check::<f64>(&lapack(kind, size, Range::of::<f64>(), &mut Draws::new(3)), &place);
        }
    }
    for (name, matrix) in symmetric::failures(&mut Draws::new(4)) {
        check::<f32>(&matrix, name);
        check::<f64>(&matrix, name);
    }
}

/// Orthogonal vectors that belong to no matrix in particular, as faer's were at 1e-8.
fn lies(matrix: MatrixRef<'_, f32>, values: &mut [f32], vectors: &mut [f32]) -> bool {
    let size = matrix.rows();
    vectors.fill(0.0);
    vectors.iter_mut().step_by(size + 1).for_each(|x| *x = 1.0);
    values.fill(1.0);
    true
}

fn skewed(matrix: MatrixRef<'_, f32>, values: &mut [f32], vectors: &mut [f32]) -> bool {
    let believes = right(matrix, values, vectors);
    vectors[0] += 0.01;
    believes
}

fn nan(_: MatrixRef<'_, f32>, values: &mut [f32], vectors: &mut [f32]) -> bool {
    values.fill(f32::NAN);
    vectors.fill(f32::NAN);
    true
}

fn right(matrix: MatrixRef<'_, f32>, values: &mut [f32], vectors: &mut [f32]) -> bool {
    let mut solver = Eigensolver::new();
    let (eigen, _) = solver.solve(matrix).unwrap();
    values.copy_from_slice(&eigen.values);
    vectors.copy_from_slice(&eigen.vectors);
    true
}

/// Right about matrices whose first entry is not the largest, and NaN about others.
fn moody(matrix: MatrixRef<'_, f32>, values: &mut [f32], vectors: &mut [f32]) -> bool {
    if matrix.get(0, 0).unwrap() > 1.5 {
        nan(matrix, values, vectors)
    } else {
        right(matrix, values, vectors)
    }
}

#[test]
fn an_engine_that_lies_is_passed_over() {
    let matrix = wishart(40, &mut Draws::new(5));
    for (name, liar) in [("lies", lies as Engine<f32>), ("nan", nan), ("skewed", skewed)] {
        let mut solver = Eigensolver::with_engines(vec![(name, liar), ("right", right)]);
        let (eigen, origin) = solve(&mut solver, &matrix).unwrap();
        assert_eq!(origin, Origin::Engine("right"), "{name}");
        assert!(ratios(&matrix, &eigen).0 <= RATIO);
        let mut solver = Eigensolver::with_engines(vec![(name, liar)]);
        assert_eq!(solve(&mut solver, &matrix), Err(EigenError::Failed), "{name}");
        assert_eq!(solver.last(), None);
    }
}

#[test]
fn the_last_good_basis_stands_in_a_bounded_number_of_times() {
    let good = DMatrix::from_fn(40, 40, |i, j| 1.0 / (1.0 + i.abs_diff(j) as f64));
    let mut bad = good.clone();
    bad[(0, 0)] = 1.9;
    let mut solver = Eigensolver::with_engines(vec![("moody", moody as Engine<f32>)]);
    for _ in 0..2 {
        let (eigen, origin) = solve(&mut solver, &good).unwrap();
        assert_eq!(origin, Origin::Engine("moody"));
        for _ in 0..MAX_STAND_INS {
            assert_eq!(solve(&mut solver, &bad), Ok((eigen.clone(), Origin::LastGood)));
        }
        for _ in 0..2 {
            assert_eq!(solve(&mut solver, &bad), Err(EigenError::Failed));
        }
        assert_eq!(solver.last(), Some(&eigen), "the last good one is kept");
    }
    // One of another size is no stand-in.
    let (eigen, _) = solve(&mut solver, &good).unwrap();
    let smaller = bad.view((0, 0), (33, 33)).clone_owned();
    assert_eq!(solve(&mut solver, &smaller), Err(EigenError::Failed));
    assert_eq!(solver.last(), Some(&eigen));
}

#[test]
fn bad_arguments_are_refused_and_the_last_good_one_stays() {
    let matrix = wishart(34, &mut Draws::new(7));
    let mut solver = Eigensolver::<f32>::new();
    let (eigen, _) = solve(&mut solver, &matrix).unwrap();
    for (row, column) in [(0, 0), (33, 33), (0, 33), (33, 0), (17, 3)] {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut matrix = matrix.clone();
            matrix[(row, column)] = bad;
            let argument = ekfac::Error::NonFinite { argument: "matrix", index: column * 34 + row };
            assert_eq!(solve(&mut solver, &matrix), Err(EigenError::Argument(argument)));
        }
    }
    let wide = DMatrix::zeros(3, 4);
    assert!(matches!(solve(&mut solver, &wide), Err(EigenError::Argument(ekfac::Error::Length { .. }))));
    assert_eq!(solver.last(), Some(&eigen));
}

/// Twice the same solver gives the same bits, and a zero matrix has the eigenvalue zero.
#[test]
fn zero_and_subnormal_matrices_have_an_answer() {
    let (eigen, _) = solve(&mut Eigensolver::<f32>::new(), &DMatrix::zeros(50, 50)).unwrap();
    assert!(eigen.values.iter().all(|value| *value == 0.0));
    for size in [20, 64, 256] {
        let matrix = wishart(size, &mut Draws::new(8)) * 1e-41;
        let (eigen, origin) = solve(&mut Eigensolver::<f32>::new(), &matrix).unwrap();
        assert!(eigen.values.iter().all(|value| value.is_finite()), "{origin:?}");
        // Entries of a few steps of a subnormal: the trace is all that is left to compare.
        let trace: f64 = eigen.values.iter().map(|value| f64::from(*value)).sum();
        assert!((trace - matrix.trace()).abs() <= 1e-2 * matrix.trace(), "n = {size}: {trace:e}");
    }
}
