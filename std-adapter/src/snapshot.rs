//! Snapshots of a device: a network out of one, and into one, bit for bit.
//!
//! The format and its checks are core's ([`ekfac::snapshot`]); what it leaves out, the settings and the largest batch, the caller
//! brings. *Cost*: the bytes once in memory. *Failure*: core's.

use crate::{AnyNetwork, ConvolutionNetwork, kernels::Element, network::Network};
use ekfac::{
    Config, Progress,
    snapshot::{self, Refusal, Snapshot},
};

/// Why a snapshot did not become a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The snapshot was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The settings or the capacity were refused.
    #[error("the network of the snapshot is refused: {0}")]
    Network(#[from] ekfac::Error),
}

impl<T: Element> Network<T> {
    /// The bytes of a snapshot, which [`Learner::restore_from`](ekfac::Learner::restore_from) goes on from on a device.
    ///
    /// # Errors
    /// [`Refusal`] for a network that could not be restored, such as one with a weight that is NaN.
    ///
    /// ```
    /// use ekfac::{Activation::Identity, Config, Dense, Loss};
    /// use ekfac_std::Network;
    /// let config = Config::default();
    /// let mut network = Network::<f32>::new(vec![Dense::new(4, 2, Identity)], Loss::SquaredError, config, 1, 1)?;
    /// let bytes = network.snapshot()?;
    /// let again = Network::<f32>::from_snapshot(&bytes, config, 1)?;
    /// assert_eq!(again.state(), network.state());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![0; snapshot::length::<T>(&self.net())];
        self.with(|learner| Ok(learner.save_into(&mut bytes)))??;
        Ok(bytes)
    }

    /// The network of a snapshot, with these settings, for batches of up to `capacity` examples.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_snapshot(bytes: &[u8], config: Config<T>, capacity: usize) -> Result<Self, SnapshotError> {
        let snapshot = whole::<T>(bytes, false)?;
        let layers = snapshot.layers().collect();
        let mut network = Self::resume(layers, snapshot.loss(), config, Progress::new(0), capacity, &[])?;
        network.with(|learner| Ok(learner.restore_from(bytes)))??;
        Ok(network)
    }
}

impl<T: Element> ConvolutionNetwork<T> {
    /// The bytes of a snapshot, which
    /// [`ConvolutionLearner::restore_from`](ekfac::convolution::ConvolutionLearner::restore_from) goes on from on a device: bit for bit
    /// where it has the same [`columns`](Self::columns), [`sharing`](Self::sharing) and core's kernels.
    ///
    /// # Errors
    /// [`Refusal`] for a network that could not be restored, such as one with a weight that is NaN.
    pub fn snapshot(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let mut bytes = vec![0; snapshot::length_of_convolutions::<T>(&self.net())];
        self.with(|learner| Ok(learner.save_into(&mut bytes)))??;
        Ok(bytes)
    }

    /// The network of a snapshot, with these settings, for batches of up to `capacity` examples.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_snapshot(bytes: &[u8], config: Config<T>, capacity: usize) -> Result<Self, SnapshotError> {
        let snapshot = whole::<T>(bytes, true)?;
        let layers = snapshot.convolutions().collect();
        let mut network = Self::resume(layers, snapshot.loss(), config, Progress::new(0), capacity, &[])?;
        network.with(|learner| Ok(learner.restore_from(bytes)))??;
        Ok(network)
    }
}

impl<T: Element> AnyNetwork<T> {
    /// The bytes of a snapshot of either kind of network.
    ///
    /// # Errors
    /// [`Refusal`] for a network that could not be restored.
    pub fn snapshot(&mut self) -> Result<Vec<u8>, SnapshotError> {
        match self {
            AnyNetwork::Dense(network) => network.snapshot(),
            AnyNetwork::Convolutions(network) => network.snapshot(),
        }
    }

    /// The network of a snapshot of either kind, with these settings, for batches of up to `capacity` examples.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_snapshot(bytes: &[u8], config: Config<T>, capacity: usize) -> Result<Self, SnapshotError> {
        if Snapshot::new(bytes)?.has_convolutions() {
            ConvolutionNetwork::from_snapshot(bytes, config, capacity).map(AnyNetwork::Convolutions)
        } else {
            Network::from_snapshot(bytes, config, capacity).map(AnyNetwork::Dense)
        }
    }
}

/// A whole snapshot of this kind of network, in these words.
fn whole<T: Element>(bytes: &[u8], has_convolutions: bool) -> Result<Snapshot<'_>, Refusal> {
    let snapshot = Snapshot::new(bytes)?;
    let (expected, found) = (T::WIDTH, snapshot.word_bytes());
    if expected != found {
        return Err(Refusal::Scalar { expected, found });
    }
    if snapshot.has_convolutions() == has_convolutions { Ok(snapshot) } else { Err(Refusal::Kind) }
}
