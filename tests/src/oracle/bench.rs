//! One layer with memory of its own, driven through [`Preconditioner`] in `f64` matrices whatever the scalar.

use super::{dense, narrowed};
use ekfac::{
    Config, FactorRef, Kernels, LayerMut, MatrixMut, MatrixRef, Outcome, Preconditioner, Progress, Reference,
    Scalar, Shape,
};
use nalgebra::DMatrix;

/// A layer under test.
#[derive(Clone, Debug)]
pub struct Bench<T> {
    /// Its shape.
    pub shape: Shape,
    /// Its settings.
    pub config: Config<T>,
    /// Its counters.
    pub progress: Progress<T>,
    /// Its state words.
    pub state: Vec<T>,
}

impl<T: Scalar> Bench<T> {
    /// A fresh layer.
    pub fn new(shape: Shape, config: Config<T>) -> Self {
        let mut bench =
            Self { shape, config, progress: Progress::new(0), state: vec![T::ZERO; shape.words()] };
        // The first view writes the bases of a fresh layer; later ones write nothing.
        bench.layer();
        bench
    }

    /// Takes in a batch: activations without the bias's ones, and gradients.
    pub fn observe(&mut self, activations: &DMatrix<f64>, gradients: &DMatrix<f64>) -> Outcome {
        self.observe_with(&Reference, activations, gradients)
    }

    /// The same with other kernels.
    pub fn observe_with(
        &mut self,
        kernels: &dyn Kernels<T>,
        activations: &DMatrix<f64>,
        gradients: &DMatrix<f64>,
    ) -> Outcome {
        let batch = activations.ncols();
        let (a, g): (Vec<T>, Vec<T>) = (narrowed(activations), narrowed(gradients));
        let mut workspace = vec![T::ZERO; Preconditioner::<T>::workspace_words(&self.shape, batch)];
        let layer = LayerMut::new(self.shape, &mut self.state).expect("the shape's words");
        Preconditioner::new(layer, &self.config, &mut self.progress, &mut workspace)
            .with_kernels(kernels)
            .observe(
                MatrixRef::new(&a, activations.nrows(), batch).expect("a matrix"),
                MatrixRef::new(&g, gradients.nrows(), batch).expect("a matrix"),
            )
            .expect("a well-formed batch")
    }

    /// The preconditioned gradient.
    pub fn precondition(&mut self, gradient: &DMatrix<f64>) -> DMatrix<f64> {
        let (rows, columns) = gradient.shape();
        let values: Vec<T> = narrowed(gradient);
        let mut out = vec![T::ZERO; values.len()];
        let mut workspace = vec![T::ZERO; Preconditioner::<T>::workspace_words(&self.shape, 1)];
        let layer = LayerMut::new(self.shape, &mut self.state).expect("the shape's words");
        Preconditioner::new(layer, &self.config, &mut self.progress, &mut workspace)
            .precondition(
                MatrixRef::new(&values, rows, columns).expect("a matrix"),
                MatrixMut::new(&mut out, rows, columns).expect("a matrix"),
            )
            .expect("a well-formed gradient");
        dense(MatrixRef::new(&out, rows, columns).expect("a matrix"))
    }

    /// The view.
    pub fn layer(&mut self) -> LayerMut<'_, T> {
        LayerMut::new(self.shape, &mut self.state).expect("the shape's words")
    }

    /// U_A and U_B.
    pub fn bases(&mut self) -> (DMatrix<f64>, DMatrix<f64>) {
        let layer = self.layer();
        (dense(layer.input_factor().basis()), dense(layer.output_factor().basis()))
    }

    /// S.
    pub fn scalings(&mut self) -> DMatrix<f64> {
        dense(self.layer().scalings())
    }

    /// A and B.
    pub fn factors(&mut self) -> (DMatrix<f64>, DMatrix<f64>) {
        let layer = self.layer();
        (reconstructed(layer.input_factor()), reconstructed(layer.output_factor()))
    }
}

/// A factor in parameter coordinates, U C U^T, by core's own product.
pub fn reconstructed<T: Scalar>(factor: FactorRef<'_, T>) -> DMatrix<f64> {
    let size = factor.size();
    let mut values = vec![T::ZERO; size * size];
    factor.reconstruct(MatrixMut::new(&mut values, size, size).expect("a square")).expect("a square");
    dense(MatrixRef::new(&values, size, size).expect("a square"))
}
