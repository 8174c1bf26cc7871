//! The flash that a factor, Jacobi's method and preconditioning take alone, in f32: moving averages of a user's own, each solved
//! in place, and a gradient preconditioned with them.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{
    Blend, Config, Error, Kernels, LayerMut, MatrixMut, MatrixRef, Preconditioner, Progress, Reference,
    Shape,
    jacobi::{Companion, Limits, Turn, diagonalise},
};

const SHAPE: Shape = Shape::new(8, 4);

ekfac_firmware::firmware!(run);

fn run() -> bool {
    let mut workspace = [0.0; Preconditioner::<f32>::workspace_words(&SHAPE, 1)];
    precondition(black_box(&mut [0.0; SHAPE.words()]), black_box(&mut workspace)).is_ok()
}

fn precondition(state: &mut [f32], workspace: &mut [f32]) -> Result<(), Error> {
    let (mut a, mut b) = ([0.0; 9 * 10 / 2], [0.0; 4 * 5 / 2]);
    let (mut u_a, mut u_b) = ([0.0; 81], [0.0; 16]);
    solve(&mut a, black_box(&[0.5; 9]), &mut u_a)?;
    solve(&mut b, black_box(&[0.1; 4]), &mut u_b)?;
    let mut layer = LayerMut::new(SHAPE, state)?;
    layer.load_input_factor(MatrixRef::new(&u_a, 9, 9)?, &a)?;
    layer.load_output_factor(MatrixRef::new(&u_b, 4, 4)?, &b)?;
    layer.load_scalings(MatrixRef::new(black_box(&[0.2; 36]), 4, 9)?)?;
    let (config, mut progress) = (Config::kfac(0.1, 0.01, 1), Progress::new(0));
    let mut layer = Preconditioner::new(layer, &config, &mut progress, workspace);
    let (mean, mut natural) = (black_box([0.1; 36]), [0.0; 36]);
    layer.precondition(MatrixRef::new(&mean, 4, 9)?, MatrixMut::new(&mut natural, 4, 9)?)?;
    black_box(natural);
    Ok(())
}

/// Takes one example into a factor and turns its basis.
#[inline(never)]
fn solve(packed: &mut [f32], example: &[f32], basis: &mut [f32]) -> Result<(), Error> {
    let (size, mut scratch) = (example.len(), [0.0; 9]);
    basis.iter_mut().step_by(size + 1).for_each(|one| *one = 1.0);
    let x = MatrixRef::new(example, size, 1)?;
    // Not through a table of functions, which would link all of them.
    Reference.symmetric_update(packed, x, Blend::Move(0.1), &mut scratch);
    black_box(diagonalise(
        packed,
        size,
        &mut [Companion::columns(basis, size, Turn::Linear)],
        black_box(Limits::default()),
    ));
    Ok(())
}
