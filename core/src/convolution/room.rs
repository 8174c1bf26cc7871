//! One group of a convolution as the corridor of a step sees it: [`Stages`] in parameter coordinates.
//!
//! *Invariant*: nothing of the batch is held projected between two stages, so a refresh has nothing in flight to turn; samples are
//! read again in whatever basis there is. Every stage is a function of its own, so that a step holds one at a time on the stack.
//! *Cost*: that of [`samples`](super::samples). *Failure*: as in the dense room.

use super::{
    Block, Convolution, Sharing,
    samples::Samples,
    sides,
    walk::{Columns, Side},
};
use crate::{
    Blend, LayerMut, MatrixRef, Reason, Scalar, Shape,
    damping::LayerDamping,
    guard,
    kernels::Counted,
    marks::Marks,
    precondition::{self, Gradient, Plan},
    refresh::{Effect, Effort, Later},
    room, scalings,
    step::Stages,
    survey::{Survey, survey},
};
use core::{ops::Range, slice};

/// All that one group brings to a step with N examples.
pub(super) struct SharedRoom<'a, T> {
    /// The state of its layer.
    pub(super) state: &'a mut [T],
    /// Empty where only statistics are taken.
    pub(super) weights: &'a mut [T],
    /// K, m x n, whatever N.
    pub(super) mean_gradient: &'a mut [T],
    /// [`scratch_words`].
    pub(super) scratch: &'a mut [T],
    /// The examples, with the pre-activation gradients for the training targets.
    pub(super) samples: Samples<'a, T>,
    /// Those for the Fisher's targets, of the measured examples; none where these are the training targets.
    pub(super) fisher_gradients: Option<Columns<'a, T>>,
    pub(super) sharing: Sharing,
}

/// Words of scratch for one group with blocks of so many columns: 2 m n + 2 (m + n) columns, n + 2 m (columns + 1) where A is
/// diagonal.
pub(super) const fn scratch_words(shape: &Shape, columns: usize) -> usize {
    if shape.points() == 0 {
        let columns = columns.saturating_add(1).saturating_mul(2);
        return shape.rows().saturating_mul(columns).saturating_add(shape.columns());
    }
    let lines = shape.rows().saturating_add(shape.columns());
    shape.parameters().saturating_add(lines.saturating_mul(columns)).saturating_mul(2)
}

impl<'a, T: Scalar> SharedRoom<'a, T> {
    fn convolution(&self) -> &'a Convolution {
        self.samples.walk.convolution
    }

    /// The layer, its K and its scratch, side by side.
    fn parts(&mut self) -> (LayerMut<'_, T>, &mut [T], &mut [T]) {
        (LayerMut::over(self.convolution().shape(), self.state), self.mean_gradient, self.scratch)
    }

    /// The measured examples with their Fisher gradients.
    #[inline(never)]
    fn measured(&self, measured: &Range<usize>) -> Samples<'a, T> {
        let Samples { walk, images, gradients, .. } = self.samples;
        Samples {
            walk,
            images: images.skip(measured.start),
            gradients: self.fisher_gradients.unwrap_or_else(|| gradients.skip(measured.start)),
            examples: measured.len(),
        }
    }

    fn is_full(&self) -> bool {
        self.convolution().shape().is_full()
    }

    /// The reach of D: of a diagonal block, what it does to the pre-activations of this batch.
    #[inline(never)]
    fn reach(&mut self, damping: LayerDamping<T>) -> T {
        let (block, samples) = (self.convolution().block(), self.samples);
        let (layer, mean_gradient, scratch) = self.parts();
        if block != Block::Diagonal {
            return sides::reach(&layer, mean_gradient, damping, scratch);
        }
        let Some(change) = scratch.get_mut(..mean_gradient.len()) else { return T::ZERO };
        let denominators = damping.over(layer.shape(), layer.words());
        for (index, (k, d)) in mean_gradient.iter().zip(&mut *change).enumerate() {
            sides::divide(&denominators, index, slice::from_ref(k), slice::from_mut(d));
        }
        samples.change(change)
    }

    fn root_of_locations(&self) -> T {
        T::from_usize(self.convolution().locations()).sqrt()
    }
}

