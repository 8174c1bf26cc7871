//! How the time of a step grows with the batch, the layers and the width n, over a factor of 16 each, beside the operations that
//! core counts, which are those of its cost model. Time is the thread's own on the processor, where the system tells it (Linux).
//!
//! `cargo bench -p ekfac-std --features program --bench growth -- --out DIR` prints tables in Markdown and writes `DIR/growth.svg`, DIR
//! taken from std-adapter; with `-- --test` every point takes a step and nothing is written.

use ekfac::{Activation, Config, Dense, Error, Loss, Targets};
use ekfac_std::{
    Network,
    atomic::write_atomically,
    plot::{Axis, Panel, Series, panel_grid},
};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use std::{
    env,
    error::Error as StdError,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// One of three sizes is varied, the others stay here.
const BATCH: usize = 64;
const LAYERS: usize = 3;
const WIDTH: usize = 256;
const FACTORS: [usize; 5] = [1, 2, 4, 8, 16];
/// The points of a sweep take turns, in blocks of steps of about so long, so often.
const BLOCK: Duration = Duration::from_millis(200);
const ROUNDS: usize = 15;
/// Steps before: the basis settles.
const WARM_UP: usize = 20;

/// A square net and a batch.
#[derive(Clone, Copy)]
struct Size {
    batch: usize,
    layers: usize,
    width: usize,
}

/// What is varied.
struct Sweep {
    name: &'static str,
    first: usize,
    size: fn(usize) -> Size,
}

const SWEEPS: [Sweep; 3] = [
    Sweep { name: "batch", first: 16, size: |batch| Size { batch, layers: LAYERS, width: WIDTH } },
    Sweep { name: "layers", first: 1, size: |layers| Size { batch: BATCH, layers, width: WIDTH } },
    Sweep { name: "width n", first: 64, size: |width| Size { batch: BATCH, layers: LAYERS, width } },
];

/// A step's time, the median over the blocks, and its operations, the mean.
struct Point {
    value: usize,
    milliseconds: f64,
    operations: f64,
}

fn main() -> Result<(), Box<dyn StdError>> {
    let words: Vec<String> = env::args().collect();
    let quick = words.iter().any(|word| word == "--test");
    let out = words.iter().position(|word| word == "--out").and_then(|index| words.get(index + 1));
    let mut panels = Vec::new();
    for sweep in &SWEEPS {
        let points = points(sweep, quick)?;
        print(sweep, &points);
        panels.push(panel(sweep, &points));
    }
    if let (Some(out), false) = (out, quick) {
        fs::create_dir_all(out)?;
        let svg = panel_grid("Time of a step, doubled four times in one size", &panels)?;
        write_atomically(Path::new(out).join("growth.svg"), svg.as_bytes())?;
    }
    Ok(())
}

fn points(sweep: &Sweep, quick: bool) -> Result<Vec<Point>, Error> {
    let values = FACTORS.map(|factor| sweep.first * factor);
    let runs = values.into_iter().map(|value| Run::new((sweep.size)(value)));
    let mut runs = runs.collect::<Result<Vec<_>, _>>()?;
    let (warm_up, rounds, block) = if quick { (1, 1, Duration::ZERO) } else { (WARM_UP, ROUNDS, BLOCK) };
    for run in &mut runs {
        (0..warm_up).try_for_each(|_| run.step())?;
        run.start = (run.network.progress().steps, run.network.progress().operations);
    }
    for _ in 0..rounds {
        runs.iter_mut().try_for_each(|run| run.block(block))?;
    }
    Ok(runs.into_iter().zip(values).map(|(run, value)| run.point(value)).collect())
}

/// A net of one size at work.
struct Run {
    network: Network<f32>,
    data: Data,
    batch: usize,
    /// Steps and operations of the warm-up.
    start: (u64, u64),
    /// Seconds a step, block by block.
    times: Vec<f64>,
}

impl Run {
    fn new(Size { batch, layers, width }: Size) -> Result<Self, Error> {
        let net = vec![Dense::new(width, width, Activation::Tanh); layers];
        let network = Network::new(net, Loss::SquaredError, Config::default(), 1, batch)?;
        Ok(Self { network, data: Data::new(width, 8 * batch), batch, start: (0, 0), times: vec![] })
    }

    fn step(&mut self) -> Result<(), Error> {
        let number = self.network.progress().steps as usize % 8;
        let (inputs, targets) = self.data.batch(number, self.batch);
        self.network.step(inputs, targets).map(drop)
    }

    fn block(&mut self, length: Duration) -> Result<(), Error> {
        let (clock, busy, mut steps) = (Instant::now(), processor_time(), 0);
        while steps == 0 || clock.elapsed() < length {
            self.step()?;
            steps += 1;
        }
        let wall = clock.elapsed();
        let spent = processor_time().zip(busy).map_or(wall, |(after, before)| after - before);
        self.times.push(spent.as_secs_f64() / f64::from(steps));
        Ok(())
    }

    fn point(self, value: usize) -> Point {
        let progress = self.network.progress();
        let (steps, operations) = (progress.steps - self.start.0, progress.operations - self.start.1);
        Point { value, milliseconds: 1e3 * median(self.times), operations: operations as f64 / steps as f64 }
    }
}

/// What this thread has had of a processor, which a busy machine does not change; Linux only.
fn processor_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Inputs of eight hidden causes and a little noise; targets are the same, squashed.
struct Data {
    width: usize,
    inputs: Vec<f32>,
    targets: Vec<f32>,
}

impl Data {
    fn new(width: usize, examples: usize) -> Self {
        let mut draws = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut draw = || (draws.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0;
        let mix: Vec<f32> = (0..8 * width).map(|_| draw()).collect();
        let mut inputs = Vec::with_capacity(examples * width);
        for _ in 0..examples {
            let causes: [f32; 8] = std::array::from_fn(|_| draw());
            let cause = |row: &[f32]| row.iter().zip(&causes).map(|(x, y)| x * y).sum::<f32>();
            inputs.extend(mix.chunks_exact(8).map(cause));
        }
        inputs.iter_mut().for_each(|input| *input += 0.1 * draw());
        let targets = inputs.iter().map(|input| input.tanh()).collect();
        Self { width, inputs, targets }
    }

    fn batch(&self, number: usize, size: usize) -> (&[f32], Targets<'_, f32>) {
        let range = number * size * self.width..(number + 1) * size * self.width;
        (&self.inputs[range.clone()], Targets::Values(&self.targets[range]))
    }
}

/// A table; the last two columns are relative to the first row.
fn print(sweep: &Sweep, points: &[Point]) {
    let name = sweep.name;
    println!(
        "| {name} | ms a step | million operations | operations a ns | time / first | operations / first |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for Point { value, milliseconds, operations } in points {
        println!(
            "| {value} | {milliseconds:.3} | {:.1} | {:.1} | {:.2} | {:.2} |",
            operations / 1e6,
            operations / (1e6 * milliseconds),
            milliseconds / points[0].milliseconds,
            operations / points[0].operations
        );
    }
    println!();
}

fn panel(sweep: &Sweep, points: &[Point]) -> Panel {
    let series = |label: &str, quantity: &dyn Fn(&Point) -> f64| {
        let relative = |point: &Point| (point.value as f64, quantity(point) / quantity(&points[0]));
        Series::new(label, points.iter().map(relative).collect())
    };
    Panel {
        x: Axis::logarithmic(sweep.name),
        y: Axis::logarithmic(format!("by {}, first = 1", sweep.name)),
        series: vec![
            series("time", &|point| point.milliseconds),
            series("operations counted", &|point| point.operations),
        ],
    }
}
