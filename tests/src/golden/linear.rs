//! Static cases: one batch through one layer.
//!
//! *Tolerances*: relative, Frobenius norm, 1e-9 in `f64`, `max(1e-4, 1e-6 / gap)` in `f32`. Where S + eps spans
//! many powers of ten (large data, singular or graded factors) the division multiplies rounding, that of the reference
//! as well: then a bound on rounding takes over, and the table counts these comparisons apart.

use super::{
    LinearCase,
    bench::{Bench, ascending, mean_gradient, ordered_scalings, widen, with_ones},
    measure::{Measure, difference, distance},
};
use ekfac::{Config, Damping, Estimator, MatrixMut, Outcome, Refresh, Scalar, damping};
use nalgebra::DMatrix;

/// Relative tolerance in `f64`.
pub const EXACT: f64 = 1e-9;
/// The smallest gap at which `f32` and single eigenvectors are compared.
pub const CLEAR_GAP: f64 = 1e-3;

/// The error of a value that the file leaves undefined: none as long as the value is finite.
pub(super) fn undefined(found: f64) -> f64 {
    if found.is_finite() { 0.0 } else { f64::INFINITY }
}

/// The range of the damped scalings.
#[derive(Clone, Copy)]
pub(super) struct Damped {
    pub(super) least: f64,
    pub(super) largest: f64,
}

/// A static case as matrices, one column an example.
pub struct Case<'a> {
    golden: &'a LinearCase,
    h: DMatrix<f64>,
    delta: DMatrix<f64>,
    gradient: DMatrix<f64>,
    /// (1/N) sum |delta| |abar|: what the gradient would be without cancellation.
    scale: f64,
}

impl<'a> Case<'a> {
    /// The case of a file.
    pub fn new(golden: &'a LinearCase) -> Self {
        let (h, delta) = (golden.h.batch(), golden.delta.batch());
        let gradient = mean_gradient(&h, &delta, golden.bias);
        let norms = delta
            .column_iter()
            .zip(with_ones(&h, golden.bias).column_iter().map(|a| a.norm()).collect::<Vec<_>>());
        let scale = norms.map(|(g, a)| g.norm() * a).sum::<f64>() / h.ncols() as f64;
        Self { golden, h, delta, gradient, scale }
    }

    /// The smaller of the two gaps; 1 where there is no second eigenvalue.
    pub fn gap(&self) -> f64 {
        let known = |gap: f64| if gap.is_finite() { gap } else { 1.0 };
        known(self.golden.min_rel_gap_A).min(known(self.golden.min_rel_gap_B))
    }

    /// A fresh bench for this layer.
    pub fn bench<T: Scalar>(&self) -> Bench<T> {
        Bench::new(self.h.nrows(), self.delta.nrows(), self.golden.bias, self.h.ncols())
    }

    /// A bench that has seen the batch.
    fn observed<T: Scalar>(&self, config: &Config<T>) -> (Bench<T>, Measure) {
        let mut bench = self.bench();
        let outcome = bench.observe(config, &self.h, &self.delta);
        let error = if outcome == Outcome::Applied { 0.0 } else { f64::INFINITY };
        (bench, Measure::new("outcome", error, 0.0))
    }

    /// Everything that is compared in `f64`.
    pub fn measures(&self) -> Vec<Measure> {
        let (mut bench, outcome) = self.observed(&paper::<f64>(1.0));
        let mut measures = vec![outcome];
        measures.push(Measure::new(
            "G",
            distance(&self.gradient, &self.golden.G.matrix(), self.floor()),
            EXACT,
        ));
        measures.extend(self.factors(&mut bench));
        measures.extend(self.scalings(&mut bench));
        measures.extend(self.frobenius(&mut bench));
        measures.extend(self.ekfac(&mut bench, |_| EXACT));
        measures.extend(self.baselines());
        measures.push(self.scalings_in_golden_basis());
        let golden = self.golden;
        let whole =
            [&golden.ekfac, &golden.kfac_plain, &golden.kfac_pi].map(Vec::len) == [golden.eps.len(); 3];
        measures.push(Measure::new("lengths", if whole { 0.0 } else { f64::INFINITY }, 0.0));
        measures
    }

