//! What the examples of a batch bring to the statistics of one group, read and summed a block of columns at a time.
//!
//! *Invariant*: a sum over samples is one over blocks in their order, and a block is as long as the scratch allows: the same
//! scratch, the same bits. *Cost*: that of the products, and of [`walk`](super::walk). *Failure*: none; scratch that is too short
//! leaves the sum out, which the callers' checks rule out.

use super::{
    Sharing,
    moments::{measure, open},
    sides::turn_inputs,
    walk::{Columns, Side, Walk, blocks},
};
use crate::{Blend, LayerMut, Scalar, Shape, carve::cut, factor::FactorMut, kernels::Counted};
use core::ops::Range;

/// Images and gradients, one example a column, and the walk over them. Sample e T + t is location t of example e.
#[derive(Clone, Copy)]
pub(super) struct Samples<'a, T> {
    pub(super) walk: Walk<'a>,
    pub(super) images: Columns<'a, T>,
    pub(super) gradients: Columns<'a, T>,
    pub(super) examples: usize,
}

impl<T: Scalar> Samples<'_, T> {
    /// The image of an example.
    pub(super) fn image(&self, example: usize) -> &[T] {
        self.images.column(example, self.walk.words(Side::Patches))
    }

    /// The gradients of an example's pre-activations.
    fn map(&self, example: usize) -> &[T] {
        self.gradients.column(example, self.walk.words(Side::Outputs))
    }

    /// The words of all images.
    pub(super) fn image_words(&self) -> usize {
        self.walk.words(Side::Patches) * self.examples
    }

    /// The images, one example after another.
    pub(super) fn iter_images(&self) -> impl Iterator<Item = &[T]> {
        (0..self.examples).map(|example| self.image(example))
    }

    /// The samples of some examples.
    pub(super) fn of(&self, examples: Range<usize>) -> Range<usize> {
        examples.start * self.walk.locations().count..examples.end * self.walk.locations().count
    }

    /// Blends mean_i sum_t a a^T into C_A, or the moment of the mean patches.
    pub(super) fn measure_input(
        &self,
        counted: &mut Counted<'_, T>,
        factor: &mut FactorMut<'_, T>,
        sharing: Sharing,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        let (each, samples) = (T::ONE / T::from_usize(self.examples.max(1)), self.of(0..self.examples).len());
        let count = match sharing {
            Sharing::Expand => samples,
            Sharing::Reduce => {
                counted.add(samples * self.walk.columns());
                self.examples
            }
        };
        let read = |block, into: &mut [T]| match sharing {
            Sharing::Expand => self.walk.read_patches(&self.images, block, into),
            Sharing::Reduce => {
                read_each(block, into, |example, into| self.walk.read_mean_patch(self.image(example), into));
            }
        };
        measure(factor, counted, count, each, blend, read, scratch);
    }

    /// The same of the channels alone, for all kernel points together, and the moment of the bias ([`block`](super::block)).
    #[inline(never)]
    pub(super) fn measure_channels(
        &self,
        counted: &mut Counted<'_, T>,
        layer: &mut LayerMut<'_, T>,
        sharing: Sharing,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        let (lines, examples) = (layer.shape().lines(), self.examples);
        let taps = self.walk.patches().taps();
        let (samples, bias) = match sharing {
            Sharing::Expand => {
                let samples = examples * self.walk.convolution.pixels();
                counted.add(samples * lines);
                (samples, T::from_usize(self.walk.locations().count))
            }
            Sharing::Reduce => {
                counted.add(self.of(0..examples).len() * taps * lines);
                (examples * taps, T::ONE)
            }
        };
        let mut each = T::ONE / T::from_usize(examples.max(1));
        if sharing == Sharing::Reduce {
            each /= T::from_usize(taps.max(1));
        }
        let read = |block, into: &mut [T]| match sharing {
            Sharing::Expand => self.walk.read_pixels(&self.images, block, into),
            Sharing::Reduce => self.walk.read_mean_points(&self.images, block, into),
        };
        measure(&mut layer.input_factor_mut(), counted, samples, each, blend, read, scratch);
        blend.apply(layer.input_moments_mut(), &[bias]);
    }

    /// Blends the mean of g g^T over examples and locations into C_B, or the moment of the summed gradients.
    pub(super) fn measure_output(
        &self,
        counted: &mut Counted<'_, T>,
        factor: &mut FactorMut<'_, T>,
        sharing: Sharing,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        let samples = self.of(0..self.examples).len();
        let count = match sharing {
            Sharing::Expand => samples,
            Sharing::Reduce => {
                counted.add(samples * self.walk.rows());
                self.examples
            }
        };
        let read = |block, into: &mut [T]| match sharing {
            Sharing::Expand => self.walk.read_outputs(&self.gradients, block, into),
            Sharing::Reduce => {
                read_each(block, into, |example, into| {
                    self.walk.read_summed_outputs(self.map(example), into);
                });
            }
        };
        measure(factor, counted, count, T::ONE / T::from_usize(count.max(1)), blend, read, scratch);
    }

    /// Blends mean_i (U_B^T G_i U_A)^2 into S.
    pub(super) fn measure_scalings(
        &self,
        counted: &mut Counted<'_, T>,
        layer: &mut LayerMut<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        let parameters = layer.shape().parameters();
        let share = open(blend, layer.scaling_words());
        let each = share / T::from_usize(self.examples.max(1));
        let Some((seen, rest)) = scratch.split_at_mut_checked(parameters) else { return };
        for example in 0..self.examples {
            self.gradient_in_basis(counted, layer, self.of(example..example + 1), T::ONE, seen, rest);
            let scalings = layer.scaling_words().iter_mut();
            scalings.zip(&*seen).for_each(|(s, k)| *s += each * (*k * *k));
        }
        counted.add(3 * parameters * self.examples);
    }

    /// out = scale U_B^T [sum g a^T] U_A, m x n: the samples are projected, or the sum is turned, whichever is less work.
    #[inline(always)]
    pub(super) fn gradient_in_basis(
        &self,
        counted: &mut Counted<'_, T>,
        layer: &LayerMut<'_, T>,
        samples: Range<usize>,
        scale: T,
        out: &mut [T],
        scratch: &mut [T],
    ) {
        if are_projected(samples.len(), layer.shape()) {
            return self.sum(counted, Some(layer), samples, scale, out, scratch);
        }
        let Some((turned, rest)) = scratch.split_at_mut_checked(out.len()) else { return };
        self.sum(counted, None, samples, scale, out, rest);
        turn(layer, counted, turned, out);
    }

    /// out = scale sum g a^T, or the same of the samples projected.
    #[inline(never)]
    pub(super) fn sum(
        &self,
        counted: &mut Counted<'_, T>,
        projecting: Option<&LayerMut<'_, T>>,
        samples: Range<usize>,
        scale: T,
        out: &mut [T],
        scratch: &mut [T],
    ) {
        let each = (self.walk.rows() + self.walk.columns()) * if projecting.is_some() { 2 } else { 1 };
        out.fill(T::ZERO);
        for block in blocks(samples, scratch.len() / each.max(1)) {
            let count = block.len();
            let Some((a, g, rest)) = self.read(block, scratch) else { return };
            let (mut a, mut g, mut rest) = (a, g, rest);
            if let Some(layer) = projecting {
                let (Some(patches), Some(gradients)) = (cut(&mut rest, a.len()), cut(&mut rest, g.len()))
                else {
                    return;
                };
                if layer.shape().is_full() {
                    project(layer, counted, Side::Patches, a, count, patches);
                } else {
                    let (each, mut into) = (a.len() / count.max(1), &mut *patches);
                    for patch in a.chunks_exact(each.max(1)) {
                        let Some(seen) = cut(&mut into, each) else { return };
                        turn_inputs(layer, counted, 1, patch, seen);
                    }
                }
                project(layer, counted, Side::Outputs, g, count, gradients);
                (a, g) = (patches, gradients);
            }
            counted.outer(out, g, a, count, [scale, T::ONE]);
        }
    }

    /// The patches and the outputs' gradients of a block, at the beginning of the scratch, and its rest.
    #[inline(always)]
    fn read<'s>(&self, block: Range<usize>, scratch: &'s mut [T]) -> Option<Block<'s, T>> {
        let (count, mut rest) = (block.len(), scratch);
        let patches = cut(&mut rest, self.walk.columns() * count)?;
        let gradients = cut(&mut rest, self.walk.rows() * count)?;
        self.walk.read_patches(&self.images, block.clone(), patches);
        self.walk.read_outputs(&self.gradients, block, gradients);
        Some((patches, gradients, rest))
    }
}

