//! A convolutional network in a training loop of the user's own: the digits, against gradient descent and Adam at the best of
//! their rates.
//!
//! Mutants that these tests catch: a preconditioner that does not help; statistics that do not fit the gradients they divide.

use ekfac::{
    Averaging, Config, Damping, MatrixMut, MatrixRef, Outcome, Progress, Reference,
    convolution::{Axis, Convolution, ConvolutionPreconditioner, Sharing},
};
use ekfac_std::data::{Targets, digits};
use ekfac_tests::random::Draws;

const WIDE: Axis = Axis::new(8, 3).padding(1);
const STRIDED: Axis = WIDE.stride(2);
/// 8 x 8 to 6 maps of 8 x 8, to 12 of 4 x 4, to 10 classes: a dense layer is a sequence of one.
const LAYERS: [Convolution; 3] = [
    Convolution::new_2d(1, [WIDE; 2], 6),
    Convolution::new_2d(6, [STRIDED; 2], 12),
    Convolution::sequence(12 * 16, 1, 10),
];
const CLASSES: usize = 10;
const BATCH: usize = 50;
const SEED: u64 = 1;

/// One layer of the loop.
struct Layer {
    convolution: Convolution,
    weights: Vec<f32>,
    gradient: Vec<f32>,
    velocity: Vec<f32>,
    /// h of the layer, or z of the last.
    outputs: Vec<f32>,
    below: Vec<f32>,
    scratch: Vec<f32>,
}

fn matrix(values: &[f32], rows: usize) -> MatrixRef<'_, f32> {
    MatrixRef::new(values, rows, values.len() / rows).expect("a batch")
}

fn matrix_mut(values: &mut [f32], rows: usize) -> MatrixMut<'_, f32> {
    let columns = values.len() / rows;
    MatrixMut::new(values, rows, columns).expect("a batch")
}

impl Layer {
    fn new(convolution: Convolution, draws: &mut Draws) -> Self {
        let shape = convolution.shape();
        let size = (1.0 / shape.inputs() as f64).sqrt();
        let mut weights: Vec<f32> = (0..shape.parameters()).map(|_| (size * draws.normal()) as f32).collect();
        weights[shape.rows() * shape.inputs()..].fill(0.0);
        let scratch = vec![0.0; ConvolutionPreconditioner::<f32>::workspace_words(&convolution, 128)];
        let (gradient, velocity) = (vec![0.0; weights.len()], vec![0.0; weights.len()]);
        Self { convolution, weights, gradient, velocity, outputs: vec![], below: vec![], scratch }
    }

    fn forward(&mut self, images: &[f32], last: bool) {
        let (rows, words) = (self.convolution.input_words(), self.convolution.output_words());
        self.outputs.resize(images.len() / rows * words, 0.0);
        let (images, out) = (matrix(images, rows), matrix_mut(&mut self.outputs, words));
        self.convolution.forward(&Reference, &self.weights, images, out, &mut self.scratch).expect("a batch");
        if !last {
            self.outputs.iter_mut().for_each(|z| *z = z.tanh());
        }
    }
}

/// The mean loss, and the gradients at the output: softmax, with these classes.
fn loss(outputs: &[f32], classes: &[u32], gradients: &mut Vec<f32>) -> f64 {
    gradients.clear();
    let mut sum = 0.0;
    for (z, class) in outputs.chunks_exact(CLASSES).zip(classes) {
        let most = z.iter().copied().fold(f32::MIN, f32::max);
        let total: f32 = z.iter().map(|z| (z - most).exp()).sum();
        sum += f64::from(total.ln() + most - z[*class as usize]);
        let own = |index: usize| f32::from(u8::from(index == *class as usize));
        gradients.extend(z.iter().enumerate().map(|(index, z)| (z - most).exp() / total - own(index)));
    }
    sum / classes.len() as f64
}

/// Classes drawn from the model's own output.
fn drawn(outputs: &[f32], draws: &mut Draws) -> Vec<u32> {
    let class = |z: &[f32]| {
        let most = z.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f64> = z.iter().map(|z| f64::from((z - most).exp())).collect();
        let mut left = draws.uniform() * weights.iter().sum::<f64>();
        let place = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        place.unwrap_or(CLASSES - 1) as u32
    };
    outputs.chunks_exact(CLASSES).map(class).collect()
}

