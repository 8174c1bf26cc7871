//! A convolution for a user who has a training loop of their own: observe images and gradients, precondition a gradient.
//!
//! *Invariant*: the corridor of [`step`](crate::step) with a layer for each group. *Cost*: workspace of
//! [`ConvolutionPreconditioner::workspace_words`]. *Failure*: wrong lengths are errors before any write; bad data is
//! [`Outcome::Skipped`], and the layer in its reason is the group.

use super::{
    Convolution, Sharing,
    room::{SharedRoom, scratch_words},
    samples::Samples,
    sides,
    walk::Columns,
};
use crate::{
    Config, Error, Kernels, LayerMut, MatrixMut, MatrixRef, Outcome, Progress, Reference, Scalar,
    carve::{Carver, cut},
    config::Known,
    damping::pi,
    error::expect_length,
    kernels::Counted,
    preconditioner::precondition_layer,
    progress::count,
    step::{self, Rooms},
};

/// EKFAC for a convolution over caller-owned memory: [`Preconditioner`](crate::Preconditioner) for shared weights.
///
/// ```
/// use ekfac::{Config, MatrixRef, Progress, Reference};
/// use ekfac::convolution::{Axis, Convolution, ConvolutionPreconditioner};
/// // Two sensors, eight samples, three filters of three taps.
/// const LAYER: Convolution = Convolution::new_1d(2, Axis::new(8, 3).padding(1), 3);
/// const WORKSPACE: usize = ConvolutionPreconditioner::<f64>::workspace_words(&LAYER, 8);
/// let (mut state, mut workspace) = ([0.0; LAYER.state_words()], [0.0; WORKSPACE]);
/// let (config, mut progress) = (Config::paper(0.1, 1e-2, 1), Progress::new(0));
/// // Four examples, one a column; gradients of each example's own loss.
/// let images = nalgebra::SMatrix::<f64, 16, 4>::from_fn(|i, j| ((3 * i + 5 * j) % 7) as f64 - 3.0);
/// let gradients = nalgebra::SMatrix::<f64, 24, 4>::from_fn(|i, j| ((2 * i + 3 * j) % 5) as f64 - 2.0);
/// let (images, gradients) = (MatrixRef::from(&images), MatrixRef::from(&gradients));
/// let mut gradient = [0.0; LAYER.parameters()];
/// LAYER.mean_gradient(&Reference, images, gradients, &mut gradient, &mut workspace)?;
///
/// let mut layer = ConvolutionPreconditioner::new(LAYER, &mut state, &config, &mut progress, &mut workspace)?;
/// layer.observe(images, gradients)?;
/// let mut natural = [0.0; LAYER.parameters()];
/// layer.precondition(&gradient, &mut natural)?;
/// assert!(gradient.iter().zip(&natural).map(|(g, d)| g * d).sum::<f64>() > 0.0);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub struct ConvolutionPreconditioner<'a, T> {
    convolution: Convolution,
    sharing: Sharing,
    state: &'a mut [T],
    config: &'a Config<T>,
    progress: &'a mut Progress<T>,
    workspace: &'a mut [T],
    kernels: &'a dyn Kernels<T>,
}

/// The groups of a convolution as layers of a step; K and the scratch are lent to one after another.
struct GroupRooms<'r, T> {
    convolution: &'r Convolution,
    sharing: Sharing,
    state: &'r mut [T],
    images: MatrixRef<'r, T>,
    gradients: MatrixRef<'r, T>,
    mean_gradient: &'r mut [T],
    scratch: &'r mut [T],
}

impl<'a, T: Scalar> ConvolutionPreconditioner<'a, T> {
    /// Words of workspace with blocks of so many columns, at least one: 3 m n + 2 (m + n) columns, whatever the batch. A larger
    /// workspace makes larger blocks, and one for more than n columns a short cut for many samples
    /// ([module](super)); the rounding of the statistics depends on it.
    pub const fn workspace_words(convolution: &Convolution, columns: usize) -> usize {
        let shape = convolution.shape();
        shape.parameters().saturating_add(scratch_words(&shape, columns))
    }

    /// Binds a convolution to its state, settings and workspace, with [`Sharing::Expand`] and core's own kernels. A state of
    /// zeros is a fresh one; its groups lie one after another ([`Convolution::state_words`]).
    ///
    /// # Errors
    /// Those of [`Convolution::check`], [`Error::Length`].
    pub fn new(
        convolution: Convolution,
        state: &'a mut [T],
        config: &'a Config<T>,
        progress: &'a mut Progress<T>,
        workspace: &'a mut [T],
    ) -> Result<Self, Error> {
        convolution.check()?;
        expect_length("state", convolution.state_words(), state.len())?;
        let (expected, found) = (Self::workspace_words(&convolution, 1), workspace.len());
        if found < expected {
            return Err(Error::Length { argument: "workspace", expected, found });
        }
        let shape = convolution.shape();
        for words in state.chunks_exact_mut(shape.words().max(1)) {
            LayerMut::new(shape, words)?;
        }
        let (sharing, kernels) = (Sharing::Expand, &Reference);
        Ok(Self { convolution, sharing, state, config, progress, workspace, kernels })
    }

    /// The same with other kernels.
    #[must_use]
    pub fn with_kernels(self, kernels: &'a dyn Kernels<T>) -> Self {
        Self { kernels, ..self }
    }