type Block<'s, T> = (&'s mut [T], &'s mut [T], &'s mut [T]);

/// G <- U_B^T G U_A.
#[inline(never)]
fn turn<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    turned: &mut [T],
    gradient: &mut [T],
) {
    let (m, n) = (layer.shape().rows(), layer.shape().columns());
    counted.multiply(turned, layer.output_basis(), gradient, n, true);
    turn_inputs(layer, counted, m, turned, gradient);
}

/// So many patches, or columns of gradients, seen in their basis. A function of its own, so that no caller holds the basis.
#[inline(never)]
fn project<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    side: Side,
    x: &[T],
    count: usize,
    out: &mut [T],
) {
    let basis = match side {
        Side::Patches => layer.input_basis(),
        Side::Outputs => layer.output_basis(),
    };
    counted.multiply_inlined(out, basis, x, count, true);
}

/// Whether so many samples are projected one by one, where their sum could be turned.
pub(super) fn are_projected(samples: usize, shape: &Shape) -> bool {
    let (m, n) = (shape.rows(), shape.columns());
    let inputs = inputs_in_basis(shape);
    samples.saturating_mul(m.saturating_mul(m).saturating_add(inputs))
        < m.saturating_mul(m.saturating_mul(n).saturating_add(inputs))
}

/// Multiplications by U_A for one row of n: n^2 in a full block, k c^2 where points share a factor.
pub(super) fn inputs_in_basis(shape: &Shape) -> usize {
    shape.lines().saturating_mul(shape.lines()).saturating_mul(shape.points())
}

/// Reads an image and a map of every example.
pub(super) fn read_each_pair<T: Scalar>(samples: &Samples<'_, T>, mut read: impl FnMut(&[T], &[T])) {
    (0..samples.examples).for_each(|example| read(samples.image(example), samples.map(example)));
}

/// Reads a column for each of these examples.
fn read_each<T: Scalar>(examples: Range<usize>, into: &mut [T], read: impl Fn(usize, &mut [T])) {
    let size = into.len() / examples.len().max(1);
    examples.zip(into.chunks_exact_mut(size.max(1))).for_each(|(example, into)| read(example, into));
}
