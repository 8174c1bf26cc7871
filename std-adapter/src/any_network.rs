//! A network of either kind, for programs that take what a user describes.
//!
//! Nothing is done here but to call the kind's own. *Invariant* and *failure*: that of [`Network`] and of [`ConvolutionNetwork`].

use crate::{ConvolutionNetwork, Network, kernels::Element};
use ekfac::{Config, Error, Evaluation, Loss, Progress, Step, Targets};

/// A network with or without convolutions.
///
/// ```
/// use ekfac::{Activation::Identity, Config, Dense, Loss, Targets};
/// use ekfac_std::{AnyNetwork, Network};
/// let layers = vec![Dense::new(4, 2, Identity)];
/// let network = Network::<f32>::new(layers, Loss::SquaredError, Config::default(), 1, 1)?;
/// let mut network = AnyNetwork::from(network);
/// assert!(network.step(&[0.5; 4], Targets::Values(&[1.0, 2.0]))?.loss > 0.0);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub enum AnyNetwork<T> {
    /// Dense layers alone.
    Dense(Network<T>),
    /// Convolutions, poolings and dense layers.
    Convolutions(ConvolutionNetwork<T>),
}

impl<T> From<Network<T>> for AnyNetwork<T> {
    fn from(network: Network<T>) -> Self {
        Self::Dense(network)
    }
}

impl<T> From<ConvolutionNetwork<T>> for AnyNetwork<T> {
    fn from(network: ConvolutionNetwork<T>) -> Self {
        Self::Convolutions(network)
    }
}

/// The same expression for the network of either kind.
macro_rules! either {
    ($any:expr, $network:ident => $result:expr) => {
        match $any {
            AnyNetwork::Dense($network) => $result,
            AnyNetwork::Convolutions($network) => $result,
        }
    };
}

impl<T: Element> AnyNetwork<T> {
    /// One step on a batch: one example after another.
    ///
    /// # Errors
    /// Those of [`Network::step`] and [`ConvolutionNetwork::step`].
    pub fn step(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Step<T>, Error> {
        either!(self, network => network.step(inputs, targets))
    }

    /// Loss and accuracy over any number of examples.
    ///
    /// # Errors
    /// Those of [`Network::evaluate`] and [`ConvolutionNetwork::evaluate`].
    pub fn evaluate(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Evaluation<T>, Error> {
        either!(self, network => network.evaluate(inputs, targets))
    }

    /// The outputs for one example.
    ///
    /// # Errors
    /// Those of [`Network::predict`] and [`ConvolutionNetwork::predict`].
    pub fn predict(&mut self, input: &[T]) -> Result<Vec<T>, Error> {
        either!(self, network => network.predict(input))
    }

    /// The outputs for each of some examples, one after another: `visit(example, outputs)`.
    ///
    /// # Errors
    /// Those of [`predict`](Self::predict); [`Error::Length`] for a part of an example.
    pub fn predict_each(
        &mut self,
        inputs: &[T],
        mut visit: impl FnMut(usize, &[T]) + Send,
    ) -> Result<(), Error> {
        either!(self, network => {
            let width = network.net().inputs();
            network.with(|learner| {
                for (example, input) in inputs.chunks(width).enumerate() {
                    visit(example, learner.predict(input)?);
                }
                Ok(())
            })
        })
    }

    /// Values of an output.
    #[must_use]
    pub fn outputs(&self) -> usize {
        either!(self, network => network.net().outputs())
    }

    /// The loss.
    #[must_use]
    pub fn loss(&self) -> Loss {
        either!(self, network => network.net().loss())
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config<T> {
        either!(self, network => network.config())
    }

    /// Counters so far.
    #[must_use]
    pub fn progress(&self) -> &Progress<T> {
        either!(self, network => network.progress())
    }

    /// Weights and layer states: what a checkpoint holds.
    #[must_use]
    pub fn state(&self) -> &[T] {
        either!(self, network => network.state())
    }

    /// Bytes of weights, state and workspace.
    #[must_use]
    pub fn bytes(&self) -> usize {
        either!(self, network => network.bytes())
    }
}
