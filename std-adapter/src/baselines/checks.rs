//! Argument checks, all made before the first write of a step.
//!
//! A gradient passes when `Σ g² ≤ f32::MAX / 4` (summed in `f64`). An orthogonal change of basis
//! keeps that sum, so no square, no entry of `G Gᵀ` or `Gᵀ G`, and no moving average of them
//! overflows. One pass over the entries, no storage.

use super::BaselineError;

/// Entries of every matrix of `shapes`.
pub(super) fn entry_counts(shapes: &[(usize, usize)]) -> Result<Vec<usize>, BaselineError> {
    let count = |(layer, &(rows, columns)): (usize, &(usize, usize))| {
        let fits = |&entries: &usize| entries > 0 && entries <= isize::MAX as usize / size_of::<f32>();
        let entries = rows.checked_mul(columns).filter(fits);
        entries.ok_or(BaselineError::Shape { layer, rows, columns })
    };
    shapes.iter().enumerate().map(count).collect()
}

/// Checks `weights` and `gradients` against the number of entries of each layer.
pub(super) fn step_arguments(
    entries: &[usize],
    weights: &[&mut [f32]],
    gradients: &[&[f32]],
) -> Result<(), BaselineError> {
    list_length("weights", entries.len(), weights.len())?;
    list_length("gradients", entries.len(), gradients.len())?;
    for (layer, (&expected, weight)) in entries.iter().zip(weights).enumerate() {
        matrix("weights", layer, expected, weight)?;
    }
    for (layer, (&expected, gradient)) in entries.iter().zip(gradients).enumerate() {
        matrix("gradients", layer, expected, gradient)?;
        squared_norm("gradients", layer, gradient)?;
    }
    Ok(())
}

fn list_length(argument: &'static str, expected: usize, got: usize) -> Result<(), BaselineError> {
    if expected == got { Ok(()) } else { Err(BaselineError::ListLength { argument, expected, got }) }
}

fn matrix(
    argument: &'static str,
    layer: usize,
    expected: usize,
    values: &[f32],
) -> Result<(), BaselineError> {
    if values.len() != expected {
        return Err(BaselineError::LayerLength { argument, layer, expected, got: values.len() });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(BaselineError::NotFinite { argument, layer, index }),
        None => Ok(()),
    }
}

fn squared_norm(argument: &'static str, layer: usize, values: &[f32]) -> Result<(), BaselineError> {
    let squared_norm: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    if squared_norm <= f64::from(f32::MAX) / 4.0 {
        Ok(())
    } else {
        Err(BaselineError::TooLarge { argument, layer, squared_norm })
    }
}

/// Accepts a finite value of at least zero.
pub(super) fn non_negative(name: &'static str, value: f32) -> Result<(), BaselineError> {
    let requirement = "finite and at least 0";
    setting(value.is_finite() && value >= 0.0, name, f64::from(value), requirement)
}

/// Accepts a finite value above zero.
pub(super) fn positive(name: &'static str, value: f32) -> Result<(), BaselineError> {
    setting(value.is_finite() && value > 0.0, name, f64::from(value), "finite and above 0")
}

/// Accepts the decay of a moving average.
pub(super) fn decay(name: &'static str, value: f32) -> Result<(), BaselineError> {
    setting((0.0..1.0).contains(&value), name, f64::from(value), "at least 0 and below 1")
}

/// An error naming the setting unless `accepted`.
pub(super) fn setting(
    accepted: bool,
    name: &'static str,
    value: f64,
    requirement: &'static str,
) -> Result<(), BaselineError> {
    if accepted { Ok(()) } else { Err(BaselineError::Setting { name, value, requirement }) }
}
