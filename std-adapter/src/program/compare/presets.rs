//! What is compared on: a data set, a network and a batch size, as plain data.

use super::convolutions;
use crate::{
    data::{self, DataError, Dataset},
    program::ProgramError,
};
use clap::ValueEnum;
use ekfac::{Activation, Dense, Loss, convolution::ConvolutionLayer, net::dense_layers};
use std::path::Path;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::program) enum Preset {
    /// 64-48-24-12-24-48-64 on the 1,797 digits: tanh, linear at the code and the output, half summed squared error, batch 100.
    DigitsAutoencoder,
    /// 64-32-10 on the digits: tanh, softmax cross-entropy, batch 32.
    DigitsClassifier,
    /// 13-16-3 on the wine data, standardised: tanh, softmax cross-entropy, batch 16.
    Wine,
    /// 30-16-2 on the breast-cancer data, standardised: tanh, softmax cross-entropy, batch 16.
    BreastCancer,
    /// 10-16-1 on the diabetes data, inputs standardised, raw targets around 150: tanh, half squared error, batch 16.
    Diabetes,
    /// 36-24-7 on smartwatch windows, standardised: tanh, softmax cross-entropy, batch 16; two of ten subjects are held out.
    Smartwatch,
    /// 32-32-4 on a generated regression of condition 10,000 with targets around 100: tanh, half summed squared error, batch 50.
    IllConditioned,
    /// 784-64-10 on 10,000 images of Debian's Fashion-MNIST: tanh, softmax cross-entropy, batch 100.
    FashionClassifier,
    /// Convolutions of 8, 8, 16 and 16 filters, two poolings, 10 classes, on the same images: ReLU, softmax cross-entropy, batch 100.
    FashionVgg,
    /// Two residual blocks of two convolutions, of 8 and of 16 filters, and the mean of each map; the rest as before.
    FashionResidual,
    /// 784-128-32-128-784 on the same images: tanh, linear at the code and the output, half summed squared error, batch 200.
    FashionAutoencoder,
    /// 784-256-64-16-64-256-784 on 10,000 images of MNIST (--mnist): as the autoencoder before, batch 200.
    MediumNet,
    /// 784-1000-500-250-30-250-500-1000-784 on the same images: as the autoencoder before, batch 200.
    PaperNet,
}

