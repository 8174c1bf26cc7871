//! `ekfac compare --study`: EKFAC's default against Adam at every rate of its grid, on every small preset.
//!
//! Adam's rate is chosen by the very runs that are shown, for each task anew, while EKFAC has one setting for all: the choice
//! favours Adam. Every run counts: one that diverges is infinitely bad in a median, and is counted beside it.

use super::{
    Arguments,
    entrants::{Optimizer, Setting},
    presets::{Preset, Task},
    race::{Job, Row},
    report::{self, Entry},
    run_all, summary, task,
};
use crate::{
    atomic::write_atomically,
    plot::{Axis, Panel, panel_grid},
    program::{ProgramError, text},
};
use std::fmt::Write;

/// The runs of one task.
pub(super) struct Case {
    /// The preset's name.
    pub(super) task: String,
    /// Passes over the data.
    pub(super) epochs: usize,
    /// EKFAC with its default.
    pub(super) ekfac: Entry,
    /// Adam, an entry a rate from the smallest to the largest.
    pub(super) adam: Vec<Entry>,
}

/// Runs the study.
///
/// # Errors
/// Data that were asked for by name and cannot be had, and a file that cannot be written.
pub(super) fn run(arguments: &Arguments) -> Result<(), ProgramError> {
    let tasks = tasks(arguments)?;
    let settings: Vec<(Optimizer, Setting)> = [Optimizer::Ekfac, Optimizer::Adam]
        .into_iter()
        .flat_map(|optimizer| optimizer.grid().into_iter().map(move |setting| (optimizer, setting)))
        .collect();
    let cases = cases(arguments, &tasks, &settings)?;
    let seeds = match arguments.seeds {
        1 => "one seed".to_string(),
        seeds => format!("median of {seeds} seeds"),
    };
    let folder = &arguments.out;
    let title = format!("EKFAC's default and Adam at the best of nine rates, {seeds}");
    let charts = [
        ("study.svg", chart(&title, "training loss", &cases, |row| Some(row.loss))?),
        ("study-held-out.svg", chart(&title, "held-out loss", &cases, |row| row.held_out_loss)?),
    ];
    write_atomically(folder.join("study.csv"), csv(&cases).as_bytes())?;
    write_atomically(folder.join("study.md"), summary::markdown(&title, &cases).as_bytes())?;
    for (name, chart) in charts {
        chart.map_or(Ok(()), |chart| write_atomically(folder.join(name), chart.as_bytes()))?;
    }
    let [training, held_out] = summary::tables(&cases);
    text::print(&format!(
        "{title}\n{training}\nheld-out examples\n{held_out}\n{}",
        summary::verdict(&cases)
    ))?;
    let folder = folder.display();
    text::print(&format!(
        "written: {folder}/study.csv, study.md (how to read the tables), study.svg, study-held-out.svg"
    ))
}

/// The preset that was asked for, or the small ones, less those whose files are missing.
fn tasks(arguments: &Arguments) -> Result<Vec<Task>, ProgramError> {
    if let Some(preset) = arguments.preset {
        return Ok(vec![task(arguments, preset)?]);
    }
    let mut tasks = Vec::new();
    for preset in Preset::SMALL {
        match task(arguments, preset) {
            Ok(task) => tasks.push(task),
            Err(error) if preset == Preset::FashionClassifier => {
                text::print(&format!("left out: {}: {error}", preset.name()))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(tasks)
}

fn cases(
    arguments: &Arguments,
    tasks: &[Task],
    settings: &[(Optimizer, Setting)],
) -> Result<Vec<Case>, ProgramError> {
    let mut jobs = Vec::new();
    for task in tasks {
        for (optimizer, setting) in settings {
            let job = |seed| Job { task, optimizer: optimizer.name(), setting, seed };
            jobs.extend((1..=arguments.seeds).map(job));
        }
    }
    let message = |job: &Job<'_>, row: &Row| {
        format!("{}, {} {}: {:.3}", job.task.name, job.optimizer, job.setting.words, row.loss)
    };
    let mut runs = run_all(arguments, &jobs, &message)?.into_iter();
    let mut entry = |(optimizer, setting): &(Optimizer, Setting)| Entry {
        optimizer: optimizer.name(),
        setting: setting.words.clone(),
        runs: runs.by_ref().take(arguments.seeds as usize).collect(),
    };
    let case = |task: &Task| {
        let mut entries = settings.iter().map(&mut entry);
        let ekfac = entries.next()?;
        Some(Case { task: task.name.clone(), epochs: task.epochs, ekfac, adam: entries.collect() })
    };
    Ok(tasks.iter().filter_map(case).collect())
}

/// A chart with a panel for each task that has this loss; none where no task has it.
fn chart(
    title: &str,
    words: &str,
    cases: &[Case],
    loss: impl Fn(&Row) -> Option<f32> + Copy,
) -> Result<Option<String>, ProgramError> {
    let loss = |row: &Row| loss(row).map_or(f64::NAN, f64::from);
    let named = |entry: &Entry, label: &str| {
        let mut series = entry.series(|_, epoch| epoch as f64, loss);
        series.label = label.into();
        series
    };
    let panel = |case: &Case| {
        let adam = summary::best(case).map(|adam| named(adam, "Adam, best of nine rates"));
        Panel {
            x: Axis::linear("epoch"),
            y: Axis::logarithmic(format!("{}: {words}", case.task)),
            series: [named(&case.ekfac, "EKFAC, default")].into_iter().chain(adam).collect(),
        }
    };
    let with_it = cases.iter().filter(|case| case.ekfac.median(0, loss).is_finite());
    let panels: Vec<Panel> = with_it.map(panel).collect();
    Ok(if panels.is_empty() { None } else { Some(panel_grid(title, &panels)?) })
}

fn csv(cases: &[Case]) -> String {
    let mut text =
        String::from("task,optimizer,setting,seed,epoch,loss,held_out_loss,accuracy,seconds,operations\n");
    let cell = |value: Option<f32>| value.map_or_else(String::new, report::csv_cell);
    for case in cases {
        for entry in [&case.ekfac].into_iter().chain(&case.adam) {
            for row in entry.runs.iter().flatten() {
                let Row { optimizer, seed, epoch, seconds, operations, .. } = row;
                let [loss, held_out, accuracy] = [Some(row.loss), row.held_out_loss, row.accuracy].map(cell);
                let _ = writeln!(
                    text,
                    "{},{optimizer},\"{}\",{seed},{epoch},{loss},{held_out},{accuracy},{seconds},{operations}",
                    case.task, entry.setting
                );
            }
        }
    }
    text
}
