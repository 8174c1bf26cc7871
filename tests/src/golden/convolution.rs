//! Static cases of a convolution: one batch of images through one layer.
//!
//! *Tolerances*: those of [`linear`](super::linear).

use super::{
    Geometry, LinearCase,
    bench::{ascending, ordered_scalings, widen},
    linear::{CLEAR_GAP, Damped, EXACT, natural, paper},
    measure::{Measure, difference, distance},
};
use crate::oracle::{
    bench::reconstructed,
    block,
    convolution::{Bench, Plan, fisher},
    narrowed, packed,
};
use ekfac::{Config, Estimator, MatrixRef, Outcome, Refresh, Scalar, damping};
use nalgebra::DMatrix;

/// A static case as matrices, one column an example.
pub struct Case<'a> {
    golden: &'a LinearCase,
    geometry: Geometry,
    plan: Plan,
    images: DMatrix<f64>,
    maps: DMatrix<f64>,
    /// (1/N) sum |delta| |abar| over locations: what the gradient would be without cancellation.
    scale: f64,
}

impl<'a> Case<'a> {
    /// The case of a file.
    pub fn new(golden: &'a LinearCase, geometry: Geometry) -> Self {
        let plan = Plan {
            channels: geometry.c_in,
            outputs: geometry.c_out,
            size: [geometry.height, geometry.width],
            kernel: [geometry.kernel; 2],
            stride: [geometry.stride; 2],
            padding: [geometry.padding; 2],
            dilation: [1; 2],
            groups: 1,
            bias: golden.bias,
            channels_last: false,
        };
        let (images, maps) = (golden.h.batch(), golden.delta.batch());
        let mut scale = 0.0;
        for (image, map) in images.column_iter().zip(maps.column_iter()) {
            let (a, g) = (plan.patches(0, image.as_slice()), plan.outputs(0, map.as_slice()));
            scale += a.column_iter().zip(g.column_iter()).map(|(a, g)| a.norm() * g.norm()).sum::<f64>();
        }
        let scale = scale / images.ncols() as f64;
        Self { golden, geometry, plan, images, maps, scale }
    }

    fn gap(&self) -> f64 {
        self.golden.min_rel_gap_A.min(self.golden.min_rel_gap_B)
    }

    fn locations(&self) -> f64 {
        self.geometry.locations as f64
    }

    /// A bench that has seen the batch.
    fn observed<T: Scalar>(&self, config: Config<T>) -> (Bench<T>, Measure) {
        let mut bench = Bench::new(self.plan.convolution(), config);
        let outcome = bench.observe(&self.images, &self.maps);
        let error = if outcome == Outcome::Applied { 0.0 } else { f64::INFINITY };
        (bench, Measure::new("outcome", error, 0.0))
    }

    /// Everything that is compared in `f64`.
    pub fn measures(&self) -> Vec<Measure> {
        let golden = self.golden;
        let (mut bench, outcome) = self.observed(paper::<f64>(1.0));
        let mut measures = vec![outcome, self.sizes(&bench)];
        let gradient = bench.mean_gradient(&self.images, &self.maps);
        measures.push(Measure::new(
            "G",
            distance(&gradient[0], &golden.G.matrix(), 1e-5 * self.scale),
            EXACT,
        ));
        measures.extend(self.factors(&mut bench));
        measures.extend(self.scalings(&mut bench));
        measures.extend(self.frobenius(&mut bench));
        measures.extend(self.ekfac(&mut bench, &gradient, EXACT));
        measures.extend(self.baselines(&gradient));
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
        let (mut bench, outcome) = self.observed(paper::<f32>(1.0));
        let gradient = bench.mean_gradient(&self.images, &self.maps);
        let mut measures = vec![outcome];
        measures.extend(self.ekfac(&mut bench, &gradient, (1e-6 / self.gap()).max(1e-4)));
        measures
    }

    fn sizes(&self, bench: &Bench<f64>) -> Measure {
        let [rows, columns] = bench.convolution.axes().map(|axis| axis.positions());
        let found = (rows, columns, bench.convolution.locations());
        let right = found == (self.geometry.out_h, self.geometry.out_w, self.geometry.locations);
        Measure::new("sizes of the output", if right { 0.0 } else { f64::INFINITY }, 0.0)
    }

    /// The library's A is a sum over locations.
    fn factors(&self, bench: &mut Bench<f64>) -> Vec<Measure> {
        let (golden, layer) = (self.golden, bench.layer(0));
        let mut measures = Vec::new();
        for (name, values, factor, share, expected, eigenvalues) in [
            ("A", "eig_A", layer.input_factor(), self.locations(), &golden.A, &golden.eig_A),
            ("B", "eig_B", layer.output_factor(), 1.0, &golden.B, &golden.eig_B),
        ] {
            let found = reconstructed(factor) / share;
            measures.push(Measure::new(name, distance(&found, &expected.matrix(), 0.0), EXACT));
            let sorted = ascending(factor.values()).1 / share;
            measures.push(Measure::new(values, distance(&sorted, &eigenvalues.matrix(), 0.0), EXACT));
        }
        measures.push(Measure::new("pi", difference(damping::pi(&layer), golden.pi, 0.0), EXACT));
        measures
    }

