//! A run of the learner of convolutions as a snapshot, and back: what of [`snapshot`](crate::snapshot) needs its memory.
//!
//! *Invariant*: the settings that decide bits, [`Sharing`](super::Sharing) and the columns at a time included, are the program's and not the
//! snapshot's. *Cost* and *failure*: those of [`snapshot`](crate::snapshot).

use super::{ConvolutionLearner, ConvolutionNet};
use crate::{
    Initialization, Loss, Progress, Scalar,
    snapshot::{
        CONVOLUTION_RECORDS, CONVOLUTION_VERSION, LAYER_RECORD, Refusal, SnapshotError, decode, refusal,
        run::{self, Extent, Layers, sealed::Parts},
    },
};

impl Layers for ConvolutionNet<'_> {
    const VERSION: u16 = CONVOLUTION_VERSION;
    const RECORDS: usize = CONVOLUTION_RECORDS;

    fn count(&self) -> usize {
        self.layers().len()
    }

    fn loss(&self) -> Loss {
        ConvolutionNet::loss(self)
    }

    fn words(&self) -> usize {
        self.state_words()
    }

    fn record(&self, layer: usize, part: usize) -> Option<[u8; LAYER_RECORD]> {
        self.layers().get(layer)?.record(part)
    }

    fn extent(&self, layer: usize) -> Option<Extent> {
        let layer = self.layers().get(layer)?;
        let words = layer.convolution().shape().words();
        Some(Extent { weights: layer.parameters(), groups: layer.groups(), words })
    }
}

impl<'a, T: Scalar> Parts<T> for ConvolutionLearner<'a, T> {
    type Net = ConvolutionNet<'a>;

    fn layers(&self) -> &ConvolutionNet<'a> {
        &self.net
    }

    fn counters(&self) -> &Progress<T> {
        &self.progress
    }

    fn words(&self) -> &[T] {
        self.state()
    }

    fn parts(&mut self) -> (&ConvolutionNet<'a>, &mut [T]) {
        (&self.net, self.memory.state)
    }

    fn take_up(&mut self, progress: Progress<T>) {
        self.progress = progress;
    }

    fn start_afresh(&mut self, seed: u64) {
        self.progress = Progress::new(seed);
        self.memory.state.fill(T::ZERO);
        let Ok(()) = self.memory.start() else { return };
        self.mark_outputs();
        self.initialize(Initialization::GlorotUniform);
    }
}

impl<T: Scalar> ConvolutionLearner<'_, T> {
    /// Writes the run as a [snapshot](crate::snapshot): `write` is handed its
    /// [`length_of_convolutions`](crate::snapshot::length_of_convolutions) bytes one after another, in pieces of
    /// [`CHUNK`](crate::snapshot::CHUNK), the last one shorter. The settings are not part of it.
    ///
    /// # Errors
    /// [`Refusal`] for a run that could not be restored, before the first write; whatever `write` fails with.
    pub fn save<E>(&self, write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), SnapshotError<E>> {
        run::save(self, write)
    }

    /// The same into memory; returns the number of bytes.
    ///
    /// # Errors
    /// [`Refusal`], [`Refusal::Room`] for fewer bytes included: before any write.
    ///
    /// ```
    /// use ekfac::{Activation::Tanh, Config, Loss, snapshot};
    /// use ekfac::convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet};
    /// const FILTERS: Convolution = Convolution::new_1d(2, Axis::new(8, 3), 4);
    /// const LAYERS: [ConvolutionLayer; 1] = [ConvolutionLayer::new(FILTERS, Tanh)];
    /// const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SquaredError);
    /// let (mut memory, mut other) = ([0.0_f32; NET.words(1, 4)], [0.0_f32; NET.words(1, 4)]);
    /// let mut bytes = [0; snapshot::length_of_convolutions::<f32>(&NET)];
    /// ConvolutionLearner::new(NET, Config::default(), 7, 1, 4, &mut memory)?.save_into(&mut bytes)?;
    /// let mut learner = ConvolutionLearner::new(NET, Config::default(), 8, 1, 4, &mut other)?;
    /// learner.restore_from(&bytes)?;
    /// assert_eq!(learner.progress().seed, 7);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn save_into(&self, bytes: &mut [u8]) -> Result<usize, Refusal> {
        run::save_into(self, bytes)
    }

    /// Takes over the run of a snapshot of `length` bytes; `read` is asked for it as by
    /// [`Learner::restore`](crate::Learner::restore). With the same settings, sharing and columns it goes on bit for bit.
    ///
    /// # Errors
    /// [`Refusal`] or what `read` fails with, before any write. Should the medium fail or change between the two readings, the
    /// learner is a fresh one from the snapshot's seed.
    pub fn restore<E>(
        &mut self,
        length: usize,
        read: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), SnapshotError<E>> {
        run::restore(self, length, read)
    }

    /// The same from memory, a flash that the bus maps included.
    ///
    /// # Errors
    /// [`Refusal`], before any write.
    pub fn restore_from(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.restore(bytes.len(), decode::from_slice(bytes)).map_err(refusal)
    }
}
