//! Writes the table of eigensolvers, `tests/results/eigensolvers.md`:
//! `cargo run -p ekfac-tests --example eigensolvers > tests/results/eigensolvers.md`.

use ekfac::{MatrixRef, Scalar, jacobi};
use ekfac_std::{Eigensolver, kernels::Element};
use ekfac_tests::{
    oracle::{dense, narrowed, unit},
    random::Draws,
    solved::{near_one, orthogonality, residual},
    symmetric::{self, KINDS, Range, lapack},
};
use nalgebra::{DMatrix, DVector, RealField, SymmetricEigen};

const SIZES: [usize; 11] = [1, 2, 3, 5, 8, 16, 32, 33, 34, 64, 128];
const SEEDS: u64 = 5;
const SOLVERS: [&str; 4] = ["ekfac, Jacobi", "nalgebra 0.35", "faer 0.24.4", "ekfac-std, faer checked"];

/// Values and vectors; `None` where the solver gives up.
type Answer<T> = Option<(Vec<T>, Vec<T>)>;

fn solve<T: Element + RealField>(solver: usize, size: usize, values: &[T]) -> Answer<T> {
    let given = MatrixRef::new(values, size, size).expect("a square");
    match solver {
        0 => {
            let (mut packed, mut basis) = (vec![T::ZERO; size * (size + 1) / 2], vec![T::ZERO; size * size]);
            let report = jacobi::eigen(given, &mut packed, &mut basis, Default::default()).ok()?;
            let values = (0..size).map(|index| jacobi::diagonal(&packed, index)).collect();
            report.converged.then_some((values, basis))
        }
        1 => {
            let matrix = DMatrix::from_column_slice(size, size, values);
            // Without a bound it may not return at all.
            let solved = SymmetricEigen::try_new(matrix, T::EPSILON, 1000 * size.max(1))?;
            Some((solved.eigenvalues.as_slice().to_vec(), solved.eigenvectors.as_slice().to_vec()))
        }
        2 => {
            let matrix = faer::MatRef::from_column_major_slice(values, size, size);
            let solved = matrix.self_adjoint_eigen(faer::Side::Lower).ok()?;
            let vectors = (0..size).flat_map(|j| (0..size).map(move |i| (i, j)));
            Some(((0..size).map(|i| solved.S()[i]).collect(), vectors.map(|at| solved.U()[at]).collect()))
        }
        _ => {
            let mut solver = Eigensolver::new();
            let (eigen, _) = solver.solve(given).ok()?;
            Some((eigen.values.clone(), eigen.vectors.clone()))
        }
    }
}

/// The worst of a cell.
#[derive(Clone, Copy, Default)]
struct Worst {
    ratio: f64,
    failed: u32,
    matrices: u32,
}

impl Worst {
    fn add<T: Scalar>(&mut self, values: &[T], size: usize, answer: Answer<T>) {
        self.matrices += 1;
        let ratio = answer.map_or(f64::NAN, |(eigenvalues, vectors)| {
            let (matrix, unscale) = near_one(&dense(MatrixRef::new(values, size, size).expect("a square")));
            let vectors = dense(MatrixRef::new(&vectors, size, size).expect("a square"));
            let eigenvalues = eigenvalues.iter().map(|value| value.to_f64() * unscale * unscale);
            let inside = DMatrix::from_diagonal(&DVector::from_iterator(size, eigenvalues));
            let worst = residual(&matrix, &vectors, &inside) + 0.0;
            let rounding = size.max(1) as f64 * unit::<T>();
            let other = orthogonality(&vectors);
            if worst.is_nan() || other.is_nan() { f64::NAN } else { worst.max(other) / rounding }
        });
        if ratio <= 30.0 {
            self.ratio = self.ratio.max(ratio);
        } else {
            self.failed += 1;
            self.ratio = if ratio.is_nan() { self.ratio } else { self.ratio.max(ratio) };
        }
    }

    fn cell(&self) -> String {
        let ratio =
            if self.ratio < 100.0 { format!("{:.2}", self.ratio) } else { format!("{:.0e}", self.ratio) };
        if self.failed == 0 {
            ratio
        } else {
            format!("**{ratio}**, {} of {} failed", self.failed, self.matrices)
        }
    }
}

fn row<T: Element + RealField>(name: &str, matrices: &[DMatrix<f64>]) {
    let mut cells = [Worst::default(); SOLVERS.len()];
    for matrix in matrices {
        let values: Vec<T> = narrowed(matrix);
        for (solver, cell) in cells.iter_mut().enumerate() {
            cell.add(&values, matrix.ncols(), solve(solver, matrix.ncols(), &values));
        }
    }
    let cells: Vec<String> = cells.iter().map(Worst::cell).collect();
    println!("| {name} | {} |", cells.join(" | "));
}

fn table<T: Element + RealField>(precision: &str) {
    println!(
        "\n## {precision}\n\n| matrices | {} |\n| --- | {}",
        SOLVERS.join(" | "),
        "---: | ".repeat(4).trim_end()
    );
    for kind in 1..=KINDS {
        let draws = |seed| Draws::new(1_000 * seed + kind as u64);
        let of = |size| move |seed| lapack(kind, size, Range::of::<T>(), &mut draws(seed));
        let matrices: Vec<_> = SIZES.into_iter().flat_map(|size| (0..SEEDS).map(of(size))).collect();
        row::<T>(&format!("{kind}: {}", symmetric::name(kind)), &matrices);
    }
    let lists: Vec<_> = (0..SEEDS).map(|seed| symmetric::failures(&mut Draws::new(seed))).collect();
    for index in 0..lists[0].len() {
        let matrices: Vec<_> = lists.iter().map(|list| list[index].1.clone()).collect();
        row::<T>(lists[0][index].0, &matrices);
    }
    for scale in [1.0, 1e-8] {
        let factor = |seed| {
            let root = Draws::new(seed).matrix(256, 512);
            &root * root.transpose() * (scale / 512.0)
        };
        let matrices: Vec<_> = (0..SEEDS).map(factor).collect();
        row::<T>(&format!("second moments of normal numbers at {scale:e}, n = 256"), &matrices);
    }
    for size in [64, 256] {
        let factors = |scale: f64| -> Vec<_> {
            (0..SEEDS).map(|seed| symmetric::pixels(size, 100, &mut Draws::new(seed)) * scale).collect()
        };
        row::<T>(&format!("images with dead pixels, n = {size}"), &factors(1.0));
        row::<T>(&format!("the same at 1e-8, n = {size}"), &factors(1e-8));
    }
}

fn main() {
    println!("# Eigensolvers on the same matrices\n");
    println!(
        "Written by `cargo run -p ekfac-tests --example eigensolvers > tests/results/eigensolvers.md`.\n"
    );
    println!(
        "The larger of |A - V L V^T| / (|A| n u) and |I - V^T V| / (n u), worst of n in {SIZES:?} and {SEEDS} seeds. More than \
         30, NaN and no answer within 1000 n iterations are failures; the ratio then is the worst that is a number."
    );
    table::<f32>("f32");
    table::<f64>("f64");
}
