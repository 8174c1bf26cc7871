//! A dense network by the book: forward, backward and the Fisher of the outputs, one example a column, in `f64`.

use super::with_ones;
use ekfac::{Activation, Learner, Loss, Scalar};
use nalgebra::{DMatrix, DVector};

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// W, bias last.
    pub weights: DMatrix<f64>,
    /// Its activation.
    pub activation: Activation,
    /// Whether the last column is a bias.
    pub bias: bool,
}

/// Layers and a loss.
#[derive(Clone, Debug)]
pub struct Network {
    /// Input first.
    pub layers: Vec<Layer>,
    /// The loss.
    pub loss: Loss,
}

/// What a forward pass leaves: for every layer its input with the bias's ones, and its pre-activations; and the outputs.
#[derive(Clone, Debug)]
pub struct Trace {
    /// [h_(l-1); 1] of every layer.
    pub activations: Vec<DMatrix<f64>>,
    /// z of every layer.
    pub pre_activations: Vec<DMatrix<f64>>,
    /// h of the last layer.
    pub outputs: DMatrix<f64>,
}

impl Network {
    /// The network that a learner holds now.
    pub fn of<T: Scalar>(learner: &mut Learner<'_, T>) -> Self {
        let net = *learner.net();
        let layers = net.layers().iter().enumerate().map(|(index, layer)| Layer {
            weights: super::weights(learner, index).map(Scalar::to_f64),
            activation: layer.activation(),
            bias: layer.shape().bias(),
        });
        Self { layers: layers.collect(), loss: net.loss() }
    }

    /// The forward pass.
    pub fn forward(&self, inputs: &DMatrix<f64>) -> Trace {
        let mut trace =
            Trace { activations: Vec::new(), pre_activations: Vec::new(), outputs: inputs.clone() };
        for layer in &self.layers {
            let below = if layer.bias { with_ones(&trace.outputs) } else { trace.outputs.clone() };
            let z = &layer.weights * &below;
            trace.outputs = z.map(|z| activation_value(layer.activation, z));
            trace.activations.push(below);
            trace.pre_activations.push(z);
        }
        trace
    }

    /// The mean loss of a batch; a class is a column of the identity.
    pub fn mean_loss(&self, inputs: &DMatrix<f64>, targets: &DMatrix<f64>) -> f64 {
        let outputs = self.forward(inputs).outputs;
        let losses = outputs
            .column_iter()
            .zip(targets.column_iter())
            .map(|(h, t)| loss_value(self.loss, &h.clone_owned(), &t.clone_owned()));
        losses.sum::<f64>() / inputs.ncols() as f64
    }

    /// dloss/dh of each example at the outputs, not divided by the batch size.
    pub fn output_gradients(&self, trace: &Trace, targets: &DMatrix<f64>) -> DMatrix<f64> {
        let mut gradients = trace.outputs.clone();
        for (mut column, target) in gradients.column_iter_mut().zip(targets.column_iter()) {
            let gradient = loss_gradient(self.loss, &column.clone_owned(), &target.clone_owned());
            column.copy_from(&gradient);
        }
        gradients
    }

    /// g of every layer from the gradients at the outputs.
    pub fn backward(&self, trace: &Trace, output_gradients: &DMatrix<f64>) -> Vec<DMatrix<f64>> {
        let mut above = output_gradients.clone();
        let mut gradients = Vec::new();
        for (layer, z) in self.layers.iter().zip(&trace.pre_activations).rev() {
            let slopes = z.map(|z| activation_slope(layer.activation, z));
            let g = above.component_mul(&slopes);
            let inputs = layer.weights.ncols() - usize::from(layer.bias);
            above = layer.weights.columns(0, inputs).transpose() * &g;
            gradients.push(g);
        }
        gradients.reverse();
        gradients
    }

    /// J^T F J of every layer for one example, F the Fisher at the outputs: the second moment that g has under the
    /// model's own distribution.
    pub fn example_fishers(&self, input: &DMatrix<f64>) -> Vec<DMatrix<f64>> {
        let trace = self.forward(input);
        let fisher = output_fisher(self.loss, &trace.outputs.column(0).clone_owned());
        let outputs = trace.outputs.nrows();
        let mut jacobians: Vec<DMatrix<f64>> = Vec::new();
        for output in 0..outputs {
            let mut direction = DMatrix::zeros(outputs, 1);
            direction[(output, 0)] = 1.0;
            for (index, g) in self.backward(&trace, &direction).into_iter().enumerate() {
                if output == 0 {
                    jacobians.push(g);
                } else {
                    let columns = jacobians[index].ncols();
                    jacobians[index] = jacobians[index].clone().insert_column(columns, 0.0);
                    jacobians[index].set_column(columns, &g.column(0));
                }
            }
        }
        jacobians.into_iter().map(|jacobian| &jacobian * &fisher * jacobian.transpose()).collect()
    }
}

