//! The flash that factors, Jacobi's method and preconditioning take, for a training loop of one's own in f32.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{Config, Error, LayerMut, MatrixMut, MatrixRef, Preconditioner, Progress, Shape};

const SHAPE: Shape = Shape::new(8, 4);

ekfac_firmware::firmware!(run);

fn run() -> bool {
    let mut workspace = [0.0; Preconditioner::<f32>::workspace_words(&SHAPE, 1)];
    precondition(black_box(&mut [0.0; SHAPE.words()]), black_box(&mut workspace)).is_ok()
}

fn precondition(state: &mut [f32], workspace: &mut [f32]) -> Result<(), Error> {
    let (config, mut progress) = (black_box(Config::default()), Progress::new(0));
    let layer = LayerMut::new(SHAPE, state)?;
    let mut layer = Preconditioner::new(layer, &config, &mut progress, workspace);
    let (activation, gradient) = (black_box([0.5; 8]), black_box([0.1; 4]));
    black_box(layer.observe(MatrixRef::new(&activation, 8, 1)?, MatrixRef::new(&gradient, 4, 1)?)?);
    let (mean, mut natural) = (black_box([0.1; 36]), [0.0; 36]);
    layer.precondition(MatrixRef::new(&mean, 4, 9)?, MatrixMut::new(&mut natural, 4, 9)?)?;
    black_box(natural);
    Ok(())
}
