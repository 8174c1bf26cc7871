//! What a step of EKFAC costs beside one of gradient descent with momentum: counted operations and time, both by turns in
//! the same run, medians over pairs of steps (with statistics on half of the examples, one example at a time, every second
//! step is a cheaper one).
//!
//! `cargo bench -p ekfac-std --bench cost` prints the table; `-- paper` only the rows of nets with that name. With `-- --test`
//! every row takes a few steps.

use ekfac::{
    Activation, Config, Coordinates, Kernels, Learner, Loss, Net, Reference, Targets, net::dense_layers,
};
use ekfac_std::FaerKernels;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use std::{env, time::Instant};

const NETS: [(&str, &[usize]); 4] = [
    ("32-16-4", &[32, 16, 4]),
    ("64-32-10", &[64, 32, 10]),
    ("digits", &[64, 48, 24, 12, 24, 48, 64]),
    ("paper", &[784, 1000, 500, 250, 30, 250, 500, 1000, 784]),
];
const BATCHES: [usize; 3] = [1, 32, 200];
const EXAMPLES: usize = 1000;

fn main() {
    let quick = env::args().any(|argument| argument == "--test");
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    println!(
        "| net | batch | kernels | coordinates | operations, SGD = 1 | time, SGD = 1 | time / operations | SGD step |"
    );
    println!("| --- | ---: | --- | --- | ---: | ---: | ---: | ---: |");
    for (name, sizes) in NETS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        for batch in BATCHES {
            for faer in [false, true] {
                // Core's own kernels take seconds there.
                if name == "paper" && !faer {
                    continue;
                }
                for coordinates in [None, Some(Coordinates::Eigenbasis)] {
                    let race = Race { sizes, batch, faer, coordinates };
                    let row = race.run(quick);
                    let chosen = if coordinates.is_some() { "eigenbasis" } else { "by the cost model" };
                    println!(
                        "| {name} | {batch} | {} | {chosen} | {:.2} | {:.2} | {:.2} | {:.1} us |",
                        if faer { "faer" } else { "core" },
                        row.operations,
                        row.time,
                        row.time / row.operations,
                        1e6 * row.descent_seconds
                    );
                }
            }
        }
    }
}

struct Race {
    sizes: &'static [usize],
    batch: usize,
    faer: bool,
    /// Those of all layers, or the cost model's.
    coordinates: Option<Coordinates>,
}

struct Row {
    operations: f64,
    time: f64,
    descent_seconds: f64,
}

impl Race {
    fn run(&self, quick: bool) -> Row {
        let layers = dense_layers(self.sizes, Activation::Tanh, Activation::Identity).expect("a sound net");
        let net = Net::new(&layers, Loss::SquaredError);
        let kernels: Box<dyn Kernels<f32>> =
            if self.faer { Box::new(FaerKernels::<f32>::new()) } else { Box::new(Reference) };
        let (mut own, mut other) = (vec![0.0; net.words(self.batch)], vec![0.0; net.words(self.batch)]);
        let learner = |memory| {
            let learner = Learner::new(net, Config::default(), 1, self.batch, memory).expect("enough memory");
            learner.with_kernels(&*kernels)
        };
        let (mut natural, mut plain) = (learner(&mut own), learner(&mut other));
        for layer in 0..layers.len() {
            if let Some(coordinates) = self.coordinates {
                natural.set_coordinates(layer, coordinates).expect("a layer");
            }
        }
        let mut descent = Descent::new(&mut plain);
        let data = Data::new(net.inputs(), net.outputs());
        let pairs = if quick { 2 } else { (400_000_000 / (net.parameters() * self.batch)).clamp(6, 2000) };
        let mut times = (vec![], vec![]);
        let mut counted = (0, 0);
        for pair in 0..pairs + pairs / 2 {
            let start = (natural.progress().operations, descent.operations());
            let mut seconds = (0.0, 0.0);
            for half in 0..2 {
                let (inputs, targets) = data.batch((2 * pair + half) * self.batch, self.batch);
                seconds.0 += time(|| {
                    natural.step(inputs, targets).expect("a step");
                });
                seconds.1 += time(|| descent.step(inputs, targets));
            }
            // The first third warms up: the basis settles.
            if pair >= pairs / 2 {
                times.0.push(seconds.0 / 2.0);
                times.1.push(seconds.1 / 2.0);
                counted.0 += natural.progress().operations - start.0;
                counted.1 += descent.operations() - start.1;
            }
        }
        let (own, other) = (median(times.0), median(times.1));
        Row { operations: counted.0 as f64 / counted.1 as f64, time: own / other, descent_seconds: other }
    }
}

/// Gradient descent with momentum, as lean as it gets: without the checks of `SgdMomentum`, which would flatter EKFAC.
struct Descent<'r, 'a> {
    learner: &'r mut Learner<'a, f32>,
    gradient: Vec<f32>,
    velocity: Vec<f32>,
    steps: u64,
}

impl<'r, 'a> Descent<'r, 'a> {
    fn new(learner: &'r mut Learner<'a, f32>) -> Self {
        for layer in 0..learner.net().layers().len() {
            learner.set_coordinates(layer, Coordinates::Parameter).expect("a layer");
        }
        let words = learner.net().parameters();
        Self { learner, gradient: vec![0.0; words], velocity: vec![0.0; words], steps: 0 }
    }

    /// At a rate so small that the weights, and so the work, stay what they are.
    fn step(&mut self, inputs: &[f32], targets: Targets<'_, f32>) {
        self.learner.mean_gradient(inputs, targets, &mut self.gradient).expect("a batch");
        let mut rest = self.gradient.iter().zip(&mut self.velocity);
        for mut weights in self.learner.iter_stored_weights() {
            for (weight, (slope, velocity)) in weights.as_mut_slice().iter_mut().zip(rest.by_ref()) {
                *velocity = 0.9 * *velocity + *slope;
                *weight -= 1e-6 * *velocity;
            }
        }
        self.steps += 1;
    }

    /// Those of the passes, and 4 for each weight of each step.
    fn operations(&self) -> u64 {
        self.learner.progress().operations + 4 * self.steps * self.gradient.len() as u64
    }
}

/// Inputs of eight hidden causes and a little noise, and targets that are a function of them.
struct Data {
    inputs: Vec<f32>,
    targets: Vec<f32>,
    widths: (usize, usize),
}

impl Data {
    fn new(width: usize, outputs: usize) -> Self {
        let mut draws = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut draw = || (draws.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0;
        let mix: Vec<f32> = (0..8 * width).map(|_| draw()).collect();
        let mut inputs = Vec::with_capacity(EXAMPLES * width);
        for _ in 0..EXAMPLES {
            let causes: Vec<f32> = (0..8).map(|_| draw()).collect();
            inputs.extend(mix.chunks_exact(8).map(|row| {
                row.iter().zip(&causes).map(|(weight, cause)| weight * cause).sum::<f32>() + 0.1 * draw()
            }));
        }
        let target = |example: usize, output: usize| inputs[example * width + output % width].tanh();
        let targets = (0..EXAMPLES * outputs).map(|index| target(index / outputs, index % outputs)).collect();
        Self { inputs, targets, widths: (width, outputs) }
    }

    fn batch(&self, number: usize, size: usize) -> (&[f32], Targets<'_, f32>) {
        let start = number % (EXAMPLES - size + 1);
        let (width, outputs) = self.widths;
        let targets = &self.targets[start * outputs..][..size * outputs];
        (&self.inputs[start * width..][..size * width], Targets::Values(targets))
    }
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
