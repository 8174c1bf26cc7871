//! What a snapshot says about itself, to build a network from it.

use super::{
    LAYER_RECORD, Refusal,
    decode::{Envelope, Reader, from_slice},
    layer_of, length_of, loss_of, refusal,
};
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
/// assert!(snapshot.layers().eq(LAYERS));
/// assert_eq!((snapshot.loss(), snapshot.word_bytes()), (Loss::SquaredError, 4));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'b> {
    bytes: &'b [u8],
    records: &'b [u8],
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
        let Envelope { width, layers } = reader.envelope().map_err(refusal)?;
        let loss = reader.take().map_err(refusal)?;
        reader.finish().map_err(refusal)?;
        let (layers, word_bytes) = (usize::from(layers), usize::from(width));
        if word_bytes != 4 && word_bytes != 8 {
            return Err(Refusal::Scalar { expected: 4, found: word_bytes });
        }
        let loss = loss_of(loss).ok_or(Refusal::Loss)?;
        let start = length_of(word_bytes, 0, 0) - super::CHECKSUM;
        let records = bytes.get(start..start + layers * LAYER_RECORD);
        let expected = length_of(word_bytes, layers, 0);
        let records = records.ok_or(Refusal::Length { expected, found: bytes.len() })?;
        let snapshot = Self { bytes, records, loss, word_bytes };
        snapshot.check_layers(layers)?;
        Ok(snapshot)
    }

    fn check_layers(&self, count: usize) -> Result<(), Refusal> {
        let (mut words, mut width, mut found) = (0_usize, None, 0);
        for dense in self.layers() {
            let shape = dense.shape();
            let meets = expect_length("layer inputs", width.unwrap_or(shape.inputs()), shape.inputs());
            meets.and_then(|()| shape.check()).map_err(|_| Refusal::Layer { layer: found })?;
            width = Some(shape.outputs());
            words = words.saturating_add(shape.parameters()).saturating_add(shape.words());
            found += 1;
        }
        if found < count {
            return Err(Refusal::Layer { layer: found });
        }
        if count == 0 {
            return Err(Refusal::Layers { expected: 1, found });
        }
        let (expected, found) = (length_of(self.word_bytes, count, words), self.bytes.len());
        if expected == found { Ok(()) } else { Err(Refusal::Length { expected, found }) }
    }

    /// The layers, input first.
    pub fn layers(&self) -> impl Iterator<Item = Dense> + 'b {
        let (records, _) = self.records.as_chunks::<LAYER_RECORD>();
        records.iter().map_while(|record| layer_of(*record))
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
