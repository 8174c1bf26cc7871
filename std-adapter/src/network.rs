//! Owners: a layer and a network that hold their memory in a `Vec` and hand out core's views.
//!
//! Nothing is computed here. *Invariant*: a [`Network`] is its state words and its [`Progress`]; both go into a
//! [checkpoint](crate::checkpoint) and come back bit for bit. *Cost*: [`Net::words`] words. *Failure*: core's errors.

use crate::{
    kernels::{Element, Mode, ThreadPool, ThreadPoolBuildError},
    memory::NetworkMemory,
    owner::{self, Products, guarded},
};
use ekfac::{
    Config, Coordinates, Dense, Error, Evaluation, Event, Kernels, LayerMut, Learner, Loss, MatrixMut, Net,
    Progress, Scalar, Shape, Step, Targets,
};
use std::{collections::VecDeque, sync::Arc};

/// The state of one layer, for a training loop of the user's own: view it and bind it to a
/// [`Preconditioner`](ekfac::Preconditioner).
///
/// ```
/// use ekfac::{Config, MatrixRef, Preconditioner, Progress, Shape};
/// let shape = Shape::new(300, 100);
/// let mut layer = ekfac_std::OwnedLayer::<f32>::new(shape)?;
/// let mut workspace = vec![0.0; Preconditioner::<f32>::workspace_words(&shape, 32)];
/// let (config, mut progress) = (Config::paper(0.1, 1e-2, 10), Progress::new(0));
/// let mut ekfac = Preconditioner::new(layer.view()?, &config, &mut progress, &mut workspace);
/// let (activations, gradients) = (vec![0.1; 300 * 32], vec![0.2; 100 * 32]);
/// ekfac.observe(MatrixRef::new(&activations, 300, 32)?, MatrixRef::new(&gradients, 100, 32)?)?;
/// # Ok::<(), ekfac::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OwnedLayer<T> {
    shape: Shape,
    words: Vec<T>,
}

impl<T: Scalar> OwnedLayer<T> {
    /// A fresh layer.
    ///
    /// # Errors
    /// A shape that is zero or overflows.
    pub fn new(shape: Shape) -> Result<Self, Error> {
        shape.check()?;
        Ok(Self { shape, words: vec![T::ZERO; shape.words()] })
    }

    /// The view that does the work.
    ///
    /// # Errors
    /// None once the layer exists.
    pub fn view(&mut self) -> Result<LayerMut<'_, T>, Error> {
        LayerMut::new(self.shape, &mut self.words)
    }

    /// The words, to save and to restore.
    pub fn words_mut(&mut self) -> &mut [T] {
        &mut self.words
    }
}

/// So many events are kept.
pub const MOST_EVENTS: usize = 1000;

/// A network that owns its weights, state and workspace.
///
/// ```
/// use ekfac::{Activation::{Identity, Tanh}, Config, Dense, Loss, Targets};
/// let layers = vec![Dense::new(4, 8, Tanh), Dense::new(8, 3, Identity)];
/// let mut network = ekfac_std::Network::<f32>::new(layers, Loss::SoftmaxCrossEntropy, Config::default(), 1, 16)?;
/// let step = network.step(&[0.5; 4 * 16], Targets::Classes(&[2; 16]))?;
/// assert!(step.loss > 0.0);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub struct Network<T> {
    layers: Vec<Dense>,
    loss: Loss,
    config: Config<T>,
    progress: Progress<T>,
    events: VecDeque<Event>,
    capacity: usize,
    memory: Vec<T>,
    products: Products<T>,
}

impl<T: Element> Network<T> {
    /// A fresh network with Glorot-uniform weights from `seed`, for batches of up to `capacity` examples, with
    /// the kernels of [`Mode::Fast`] on the caller's thread.
    ///
    /// # Errors
    /// A bad network or setting.
    pub fn new(
        layers: Vec<Dense>,
        loss: Loss,
        config: Config<T>,
        seed: u64,
        capacity: usize,
    ) -> Result<Self, Error> {
        let mut network = Self::resume(layers, loss, config, Progress::new(seed), capacity, &[])?;
        // Core's fresh learner draws the weights and chooses their coordinates.
        Learner::new(Net::new(&network.layers, loss), config, seed, capacity, &mut network.memory)?;
        Ok(network)
    }

    /// A network that goes on from saved state words; none at all for a zero state.
    ///
    /// # Errors
    /// A bad network or setting, or [`Error::Length`] when there are state words of another number than the network's.
    pub fn resume(
        layers: Vec<Dense>,
        loss: Loss,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        state: &[T],
    ) -> Result<Self, Error> {
        let net = Net::new(&layers, loss);
        net.check()?;
        let memory = owner::memory(state, net.state_words(), net.words(capacity))?;
        let (events, products) = (VecDeque::new(), Products::default());
        let mut network = Self { layers, loss, config, progress, events, capacity, memory, products };
        network.with(|_| Ok(()))?;
        Ok(network)
    }

    /// The same with core's own bits, on every machine and any number of threads: [`Mode::Deterministic`].
    #[must_use]
    pub fn deterministic(self) -> Self {
        self.with_mode(Mode::Deterministic)
    }