/// How the loop moves.
#[derive(Clone, Copy, Debug)]
enum Method {
    Descent(f32),
    Adam(f32),
    Ekfac(Sharing),
}

struct Run {
    layers: Vec<Layer>,
    states: Vec<(Vec<f32>, Progress<f32>)>,
    config: Config<f32>,
    squares: Vec<Vec<f32>>,
    steps: i32,
    mean_loss: f32,
    mean_length: f32,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let layers: Vec<_> = LAYERS.map(|layer| Layer::new(layer, &mut draws)).into();
        let states = LAYERS.map(|layer| (vec![0.0; layer.state_words()], Progress::new(seed)));
        let squares = layers.iter().map(|layer| vec![0.0; layer.weights.len()]).collect();
        let config = Config {
            damping: Damping::Shrunk(1e-3),
            factors: Averaging::Memory(1_000.0),
            ..Config::default()
        };
        Self { layers, states: states.into(), config, squares, steps: 0, mean_loss: 0.0, mean_length: 0.0 }
    }

    fn forward(&mut self, images: &[f32]) {
        let mut below = images.to_vec();
        let count = self.layers.len();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.forward(&below, index + 1 == count);
            below.clone_from(&layer.outputs);
        }
    }

    /// Gradients of all layers for these at the output, each handed on with its images.
    fn backward(
        &mut self,
        images: &[f32],
        gradients: Vec<f32>,
        mut each: impl FnMut(usize, &mut Layer, &[f32], &[f32]),
    ) {
        let mut above = gradients;
        for index in (0..self.layers.len()).rev() {
            let (lower, upper) = self.layers.split_at_mut(index);
            let (layer, images) = (&mut upper[0], lower.last().map_or(images, |below| &below.outputs));
            let (rows, words) = (layer.convolution.input_words(), layer.convolution.output_words());
            each(index, layer, images, &above);
            layer.below.resize(images.len(), 0.0);
            let out = matrix_mut(&mut layer.below, rows);
            layer
                .convolution
                .backward(&Reference, &layer.weights, matrix(&above, words), out, &mut layer.scratch)
                .expect("a batch");
            above = layer.below.iter().zip(images).map(|(g, h)| g * (1.0 - h * h)).collect();
        }
    }

    fn step(&mut self, method: Method, images: &[f32], classes: &[u32], draws: &mut Draws) {
        self.forward(images);
        let outputs = self.layers[2].outputs.clone();
        let mut gradients = Vec::new();
        if let Method::Ekfac(sharing) = method {
            loss(&outputs, &drawn(&outputs, draws), &mut gradients);
            let (mut states, config) = (std::mem::take(&mut self.states), self.config);
            self.backward(images, gradients.clone(), |index, layer, images, above| {
                let (state, progress) = &mut states[index];
                let (rows, words) = (layer.convolution.input_words(), layer.convolution.output_words());
                let mut ekfac = ConvolutionPreconditioner::new(
                    layer.convolution,
                    state,
                    &config,
                    progress,
                    &mut layer.scratch,
                )
                .expect("a good convolution")
                .with_sharing(sharing);
                let outcome = ekfac.observe(matrix(images, rows), matrix(above, words)).expect("a batch");
                assert_eq!(outcome, Outcome::Applied);
            });
            self.states = states;
        }
        let now = loss(&outputs, classes, &mut gradients) as f32;
        self.steps += 1;
        self.mean_loss += 0.1_f32.max(1.0 / self.steps as f32) * (now - self.mean_loss);
        self.backward(images, gradients, |_, layer, images, above| {
            let (rows, words) = (layer.convolution.input_words(), layer.convolution.output_words());
            let (images, above) = (matrix(images, rows), matrix(above, words));
            layer
                .convolution
                .mean_gradient(&Reference, images, above, &mut layer.gradient, &mut layer.scratch)
                .expect("a batch");
        });
        match method {
            Method::Descent(rate) => self.layers.iter_mut().for_each(|layer| {
                let gradient = layer.gradient.clone();
                layer.advance(&gradient, rate, 1.0);
            }),
            Method::Adam(rate) => self.adam(rate),
            Method::Ekfac(_) => self.natural(),
        }
    }

    fn adam(&mut self, rate: f32) {
        let (first, second) = (1.0 - 0.9_f32.powi(self.steps), 1.0 - 0.999_f32.powi(self.steps));
        for (layer, squares) in self.layers.iter_mut().zip(&mut self.squares) {
            for (((w, v), s), g) in
                layer.weights.iter_mut().zip(&mut layer.velocity).zip(squares).zip(&layer.gradient)
            {
                *v = 0.9 * *v + 0.1 * g;
                *s = 0.999 * *s + 0.001 * g * g;
                *w -= rate * (*v / first) / ((*s / second).sqrt() + 1e-8);
            }
        }
    }

    /// A natural step with momentum, of a bounded length in the Fisher metric: the default clip of the library's learner
    /// (`Clip::PerParameter`), by hand.
    fn natural(&mut self) {
        let rate = 0.1;
        let parameters: usize = LAYERS.iter().map(Convolution::parameters).sum();
        let budget = 1.5e-3 * self.mean_loss * (BATCH * CLASSES) as f32 / parameters as f32;
        let mut directions = Vec::new();
        let mut length = 0.0;
        for (layer, (state, progress)) in self.layers.iter_mut().zip(&mut self.states) {
            let mut natural = vec![0.0; layer.gradient.len()];
            let convolution = layer.convolution;
            ConvolutionPreconditioner::new(convolution, state, &self.config, progress, &mut layer.scratch)
                .expect("a good convolution")
                .precondition(&layer.gradient, &mut natural)
                .expect("a gradient");
            length += layer.gradient.iter().zip(&natural).map(|(g, d)| g * d).sum::<f32>();
            directions.push(natural);
        }
        let share = 0.1_f32.max(1.0 / self.steps as f32);
        self.mean_length += share * (length.sqrt() - self.mean_length);
        let shrink = budget.sqrt() / (rate * self.mean_length.max(length.sqrt() / 3.0));
        let shrink = shrink.min(1.0);
        for (layer, natural) in self.layers.iter_mut().zip(&directions) {
            layer.advance(natural, rate, shrink);
        }
    }
}

