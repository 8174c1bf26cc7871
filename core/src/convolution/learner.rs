//! The learner of a network of convolutions.
//!
//! *Invariant*: the step of [`Learner`](crate::Learner), with the same draws, clip, damping and outcomes; weights live in parameter
//! coordinates, and of one location only a layer does what a dense one does. A group counts as a layer of its own where an outcome
//! or an error names one. *Cost*: that of the passes and of [`convolution`](super); memory [`ConvolutionNet::words`]. *Failure*: as the
//! learner's.

use super::{Block, ConvolutionNet, Sharing, body::Network, net::Memory, preconditioner::layer_of};
use crate::{
    Config, Error, Evaluation, Initialization, Kernels, LayerMut, Progress, Reference, Scalar, Shape, Step,
    Targets,
    error::expect_length,
    kernels::Counted,
    net::remote::{self, Body, Stream},
    progress::count,
    snapshot::run::sealed::Parts,
};

/// Trains a network of convolutions by EKFAC on caller-owned memory.
///
/// ```
/// use ekfac::{Activation::{Identity, Tanh}, Config, Loss, Targets};
/// use ekfac::convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet};
/// // Two sensors, sixteen samples; four filters of five taps, every second location; three classes.
/// const FILTERS: Convolution = Convolution::new_1d(2, Axis::new(16, 5).stride(2).padding(2), 4);
/// const LAYERS: [ConvolutionLayer; 2] =
///     [ConvolutionLayer::new(FILTERS, Tanh), ConvolutionLayer::dense(FILTERS.output_words(), 3, Identity)];
/// const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
/// let mut memory = [0.0_f32; NET.words(1, 8)];
/// let mut learner = ConvolutionLearner::new(NET, Config::default(), 7, 1, 8, &mut memory)?;
/// let step = learner.step(&[0.5; 32], Targets::Classes(&[1]))?;
/// assert!(step.loss.is_finite() && learner.predict(&[0.5; 32])?.len() == 3);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub struct ConvolutionLearner<'a, T> {
    pub(super) net: ConvolutionNet<'a>,
    config: Config<T>,
    sharing: Sharing,
    kernels: &'a dyn Kernels<T>,
    pub(super) progress: Progress<T>,
    pub(super) memory: Memory<'a, T>,
}

impl<'a, T: Scalar> ConvolutionLearner<'a, T> {
    /// A fresh learner: Glorot-uniform weights from `seed`, zero biases. `memory` has at least
    /// [`net.words(capacity, columns)`](ConvolutionNet::words) words; batches may have up to `capacity` examples, and patches are read
    /// `columns` at a time.
    ///
    /// # Errors
    /// A bad network or setting, or [`Error::Length`] for too little memory.
    pub fn new(
        net: ConvolutionNet<'a>,
        config: Config<T>,
        seed: u64,
        capacity: usize,
        columns: usize,
        memory: &'a mut [T],
    ) -> Result<Self, Error> {
        let mut learner = Self::resume(net, config, Progress::new(seed), capacity, columns, memory)?;
        learner.start_afresh(seed);
        Ok(learner)
    }

    /// A learner that goes on from state words and [`Progress`] that were saved: bit for bit the run that was not interrupted, with the
    /// same columns.
    ///
    /// # Errors
    /// Those of [`ConvolutionLearner::new`].
    pub fn resume(
        net: ConvolutionNet<'a>,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        columns: usize,
        memory: &'a mut [T],
    ) -> Result<Self, Error> {
        net.check()?;
        config.check()?;
        for (argument, count) in [("capacity", capacity), ("columns", columns)] {
            if count == 0 {
                return Err(Error::Empty { argument });
            }
        }
        let mut memory = Memory::new(&net, capacity, columns, memory)?;
        memory.start()?;
        Ok(Self { net, config, sharing: Sharing::Expand, kernels: &Reference, progress, memory })
    }

    /// The same with other kernels.
    #[must_use]
    pub fn with_kernels(self, kernels: &'a dyn Kernels<T>) -> Self {
        Self { kernels, ..self }
    }

