//! The owner of a network with convolutions: [`Network`](crate::Network)'s counterpart over core's
//! [`ConvolutionLearner`].
//!
//! ```text
//! columns   fewest that make the shared scratch hold, for every layer with T N = samples in a batch:
//!             2 m n + 2 (m + n) min(samples, 256)          products that are worth their start
//!             s + 2 s^2 + s min(samples, 256), s = n, m    core's short cut for statistics, where samples > 2 s
//!           the short cut's only up to 64 MiB
//! ```
//!
//! Nothing is computed here. *Invariant*: a network is its state words, its [`Progress`], its [`Sharing`] and its columns, which
//! decide where sums are cut: with the four of them a run goes on bit for bit. *Cost*: [`ConvolutionNet::words`] words. *Failure*:
//! core's errors.

use crate::{
    kernels::{Element, Mode, ThreadPool, ThreadPoolBuildError},
    memory::NetworkMemory,
    owner::{self, Products, guarded},
};
use ekfac::{
    Config, Error, Evaluation, Kernels, Loss, Progress, Step, Targets,
    convolution::{ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Sharing},
};
use std::sync::Arc;

/// More columns than these make no product faster.
const ENOUGH_COLUMNS: usize = 256;

/// No file may ask for more: the scratch stays within a multiple of the state.
const MOST_COLUMNS: usize = 65_535;

/// Core wants room for these before it takes the short cut.
const LEAST_COLUMNS: usize = 8;

/// Bytes of scratch that the short cut may ask for.
const MOST_SCRATCH: usize = 64 << 20;

/// A network with convolutions that owns its weights, state and workspace.
///
/// ```
/// use ekfac::{Activation::{Identity, Tanh}, Config, Loss, Targets};
/// use ekfac::convolution::{Axis, Convolution, ConvolutionLayer};
/// let filters = Convolution::new_2d(1, [Axis::new(8, 3).padding(1); 2], 6);
/// let dense = ConvolutionLayer::dense(filters.output_words(), 10, Identity);
/// let layers = vec![ConvolutionLayer::new(filters, Tanh), dense];
/// let loss = Loss::SoftmaxCrossEntropy;
/// let mut network = ekfac_std::ConvolutionNetwork::<f32>::new(layers, loss, Config::default(), 1, 16)?;
/// let step = network.step(&[0.5; 64 * 16], Targets::Classes(&[2; 16]))?;
/// assert!(step.loss > 0.0 && network.predict(&[0.5; 64])?.len() == 10);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub struct ConvolutionNetwork<T> {
    layers: Vec<ConvolutionLayer>,
    loss: Loss,
    config: Config<T>,
    sharing: Sharing,
    progress: Progress<T>,
    capacity: usize,
    columns: usize,
    memory: Vec<T>,
    products: Products<T>,
}

impl<T: Element> ConvolutionNetwork<T> {
    /// A fresh network with Glorot-uniform weights from `seed`, for batches of up to `capacity` examples, with
    /// [`Sharing::Expand`] and the kernels of [`Mode::Fast`] on the caller's thread.
    ///
    /// # Errors
    /// A bad network or setting.
    pub fn new(
        layers: Vec<ConvolutionLayer>,
        loss: Loss,
        config: Config<T>,
        seed: u64,
        capacity: usize,
    ) -> Result<Self, Error> {
        let mut network = Self::resume(layers, loss, config, Progress::new(seed), capacity, &[])?;
        let net = ConvolutionNet::new(&network.layers, loss);
        // Core's fresh learner draws the weights.
        ConvolutionLearner::new(net, config, seed, capacity, network.columns, &mut network.memory)?;
        Ok(network)
    }

    /// A network that goes on from saved state words; none at all for a zero state. Where the saved network had another
    /// [`columns`](Self::columns) or [`sharing`](Self::sharing), set those too.
    ///
    /// # Errors
    /// A bad network or setting, or [`Error::Length`] when there are state words of another number than the network's.
    pub fn resume(
        layers: Vec<ConvolutionLayer>,
        loss: Loss,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        state: &[T],
    ) -> Result<Self, Error> {
        let net = ConvolutionNet::new(&layers, loss);
        net.check()?;
        let columns = columns::<T>(&layers, capacity);
        let memory = owner::memory(state, net.state_words(), net.words(capacity, columns))?;
        let (sharing, products) = (Sharing::default(), Products::default());
        let mut network =
            Self { layers, loss, config, sharing, progress, capacity, columns, memory, products };
        network.with(|_| Ok(()))?;
        Ok(network)
    }

    /// The same with so many columns at a time instead of those chosen for it.
    ///
    /// # Errors
    /// [`Error::Empty`] for 0, [`Error::OutOfRange`] for more than 65,535, [`Error::SizeOverflow`] for more memory than there is.
    pub fn with_columns(self, columns: usize) -> Result<Self, Error> {
        if columns == 0 {
            return Err(Error::Empty { argument: "columns" });
        } else if columns > MOST_COLUMNS {
            return Err(Error::OutOfRange { argument: "columns", index: 0 });
        } else if columns == self.columns {
            return Ok(self);
        }
        let (net, state) = (self.net(), self.state());
        let memory = owner::memory(state, state.len(), net.words(self.capacity, columns))?;
        Ok(Self { memory, columns, ..self })
    }

