//! From files to batches: loading, the split, and the scaling of inputs and targets.

use super::{
    Arguments,
    arguments::{LossChoice, Standardise, Task},
};
use crate::{
    data::{self, Column, CsvOptions, DataError, Dataset, LoadOptions, Standardisation, TargetKind, Targets},
    program::ProgramError,
};
use ekfac::Loss;
use std::path::Path;

/// Data that are ready to be trained on.
pub(super) struct Prepared {
    pub(super) training: Dataset,
    pub(super) validation: Dataset,
    pub(super) loss: Loss,
    pub(super) task: Task,
    /// (x - mean) / scale was done to the inputs.
    pub(super) inputs: Standardisation,
    /// The same for the targets of a regression.
    pub(super) targets: Option<Standardisation>,
    /// How the inputs were scaled, for the report.
    pub(super) scaling: &'static str,
    /// CRC-32 of the data as loaded.
    pub(super) checksum: u32,
}

impl Prepared {
    /// Loads, splits and scales.
    pub(super) fn new(arguments: &Arguments) -> Result<Self, ProgramError> {
        let mut data = load(arguments)?;
        let checksum = checksum(&data);
        let loss = loss(arguments, &mut data)?;
        let (mut training, mut validation) = data.split(arguments.validation, arguments.seed)?;
        let (inputs, scaling) = scale_inputs(arguments.standardise, &mut training, &mut validation)?;
        let task = arguments.task;
        let standardises = task == Task::Regress && arguments.standardise != Standardise::No;
        let targets = if standardises { Some(scale_targets(&mut training, &mut validation)?) } else { None };
        if task == Task::Reconstruct && loss == Loss::BinaryCrossEntropy {
            expect_shares(&training)?;
            expect_shares(&validation)?;
        }
        Ok(Self { training, validation, loss, task, inputs, targets, scaling, checksum })
    }

    /// Whether the inputs are other numbers than those of the file.
    pub(super) fn inputs_changed(&self) -> bool {
        self.inputs.mean.iter().any(|mean| *mean != 0.0)
            || self.inputs.scale.iter().any(|scale| *scale != 1.0)
    }

    /// The number of values that the network is to give.
    pub(super) fn outputs(&self) -> usize {
        if self.task == Task::Reconstruct { self.training.input_width } else { self.training.targets.width() }
    }

    /// The part that decides which weights are best: the validation part where there is one.
    pub(super) fn judged(&self) -> (&'static str, &Dataset) {
        if self.validation.examples > 0 {
            ("validation", &self.validation)
        } else {
            ("training", &self.training)
        }
    }
}

/// The targets of examples `start..end`, as core takes them.
pub(in crate::program) fn targets_of(data: &Dataset, start: usize, end: usize) -> ekfac::Targets<'_, f32> {
    match &data.targets {
        Targets::Classes { labels, .. } => {
            ekfac::Targets::Classes(labels.get(start..end).unwrap_or_default())
        }
        Targets::Values { values, width } => ekfac::Targets::Values(rows(values, *width, start, end)),
        // Of the three tasks only `reconstruct` comes without targets: they are the inputs.
        Targets::None => ekfac::Targets::Values(rows(&data.inputs, data.input_width, start, end)),
    }
}

/// Rows `start..end` of row-major values.
pub(in crate::program) fn rows(values: &[f32], width: usize, start: usize, end: usize) -> &[f32] {
    values.get(start * width..end * width).unwrap_or_default()
}

fn load(arguments: &Arguments) -> Result<Dataset, ProgramError> {
    let (path, task) = (&arguments.data, arguments.task);
    let kind = match task {
        Task::Classify => TargetKind::Classes,
        // The one column that is left out may be text, which classes may be too.
        Task::Reconstruct if arguments.target.len() == 1 => TargetKind::Classes,
        Task::Regress | Task::Reconstruct => TargetKind::Values,
    };
    let unsupervised = task == Task::Reconstruct && arguments.target.is_empty();
    let targets = if unsupervised { vec![] } else { columns(&arguments.target) };
    let csv = CsvOptions { delimiter: None, header: arguments.header, targets, kind };
    let mut data = match within(path) {
        Some(data) => data?,
        None => Dataset::load(path, &LoadOptions { labels: arguments.labels.clone(), csv })?,
    };
    let problem = match (task, &data.targets) {
        (Task::Reconstruct, _) => {
            data.targets = Targets::None;
            return Ok(data);
        }
        (Task::Classify, Targets::Classes { names, .. }) if names.len() < 2 => {
            "there is only one class: check --target"
        }
        (Task::Classify, Targets::Classes { .. }) | (Task::Regress, Targets::Values { .. }) => {
            return Ok(data);
        }
        (_, Targets::None) => "there are no targets; name their file with --labels",
        (Task::Classify, _) => "the targets are numbers, not classes; use --task regress",
        (Task::Regress, _) => "the targets are classes; use --task classify",
    };
    Err(format!("{}: {problem}", path.display()).into())
}

