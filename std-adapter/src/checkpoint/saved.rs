//! The two kinds of networks as a checkpoint sees them: layers as plain data, and the state words block by block.
//!
//! *Invariant*: the blocks of a network, weights and state of each in turn, are its state words.

use super::{CheckpointError, Extra, Stored, contents, tensors::Tensors};
use crate::{AnyNetwork, ConvolutionNetwork, Network};
use ekfac::{
    Config, Coordinates, Dense, Error, Loss, Net, Progress, Shape,
    convolution::{self, Axis, ConvolutionLayer, ConvolutionNet, Sharing},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// One layer in the state words: so many groups of m x n weights, then so many words of state.
pub(super) struct Block {
    /// Of the tensor of weights: the rows of all groups first; inputs after them, or channels and the kernel's sides.
    pub(super) tensor: Vec<usize>,
    /// Of one group.
    pub(super) shape: Shape,
    pub(super) groups: usize,
    pub(super) state: usize,
}

impl Block {
    pub(super) fn parameters(&self) -> usize {
        self.groups * self.shape.parameters()
    }
}

/// A kind of network.
pub(super) trait Kind<T: Stored>: Sized {
    /// Of the format.
    const VERSION: u32;
    /// What the metadata say of the layers.
    type Layers: PartialEq + Serialize + DeserializeOwned;

    fn layers(&self) -> Self::Layers;
    fn loss(&self) -> Loss;
    fn config(&self) -> &Config<T>;
    fn progress(&self) -> &Progress<T>;
    fn state(&self) -> &[T];
    /// Refuses layers that are no network; the blocks of those that are.
    fn blocks(layers: &Self::Layers, loss: Loss) -> Result<Vec<Block>, Error>;
    /// Where the weights of a block with this state live.
    fn coordinates(state: &[T]) -> Coordinates;
    fn resume(
        layers: Self::Layers,
        loss: Loss,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        state: &[T],
    ) -> Result<Self, Error>;
}

impl<T: Stored> Kind<T> for Network<T> {
    const VERSION: u32 = super::VERSION;
    type Layers = Vec<Dense>;

    fn layers(&self) -> Vec<Dense> {
        self.net().layers().to_vec()
    }

    fn loss(&self) -> Loss {
        self.net().loss()
    }

    fn config(&self) -> &Config<T> {
        self.config()
    }

    fn progress(&self) -> &Progress<T> {
        self.progress()
    }

    fn state(&self) -> &[T] {
        self.state()
    }

    fn blocks(layers: &Vec<Dense>, loss: Loss) -> Result<Vec<Block>, Error> {
        Net::new(layers, loss).check()?;
        let block = |layer: &Dense| {
            let shape = *layer.shape();
            let tensor = vec![shape.rows(), shape.inputs()];
            Block { tensor, shape, groups: 1, state: shape.words() }
        };
        Ok(layers.iter().map(block).collect())
    }

    fn coordinates(state: &[T]) -> Coordinates {
        Coordinates::of(state)
    }

    fn resume(
        layers: Vec<Dense>,
        loss: Loss,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        state: &[T],
    ) -> Result<Self, Error> {
        Network::resume(layers, loss, config, progress, capacity, state)
    }
}

/// What decides the bits of a network with convolutions besides its words.
#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct Convolutions {
    layers: Vec<ConvolutionLayer>,
    sharing: Sharing,
    columns: usize,
}

impl<T: Stored> Kind<T> for ConvolutionNetwork<T> {
    const VERSION: u32 = super::CONVOLUTION_VERSION;
    type Layers = Convolutions;

    fn layers(&self) -> Convolutions {
        let layers = self.net().layers().to_vec();
        Convolutions { layers, sharing: self.sharing(), columns: self.columns() }
    }

    fn loss(&self) -> Loss {
        self.net().loss()
    }

    fn config(&self) -> &Config<T> {
        self.config()
    }

    fn progress(&self) -> &Progress<T> {
        self.progress()
    }

    fn state(&self) -> &[T] {
        self.state()
    }

    fn blocks(layers: &Convolutions, loss: Loss) -> Result<Vec<Block>, Error> {
        ConvolutionNet::new(&layers.layers, loss).check()?;
        Ok(layers.layers.iter().map(block).collect())
    }

