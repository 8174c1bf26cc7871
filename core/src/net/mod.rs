//! Dense networks: layers, losses, and a [`Learner`] that trains them on caller-owned memory.
//!
//! ```text
//! z_l = W_l [h_(l-1); 1],  h_l = activation(z_l),  loss(h_L, target)
//! ```
//!
//! A network is plain data that a constant can hold; its exact RAM is known at compile time:
//!
//! ```
//! use ekfac::{Activation::{Identity, Tanh}, Config, Dense, Learner, Loss, Net, Targets};
//!
//! const LAYERS: [Dense; 2] = ekfac::layers![64 => 32 Tanh => 10 Identity];
//! const NET: Net<'static> = Net::new(&LAYERS, Loss::SoftmaxCrossEntropy);
//! const WORDS: usize = NET.words(1); // weights, state and workspace for one example at a time
//! static MEMORY: std::sync::Mutex<[f32; WORDS]> = std::sync::Mutex::new([0.0; WORDS]);
//!
//! let mut memory = MEMORY.lock().unwrap();
//! let mut learner = Learner::new(NET, Config::default(), 7, 1, &mut *memory)?;
//! let step = learner.step(&[0.5; 64], Targets::Classes(&[3]))?;
//! assert!(step.loss.is_finite());
//! # Ok::<(), ekfac::Error>(())
//! ```

mod activation;
pub(crate) mod cost;
mod initialization;
mod learner;
mod loss;
mod memory;
mod passes;
mod random;
mod rejection;
pub mod remote;
mod rooms;
mod saved;
mod weights;

pub use activation::Activation;
pub use initialization::Initialization;
pub use learner::{Evaluation, Learner, Step};
pub use loss::{Loss, Targets};

use crate::{Error, Shape};

/// Most layers in a [`LayerList`].
pub const MAX_LAYERS: usize = 16;

/// A list of layers whose number is known only at run time.
pub type LayerList = heapless::Vec<Dense, MAX_LAYERS>;

/// A dense layer: a shape and an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Dense {
    shape: Shape,
    activation: Activation,
}

impl Dense {
    /// A layer with a bias.
    pub const fn new(inputs: usize, outputs: usize, activation: Activation) -> Self {
        Self::with_shape(Shape::new(inputs, outputs), activation)
    }

    /// A layer of any shape.
    pub const fn with_shape(shape: Shape, activation: Activation) -> Self {
        Self { shape, activation }
    }

    /// Its shape.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its activation.
    pub const fn activation(&self) -> Activation {
        self.activation
    }
}

/// Layers with biases from their sizes, input first: all activations `hidden`, the last one `output`.
///
/// # Errors
/// [`Error::Empty`] for fewer than two sizes or a zero size, [`Error::OutOfRange`] for more than [`MAX_LAYERS`] layers.
///
/// ```
/// use ekfac::Activation::{Identity, Tanh};
/// let layers = ekfac::net::dense_layers(&[64, 32, 10], Tanh, Identity)?;
/// assert_eq!(layers.as_slice(), &ekfac::layers![64 => 32 Tanh => 10 Identity]);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub fn dense_layers(sizes: &[usize], hidden: Activation, output: Activation) -> Result<LayerList, Error> {
    let count = sizes.len().saturating_sub(1);
    if count == 0 {
        return Err(Error::Empty { argument: "sizes" });
    }
    let mut layers = LayerList::new();
    for (index, (inputs, outputs)) in sizes.iter().zip(sizes.iter().skip(1)).enumerate() {
        let activation = if index + 1 == count { output } else { hidden };
        let layer = Dense::new(*inputs, *outputs, activation);
        layer.shape.check()?;
        layers.push(layer).map_err(|_| Error::OutOfRange { argument: "sizes", index })?;
    }
    Ok(layers)
}

/// An array of [`Dense`] layers as a constant expression: `layers![64 => 32 Tanh => 10 Identity]`.
#[macro_export]
macro_rules! layers {
    (@rest [$($done:expr,)*] $inputs:expr;) => { [$($done),*] };
    (@rest [$($done:expr,)*] $inputs:expr; => $outputs:tt $activation:ident $($rest:tt)*) => {
        $crate::layers!(@rest
            [$($done,)* $crate::Dense::new($inputs, $outputs, $crate::Activation::$activation),]
            $outputs; $($rest)*)
    };
    ($inputs:tt $($rest:tt)+) => { $crate::layers!(@rest [] $inputs; $($rest)+) };
}

/// A network: layers and a loss. Plain data; weights and state live in a learner's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Net<'a> {
    layers: &'a [Dense],
    loss: Loss,
}

impl<'a> Net<'a> {
    /// A network over layers that follow one another.
    pub const fn new(layers: &'a [Dense], loss: Loss) -> Self {
        Self { layers, loss }
    }

    /// The layers, input first.
    pub const fn layers(&self) -> &'a [Dense] {
        self.layers
    }

    /// The loss.
    pub const fn loss(&self) -> Loss {
        self.loss
    }

    /// Width of an input.
    pub const fn inputs(&self) -> usize {
        match self.layers {
            [first, ..] => first.shape.inputs(),
            [] => 0,
        }
    }

    /// Width of an output.
    pub const fn outputs(&self) -> usize {
        match self.layers {
            [.., last] => last.shape.outputs(),
            [] => 0,
        }
    }

    /// Number of weights.
    pub const fn parameters(&self) -> usize {
        let (mut sum, mut rest) = (0_usize, self.layers);
        while let [first, tail @ ..] = rest {
            sum = sum.saturating_add(first.shape.parameters());
            rest = tail;
        }
        sum
    }

    /// Words of weights and layer state: what a checkpoint holds.
    pub const fn state_words(&self) -> usize {
        memory::state_words(self.layers)
    }

    /// Words of everything a [`Learner`] needs for batches of up to `capacity` examples.
    pub const fn words(&self, capacity: usize) -> usize {
        memory::state_words(self.layers).saturating_add(memory::workspace_words(self.layers, capacity))
    }

    /// Refuses a network without layers, with sizes that do not meet, or with a bad loss.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Length`], [`Error::SizeOverflow`], [`Error::OutOfRange`].
    pub fn check(&self) -> Result<(), Error> {
        if self.layers.is_empty() {
            return Err(Error::Empty { argument: "layers" });
        }
        let mut width = self.inputs();
        for layer in self.layers {
            layer.shape.check()?;
            layer.shape.expect_full()?;
            crate::error::expect_length("layer inputs", width, layer.shape.inputs())?;
            width = layer.shape.outputs();
        }
        self.loss.check()
    }
}
