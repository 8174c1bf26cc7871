//! Embeddings: a column of W for each token, and the block with a diagonal A.
//!
//! ```text
//! z_t = W e_(x_t)      G_i = sum_t g_it e_(x_it)^T      A = mean_i sum_t e e^T = diag(how often each token comes)
//! S_j = mean_i (U_B^T sum of g_it over the t with x_it = j)^2       exact for each example
//! ```
//!
//! With [`Sharing::Reduce`] the moment of an example's mean patch is not diagonal, and its diagonal, (how often / T)^2, is what stays.
//! *Invariant*: the tokens have been checked ([`check_tokens`](Convolution::check_tokens)). *Cost*: nothing of size vocabulary^2; for S a
//! comparison for each pair of locations of an example, and 2 m^2 + 4 m operations for each token that comes in it. *Failure*: none.

use super::{
    Convolution, Sharing,
    moments::open,
    samples::{Samples, read_each_pair},
    walk::{Walk, blocks},
};
use crate::{Blend, Error, LayerMut, MatrixMut, MatrixRef, Scalar, carve::cut, kernels::Counted};
use core::ops::Range;

impl Convolution {
    /// Refuses values of an embedding's images that are no tokens; the first has this index among all of the argument's.
    pub(super) fn check_tokens<T: Scalar>(
        &self,
        argument: &'static str,
        start: usize,
        values: &[T],
    ) -> Result<(), Error> {
        let Some(vocabulary) = self.vocabulary() else { return Ok(()) };
        let end = T::from_usize(vocabulary);
        let is_token =
            |value: &T| *value >= T::ZERO && *value < end && T::from_usize(value.to_usize()) == *value;
        match values.iter().position(|value| !is_token(value)) {
            Some(index) => Err(Error::OutOfRange { argument, index: start + index }),
            None => Ok(()),
        }
    }
}

impl Walk<'_> {
    /// The group's outputs at one location of a map.
    fn outputs_at<'v, T>(&self, map: &'v [T], location: usize) -> impl Iterator<Item = &'v T> {
        let (outputs, place) = (self.outputs(), self.locations().place(location));
        let [by_channel, ..] = outputs.strides;
        let from = map.get(outputs.at(place)..).unwrap_or_default();
        from.iter().step_by(by_channel.max(1)).take(self.rows())
    }

    /// z of every sequence of tokens.
    #[inline(never)]
    pub(super) fn look_up<T: Scalar>(
        &self,
        weights: &[T],
        tokens: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
    ) {
        let (outputs, locations) = (self.outputs(), self.locations());
        let [by_channel, ..] = outputs.strides;
        for (tokens, map) in tokens.iter_columns().zip(out.iter_columns_mut()) {
            for (location, token) in tokens.iter().enumerate() {
                let into = map.get_mut(outputs.at(locations.place(location))..).unwrap_or_default();
                let into = into.iter_mut().step_by(by_channel.max(1));
                into.zip(column(weights, self.rows(), *token)).for_each(|(z, weight)| *z = *weight);
            }
        }
    }
}

/// The words of a token among m for each.
fn range<T: Scalar>(rows: usize, token: T) -> Range<usize> {
    let start = token.to_usize().saturating_mul(rows);
    start..start.saturating_add(rows)
}

fn column<T: Scalar>(words: &[T], rows: usize, token: T) -> &[T] {
    words.get(range(rows, token)).unwrap_or_default()
}

/// The locations of an example where a token comes that none before has, with the token.
fn first_ones<T: Scalar>(tokens: &[T]) -> impl Iterator<Item = (usize, T)> {
    tokens.iter().enumerate().filter_map(|(location, token)| {
        let before = tokens.get(..location).unwrap_or_default();
        (!before.contains(token)).then_some((location, *token))
    })
}

/// How often a token comes from this location on.
fn count<T: Scalar>(tokens: &[T], location: usize, token: T) -> usize {
    tokens.iter().skip(location).filter(|other| **other == token).count()
}

/// Comparisons of [`first_ones`] and of a walk over the rest for each of them, at most.
pub(super) const fn comparisons(locations: u64) -> u64 {
    locations * locations
}