impl Layer {
    fn advance(&mut self, direction: &[f32], rate: f32, shrink: f32) {
        for ((w, v), d) in self.weights.iter_mut().zip(&mut self.velocity).zip(direction) {
            *v = 0.9 * *v + shrink * d;
            *w -= rate * *v;
        }
    }
}

/// The training losses after each epoch.
fn train(method: Method, epochs: usize, seed: u64) -> Vec<f64> {
    let data = digits().expect("the digits");
    let Targets::Classes { labels: classes, .. } = &data.targets else { panic!("digits have classes") };
    let examples = classes.len();
    let (mut run, mut draws) = (Run::new(seed), Draws::new(seed));
    let mut losses = Vec::new();
    for _ in 0..epochs {
        let order = draws.permutation(examples);
        for chosen in order.chunks_exact(BATCH) {
            let images: Vec<f32> =
                chosen.iter().flat_map(|i| data.inputs[64 * i..64 * (i + 1)].to_vec()).collect();
            let classes: Vec<u32> = chosen.iter().map(|i| classes[*i]).collect();
            run.step(method, &images, &classes, &mut draws);
        }
        run.forward(&data.inputs);
        losses.push(loss(&run.layers[2].outputs, classes, &mut Vec::new()));
    }
    losses
}

#[test]
fn a_convolutional_network_learns_faster_than_by_descent_or_adam() {
    const EPOCHS: usize = 5;
    let shown = |method| {
        let losses = train(method, EPOCHS, SEED);
        println!("{method:?}: {losses:.4?}");
        losses[EPOCHS - 1]
    };
    let best = |losses: &[f64]| losses.iter().copied().fold(f64::INFINITY, f64::min);
    let descent = best(&[0.03, 0.1, 0.3].map(|rate| shown(Method::Descent(rate))));
    let adam = best(&[3e-3, 1e-2, 3e-2].map(|rate| shown(Method::Adam(rate))));
    for sharing in [Sharing::Expand, Sharing::Reduce] {
        let ekfac = shown(Method::Ekfac(sharing));
        assert!(ekfac <= 0.5 * descent.min(adam), "{sharing:?}: {ekfac}, descent {descent}, Adam {adam}");
    }
}
