//! `ekfac compare`: the same network from the same start on the same batches, by several optimisers and seeds.

mod batch;
mod convolutions;
mod entrants;
pub(super) mod presets;
mod race;
mod report;
mod stepper;
mod study;
mod summary;

use super::{ProgramError, open_folder, text, up_to};
use crate::{
    atomic::write_atomically,
    offload::devices::{Kind, devices},
};
use entrants::{Optimizer, Setting};
use indicatif::{ProgressBar, ProgressStyle};
use presets::{Layers, Preset, Task, Wishes};
use race::{Job, Row};
use report::Entry;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt::Write,
    num::NonZero,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
};

/// Arguments of `ekfac compare`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to train: digits-autoencoder by default, every small preset in a study.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// By which optimisers: ekfac, ekfac-ra, kfac, soap, adam and sgd by default; without soap where there are convolutions.
    #[arg(long, value_enum, value_delimiter = ',')]
    optimizers: Option<Vec<Optimizer>>,
    /// Passes over the data; the preset's own number by default.
    #[arg(long, value_parser = up_to::<usize>(100_000))]
    epochs: Option<usize>,
    /// Examples in a batch, 1 for one at a time; the preset's own number by default.
    #[arg(long, value_parser = up_to::<usize>(100_000))]
    batch: Option<usize>,
    /// Folder with the four IDX files of MNIST, raw or as .gz, for medium-net and paper-net.
    #[arg(long, value_name = "DIR", required_if_eq_any([("preset", "medium-net"), ("preset", "paper-net")]))]
    mnist: Option<PathBuf>,
    /// Training images of the presets that have images, 10,000 by default; a fifth as many are held out.
    #[arg(long, value_parser = up_to::<usize>(60_000), conflicts_with = "study")]
    images: Option<usize>,
    /// Seeds 1 to this number.
    #[arg(long, default_value_t = 1, value_parser = up_to::<u64>(1_000))]
    seeds: u64,
    /// Folder for the results.
    #[arg(long, default_value = "target/ekfac-compare")]
    out: PathBuf,
    /// Runs at the same time; all cores by default.
    #[arg(long, value_parser = up_to::<usize>(256))]
    threads: Option<usize>,
    /// What the optimisers of core (ekfac, ekfac-periodic, ekfac-ra, kfac) run on; the others stay on the processor. `ekfac
    /// devices` lists what is there.
    #[arg(long, value_enum, default_value_t)]
    device: Kind,
    /// Runs every setting of each optimiser's grid instead, and writes grid.json and grid.csv; the other files are those of the
    /// setting with the lowest median loss at the end.
    #[arg(long)]
    grid: bool,
    /// Runs EKFAC's default against Adam at nine rates on every small preset instead, and writes study.csv, study.md,
    /// study.svg and study-held-out.svg.
    #[arg(long, conflicts_with_all = ["grid", "optimizers"])]
    study: bool,
}

/// Runs the comparison.
///
/// # Errors
/// A device that is not there, before anything else; a folder or file that cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), ProgramError> {
    announce(arguments.device)?;
    open_folder(&arguments.out)?;
    if arguments.study {
        return study::run(arguments);
    }
    let preset = arguments.preset.unwrap_or(Preset::DigitsAutoencoder);
    let mut optimizers = optimizers(arguments, preset)?;
    let task = task(arguments, preset)?;
    // Each once, in the order of the table: the slow ones start first, so that none of them is left to one thread at the end.
    optimizers.sort_unstable();
    optimizers.dedup();
    let settings: Vec<(Optimizer, Setting)> = (optimizers.iter())
        .flat_map(|optimizer| {
            let settings = if arguments.grid { grid(*optimizer, &task) } else { vec![optimizer.stated()] };
            settings.into_iter().map(|setting| (*optimizer, setting))
        })
        .collect();
    let entries = race(arguments, &task, &settings)?;
    if arguments.grid {
        finish_grid(arguments, &task, &entries)
    } else {
        finish(arguments, &task, &entries.iter().collect::<Vec<_>>())
    }
}

/// The preset's task.
fn task(arguments: &Arguments, preset: Preset) -> Result<Task, ProgramError> {
    if preset.has_convolutions() && arguments.device != Kind::Cpu {
        let problem = "steps with convolutions run on the processor alone: leave --device out";
        return Err(format!("{} has convolutions: {problem}", preset.name()).into());
    }
    preset.task(arguments.wishes())
}

/// All settings of an optimiser's grid.
fn grid(optimizer: Optimizer, task: &Task) -> Vec<Setting> {
    match task.layers {
        Layers::Dense(_) => optimizer.grid(),
        Layers::Convolutions(_) => optimizer.grid_of_convolutions(),
    }
}

/// Those that were asked for.
fn optimizers(arguments: &Arguments, preset: Preset) -> Result<Vec<Optimizer>, ProgramError> {
    use Optimizer::{Adam, Ekfac, EkfacRa, Kfac, Sgd, Soap};
    match &arguments.optimizers {
        Some(optimizers) if preset.has_convolutions() && optimizers.contains(&Soap) => {
            let problem = "this SOAP knows matrices, and there is more than one way to make one of a bank of filters: leave it out";
            Err(format!("{} has convolutions: {problem}", preset.name()).into())
        }
        Some(optimizers) => Ok(optimizers.clone()),
        None if preset.has_convolutions() => Ok(vec![Ekfac, EkfacRa, Kfac, Adam, Sgd]),
        None => Ok(vec![Ekfac, EkfacRa, Kfac, Soap, Adam, Sgd]),
    }
}

