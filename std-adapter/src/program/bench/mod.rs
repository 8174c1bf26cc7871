//! `ekfac bench`: what a step costs on the user's own machine, EKFAC's beside one of gradient descent with momentum.
//!
//! Both train the same network on the same batches by turns, so that a busy machine slows them alike; medians count. Where threads
//! share the work, both do so on one thread as well, which tells what the threads bring. *Cost*: two networks in memory, with threads
//! four. *Failure*: one line that says what to do; nothing is written before all arguments are known to be good.

mod arithmetic;
mod descent;
mod images;
mod machine;
mod race;
mod report;

use super::{
    ProgramError,
    compare::presets::{Preset, Task, Wishes},
    open_folder, text, up_to,
};
use crate::{
    Mode, Network, NetworkMemory,
    atomic::write_atomically,
    data::{Dataset, Targets},
    kernels::{ThreadPool, ThreadPoolBuilder},
};
use clap::ValueEnum;
use ekfac::Net;
use indicatif::{ProgressBar, ProgressStyle};
use race::Race;
use report::Findings;
use std::{path::PathBuf, sync::Arc};

/// Arguments of `ekfac bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which network.
    #[arg(long, value_enum)]
    preset: Choice,
    /// Threads that share the products of a step.
    #[arg(long, default_value_t = 1, value_parser = up_to::<usize>(256))]
    threads: usize,
    /// Folder for bench.json and bench.svg.
    #[arg(long, default_value = "target/ekfac-bench")]
    out: PathBuf,
    /// Steps of each optimiser that are timed, after a warm-up; the preset's own number by default.
    #[arg(long, value_parser = up_to::<usize>(100_000))]
    steps: Option<usize>,
    /// Folder with the four IDX files of MNIST, raw or as .gz; made images of the same size otherwise.
    #[arg(long, value_name = "DIR")]
    mnist: Option<PathBuf>,
    /// Shows where the time of an EKFAC step goes, in steps of its own after the others, and writes profile.svg.
    #[arg(long)]
    profile: bool,
}

/// The networks that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// 784-1000-500-250-30-250-500-1000-784, batch 200.
    PaperNet,
    /// 784-256-64-16-64-256-784, batch 200.
    MediumNet,
    /// 64-48-24-12-24-48-64 on the digits, batch 100.
    DigitsAutoencoder,
}

impl Choice {
    fn preset(self) -> Preset {
        match self {
            Choice::PaperNet => Preset::PaperNet,
            Choice::MediumNet => Preset::MediumNet,
            Choice::DigitsAutoencoder => Preset::DigitsAutoencoder,
        }
    }

    /// Some seconds of each on one core.
    fn steps(self) -> usize {
        match self {
            Choice::PaperNet => 20,
            Choice::MediumNet => 100,
            Choice::DigitsAutoencoder => 1000,
        }
    }
}

/// So many made images are ten batches.
const IMAGES: usize = 2000;
const SEED: u64 = 1;

/// Runs the bench.
///
/// # Errors
/// Images that are missing or damaged, a folder that cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), ProgramError> {
    let (task, data) = task(arguments)?;
    let layers = task.dense_layers()?;
    let memory = Network::<f32>::memory(&Net::new(layers, task.loss), task.batch)?;
    let pool = pool(arguments.threads)?;
    open_folder(&arguments.out)?;
    text::print(&text::memory::<f32>(&text::shapes(layers), &memory))?;
    let findings = measure(arguments, &task, data, &memory, pool)?;
    write_atomically(arguments.out.join("bench.json"), &serde_json::to_vec_pretty(&findings)?)?;
    write_atomically(arguments.out.join("bench.svg"), report::picture(&findings)?.as_bytes())?;
    text::print(&report::table(&findings))?;
    if let Some(profile) = &findings.profile_ms {
        write_atomically(arguments.out.join("profile.svg"), report::profile_picture(&findings)?.as_bytes())?;
        text::print(&report::profile_table(profile))?;
    }
    text::print(&format!("{}\nthe files are in {}", report::notes(&findings), arguments.out.display()))
}

/// The network with its examples, and what these are.
fn task(arguments: &Arguments) -> Result<(Task, &'static str), ProgramError> {
    let preset = arguments.preset.preset();
    let wishes = Wishes { mnist: arguments.mnist.as_deref(), ..Wishes::default() };
    if arguments.preset == Choice::DigitsAutoencoder {
        if arguments.mnist.is_some() {
            return Err("--mnist goes with paper-net and medium-net: leave it out".into());
        }
        return Ok((preset.task(wishes)?, "digits"));
    }
    if arguments.mnist.is_some() {
        return Ok((preset.task(wishes)?, "MNIST"));
    }
    let input_width = preset.inputs();
    let inputs = images::strokes(IMAGES, input_width, SEED);
    let made = Dataset { name: "made".into(), inputs, input_width, targets: Targets::None, examples: IMAGES };
    Ok((preset.task_on(wishes, made, None)?, "synthetic"))
}

/// None for the caller's own thread.
fn pool(threads: usize) -> Result<Option<Arc<ThreadPool>>, ProgramError> {
    if threads == 1 {
        return Ok(None);
    }
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|cause| format!("cannot start {threads} threads: {cause}; give fewer"))?;
    Ok(Some(Arc::new(pool)))
}

/// Runs both optimisers under a progress bar.
fn measure(
    arguments: &Arguments,
    task: &Task,
    data: &'static str,
    memory: &NetworkMemory,
    pool: Option<Arc<ThreadPool>>,
) -> Result<Findings, ProgramError> {
    let steps = arguments.steps.unwrap_or(arguments.preset.steps());
    let warm_up = (steps / 4).clamp(3, 100);
    let profiled = if arguments.profile { steps } else { 0 };
    let bar = ProgressBar::new((warm_up + steps + profiled) as u64);
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} steps")?);
    let note = |steps: usize| bar.inc(steps as u64);
    let mut race = Race::new(task, SEED, pool.as_ref())?;
    race.run(warm_up, &note)?;
    race.forget();
    race.run(steps, &note)?;
    let (times, network) = race.finish();
    // What was done, not what was asked for.
    let (steps, threads) = (times.shared.natural.wall.len(), network.threads());
    let kernels = Mode::Fast.kernels(pool);
    let stages =
        arguments.profile.then(|| race::profile(task, network, kernels, profiled, &note)).transpose()?;
    bar.finish_and_clear();
    let run = report::Run { preset: task.name.clone(), data, batch: task.batch, steps, warm_up, threads };
    Ok(Findings::new(run, &times, memory.total(), machine::peak_memory(), stages))
}