    /// What is compared in `f32`: nothing for files with near-multiple eigenvalues.
    pub fn measures_f32(&self) -> Vec<Measure> {
        if self.gap() < CLEAR_GAP {
            return Vec::new();
        }
        let (mut bench, outcome) = self.observed(&paper::<f32>(1.0));
        let mut measures = vec![outcome];
        measures.extend(self.ekfac(&mut bench, |gap| (1e-6 / gap).max(1e-4)));
        measures
    }

    /// The same on a device.
    ///
    /// # Panics
    /// When the engine fails.
    pub fn on_device<E: ekfac_std::offload::Engine>(&self, engine: E) -> Vec<Measure> {
        let shape = ekfac::Shape::new(self.h.nrows(), self.delta.nrows());
        let shape = if self.golden.bias { shape } else { shape.without_bias() };
        let batch = (super::bench::cast::<f32>(&self.h), super::bench::cast::<f32>(&self.delta));
        let (mut device, progress) = crate::offload::single(engine, shape, &paper(1.0), (&batch.0, &batch.1));
        let gradient = super::bench::cast::<f32>(&self.gradient);
        let scalings = self.golden.S_star.matrix();
        let compare = |(eps, expected): (&f64, &super::Tensor)| {
            let mut found = vec![0.0; gradient.len()];
            device.precondition(&paper(*eps), &progress, &gradient, &mut found).expect("no fault");
            let found =
                DMatrix::from_iterator(shape.rows(), shape.columns(), found.into_iter().map(f64::from));
            let damped = Damped { least: scalings.min().max(0.0) + eps, largest: scalings.max() + eps };
            self.natural::<f32>("ekfac", &found, &expected.matrix(), (1e-6 / self.gap()).max(1e-4), damped)
        };
        self.golden.eps.iter().zip(&self.golden.ekfac).map(compare).collect()
    }

    /// Absolute rounding of a gradient of this scale, as a floor below which a relative error means nothing.
    fn floor(&self) -> f64 {
        1e-5 * self.scale
    }

    fn factors(&self, bench: &mut Bench<f64>) -> Vec<Measure> {
        let golden = self.golden;
        let layer = bench.layer();
        let mut measures = Vec::new();
        for (name, values, factor, expected, eigenvalues) in [
            ("A", "eig_A", layer.input_factor(), &golden.A, &golden.eig_A),
            ("B", "eig_B", layer.output_factor(), &golden.B, &golden.eig_B),
        ] {
            let mut found = DMatrix::zeros(factor.size(), factor.size());
            factor.reconstruct(MatrixMut::from(&mut found)).expect("n x n");
            measures.push(Measure::new(name, distance(&found, &expected.matrix(), 0.0), EXACT));
            let (_, sorted) = ascending(factor.values());
            measures.push(Measure::new(values, distance(&sorted, &eigenvalues.matrix(), 0.0), EXACT));
        }
        let pi = damping::pi(&layer);
        // Without a gradient or an input the formula is 0/0 or x/0; any finite value will do.
        let defined = golden.pi.is_finite() && golden.pi > 0.0;
        let error = if defined { difference(pi, golden.pi, 0.0) } else { undefined(pi) };
        measures.push(Measure::new("pi", error, EXACT));
        measures
    }

    /// What of S does not depend on the basis; and all of it, by ascending eigenvalues, where these are simple.
    fn scalings(&self, bench: &mut Bench<f64>) -> Vec<Measure> {
        let (layer, expected) = (bench.layer(), self.golden.S_star.matrix());
        let found = ordered_scalings(&layer);
        let mut measures =
            vec![Measure::new("sum of S", difference(found.sum(), expected.sum(), 0.0), EXACT)];
        if self.gap() >= CLEAR_GAP {
            measures.push(Measure::new("S by eigenvalues", distance(&found, &expected, 0.0), EXACT));
        }
        measures
    }

    /// S measured in the golden basis, with no refresh: entry by entry.
    fn scalings_in_golden_basis(&self) -> Measure {
        let mut bench = self.in_basis(&Basis::golden(self.golden));
        let found = widen(bench.layer().scalings());
        Measure::new("S in the golden basis", distance(&found, &self.golden.S_star.matrix(), 0.0), EXACT)
    }

