//! Whole training runs by [`Learner`].
//!
//! *Tolerances*: 1e-8 for `strict` runs in `f64` and 1e-3 in `f32`. For the others, whose loss depends on the choice of
//! eigenbasis, the loss is within ten times the spread that the file states for other valid bases and the final weights
//! are only shown; the first update does not depend on that choice, so it stays at 1e-8.

use super::{
    Trajectory,
    bench::{cast, widen},
    measure::{Measure, difference, distance},
};
use crate::oracle;
use ekfac::{
    Activation, Averaging, Carry, Config, Damping, Dense, Estimator, LayerList, Learner, Loss, MatrixRef,
    Net, Outcome, Refresh, Scalar, Step, Targets,
};
use nalgebra::DMatrix;

/// Tolerance for strict runs.
const STRICT: f64 = 1e-8;
/// Tolerance for strict runs in `f32`.
const STRICT_F32: f64 = 1e-3;

/// Methods by the names that files give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Ekfac,
    MeanGradientRunning,
    PerExampleRunning,
    Kfac,
    KfacFactored,
    GradientDescent,
}

fn method(name: &str) -> Result<Method, String> {
    match name {
        "ekfac" | "ekfac_intra" | "intra" => Ok(Method::Ekfac),
        "ekfac_ra" | "ra" => Ok(Method::MeanGradientRunning),
        "ekfac_running_intra" | "running_intra" => Ok(Method::PerExampleRunning),
        "kfac" | "kfac_plain" | "plain" => Ok(Method::Kfac),
        "kfac_pi" | "pi" => Ok(Method::KfacFactored),
        "sgd" => Ok(Method::GradientDescent),
        _ => Err(format!("unknown method {name:?}")),
    }
}

/// Targets as the library wants them.
enum Wanted {
    Values(DMatrix<f64>),
    Classes(Vec<u32>),
}

/// Refuses runs that cannot be repeated.
///
/// # Errors
/// What is unknown or missing.
pub fn check(golden: &Trajectory) -> Result<(), String> {
    let method = method(&golden.method)?;
    settings::<f64>(golden, method)?.check().map_err(|error| format!("settings: {error}"))?;
    wanted(golden)?;
    let layers = golden.sizes.len().saturating_sub(1);
    let of_layers = |count: usize| count == layers;
    let right = layers > 0
        && of_layers(golden.W0.len())
        && of_layers(golden.W_final.len())
        && (golden.linear_layers.is_empty() || of_layers(golden.linear_layers.len()))
        && golden.losses.len() >= golden.batches.len();
    if right { Ok(()) } else { Err("lengths of W0, W_final, linear_layers, batches and losses".to_owned()) }
}

fn settings<T: Scalar>(golden: &Trajectory, method: Method) -> Result<Config<T>, String> {
    let of = |value: Option<f64>, name: &str| value.map(T::from_f64).ok_or_else(|| format!("no {name}"));
    let rate = T::from_f64(golden.lr);
    if method == Method::GradientDescent {
        return Ok(Config { learning_rate: rate, ..Config::paper(rate, T::ONE, 1) });
    }
    let (eps, period) = (of(golden.eps, "eps")?, golden.freq.ok_or("no freq")?);
    Ok(match method {
        Method::Ekfac | Method::GradientDescent => Config::paper(rate, eps, period),
        Method::MeanGradientRunning => Config::paper_running(rate, eps, period, of(golden.alpha, "alpha")?),
        Method::PerExampleRunning => Config {
            estimator: Estimator::PerExampleRunning,
            scalings: Averaging::Decay(of(golden.alpha, "alpha")?),
            refresh: Refresh::every(period).carrying(Carry::Rebuild),
            ..Config::paper(rate, eps, period)
        },
        Method::Kfac => Config { damping: Damping::Absolute(eps), ..Config::kfac(rate, eps, period) },
        Method::KfacFactored => Config::kfac(rate, eps, period),
    })
}

/// Classes for a classifier; values for an autoencoder, its own inputs if the file names none.
fn wanted(golden: &Trajectory) -> Result<Wanted, String> {
    let bad = |error: serde_json::Error| format!("targets T: {error}");
    let values = golden.T.clone();
    match (golden.kind.as_str(), values) {
        ("clf", values) => serde_json::from_value(values).map(Wanted::Classes).map_err(bad),
        (_, serde_json::Value::Null) => Ok(Wanted::Values(golden.X.batch())),
        (_, serde_json::Value::Array(rows)) => {
            let rows: Vec<Vec<f64>> = serde_json::from_value(rows.into()).map_err(bad)?;
            let width = rows.first().map_or(0, Vec::len);
            Ok(Wanted::Values(DMatrix::from_iterator(width, rows.len(), rows.into_iter().flatten())))
        }
        (_, tensor) => {
            Ok(Wanted::Values(serde_json::from_value::<super::Tensor>(tensor).map_err(bad)?.batch()))
        }
    }
}