/// The columns of the identity that stand for classes.
pub fn one_hot(classes: &[u32], outputs: usize) -> DMatrix<f64> {
    DMatrix::from_fn(outputs, classes.len(), |i, j| if classes[j] as usize == i { 1.0 } else { 0.0 })
}

/// The density of the normal distribution.
fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt()
}

/// The integral from 0 to `end`, by Simpson's rule.
fn integral(end: f64, function: impl Fn(f64) -> f64) -> f64 {
    let steps = 2000;
    let width = end / f64::from(steps);
    let weight = |index: i32| match index {
        0 => 1.0,
        _ if index == steps => 1.0,
        _ if index % 2 == 1 => 4.0,
        _ => 2.0,
    };
    (0..=steps).map(|index| weight(index) * function(f64::from(index) * width)).sum::<f64>() * width / 3.0
}

fn activation_value(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::LeakyRelu => z.max(0.01 * z),
        Activation::Tanh => z.tanh(),
        Activation::Sigmoid => 1.0 / (1.0 + (-z).exp()),
        Activation::Gelu => z * (0.5 + integral(z, density)),
    }
}

fn activation_slope(activation: Activation, z: f64) -> f64 {
    let logistic = 1.0 / (1.0 + (-z).exp());
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(u8::from(z > 0.0)),
        Activation::LeakyRelu => {
            if z > 0.0 {
                1.0
            } else {
                0.01
            }
        }
        Activation::Tanh => z.cosh().powi(-2),
        Activation::Sigmoid => logistic * (1.0 - logistic),
        Activation::Gelu => 0.5 + integral(z, density) + z * density(z),
    }
}

fn softmax(outputs: &DVector<f64>) -> DVector<f64> {
    let exponentials = outputs.map(f64::exp);
    let sum = exponentials.sum();
    exponentials / sum
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn loss_value(loss: Loss, outputs: &DVector<f64>, targets: &DVector<f64>) -> f64 {
    let residuals = outputs - targets;
    match loss {
        Loss::SquaredError => 0.5 * residuals.norm_squared(),
        Loss::SoftmaxCrossEntropy => -softmax(outputs).map(f64::ln).dot(targets),
        Loss::BinaryCrossEntropy => {
            let terms = outputs.iter().zip(targets);
            terms.map(|(h, t)| -t * logistic(*h).ln() - (1.0 - t) * logistic(-*h).ln()).sum()
        }
        Loss::Huber(width) => {
            let term = |r: f64| if r.abs() <= width { 0.5 * r * r } else { width * (r.abs() - 0.5 * width) };
            residuals.map(term).sum()
        }
    }
}

fn loss_gradient(loss: Loss, outputs: &DVector<f64>, targets: &DVector<f64>) -> DVector<f64> {
    match loss {
        Loss::SquaredError => outputs - targets,
        Loss::SoftmaxCrossEntropy => softmax(outputs) - targets,
        Loss::BinaryCrossEntropy => outputs.map(logistic) - targets,
        Loss::Huber(width) => (outputs - targets).map(|r| r.clamp(-width, width)),
    }
}

/// The Fisher of the outputs: the second moment of dloss/dh for targets drawn from the density proportional to exp(-loss).
pub fn output_fisher(loss: Loss, outputs: &DVector<f64>) -> DMatrix<f64> {
    let count = outputs.len();
    match loss {
        Loss::SquaredError => DMatrix::identity(count, count),
        Loss::SoftmaxCrossEntropy => {
            let p = softmax(outputs);
            // Class by class: the definition, not diag p - p p^T.
            (0..count).fold(DMatrix::zeros(count, count), |sum, class| {
                let mut score = p.clone();
                score[class] -= 1.0;
                sum + &score * score.transpose() * p[class]
            })
        }
        Loss::BinaryCrossEntropy => {
            let both = |p: f64| p * (p - 1.0).powi(2) + (1.0 - p) * p.powi(2);
            DMatrix::from_diagonal(&outputs.map(logistic).map(both))
        }
        Loss::Huber(width) => {
            // Inside the width by quadrature, the exponential tails in closed form.
            let tail = 2.0 / width * (-0.5 * width * width).exp();
            let mass = 2.0 * integral(width, |r| (-0.5 * r * r).exp()) + tail;
            let moment = 2.0 * integral(width, |r| r * r * (-0.5 * r * r).exp()) + width * width * tail;
            DMatrix::identity(count, count) * (moment / mass)
        }
    }
}
