//! The passes of a convolution: pre-activations forward, gradients back to the image, and the mean gradient.
//!
//! ```text
//! forward    z_t = W a_t                 backward   dL/dx = sum_t the patch W^T g_t, added where a_t was read
//! gradient   G = (1/N) sum_i sum_t g_it a_it^T
//! ```
//!
//! *Cost*: 2 T m n operations an example, group and pass, in blocks of as many locations as the scratch holds, of one example or of
//! several; forward and backward do not depend on how many these are. *Failure*: wrong lengths are errors before any write; values are not looked at.

use super::{
    Block, Convolution,
    samples::Samples,
    walk::{Columns, blocks},
};
use crate::{
    Error, Kernels, MatrixMut, MatrixRef, Scalar, carve::cut, error::expect_length, kernels::Counted,
};

impl Convolution {
    /// z of every image, one a column: [`input_words`](Self::input_words) x N in, [`output_words`](Self::output_words) x N out.
    /// `weights` are those of all groups; `scratch` has at least [`scratch_words`](Self::scratch_words) of 1.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), [`Error::Length`], [`Error::OutOfRange`] for an image of an embedding that holds anything but
    /// tokens: before any write.
    ///
    /// ```
    /// use ekfac::{MatrixMut, MatrixRef, Reference, convolution::{Axis, Convolution}};
    /// // The mean of two neighbours, and 1.
    /// const LAYER: Convolution = Convolution::new_1d(1, Axis::new(4, 2), 1);
    /// let image = nalgebra::matrix![1.0; 3.0; 5.0; 9.0];
    /// let mut out = nalgebra::SMatrix::<f64, 3, 1>::zeros();
    /// let (images, out_view) = (MatrixRef::from(&image), MatrixMut::from(&mut out));
    /// LAYER.forward(&Reference, &[0.5, 0.5, 1.0], images, out_view, &mut [0.0; LAYER.scratch_words(2)])?;
    /// assert_eq!(out, nalgebra::matrix![3.0; 5.0; 8.0]);
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    pub fn forward<T: Scalar>(
        &self,
        kernels: &dyn Kernels<T>,
        weights: &[T],
        images: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
        scratch: &mut [T],
    ) -> Result<(), Error> {
        self.check_pass(weights.len(), scratch.len())?;
        self.check_batch(images.columns(), (images.rows(), images.columns()), (out.rows(), out.columns()))?;
        self.check_images(images)?;
        self.forward_counted(&mut Counted::new(kernels), weights, images, out.reborrow(), scratch);
        Ok(())
    }