    /// The same with another way of the locations into the factors.
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
    }

    /// The convolution.
    pub fn convolution(&self) -> &Convolution {
        &self.convolution
    }

    /// The state of one group, to look at or to load. Its A is a sum over locations ([module](super)).
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a group that does not exist.
    pub fn layer(&mut self, group: usize) -> Result<LayerMut<'_, T>, Error> {
        layer_of(&self.convolution, self.state, group)
    }

    /// Takes a batch into factors and scalings, refreshing the bases when it is due. `images` is
    /// [`input_words`](Convolution::input_words) x N, `gradients` [`output_words`](Convolution::output_words) x N: the gradient
    /// of each example's own loss with respect to its pre-activations.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`], [`Error::OutOfRange`] for a bad setting, all before any write;
    /// [`Error::RefreshFailed`] with the group. Data that is not finite or too large is [`Outcome::Skipped`], state untouched.
    pub fn observe(
        &mut self,
        images: MatrixRef<'_, T>,
        gradients: MatrixRef<'_, T>,
    ) -> Result<Outcome, Error> {
        self.config.check()?;
        let batch = images.columns();
        let (in_size, out_size) = ((images.rows(), batch), (gradients.rows(), gradients.columns()));
        self.convolution.check_batch(batch, in_size, out_size)?;
        self.convolution.check_images(images)?;
        let expected = Self::workspace_words(&self.convolution, 1);
        let mut carver = Carver::new(self.workspace, "workspace", expected);
        let mean_gradient = carver.take(self.convolution.shape().parameters())?;
        let mut rooms = GroupRooms {
            convolution: &self.convolution,
            sharing: self.sharing,
            state: self.state,
            images,
            gradients,
            mean_gradient,
            scratch: carver.rest(),
        };
        step::observe_all(&mut rooms, self.config, Counted::new(self.kernels), self.progress, batch)
    }

    /// Writes U_B [ (U_B^T G U_A) / (S + lambda) ] U_A^T for the gradients of all groups, as
    /// [`Convolution::mean_gradient`] leaves them. No state changes.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NonFinite`], [`Error::OutOfRange`] for a bad setting: before any write.
    pub fn precondition(&mut self, gradient: &[T], out: &mut [T]) -> Result<(), Error> {
        self.config.check()?;
        expect_length("gradient", self.convolution.parameters(), gradient.len())?;
        expect_length("out", self.convolution.parameters(), out.len())?;
        if let Some(index) = crate::guard::first_non_finite(gradient) {
            return Err(Error::NonFinite { argument: "gradient", index });
        }
        let shape = self.convolution.shape();
        let (m, n) = (shape.rows(), shape.columns());
        let each = shape.parameters().max(1);
        let groups = gradient.chunks_exact(each).zip(out.chunks_exact_mut(each));
        for (group, (gradient, out)) in groups.enumerate() {
            let layer = layer_of(&self.convolution, self.state, group)?;
            if !shape.is_full() {
                let (mean, weight) = (layer.mean_scaling(), layer.factor_weight());
                let known = Known { shape: self.convolution.seen_shape(), mean, weight };
                let damping = self.config.damping_with(known, self.progress, || pi(&layer));
                let mut counted = Counted::new(self.kernels);
                let block = self.convolution.block();
                sides::precondition(&layer, &mut counted, block, damping, gradient, out, self.workspace);
                count(&mut self.progress.operations, counted.operations());
                continue;
            }
            let (gradient, out) = (MatrixRef::over(gradient, m, n), MatrixMut::over(out, m, n));
            precondition_layer(
                &layer,
                self.config,
                self.progress,
                self.kernels,
                gradient,
                out,
                self.workspace,
            )?;
        }
        Ok(())
    }
}

/// The state of one group among those of a convolution.
pub(super) fn layer_of<'s, T: Scalar>(
    convolution: &Convolution,
    state: &'s mut [T],
    group: usize,
) -> Result<LayerMut<'s, T>, Error> {
    Ok(LayerMut::over(convolution.shape(), state_of(convolution, state, group)?))
}

/// Its words.
pub(super) fn state_of<'s, T>(
    convolution: &Convolution,
    state: &'s mut [T],
    group: usize,
) -> Result<&'s mut [T], Error> {
    let (words, mut rest) = (convolution.shape().words(), state);
    let missing = Error::OutOfRange { argument: "group", index: group };
    if group >= convolution.group_count() {
        return Err(missing);
    }
    cut(&mut rest, group * words).ok_or(missing)?;
    cut(&mut rest, words).ok_or(missing)
}

impl<T: Scalar> Rooms<T> for GroupRooms<'_, T> {
    type Room<'r>
        = SharedRoom<'r, T>
    where
        Self: 'r;

    fn layers(&self) -> usize {
        self.convolution.group_count()
    }

    fn room(&mut self, group: usize) -> Result<SharedRoom<'_, T>, Error> {
        Ok(SharedRoom {
            state: state_of(self.convolution, self.state, group)?,
            weights: &mut [],
            mean_gradient: self.mean_gradient,
            scratch: self.scratch,
            samples: Samples {
                walk: self.convolution.walk(group),
                images: Columns::of(self.images),
                gradients: Columns::of(self.gradients),
                examples: self.images.columns(),
            },
            fisher_gradients: None,
            sharing: self.sharing,
        })
    }

    fn passes(&self) -> usize {
        1
    }

    fn load(&mut self, _pass: usize) -> Result<(), Error> {
        Ok(())
    }
}