/// A network as plain data.
#[derive(Clone, Copy)]
enum Plan {
    /// Dense layers of these sizes: tanh but for linear outputs.
    Sizes(&'static [usize]),
    /// Layers with convolutions.
    Convolutions(fn() -> Vec<ConvolutionLayer>),
}

/// A preset as plain data.
struct Protocol {
    plan: Plan,
    /// The layer without an activation whose output is the code of an autoencoder, which is to reproduce its inputs.
    code: Option<usize>,
    loss: Loss,
    batch: usize,
    epochs: usize,
    data: Data,
    standardised: bool,
}

/// Where examples come from and which of them are held out, the same for every seed.
#[derive(Clone, Copy)]
enum Data {
    /// All are trained on.
    Whole(Table),
    /// A fifth, chosen at random, is held out.
    Fifth(Table),
    /// So many from the end are held out.
    Last(Table, usize),
    /// The first training images, and the first test images held out.
    FashionMnist,
    /// Likewise, from the user's folder.
    Mnist,
}

type Table = fn() -> Result<Dataset, DataError>;

/// Training images where nothing else is asked for; a fifth as many test images are held out.
const TRAINING_IMAGES: usize = 10_000;

const CLASSIFIER: Protocol = Protocol {
    plan: Plan::Sizes(&[64, 32, 10]),
    code: None,
    loss: Loss::SoftmaxCrossEntropy,
    batch: 32,
    epochs: 20,
    data: Data::Fifth(data::digits),
    standardised: false,
};
const WINE: Protocol = Protocol {
    plan: Plan::Sizes(&[13, 16, 3]),
    batch: 16,
    epochs: 50,
    data: Data::Fifth(data::wine),
    standardised: true,
    ..CLASSIFIER
};
const BREAST_CANCER: Protocol =
    Protocol { plan: Plan::Sizes(&[30, 16, 2]), data: Data::Fifth(data::breast_cancer), ..WINE };
// The last 314 windows are those of subjects 9 and 10.
const SMARTWATCH: Protocol =
    Protocol { plan: Plan::Sizes(&[36, 24, 7]), epochs: 30, data: Data::Last(data::smartwatch, 314), ..WINE };
const DIABETES: Protocol = Protocol {
    plan: Plan::Sizes(&[10, 16, 1]),
    loss: Loss::SquaredError,
    epochs: 100,
    data: Data::Fifth(data::diabetes),
    ..WINE
};
const ILL_CONDITIONED: Protocol = Protocol {
    plan: Plan::Sizes(&[32, 32, 4]),
    batch: 50,
    epochs: 50,
    data: Data::Fifth(|| Ok(data::ill_conditioned(1))),
    standardised: false,
    ..DIABETES
};
const FASHION_CLASSIFIER: Protocol = Protocol {
    plan: Plan::Sizes(&[784, 64, 10]),
    batch: 100,
    epochs: 5,
    data: Data::FashionMnist,
    ..CLASSIFIER
};
const FASHION_VGG: Protocol =
    Protocol { plan: Plan::Convolutions(convolutions::vgg), epochs: 10, ..FASHION_CLASSIFIER };
const FASHION_RESIDUAL: Protocol =
    Protocol { plan: Plan::Convolutions(convolutions::residual), ..FASHION_VGG };
const AUTOENCODER: Protocol = Protocol {
    plan: Plan::Sizes(&[64, 48, 24, 12, 24, 48, 64]),
    code: Some(2),
    loss: Loss::SquaredError,
    batch: 100,
    epochs: 50,
    data: Data::Whole(data::digits),
    standardised: false,
};
const FASHION_AUTOENCODER: Protocol = Protocol {
    plan: Plan::Sizes(&[784, 128, 32, 128, 784]),
    code: Some(1),
    batch: 200,
    epochs: 20,
    data: Data::FashionMnist,
    ..AUTOENCODER
};
const MEDIUM_NET: Protocol = Protocol {
    plan: Plan::Sizes(&[784, 256, 64, 16, 64, 256, 784]),
    code: Some(2),
    data: Data::Mnist,
    ..FASHION_AUTOENCODER
};
const PAPER_NET: Protocol = Protocol {
    plan: Plan::Sizes(&[784, 1000, 500, 250, 30, 250, 500, 1000, 784]),
    code: Some(3),
    ..MEDIUM_NET
};

/// The layers of either kind of network.
#[derive(Clone, Debug)]
pub(in crate::program) enum Layers {
    /// Dense ones.
    Dense(Vec<Dense>),
    /// With convolutions.
    Convolutions(Vec<ConvolutionLayer>),
}

/// A preset made ready.
pub(in crate::program) struct Task {
    /// The preset's name on the command line.
    pub(in crate::program) name: String,
    /// Layers of the network.
    pub(in crate::program) layers: Layers,
    /// Its loss.
    pub(in crate::program) loss: Loss,
    /// Examples in a batch.
    pub(in crate::program) batch: usize,
    /// Passes over the data.
    pub(in crate::program) epochs: usize,
    /// The examples that are trained on.
    pub(in crate::program) training: Dataset,
    /// Others, where some are held out.
    pub(in crate::program) held_out: Option<Dataset>,
}

/// What the user wants otherwise than the preset.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::program) struct Wishes<'a> {
    /// Examples in a batch.
    pub(in crate::program) batch: Option<usize>,
    /// Passes over the data.
    pub(in crate::program) epochs: Option<usize>,
    /// The folder of MNIST.
    pub(in crate::program) mnist: Option<&'a Path>,
    /// Training images.
    pub(in crate::program) images: Option<usize>,
}

impl Data {
    /// Training examples, and those held out.
    fn load(self, wishes: Wishes<'_>) -> Result<(Dataset, Option<Dataset>), ProgramError> {
        if wishes.images.is_some() && !matches!(self, Data::FashionMnist | Data::Mnist) {
            return Err("this preset has no images to count: leave out --images".into());
        }
        Ok(match self {
            Data::Whole(table) => (table()?, None),
            Data::Fifth(table) => {
                let (training, held_out) = table()?.split(0.2, 0)?;
                (training, Some(held_out))
            }
            Data::Last(table, count) => {
                let data = table()?;
                let (training, held_out) = data.split_at(data.examples.saturating_sub(count));
                (training, Some(held_out))
            }
            Data::FashionMnist => first_images(data::fashion_mnist()?, wishes.images),
            Data::Mnist => {
                let folder = wishes.mnist.ok_or("this preset needs MNIST: name its folder with --mnist")?;
                first_images(data::mnist(folder)?, wishes.images)
            }
        })
    }
}

