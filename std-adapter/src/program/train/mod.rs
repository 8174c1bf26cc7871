//! The subcommand `train`: a network on a file of data, with checkpoints to go on from.
//!
//! *Invariant*: at any moment the folder holds a checkpoint that `--resume` goes on from, bit for bit, and the best weights
//! so far. *Cost*: the data twice in memory, the second time in the order of the epoch. *Failure*: one line that names the
//! file, the place and what to do; a disk that fills up ends the training and leaves the checkpoint before.

mod arguments;
mod asked;
mod description;
mod folder;
mod interrupt;
mod map;
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
    text::print(&plan.announcement(&prepared)?)?;
    let (network, state) = if arguments.resume {
        folder.load(plan.batch, &plan.settings)?
    } else {
        (plan.network()?, State::default())
    };
    let (judged, _) = prepared.judged();
    let log = Log::open(&folder, &report::log_header(prepared.task, judged), state.epoch)?;
    let (batch, seed, settings) = (plan.batch, arguments.seed, &plan.settings);
    let (prepared, folder, refusal) = (&prepared, &folder, None);
    let mut run = Run { prepared, folder, settings, network, state, log, batch, seed, refusal };
    interrupt::watch();
    let end = train(arguments, &mut run)?;
    folder.draw(&run.log, judged, &plan.title(prepared))?;
    if end == End::Interrupted {
        return Err(report::interrupted(&run).into());
    }
    text::print(&report::results(&run, end))
}

/// The text that [`run`] prints before it trains: what will be trained on what, and the memory that it will take.
///
/// # Errors
/// Data or settings that cannot be used.
pub fn announcement(arguments: &Arguments) -> Result<String, ProgramError> {
    let prepared = Prepared::new(arguments)?;
    Plan::new(arguments, &prepared)?.announcement(&prepared)
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