impl<T: Scalar> Stages<T> for SharedRoom<'_, T> {
    fn shape(&self) -> Shape {
        self.convolution().seen_shape()
    }

    fn marks(&mut self) -> Marks<'_, T> {
        Marks::over(self.state)
    }

    /// A sum over T locations is at most T times as large, its square T^2 times: the limit is that of a dense layer over sqrt(T).
    #[inline(never)]
    fn check(&mut self, _counted: &Counted<'_, T>, layer: usize, batch: usize) -> Result<(), Reason> {
        // All groups have one shape, and the first looks at their images together.
        if self.samples.walk.group > 0 {
            return Ok(());
        }
        let limit = guard::limit::<T>(&self.shape(), batch) / self.root_of_locations();
        let Samples { walk, images, gradients, examples } = self.samples;
        // Tokens have been looked at, and no power of them is taken.
        let tokens = self.convolution().block() == Block::DiagonalInput;
        let (none, maps) = (gradients.skip(examples), walk.words(Side::Outputs));
        let fisher = self.fisher_gradients.unwrap_or(none);
        let arguments = [
            ("images", images, if tokens { 0 } else { examples }, walk.words(Side::Patches)),
            ("gradients", gradients, examples, maps),
            ("Fisher gradients", fisher, fisher.count(), maps),
        ];
        for (argument, columns, count, words) in arguments {
            for column in 0..count {
                room::gate(layer, argument, column * words, columns.column(column, words), limit)?;
            }
        }
        Ok(())
    }

    fn project(&mut self, _counted: &mut Counted<'_, T>, _batch: usize) {}

    fn project_fisher(&mut self, _counted: &mut Counted<'_, T>) {}

    #[inline(never)]
    fn measure_input(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let samples = self.measured(measured);
        let (sharing, block) = (self.sharing, self.convolution().block());
        let layer = &mut LayerMut::over(self.convolution().shape(), self.state);
        let scratch = &mut *self.scratch;
        match block {
            Block::Full => {
                samples.measure_input(counted, &mut layer.input_factor_mut(), sharing, blend, scratch);
            }
            Block::Uncorrelated => samples.measure_channels(counted, layer, sharing, blend, scratch),
            Block::DiagonalInput => {
                samples.measure_tokens(counted, sharing, blend, layer.input_moments_mut());
            }
            // Measured with the gradients, of which it is the second moment.
            Block::Diagonal => {}
        }
    }

    #[inline(never)]
    fn measure_output(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let samples = self.measured(measured);
        let (sharing, block) = (self.sharing, self.convolution().block());
        let layer = &mut LayerMut::over(self.convolution().shape(), self.state);
        let scratch = &mut *self.scratch;
        if self.fisher_gradients.is_none() {
            // Training targets correlate.
            layer.marks().set_output_diagonal(false);
        }
        if block == Block::Diagonal {
            return samples.measure_block(counted, layer, blend, scratch);
        }
        samples.measure_output(counted, &mut layer.output_factor_mut(), sharing, blend, scratch);
    }

    #[inline(never)]
    fn measure_scalings(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let samples = self.measured(measured);
        let block = self.convolution().block();
        let layer = &mut LayerMut::over(self.convolution().shape(), self.state);
        let scratch = &mut *self.scratch;
        match block {
            Block::Full | Block::Uncorrelated => samples.measure_scalings(counted, layer, blend, scratch),
            Block::DiagonalInput => samples.measure_token_scalings(counted, layer, blend, scratch),
            Block::Diagonal => {
                samples.measure_diagonal(counted, layer.scaling_words(), blend, scratch);
            }
        }
    }

    #[inline(never)]
    fn measure_mean_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize, blend: Blend<T>) {
        let layer = &mut LayerMut::over(self.convolution().shape(), self.state);
        let gradient = Self::gradient(layer, self.mean_gradient);
        scalings::blend_mean_gradient(layer, counted, gradient, batch, blend, self.scratch);
    }

    #[inline(never)]
    fn set_kronecker(&mut self) {
        scalings::set_kronecker(&mut self.parts().0);
    }

    #[inline(never)]
    fn form_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize) {
        let samples = self.samples;
        let scale = T::ONE / T::from_usize(batch);
        let block = self.convolution().block();
        counted.add(reach_operations(self.convolution(), batch));
        let (layer, mean_gradient, scratch) = self.parts();
        match block {
            Block::Full | Block::Uncorrelated => {
                samples.gradient_in_basis(
                    counted,
                    &layer,
                    samples.of(0..batch),
                    scale,
                    mean_gradient,
                    scratch,
                );
            }
            Block::DiagonalInput => samples.tokens_in_basis(counted, &layer, scale, mean_gradient, scratch),
            Block::Diagonal => samples.sum_of_scales(counted, scale, mean_gradient),
        }
    }

    fn refresh(&mut self, counted: &Counted<'_, T>, effort: &Effort<T>) -> Effect {
        let layer = &mut LayerMut::over(self.convolution().shape(), self.state);
        sides::refresh(layer, Later::new(counted.kernels(), self.scratch), effort)
    }

    #[inline(never)]
    fn mean_scaling(&mut self, _counted: &Counted<'_, T>) -> T {
        self.parts().0.mean_scaling()
    }

    /// Of a diagonal block such that their means by the shape are those of diag F and of 1.
    #[inline(never)]
    fn traces(&mut self) -> (T, T) {
        let (layer, ..) = self.parts();
        let (a, b) = (layer.input_trace(), layer.output_factor().trace());
        let (seen, stored) = (self.shape(), self.convolution().shape());
        let each = |trace: T, seen: usize, stored: usize| {
            if seen == stored { trace } else { trace / T::from_usize(stored) * T::from_usize(seen) }
        };
        (each(a, seen.columns(), stored.columns()), each(b, seen.rows(), stored.rows()))
    }

    #[inline(never)]
    fn survey(&mut self, counted: &Counted<'_, T>, damping: LayerDamping<T>) -> Survey<T> {
        let mut survey = self.survey_of_layer(counted, damping);
        if !self.is_full() {
            survey.reach = self.reach(damping);
        }
        if self.sharing == Sharing::Expand && self.convolution().block() != Block::Diagonal {
            // A is a sum over locations, and a pre-activation belongs to one of them.
            survey.reach /= self.root_of_locations();
        }
        survey
    }

    #[inline(never)]
    fn advance(&mut self, counted: &mut Counted<'_, T>, damping: LayerDamping<T>, plan: &Plan<T>) {
        let keep = plan.keep();
        if keep < T::ONE {
            self.decay(counted, keep);
        }
        self.accelerate(counted, damping, plan);
        self.turn_back(counted, -plan.learning_rate);
    }
}

