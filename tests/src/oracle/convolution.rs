//! Convolutions by their definition, in `f64`: sums over channels and kernel, patches as whole matrices, the Fisher block dense.
//! Shares no code with core.

use super::narrowed;
use crate::random::Draws;
use ekfac::{
    Config, LayerMut, MatrixMut, MatrixRef, Outcome, Progress, Reference, Scalar,
    convolution::{Axis, Convolution, ConvolutionPreconditioner, Layout, Sharing},
};
use nalgebra::DMatrix;

/// The numbers of a convolution; rows first.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub outputs: usize,
    /// Rows and columns of the image.
    pub size: [usize; 2],
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Steps of the kernel.
    pub stride: [usize; 2],
    /// Zeros on each end.
    pub padding: [usize; 2],
    /// Steps within the kernel.
    pub dilation: [usize; 2],
    /// Groups.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether the channels of a location lie together.
    pub channels_last: bool,
}

impl Plan {
    /// Any small convolution: 1-D and 2-D, strided, padded, dilated, in groups, of both layouts.
    pub fn any(draws: &mut Draws) -> Self {
        let along = draws.sign() > 0.0;
        let groups = 1 + draws.index(3);
        // As many groups as channels half of the time: depthwise.
        let channels = groups * (1 + draws.index(2) * draws.index(3));
        let outputs = groups * (1 + draws.index(3));
        let mut plan = Self {
            channels,
            outputs,
            size: [1; 2],
            kernel: [1; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups,
            bias: draws.sign() > 0.0,
            channels_last: draws.sign() > 0.0,
        };
        for axis in usize::from(along)..2 {
            plan.kernel[axis] = 1 + draws.index(3);
            plan.stride[axis] = 1 + draws.index(3);
            plan.padding[axis] = draws.index(3);
            plan.dilation[axis] = 1 + draws.index(3);
            let span = plan.dilation[axis] * (plan.kernel[axis] - 1) + 1;
            plan.size[axis] = span.saturating_sub(2 * plan.padding[axis]).max(1) + draws.index(4);
        }
        plan
    }

    /// Core's own.
    pub fn convolution(&self) -> Convolution {
        let axis = |index: usize| {
            Axis::new(self.size[index], self.kernel[index])
                .stride(self.stride[index])
                .padding(self.padding[index])
                .dilation(self.dilation[index])
        };
        let flat = (self.size[0], self.kernel[0], self.padding[0]) == (1, 1, 0);
        let made = if flat {
            Convolution::new_1d(self.channels, axis(1), self.outputs)
        } else {
            Convolution::new_2d(self.channels, [axis(0), axis(1)], self.outputs)
        };
        let made = if self.bias { made } else { made.without_bias() };
        let made = if self.channels_last { made.layout(Layout::ChannelsLast) } else { made };
        made.groups(self.groups)
    }

    /// Rows and columns of the output, by trying every position.
    pub fn positions(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let last = self.size[axis] + 2 * self.padding[axis];
            let reach = |position: usize| {
                position * self.stride[axis] + self.dilation[axis] * (self.kernel[axis] - 1) + 1
            };
            (0..).take_while(|position| reach(*position) <= last).count()
        })
    }

    /// T.
    pub fn locations(&self) -> usize {
        self.positions().iter().product()
    }

    /// Words of an image.
    pub fn inputs(&self) -> usize {
        self.channels * self.size[0] * self.size[1]
    }

    /// Elements of a patch, without the bias.
    pub fn patch(&self) -> usize {
        self.channels / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// n.
    pub fn lines(&self) -> usize {
        self.patch() + usize::from(self.bias)
    }

    /// Outputs of a group.
    pub fn rows(&self) -> usize {
        self.outputs / self.groups
    }

    fn index(&self, channels: usize, [height, width]: [usize; 2], [c, y, x]: [usize; 3]) -> usize {
        if self.channels_last { (y * width + x) * channels + c } else { (c * height + y) * width + x }
    }

    /// Where z of a channel and location lies.
    pub fn place(&self, channel: usize, location: usize) -> usize {
        let [height, width] = self.positions();
        self.index(self.outputs, [height, width], [channel, location / width, location % width])
    }

    /// Where the kernel's element k of a patch of the group lies at a location; `None` in the padding.
    fn element(&self, group: usize, location: usize, k: usize) -> Option<usize> {
        let width = self.positions()[1];
        let channel = group * (self.channels / self.groups) + k / (self.kernel[0] * self.kernel[1]);
        let within = [k / self.kernel[1] % self.kernel[0], k % self.kernel[1]];
        let position = [location / width, location % width];
        let place = [0, 1].map(|axis| {
            (position[axis] * self.stride[axis] + within[axis] * self.dilation[axis]) as isize
                - self.padding[axis] as isize
        });
        let inside = (0..2).all(|axis| (0..self.size[axis] as isize).contains(&place[axis]));
        let [y, x] = place.map(|place| place as usize);
        inside.then(|| self.index(self.channels, self.size, [channel, y, x]))
    }

    /// The patches of a group, n x T.
    pub fn patches(&self, group: usize, image: &[f64]) -> DMatrix<f64> {
        DMatrix::from_fn(self.lines(), self.locations(), |k, location| {
            if k == self.patch() {
                1.0
            } else {
                self.element(group, location, k).map_or(0.0, |index| image[index])
            }
        })
    }

    /// The outputs of a group, m x T.
    pub fn outputs(&self, group: usize, map: &[f64]) -> DMatrix<f64> {
        DMatrix::from_fn(self.rows(), self.locations(), |row, location| {
            map[self.place(group * self.rows() + row, location)]
        })
    }

    /// z of one image, from weights of one group after another, column-major.
    pub fn forward(&self, weights: &[f64], image: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.outputs * self.locations()];
        for (channel, location) in
            (0..self.outputs).flat_map(|channel| (0..self.locations()).map(move |t| (channel, t)))
        {
            let (group, row) = (channel / self.rows(), channel % self.rows());
            let weight = |k: usize| weights[group * self.rows() * self.lines() + k * self.rows() + row];
            let sum: f64 = (0..self.patch())
                .filter_map(|k| self.element(group, location, k).map(|index| weight(k) * image[index]))
                .sum();
            out[self.place(channel, location)] = sum + if self.bias { weight(self.patch()) } else { 0.0 };
        }
        out
    }

    /// Points of the kernel.
    pub fn points(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The mean of the blocks that A has on its diagonal for the points of the kernel: what they share where they are taken for
    /// uncorrelated.
    pub fn shared_factor(&self, a: &DMatrix<f64>) -> DMatrix<f64> {
        let (points, channels) = (self.points(), self.channels / self.groups);
        DMatrix::from_fn(channels, channels, |i, j| {
            (0..points).map(|p| a[(i * points + p, j * points + p)]).sum::<f64>() / points as f64
        })
    }

    /// A matrix of channels, such as a basis or a factor, for each point of the kernel and none between two; the bias apart.
    pub fn at_each_point(&self, shared: &DMatrix<f64>, bias: f64) -> DMatrix<f64> {
        let points = self.points();
        DMatrix::from_fn(self.lines(), self.lines(), |i, j| {
            if i == self.patch() || j == self.patch() {
                if i == j { bias } else { 0.0 }
            } else if i % points == j % points {
                shared[(i / points, j / points)]
            } else {
                0.0
            }
        })
    }

    /// The gradients of each example's loss with respect to a group's weights, sum_t g a^T.
    pub fn example_gradients(
        &self,
        group: usize,
        images: &DMatrix<f64>,
        maps: &DMatrix<f64>,
    ) -> Vec<DMatrix<f64>> {
        let pairs = images.column_iter().zip(maps.column_iter());
        let gradient = |(image, map): (nalgebra::DVectorView<'_, f64>, nalgebra::DVectorView<'_, f64>)| {
            self.outputs(group, map.as_slice()) * self.patches(group, image.as_slice()).transpose()
        };
        pairs.map(gradient).collect()
    }

    /// A and B of a group's K-FAC block A x B.
    pub fn factors(
        &self,
        group: usize,
        images: &DMatrix<f64>,
        maps: &DMatrix<f64>,
        sharing: Sharing,
    ) -> (DMatrix<f64>, DMatrix<f64>) {
        let (count, locations) = (images.ncols() as f64, self.locations() as f64);
        let (n, m) = (self.lines(), self.rows());
        let (mut input, mut output) = (DMatrix::zeros(n, n), DMatrix::zeros(m, m));
        for (image, map) in images.column_iter().zip(maps.column_iter()) {
            let (a, g) = (self.patches(group, image.as_slice()), self.outputs(group, map.as_slice()));
            match sharing {
                Sharing::Expand => {
                    input += &a * a.transpose();
                    output += &g * g.transpose() / locations;
                }
                Sharing::Reduce => {
                    let (mean, sum) = (a.column_mean(), g.column_sum());
                    input += &mean * mean.transpose();
                    output += &sum * sum.transpose();
                }
            }
        }
        (input / count, output / count)
    }
}

