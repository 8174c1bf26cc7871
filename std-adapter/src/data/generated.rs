//! Data made from a seed.

use ekfac::Scalar;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::f64::consts::TAU;

use super::{Dataset, Targets};

const EXAMPLES: usize = 1250;
const INPUTS: usize = 32;
const HIDDEN: usize = 16;
const OUTPUTS: usize = 4;
/// Ratio of the largest to the smallest eigenvalue of the inputs' covariance.
const CONDITION: f64 = 1e4;
/// Standard deviation of the targets, about, and of the noise on them.
const SIZE: f64 = 100.0;
const NOISE: f64 = 1.0;

/// A regression that plain gradients find hard: 1,250 examples of 32 inputs and 4 values.
///
/// ```text
/// x = Q √Λ z,   λ_i ∝ 10⁴ ^ (−i / 31),   tr Λ = 32,   z, u and all entries of V and W normal
/// y = 100 · V tanh(W x / √32) / √16 + u
/// ```
///
/// Q is a random orthogonal matrix, so that no scaling of the inputs one by one removes the spread of the eigenvalues;
/// the targets are far from unit scale, as targets in the user's own unit often are. The same seed gives the same data,
/// bit for bit: functions beyond square roots are core's, the same on every machine.
#[must_use]
pub fn ill_conditioned(seed: u64) -> Dataset {
    let mut random = Normal(Xoshiro256PlusPlus::seed_from_u64(seed));
    let basis = orthogonal(&mut random);
    let deviations = deviations();
    let inner: Vec<f64> = random.take(HIDDEN * INPUTS);
    let outer: Vec<f64> = random.take(OUTPUTS * HIDDEN);
    let (mut inputs, mut values) = (Vec::new(), Vec::new());
    for _ in 0..EXAMPLES {
        let mut x = vec![0.0; INPUTS];
        for (direction, deviation) in basis.iter().zip(&deviations) {
            add(&mut x, deviation * random.draw(), direction);
        }
        let hidden: Vec<f64> =
            inner.chunks(INPUTS).map(|row| Scalar::tanh(dot(row, &x) / (INPUTS as f64).sqrt())).collect();
        for row in outer.chunks(HIDDEN) {
            let value = SIZE * dot(row, &hidden) / (HIDDEN as f64).sqrt();
            values.push((value + NOISE * random.draw()) as f32);
        }
        inputs.extend(x.iter().map(|&x| x as f32));
    }
    Dataset {
        name: "ill-conditioned".to_owned(),
        inputs,
        input_width: INPUTS,
        targets: Targets::Values { values, width: OUTPUTS },
        examples: EXAMPLES,
    }
}

/// Square roots of the eigenvalues.
fn deviations() -> Vec<f64> {
    let fall = Scalar::ln(CONDITION) / (2.0 * (INPUTS - 1) as f64);
    let mut deviations: Vec<f64> = (0..INPUTS).map(|index| Scalar::exp(-fall * index as f64)).collect();
    let size = (INPUTS as f64 / dot(&deviations, &deviations)).sqrt();
    deviations.iter_mut().for_each(|deviation| *deviation *= size);
    deviations
}

/// Orthonormal vectors in random directions (Gram and Schmidt, twice for accuracy).
fn orthogonal(random: &mut Normal) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(INPUTS);
    for _ in 0..INPUTS {
        let mut vector = random.take(INPUTS);
        for _ in 0..2 {
            basis.iter().for_each(|known| {
                let part = dot(known, &vector);
                add(&mut vector, -part, known);
            });
            let length = dot(&vector, &vector).sqrt();
            vector.iter_mut().for_each(|x| *x /= length);
        }
        basis.push(vector);
    }
    basis
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

fn add(to: &mut [f64], factor: f64, vector: &[f64]) {
    to.iter_mut().zip(vector).for_each(|(to, x)| *to += factor * x);
}

/// Normal numbers of mean 0 and variance 1 (Box and Muller 1958).
struct Normal(Xoshiro256PlusPlus);

impl Normal {
    fn draw(&mut self) -> f64 {
        let [radius, turn] = [0; 2].map(|_| f64::from_unit_bits(self.0.next_u64()));
        // 1 - radius is above 0.
        (-2.0 * Scalar::ln(1.0 - radius)).sqrt() * Scalar::cos(TAU * turn)
    }

    fn take(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.draw()).collect()
    }
}