    /// dL/dx of every image from dL/dz, one a column: [`output_words`](Self::output_words) x N in,
    /// [`input_words`](Self::input_words) x N out. Tokens have no gradient: below an embedding it is zero.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn backward<T: Scalar>(
        &self,
        kernels: &dyn Kernels<T>,
        weights: &[T],
        gradients: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
        scratch: &mut [T],
    ) -> Result<(), Error> {
        self.check_pass(weights.len(), scratch.len())?;
        let sizes = (gradients.rows(), gradients.columns());
        self.check_batch(gradients.columns(), (out.rows(), out.columns()), sizes)?;
        self.backward_counted(&mut Counted::new(kernels), weights, gradients, out.reborrow(), scratch);
        Ok(())
    }

    /// The mean gradient (1/N) sum_i sum_t g a^T of the weights of all groups, from images and from the gradients of each
    /// example's own loss.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    pub fn mean_gradient<T: Scalar>(
        &self,
        kernels: &dyn Kernels<T>,
        images: MatrixRef<'_, T>,
        gradients: MatrixRef<'_, T>,
        out: &mut [T],
        scratch: &mut [T],
    ) -> Result<(), Error> {
        self.check_pass(out.len(), scratch.len())?;
        let sizes = (gradients.rows(), gradients.columns());
        self.check_batch(images.columns(), (images.rows(), images.columns()), sizes)?;
        self.check_images(images)?;
        self.mean_gradient_counted(&mut Counted::new(kernels), images, gradients, out, scratch);
        Ok(())
    }

    #[inline(never)]
    pub(crate) fn forward_counted<T: Scalar>(
        &self,
        counted: &mut Counted<'_, T>,
        weights: &[T],
        images: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
        scratch: &mut [T],
    ) {
        match self.block() {
            Block::Full | Block::Uncorrelated => {}
            Block::DiagonalInput => return self.walk(0).look_up(weights, images, out),
            Block::Diagonal => return self.walk(0).scale(counted, weights, true, images, out),
        }
        let shape = self.shape();
        let (m, n) = (shape.rows(), shape.columns());
        for (group, weights) in weights.chunks_exact(shape.parameters().max(1)).enumerate() {
            let (walk, weights) = (self.walk(group), MatrixRef::over(weights, m, n));
            let samples = images.columns() * walk.locations().count;
            for block in blocks(0..samples, scratch.len() / (m + n).max(1)) {
                let (count, mut rest) = (block.len(), &mut *scratch);
                let (Some(patches), Some(z)) = (cut(&mut rest, n * count), cut(&mut rest, m * count)) else {
                    return;
                };
                walk.read_patches(&Columns::of(images), block.clone(), patches);
                counted.multiply(z, weights, patches, count, false);
                walk.write_outputs(z, block, &mut out);
            }
        }
    }

    #[inline(never)]
    pub(crate) fn backward_counted<T: Scalar>(
        &self,
        counted: &mut Counted<'_, T>,
        weights: &[T],
        gradients: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
        scratch: &mut [T],
    ) {
        match self.block() {
            Block::Full | Block::Uncorrelated => {}
            Block::DiagonalInput => return out.as_mut_slice().fill(T::ZERO),
            Block::Diagonal => return self.walk(0).scale(counted, weights, false, gradients, out),
        }
        let shape = self.shape();
        let (m, n) = (shape.rows(), shape.inputs());
        out.as_mut_slice().fill(T::ZERO);
        for (group, weights) in weights.chunks_exact(shape.parameters().max(1)).enumerate() {
            let (walk, weights) = (self.walk(group), MatrixRef::over(weights, m, n));
            let samples = gradients.columns() * walk.locations().count;
            for block in blocks(0..samples, scratch.len() / (m + n).max(1)) {
                let (count, mut rest) = (block.len(), &mut *scratch);
                let (Some(patches), Some(g)) = (cut(&mut rest, n * count), cut(&mut rest, m * count)) else {
                    return;
                };
                walk.read_outputs(&Columns::of(gradients), block.clone(), g);
                counted.multiply(patches, weights, g, count, true);
                walk.add_patches(patches, block, &mut out);
            }
        }
    }

    pub(crate) fn mean_gradient_counted<T: Scalar>(
        &self,
        counted: &mut Counted<'_, T>,
        images: MatrixRef<'_, T>,
        gradients: MatrixRef<'_, T>,
        out: &mut [T],
        scratch: &mut [T],
    ) {
        let scale = T::ONE / T::from_usize(images.columns());
        for (group, out) in out.chunks_exact_mut(self.shape().parameters().max(1)).enumerate() {
            let samples = Samples {
                walk: self.walk(group),
                images: Columns::of(images),
                gradients: Columns::of(gradients),
                examples: images.columns(),
            };
            match self.block() {
                Block::Full | Block::Uncorrelated => {
                    samples.sum(counted, None, samples.of(0..images.columns()), scale, out, scratch);
                }
                Block::DiagonalInput => samples.sum_of_tokens(counted, scale, out),
                Block::Diagonal => samples.sum_of_scales(counted, scale, out),
            }
        }
    }

    fn check_pass(&self, weights: usize, scratch: usize) -> Result<(), Error> {
        self.check()?;
        expect_length("weights", self.parameters(), weights)?;
        let (expected, found) = (self.scratch_words(1), scratch);
        if found < expected { Err(Error::Length { argument: "scratch", expected, found }) } else { Ok(()) }
    }

    /// Refuses images of an embedding that hold anything but tokens.
    pub(super) fn check_images<T: Scalar>(&self, images: MatrixRef<'_, T>) -> Result<(), Error> {
        for (index, image) in images.iter_columns().enumerate() {
            self.check_tokens("images", index * images.rows(), image)?;
        }
        Ok(())
    }

    /// Refuses sizes, rows and columns, that are not those of N images and N maps.
    pub(super) fn check_batch(
        &self,
        batch: usize,
        images: (usize, usize),
        maps: (usize, usize),
    ) -> Result<(), Error> {
        if batch == 0 {
            return Err(Error::Empty { argument: "images" });
        }
        expect_length("image rows", self.input_words(), images.0)?;
        expect_length("map rows", self.output_words(), maps.0)?;
        expect_length("image columns", batch, images.1)?;
        expect_length("map columns", batch, maps.1)
    }
}
