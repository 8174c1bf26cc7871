//! One layer on a buffer of its own, driven as a user would drive it.

use ekfac::{
    Config, LayerMut, MatrixMut, MatrixRef, Outcome, Preconditioner, Progress, Scalar, Shape, jacobi,
};
use nalgebra::DMatrix;

/// The elements of a matrix in another precision, column-major.
pub fn cast<T: Scalar>(matrix: &DMatrix<f64>) -> Vec<T> {
    matrix.iter().map(|value| T::from_f64(*value)).collect()
}

/// A matrix of any precision in `f64`.
pub fn widen<T: Scalar>(matrix: MatrixRef<'_, T>) -> DMatrix<f64> {
    let columns = matrix.iter_columns().flatten().map(|value| value.to_f64());
    DMatrix::from_iterator(matrix.rows(), matrix.columns(), columns)
}

/// (1/N) sum g [a; 1]^T of a batch, one column an example, worked out without the library.
pub fn mean_gradient(h: &DMatrix<f64>, delta: &DMatrix<f64>, bias: bool) -> DMatrix<f64> {
    delta * with_ones(h, bias).transpose() / h.ncols() as f64
}

/// A batch with a row of ones below it for the bias.
pub fn with_ones(h: &DMatrix<f64>, bias: bool) -> DMatrix<f64> {
    if bias { h.clone().insert_row(h.nrows(), 1.0) } else { h.clone() }
}

/// A layer, its workspace and its progress.
pub struct Bench<T> {
    shape: Shape,
    words: Vec<T>,
    workspace: Vec<T>,
    /// Counters; they decide whether a refresh is due.
    pub progress: Progress<T>,
}

impl<T: Scalar> Bench<T> {
    /// A fresh layer for batches of up to `batch` examples.
    pub fn new(inputs: usize, outputs: usize, bias: bool, batch: usize) -> Self {
        let shape = Shape::new(inputs, outputs);
        let shape = if bias { shape } else { shape.without_bias() };
        let workspace = Preconditioner::<T>::workspace_words(&shape, batch);
        Self {
            shape,
            words: vec![T::ZERO; shape.words()],
            workspace: vec![T::ZERO; workspace],
            progress: Progress::new(0),
        }
    }

    /// The layer.
    ///
    /// # Panics
    /// Never: the buffer has the layer's own length.
    pub fn layer(&mut self) -> LayerMut<'_, T> {
        LayerMut::new(self.shape, &mut self.words).expect("a buffer of the layer's length")
    }

    /// Takes a batch in, one column an example.
    ///
    /// # Panics
    /// When the library refuses the batch with an error.
    pub fn observe(&mut self, config: &Config<T>, h: &DMatrix<f64>, delta: &DMatrix<f64>) -> Outcome {
        let (activations, gradients) = (cast::<T>(h), cast::<T>(delta));
        let activations = MatrixRef::new(&activations, h.nrows(), h.ncols()).expect("activations");
        let gradients = MatrixRef::new(&gradients, delta.nrows(), delta.ncols()).expect("gradients");
        self.preconditioner(config, |layer| layer.observe(activations, gradients)).expect("observe")
    }

    /// The preconditioned gradient.
    ///
    /// # Panics
    /// When the library refuses the gradient with an error.
    pub fn precondition(&mut self, config: &Config<T>, gradient: &DMatrix<f64>) -> DMatrix<f64> {
        let (m, n) = gradient.shape();
        let from = cast::<T>(gradient);
        let mut into = vec![T::ZERO; m * n];
        self.preconditioner(config, |layer| {
            layer.precondition(MatrixRef::new(&from, m, n)?, MatrixMut::new(&mut into, m, n)?)
        })
        .expect("precondition");
        widen(MatrixRef::new(&into, m, n).expect("m x n"))
    }

    /// Puts other bases into the layer, with the eigenvalues as covariances.
    ///
    /// # Panics
    /// When the sizes are not those of the layer.
    pub fn load(&mut self, input: (&DMatrix<f64>, &DMatrix<f64>), output: (&DMatrix<f64>, &DMatrix<f64>)) {
        let mut layer = self.layer();
        for (is_input, (basis, values)) in [(true, input), (false, output)] {
            let size = basis.ncols();
            let mut covariance = vec![T::ZERO; size * (size + 1) / 2];
            for (index, value) in values.iter().enumerate() {
                covariance[jacobi::packed_index(index, index)] = T::from_f64(*value);
            }
            let basis = cast::<T>(basis);
            let basis = MatrixRef::new(&basis, size, size).expect("a basis of the factor's size");
            let loaded = if is_input {
                layer.load_input_factor(basis, &covariance)
            } else {
                layer.load_output_factor(basis, &covariance)
            };
            loaded.expect("a finite basis of the factor's size");
        }
    }

    fn preconditioner<R>(
        &mut self,
        config: &Config<T>,
        run: impl FnOnce(&mut Preconditioner<'_, T>) -> R,
    ) -> R {
        let layer = LayerMut::new(self.shape, &mut self.words).expect("a buffer of the layer's length");
        run(&mut Preconditioner::new(layer, config, &mut self.progress, &mut self.workspace))
    }
}

/// The positions of a factor's eigenvalues, smallest first.
pub fn ascending<T: Scalar>(values: impl Iterator<Item = T>) -> (Vec<usize>, DMatrix<f64>) {
    let values: Vec<f64> = values.map(Scalar::to_f64).collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    let sorted = DMatrix::from_iterator(order.len(), 1, order.iter().map(|i| values[*i]));
    (order, sorted)
}

/// S of a layer with rows and columns in ascending order of the eigenvalues.
pub fn ordered_scalings<T: Scalar>(layer: &LayerMut<'_, T>) -> DMatrix<f64> {
    scalings_in(&order(layer), layer)
}

/// Rows and columns of S, by ascending eigenvalues.
pub fn order<T: Scalar>(layer: &LayerMut<'_, T>) -> (Vec<usize>, Vec<usize>) {
    (ascending(layer.output_factor().values()).0, ascending(layer.input_factor().values()).0)
}

/// S, its rows and columns in this order.
pub fn scalings_in<T: Scalar>(
    (rows, columns): &(Vec<usize>, Vec<usize>),
    layer: &LayerMut<'_, T>,
) -> DMatrix<f64> {
    let scalings = widen(layer.scalings());
    DMatrix::from_fn(rows.len(), columns.len(), |i, j| scalings[(rows[i], columns[j])])
}
