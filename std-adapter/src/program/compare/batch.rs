//! Examples gathered into a batch.

use crate::data::{self, Dataset};
use ekfac::Targets;

/// Inputs and targets of some examples, one after another.
#[derive(Default)]
pub(super) struct Batch {
    /// Inputs, one example after another.
    pub(super) inputs: Vec<f32>,
    values: Vec<f32>,
    labels: Vec<u32>,
}

impl Batch {
    /// All examples.
    pub(super) fn whole(data: &Dataset) -> Self {
        let mut batch = Self::default();
        batch.gather(data, &(0..data.examples).collect::<Vec<_>>());
        batch
    }

    /// Gathers the examples of these indices.
    pub(super) fn gather(&mut self, data: &Dataset, indices: &[usize]) {
        let rows = |values: &[f32], width: usize, into: &mut Vec<f32>| {
            into.clear();
            indices
                .iter()
                .for_each(|index| into.extend_from_slice(&values[index * width..(index + 1) * width]));
        };
        rows(&data.inputs, data.input_width, &mut self.inputs);
        match &data.targets {
            data::Targets::Classes { labels, .. } => {
                self.labels.clear();
                self.labels.extend(indices.iter().map(|index| labels[*index]));
            }
            data::Targets::Values { values, width } => rows(values, *width, &mut self.values),
            data::Targets::None => {}
        }
    }

    /// Their targets.
    #[must_use]
    pub(super) fn targets(&self) -> Targets<'_, f32> {
        if self.labels.is_empty() { Targets::Values(&self.values) } else { Targets::Classes(&self.labels) }
    }
}
