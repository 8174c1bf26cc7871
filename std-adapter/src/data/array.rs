//! [`Array`]: what the binary readers return, and the checks that they share.
//!
//! Values are `f32` whatever the file holds. Integers above 2²⁴ and `f64` values are rounded to the nearest
//! `f32`. Values that are not finite after that are refused, because a single one poisons every factor, norm
//! and loss computed from it.

use std::io;

use super::DataError;
use super::source::{Payload, Source};

/// A dense array in row-major order: the last dimension varies fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The length of each dimension, outermost first. Empty for a single value.
    pub shape: Vec<usize>,
    /// The values, as many as the product of `shape`.
    pub values: Vec<f32>,
}

/// The number of elements of `shape`, or `None` where it or a stride does not fit in 64 bits.
///
/// Lengths of 0 count as 1 on the way, so that an empty array with absurd other dimensions is refused as well:
/// its strides would overflow.
pub(super) fn elements(shape: &[u64]) -> Option<u64> {
    let product = shape.iter().try_fold(1_u64, |product, &length| product.checked_mul(length.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// The shape in memory; `None` where a length does not fit in the address space.
pub(super) fn in_memory(shape: &[u64]) -> Option<Vec<usize>> {
    shape.iter().map(|&length| usize::try_from(length).ok()).collect()
}

/// Reads the elements of `payload` up to the end of the file. `decode` appends the values of a whole number of
/// elements, in the order of the file.
pub(super) fn collect(
    source: &mut Source,
    payload: &Payload,
    mut decode: impl FnMut(&[u8], &mut Vec<f32>) -> io::Result<()>,
) -> Result<Vec<f32>, DataError> {
    let mut values = source.expect_payload(payload)?;
    // A whole number of elements of every size.
    let mut chunk = [0_u8; 1 << 14];
    let per_chunk = chunk.len() as u64 / payload.size;
    let mut read = 0;
    while read < payload.count {
        let count = per_chunk.min(payload.count - read);
        // At most the length of the chunk, so the cast keeps the value.
        let bytes = chunk.get_mut(..(count * payload.size) as usize).unwrap_or_default();
        let filled = source.fill(bytes)?;
        if filled < bytes.len() {
            return Err(source.truncated(payload, read * payload.size + filled as u64));
        }
        decode(bytes, &mut values).map_err(|e| source.read_error(e))?;
        for (index, &value) in (read..).zip(values.get(read as usize..).unwrap_or_default()) {
            refuse_non_finite(source, payload, index, value)?;
        }
        read += count;
    }
    source.expect_end(payload)?;
    Ok(values)
}

fn refuse_non_finite(source: &Source, payload: &Payload, index: u64, value: f32) -> Result<(), DataError> {
    if value.is_finite() {
        return Ok(());
    }
    Err(DataError::Format {
        path: source.path.clone(),
        format: payload.format,
        offset: payload.offset.saturating_add(index.saturating_mul(payload.size)),
        expected: "a value that is finite as a 32-bit float".to_owned(),
        found: format!("{value} at element {index}"),
        next: "replace the value or leave its example out",
    })
}