/// A matrix as the scalar holds it.
pub fn rounded<T: Scalar>(matrix: DMatrix<f64>) -> DMatrix<f64> {
    matrix.map(|value| T::from_f64(value).to_f64())
}

/// Images and gradients of a batch, exact in the scalar; the gradients depend on the images, as they do in a network.
pub fn batch<T: Scalar>(plan: &Plan, count: usize, draws: &mut Draws) -> (DMatrix<f64>, DMatrix<f64>) {
    let images = draws.matrix(plan.inputs(), count);
    let maps = DMatrix::from_fn(plan.outputs * plan.locations(), count, |i, j| {
        draws.normal() * (0.3 + images[(i % plan.inputs(), j)])
    });
    (rounded::<T>(images), rounded::<T>(maps))
}

/// The Fisher block (1/N) sum vec(G_i) vec(G_i)^T, columns stacked.
pub fn fisher(gradients: &[DMatrix<f64>]) -> DMatrix<f64> {
    let size = gradients[0].len();
    let mut sum = DMatrix::zeros(size, size);
    for gradient in gradients {
        let stacked = nalgebra::DVector::from_column_slice(gradient.as_slice());
        sum += &stacked * stacked.transpose();
    }
    sum / gradients.len() as f64
}

/// S in a basis: the mean of (U_B^T G_i U_A)^2.
pub fn scalings(
    input_basis: &DMatrix<f64>,
    output_basis: &DMatrix<f64>,
    gradients: &[DMatrix<f64>],
) -> DMatrix<f64> {
    let (m, n) = gradients[0].shape();
    let squares = gradients.iter().fold(DMatrix::zeros(m, n), |sum, gradient| {
        let seen = output_basis.transpose() * gradient * input_basis;
        sum + seen.component_mul(&seen)
    });
    squares / gradients.len() as f64
}

