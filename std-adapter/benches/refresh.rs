//! Ways to turn an eigenbasis towards that of its factor, from one that was right for the mean of the data: time, and how much
//! of what lies beside the diagonal is left.
//!
//! `cargo bench -p ekfac-std --bench refresh` prints the table for n = 256 to 2048 (minutes); `-- 512` for one size; `-- --test`
//! runs every way once on a small factor.
//!
//! The factor is C = sqrt(L) W sqrt(L) in its present basis, W the second moment of 1,000 normal examples, and L the spectrum
//! 1 / (1 + i): its mean is diagonal, and what lies beside the diagonal is the noise of a memory of 1,000 examples, the default.
//! Every way changes C and U alone; what else lives in the basis (scalings, velocity, weights, a batch in flight) costs a
//! rotation two more lines each, and a product of n^3 two more products each.

use ekfac::jacobi::{self, Budget, Companion, Cursor, Limits, Negligible, Turn};
use ekfac_std::Eigensolver;
use faer::{Mat, MatRef, Par, linalg::matmul::matmul};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use std::{env, fs, time::Duration, time::Instant};

const SIZES: [usize; 4] = [256, 512, 1024, 2048];
const MEMORY: usize = 1000;
/// The default's settings, and half of a batch of 200 that is measured.
const ROTATIONS: u32 = 64;
const THRESHOLD: f32 = 0.08;
const MEASURED: usize = 100;
const PATIENCE: Duration = Duration::from_secs(1);
/// Beyond this a solve by Jacobi takes minutes.
const LARGEST_SOLVE: usize = 1024;

fn main() {
    let quick = env::args().any(|argument| argument == "--test");
    let asked: Vec<usize> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = match (quick, asked.is_empty()) {
        (true, _) => vec![48],
        (false, true) => SIZES.to_vec(),
        (false, false) => asked,
    };
    println!(
        "| n | way | ms | beside the diagonal, left | pairs beyond 0.08, left | loss of orthogonality / n eps |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: |");
    for size in sizes {
        let start = Factor::new(size);
        for (name, way) in WAYS {
            if name.starts_with("Jacobi") && size > LARGEST_SOLVE {
                continue;
            }
            let (factor, time) = timed(&start, way, quick);
            println!(
                "| {size} | {name} | {:.2} | {:.2} % | {:.1} % | {:.2} |",
                1e3 * time.as_secs_f64(),
                100.0 * start.seen_in(&factor.basis).off_diagonal() / start.off_diagonal(),
                100.0 * factor.correlated() as f64 / start.correlated() as f64,
                factor.orthogonality()
            );
        }
    }
}

type Way = fn(&mut Factor);

const WAYS: [(&str, Way); 7] = [
    ("64 rotations, the default's budget of a step", |factor| factor.rotate(ROTATIONS, MEASURED)),
    ("rotations of one sweep, those beyond 0.08", |factor| factor.rotate(u32::MAX, usize::MAX)),
    ("Jacobi to convergence, warm", Factor::solve_by_rotations),
    ("faer's eigensolver, checked", Factor::solve),
    ("an orthogonal iteration, by QR", Factor::iterate),
    ("small angles at once, products only", |factor| factor.refine(1)),
    ("the same three times", |factor| factor.refine(3)),
];

/// C, packed, and U.
#[derive(Clone)]
struct Factor {
    size: usize,
    covariance: Vec<f32>,
    /// Columns one after another.
    basis: Vec<f32>,
}

impl Factor {
    fn new(size: usize) -> Self {
        let mut draws = Xoshiro256PlusPlus::seed_from_u64(size as u64);
        // The sum of twelve even draws is nearly normal.
        let mut draw = || (0..12).map(|_| (draws.next_u32() >> 8) as f32 / 16_777_216.0).sum::<f32>() - 6.0;
        let examples = Mat::from_fn(size, MEMORY, |row, _| draw() / (1.0 + row as f32).sqrt());
        let mut moment = Mat::zeros(size, size);
        multiply(&mut moment, examples.as_ref(), examples.transpose());
        let mut factor = Self { size, covariance: vec![], basis: columns(&Mat::identity(size, size)) };
        moment *= faer::Scale(1.0 / MEMORY as f32);
        factor.pack(&moment);
        factor
    }

