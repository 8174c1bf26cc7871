//! A baseline on core's gradients: what makes it comparable with a learner's own steps.

use super::Baseline;
use ekfac::{
    Coordinates, Error, Learner, MatrixMut, Net, Targets,
    convolution::{ConvolutionLearner, ConvolutionNet},
};

/// A learner of core's that lends its gradient and its weights, all in parameter coordinates.
pub trait Descends {
    /// The mean gradient of a batch, all layers one after another, into `out`; returns the mean loss.
    ///
    /// # Errors
    /// Those of [`Learner::mean_gradient`].
    fn gradient(&mut self, inputs: &[f32], targets: Targets<'_, f32>, out: &mut [f32]) -> Result<f32, Error>;

    /// The weights of all layers that have any.
    fn weights(&mut self) -> Vec<&mut [f32]>;
}

impl Descends for Learner<'_, f32> {
    /// The weights are moved into parameter coordinates first.
    fn gradient(&mut self, inputs: &[f32], targets: Targets<'_, f32>, out: &mut [f32]) -> Result<f32, Error> {
        for layer in 0..self.net().layers().len() {
            self.set_coordinates(layer, Coordinates::Parameter)?;
        }
        self.mean_gradient(inputs, targets, out)
    }

    fn weights(&mut self) -> Vec<&mut [f32]> {
        self.iter_stored_weights().map(MatrixMut::into_mut_slice).collect()
    }
}

impl Descends for ConvolutionLearner<'_, f32> {
    fn gradient(&mut self, inputs: &[f32], targets: Targets<'_, f32>, out: &mut [f32]) -> Result<f32, Error> {
        self.mean_gradient(inputs, targets, out)
    }

    fn weights(&mut self) -> Vec<&mut [f32]> {
        self.iter_weights().filter(|weights| !weights.is_empty()).collect()
    }
}

/// Trains a learner's weights by a baseline instead of its own steps.
///
/// ```
/// use ekfac::{Config, Learner, Loss, Net, Targets};
/// use ekfac_std::baselines::{Descent, SgdMomentum, SgdMomentumSettings};
/// const LAYERS: [ekfac::Dense; 1] = ekfac::layers![2 => 1 Identity];
/// let net = Net::new(&LAYERS, Loss::SquaredError);
/// let mut memory = vec![0.0_f32; net.words(1)];
/// let mut learner = Learner::new(net, Config::default(), 1, 1, &mut memory)?;
/// let settings = SgdMomentumSettings { learning_rate: 0.1, ..SgdMomentumSettings::default() };
/// let mut descent = Descent::new(&net, |shapes| SgdMomentum::new(shapes, settings)).unwrap();
/// let first = descent.step(&mut learner, &[1.0, 2.0], Targets::Values(&[1.0]))?;
/// let second = descent.step(&mut learner, &[1.0, 2.0], Targets::Values(&[1.0]))?;
/// assert!(second < first);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub struct Descent {
    baseline: Box<dyn Baseline>,
    gradient: Vec<f32>,
}

impl Descent {
    /// A baseline for the shapes of a network's weights, made by `new` from (rows, columns) of each.
    ///
    /// # Errors
    /// Those of `new`.
    pub fn new<B: Baseline + 'static, E>(
        net: &Net<'_>,
        new: impl FnOnce(&[(usize, usize)]) -> Result<B, E>,
    ) -> Result<Self, E> {
        let shapes: Vec<_> =
            net.layers().iter().map(|dense| (dense.shape().rows(), dense.shape().columns())).collect();
        Ok(Self { baseline: Box::new(new(&shapes)?), gradient: vec![0.0; net.parameters()] })
    }

    /// The same for a network of convolutions, whose filters count as rows: for baselines that look at each weight alone, since
    /// other ones would have to say what the two sides of a bank of filters are.
    ///
    /// # Errors
    /// Those of `new`.
    pub fn of_convolutions<B: Baseline + 'static, E>(
        net: &ConvolutionNet<'_>,
        new: impl FnOnce(&[(usize, usize)]) -> Result<B, E>,
    ) -> Result<Self, E> {
        let layers = net.layers().iter().filter(|layer| layer.parameters() > 0);
        let shapes: Vec<_> = layers
            .map(|layer| {
                let convolution = layer.convolution();
                let shape = convolution.shape();
                (convolution.group_count() * shape.rows(), shape.columns())
            })
            .collect();
        Ok(Self { baseline: Box::new(new(&shapes)?), gradient: vec![0.0; net.parameters()] })
    }

    /// One step on a batch: the loss before it, or `None` once the baseline refuses gradients that are not finite, which is
    /// divergence and not a wrong call.
    ///
    /// # Errors
    /// Those of [`Descends::gradient`].
    pub fn step<L: Descends>(
        &mut self,
        learner: &mut L,
        inputs: &[f32],
        targets: Targets<'_, f32>,
    ) -> Result<Option<f32>, Error> {
        let loss = learner.gradient(inputs, targets, &mut self.gradient)?;
        let mut weights = learner.weights();
        let mut rest = self.gradient.as_slice();
        let mut gradients = Vec::with_capacity(weights.len());
        for weights in &weights {
            let (head, tail) = rest.split_at(weights.len());
            gradients.push(head);
            rest = tail;
        }
        Ok(self.baseline.step(&mut weights, &gradients).is_ok().then_some(loss))
    }

    /// Operations of the baseline itself; those of the passes are the learner's.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.baseline.operations()
    }
}