/// The mean of some matrices.
pub fn mean(matrices: &[DMatrix<f64>]) -> DMatrix<f64> {
    let (m, n) = matrices[0].shape();
    matrices.iter().fold(DMatrix::zeros(m, n), |sum, matrix| sum + matrix) / matrices.len() as f64
}

/// A convolution with memory of its own, driven through its preconditioner in `f64` whatever the scalar.
#[derive(Clone, Debug)]
pub struct Bench<T> {
    /// The convolution.
    pub convolution: Convolution,
    /// Its settings.
    pub config: Config<T>,
    /// How its locations enter the factors.
    pub sharing: Sharing,
    /// Its counters.
    pub progress: Progress<T>,
    /// Its state words.
    pub state: Vec<T>,
    /// Columns of a block.
    pub columns: usize,
}

impl<T: Scalar> Bench<T> {
    /// A fresh convolution.
    pub fn new(convolution: Convolution, config: Config<T>) -> Self {
        let state = vec![T::ZERO; convolution.state_words()];
        let (progress, sharing) = (Progress::new(0), Sharing::Expand);
        let mut bench = Self { convolution, config, sharing, progress, state, columns: 7 };
        // The first view writes the bases of a fresh state; later ones write nothing.
        bench.with(|_| ());
        bench
    }

