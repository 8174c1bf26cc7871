//! A baseline on core's gradients: what makes it comparable with a learner's own steps.

use super::Baseline;
use ekfac::{Coordinates, Error, Learner, MatrixMut, Net, Targets};

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

    /// One step on a batch: the loss before it, or `None` once the baseline refuses gradients that are not finite, which is
    /// divergence and not a wrong call. The weights are moved into parameter coordinates first.
    ///
    /// # Errors
    /// Those of [`Learner::mean_gradient`].
    pub fn step(
        &mut self,
        learner: &mut Learner<'_, f32>,
        inputs: &[f32],
        targets: Targets<'_, f32>,
    ) -> Result<Option<f32>, Error> {
        for layer in 0..learner.net().layers().len() {
            learner.set_coordinates(layer, Coordinates::Parameter)?;
        }
        let loss = learner.mean_gradient(inputs, targets, &mut self.gradient)?;
        let mut weights: Vec<_> = learner.iter_stored_weights().map(MatrixMut::into_mut_slice).collect();
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
