//! What is compared on: a data set, a network and a batch size, as plain data.

use crate::{
    Network,
    data::{self, DataError, Dataset},
    program::ProgramError,
};
use clap::ValueEnum;
use ekfac::{Activation, Dense, Error, Evaluation, Loss, Targets, net::dense_layers};

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

/// A preset as plain data: tanh but for linear outputs, and a linear code where there is one.
struct Protocol {
    sizes: &'static [usize],
    /// The layer without an activation.
    code: Option<usize>,
    loss: Loss,
    batch: usize,
    data: fn() -> Result<Dataset, DataError>,
    standardised: bool,
    /// The share of the examples that is held out.
    held_out: f64,
}

const CLASSIFIER: Protocol = Protocol {
    sizes: &[64, 32, 10],
    code: None,
    loss: Loss::SoftmaxCrossEntropy,
    batch: 32,
    data: data::digits,
    standardised: false,
    held_out: 0.2,
};
const WINE: Protocol =
    Protocol { sizes: &[13, 16, 3], batch: 16, data: data::wine, standardised: true, ..CLASSIFIER };
const BREAST_CANCER: Protocol = Protocol { sizes: &[30, 16, 2], data: data::breast_cancer, ..WINE };
const AUTOENCODER: Protocol = Protocol {
    sizes: &[64, 48, 24, 12, 24, 48, 64],
    code: Some(2),
    loss: Loss::SquaredError,
    batch: 100,
    data: digits_to_themselves,
    standardised: false,
    held_out: 0.0,
};

fn digits_to_themselves() -> Result<Dataset, DataError> {
    let mut data = data::digits()?;
    data.targets = data::Targets::Values { values: data.inputs.clone(), width: data.input_width };
    Ok(data)
}

/// A preset made ready.
pub(super) struct Task {
    /// Layers of the network.
    pub(super) layers: Vec<Dense>,
    /// Its loss.
    pub(super) loss: Loss,
    /// Examples in a batch.
    pub(super) batch: usize,
    /// The examples that are trained on.
    pub(super) training: Dataset,
    /// Others, where some are held out.
    pub(super) held_out: Option<Dataset>,
}

impl Preset {
    fn protocol(self) -> Protocol {
        match self {
            Preset::DigitsAutoencoder => AUTOENCODER,
            Preset::DigitsClassifier => CLASSIFIER,
            Preset::Wine => WINE,
            Preset::BreastCancer => BREAST_CANCER,
        }
    }

    /// Loads the data and builds the layers.
    ///
    /// # Errors
    /// Those of the embedded data, which are none.
    pub(super) fn task(self) -> Result<Task, ProgramError> {
        let Protocol { sizes, code, loss, batch, data, standardised, held_out } = self.protocol();
        let mut layers = dense_layers(sizes, Activation::Tanh, Activation::Identity)?.to_vec();
        if let Some(layer) = code.and_then(|index| layers.get_mut(index)) {
            *layer = Dense::with_shape(*layer.shape(), Activation::Identity);
        }
        let (mut training, mut rest) = (data()?, None);
        if held_out > 0.0 {
            // Every seed holds out the same examples.
            let parts = training.split(held_out, 0)?;
            (training, rest) = (parts.0, Some(parts.1));
        }
        if standardised {
            let standardisation = training.standardise();
            rest.iter_mut().try_for_each(|rest| standardisation.apply(rest))?;
        }
        Ok(Task { layers, loss, batch, training, held_out: rest })
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
    /// All examples.
    pub(super) fn whole(data: &Dataset) -> Self {
        let mut batch = Self::default();
        batch.gather(data, &(0..data.examples).collect::<Vec<_>>());
        batch
    }

    /// Loss and accuracy over them.
    pub(super) fn evaluate(&self, network: &mut Network<f32>) -> Result<Evaluation<f32>, Error> {
        network.evaluate(&self.inputs, self.targets())
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
