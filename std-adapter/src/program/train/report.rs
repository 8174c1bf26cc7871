//! What `train` tells the user.

use super::{
    arguments::Task,
    measure::names,
    run::{End, Run},
    state::{Record, State},
};
use crate::program::text;

/// The first line of the log.
pub(super) fn log_header(task: Task, judged: &str) -> String {
    let names = names(task).iter().map(|name| format!(",{judged}_{name}")).collect::<String>();
    // Nothing held out: the loss after the epoch differs from the mean over it.
    let loss = if judged == "training" { "loss_after_epoch" } else { "validation_loss" };
    format!("epoch,loss,{loss}{names},seconds,rotations")
}

/// The message beside the progress bar.
pub(super) fn progress(task: Task, state: &State) -> String {
    let loss = state.loss_sum / state.examples.max(1) as f64;
    let mut message = format!("epoch {}  loss {}", state.epoch + 1, text::number(loss));
    if let Some(last) = &state.last {
        for (name, value) in names(task).iter().zip(&last.measure.values) {
            message += &format!("  {name} {}", value.map_or_else(|| "-".into(), text::number));
        }
    }
    message
}

/// Where an interrupted run stands and how it goes on.
pub(super) fn interrupted(run: &Run<'_>) -> String {
    format!(
        "interrupted in epoch {} after {} of its batches; {} holds all of it: run the same command with --resume to go on",
        run.state.epoch + 1,
        run.state.batch,
        run.folder.checkpoint().display()
    )
}

/// The best and the last epoch, and what the run cost.
pub(super) fn results(run: &Run<'_>, end: End) -> String {
    let (judged, _) = run.prepared.judged();
    let mut header = vec!["".to_string(), "epoch".into(), "loss".into(), format!("{judged} loss")];
    header.extend(names(run.prepared.task).iter().map(|name| format!("{judged} {name}")));
    let row = |name: &str, record: &Record| {
        let mut cells = vec![name.to_string(), record.epoch.to_string(), text::number(record.loss)];
        cells.push(text::number(record.measure.loss));
        cells
            .extend(record.measure.values.iter().map(|value| value.map_or_else(|| "-".into(), text::number)));
        cells
    };
    let rows = [("best", &run.state.best), ("last", &run.state.last)];
    let rows = rows.into_iter().filter_map(|(name, record)| Some(row(name, record.as_ref()?)));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let progress = run.network.progress();
    let why = match end {
        End::Stale => format!(", stopped after {} without a better loss", run.state.stale_epochs()),
        End::Done | End::Interrupted => String::new(),
    };
    format!(
        "{}\n{} epochs{why}; {:.1} s; {} steps, {} refused, {} degraded; {} rotations\nthe best weights, the checkpoint, the \
         log and the plot are in {}",
        text::table(&header, rows),
        run.state.epoch,
        run.log.seconds(),
        progress.steps,
        progress.skipped,
        progress.degraded,
        progress.rotations,
        run.folder.path().display()
    )
}
