//! Times of the two costly parts of EKFAC beside what a user has without it, and their ratios.
//!
//! - `eigen`: core's Jacobi method and nalgebra's `SymmetricEigen`, both from cold, on the same random second moment. A
//!   learner's refreshes start from the last basis and cost far less; `step` has those in it.
//! - `step`: a step of EKFAC with the default settings, and a gradient with an update of SGD, on the digits autoencoder, with
//!   core's own kernels and with faer's. Learners are warmed up over an epoch first, so that the basis has settled.
//!
//! `cargo bench -p ekfac-std --bench step` measures; after `--`, a filter such as `eigen`. With `-- --test` each body runs
//! once, without ratios.

use divan::Bencher;
use ekfac::{
    Activation, Config, Kernels, Learner, Loss, MatrixRef, Net, Reference, Targets, jacobi,
    net::{LayerList, dense_layers},
};
use ekfac_std::{FaerKernels, data};
use nalgebra::DMatrix;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

const SIZES: [usize; 3] = [16, 32, 64];
const NET: [usize; 7] = [64, 48, 24, 12, 24, 48, 64];
const WIDTH: usize = 64;
const RUNS: [Run; 4] = [
    Run { batch: 1, faer: false },
    Run { batch: 1, faer: true },
    Run { batch: 100, faer: false },
    Run { batch: 100, faer: true },
];

fn main() {
    divan::main();
    if !env::args().any(|argument| argument == "--test" || argument == "--list") {
        ratios();
    }
}

/// The second moment of 2 n random examples, n x n.
fn moment(size: usize) -> DMatrix<f32> {
    let mut draws = Xoshiro256PlusPlus::seed_from_u64(size as u64);
    let examples =
        DMatrix::from_fn(size, 2 * size, |_, _| (draws.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0);
    &examples * examples.transpose() / (2 * size) as f32
}

/// What both solvers work on, and core's memory.
struct Solver {
    matrix: DMatrix<f32>,
    packed: Vec<f32>,
    basis: Vec<f32>,
}

impl Solver {
    fn new(size: usize) -> Self {
        let (packed, basis) = (vec![0.0; size * (size + 1) / 2], vec![0.0; size * size]);
        Self { matrix: moment(size), packed, basis }
    }

    fn jacobi(&mut self) {
        let matrix = MatrixRef::from(&self.matrix);
        let report = jacobi::eigen(matrix, &mut self.packed, &mut self.basis, jacobi::Limits::default());
        black_box(report).expect("a finite matrix");
    }

    fn nalgebra(&mut self) {
        black_box(self.matrix.clone().symmetric_eigen());
    }
}

/// A way to run the network.
#[derive(Clone, Copy)]
struct Run {
    batch: usize,
    faer: bool,
}

impl std::fmt::Display for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "batch {}, {}", self.batch, if self.faer { "faer" } else { "reference" })
    }
}

/// The autoencoder's memory and data, from which a [`Trainer`] borrows.
struct Bench {
    run: Run,
    layers: LayerList,
    memory: Vec<f32>,
    inputs: Vec<f32>,
    kernels: Box<dyn Kernels<f32>>,
}

impl Bench {
    fn new(run: Run) -> Self {
        let layers = dense_layers(&NET, Activation::Tanh, Activation::Identity).expect("a sound network");
        let memory = vec![0.0; Net::new(&layers, Loss::SquaredError).words(run.batch)];
        let inputs = data::digits().expect("embedded data").inputs;
        let kernels: Box<dyn Kernels<f32>> =
            if run.faer { Box::new(FaerKernels::<f32>::new()) } else { Box::new(Reference) };
        Self { run, layers, memory, inputs, kernels }
    }

