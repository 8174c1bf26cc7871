//! Layers and losses as bytes. The format stands in the [module](super) above.

use super::{LAYER_RECORD, LOSS_RECORD};
use crate::{Activation, Dense, Loss, Shape};

/// A size as bytes; `None` beyond 32 bits.
pub(crate) fn size(size: usize) -> Option<[u8; 4]> {
    u32::try_from(size).ok().map(u32::to_le_bytes)
}

/// The size that these bytes stand for.
pub(crate) fn size_of(bytes: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// An activation as a byte.
pub(crate) fn activation(activation: Activation) -> u8 {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::LeakyRelu => 2,
        Activation::Tanh => 3,
        Activation::Sigmoid => 4,
        #[cfg(feature = "functions")]
        Activation::Gelu => 5,
    }
}

/// The activation that this byte stands for.
pub(crate) fn activation_of(byte: u8) -> Option<Activation> {
    Some(match byte {
        0 => Activation::Identity,
        1 => Activation::Relu,
        2 => Activation::LeakyRelu,
        3 => Activation::Tanh,
        4 => Activation::Sigmoid,
        #[cfg(feature = "functions")]
        5 => Activation::Gelu,
        _ => return None,
    })
}

/// A dense layer as bytes; `None` for sizes beyond 32 bits.
pub(crate) fn dense(dense: &Dense) -> Option<[u8; LAYER_RECORD]> {
    let [a, b, c, d] = size(dense.shape().inputs())?;
    let [e, f, g, h] = size(dense.shape().outputs())?;
    let (bias, activation) = (u8::from(dense.shape().bias()), activation(dense.activation()));
    Some([a, b, c, d, e, f, g, h, bias, activation, 0, 0, 0, 0, 0, 0])
}

/// The dense layer that these bytes stand for.
pub(crate) fn dense_of(record: [u8; LAYER_RECORD]) -> Option<Dense> {
    let [a, b, c, d, e, f, g, h, bias, activation, ..] = record;
    let shape = Shape::new(size_of([a, b, c, d])?, size_of([e, f, g, h])?);
    let found =
        Dense::with_shape(if bias == 1 { shape } else { shape.without_bias() }, activation_of(activation)?);
    (dense(&found) == Some(record)).then_some(found)
}

/// A loss as bytes.
pub(crate) fn loss(loss: Loss) -> [u8; LOSS_RECORD] {
    let (kind, width): (_, f64) = match loss {
        Loss::SquaredError => (0, 0.0),
        Loss::SoftmaxCrossEntropy => (1, 0.0),
        #[cfg(feature = "functions")]
        Loss::BinaryCrossEntropy => (2, 0.0),
        #[cfg(feature = "functions")]
        Loss::Huber(width) => (3, width),
    };
    let [a, b, c, d, e, f, g, h] = width.to_le_bytes();
    [kind, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// The loss that these bytes stand for.
pub(crate) fn loss_of(record: [u8; LOSS_RECORD]) -> Option<Loss> {
    let [kind, ..] = record;
    let found = match kind {
        0 => Loss::SquaredError,
        1 => Loss::SoftmaxCrossEntropy,
        #[cfg(feature = "functions")]
        2 => Loss::BinaryCrossEntropy,
        #[cfg(feature = "functions")]
        3 => {
            let [_, _, _, _, width @ ..] = record;
            Loss::Huber(f64::from_le_bytes(width))
        }
        _ => return None,
    };
    (loss(found) == record && found.check().is_ok()).then_some(found)
}