    fn coordinates(_state: &[T]) -> Coordinates {
        Coordinates::Parameter
    }

    fn resume(
        layers: Convolutions,
        loss: Loss,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        state: &[T],
    ) -> Result<Self, Error> {
        let Convolutions { layers, sharing, columns } = layers;
        let network = ConvolutionNetwork::resume(layers, loss, config, progress, capacity, state)?;
        network.with_sharing(sharing).with_columns(columns)
    }
}

/// The block of a layer, in the order in which other programs keep the weights of its kind.
fn block(layer: &ConvolutionLayer) -> Block {
    let (convolution, shape, groups) = (layer.convolution(), layer.convolution().shape(), layer.groups());
    let state = layer.state_words() - layer.parameters();
    let (tensor, shape) = match layer.block() {
        // A scale and a shift as if each were a column of weights.
        Some(convolution::Block::Diagonal) => {
            let channels = convolution.output_words() / convolution.locations();
            let columns = Shape::new(1, channels);
            (vec![channels], if convolution.has_bias() { columns } else { columns.without_bias() })
        }
        Some(convolution::Block::DiagonalInput) => (vec![shape.rows(), shape.inputs()], shape),
        _ => {
            let sides = convolution.axes();
            // The axes of one point only are those that the user did not write.
            let sides = sides.iter().skip_while(|axis| (axis.length(), axis.kernel()) == (1, 1));
            let sides: Vec<usize> = sides.map(Axis::kernel).collect();
            let channels = shape.inputs() / sides.iter().product::<usize>();
            ([&[groups * shape.rows(), channels][..], &sides].concat(), shape)
        }
    };
    Block { tensor, shape, groups, state }
}

/// A network that a checkpoint can hold: [`Network`], [`ConvolutionNetwork`] and [`AnyNetwork`], no others.
pub trait Saved<T: Stored>: sealed::Sealed {
    /// The bytes of a checkpoint: the same for the same network.
    ///
    /// # Errors
    /// [`CheckpointError::Part`] for a setting that JSON cannot hold, such as an infinite threshold;
    /// [`CheckpointError::Container`] for metadata beyond the format's 100 MB.
    fn checkpoint_bytes(&self, extra: &Extra) -> Result<Vec<u8>, CheckpointError>;

    /// The tensors of the weights.
    #[doc(hidden)]
    fn push_weights(&mut self, tensors: &mut Tensors) -> Result<(), CheckpointError>;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for crate::Network<T> {}
    impl<T> Sealed for crate::ConvolutionNetwork<T> {}
    impl<T> Sealed for crate::AnyNetwork<T> {}
}

impl<T: Stored> Saved<T> for Network<T> {
    fn checkpoint_bytes(&self, extra: &Extra) -> Result<Vec<u8>, CheckpointError> {
        contents::to_bytes(self, extra)
    }

    fn push_weights(&mut self, tensors: &mut Tensors) -> Result<(), CheckpointError> {
        let blocks = Self::blocks(&Kind::layers(self), Kind::loss(self))?;
        for (index, block) in blocks.iter().enumerate() {
            tensors.push_weights(index, block, &self.weights(index)?);
        }
        Ok(())
    }
}

impl<T: Stored> Saved<T> for ConvolutionNetwork<T> {
    fn checkpoint_bytes(&self, extra: &Extra) -> Result<Vec<u8>, CheckpointError> {
        contents::to_bytes(self, extra)
    }

    fn push_weights(&mut self, tensors: &mut Tensors) -> Result<(), CheckpointError> {
        contents::each_block(self, |index, block, weights, _| tensors.push_weights(index, block, weights))
    }
}

impl<T: Stored> Saved<T> for AnyNetwork<T> {
    fn checkpoint_bytes(&self, extra: &Extra) -> Result<Vec<u8>, CheckpointError> {
        match self {
            AnyNetwork::Dense(network) => network.checkpoint_bytes(extra),
            AnyNetwork::Convolutions(network) => network.checkpoint_bytes(extra),
        }
    }

    fn push_weights(&mut self, tensors: &mut Tensors) -> Result<(), CheckpointError> {
        match self {
            AnyNetwork::Dense(network) => network.push_weights(tensors),
            AnyNetwork::Convolutions(network) => network.push_weights(tensors),
        }
    }
}