    fn scalings(&self, bench: &mut Bench<f64>) -> Vec<Measure> {
        let (golden, expected) = (self.golden, self.golden.S_star.matrix());
        let found = ordered_scalings(&bench.layer(0));
        let sum = difference(found.sum(), expected.sum(), 0.0);
        let mut measures = vec![Measure::new("sum of S", sum, EXACT)];
        if self.gap() >= CLEAR_GAP {
            measures.push(Measure::new("S by eigenvalues", distance(&found, &expected, 0.0), EXACT));
        }
        // And in the golden basis, with no refresh: at step 1 none is due.
        let mut bench = Bench::new(
            self.plan.convolution(),
            Config { refresh: Refresh::every(u32::MAX), ..paper::<f64>(1.0) },
        );
        bench.progress.steps = 1;
        let mut layer = bench.layer(0);
        let load = |basis: &super::Tensor, values: &super::Tensor| {
            let (basis, values) = (basis.matrix(), values.matrix());
            let size = basis.ncols();
            (narrowed::<f64>(&basis), packed(&DMatrix::from_diagonal(&values.column(0).into_owned())), size)
        };
        let (basis, covariance, size) = load(&golden.U_A, &golden.eig_A);
        let view = MatrixRef::new(&basis, size, size).expect("a square");
        layer.load_input_factor(view, &covariance).expect("a basis of the factor's size");
        let (basis, covariance, size) = load(&golden.U_B, &golden.eig_B);
        let view = MatrixRef::new(&basis, size, size).expect("a square");
        layer.load_output_factor(view, &covariance).expect("a basis of the factor's size");
        let outcome = bench.observe(&self.images, &self.maps);
        let found = widen(bench.layer(0).scalings());
        let error = distance(&found, &expected, 0.0);
        let error = if outcome == Outcome::Applied { error } else { f64::INFINITY };
        measures.push(Measure::new("S in the golden basis", error, EXACT));
        measures
    }

    fn ekfac<T: Scalar>(
        &self,
        bench: &mut Bench<T>,
        gradient: &[DMatrix<f64>],
        tolerance: f64,
    ) -> Vec<Measure> {
        let scalings = self.golden.S_star.matrix();
        let compare = |(eps, expected): (&f64, &super::Tensor)| {
            bench.config = paper(*eps);
            let found = &bench.precondition(gradient)[0];
            let damped = Damped { least: scalings.min().max(0.0) + eps, largest: scalings.max() + eps };
            natural::<T>("ekfac", found, &expected.matrix(), tolerance, damped, self.scale)
        };
        self.golden.eps.iter().zip(&self.golden.ekfac).map(compare).collect()
    }

    /// K-FAC, plain and factored.
    fn baselines(&self, gradient: &[DMatrix<f64>]) -> Vec<Measure> {
        let golden = self.golden;
        let plain = |eps| Config { estimator: Estimator::Kronecker, ..paper::<f64>(eps) };
        let factored = |eps| Config::<f64>::kfac(1.0, eps, u32::MAX);
        let (mut plain_bench, first) = self.observed(plain(1.0));
        let (mut factored_bench, second) = self.observed(factored(1.0));
        let mut measures = vec![first, second];
        for ((eps, expected), expected_factored) in
            golden.eps.iter().zip(&golden.kfac_plain).zip(&golden.kfac_pi)
        {
            plain_bench.config = plain(*eps);
            let found = &plain_bench.precondition(gradient)[0];
            let damped = self.kronecker(0.0, 0.0, *eps);
            measures.push(natural::<f64>("kfac_plain", found, &expected.matrix(), EXACT, damped, self.scale));
            factored_bench.config = factored(*eps);
            let found = &factored_bench.precondition(gradient)[0];
            let pi = damping::pi(&factored_bench.layer(0));
            let damped = self.kronecker(eps.sqrt() * pi, eps.sqrt() / pi, 0.0);
            let expected = expected_factored.matrix();
            measures.push(natural::<f64>("kfac_pi", found, &expected, EXACT, damped, self.scale));
        }
        measures
    }

    /// The range of (T a + on_a) (b + on_b) + on_both over the golden eigenvalues.
    fn kronecker(&self, on_a: f64, on_b: f64, on_both: f64) -> Damped {
        let (a, b) = (self.golden.eig_A.matrix() * self.locations(), self.golden.eig_B.matrix());
        let of = |a: f64, b: f64| (a.max(0.0) + on_a) * (b.max(0.0) + on_b) + on_both;
        Damped { least: of(a.min(), b.min()), largest: of(a.max(), b.max()) }
    }

    /// |F|, |F - F_EKFAC| and |F - F_KFAC| from the layer's own state and examples worked out by the oracle.
    fn frobenius(&self, bench: &mut Bench<f64>) -> Vec<Measure> {
        let golden = self.golden.fro;
        let fisher = fisher(&self.plan.example_gradients(0, &self.images, &self.maps));
        let layer = bench.layer(0);
        let (input, output) = (widen(layer.input_factor().basis()), widen(layer.output_factor().basis()));
        let ekfac = block(&input, &output, &widen(layer.scalings()));
        let kfac = reconstructed(layer.input_factor()).kronecker(&reconstructed(layer.output_factor()));
        [
            ("|F|", fisher.norm(), golden.norm_F),
            ("|F - EKFAC|", (&fisher - ekfac).norm(), golden.err_ekfac),
            ("|F - KFAC|", (&fisher - kfac).norm(), golden.err_kfac),
        ]
        .map(|(what, found, norm)| Measure::new(what, difference(found, norm, 0.0), EXACT))
        .into()
    }
}