    /// A bench with a basis from outside, S measured in it.
    pub fn in_basis(&self, basis: &Basis) -> Bench<f64> {
        let mut bench = self.bench();
        bench.load((&basis.input, &basis.input_values), (&basis.output, &basis.output_values));
        // At step 1 no refresh is due.
        bench.progress.steps = 1;
        let config = Config { refresh: Refresh::every(u32::MAX), ..paper(1.0) };
        assert_eq!(bench.observe(&config, &self.h, &self.delta), Outcome::Applied, "{}", self.golden.name);
        bench
    }

    /// EKFAC's preconditioned gradients against the golden ones.
    pub fn ekfac<T: Scalar>(&self, bench: &mut Bench<T>, tolerance: impl Fn(f64) -> f64) -> Vec<Measure> {
        let scalings = self.golden.S_star.matrix();
        let compare = |(eps, expected): (&f64, &super::Tensor)| {
            let found = bench.precondition(&paper(*eps), &self.gradient);
            let damped = Damped { least: scalings.min().max(0.0) + eps, largest: scalings.max() + eps };
            self.natural::<T>("ekfac", &found, &expected.matrix(), tolerance(self.gap()), damped)
        };
        self.golden.eps.iter().zip(&self.golden.ekfac).map(compare).collect()
    }

    /// K-FAC, plain and factored.
    fn baselines(&self) -> Vec<Measure> {
        let golden = self.golden;
        let plain = |eps| Config { estimator: Estimator::Kronecker, ..paper::<f64>(eps) };
        let factored = |eps| Config::<f64>::kfac(1.0, eps, u32::MAX);
        let (mut plain_bench, first) = self.observed(&plain(1.0));
        let (mut factored_bench, second) = self.observed(&factored(1.0));
        let mut measures = vec![first, second];
        for ((eps, expected), expected_factored) in
            golden.eps.iter().zip(&golden.kfac_plain).zip(&golden.kfac_pi)
        {
            let found = plain_bench.precondition(&plain(*eps), &self.gradient);
            let damped = self.kronecker(0.0, 0.0, *eps);
            measures.push(self.natural::<f64>("kfac_plain", &found, &expected.matrix(), EXACT, damped));
            let found = factored_bench.precondition(&factored(*eps), &self.gradient);
            let pi = damping::pi(&factored_bench.layer());
            let damped = self.kronecker(eps.sqrt() * pi, eps.sqrt() / pi, 0.0);
            let expected = expected_factored.matrix();
            if expected.iter().all(|value| value.is_finite()) {
                measures.push(self.natural::<f64>("kfac_pi", &found, &expected, EXACT, damped));
            } else {
                // The file leaves it undefined; the library must not.
                measures.push(Measure::new("kfac_pi, undefined in the file", undefined(found.sum()), 0.0));
            }
        }
        measures
    }

    /// The range of (a + on_a) (b + on_b) + on_both over the golden eigenvalues.
    fn kronecker(&self, on_a: f64, on_b: f64, on_both: f64) -> Damped {
        let (a, b) = (self.golden.eig_A.matrix(), self.golden.eig_B.matrix());
        let of = |a: f64, b: f64| (a.max(0.0) + on_a) * (b.max(0.0) + on_b) + on_both;
        Damped { least: of(a.min(), b.min()), largest: of(a.max(), b.max()) }
    }

    fn natural<T: Scalar>(
        &self,
        what: &str,
        found: &DMatrix<f64>,
        expected: &DMatrix<f64>,
        tolerance: f64,
        damped: Damped,
    ) -> Measure {
        natural::<T>(what, found, expected, tolerance, damped, self.scale)
    }