    fn trainer(&mut self) -> Trainer<'_> {
        let net = Net::new(&self.layers, Loss::SquaredError);
        let gradient = vec![0.0; net.parameters()];
        let learner = Learner::new(net, Config::default(), 7, self.run.batch, &mut self.memory)
            .expect("enough memory")
            .with_kernels(&*self.kernels);
        let (inputs, width) = (&*self.inputs, self.run.batch * WIDTH);
        let mut trainer = Trainer { learner, gradient, inputs, width, place: 0 };
        let epoch = inputs.len() / width;
        (0..epoch.max(100)).for_each(|_| trainer.ekfac());
        trainer
    }
}

/// Walks over the data batch by batch.
struct Trainer<'a> {
    learner: Learner<'a, f32>,
    gradient: Vec<f32>,
    inputs: &'a [f32],
    width: usize,
    place: usize,
}

impl<'a> Trainer<'a> {
    fn batch(&mut self) -> &'a [f32] {
        self.place = (self.place + 1) % (self.inputs.len() / self.width);
        &self.inputs[self.place * self.width..][..self.width]
    }

    fn ekfac(&mut self) {
        let batch = self.batch();
        black_box(self.learner.step(batch, Targets::Values(batch)).expect("a well-formed batch"));
    }

    /// At a rate so small that the weights, and so the work, stay what they are.
    fn sgd(&mut self) {
        let batch = self.batch();
        let loss = self.learner.mean_gradient(batch, Targets::Values(batch), &mut self.gradient);
        black_box(loss).expect("a well-formed batch");
        let mut rest = &*self.gradient;
        for mut weights in self.learner.iter_stored_weights() {
            let weights = weights.as_mut_slice();
            let (own, tail) = rest.split_at(weights.len());
            weights.iter_mut().zip(own).for_each(|(weight, slope)| *weight -= 1e-9 * slope);
            rest = tail;
        }
    }
}

#[divan::bench_group(name = "eigen")]
mod eigen {
    use super::{Bencher, SIZES, Solver};

    #[divan::bench(args = SIZES)]
    fn jacobi(bencher: Bencher<'_, '_>, size: usize) {
        let mut solver = Solver::new(size);
        bencher.bench_local(|| solver.jacobi());
    }

    #[divan::bench(args = SIZES)]
    fn nalgebra(bencher: Bencher<'_, '_>, size: usize) {
        let mut solver = Solver::new(size);
        bencher.bench_local(|| solver.nalgebra());
    }
}

#[divan::bench_group(name = "step")]
mod step {
    use super::{Bench, Bencher, RUNS, Run};

    #[divan::bench(args = RUNS)]
    fn ekfac(bencher: Bencher<'_, '_>, run: Run) {
        let mut bench = Bench::new(run);
        let mut trainer = bench.trainer();
        bencher.bench_local(|| trainer.ekfac());
    }

    #[divan::bench(args = RUNS)]
    fn sgd(bencher: Bencher<'_, '_>, run: Run) {
        let mut bench = Bench::new(run);
        let mut trainer = bench.trainer();
        bencher.bench_local(|| trainer.sgd());
    }
}

/// The quotients, which the harness does not form: both bodies by turns, so that a busy machine slows them alike.
fn ratios() {
    println!("\nratio of medians");
    for size in SIZES {
        let mut solver = Solver::new(size);
        let ratio = ratio(&mut solver, Solver::jacobi, Solver::nalgebra);
        println!("  eigen, n = {size:<3}           Jacobi / nalgebra {ratio:6.2}");
    }
    for run in RUNS {
        let mut bench = Bench::new(run);
        let ratio = ratio(&mut bench.trainer(), Trainer::ekfac, Trainer::sgd);
        println!("  step, {:<22} EKFAC / SGD {ratio:6.2}", run.to_string());
    }
}

fn ratio<S>(subject: &mut S, mut first: impl FnMut(&mut S), mut second: impl FnMut(&mut S)) -> f64 {
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        firsts.push(time(|| first(subject)));
        seconds.push(time(|| second(subject)));
    }
    median(firsts).as_secs_f64() / median(seconds).as_secs_f64()
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
