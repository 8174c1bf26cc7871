//! One layer for a user who has a training loop of their own: observe a batch, precondition a gradient.
//!
//! *Invariant*: the same corridor ([`step`](crate::step)) as the learner's, with one layer. *Cost*: workspace of
//! [`Preconditioner::workspace_words`]. *Failure*: wrong lengths are errors before any write; bad data is
//! [`Outcome::Skipped`].

use crate::{
    Config, Error, Kernels, LayerMut, MatrixMut, MatrixRef, Outcome, Progress, Reference, Scalar, Shape,
    carve::Carver,
    error::expect_length,
    kernels::Counted,
    precondition::precondition,
    refresh::InFlight,
    room::Room,
    single::expect_built,
    step::{self, Rooms},
};

/// EKFAC for a single layer over caller-owned memory.
///
/// ```
/// use ekfac::{Config, LayerMut, MatrixMut, MatrixRef, Preconditioner, Progress, Shape};
/// const SHAPE: Shape = Shape::new(2, 2);
/// let mut state = [0.0_f64; SHAPE.words()];
/// let mut workspace = [0.0; Preconditioner::<f64>::workspace_words(&SHAPE, 4)];
/// let mut progress = Progress::new(0);
/// let config = Config::paper(0.1, 1e-2, 1);
/// // Four examples, one a column; gradients of each example's own loss.
/// let activations = nalgebra::matrix![1.0, 0.5, -1.0, 0.2; 0.3, -0.4, 0.1, 2.0];
/// let gradients = nalgebra::matrix![0.1, -0.2, 0.3, 0.1; 0.2, 0.2, -0.1, 0.4];
/// let mut gradient = nalgebra::SMatrix::<f64, 2, 3>::zeros();
/// gradient.columns_mut(0, 2).copy_from(&(gradients * activations.transpose() / 4.0));
/// gradient.column_mut(2).copy_from(&(gradients.column_sum() / 4.0));
///
/// let layer = LayerMut::new(SHAPE, &mut state)?;
/// let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
/// layer.observe(MatrixRef::from(&activations), MatrixRef::from(&gradients))?;
/// let mut natural = nalgebra::SMatrix::<f64, 2, 3>::zeros();
/// layer.precondition(MatrixRef::from(&gradient), MatrixMut::from(&mut natural))?;
/// assert!(gradient.dot(&natural) > 0.0);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub struct Preconditioner<'a, T> {
    layer: LayerMut<'a, T>,
    config: &'a Config<T>,
    progress: &'a mut Progress<T>,
    workspace: &'a mut [T],
    kernels: &'a dyn Kernels<T>,
    /// Whether the settings have been looked at, which cannot change while they are borrowed.
    checked: bool,
}

/// The one layer of a preconditioner; its Fisher gradients are those it was given.
struct OneRoom<'r, T>(Room<'r, T>);

impl<'a, T: Scalar> Preconditioner<'a, T> {
    /// Words of workspace for batches of up to `batch` examples and for preconditioning:
    /// N (n + m) + 3 m n + 2 max(m, n).
    pub const fn workspace_words(shape: &Shape, batch: usize) -> usize {
        batch
            .saturating_mul(shape.columns().saturating_add(shape.rows()))
            .saturating_add(shape.parameters().saturating_mul(3))
            .saturating_add(shape.longest_side().saturating_mul(2))
    }

    /// Binds a layer to its settings and workspace, with core's own kernels.
    pub fn new(
        layer: LayerMut<'a, T>,
        config: &'a Config<T>,
        progress: &'a mut Progress<T>,
        workspace: &'a mut [T],
    ) -> Self {
        Self { layer, config, progress, workspace, kernels: &Reference, checked: false }
    }

    /// The same with other kernels.
    #[cfg(feature = "batches")]
    #[must_use]
    pub fn with_kernels(self, kernels: &'a dyn Kernels<T>) -> Self {
        Self { kernels, ..self }
    }