    fn pack(&mut self, square: &Mat<f32>) {
        let columns = (0..self.size).flat_map(|column| (0..=column).map(move |row| (row, column)));
        // Products leave the two triangles apart by rounding.
        self.covariance =
            columns.map(|(row, column)| 0.5 * (square[(row, column)] + square[(column, row)])).collect();
    }

    fn square(&self) -> Mat<f32> {
        let entry = |row: usize, column: usize| jacobi::packed_index(row.min(column), row.max(column));
        Mat::from_fn(self.size, self.size, |row, column| self.covariance[entry(row, column)])
    }

    fn off_diagonal(&self) -> f64 {
        f64::from(jacobi::off_diagonal(&self.covariance, self.size))
    }

    /// Pairs that the default would still rotate.
    fn correlated(&self) -> usize {
        let trace: f32 = (0..self.size).map(|index| jacobi::diagonal(&self.covariance, index)).sum();
        let floor = f32::EPSILON * trace;
        let value = |index: usize| jacobi::diagonal(&self.covariance, index);
        let pairs = (0..self.size).flat_map(|q| (0..q).map(move |p| (p, q)));
        pairs
            .filter(|&(p, q)| {
                let entry = self.covariance[jacobi::packed_index(p, q)].abs();
                entry > floor && entry > THRESHOLD * (value(p) * value(q)).abs().sqrt()
            })
            .count()
    }

    /// |U^T U - I| / (n eps), Frobenius.
    fn orthogonality(&self) -> f64 {
        let mut product = Mat::zeros(self.size, self.size);
        let basis = MatRef::from_column_major_slice(&self.basis, self.size, self.size);
        multiply(&mut product, basis.transpose(), basis);
        product -= Mat::<f32>::identity(self.size, self.size);
        f64::from(product.norm_l2()) / (self.size as f64 * f64::from(f32::EPSILON))
    }

    /// One step's worth of a running basis, pairs looked at for so many examples.
    fn rotate(&mut self, rotations: u32, examples: usize) {
        let trace: f32 = (0..self.size).map(|index| jacobi::diagonal(&self.covariance, index)).sum();
        let negligible = Negligible { threshold: THRESHOLD, floor: f32::EPSILON * trace };
        let checks = u32::try_from(self.size.saturating_mul(examples)).unwrap_or(u32::MAX);
        let budget = Budget { rotations, checks: checks.min(jacobi::pairs(self.size)) };
        let (size, mut cursor) = (self.size, Cursor::default());
        let mut companion = Companion::columns(&mut self.basis, size, Turn::Linear);
        jacobi::walk(&mut self.covariance, size, &mut cursor, negligible, budget, &mut |p, q, rotation| {
            companion.rotate(p, q, rotation);
        });
    }

    fn solve_by_rotations(&mut self) {
        let companions = &mut [Companion::columns(&mut self.basis, self.size, Turn::Linear)];
        jacobi::diagonalise(&mut self.covariance, self.size, companions, Limits::default());
    }

    /// U <- U V, C <- diag(values).
    fn solve(&mut self) {
        let (size, square) = (self.size, columns(&self.square()));
        let mut solver = Eigensolver::new();
        let matrix = ekfac::MatrixRef::new(&square, size, size).expect("a square");
        let (eigen, _) = solver.solve(matrix).expect("a finite factor");
        self.turn_basis(MatRef::from_column_major_slice(&eigen.vectors, size, size));
        self.covariance.fill(0.0);
        for (index, value) in eigen.values.iter().enumerate() {
            self.covariance[jacobi::packed_index(index, index)] = *value;
        }
    }

    /// U <- U Q with C = Q R: a step of the orthogonal iteration, as SOAP takes it.
    fn iterate(&mut self) {
        let turn = self.square().qr().compute_Q();
        self.turn(&turn);
    }

    /// Every pair's own rotation, all at once where they are small enough for that; orthogonal again by Newton and Schulz.
    fn refine(&mut self, times: usize) {
        for _ in 0..times {
            let turn = orthogonal(small_angles(&self.square()));
            self.turn(&turn);
        }
    }