    /// The same in another mode.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { products: self.products.with_mode(mode), ..self }
    }

    /// The same on so many threads of a pool of its own; 1 is the caller's thread, 0 one for each core.
    ///
    /// ```
    /// use ekfac::{Activation::{Identity, Tanh}, Config, Dense, Loss};
    /// let layers = vec![Dense::new(784, 100, Tanh), Dense::new(100, 10, Identity)];
    /// let network = ekfac_std::Network::<f32>::new(layers, Loss::SoftmaxCrossEntropy, Config::default(), 1, 16)?;
    /// let network = network.deterministic().with_threads(2)?;
    /// assert_eq!(network.threads(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn with_threads(self, threads: usize) -> Result<Self, ThreadPoolBuildError> {
        Ok(Self { products: self.products.with_threads(threads)?, ..self })
    }

    /// The same on the threads of a pool, which several networks can share.
    #[must_use]
    pub fn with_pool(self, pool: Arc<ThreadPool>) -> Self {
        Self { products: self.products.with_pool(pool), ..self }
    }

    /// Threads that share the products of a step.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.products.threads()
    }

    /// The same with other kernels.
    #[must_use]
    pub fn with_kernels(self, kernels: Box<dyn Kernels<T> + Send>) -> Self {
        Self { products: self.products.with_kernels(kernels), ..self }
    }

    /// Lends the network as core's learner; what that changes is kept. On several threads the work is done within the pool, so
    /// that nothing is handed over to it and waited for at every product.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn with<R: Send>(
        &mut self,
        work: impl FnOnce(&mut Learner<'_, T>) -> Result<R, Error> + Send,
    ) -> Result<R, Error> {
        match self.products.pool() {
            Some(pool) => pool.install(|| self.lend(work)),
            None => self.lend(work),
        }
    }

    fn lend<R>(&mut self, work: impl FnOnce(&mut Learner<'_, T>) -> Result<R, Error>) -> Result<R, Error> {
        let net = Net::new(&self.layers, self.loss);
        let mut learner = Learner::resume(net, self.config, self.progress, self.capacity, &mut self.memory)?
            .with_kernels(self.products.kernels());
        let result = work(&mut learner);
        self.progress = *learner.progress();
        self.config = *learner.config();
        self.events.extend(learner.events().oldest_ordered());
        let surplus = self.events.len().saturating_sub(MOST_EVENTS);
        self.events.drain(..surplus);
        result
    }

    /// One step on a batch: one example after another.
    ///
    /// # Errors
    /// Those of [`Learner::step`], and [`Error::KernelsFailed`] when a thread panicked.
    pub fn step(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Step<T>, Error> {
        guarded(|| self.with(|learner| learner.step(inputs, targets)))
    }

    /// Loss and accuracy over any number of examples.
    ///
    /// # Errors
    /// Those of [`Learner::evaluate`].
    pub fn evaluate(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Evaluation<T>, Error> {
        guarded(|| self.with(|learner| learner.evaluate(inputs, targets)))
    }

    /// The outputs for one example.
    ///
    /// # Errors
    /// Those of [`Learner::predict`].
    pub fn predict(&mut self, input: &[T]) -> Result<Vec<T>, Error> {
        guarded(|| self.with(|learner| learner.predict(input).map(<[T]>::to_vec)))
    }

    /// W of one layer, m x n, column-major, bias last, in parameter coordinates wherever it lives.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist.
    pub fn weights(&mut self, layer: usize) -> Result<Vec<T>, Error> {
        let shape = self.layers.get(layer).map(|dense| *dense.shape());
        let shape = shape.ok_or(Error::OutOfRange { argument: "layer", index: layer })?;
        let mut weights = vec![T::ZERO; shape.parameters()];
        let out = MatrixMut::new(&mut weights, shape.rows(), shape.columns())?;
        self.with(|learner| learner.weights(layer, out))?;
        Ok(weights)
    }

    /// Where the weights of each layer live: chosen by the cost model for the capacity, or set on
    /// [`Learner::set_coordinates`].
    #[must_use]
    pub fn coordinates(&self) -> Vec<Coordinates> {
        let mut rest = self.state();
        let layer = |dense: &Dense| {
            let (layer, tail) = rest[dense.shape().parameters()..].split_at(dense.shape().words());
            rest = tail;
            Coordinates::of(layer)
        };
        self.layers.iter().map(layer).collect()
    }

    /// The layers and the loss.
    #[must_use]
    pub fn net(&self) -> Net<'_> {
        Net::new(&self.layers, self.loss)
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config<T> {
        &self.config
    }

    /// Counters so far.
    #[must_use]
    pub fn progress(&self) -> &Progress<T> {
        &self.progress
    }

    /// What was out of the ordinary: the last [`MOST_EVENTS`] events, oldest first. [`Progress`] counts all of them.
    #[must_use]
    pub fn events(&self) -> &VecDeque<Event> {
        &self.events
    }

    /// Weights and layer states: what a checkpoint holds.
    #[must_use]
    pub fn state(&self) -> &[T] {
        &self.memory[..self.net().state_words()]
    }

    /// Bytes that a network of these layers will take for batches of up to `capacity` examples, layer by layer, without
    /// allocating them.
    ///
    /// ```
    /// use ekfac::{Activation::{Identity, Tanh}, Config, Dense, Loss, Net};
    /// use ekfac_std::Network;
    /// let layers = vec![Dense::new(784, 1000, Tanh), Dense::new(1000, 10, Identity)];
    /// let memory = Network::<f32>::memory(&Net::new(&layers, Loss::SoftmaxCrossEntropy), 200)?;
    /// assert_eq!(memory.layers[0].weights, 4 * 785 * 1000);
    /// let network = Network::<f32>::new(layers, Loss::SoftmaxCrossEntropy, Config::default(), 1, 200)?;
    /// assert_eq!(memory.total(), network.bytes());
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    ///
    /// # Errors
    /// A bad network, [`Error::Empty`] for a capacity of 0, [`Error::SizeOverflow`] for more than the machine can address.
    pub fn memory(net: &Net<'_>, capacity: usize) -> Result<NetworkMemory, Error> {
        NetworkMemory::of::<T>(net, capacity)
    }

    /// Bytes of weights, state and workspace.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.memory.as_slice())
    }
}