impl<T: Scalar> Samples<'_, T> {
    fn compare(&self, counted: &mut Counted<'_, T>) {
        let pairs = comparisons(self.walk.locations().count as u64).saturating_mul(self.examples as u64);
        counted.add(usize::try_from(pairs).unwrap_or(usize::MAX));
    }

    /// Blends diag A into these values, one a token.
    #[inline(never)]
    pub(super) fn measure_tokens(
        &self,
        counted: &mut Counted<'_, T>,
        sharing: Sharing,
        blend: Blend<T>,
        values: &mut [T],
    ) {
        self.compare(counted);
        let each = open(blend, values) / T::from_usize(self.examples.max(1));
        let share = T::ONE / T::from_usize(self.walk.locations().count.max(1));
        for tokens in self.iter_images() {
            for (location, token) in first_ones(tokens) {
                let often = T::from_usize(count(tokens, location, token));
                let moment = match sharing {
                    Sharing::Expand => often,
                    Sharing::Reduce => (often * share) * (often * share),
                };
                if let Some(value) = values.get_mut(token.to_usize()) {
                    *value += each * moment;
                }
            }
        }
    }

    /// Blends mean_i (U_B^T G_i)^2 into S. `scratch`: 2 m words.
    #[inline(never)]
    pub(super) fn measure_token_scalings(
        &self,
        counted: &mut Counted<'_, T>,
        layer: &mut LayerMut<'_, T>,
        blend: Blend<T>,
        mut scratch: &mut [T],
    ) {
        let rows = self.walk.rows();
        let (Some(sum), Some(seen)) = (cut(&mut scratch, rows), cut(&mut scratch, rows)) else { return };
        self.compare(counted);
        counted.add(layer.shape().parameters_held());
        let each = open(blend, layer.scaling_words()) / T::from_usize(self.examples.max(1));
        read_each_pair(self, |tokens, map| {
            for (first, token) in first_ones(tokens) {
                sum.fill(T::ZERO);
                for (location, _) in
                    tokens.iter().enumerate().skip(first).filter(|(_, other)| **other == token)
                {
                    counted.add(rows);
                    sum.iter_mut().zip(self.walk.outputs_at(map, location)).for_each(|(sum, g)| *sum += *g);
                }
                counted.multiply(seen, layer.output_basis(), sum, 1, true);
                counted.add(3 * rows);
                let into = layer.scaling_words().get_mut(range(rows, token)).unwrap_or_default();
                into.iter_mut().zip(&*seen).for_each(|(s, k)| *s += each * (*k * *k));
            }
        });
    }

    /// out = scale sum G over all examples.
    #[inline(never)]
    pub(super) fn sum_of_tokens(&self, counted: &mut Counted<'_, T>, scale: T, out: &mut [T]) {
        let rows = self.walk.rows();
        out.fill(T::ZERO);
        counted.add(2 * rows * self.image_words());
        read_each_pair(self, |tokens, map| {
            for (location, token) in tokens.iter().enumerate() {
                let into = out.get_mut(range(rows, *token)).unwrap_or_default();
                let gradients = self.walk.outputs_at(map, location);
                into.iter_mut().zip(gradients).for_each(|(into, g)| *into += scale * *g);
            }
        });
    }

    /// The same seen in U_B: the samples are projected a block at a time, or the sum is turned, whichever are fewer columns.
    #[inline(never)]
    pub(super) fn tokens_in_basis(
        &self,
        counted: &mut Counted<'_, T>,
        layer: &LayerMut<'_, T>,
        scale: T,
        out: &mut [T],
        scratch: &mut [T],
    ) {
        let (rows, samples) = (self.walk.rows(), self.image_words());
        if samples >= layer.shape().columns_held() {
            self.sum_of_tokens(counted, scale, out);
            let Some(kept) = scratch.get_mut(..rows) else { return };
            for column in out.chunks_exact_mut(rows.max(1)) {
                kept.iter_mut().zip(&*column).for_each(|(into, value)| *into = *value);
                counted.multiply(column, layer.output_basis(), kept, 1, true);
            }
            return;
        }
        out.fill(T::ZERO);
        counted.add(2 * rows * samples);
        let tokens = |sample: usize| {
            let locations = self.walk.locations().count.max(1);
            self.image(sample / locations).get(sample % locations).copied().unwrap_or(T::ZERO)
        };
        for block in blocks(0..samples, scratch.len() / (2 * rows).max(1)) {
            let (count, mut rest) = (block.len(), &mut *scratch);
            let (Some(g), Some(seen)) = (cut(&mut rest, rows * count), cut(&mut rest, rows * count)) else {
                return;
            };
            self.walk.read_outputs(&self.gradients, block.clone(), g);
            counted.multiply(seen, layer.output_basis(), g, count, true);
            for (sample, seen) in block.zip(seen.chunks_exact(rows.max(1))) {
                let into = out.get_mut(range(rows, tokens(sample))).unwrap_or_default();
                into.iter_mut().zip(seen).for_each(|(into, g)| *into += scale * *g);
            }
        }
    }
}