    /// U <- U R, C <- R^T C R.
    fn turn(&mut self, turn: &Mat<f32>) {
        self.turn_covariance(turn.as_ref());
        self.turn_basis(turn.as_ref());
    }

    fn turn_covariance(&mut self, turn: MatRef<'_, f32>) {
        let (mut half, mut turned) = (Mat::zeros(self.size, self.size), Mat::zeros(self.size, self.size));
        multiply(&mut half, self.square().as_ref(), turn);
        multiply(&mut turned, turn.transpose(), half.as_ref());
        self.pack(&turned);
    }

    fn turn_basis(&mut self, turn: MatRef<'_, f32>) {
        let mut turned = Mat::zeros(self.size, self.size);
        multiply(&mut turned, MatRef::from_column_major_slice(&self.basis, self.size, self.size), turn);
        self.basis = columns(&turned);
    }

    /// This factor, whose own basis is the identity, in another: what a way has made of it, whatever it says itself.
    fn seen_in(&self, basis: &[f32]) -> Self {
        let mut seen = self.clone();
        seen.turn_covariance(MatRef::from_column_major_slice(basis, self.size, self.size));
        seen
    }
}

/// The largest angle of a pair, and the largest root of the sum of all squares in a column, that are taken at once.
const LARGEST_ANGLE: f32 = 0.2;
const LARGEST_COLUMN: f32 = 0.4;

/// I + K, K skew, of the angles that would annihilate each pair alone; none for pairs whose values are too close for a small one.
fn small_angles(square: &Mat<f32>) -> Mat<f32> {
    let size = square.nrows();
    let mut turn = Mat::zeros(size, size);
    for q in 0..size {
        for p in 0..q {
            let angle = square[(p, q)] / (square[(q, q)] - square[(p, p)]);
            if angle.is_finite() && angle.abs() < LARGEST_ANGLE {
                turn[(p, q)] = angle;
                turn[(q, p)] = -angle;
            }
        }
    }
    let longest = (0..size).map(|index| turn.col(index).norm_l2()).fold(0.0, f32::max);
    if longest > LARGEST_COLUMN {
        turn *= faer::Scale(LARGEST_COLUMN / longest);
    }
    (0..size).for_each(|index| turn[(index, index)] = 1.0);
    turn
}

/// R <- R (3 I - R^T R) / 2 until it is orthogonal to rounding.
fn orthogonal(mut turn: Mat<f32>) -> Mat<f32> {
    let size = turn.nrows();
    let (mut gram, mut next) = (Mat::zeros(size, size), Mat::zeros(size, size));
    for _ in 0..12 {
        multiply(&mut gram, turn.transpose(), turn.as_ref());
        gram -= Mat::<f32>::identity(size, size);
        if gram.norm_l2() <= f32::EPSILON * size as f32 {
            break;
        }
        gram *= faer::Scale(-0.5);
        gram += Mat::<f32>::identity(size, size);
        multiply(&mut next, turn.as_ref(), gram.as_ref());
        std::mem::swap(&mut turn, &mut next);
    }
    turn
}

fn multiply(out: &mut Mat<f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    matmul(out.as_mut(), faer::Accum::Replace, left, right, 1.0, Par::Seq);
}

/// All columns, one after another.
fn columns(matrix: &Mat<f32>) -> Vec<f32> {
    matrix.col_iter().flat_map(|column| column.iter().copied()).collect()
}

/// A way tried again and again for about a second: what it made of the factor, and the mean time.
fn timed(start: &Factor, way: Way, quick: bool) -> (Factor, Duration) {
    let (clock, mut spent, mut runs) = (Instant::now(), Duration::ZERO, 0);
    loop {
        let mut factor = start.clone();
        let (before, wall) = (processor_time(), Instant::now());
        way(&mut factor);
        let wall = wall.elapsed();
        // Single readings move in ticks; their sum does not.
        spent += processor_time().zip(before).map_or(wall, |(after, before)| after.saturating_sub(before));
        runs += 1;
        if quick || clock.elapsed() > PATIENCE {
            return (factor, spent / runs);
        }
    }
}

/// What this thread has had of a processor, which a busy machine does not change; Linux only.
fn processor_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