/// Says what runs where, or that the device is not there.
fn announce(kind: Kind) -> Result<(), ProgramError> {
    let found = devices(kind).map_err(|absent| format!("--device {kind}: {absent}"))?;
    match (kind, found.first()) {
        (Kind::Cpu, _) | (_, None) => Ok(()),
        (_, Some(device)) => text::print(&format!(
            "EKFAC and K-FAC on {kind} device {}, {}; the other optimisers on the processor",
            device.number, device.name
        )),
    }
}

impl Arguments {
    fn wishes(&self) -> Wishes<'_> {
        Wishes { batch: self.batch, epochs: self.epochs, mnist: self.mnist.as_deref(), images: self.images }
    }
}

fn race(
    arguments: &Arguments,
    task: &Task,
    settings: &[(Optimizer, Setting)],
) -> Result<Vec<Entry>, ProgramError> {
    let jobs: Vec<Job<'_>> = (settings.iter())
        .flat_map(|(optimizer, setting)| {
            (1..=arguments.seeds).map(|seed| Job { task, optimizer: optimizer.name(), setting, seed })
        })
        .collect();
    let losses = Mutex::new(BTreeMap::new());
    let mut runs = run_all(arguments, &jobs, &|job, row| {
        let mut losses = losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.insert(job.optimizer.clone(), row.loss);
        losses.iter().fold(String::new(), |text, (name, loss)| text + &format!("{name} {loss:.3} "))
    })?
    .into_iter();
    let entry = |(optimizer, setting): &(Optimizer, Setting)| Entry {
        optimizer: optimizer.name(),
        setting: setting.words.clone(),
        runs: runs.by_ref().take(arguments.seeds as usize).collect(),
    };
    Ok(settings.iter().map(entry).collect())
}

/// All runs in the order of the list, under a progress bar with a message about the latest epoch.
fn run_all(
    arguments: &Arguments,
    jobs: &[Job<'_>],
    message: &(dyn Fn(&Job<'_>, &Row) -> String + Sync),
) -> Result<Vec<Vec<Row>>, ProgramError> {
    let threads =
        arguments.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
    let bar = ProgressBar::new(jobs.iter().map(|job| job.task.epochs as u64 + 1).sum());
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} epochs  {msg}")?);
    let notify = |job: &Job<'_>, row: &Row| {
        bar.set_message(message(job, row));
        bar.inc(1);
    };
    let runs = race::run_all(jobs, threads, arguments.device, &notify)?;
    bar.finish_and_clear();
    Ok(runs)
}

fn finish(arguments: &Arguments, task: &Task, entries: &[&Entry]) -> Result<(), ProgramError> {
    let title = match arguments.seeds {
        1 => format!("{}, one seed", task.name),
        seeds => format!("{}, median and range of {seeds} seeds", task.name),
    };
    report::write(&arguments.out, &title, entries)?;
    text::print(&format!("{title}\n{}", report::table(entries, task.epochs)))?;
    let folder = arguments.out.display();
    text::print(&format!(
        "written: {folder}/results.json, results.csv, loss.svg, operations.svg (open loss.svg in a browser)"
    ))
}

/// One run of a grid.
#[derive(Serialize)]
struct GridRow<'a> {
    optimizer: &'a str,
    setting: &'a str,
    seed: u64,
    epoch: usize,
    /// `null` where it diverged.
    loss: f32,
}

fn finish_grid(arguments: &Arguments, task: &Task, entries: &[Entry]) -> Result<(), ProgramError> {
    let shown = report::shown(task.epochs);
    let rows = entries.iter().flat_map(|entry| entry.runs.iter().flatten().map(move |row| (entry, row)));
    let rows: Vec<GridRow<'_>> = rows
        .filter(|(_, row)| shown.contains(&row.epoch))
        .map(|(entry, row)| {
            let Row { optimizer, seed, epoch, loss, .. } = row;
            GridRow { optimizer, setting: &entry.setting, seed: *seed, epoch: *epoch, loss: *loss }
        })
        .collect();
    let mut csv = String::from("optimizer,setting,seed,epoch,loss\n");
    for GridRow { optimizer, setting, seed, epoch, loss } in &rows {
        let _ = writeln!(csv, "{optimizer},\"{setting}\",{seed},{epoch},{}", report::csv_cell(*loss));
    }
    write_atomically(arguments.out.join("grid.json"), &serde_json::to_vec_pretty(&rows)?)?;
    write_atomically(arguments.out.join("grid.csv"), csv.as_bytes())?;
    finish(arguments, task, &report::bests_at_the_end(entries))?;
    let (seeds, folder) = (arguments.seeds, arguments.out.display());
    text::print(&format!(
        "the best of each grid, median of {seeds} seeds:
{}
written: {folder}/grid.json, {folder}/grid.csv",
        report::best_of_grid(entries, &shown)
    ))
}
