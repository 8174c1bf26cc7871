//! How good a network is, in the terms of its task.

use super::{
    arguments::Task,
    prepare::{Prepared, rows, targets_of},
};
use crate::{
    AnyNetwork,
    data::{Dataset, Targets},
};
use ekfac::{Error, Loss};
use serde::{Deserialize, Serialize};

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Measure {
    pub(super) loss: f64,
    /// One value a [name](names); `None` where it is not defined, such as R^2 of targets that do not vary.
    pub(super) values: Vec<Option<f64>>,
}

/// What is measured besides the loss: the share of classes that are right; RMSE in the targets' own units and R^2, each
/// the mean over the target columns; RMSE an input, as the inputs were scaled.
pub(super) fn names(task: Task) -> &'static [&'static str] {
    match task {
        Task::Classify => &["accuracy"],
        Task::Regress => &["rmse", "r_squared"],
        Task::Reconstruct => &["rmse"],
    }
}

/// Evaluates the network.
pub(super) fn measure(
    network: &mut AnyNetwork<f32>,
    prepared: &Prepared,
    data: &Dataset,
) -> Result<Measure, Error> {
    let evaluation = network.evaluate(&data.inputs, targets_of(data, 0, data.examples))?;
    let loss = f64::from(evaluation.loss);
    let values = match prepared.task {
        Task::Classify => {
            vec![evaluation.correct.map(|correct| correct as f64 / evaluation.examples as f64)]
        }
        Task::Regress => regression(network, prepared, data)?,
        Task::Reconstruct => {
            // Half the squared error is the loss itself; another loss asks for the outputs.
            let squares = match prepared.loss {
                Loss::SquaredError => 2.0 * loss,
                _ => squared_errors(network, &data.inputs, data)?.iter().sum::<f64>(),
            };
            vec![Some((squares / data.input_width as f64).sqrt())]
        }
    };
    let values = values.into_iter().map(|value| value.filter(|value| value.is_finite())).collect();
    Ok(Measure { loss, values })
}

/// RMSE and R^2.
fn regression(
    network: &mut AnyNetwork<f32>,
    prepared: &Prepared,
    data: &Dataset,
) -> Result<Vec<Option<f64>>, Error> {
    let Targets::Values { values, width } = &data.targets else { return Ok(vec![None, None]) };
    let errors = squared_errors(network, values, data)?;
    let scale = |column| prepared.targets.as_ref().and_then(|s| s.scale.get(column).copied()).unwrap_or(1.0);
    let roots = errors.iter().enumerate().map(|(column, error)| error.sqrt() * scale(column));
    let rmse = roots.sum::<f64>() / *width as f64;
    let shares: Vec<f64> = errors
        .iter()
        .zip(variances(values, *width))
        .filter(|(_, variance)| *variance > 0.0)
        .map(|(error, variance)| 1.0 - error / variance)
        .collect();
    let r_squared = shares.iter().sum::<f64>() / shares.len() as f64;
    Ok(vec![Some(rmse), Some(r_squared)])
}

/// The mean squared error of each output.
fn squared_errors(network: &mut AnyNetwork<f32>, targets: &[f32], data: &Dataset) -> Result<Vec<f64>, Error> {
    let (width, loss) = (network.outputs(), network.loss());
    // With binary cross-entropy the outputs are logits.
    let prediction = |output: f32| match loss {
        Loss::BinaryCrossEntropy => 1.0 / (1.0 + (-f64::from(output)).exp()),
        _ => f64::from(output),
    };
    let mut errors = vec![0.0; width];
    network.predict_each(&data.inputs, |example, outputs| {
        let targets = rows(targets, width, example, example + 1);
        for ((error, output), target) in errors.iter_mut().zip(outputs).zip(targets) {
            *error += (prediction(*output) - f64::from(*target)).powi(2) / data.examples as f64;
        }
    })?;
    Ok(errors)
}

/// The variance of each column.
fn variances(values: &[f32], width: usize) -> Vec<f64> {
    let count = (values.len() / width.max(1)).max(1) as f64;
    let column = |index| values.iter().skip(index).step_by(width.max(1)).map(|value| f64::from(*value));
    let variance = |index| {
        let mean = column(index).sum::<f64>() / count;
        column(index).map(|value| (value - mean).powi(2)).sum::<f64>() / count
    };
    (0..width).map(variance).collect()
}