    /// The same with another way of the locations into the factors.
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
    }

    /// The network.
    pub fn net(&self) -> &ConvolutionNet<'a> {
        &self.net
    }

    /// The settings.
    pub fn config(&self) -> &Config<T> {
        &self.config
    }

    /// Other settings from the next step on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; the old settings stay.
    pub fn set_config(&mut self, config: Config<T>) -> Result<(), Error> {
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// Says of the last layer's groups that B is diagonal, where it is.
    pub(super) fn mark_outputs(&mut self) {
        let (true, Some(last)) = (self.net.loss().has_diagonal_fisher(), self.memory.slots(0).0.last())
        else {
            return;
        };
        let convolution = last.layer.convolution();
        for state in last.state.chunks_exact_mut(convolution.shape().words()) {
            LayerMut::over(convolution.shape(), state).marks().set_output_diagonal(true);
        }
    }

    /// Counters so far; with [`state`](Self::state) all that a checkpoint needs.
    pub fn progress(&self) -> &Progress<T> {
        &self.progress
    }

    /// Weights and layer states, [`ConvolutionNet::state_words`] words.
    pub fn state(&self) -> &[T] {
        self.memory.state
    }

    /// Draws all weights anew from the seed: those of an embedding for one input a token; scales are 1 and shifts 0.
    pub fn initialize(&mut self, initialization: Initialization) {
        for (index, slot) in self.memory.slots(0).0.enumerate() {
            let shape = slot.layer.convolution().shape();
            // As in the dense learner: streams apart from those of the steps.
            let mut stream = Stream::new(!self.progress.seed, index as u64);
            let block = slot.layer.convolution().block();
            // A token is one input among as many as there are others.
            let token = Shape::new(1, shape.rows()).without_bias();
            let shape = if block == Block::DiagonalInput { token } else { shape };
            if block == Block::Diagonal {
                let scales = slot.layer.convolution().channels();
                slot.weights.fill(T::ZERO);
                slot.weights.iter_mut().take(scales).for_each(|scale| *scale = T::ONE);
                continue;
            }
            for weights in slot.weights.chunks_exact_mut(shape.parameters().max(1)) {
                initialization.fill(&shape, &mut stream, weights);
            }
        }
    }

    /// The weights of one layer, group after group ([`Convolution`](super::Convolution)), to read and to write.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist.
    pub fn weights(&mut self, layer: usize) -> Result<&mut [T], Error> {
        let missing = Error::OutOfRange { argument: "layer", index: layer };
        self.memory.slots(0).0.nth(layer).map(|slot| slot.weights).ok_or(missing)
    }

    /// The weights of all layers, poolings' empty ones too, all borrowed at once.
    pub fn iter_weights(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.memory.slots(0).0.map(|slot| slot.weights)
    }

    /// The EKFAC state of one group of a layer. Its A is a sum over locations ([module](super)).
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer or a group that does not exist.
    pub fn layer(&mut self, layer: usize, group: usize) -> Result<LayerMut<'_, T>, Error> {
        let missing = Error::OutOfRange { argument: "layer", index: layer };
        let slot = self.memory.slots(0).0.nth(layer).ok_or(missing)?;
        layer_of(slot.layer.convolution(), slot.state, group)
    }

    /// One step on a batch: `inputs` is inputs x N, one column an example, N from 1 to the capacity.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`], [`Error::OutOfRange`] for inputs and targets that do not fit, before any write;
    /// [`Error::RefreshFailed`].
    pub fn step(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Step<T>, Error> {
        let batch = self.check_batch(inputs, &targets)?;
        let Self { net, config, sharing, kernels, progress, memory } = self;
        let mut body = at_work(memory, net, *kernels, config, *sharing, inputs, batch);
        remote::step_checked(&mut body, *kernels, config, progress, inputs, targets, batch)
    }

    /// The outputs for one example.
    ///
    /// # Errors
    /// [`Error::Length`] for a wrong width, [`Error::OutOfRange`] for a token that the vocabulary does not have.
    pub fn predict(&mut self, input: &[T]) -> Result<&[T], Error> {
        expect_length("input", self.net.inputs(), input.len())?;
        self.check_tokens(input)?;
        let Self { net, config, sharing, kernels, memory, .. } = self;
        at_work(memory, net, *kernels, config, *sharing, input, 1).forward(1);
        let last = self.memory.slots(1).0.last().ok_or(Error::Empty { argument: "layers" })?;
        Ok(last.outputs)
    }

    /// Loss and accuracy over any number of examples. No state changes.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`], [`Error::OutOfRange`] for data that do not fit.
    pub fn evaluate(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Evaluation<T>, Error> {
        let examples = self.check_examples(inputs, &targets)?;
        let (width, outputs) = (self.net.inputs().max(1), self.net.outputs());
        let capacity = self.memory.capacity();
        let mut evaluation = Evaluation { loss: T::ZERO, correct: None, examples };
        let Self { net, config, sharing, kernels, memory, .. } = self;
        for (index, inputs) in inputs.chunks((width * capacity).max(1)).enumerate() {
            let batch = inputs.len() / width;
            let targets = targets.slice(index * capacity, batch, outputs);
            let mut body = at_work(memory, net, *kernels, config, *sharing, inputs, batch);
            body.forward(batch);
            let (loss, found) = (net.loss(), body.outputs(batch));
            evaluation.loss += loss.sum(found, targets, outputs);
            if let Some(correct) = loss.correct(found, targets, outputs) {
                evaluation.correct = Some(evaluation.correct.unwrap_or(0) + correct);
            }
        }
        evaluation.loss /= T::from_usize(examples);
        Ok(evaluation)
    }

    /// The mean gradient of a batch, all layers one after another in the layout of their weights, into `out`
    /// ([`ConvolutionNet::parameters`] words); returns the mean loss. For other optimisers and for tests; no state changes.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`], [`Error::OutOfRange`] for data that do not fit.
    pub fn mean_gradient(
        &mut self,
        inputs: &[T],
        targets: Targets<'_, T>,
        out: &mut [T],
    ) -> Result<T, Error> {
        let batch = self.check_batch(inputs, &targets)?;
        expect_length("out", self.net.parameters(), out.len())?;
        let Self { net, config, sharing, kernels, progress, memory } = self;
        let mut body = at_work(memory, net, *kernels, config, *sharing, inputs, batch);
        body.forward(batch);
        let loss = body.loss(targets, batch) / T::from_usize(batch);
        body.backward(targets, batch);
        body.mean_gradients(out);
        count(&mut progress.operations, body.operations());
        Ok(loss)
    }

    /// The capacity, and words of scratch.
    pub(super) fn room(&mut self) -> (usize, usize) {
        (self.memory.capacity(), self.memory.slots(0).1.len())
    }

    /// How the locations enter the factors.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    fn check_batch(&self, inputs: &[T], targets: &Targets<'_, T>) -> Result<usize, Error> {
        let batch = self.check_examples(inputs, targets)?;
        if batch > self.memory.capacity() {
            let expected = self.memory.capacity() * self.net.inputs();
            return Err(Error::Length { argument: "inputs", expected, found: inputs.len() });
        }
        Ok(batch)
    }

    fn check_examples(&self, inputs: &[T], targets: &Targets<'_, T>) -> Result<usize, Error> {
        // No net that passed its check has an input of no width; `max` says so to the compiler.
        let width = self.net.inputs().max(1);
        let examples = inputs.len() / width;
        if inputs.is_empty() {
            return Err(Error::Empty { argument: "inputs" });
        }
        expect_length("inputs", examples.max(1) * width, inputs.len())?;
        targets.check(&self.net.loss(), self.net.outputs(), examples)?;
        self.check_tokens(inputs)?;
        Ok(examples)
    }

    /// Refuses inputs of an embedding that are no tokens.
    fn check_tokens(&self, inputs: &[T]) -> Result<(), Error> {
        self.net
            .layers()
            .first()
            .map_or(Ok(()), |layer| layer.convolution().check_tokens("inputs", 0, inputs))
    }
}

/// The memory at work on a batch.
fn at_work<'r, 'a, T: Scalar>(
    memory: &'r mut Memory<'a, T>,
    net: &'r ConvolutionNet<'a>,
    kernels: &'r dyn Kernels<T>,
    config: &Config<T>,
    sharing: Sharing,
    inputs: &'r [T],
    batch: usize,
) -> Network<'r, 'a, T> {
    let (counted, fisher) = (Counted::new(kernels), config.fisher);
    Network { memory, net, counted, fisher, sharing, inputs, batch, measured: 0..0, finite: true }
}
