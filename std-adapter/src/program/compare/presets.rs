//! What is compared on: a data set, a network and a batch size, as plain data.

use crate::{
    data::{self, DataError, Dataset},
    program::ProgramError,
};
use clap::ValueEnum;
use ekfac::{Activation, Dense, Loss, Targets, net::dense_layers};

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Preset {
    /// 64-48-24-12-24-48-64 on the 1,797 digits: tanh, linear at the code and the output, half summed squared error, batch 100.
    DigitsAutoencoder,
    /// 64-32-10 on the digits: tanh, softmax cross-entropy, batch 32.
    DigitsClassifier,
    /// 13-16-3 on the wine data, standardised: tanh, softmax cross-entropy, batch 16.
    Wine,
    /// 30-16-2 on the breast-cancer data, standardised: tanh, softmax cross-entropy, batch 16.
    BreastCancer,
}

/// A preset made ready: the whole data set is the training set.
pub(super) struct Task {
    /// Layers of the network.
    pub(super) layers: Vec<Dense>,
    /// Its loss.
    pub(super) loss: Loss,
    /// Examples in a batch.
    pub(super) batch: usize,
    /// The data.
    pub(super) data: Dataset,
}

impl Preset {
    /// Loads the data and builds the layers.
    ///
    /// # Errors
    /// Those of the embedded data, which are none.
    pub(super) fn task(self) -> Result<Task, ProgramError> {
        let (sizes, data, batch): (&[usize], Result<Dataset, DataError>, usize) = match self {
            Preset::DigitsAutoencoder => (&[64, 48, 24, 12, 24, 48, 64], data::digits(), 100),
            Preset::DigitsClassifier => (&[64, 32, 10], data::digits(), 32),
            Preset::Wine => (&[13, 16, 3], data::wine(), 16),
            Preset::BreastCancer => (&[30, 16, 2], data::breast_cancer(), 16),
        };
        let (mut layers, mut data) = (dense_layers(sizes, Activation::Tanh, Activation::Identity)?, data?);
        let mut loss = Loss::SoftmaxCrossEntropy;
        if self == Preset::DigitsAutoencoder {
            loss = Loss::SquaredError;
            data.targets = data::Targets::Values { values: data.inputs.clone(), width: data.input_width };
            // The code is linear.
            if let Some(code) = layers.get_mut(2) {
                *code = Dense::new(24, 12, Activation::Identity);
            }
        } else if self != Preset::DigitsClassifier {
            data.standardise();
        }
        Ok(Task { layers: layers.to_vec(), loss, batch, data })
    }
}

/// Examples gathered into a batch.
#[derive(Default)]
pub(super) struct Batch {
    /// Inputs, one example after another.
    pub(super) inputs: Vec<f32>,
    values: Vec<f32>,
    labels: Vec<u32>,
}

impl Batch {
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