impl<T: Scalar> SharedRoom<'_, T> {
    /// The layer's K, as the dense layer's stages take it.
    fn gradient<'k>(layer: &LayerMut<'_, T>, mean_gradient: &'k [T]) -> Gradient<'k, T> {
        let shape = layer.shape();
        Gradient::Matrix(MatrixRef::over(mean_gradient, shape.rows(), shape.columns_held()))
    }

    #[inline(never)]
    fn survey_of_layer(&mut self, counted: &Counted<'_, T>, damping: LayerDamping<T>) -> Survey<T> {
        let layer = &mut LayerMut::over(self.convolution().shape(), self.state);
        let gradient = Self::gradient(layer, self.mean_gradient);
        survey(layer, counted, gradient, damping, self.weights, self.scratch)
    }

    /// W <- keep W, but for the bias.
    #[inline(never)]
    fn decay(&mut self, counted: &mut Counted<'_, T>, keep: T) {
        let (block, scales) = (self.convolution().block(), self.convolution().channels());
        if block == Block::Diagonal {
            // The shifts, which are biases, lie in no column of their own.
            self.weights.iter_mut().take(scales).for_each(|scale| *scale *= keep);
            return counted.add(scales);
        }
        let layer = &LayerMut::over(self.convolution().shape(), self.state);
        precondition::decay(layer, counted, keep, self.weights, self.scratch);
    }

    /// W += scale U_B velocity U_A^T.
    #[inline(never)]
    fn turn_back(&mut self, counted: &mut Counted<'_, T>, scale: T) {
        let block = self.convolution().block();
        let layer = &LayerMut::over(self.convolution().shape(), self.state);
        sides::turn_back(layer, counted, block, scale, self.weights, self.scratch);
    }

    /// velocity <- mu velocity + nu D.
    #[inline(never)]
    fn accelerate(&mut self, counted: &mut Counted<'_, T>, damping: LayerDamping<T>, plan: &Plan<T>) {
        let layer = &mut LayerMut::over(self.convolution().shape(), self.state);
        let gradient = Self::gradient(layer, self.mean_gradient);
        precondition::accelerate(layer, counted, gradient, damping, plan, self.weights, self.scratch);
    }
}

/// What a look at the reach takes beyond a dense layer's: D once more, and for a diagonal block the values that it scales.
pub(super) const fn reach_operations(convolution: &Convolution, batch: usize) -> usize {
    match convolution.block() {
        Block::Full => 0,
        Block::Diagonal => 4 * convolution.input_words() * batch + convolution.shape().parameters(),
        _ => 3 * convolution.shape().parameters(),
    }
}
