//! Sequences: several batches in the basis of the first one, S as a running average.

use super::{
    SequenceCase, Tensor,
    bench::{Bench, mean_gradient, order, scalings_in},
    linear::EXACT,
    measure::{Measure, distance},
};
use ekfac::{Averaging, Carry, Config, Damping, Estimator, Outcome, Refresh};
use nalgebra::DMatrix;

/// Everything that is compared.
pub fn measures(golden: &SequenceCase) -> Vec<Measure> {
    let ra = Config::paper_running(1.0, 1.0, u32::MAX, golden.alpha);
    let running = Config {
        estimator: Estimator::PerExampleRunning,
        scalings: Averaging::Decay(golden.alpha),
        refresh: Refresh::every(u32::MAX).carrying(Carry::Rebuild),
        ..ra
    };
    let moments: Vec<_> = golden.m2.iter().map(Some).collect();
    let mut last = vec![None; golden.h.len().saturating_sub(1)];
    last.push(Some(&golden.S_running_last));
    let mut measures = run(golden, &ra, "ekfac_ra", &golden.ekfac_ra, &moments);
    measures.extend(run(golden, &running, "ekfac_running_intra", &golden.ekfac_running_intra, &last));
    measures
}

/// One estimator over all batches: its preconditioned gradients, and S where the file has it.
fn run(
    golden: &SequenceCase,
    config: &Config<f64>,
    what: &str,
    expected: &[Vec<Tensor>],
    scalings: &[Option<&Tensor>],
) -> Vec<Measure> {
    let batches: Vec<(DMatrix<f64>, DMatrix<f64>)> =
        golden.h.iter().zip(&golden.delta).map(|(h, delta)| (h.batch(), delta.batch())).collect();
    let Some((h, delta)) = batches.first() else { return vec![Measure::new("batches", f64::NAN, 0.0)] };
    let mut bench = Bench::new(h.nrows(), delta.nrows(), golden.bias, h.ncols());
    let lengths = batches.len() == expected.len() && batches.len() == scalings.len();
    let mut measures = vec![Measure::new("lengths", if lengths { 0.0 } else { f64::INFINITY }, 0.0)];
    // The basis is that of the first batch, which the golden vectors order by its eigenvalues; later batches change these.
    let mut first = None;
    for (((h, delta), expected), scalings) in batches.iter().zip(expected).zip(scalings) {
        let outcome = bench.observe(config, h, delta);
        let error = if outcome == Outcome::Applied { 0.0 } else { f64::INFINITY };
        measures.push(Measure::new("outcome", error, 0.0));
        let first = first.get_or_insert_with(|| order(&bench.layer()));
        if let Some(expected) = scalings {
            let found = scalings_in(first, &bench.layer());
            let what = format!("S of {what}");
            measures.push(Measure::new(&what, distance(&found, &expected.matrix(), 0.0), EXACT));
        }
        let gradient = mean_gradient(h, delta, golden.bias);
        for (eps, expected) in golden.eps.iter().zip(expected) {
            let config = Config { damping: Damping::Absolute(*eps), ..*config };
            let found = bench.precondition(&config, &gradient);
            measures.push(Measure::new(what, distance(&found, &expected.matrix(), 0.0), EXACT));
        }
    }
    measures
}
