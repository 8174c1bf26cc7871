//! A learner's run as a snapshot, and back: what of [`snapshot`](crate::snapshot) needs the learner's memory.

use super::{Initialization, Learner, Loss, Net};
use crate::{
    Coordinates, EventLog, LayerMut, Progress, Scalar,
    single::BATCHES,
    snapshot::{
        LAYER_RECORD, Refusal, SnapshotError, VERSION, decode, record, refusal,
        run::{self, Extent, Layers, sealed::Parts},
    },
};

impl Layers for Net<'_> {
    const VERSION: u16 = VERSION;
    const RECORDS: usize = 1;

    fn count(&self) -> usize {
        self.layers().len()
    }

    fn loss(&self) -> Loss {
        Net::loss(self)
    }

    fn words(&self) -> usize {
        self.state_words()
    }

    fn record(&self, layer: usize, _part: usize) -> Option<[u8; LAYER_RECORD]> {
        record::dense(self.layers().get(layer)?)
    }

    fn extent(&self, layer: usize) -> Option<Extent> {
        let shape = self.layers().get(layer)?.shape();
        Some(Extent { weights: shape.parameters(), groups: 1, words: shape.words() })
    }
}

impl<'a, T: Scalar> Parts<T> for Learner<'a, T> {
    type Net = Net<'a>;

    fn layers(&self) -> &Net<'a> {
        &self.net
    }

    fn counters(&self) -> &Progress<T> {
        &self.progress
    }

    fn words(&self) -> &[T] {
        self.state()
    }

    fn parts(&mut self) -> (&Net<'a>, &mut [T]) {
        (&self.net, self.memory.state_mut())
    }

    fn take_up(&mut self, progress: Progress<T>) {
        self.progress = progress;
        self.events = EventLog::default();
    }

    fn start_afresh(&mut self, seed: u64) {
        self.take_up(Progress::new(seed));
        self.clear_state();
    }
}

impl<T: Scalar> Learner<'_, T> {
    /// Writes the run as a [snapshot](crate::snapshot): `write` is handed its [`length`](crate::snapshot::length) bytes one after another, in pieces of
    /// [`CHUNK`](crate::snapshot::CHUNK), the last one shorter. The settings are not part of it.
    ///
    /// # Errors
    /// [`Refusal`] for a run that could not be restored, before the first write; whatever `write` fails with.
    ///
    /// ```
    /// use ekfac::{Config, Dense, Learner, Loss, Net, snapshot};
    /// const LAYERS: [Dense; 1] = ekfac::layers![3 => 2 Tanh];
    /// const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
    /// let mut memory = [0.0_f32; NET.words(1)];
    /// let learner = Learner::new(NET, Config::default(), 7, 1, &mut memory)?;
    /// let mut sent = 0;
    /// learner.save(|bytes| Ok::<(), core::convert::Infallible>(sent += bytes.len())).unwrap();
    /// assert_eq!(sent, snapshot::length::<f32>(&NET));
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    pub fn save<E>(&self, write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), SnapshotError<E>> {
        run::save(self, write)
    }

    /// The same into memory; returns the number of bytes, those of [`length`](crate::snapshot::length).
    ///
    /// # Errors
    /// [`Refusal`], [`Refusal::Room`] for fewer bytes included: before any write.
    ///
    /// ```
    /// use ekfac::{Config, Dense, Learner, Loss, Net, snapshot};
    /// const LAYERS: [Dense; 1] = ekfac::layers![3 => 2 Tanh];
    /// const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
    /// const BYTES: usize = snapshot::length::<f32>(&NET);
    /// let (mut memory, mut other) = ([0.0_f32; NET.words(1)], [0.0_f32; NET.words(1)]);
    /// let mut bytes = [0; BYTES];
    /// Learner::new(NET, Config::default(), 7, 1, &mut memory)?.save_into(&mut bytes)?;
    /// let mut learner = Learner::new(NET, Config::default(), 8, 1, &mut other)?;
    /// learner.restore_from(&bytes)?;
    /// assert_eq!(learner.progress().seed, 7);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn save_into(&self, bytes: &mut [u8]) -> Result<usize, Refusal> {
        run::save_into(self, bytes)
    }

    /// Takes over the run of a snapshot of `length` bytes, and goes on from it bit for bit. `read` fills the given bytes from
    /// the given offset on, a multiple of [`CHUNK`](crate::snapshot::CHUNK), at most that many at a time. It is asked for
    /// everything twice: once to check, once to take over.
    ///
    /// # Errors
    /// [`Refusal`] or what `read` fails with, before any write. Should the medium fail or change between the two readings, the
    /// learner is a fresh one from the snapshot's seed, as after [`Learner::new`].
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

    /// The state words of the start of a run.
    pub(super) fn clear_state(&mut self) {
        self.memory.state_mut().fill(T::ZERO);
        let passes = 1 + Loss::passes(self.config.fisher, self.net.outputs());
        let capacity = self.memory.capacity();
        // Enumerated, the Fisher of a few outputs costs a layer more in the eigenbasis; nothing else does one example at a time but a
        // single output, and little.
        let always = !BATCHES || capacity == 1 && !self.config.fisher.is_exact();
        let diagonal = if self.net.loss.has_diagonal_fisher() { self.net.layers().len() } else { 0 };
        for (index, slot) in self.memory.all().enumerate() {
            let coordinates = if always {
                Coordinates::Eigenbasis
            } else {
                Coordinates::cheaper(slot.dense.shape(), capacity, passes, index == 0)
            };
            let Ok(mut layer) = LayerMut::new(*slot.dense.shape(), slot.into_words().1) else { return };
            layer.marks().set_coordinates(coordinates);
            if index + 1 == diagonal {
                layer.marks().set_output_diagonal(true);
            }
        }
        // In a fresh basis these are W~ as well.
        self.draw_weights(Initialization::GlorotUniform);
    }
}
