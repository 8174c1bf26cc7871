//! What a snapshot says about itself, to build a network from it.

use super::{
    CONVOLUTION_RECORDS, CONVOLUTION_VERSION, LAYER_RECORD, Refusal,
    decode::{Envelope, Reader, from_slice},
    length_of, missing, record, refusal,
};
#[cfg(feature = "batches")]
use crate::convolution::{self, ConvolutionLayer};
use crate::{Dense, Loss, error::expect_length};

/// A snapshot in memory that is whole and describes a network.
///
/// ```
/// use ekfac::{Config, Dense, Learner, Loss, Net, snapshot::{self, Snapshot}};
/// const LAYERS: [Dense; 2] = ekfac::layers![3 => 2 Tanh => 1 Identity];
/// const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
/// let (mut memory, mut bytes) = ([0.0_f32; NET.words(1)], [0; snapshot::length::<f32>(&NET)]);
/// Learner::new(NET, Config::default(), 7, 1, &mut memory)?.save_into(&mut bytes)?;
/// let snapshot = Snapshot::new(&bytes)?;
/// assert!(snapshot.layers().eq(LAYERS) && !snapshot.has_convolutions());
/// assert_eq!((snapshot.loss(), snapshot.word_bytes()), (Loss::SquaredError, 4));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'b> {
    bytes: &'b [u8],
    records: &'b [[u8; LAYER_RECORD]],
    has_convolutions: bool,
    loss: Loss,
    word_bytes: usize,
}

impl<'b> Snapshot<'b> {
    /// Checks everything but the state words and the progress, whose turn comes in
    /// [`Learner::restore_from`](crate::Learner::restore_from).
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn new(bytes: &'b [u8]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(bytes.len(), from_slice(bytes));
        let envelope = reader.envelope().map_err(refusal)?;
        let Envelope { version, width, layers } = envelope;
        let loss = reader.take().map_err(refusal)?;
        reader.finish().map_err(refusal)?;
        let (layers, word_bytes) = (usize::from(layers), usize::from(width));
        if word_bytes != 4 && word_bytes != 8 {
            return Err(Refusal::Scalar { expected: 4, found: word_bytes });
        }
        let loss = record::loss_of(loss).ok_or(Refusal::Loss)?;
        let has_convolutions = envelope.kind() == CONVOLUTION_VERSION;
        let count = if has_convolutions { layers * CONVOLUTION_RECORDS } else { layers };
        let length_of = |count, words| length_of(word_bytes, count, words) - missing(version, word_bytes);
        let start = length_of(0, 0) - super::CHECKSUM;
        let records = bytes.get(start..start + count * LAYER_RECORD);
        let expected = length_of(count, 0);
        let (records, _) = records.ok_or(Refusal::Length { expected, found: bytes.len() })?.as_chunks();
        let snapshot = Self { bytes, records, has_convolutions, loss, word_bytes };
        let words = if has_convolutions {
            snapshot.check_convolutions(layers)
        } else {
            snapshot.check_layers(layers)
        };
        let (expected, found) = (length_of(count, words?), bytes.len());
        if expected == found { Ok(snapshot) } else { Err(Refusal::Length { expected, found }) }
    }

    /// The state words.
    fn check_layers(&self, count: usize) -> Result<usize, Refusal> {
        let (mut words, mut width, mut found) = (0_usize, None, 0);
        for dense in self.layers() {
            let shape = dense.shape();
            let meets = expect_length("layer inputs", width.unwrap_or(shape.inputs()), shape.inputs());
            meets.and_then(|()| shape.check()).map_err(|_| Refusal::Layer { layer: found })?;
            width = Some(shape.outputs());
            words = words.saturating_add(shape.parameters()).saturating_add(shape.words());
            found += 1;
        }
        expect_all(count, found).map(|()| words)
    }

    /// The same of convolutions.
    #[cfg(feature = "batches")]
    fn check_convolutions(&self, count: usize) -> Result<usize, Refusal> {
        expect_all(count, self.convolutions().count())?;
        convolution::check_layers(self.convolutions()).map_err(|(layer, _)| Refusal::Layer { layer })?;
        Ok(self.convolutions().map(|layer| layer.state_words()).fold(0, usize::saturating_add))
    }

    #[cfg(not(feature = "batches"))]
    fn check_convolutions(&self, _count: usize) -> Result<usize, Refusal> {
        Err(Refusal::Kind)
    }

    /// Whether its network is one of convolutions: it then has [`convolutions`](Self::convolutions), and otherwise
    /// [`layers`](Self::layers).
    pub fn has_convolutions(&self) -> bool {
        self.has_convolutions
    }

    /// The dense layers, input first.
    pub fn layers(&self) -> impl Iterator<Item = Dense> + Clone + 'b {
        let records = if self.has_convolutions { &[] } else { self.records };
        records.iter().map_while(|record| record::dense_of(*record))
    }

    /// The layers of a network of convolutions, input first.
    #[cfg(feature = "batches")]
    pub fn convolutions(&self) -> impl Iterator<Item = ConvolutionLayer> + Clone + 'b {
        let records = if self.has_convolutions { self.records } else { &[] };
        records.as_chunks().0.iter().map_while(ConvolutionLayer::of_records)
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// Bytes of a word: 4 for `f32`, 8 for `f64`.
    pub fn word_bytes(&self) -> usize {
        self.word_bytes
    }

    /// The bytes.
    pub fn bytes(&self) -> &'b [u8] {
        self.bytes
    }
}

/// Refuses a network without layers, and the first that is none.
fn expect_all(count: usize, found: usize) -> Result<(), Refusal> {
    if found < count {
        return Err(Refusal::Layer { layer: found });
    }
    if count == 0 { Err(Refusal::Layers { expected: 1, found }) } else { Ok(()) }
}
