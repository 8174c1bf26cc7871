//! Slow, dense, `f64` versions of everything that core computes, written from the formulas with nalgebra and sharing no
//! code with core. Comparisons end in numbers that a suite tests as `value <= limit`, so that a NaN fails.

pub mod bench;
pub mod convolution;
pub mod network;

use ekfac::{Learner, MatrixMut, MatrixRef, Scalar};
use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// The type's epsilon, the unit u of every limit.
pub fn unit<T: Scalar>() -> f64 {
    T::EPSILON.to_f64()
}

/// A matrix of core's, widened.
pub fn dense<T: Scalar>(matrix: MatrixRef<'_, T>) -> DMatrix<f64> {
    let values = matrix.iter_columns().flatten().map(|value| value.to_f64());
    DMatrix::from_iterator(matrix.rows(), matrix.columns(), values)
}

/// Values of core's, widened.
pub fn widened<T: Scalar>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

/// A matrix or a list in the scalar under test, columns one after another.
pub fn narrowed<'a, T: Scalar>(values: impl IntoIterator<Item = &'a f64>) -> Vec<T> {
    values.into_iter().map(|value| T::from_f64(*value)).collect()
}

/// The bit patterns, to compare states byte for byte.
pub fn bits<T: Scalar>(values: &[T]) -> Vec<u64> {
    // The widening is exact, and distinct finite numbers stay distinct; NaN payloads are no part of any state.
    values.iter().map(|value| value.to_f64().to_bits()).collect()
}

/// The symmetric matrix of a packed upper triangle, columns one after another.
pub fn unpacked<T: Scalar>(packed: &[T], size: usize) -> DMatrix<f64> {
    DMatrix::from_fn(size, size, |i, j| {
        let (low, high) = (i.min(j), i.max(j));
        packed[high * (high + 1) / 2 + low].to_f64()
    })
}

/// The packed upper triangle of a symmetric matrix.
pub fn packed<T: Scalar>(matrix: &DMatrix<f64>) -> Vec<T> {
    let upper = (0..matrix.ncols()).flat_map(|j| (0..=j).map(move |i| (i, j)));
    upper.map(|place| T::from_f64(matrix[place])).collect()
}

/// |left - right| / |right| in the Frobenius norm; the absolute difference where `right` is zero.
pub fn relative_difference(left: &DMatrix<f64>, right: &DMatrix<f64>) -> f64 {
    assert_eq!(left.shape(), right.shape());
    let (difference, size) = ((left - right).norm(), right.norm());
    if size == 0.0 { difference } else { difference / size }
}

/// The largest |left - right| entry by entry.
pub fn largest_difference(left: &DMatrix<f64>, right: &DMatrix<f64>) -> f64 {
    assert_eq!(left.shape(), right.shape());
    // `max` would lose a NaN, a sum does not.
    let differences = left.iter().zip(right).map(|(x, y)| (x - y).abs());
    differences.fold(0.0, |largest, difference| {
        if difference.is_nan() {
            f64::NAN
        } else if difference > largest {
            difference
        } else {
            largest
        }
    })
}

/// max |U^T U - I|.
pub fn orthogonality(basis: &DMatrix<f64>) -> f64 {
    largest_difference(&(basis.transpose() * basis), &DMatrix::identity(basis.ncols(), basis.ncols()))
}

/// W of one layer of a learner, wherever it lives.
pub fn weights<T: Scalar>(learner: &mut Learner<'_, T>, layer: usize) -> DMatrix<T> {
    let shape = *learner.net().layers()[layer].shape();
    let mut weights = DMatrix::from_element(shape.rows(), shape.columns(), T::ZERO);
    learner.weights(layer, MatrixMut::from(&mut weights)).expect("a layer");
    weights
}

/// nalgebra's eigenvalues and eigenvectors, here only as an oracle.
pub fn eigen(matrix: &DMatrix<f64>) -> (DVector<f64>, DMatrix<f64>) {
    let solved = SymmetricEigen::new(matrix.clone());
    (solved.eigenvalues, solved.eigenvectors)
}

/// (1/N) X X^T of examples in columns.
pub fn second_moment(examples: &DMatrix<f64>) -> DMatrix<f64> {
    examples * examples.transpose() / examples.ncols() as f64
}

/// The examples with a last row of ones, the bias's activation.
pub fn with_ones(examples: &DMatrix<f64>) -> DMatrix<f64> {
    let rows = examples.nrows();
    examples.clone().insert_row(rows, 1.0)
}

/// The mean gradient (1/N) sum g a^T.
pub fn mean_gradient(activations: &DMatrix<f64>, gradients: &DMatrix<f64>) -> DMatrix<f64> {
    gradients * activations.transpose() / activations.ncols() as f64
}

/// The Fisher block (1/N) sum v v^T, v = vec(g a^T) with columns stacked.
pub fn fisher(activations: &DMatrix<f64>, gradients: &DMatrix<f64>) -> DMatrix<f64> {
    let size = activations.nrows() * gradients.nrows();
    let mut sum = DMatrix::zeros(size, size);
    for (a, g) in activations.column_iter().zip(gradients.column_iter()) {
        let v = a.kronecker(&g);
        sum += &v * v.transpose();
    }
    sum / activations.ncols() as f64
}

/// S, one example at a time: the mean of (U_B^T g a^T U_A)^2, squared element by element.
pub fn scalings(
    input_basis: &DMatrix<f64>,
    output_basis: &DMatrix<f64>,
    activations: &DMatrix<f64>,
    gradients: &DMatrix<f64>,
) -> DMatrix<f64> {
    let mut sum = DMatrix::zeros(gradients.nrows(), activations.nrows());
    for (a, g) in activations.column_iter().zip(gradients.column_iter()) {
        let seen = output_basis.transpose() * g * a.transpose() * input_basis;
        sum += seen.component_mul(&seen);
    }
    sum / activations.ncols() as f64
}

/// (U_A x U_B) diag(vec S) (U_A x U_B)^T, the Fisher block that EKFAC stands for.
pub fn block(
    input_basis: &DMatrix<f64>,
    output_basis: &DMatrix<f64>,
    scalings: &DMatrix<f64>,
) -> DMatrix<f64> {
    let basis = input_basis.kronecker(output_basis);
    let diagonal = DMatrix::from_diagonal(&DVector::from_column_slice(scalings.as_slice()));
    &basis * diagonal * basis.transpose()
}

/// (F + lambda I)^-1 g, by elimination on the whole block.
pub fn natural_gradient(block: &DMatrix<f64>, damping: f64, gradient: &DMatrix<f64>) -> DMatrix<f64> {
    let damped = block + DMatrix::identity(block.nrows(), block.ncols()) * damping;
    let stacked = DVector::from_column_slice(gradient.as_slice());
    let solved = damped.lu().solve(&stacked).expect("a damped block is regular");
    DMatrix::from_column_slice(gradient.nrows(), gradient.ncols(), solved.as_slice())
}
