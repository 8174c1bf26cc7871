//! [`Dataset`]: inputs and targets in memory, and what is done to them before training.
//!
//! Cost: every method is one or two passes over the inputs; [`Dataset::split`] copies them. Sums are taken in
//! 64-bit floats.

use std::path::Path;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::targets::rows;
use super::{Array, DataError, TargetKind, Targets};

/// Examples with their targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// For messages and reports; the stem of the file for data that were loaded.
    pub name: String,
    /// `examples * input_width` values, one example after another: row-major `examples x input_width`, which is
    /// column-major `input_width x examples`.
    pub inputs: Vec<f32>,
    /// Values for each example.
    pub input_width: usize,
    /// What is to be predicted.
    pub targets: Targets,
    /// The number of examples.
    pub examples: usize,
}

/// The mean and scale of each feature: `x` becomes `(x - mean) / scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardisation {
    /// The mean of each feature over the examples it was taken from.
    pub mean: Vec<f64>,
    /// The standard deviation (divisor: the number of examples) of each feature, 1 for a constant one.
    pub scale: Vec<f64>,
}

impl Dataset {
    /// Inputs and, where there are any, targets from arrays whose first dimension counts the examples. The other
    /// dimensions of the inputs are flattened.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] where the arrays hold different numbers of examples, a number of values that is not
    /// the product of their shape, or targets that are not what `kind` asks for.
    ///
    /// ```
    /// use ekfac_std::data::{Array, Dataset, TargetKind, Targets};
    ///
    /// let images = Array { shape: vec![2, 1, 2], values: vec![0.0, 0.1, 0.2, 0.3] };
    /// let labels = Array { shape: vec![2], values: vec![1.0, 0.0] };
    /// let data = Dataset::from_arrays("two", images, Some(labels), TargetKind::Classes)?;
    /// assert_eq!((data.examples, data.input_width, data.targets.width()), (2, 2, 2));
    /// # Ok::<(), ekfac_std::data::DataError>(())
    /// ```
    pub fn from_arrays(
        name: &str,
        inputs: Array,
        targets: Option<Array>,
        kind: TargetKind,
    ) -> Result<Self, DataError> {
        for array in std::iter::once(&inputs).chain(&targets) {
            let product =
                array.shape.iter().try_fold(1_usize, |product, &length| product.checked_mul(length));
            if product != Some(array.values.len()) {
                let problem =
                    format!("{} values do not make an array of shape {:?}", array.values.len(), array.shape);
                return Err(DataError::mismatch(name, problem, "correct the shape"));
            }
        }
        let Some((&examples, rest)) = inputs.shape.split_first() else {
            let problem = "the inputs are a single value".to_owned();
            return Err(DataError::mismatch(
                name,
                problem,
                "give an array whose first dimension counts the examples",
            ));
        };
        let input_width = rest.iter().product();
        if let Some(targets) = targets.as_ref().filter(|targets| targets.shape.first() != Some(&examples)) {
            let problem = format!(
                "inputs of shape {:?} and targets of shape {:?} differ in the first",
                inputs.shape, targets.shape
            );
            return Err(DataError::mismatch(name, problem, "check that the two files belong together"));
        }
        let targets = match targets {
            Some(targets) => Targets::from_array(name, targets, kind)?,
            None => Targets::None,
        };
        Ok(Self { name: name.to_owned(), inputs: inputs.values, input_width, targets, examples })
    }

    /// Shuffles the examples and divides them into a training part and a validation part. The validation part
    /// holds `validation_fraction` of them, rounded to the nearest whole number. The same seed gives the same
    /// parts on every machine.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] where the fraction is not from 0 to below 1, where no example would be left for
    /// training, or where the public fields contradict each other.
    pub fn split(&self, validation_fraction: f64, seed: u64) -> Result<(Self, Self), DataError> {
        self.check()?;
        let held_out = (self.examples as f64 * validation_fraction).round();
        if !((0.0..1.0).contains(&validation_fraction) && held_out < self.examples as f64) {
            let problem = format!("a validation part of {validation_fraction} of {} examples", self.examples);
            return Err(DataError::mismatch(&self.name, problem, "leave at least one example for training"));
        }
        let order = shuffled(self.examples, seed);
        // Below the number of examples, as checked above.
        let (validation, training) = order.split_at_checked(held_out as usize).unwrap_or((&[], &order));
        Ok((self.select(training), self.select(validation)))
    }

