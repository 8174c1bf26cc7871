//! A layer of convolutions as the bytes of a [`snapshot`](crate::snapshot), where the format stands.
//!
//! *Invariant*: bytes that stand for a layer are those that it gives. *Failure*: `None`, for sizes beyond 32 bits and for bytes that no
//! layer gives.

use super::{Axis, Convolution, ConvolutionLayer, Layout, Pooling, block::Form, net::Kind};
use crate::snapshot::{
    CONVOLUTION_RECORDS, LAYER_RECORD,
    record::{activation, activation_of, size, size_of},
};

/// Numbers of 32 bits before the bytes.
const NUMBERS: usize = 14;

impl ConvolutionLayer {
    /// One of its [`CONVOLUTION_RECORDS`] records.
    pub(super) fn record(&self, part: usize) -> Option<[u8; LAYER_RECORD]> {
        let Convolution { channels, outputs, axes: [rows, columns], groups, bias, layout, form } =
            *self.convolution();
        let (form, tokens) = match form {
            Form::Full => (0, 0),
            Form::Uncorrelated => (1, 0),
            Form::Embedding(tokens) => (2, tokens),
            Form::Affine => (3, 0),
        };
        let (kind, other) = match self.kind() {
            Kind::Weights => (0, tokens),
            Kind::Pooling(Pooling::Max) => (1, 0),
            Kind::Pooling(Pooling::Average) => (2, 0),
            Kind::Addition(from) => (3, from),
        };
        let [channels, outputs, groups, other] = [channels, outputs, groups, other].map(size);
        let numbers = match part {
            0 => [channels?, outputs?, groups?, other?],
            1 => rows.numbers()?,
            2 => columns.numbers()?,
            _ => {
                let layout = u8::from(layout == Layout::ChannelsLast);
                let bytes = [u8::from(bias), layout, kind, activation(self.activation())];
                [size(rows.dilation)?, size(columns.dilation)?, bytes, [form, 0, 0, 0]]
            }
        };
        let mut record = [0; LAYER_RECORD];
        record.iter_mut().zip(numbers.as_flattened()).for_each(|(to, byte)| *to = *byte);
        Some(record)
    }

    /// The layer that these records stand for.
    pub(crate) fn of_records(records: &[[u8; LAYER_RECORD]; CONVOLUTION_RECORDS]) -> Option<Self> {
        let (words, _) = records.as_flattened().as_chunks::<4>();
        let (numbers, rest) = words.split_first_chunk::<NUMBERS>()?;
        let [[bias, layout, kind, activation], [form, ..]] = *rest.first_chunk()?;
        let mut sizes = [0; NUMBERS];
        for (to, bytes) in sizes.iter_mut().zip(numbers) {
            *to = size_of(*bytes)?;
        }
        let [channels, outputs, groups, other, a, b, c, d, e, f, g, h, rows, columns] = sizes;
        let axis = |[length, kernel, stride, padding]: [usize; 4], dilation| Axis {
            length,
            kernel,
            stride,
            padding,
            dilation,
        };
        let axes = [axis([a, b, c, d], rows), axis([e, f, g, h], columns)];
        let layout = if layout == 0 { Layout::ChannelsFirst } else { Layout::ChannelsLast };
        let kind = match kind {
            0 => Kind::Weights,
            1 => Kind::Pooling(Pooling::Max),
            2 => Kind::Pooling(Pooling::Average),
            3 => Kind::Addition(other),
            _ => return None,
        };
        let form = match form {
            0 => Form::Full,
            1 => Form::Uncorrelated,
            2 => Form::Embedding(other),
            3 => Form::Affine,
            _ => return None,
        };
        let convolution = Convolution { channels, outputs, axes, groups, bias: bias == 1, layout, form };
        let layer = Self::of_kind(convolution, kind, activation_of(activation)?);
        let same = (0..).zip(records).all(|(part, record)| layer.record(part) == Some(*record));
        same.then_some(layer)
    }
}

impl Axis {
    fn numbers(&self) -> Option<[[u8; 4]; 4]> {
        let Self { length, kernel, stride, padding, .. } = *self;
        Some([size(length)?, size(kernel)?, size(stride)?, size(padding)?])
    }
}