fn layers(golden: &Trajectory) -> LayerList {
    let mut layers = LayerList::new();
    for (index, (inputs, outputs)) in golden.sizes.iter().zip(golden.sizes.iter().skip(1)).enumerate() {
        let linear = golden.linear_layers.get(index).copied().unwrap_or(index + 2 == golden.sizes.len());
        let activation = if linear { Activation::Identity } else { Activation::Tanh };
        layers.push(Dense::new(*inputs, *outputs, activation)).expect("a layer too many");
    }
    layers
}

/// Everything that is compared in `f64`.
///
/// # Panics
/// When the library refuses a step with an error.
pub fn measures(golden: &Trajectory) -> Vec<Measure> {
    compare::<f64>(golden, STRICT)
}

/// What is compared in `f32`: the strict runs.
///
/// # Panics
/// When the library refuses a step with an error.
pub fn measures_f32(golden: &Trajectory) -> Vec<Measure> {
    if golden.strict { compare::<f32>(golden, STRICT_F32) } else { Vec::new() }
}

fn compare<T: Scalar>(golden: &Trajectory, strict: f64) -> Vec<Measure> {
    let run = Run::<T>::new(golden);
    let spread = golden.basis_choice_spread.unwrap_or(0.0);
    let tolerance = if golden.strict { strict } else { strict.max(10.0 * spread) };
    let mut measures = vec![Measure::new("outcomes", if run.applied { 0.0 } else { f64::INFINITY }, 0.0)];
    let what = |name: &str| {
        let trust = if golden.strict { "strict" } else { "not strict" };
        format!("{} {name}, {trust}", golden.method)
    };
    // A spread is stated for the loss, so a small loss counts as 1 there.
    let floor = if golden.strict { 0.0 } else { 1.0 };
    for (found, expected) in run.losses.iter().zip(&golden.losses) {
        measures.push(Measure::new(&what("loss"), difference(*found, *expected, floor), tolerance));
    }
    for ((first, start), expected) in run.first.iter().zip(&golden.W0).zip(&golden.first_update) {
        let found = (start.matrix() - first) / golden.lr;
        measures.push(Measure::new(&what("first update"), distance(&found, &expected.matrix(), 0.0), strict));
    }
    let shown = if golden.strict { tolerance } else { f64::MAX };
    for (found, expected) in run.last.iter().zip(&golden.W_final) {
        measures.push(Measure::new(&what("final weights"), distance(found, &expected.matrix(), 0.0), shown));
    }
    measures
}

/// What a run left.
struct Run<T> {
    losses: Vec<f64>,
    /// Weights after the first step.
    first: Vec<DMatrix<f64>>,
    last: Vec<DMatrix<f64>>,
    applied: bool,
    scalar: std::marker::PhantomData<T>,
}

impl<T: Scalar> Run<T> {
    fn new(golden: &Trajectory) -> Self {
        let layers = layers(golden);
        let loss = if golden.kind == "clf" { Loss::SoftmaxCrossEntropy } else { Loss::SquaredError };
        let net = Net::new(&layers, loss);
        let method = method(&golden.method).expect("checked when read");
        let config = settings::<T>(golden, method).expect("checked when read");
        let capacity = golden.batches.iter().map(Vec::len).max().unwrap_or(1);
        let mut memory = vec![T::ZERO; net.words(capacity)];
        let mut learner = Learner::new(net, config, 0, capacity, &mut memory).expect("a learner");
        for (index, weights) in golden.W0.iter().enumerate() {
            let weights = weights.matrix().map(T::from_f64);
            learner.set_weights(index, MatrixRef::from(&weights)).expect("W0");
        }
        let wanted = wanted(golden).expect("checked when read");
        let mut run =
            Self { losses: vec![], first: vec![], last: vec![], applied: true, scalar: Default::default() };
        for (step, rows) in golden.batches.iter().enumerate() {
            let taken = one_step(&mut learner, method, &golden.X.batch(), &wanted, rows);
            run.losses.push(taken.loss.to_f64());
            run.applied &= taken.outcome == Outcome::Applied;
            if step == 0 {
                run.first = weights(&mut learner);
            }
        }
        run.last = weights(&mut learner);
        run
    }
}

