//! The arguments of `train`.

use ekfac::{Activation, Clip, Config, Damping};
use std::{num::ParseIntError, path::PathBuf, str::FromStr};

/// What the network is to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// Predict a class; the targets are names or whole numbers.
    Classify,
    /// Predict numbers.
    Regress,
    /// Predict the inputs themselves: an autoencoder.
    Reconstruct,
}

/// Which loss, where the task leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LossChoice {
    /// Cross-entropy of the softmax: the default of `classify`.
    Softmax,
    /// Binary cross-entropy: for `classify` with two classes and one output, or `reconstruct` with inputs from 0 to 1.
    Binary,
    /// Half the squared error: the default of `regress` and `reconstruct`.
    Squared,
    /// Huber's loss of width 1, in standard deviations where targets are standardised.
    Huber,
}

/// What becomes of inputs and of the targets of `regress` before training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Standardise {
    /// Pixels are divided by 255: at least 64 inputs, all of them whole numbers from 0 to 255, some above 100. Other
    /// inputs, and targets, are shifted and scaled to mean 0 and variance 1 over the training part.
    Auto,
    /// Mean 0 and variance 1, pixels too.
    Yes,
    /// As they are.
    No,
}

/// Its arguments.
#[derive(Debug, clap::Args)]
// A negative number is a value out of range, not an option.
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    /// A CSV, NPY or IDX file, raw or gzip; or one of the data sets within the program: digits, wine, breast-cancer,
    /// diabetes.
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The file of labels or target values that belongs to an NPY or IDX file.
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// A target column of a CSV file, by number from 1 or by name; may be repeated. The default is the last column, and
    /// none for `reconstruct`, which leaves these columns out.
    #[arg(long, value_name = "COLUMN")]
    pub target: Vec<String>,
    /// Whether the first row of a CSV file is a header, yes or no; detected by default.
    #[arg(long, value_name = "YES|NO", value_parser = clap::builder::BoolishValueParser::new())]
    pub header: Option<bool>,
    /// What is to be learned.
    #[arg(long)]
    pub task: Task,

    /// Sizes of all layers, those of inputs and outputs included: 64,32,10. Or the name of a TOML file, which ends in .toml,
    /// with a network of convolutions: the README shows one.
    #[arg(long, value_name = "SIZES|FILE", value_delimiter = ',', required_unless_present = "hidden")]
    pub layers: Vec<LayersPart>,
    /// Sizes of the hidden layers alone; the data give the two ends.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', conflicts_with = "layers")]
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers: identity, relu, leaky-relu, tanh, sigmoid or gelu.
    #[arg(long, default_value = "tanh", value_parser = parse_activation)]
    pub activation: Activation,
    /// Activation of the last layer. Softmax and sigmoid belong to the loss, not here.
    #[arg(long, default_value = "identity", value_parser = parse_activation)]
    pub output_activation: Activation,
    /// The loss, if not the task's own.
    #[arg(long)]
    pub loss: Option<LossChoice>,

    /// The part of the examples held out for validation, from 0 to below 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub validation: f64,
    /// What becomes of the inputs, and of the targets of `regress`.
    #[arg(long, default_value = "auto")]
    pub standardise: Standardise,
    /// Examples in a batch.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Passes over the training examples.
    #[arg(long, default_value_t = 50)]
    pub epochs: u64,
    /// Stop after so many epochs without a better validation loss (training loss where nothing is held out).
    #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,
    /// Seed of the split, the weights, the order of the examples and the sampled targets.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Learning rate.
    #[arg(long)]
    pub learning_rate: Option<f32>,
    /// Momentum, from 0 to below 1.
    #[arg(long)]
    pub momentum: Option<f32>,
    /// Decoupled weight decay.
    #[arg(long)]
    pub weight_decay: Option<f32>,
    /// Damping lambda, which is added to the scalings.
    #[arg(long)]
    pub damping: Option<f32>,
    /// Limit on the length of a step in the Fisher metric, for each example of its batch; 0 for none.
    #[arg(long)]
    pub clip: Option<f32>,

    /// The folder of the results: checkpoint.safetensors, weights.safetensors, log.csv, loss.svg.
    #[arg(long, value_name = "FOLDER", default_value = "ekfac-train")]
    pub out: PathBuf,
    /// Epochs from one checkpoint to the next.
    #[arg(long, value_name = "EPOCHS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub save_every: u64,
    /// Go on from the checkpoint in the folder, bit for bit. Give the same arguments as before; --epochs, --patience and
    /// --save-every may change.
    #[arg(long)]
    pub resume: bool,
    /// Start anew although the folder holds a checkpoint.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
}

/// What `--layers` takes, between commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayersPart {
    /// A size.
    Size(usize),
    /// A file.
    File(PathBuf),
}

impl FromStr for LayersPart {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        if text.ends_with(".toml") { Ok(Self::File(text.into())) } else { text.parse().map(Self::Size) }
    }
}

pub(super) fn parse_activation(name: &str) -> Result<Activation, String> {
    Ok(match name {
        "identity" => Activation::Identity,
        "relu" => Activation::Relu,
        "leaky-relu" => Activation::LeakyRelu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "gelu" => Activation::Gelu,
        _ => return Err("choose identity, relu, leaky-relu, tanh, sigmoid or gelu".into()),
    })
}

impl Arguments {
    /// The default settings with what was asked for instead.
    ///
    /// # Errors
    /// A setting out of range.
    pub(super) fn config(&self) -> Result<Config<f32>, String> {
        let default = Config::<f32>::default();
        let config = Config {
            learning_rate: self.learning_rate.unwrap_or(default.learning_rate),
            momentum: self.momentum.unwrap_or(default.momentum),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            damping: self.damping.map_or(default.damping, Damping::Absolute),
            clip: match self.clip {
                None => default.clip,
                Some(0.0) => Clip::None,
                Some(limit) => Clip::PerExample(limit),
            },
            ..default
        };
        config.check().map_err(|error| match error {
            ekfac::Error::OutOfRange { argument, .. } => {
                format!("--{} is out of range: see --help", argument.replace('_', "-"))
            }
            other => other.to_string(),
        })?;
        Ok(config)
    }
}