/// A data set that is part of the program, unless a file has that name.
fn within(path: &Path) -> Option<Result<Dataset, DataError>> {
    let name = path.to_str().filter(|_| !path.exists())?;
    Some(match name {
        "digits" => data::digits(),
        "wine" => data::wine(),
        "breast-cancer" => data::breast_cancer(),
        "diabetes" => data::diabetes(),
        _ => return None,
    })
}

fn columns(names: &[String]) -> Vec<Column> {
    if names.is_empty() {
        return vec![Column::Last];
    }
    names
        .iter()
        .map(|name| name.parse().map_or_else(|_| Column::Name(name.clone()), Column::Number))
        .collect()
}

/// The loss of the task; binary classes become the one value 0 or 1.
fn loss(arguments: &Arguments, data: &mut Dataset) -> Result<Loss, ProgramError> {
    use LossChoice::{Binary, Huber, Softmax, Squared};
    let default = if arguments.task == Task::Classify { Softmax } else { Squared };
    let choice = arguments.loss.unwrap_or(default);
    let name = &data.name;
    match (arguments.task, choice) {
        (Task::Classify, Softmax) => Ok(Loss::SoftmaxCrossEntropy),
        (Task::Classify, Binary) => match &data.targets {
            Targets::Classes { labels, names } if names.len() == 2 => {
                let values = labels.iter().map(|label| *label as f32).collect();
                data.targets = Targets::Values { values, width: 1 };
                Ok(Loss::BinaryCrossEntropy)
            }
            other => Err(format!(
                "--loss binary takes two classes, but {name} has {}: leave --loss out",
                other.width()
            )
            .into()),
        },
        (Task::Reconstruct, Binary) => Ok(Loss::BinaryCrossEntropy),
        (Task::Regress | Task::Reconstruct, Squared) => Ok(Loss::SquaredError),
        (Task::Regress | Task::Reconstruct, Huber) => Ok(Loss::Huber(1.0)),
        (Task::Classify, _) => Err("--task classify takes --loss softmax or binary".into()),
        (Task::Regress, _) => Err("--task regress takes --loss squared or huber".into()),
        (Task::Reconstruct, _) => Err("--task reconstruct takes --loss squared, huber or binary".into()),
    }
}

/// Scales both parts by what the training part shows.
fn scale_inputs(
    choice: Standardise,
    training: &mut Dataset,
    validation: &mut Dataset,
) -> Result<(Standardisation, &'static str), DataError> {
    let width = training.input_width;
    let by = |scale: f64| Standardisation { mean: vec![0.0; width], scale: vec![scale; width] };
    let (standardisation, name) = match choice {
        Standardise::No => return Ok((by(1.0), "as they are")),
        Standardise::Auto if are_pixels(training) => (by(255.0), "divided by 255"),
        Standardise::Auto | Standardise::Yes => {
            let standardisation = training.standardise();
            standardisation.apply(validation)?;
            return Ok((standardisation, "standardised"));
        }
    };
    standardisation.apply(training)?;
    standardisation.apply(validation)?;
    Ok((standardisation, name))
}

/// Whether the inputs look like the bytes of images, whatever the format of their file.
fn are_pixels(data: &Dataset) -> bool {
    let is_byte = |x: &f32| x.fract() == 0.0 && (0.0..=255.0).contains(x);
    data.input_width >= 64 && data.inputs.iter().all(is_byte) && data.inputs.iter().any(|x| *x > 100.0)
}

/// Standardises target values: to `Dataset`, these are inputs like any other.
fn scale_targets(training: &mut Dataset, validation: &mut Dataset) -> Result<Standardisation, DataError> {
    let mut table = take_targets(training);
    let standardisation = table.standardise();
    put_targets(training, table);
    let mut table = take_targets(validation);
    standardisation.apply(&mut table)?;
    put_targets(validation, table);
    Ok(standardisation)
}

fn take_targets(data: &mut Dataset) -> Dataset {
    let (inputs, input_width) = match std::mem::replace(&mut data.targets, Targets::None) {
        Targets::Values { values, width } => (values, width),
        Targets::Classes { .. } | Targets::None => (vec![], 0),
    };
    Dataset { name: data.name.clone(), inputs, input_width, targets: Targets::None, examples: data.examples }
}

fn put_targets(data: &mut Dataset, table: Dataset) {
    data.targets = Targets::Values { values: table.inputs, width: table.input_width };
}

fn expect_shares(data: &Dataset) -> Result<(), ProgramError> {
    match data.inputs.iter().find(|x| !(0.0..=1.0).contains(*x)) {
        None => Ok(()),
        Some(x) => Err(format!(
            "--loss binary reconstructs inputs from 0 to 1, but {} has {x}: scale them in the file and give \
             --standardise no, or leave --loss out",
            data.name
        )
        .into()),
    }
}

fn checksum(data: &Dataset) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut add = |values: &[f32]| values.iter().for_each(|value| hasher.update(&value.to_le_bytes()));
    add(&data.inputs);
    match &data.targets {
        Targets::Values { values, .. } => add(values),
        Targets::Classes { labels, .. } => {
            labels.iter().for_each(|label| hasher.update(&label.to_le_bytes()));
        }
        Targets::None => {}
    }
    hasher.finalize()
}