    /// |F|, |F - F_EKFAC| and |F - F_KFAC|, squared, from the layer's own bases and scalings and examples projected here.
    fn frobenius(&self, bench: &mut Bench<f64>) -> Vec<Measure> {
        let (layer, golden) = (bench.layer(), self.golden.fro);
        let (input, output) = (widen(layer.input_factor().basis()), widen(layer.output_factor().basis()));
        let gradients = output.transpose() * &self.delta;
        let activations = input.transpose() * with_ones(&self.h, self.golden.bias);
        let a = DMatrix::from_iterator(activations.nrows(), 1, layer.input_factor().values());
        let b = DMatrix::from_iterator(gradients.nrows(), 1, layer.output_factor().values());
        let whole = gram_norm_squared(&gradients, &activations);
        let ekfac = off_diagonal_norm_squared(&gradients, &activations, &widen(layer.scalings()));
        let kfac = off_diagonal_norm_squared(&gradients, &activations, &(b * a.transpose()));
        let floor = 1e-4 * golden.norm_F.powi(2);
        [
            ("|F|^2", whole, golden.norm_F),
            ("|F - EKFAC|^2", ekfac, golden.err_ekfac),
            ("|F - KFAC|^2", kfac, golden.err_kfac),
        ]
        .map(|(what, found, norm)| Measure::new(what, difference(found, norm.powi(2), floor), EXACT))
        .into()
    }
}

/// A preconditioned gradient against a golden one; `scale` is what the gradient would be without cancellation.
pub(super) fn natural<T: Scalar>(
    what: &str,
    found: &DMatrix<f64>,
    expected: &DMatrix<f64>,
    tolerance: f64,
    damped: Damped,
    scale: f64,
) -> Measure {
    let (error, size) = (distance(found, expected, 0.0), expected.norm().max(f64::MIN_POSITIVE));
    // D = K / S: the rounding of K counts, and that of S times D in the reference, whose S is not graded.
    let (here, there) = (T::EPSILON.to_f64() * scale, f64::EPSILON * damped.largest * size);
    let rounding = 16.0 * (here + there) / damped.least / size;
    if error > tolerance && rounding > tolerance {
        // With so much noise allowed the error says nothing; its share of the noise does.
        return Measure::new(&format!("{what}, by rounding"), error / rounding, 1.0);
    }
    Measure::new(what, error, tolerance)
}

/// |F|^2 = (1/N^2) sum_ij ((g_i . g_j) (a_i . a_j))^2.
fn gram_norm_squared(gradients: &DMatrix<f64>, activations: &DMatrix<f64>) -> f64 {
    let gram = (gradients.transpose() * gradients).component_mul(&(activations.transpose() * activations));
    gram.norm_squared() / (gram.nrows() as f64).powi(2)
}

/// |F - diag(scalings)|^2 in the eigenbasis, one row of F after another and so without cancellation.
fn off_diagonal_norm_squared(
    gradients: &DMatrix<f64>,
    activations: &DMatrix<f64>,
    scalings: &DMatrix<f64>,
) -> f64 {
    let (rows, columns, count) = (gradients.nrows(), activations.nrows(), gradients.ncols());
    let examples = DMatrix::from_fn(count, rows * columns, |example, index| {
        gradients[(index % rows, example)] * activations[(index / rows, example)]
    });
    let mut sum = 0.0;
    for (index, scaling) in scalings.iter().enumerate() {
        let mut row = examples.tr_mul(&examples.column(index)) / count as f64;
        row[index] -= scaling;
        sum += row.norm_squared();
    }
    sum
}

/// EKFAC with the paper's settings; the basis is refreshed at the first batch only.
pub fn paper<T: Scalar>(eps: f64) -> Config<T> {
    Config { damping: Damping::Absolute(T::from_f64(eps)), ..Config::paper(T::ONE, T::ONE, u32::MAX) }
}

/// Two bases and their eigenvalues, to be tampered with.
#[derive(Clone, Debug)]
pub struct Basis {
    /// U_A.
    pub input: DMatrix<f64>,
    /// Its eigenvalues.
    pub input_values: DMatrix<f64>,
    /// U_B.
    pub output: DMatrix<f64>,
    /// Its eigenvalues.
    pub output_values: DMatrix<f64>,
}

impl Basis {
    /// That of the file.
    pub fn golden(golden: &LinearCase) -> Self {
        Self {
            input: golden.U_A.matrix(),
            input_values: golden.eig_A.matrix(),
            output: golden.U_B.matrix(),
            output_values: golden.eig_B.matrix(),
        }
    }
}