    /// The layer.
    pub fn layer(&self) -> &LayerMut<'a, T> {
        &self.layer
    }

    /// The layer, to load a state into.
    pub fn layer_mut(&mut self) -> &mut LayerMut<'a, T> {
        &mut self.layer
    }

    /// Takes a batch into factors and scalings, refreshing the basis when it is due. `activations` is inputs x N,
    /// `gradients` is m x N: the gradient of each example's own loss with respect to its pre-activations.
    ///
    /// # Errors
    /// [`Error::Length`], of columns that do not follow one another as well, [`Error::Empty`], [`Error::OutOfRange`] for a bad
    /// setting and for the `shape` of a block that is not [full](crate::convolution::Block), all before any write;
    /// [`Error::RefreshFailed`]. Data that is not finite or too large is [`Outcome::Skipped`], state untouched.
    pub fn observe(
        &mut self,
        activations: MatrixRef<'_, T>,
        gradients: MatrixRef<'_, T>,
    ) -> Result<Outcome, Error> {
        self.check_config()?;
        let shape = *self.layer.shape();
        let batch = activations.columns();
        if batch == 0 {
            return Err(Error::Empty { argument: "activations" });
        }
        expect_built(batch == 1, "activations")?;
        expect_length("activation rows", shape.inputs(), activations.rows())?;
        expect_length("gradient rows", shape.rows(), gradients.rows())?;
        expect_length("gradient columns", batch, gradients.columns())?;
        let (activation_values, gradient_values) =
            (activations.whole("activation stride")?, gradients.whole("gradient stride")?);
        self.check_workspace(batch)?;
        let mut carver = Carver::new(self.workspace, "workspace", Self::workspace_words(&shape, batch));
        let projected_activations = carver.take(shape.columns() * batch)?;
        let projected_gradients = carver.take(shape.rows() * batch)?;
        let mean_gradient = carver.take(if batch > 1 { shape.parameters() } else { 0 })?;
        let room = Room {
            layer: self.layer.reborrow(),
            in_flight: InFlight {
                weights: &mut [],
                activations: projected_activations,
                gradients: projected_gradients,
                fisher_gradients: &mut [],
            },
            activations: activation_values,
            gradients: gradient_values,
            fisher_gradients: &[],
            mean_gradient,
            scratch: carver.rest(),
        };
        let counted = Counted::new(self.kernels);
        step::observe_all(&mut OneRoom(room), self.config, counted, self.progress, batch)
    }

    /// Writes U_B [ (U_B^T G U_A) / (S + lambda) ] U_A^T for a gradient in parameter coordinates, m x n. No state
    /// changes, whatever the number of calls.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NonFinite`], [`Error::OutOfRange`] for a bad setting: before any write.
    pub fn precondition(&mut self, gradient: MatrixRef<'_, T>, out: MatrixMut<'_, T>) -> Result<(), Error> {
        self.check_config()?;
        self.check_workspace(1)?;
        let Self { layer, config, progress, workspace, kernels, .. } = self;
        precondition_layer(layer, config, progress, *kernels, gradient, out, workspace)
    }

    #[inline(never)]
    fn check_config(&mut self) -> Result<(), Error> {
        if !self.checked {
            self.config.check()?;
            // A convolution knows more of its samples.
            self.layer.shape().expect_full()?;
            self.checked = true;
        }
        Ok(())
    }

    fn check_workspace(&self, batch: usize) -> Result<(), Error> {
        let expected = Self::workspace_words(self.layer.shape(), batch);
        let found = self.workspace.len();
        if found < expected { Err(Error::Length { argument: "workspace", expected, found }) } else { Ok(()) }
    }
}

/// [`precondition()`] with a layer's own bases, scalings and damping; counted.
pub(crate) fn precondition_layer<T: Scalar>(
    layer: &LayerMut<'_, T>,
    config: &Config<T>,
    progress: &mut Progress<T>,
    kernels: &dyn Kernels<T>,
    gradient: MatrixRef<'_, T>,
    out: MatrixMut<'_, T>,
    scratch: &mut [T],
) -> Result<(), Error> {
    let damping = config.damping_of(layer, progress);
    let denominators = damping.over(layer.shape(), layer.words());
    let damped = |column, out: &mut [T]| denominators.fill(column, out);
    precondition(kernels, layer.bases(), gradient, damped, out, scratch)?;
    let shape = layer.shape();
    let products = shape.parameters().saturating_mul(4 * (shape.rows() + shape.columns()) + 2);
    progress.operations = progress.operations.saturating_add(products as u64);
    Ok(())
}

impl<T: Scalar> Rooms<T> for OneRoom<'_, T> {
    type Room<'r>
        = Room<'r, T>
    where
        Self: 'r;

    fn layers(&self) -> usize {
        1
    }

    fn room(&mut self, _layer: usize) -> Result<Room<'_, T>, Error> {
        Ok(self.0.reborrow())
    }

    fn passes(&self) -> usize {
        1
    }

    fn load(&mut self, _pass: usize) -> Result<(), Error> {
        Ok(())
    }
}