fn first_images((training, test): (Dataset, Dataset), images: Option<usize>) -> (Dataset, Option<Dataset>) {
    let images = images.unwrap_or(TRAINING_IMAGES).min(training.examples);
    let held_out = (images / 5).max(1).min(test.examples);
    (training.split_at(images).0, Some(test.split_at(held_out).0))
}

/// The inputs as their own targets.
fn reproduce(data: &mut Dataset) {
    data.targets = data::Targets::Values { values: data.inputs.clone(), width: data.input_width };
}

impl Task {
    /// The layers of a task without convolutions.
    ///
    /// # Errors
    /// A task with them.
    pub(in crate::program) fn dense_layers(&self) -> Result<&[Dense], ProgramError> {
        match &self.layers {
            Layers::Dense(layers) => Ok(layers),
            Layers::Convolutions(_) => Err(format!("{} has convolutions", self.name).into()),
        }
    }
}

impl Preset {
    /// Those of a study, which take seconds; the last one needs a package.
    pub(super) const SMALL: [Preset; 8] = [
        Preset::DigitsAutoencoder,
        Preset::DigitsClassifier,
        Preset::BreastCancer,
        Preset::Wine,
        Preset::Diabetes,
        Preset::Smartwatch,
        Preset::IllConditioned,
        Preset::FashionClassifier,
    ];

    /// The name on the command line.
    #[must_use]
    pub(in crate::program) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// Whether the network has convolutions.
    pub(super) fn has_convolutions(self) -> bool {
        matches!(self.protocol().plan, Plan::Convolutions(_))
    }

    fn protocol(self) -> Protocol {
        match self {
            Preset::DigitsAutoencoder => AUTOENCODER,
            Preset::DigitsClassifier => CLASSIFIER,
            Preset::Wine => WINE,
            Preset::BreastCancer => BREAST_CANCER,
            Preset::Diabetes => DIABETES,
            Preset::Smartwatch => SMARTWATCH,
            Preset::IllConditioned => ILL_CONDITIONED,
            Preset::FashionClassifier => FASHION_CLASSIFIER,
            Preset::FashionVgg => FASHION_VGG,
            Preset::FashionResidual => FASHION_RESIDUAL,
            Preset::FashionAutoencoder => FASHION_AUTOENCODER,
            Preset::MediumNet => MEDIUM_NET,
            Preset::PaperNet => PAPER_NET,
        }
    }

    /// Loads the data and builds the layers.
    ///
    /// # Errors
    /// Files of images that are missing or damaged, and a batch larger than the training set.
    pub(in crate::program) fn task(self, wishes: Wishes<'_>) -> Result<Task, ProgramError> {
        let (training, held_out) = self.protocol().data.load(wishes)?;
        self.task_on(wishes, training, held_out)
    }

    /// Width of an input.
    pub(in crate::program) fn inputs(self) -> usize {
        match self.protocol().plan {
            Plan::Sizes(sizes) => sizes.first().copied().unwrap_or(0),
            Plan::Convolutions(layers) => {
                layers().first().map_or(0, |layer| layer.convolution().input_words())
            }
        }
    }

    /// The same on other examples of the preset's width.
    ///
    /// # Errors
    /// A batch larger than the training set.
    pub(in crate::program) fn task_on(
        self,
        wishes: Wishes<'_>,
        mut training: Dataset,
        mut held_out: Option<Dataset>,
    ) -> Result<Task, ProgramError> {
        let Protocol { plan, code, loss, batch, epochs, standardised, .. } = self.protocol();
        let mut layers = match plan {
            Plan::Sizes(sizes) => {
                Layers::Dense(dense_layers(sizes, Activation::Tanh, Activation::Identity)?.to_vec())
            }
            Plan::Convolutions(layers) => Layers::Convolutions(layers()),
        };
        if standardised {
            let standardisation = training.standardise();
            held_out.iter_mut().try_for_each(|held_out| standardisation.apply(held_out))?;
        }
        if let (Layers::Dense(layers), Some(code)) = (&mut layers, code)
            && let Some(layer) = layers.get_mut(code)
        {
            *layer = Dense::with_shape(*layer.shape(), Activation::Identity);
            held_out.iter_mut().chain([&mut training]).for_each(reproduce);
        }
        let batch = wishes.batch.unwrap_or(batch);
        if batch > training.examples {
            let problem = format!(
                "a batch of {batch} is more than the {} training examples; name a smaller one with --batch",
                training.examples
            );
            return Err(problem.into());
        }
        let epochs = wishes.epochs.unwrap_or(epochs);
        Ok(Task { name: self.name(), layers, loss, batch, epochs, training, held_out })
    }
}
