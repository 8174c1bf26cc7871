//! Tensors in a safetensors file: weights turned from our column-major order to the row-major one of other tools, and back.

use super::{CheckpointError, Stored, part, saved::Block};
use ekfac::Coordinates;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use std::collections::HashMap;

/// Tensors on their way into a file.
#[derive(Default)]
pub struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub(super) fn push<T: Stored>(&mut self, name: String, shape: &[usize], values: impl Iterator<Item = T>) {
        let mut bytes = Vec::new();
        values.for_each(|value| value.append_to(&mut bytes));
        self.0.push((name, T::DTYPE, shape.to_vec(), bytes));
    }

    /// W~, which only the layer's own basis turns into weights.
    pub(super) fn push_weights_in_eigenbasis<T: Stored>(
        &mut self,
        index: usize,
        block: &Block,
        weights: &[T],
    ) {
        let (rows, columns) = (block.shape.rows(), block.shape.columns());
        let by_rows = (0..rows).flat_map(|i| weights.iter().skip(i).step_by(rows).copied());
        self.push(in_eigenbasis(index), &[rows, columns], by_rows);
    }

    /// W, and apart from it the bias; the rows of one group below those of the one before.
    pub(super) fn push_weights<T: Stored>(&mut self, index: usize, block: &Block, weights: &[T]) {
        let (rows, inputs) = (block.shape.rows(), block.shape.inputs());
        let groups = || weights.chunks_exact(block.shape.parameters());
        let row = |group: &'_ [T], i: usize| (0..inputs).map(|j| group[j * rows + i]).collect::<Vec<_>>();
        let by_rows = groups().flat_map(|group| (0..rows).flat_map(move |i| row(group, i)));
        self.push(format!("layers.{index}.weight"), &block.tensor, by_rows);
        if block.shape.bias() {
            let bias = groups().flat_map(|group| group[inputs * rows..].iter().copied());
            self.push(format!("layers.{index}.bias"), &[block.groups * rows], bias);
        }
    }

    pub(super) fn push_checksum(&mut self, name: &str, checksum: u32) {
        self.0.push((name.to_string(), Dtype::U32, vec![1], checksum.to_le_bytes().to_vec()));
    }

    /// At most one entry of metadata, since the format writes several in no fixed order.
    pub(super) fn serialize(self, metadata: Option<(&str, String)>) -> Result<Vec<u8>, CheckpointError> {
        let views = self
            .0
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, SafeTensorError>>()?;
        let metadata = metadata.map(|(key, text)| HashMap::from([(key.to_string(), text)]));
        Ok(safetensors::serialize(views, metadata)?)
    }
}

/// The values of one tensor, which must have this shape.
pub(super) fn read<T: Stored>(
    tensors: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<T>, CheckpointError> {
    let data = checked(tensors, name, T::DTYPE, shape)?;
    let values: Option<Vec<T>> = data.chunks_exact(size_of::<T>()).map(T::from_bytes).collect();
    values.ok_or_else(|| part(name, "is cut short"))
}

fn in_eigenbasis(index: usize) -> String {
    format!("layers.{index}.weight_in_eigenbasis")
}

/// Appends the stored weights, m x n for each group, column-major: W, bias last, or W~.
pub(super) fn read_weights<T: Stored>(
    tensors: &SafeTensors<'_>,
    index: usize,
    block: &Block,
    coordinates: Coordinates,
    state: &mut Vec<T>,
) -> Result<(), CheckpointError> {
    let (rows, inputs) = (block.shape.rows(), block.shape.inputs());
    if coordinates == Coordinates::Eigenbasis {
        let columns = block.shape.columns();
        let weights = read::<T>(tensors, &in_eigenbasis(index), &[rows, columns])?;
        state.extend((0..columns).flat_map(|j| weights.iter().skip(j).step_by(columns)));
        return Ok(());
    }
    let weights = read::<T>(tensors, &format!("layers.{index}.weight"), &block.tensor)?;
    let bias = if block.shape.bias() {
        read::<T>(tensors, &format!("layers.{index}.bias"), &[block.groups * rows])?
    } else {
        vec![]
    };
    for (group, weights) in weights.chunks_exact(rows * inputs).enumerate() {
        state.extend((0..inputs).flat_map(|j| weights.iter().skip(j).step_by(inputs)));
        state.extend(bias.iter().skip(group * rows).take(rows));
    }
    Ok(())
}

pub(super) fn read_checksum(tensors: &SafeTensors<'_>, name: &str) -> Result<u32, CheckpointError> {
    let data = checked(tensors, name, Dtype::U32, &[1])?;
    data.try_into().map(u32::from_le_bytes).map_err(|_| part(name, "is cut short"))
}

fn checked<'d>(
    tensors: &SafeTensors<'d>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<&'d [u8], CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|_| part(name, "missing from the file"))?;
    if tensor.dtype() != dtype || tensor.shape() != shape {
        let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
        return Err(part(name, format!("is {found}, but the layers ask for {dtype:?} {shape:?}")));
    }
    Ok(tensor.data())
}