    /// The same with another way of the locations into the factors.
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
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

    /// Lends the network as core's learner; what that changes is kept. On several threads the work is done within the pool.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn with<R: Send>(
        &mut self,
        work: impl FnOnce(&mut ConvolutionLearner<'_, T>) -> Result<R, Error> + Send,
    ) -> Result<R, Error> {
        match self.products.pool() {
            Some(pool) => pool.install(|| self.lend(work)),
            None => self.lend(work),
        }
    }

    fn lend<R>(
        &mut self,
        work: impl FnOnce(&mut ConvolutionLearner<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let net = ConvolutionNet::new(&self.layers, self.loss);
        let (progress, memory) = (self.progress, &mut self.memory);
        let mut learner =
            ConvolutionLearner::resume(net, self.config, progress, self.capacity, self.columns, memory)?
                .with_kernels(self.products.kernels())
                .with_sharing(self.sharing);
        let result = work(&mut learner);
        self.progress = *learner.progress();
        self.config = *learner.config();
        result
    }

    /// One step on a batch: one example after another.
    ///
    /// # Errors
    /// Those of [`ConvolutionLearner::step`], and [`Error::KernelsFailed`] when a thread panicked.
    pub fn step(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Step<T>, Error> {
        guarded(|| self.with(|learner| learner.step(inputs, targets)))
    }

    /// Loss and accuracy over any number of examples.
    ///
    /// # Errors
    /// Those of [`ConvolutionLearner::evaluate`], and [`Error::KernelsFailed`].
    pub fn evaluate(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Evaluation<T>, Error> {
        guarded(|| self.with(|learner| learner.evaluate(inputs, targets)))
    }

    /// The outputs for one example.
    ///
    /// # Errors
    /// Those of [`ConvolutionLearner::predict`], and [`Error::KernelsFailed`].
    pub fn predict(&mut self, input: &[T]) -> Result<Vec<T>, Error> {
        guarded(|| self.with(|learner| learner.predict(input).map(<[T]>::to_vec)))
    }

    /// The layers and the loss.
    #[must_use]
    pub fn net(&self) -> ConvolutionNet<'_> {
        ConvolutionNet::new(&self.layers, self.loss)
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config<T> {
        &self.config
    }

    /// How the locations enter the factors.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Columns at a time: chosen for the net, the capacity and the scalar, or set.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Counters so far.
    #[must_use]
    pub fn progress(&self) -> &Progress<T> {
        &self.progress
    }

    /// Weights and layer states: what a checkpoint holds.
    #[must_use]
    pub fn state(&self) -> &[T] {
        &self.memory[..self.net().state_words()]
    }

    /// Bytes that a network of these layers will take for batches of up to `capacity` examples, layer by layer, without
    /// allocating them.
    ///
    /// # Errors
    /// A bad network, [`Error::Empty`] for a capacity of 0, [`Error::SizeOverflow`] for more than the machine can address.
    pub fn memory(net: &ConvolutionNet<'_>, capacity: usize) -> Result<NetworkMemory, Error> {
        NetworkMemory::of_convolutions::<T>(net, capacity, columns::<T>(net.layers(), capacity))
    }

    /// Bytes of weights, state and workspace.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.memory.as_slice())
    }
}

/// The columns that the module's rule gives.
fn columns<T>(layers: &[ConvolutionLayer], capacity: usize) -> usize {
    let layers = layers.iter().filter(|layer| layer.parameters() > 0);
    let sizes = layers.map(|layer| {
        let (shape, samples) = (layer.convolution().shape(), layer.convolution().locations());
        // Where A is diagonal, nothing is read as patches.
        let columns = if shape.points() == 0 { 0 } else { shape.columns() };
        (shape.rows(), columns, shape.lines(), samples.saturating_mul(capacity))
    });
    let plain = |m: usize, n: usize, columns: usize| {
        m.saturating_mul(n).saturating_add(m.saturating_add(n).saturating_mul(columns)).saturating_mul(2)
    };
    let short_cut = |size: usize, samples: usize| {
        let words = size.saturating_mul(1 + samples.clamp(LEAST_COLUMNS, ENOUGH_COLUMNS) + 2 * size);
        let is_worth_it = samples > 2 * size && words <= MOST_SCRATCH / size_of::<T>();
        if is_worth_it { words } else { 0 }
    };
    let wanted = sizes.clone().map(|(m, n, lines, samples)| {
        let products = plain(m, n, samples.min(ENOUGH_COLUMNS));
        products.max(short_cut(m, samples)).max(short_cut(lines, samples))
    });
    let wanted = wanted.max().unwrap_or(0);
    // The scratch is that of the layer that has most.
    let enough = sizes.map(|(m, n, ..)| wanted.saturating_sub(plain(m, n, 0)).div_ceil(2 * (m + n)));
    enough.min().unwrap_or(1).clamp(1, MOST_COLUMNS)
}
