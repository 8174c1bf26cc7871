//! The subcommand `train`: a network on a file of data, with checkpoints to go on from.
//!
//! *Invariant*: at any moment the folder holds a checkpoint that `--resume` goes on from, bit for bit, and the best weights
//! so far. *Cost*: the data twice in memory, the second time in the order of the epoch. *Failure*: one line that names the
//! file, the place and what to do; a disk that fills up ends the training and leaves the checkpoint before.

mod arguments;
mod folder;
mod interrupt;
mod measure;
mod plan;
mod prepare;
mod report;
mod run;
mod state;

pub use arguments::Arguments;
pub(in crate::program) use prepare::{rows, targets_of};

use super::{ProgramError, text};
use folder::{Folder, Log};
use indicatif::{ProgressBar, ProgressStyle};
use plan::Plan;
use prepare::Prepared;
use run::{End, Limits, Run};
use state::State;

/// Runs it.
///
/// # Errors
/// Data, settings or a folder that cannot be used; an interruption, after saving.
pub fn run(arguments: &Arguments) -> Result<(), ProgramError> {
    let folder = Folder::open(arguments)?;
    let prepared = Prepared::new(arguments)?;
    let plan = Plan::new(arguments, &prepared)?;
    text::print(&plan.summary(&prepared))?;
    text::print(&plan.memory()?)?;
    let (network, state) = if arguments.resume {
        folder.load(plan.batch, &plan.settings)?
    } else {
        (plan.network()?, State::default())
    };
    let (judged, _) = prepared.judged();
    let log = Log::open(&folder, &report::log_header(prepared.task, judged), state.epoch)?;
    let (batch, seed, settings) = (plan.batch, arguments.seed, &plan.settings);
    let mut run = Run { prepared: &prepared, folder: &folder, settings, network, state, log, batch, seed };
    interrupt::watch();
    let end = train(arguments, &mut run)?;
    folder.draw(&run.log, judged, &plan.title(&prepared))?;
    if end == End::Interrupted {
        return Err(report::interrupted(&run).into());
    }
    text::print(&report::results(&run, end))
}

/// Trains under a progress bar, which is hidden where there is no terminal.
fn train(arguments: &Arguments, run: &mut Run<'_>) -> Result<End, ProgramError> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {eta} left  {msg}") {
        bar.set_style(style);
    }
    let task = run.prepared.task;
    let note = |state: &State, batches: usize| {
        bar.set_length(arguments.epochs.saturating_mul(batches as u64));
        bar.set_position(state.epoch * batches as u64 + state.batch as u64);
        bar.set_message(report::progress(task, state));
    };
    let limits =
        Limits { epochs: arguments.epochs, patience: arguments.patience, save_every: arguments.save_every };
    let end = run.train(&limits, &note);
    bar.finish_and_clear();
    end
}
