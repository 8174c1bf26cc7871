//! A scale and a shift for each channel, and their diagonal block.
//!
//! ```text
//! z = scale_c x + shift_c      dL/dx = scale_c g      G_scale = sum_t g x,  G_shift = sum_t g
//! diag F = mean_i G_i^2        in the place of A, with 1 in that of B: S is exact for each example in the parameters themselves
//! ```
//!
//! Weights are all scales, then all shifts. *Invariant*: no basis, so nothing ever turns. *Cost*: 2 operations a value forward, 1
//! backward, 3 for the gradient; 3 a parameter and example for each of diag F and S. *Failure*: none after the gate.

use super::{
    moments::open,
    samples::{Samples, read_each_pair},
    walk::Walk,
};
use crate::{Blend, LayerMut, MatrixMut, MatrixRef, Scalar, kernels::Counted};

impl Walk<'_> {
    /// The values of one channel of an image or a map of this geometry, location after location.
    fn channel<'v, T>(&self, values: &'v [T], channel: usize) -> impl Iterator<Item = &'v T> {
        let [by_channel, _, by_location] = self.outputs().strides;
        let from = values.get(channel * by_channel..).unwrap_or_default();
        from.iter().step_by(by_location.max(1)).take(self.locations().count)
    }

    fn channel_mut<'v, T>(&self, values: &'v mut [T], channel: usize) -> impl Iterator<Item = &'v mut T> {
        let [by_channel, _, by_location] = self.outputs().strides;
        let from = values.get_mut(channel * by_channel..).unwrap_or_default();
        from.iter_mut().step_by(by_location.max(1)).take(self.locations().count)
    }

    /// z of every image, or dL/dx of every map where there are no shifts to add.
    #[inline(never)]
    pub(super) fn scale<T: Scalar>(
        &self,
        counted: &mut Counted<'_, T>,
        weights: &[T],
        shifted: bool,
        from: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
    ) {
        let channels = self.rows();
        let shifts = if shifted { weights.get(channels..).unwrap_or_default() } else { &[] };
        counted.add(from.rows() * from.columns() * if shifted { 2 } else { 1 });
        for (image, out) in from.iter_columns().zip(out.iter_columns_mut()) {
            for (channel, scale) in weights.iter().take(channels).enumerate() {
                let shift = shifts.get(channel).copied().unwrap_or(T::ZERO);
                let values = self.channel(image, channel);
                self.channel_mut(out, channel).zip(values).for_each(|(z, x)| *z = *scale * *x + shift);
            }
        }
    }

    /// out += share G of one example.
    fn add_scales<T: Scalar>(&self, image: &[T], map: &[T], share: T, out: &mut [T]) {
        let channels = self.rows();
        let Some((scales, shifts)) = out.split_at_mut_checked(channels) else { return };
        for (channel, scale) in scales.iter_mut().enumerate() {
            let (mut slope, mut sum) = (T::ZERO, T::ZERO);
            for (x, g) in self.channel(image, channel).zip(self.channel(map, channel)) {
                slope += *g * *x;
                sum += *g;
            }
            *scale += share * slope;
            if let Some(shift) = shifts.get_mut(channel) {
                *shift += share * sum;
            }
        }
    }

    /// The square of the change of all z, summed over the locations of an image, under a change of scales and shifts.
    fn squared_change<T: Scalar>(&self, image: &[T], change: &[T]) -> T {
        let channels = self.rows();
        let shifts = change.get(channels..).unwrap_or_default();
        let changes = change.iter().take(channels).enumerate();
        changes.fold(T::ZERO, |sum, (channel, scale)| {
            let shift = shifts.get(channel).copied().unwrap_or(T::ZERO);
            self.channel(image, channel).fold(sum, |sum, x| {
                let change = *scale * *x + shift;
                sum + change * change
            })
        })
    }
}

impl<T: Scalar> Samples<'_, T> {
    /// out = scale sum G over all examples.
    #[inline(never)]
    pub(super) fn sum_of_scales(&self, counted: &mut Counted<'_, T>, scale: T, out: &mut [T]) {
        out.fill(T::ZERO);
        counted.add(3 * self.image_words());
        read_each_pair(self, |image, map| self.walk.add_scales(image, map, scale, out));
    }

    /// Blends mean_i G_i^2 into these values, p of them. `scratch`: p words.
    #[inline(never)]
    pub(super) fn measure_diagonal(
        &self,
        counted: &mut Counted<'_, T>,
        values: &mut [T],
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        let Some(seen) = scratch.get_mut(..values.len()) else { return };
        let each = open(blend, values) / T::from_usize(self.examples.max(1));
        counted.add(3 * self.image_words() + 3 * values.len() * self.examples);
        read_each_pair(self, |image, map| {
            seen.fill(T::ZERO);
            self.walk.add_scales(image, map, T::ONE, seen);
            values.iter_mut().zip(&*seen).for_each(|(value, g)| *value += each * (*g * *g));
        });
    }

    /// The same into diag F, where A would stand, and 1 where B would.
    #[inline(never)]
    pub(super) fn measure_block(
        &self,
        counted: &mut Counted<'_, T>,
        layer: &mut LayerMut<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        self.measure_diagonal(counted, layer.input_moments_mut(), blend, scratch);
        layer.output_factor_mut().covariance_mut().fill(T::ONE);
    }

    /// The root mean square by which a change D of the parameters, held in p words, changes a pre-activation of these images.
    pub(super) fn change(&self, change: &[T]) -> T {
        let squares =
            self.iter_images().fold(T::ZERO, |sum, image| sum + self.walk.squared_change(image, change));
        (squares / T::from_usize(self.image_words().max(1))).sqrt()
    }
}
