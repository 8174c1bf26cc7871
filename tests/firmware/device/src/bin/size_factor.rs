//! The flash that a factor, Jacobi's method and preconditioning take alone, in f32: moving averages of a user's own, each solved
//! in place, and a gradient preconditioned with them.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{
    Bases, Blend, Error, Kernels, MatrixMut, MatrixRef, Reference,
    jacobi::{Companion, Limits, Turn, diagonalise},
    precondition,
};

/// Outputs, and inputs with a bias.
const M: usize = 4;
const N: usize = 9;

ekfac_firmware::firmware!(run);

fn run() -> bool {
    let (mut a, mut b) = ([0.0; N * (N + 1) / 2], [0.0; M * (M + 1) / 2]);
    let (mut u_a, mut u_b, mut natural, mut scratch) =
        ([0.0; N * N], [0.0; M * M], [0.0; M * N], [0.0; M * (N + 1)]);
    let (u_a, u_b) = (any(&mut u_a), any(&mut u_b));
    let found = solve(any(&mut a), any(&mut [0.5; N]), u_a, &mut scratch)
        .and_then(|()| solve(any(&mut b), any(&mut [0.1; M]), u_b, &mut scratch))
        .and_then(|()| step(u_a, u_b, any(&mut [0.2; M * N]), any(&mut natural), &mut scratch));
    black_box(&natural);
    found.is_ok()
}

/// A slice whose length the compiler does not know.
fn any(values: &mut [f32]) -> &mut [f32] {
    black_box(values)
}

/// Preconditions a gradient, here like the scalings S, with the bases and lambda = 0.01.
fn step(
    u_a: &[f32],
    u_b: &[f32],
    scalings: &[f32],
    natural: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), Error> {
    let (m, n) = (black_box(M), black_box(N));
    let bases = Bases { input: MatrixRef::new(u_a, n, n)?, output: MatrixRef::new(u_b, m, m)? };
    let (gradient, scalings) = (MatrixRef::new(black_box(scalings), m, n)?, MatrixRef::new(scalings, m, n)?);
    let damped = |index, column: &mut [f32]| {
        let scalings = scalings.column(index).unwrap_or_default();
        column.iter_mut().zip(scalings).for_each(|(into, s)| *into = *s + 0.01);
    };
    // The kernels not through a table of functions, which would link all of them.
    precondition(&Reference, bases, gradient, damped, MatrixMut::new(natural, m, n)?, scratch)
}

/// Takes one example into a factor and turns its basis.
#[inline(never)]
fn solve(packed: &mut [f32], example: &[f32], basis: &mut [f32], scratch: &mut [f32]) -> Result<(), Error> {
    let size = example.len();
    basis.iter_mut().step_by(size + 1).for_each(|one| *one = 1.0);
    let x = MatrixRef::new(example, size, 1)?;
    Reference.symmetric_update(packed, x, black_box(Blend::Move(0.1)), scratch);
    black_box(diagonalise(
        packed,
        size,
        &mut [Companion::columns(basis, size, Turn::Linear)],
        black_box(Limits::default()),
    ));
    Ok(())
}