fn one_step<T: Scalar>(
    learner: &mut Learner<'_, T>,
    method: Method,
    inputs: &DMatrix<f64>,
    wanted: &Wanted,
    rows: &[usize],
) -> Step<T> {
    let inputs = cast::<T>(&inputs.select_columns(rows));
    let (values, classes): (Vec<T>, Vec<u32>) = match wanted {
        Wanted::Values(values) => (cast(&values.select_columns(rows)), vec![]),
        Wanted::Classes(classes) => (vec![], rows.iter().map(|row| classes[*row]).collect()),
    };
    let targets = match wanted {
        Wanted::Values(_) => Targets::Values(&values),
        Wanted::Classes(_) => Targets::Classes(&classes),
    };
    if method == Method::GradientDescent {
        return descend(learner, &inputs, targets);
    }
    learner.step(&inputs, targets).expect("a step")
}

/// Gradient descent by hand: it checks the gradient and the loss alone.
fn descend<T: Scalar>(learner: &mut Learner<'_, T>, inputs: &[T], targets: Targets<'_, T>) -> Step<T> {
    let mut gradient = vec![T::ZERO; learner.net().parameters()];
    let loss = learner.mean_gradient(inputs, targets, &mut gradient).expect("a gradient");
    let rate = learner.config().learning_rate;
    let mut rest = gradient.iter();
    for layer in 0..learner.net().layers().len() {
        let mut weights = oracle::weights(learner, layer);
        weights.iter_mut().zip(rest.by_ref()).for_each(|(w, g)| *w -= rate * *g);
        learner.set_weights(layer, MatrixRef::from(&weights)).expect("finite weights");
    }
    Step { outcome: Outcome::Applied, loss, shrink: T::ONE, held: 0, reduction_ratio: None }
}

fn weights<T: Scalar>(learner: &mut Learner<'_, T>) -> Vec<DMatrix<f64>> {
    let layers = learner.net().layers().len();
    (0..layers).map(|layer| widen(MatrixRef::from(&oracle::weights(learner, layer)))).collect()
}

/// A strict run on a device, in `f32`.
///
/// # Panics
/// When the engine fails.
pub fn on_device<E: ekfac_std::offload::Engine>(golden: &Trajectory, engine: E) -> Vec<Measure> {
    let layers = layers(golden);
    let loss = if golden.kind == "clf" { Loss::SoftmaxCrossEntropy } else { Loss::SquaredError };
    let config =
        settings::<f32>(golden, method(&golden.method).expect("checked")).expect("checked when read");
    let capacity = golden.batches.iter().map(Vec::len).max().unwrap_or(1);
    let net = Net::new(&layers, loss);
    let mut memory = vec![0.0_f32; net.words(capacity)];
    let mut learner = Learner::new(net, config, 0, capacity, &mut memory).expect("a learner");
    for (index, weights) in golden.W0.iter().enumerate() {
        let weights = weights.matrix().map(|value| value as f32);
        learner.set_weights(index, MatrixRef::from(&weights)).expect("W0");
    }
    let state = learner.state().to_vec();
    let mut device =
        ekfac_std::offload::DeviceNet::new(engine, &layers, loss, capacity, &state).expect("a device");
    let mut progress = ekfac::Progress::new(0);
    let (x, wanted) = (golden.X.batch(), wanted(golden).expect("checked when read"));
    let mut measures = Vec::new();
    for (rows, expected) in golden.batches.iter().zip(&golden.losses) {
        let inputs = cast::<f32>(&x.select_columns(rows));
        let step = match &wanted {
            Wanted::Classes(classes) => {
                let classes: Vec<u32> = rows.iter().map(|row| classes[*row]).collect();
                device.step(&config, &mut progress, &inputs, Targets::Classes(&classes))
            }
            Wanted::Values(values) => {
                let values = cast::<f32>(&values.select_columns(rows));
                device.step(&config, &mut progress, &inputs, Targets::Values(&values))
            }
        };
        let step = step.expect("no fault").expect("a step");
        measures.push(Measure::new(
            &format!("{} loss", golden.method),
            difference(step.loss.into(), *expected, 0.0),
            STRICT_F32,
        ));
    }
    measures
}
