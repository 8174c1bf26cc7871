//! How many bytes a network takes, layer by layer, before any of them is allocated.
//!
//! Every number comes from core's own lengths, so that it cannot drift from what [`Network`](crate::Network) allocates. *Invariant*: the
//! sum of all parts is [`Network::bytes`](crate::Network::bytes). *Not counted*: what the kernels borrow within a call (packed copies
//! of a product's operands, pieces of a result on several threads) and the caller's own data.

use ekfac::{
    Dense, Error, Loss, Net, Shape,
    convolution::{ConvolutionLayer, ConvolutionNet},
    shape::{CURSORS, HEADER},
};

/// Bytes that one layer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerMemory {
    /// W, m x n.
    pub weights: usize,
    /// Both Kronecker factors, seen in their bases: packed triangles, or a diagonal.
    pub factors: usize,
    /// Both eigenbases: squares of n and m.
    pub bases: usize,
    /// S, m x n.
    pub scalings: usize,
    /// The velocity, m x n.
    pub velocity: usize,
    /// Counters and stored weights of the averages.
    pub marks: usize,
    /// Activations, gradients, their projections and the mean gradient of a batch.
    pub workspace: usize,
}

impl LayerMemory {
    /// Bytes that a checkpoint holds of this layer: all but the workspace.
    #[must_use]
    pub fn state(&self) -> usize {
        self.weights + self.factors + self.bases + self.scalings + self.velocity + self.marks
    }

    /// All bytes of this layer.
    #[must_use]
    pub fn total(&self) -> usize {
        self.state() + self.workspace
    }
}

/// Bytes that a network needs; [`Network::memory`](crate::Network::memory) makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkMemory {
    /// Those of each layer, input first.
    pub layers: Vec<LayerMemory>,
    /// Scratch that all layers share.
    pub scratch: usize,
}

impl NetworkMemory {
    /// All bytes.
    #[must_use]
    pub fn total(&self) -> usize {
        self.scratch + self.layers.iter().map(LayerMemory::total).sum::<usize>()
    }

    /// That of a network over scalars of `T` for batches of up to `capacity` examples.
    pub(crate) fn of<T>(net: &Net<'_>, capacity: usize) -> Result<Self, Error> {
        net.check()?;
        let layers = net.layers().iter().map(|layer| {
            let own = of_layer::<T>(layer.shape(), layer.shape().words(), 1);
            LayerMemory { workspace: workspace_words(layer, capacity) * size_of::<T>(), ..own }
        });
        Self::sum::<T>(net.words(capacity), capacity, layers)
    }

    /// The same of a network with convolutions, whose scratch has so many columns.
    pub(crate) fn of_convolutions<T>(
        net: &ConvolutionNet<'_>,
        capacity: usize,
        columns: usize,
    ) -> Result<Self, Error> {
        net.check()?;
        let layers = net.layers().iter().map(|layer| {
            let shape = layer.convolution().shape();
            let groups = layer.groups();
            let words = layer.state_words() - layer.parameters();
            let own = of_layer::<T>(&shape, words.checked_div(groups).unwrap_or(0), groups);
            LayerMemory { workspace: room_words(layer, capacity) * size_of::<T>(), ..own }
        });
        Self::sum::<T>(net.words(capacity, columns), capacity, layers)
    }

    fn sum<T>(
        words: usize,
        capacity: usize,
        layers: impl Iterator<Item = LayerMemory>,
    ) -> Result<Self, Error> {
        if capacity == 0 {
            return Err(Error::Empty { argument: "capacity" });
        }
        // Beyond half of the address space nothing can be allocated, and the sums below cannot overflow.
        if words > isize::MAX as usize / size_of::<T>() {
            return Err(Error::SizeOverflow { argument: "memory" });
        }
        let layers: Vec<_> = layers.collect();
        let known: usize = layers.iter().map(LayerMemory::total).sum();
        Ok(Self { layers, scratch: words * size_of::<T>() - known })
    }
}

/// Without the workspace: so many blocks of this shape, whose states have so many words each.
fn of_layer<T>(shape: &Shape, words: usize, blocks: usize) -> LayerMemory {
    let bytes = |words: usize| words * blocks * size_of::<T>();
    let bases = shape.lines() * shape.lines() + shape.rows() * shape.rows();
    let (parameters, marks) = (shape.parameters(), HEADER + 2 * CURSORS);
    LayerMemory {
        weights: bytes(parameters),
        factors: bytes(words.saturating_sub(marks + bases + 2 * parameters)),
        bases: bytes(bases),
        scalings: bytes(parameters),
        velocity: bytes(parameters),
        marks: bytes(marks.min(words)),
        workspace: 0,
    }
}

/// Two equal layers share their scratch, so a net of two needs the room of one more than a net of one.
fn workspace_words(layer: &Dense, capacity: usize) -> usize {
    let words = |layers: &[Dense]| {
        let net = Net::new(layers, Loss::SquaredError);
        net.words(capacity) - net.state_words()
    };
    words(&[*layer; 2]) - words(&[*layer])
}

/// The same for a convolution or a pooling.
fn room_words(layer: &ConvolutionLayer, capacity: usize) -> usize {
    let words = |layers: &[ConvolutionLayer]| {
        let net = ConvolutionNet::new(layers, Loss::SquaredError);
        net.words(capacity, 1) - net.state_words()
    };
    words(&[*layer; 2]) - words(&[*layer])
}