    /// Does something with the preconditioner.
    pub fn with<R>(&mut self, run: impl FnOnce(&mut ConvolutionPreconditioner<'_, T>) -> R) -> R {
        let words = ConvolutionPreconditioner::<T>::workspace_words(&self.convolution, self.columns);
        let mut workspace = vec![T::ZERO; words];
        let Self { convolution, config, progress, state, .. } = self;
        let made = ConvolutionPreconditioner::new(*convolution, state, config, progress, &mut workspace);
        run(&mut made.expect("a good convolution").with_sharing(self.sharing))
    }

    /// Takes in a batch, one example a column.
    pub fn observe(&mut self, images: &DMatrix<f64>, maps: &DMatrix<f64>) -> Outcome {
        let (values, gradients): (Vec<T>, Vec<T>) = (narrowed(images), narrowed(maps));
        self.with(|layer| {
            layer.observe(
                MatrixRef::new(&values, images.nrows(), images.ncols()).expect("a matrix"),
                MatrixRef::new(&gradients, maps.nrows(), maps.ncols()).expect("a matrix"),
            )
        })
        .expect("a well-formed batch")
    }

    /// The preconditioned gradients of all groups.
    pub fn precondition(&mut self, gradients: &[DMatrix<f64>]) -> Vec<DMatrix<f64>> {
        let values: Vec<T> = narrowed(gradients.iter().flatten());
        let mut out = vec![T::ZERO; values.len()];
        self.with(|layer| layer.precondition(&values, &mut out)).expect("a well-formed gradient");
        self.split(&out)
    }

    /// The mean gradients of all groups, by core's own walk.
    pub fn mean_gradient(&mut self, images: &DMatrix<f64>, maps: &DMatrix<f64>) -> Vec<DMatrix<f64>> {
        let (values, gradients): (Vec<T>, Vec<T>) = (narrowed(images), narrowed(maps));
        let mut out = vec![T::ZERO; self.convolution.parameters()];
        let mut scratch = vec![T::ZERO; self.convolution.scratch_words(self.columns)];
        let images = MatrixRef::new(&values, images.nrows(), images.ncols()).expect("a matrix");
        let maps = MatrixRef::new(&gradients, maps.nrows(), maps.ncols()).expect("a matrix");
        self.convolution
            .mean_gradient(&Reference, images, maps, &mut out, &mut scratch)
            .expect("a well-formed batch");
        self.split(&out)
    }

    fn split(&self, words: &[T]) -> Vec<DMatrix<f64>> {
        let shape = self.convolution.shape();
        let matrix = |words: &[T]| {
            DMatrix::from_iterator(shape.rows(), shape.columns(), words.iter().map(|word| word.to_f64()))
        };
        words.chunks_exact(shape.parameters()).map(matrix).collect()
    }

    /// The view of a group.
    pub fn layer(&mut self, group: usize) -> LayerMut<'_, T> {
        let shape = self.convolution.shape();
        let words = self.state.chunks_exact_mut(shape.words()).nth(group).expect("a group");
        LayerMut::new(shape, words).expect("the shape's words")
    }

    /// z, or its transpose's gradients, of a whole batch: one of the passes.
    pub fn pass(&self, weights: &[f64], batch: &DMatrix<f64>, backward: bool) -> DMatrix<f64> {
        let (weights, values): (Vec<T>, Vec<T>) = (narrowed(weights), narrowed(batch));
        let (convolution, columns) = (&self.convolution, batch.ncols());
        let rows = if backward { convolution.input_words() } else { convolution.output_words() };
        let (mut out, mut scratch) =
            (vec![T::ONE; rows * columns], vec![T::ZERO; convolution.scratch_words(self.columns)]);
        let from = MatrixRef::new(&values, batch.nrows(), columns).expect("a matrix");
        let into = MatrixMut::new(&mut out, rows, columns).expect("a matrix");
        let pass = if backward { Convolution::backward } else { Convolution::forward };
        pass(convolution, &Reference, &weights, from, into, &mut scratch).expect("a well-formed batch");
        DMatrix::from_iterator(rows, columns, out.into_iter().map(Scalar::to_f64))
    }
}