    /// The first `count` examples, or all where there are fewer, and the rest, both in their order. Unlike
    /// [`Dataset::split`] it keeps together what belongs together, such as the examples of one subject.
    #[must_use]
    pub fn split_at(&self, count: usize) -> (Self, Self) {
        let order: Vec<usize> = (0..self.examples).collect();
        let (first, rest) = order.split_at_checked(count).unwrap_or((&order, &[]));
        (self.select(first), self.select(rest))
    }

    /// Shifts and scales every feature to mean 0 and variance 1 over these examples. Returns what was done, to
    /// [apply](Standardisation::apply) the same to the validation part.
    pub fn standardise(&mut self) -> Standardisation {
        let standardisation = Standardisation::of(&self.inputs, self.input_width);
        standardisation.scale(&mut self.inputs);
        standardisation
    }

    /// Divides all inputs by the largest magnitude among them, which takes images from 0 ..= 255 to 0 ..= 1 where a
    /// pixel is at 255. Returns the divisor, 1 where all inputs are 0.
    pub fn scale_by_max(&mut self) -> f32 {
        let largest = self.inputs.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let divisor = if largest > 0.0 { largest } else { 1.0 };
        self.divide_inputs(divisor);
        divisor
    }

    /// Divides all inputs by `divisor`, as for a test set by the divisor of the training set.
    pub fn divide_inputs(&mut self, divisor: f32) {
        for value in &mut self.inputs {
            *value /= divisor;
        }
    }

    /// The stem of a path, also without `.gz`.
    pub(super) fn name_of(path: &Path) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem }).to_owned()
    }

    fn select(&self, indices: &[usize]) -> Self {
        Self {
            name: self.name.clone(),
            inputs: rows(&self.inputs, self.input_width, indices),
            input_width: self.input_width,
            targets: self.targets.select(indices),
            examples: indices.len(),
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let inputs = self.examples.checked_mul(self.input_width);
        if inputs == Some(self.inputs.len()) && self.targets.examples().is_none_or(|n| n == self.examples) {
            return Ok(());
        }
        let problem = format!(
            "{} examples of {} inputs do not agree with {} input values and targets for {:?} examples",
            self.examples,
            self.input_width,
            self.inputs.len(),
            self.targets.examples()
        );
        Err(DataError::mismatch(&self.name, problem, "correct the fields of the data set"))
    }
}

impl Standardisation {
    /// Applies the shift and scale to other data with the same features.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] where the number of features differs.
    pub fn apply(&self, data: &mut Dataset) -> Result<(), DataError> {
        if data.input_width != self.mean.len() || self.scale.len() != self.mean.len() {
            let problem = format!("{} features, but {} means", data.input_width, self.mean.len());
            return Err(DataError::mismatch(
                &data.name,
                problem,
                "standardise by data with the same features",
            ));
        }
        self.scale(&mut data.inputs);
        Ok(())
    }

    fn of(inputs: &[f32], width: usize) -> Self {
        let (mut mean, mut scale) = (vec![0.0; width], vec![0.0; width]);
        let examples = || inputs.chunks_exact(width.max(1));
        let count = (examples().len() as f64).max(1.0);
        for example in examples() {
            mean.iter_mut().zip(example).for_each(|(mean, &x)| *mean += f64::from(x) / count);
        }
        for example in examples() {
            for ((scale, &mean), &x) in scale.iter_mut().zip(&mean).zip(example) {
                *scale += (f64::from(x) - mean).powi(2) / count;
            }
        }
        for (feature, scale) in scale.iter_mut().enumerate() {
            // Rounding leaves a constant feature with a tiny variance, by which no other value may be divided.
            let mut column = examples().filter_map(|example| example.get(feature));
            let first = column.next();
            let constant = column.all(|x| Some(x) == first);
            *scale = if constant { 1.0 } else { scale.sqrt() };
        }
        Self { mean, scale }
    }

    fn scale(&self, inputs: &mut [f32]) {
        for example in inputs.chunks_exact_mut(self.mean.len().max(1)) {
            for ((x, mean), scale) in example.iter_mut().zip(&self.mean).zip(&self.scale) {
                *x = ((f64::from(*x) - mean) / scale) as f32;
            }
        }
    }
}

/// 0 .. `n` in random order (Fisher and Yates). The high half of a 128-bit product picks an index below `i + 1`;
/// its bias, at most n/2⁶⁴, is far below what any experiment can notice.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = (u128::from(random.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}
