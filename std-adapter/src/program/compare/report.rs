//! What is left of a comparison: `results.json`, `results.csv`, plots and a table.

use super::race::Row;
use crate::{
    atomic::write_atomically,
    plot::{Axis, Panel, Series, line_chart, two_panels},
    program::{ProgramError, text},
};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use std::{fmt::Write, path::Path};

/// The epochs that tables show.
const EPOCHS_SHOWN: [usize; 3] = [10, 20, 50];

/// Those of a run of so many epochs, the last one included.
pub(super) fn shown(epochs: usize) -> Vec<usize> {
    EPOCHS_SHOWN.into_iter().filter(|epoch| *epoch < epochs).chain([epochs]).collect()
}

/// All runs of one optimiser.
pub(super) struct Entry {
    /// Its name.
    pub(super) optimizer: String,
    /// Its setting.
    pub(super) setting: String,
    /// The rows of each seed.
    pub(super) runs: Vec<Vec<Row>>,
}

impl Entry {
    /// The median over the seeds of a quantity after an epoch; not finite where most runs diverged.
    pub(super) fn median(&self, epoch: usize, quantity: impl Fn(&Row) -> f64) -> f64 {
        let mut values: Vec<f64> =
            self.runs.iter().filter_map(|rows| rows.get(epoch)).map(quantity).collect();
        // NaN counts as worst.
        values.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = f64::INFINITY);
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        if values.len().is_multiple_of(2) {
            (at(middle.saturating_sub(1)) + at(middle)) / 2.0
        } else {
            at(middle)
        }
    }

    /// The largest over the seeds; infinite where one diverged.
    pub(super) fn worst(&self, epoch: usize, quantity: impl Fn(&Row) -> f64) -> f64 {
        let values = self.runs.iter().filter_map(|rows| rows.get(epoch)).map(quantity);
        values
            .map(|value| if value.is_nan() { f64::INFINITY } else { value })
            .fold(f64::NEG_INFINITY, f64::max)
    }

    /// The number of epochs.
    pub(super) fn last_epoch(&self) -> usize {
        self.runs.first().map_or(0, |rows| rows.len().saturating_sub(1))
    }

    /// Median and range of a loss against a quantity of an epoch, such as its number.
    pub(super) fn series(
        &self,
        x: impl Fn(&Self, usize) -> f64,
        loss: impl Fn(&Row) -> f64 + Copy,
    ) -> Series {
        let points =
            (0..=self.last_epoch()).map(|epoch| (x(self, epoch), self.median(epoch, loss))).collect();
        let mut series = Series::new(self.optimizer.clone(), points);
        if self.runs.len() > 1 {
            let extremes = |epoch: usize| {
                let losses = self.runs.iter().filter_map(|rows| rows.get(epoch)).map(loss);
                losses.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), l| (low.min(l), high.max(l)))
            };
            let band = (0..=self.last_epoch()).map(|epoch| (epoch, extremes(epoch)));
            series.band = Some(band.map(|(epoch, (low, high))| (x(self, epoch), low, high)).collect());
        }
        series
    }
}

/// Writes all files.
///
/// # Errors
/// A file that cannot be written, named.
pub(super) fn write(folder: &Path, title: &str, entries: &[&Entry]) -> Result<(), ProgramError> {
    let rows: Vec<&Row> = entries.iter().flat_map(|entry| entry.runs.iter().flatten()).collect();
    write_atomically(folder.join("results.json"), &serde_json::to_vec_pretty(&rows)?)?;
    write_atomically(folder.join("results.csv"), csv(&rows).as_bytes())?;
    let panel = |label: &str, x: fn(&Entry, usize) -> f64| Panel {
        x: Axis::linear(label),
        y: Axis::logarithmic("training loss"),
        series: entries.iter().map(|entry| entry.series(x, |row| f64::from(row.loss))).collect(),
    };
    let by_epoch = panel("epoch", |_, epoch| epoch as f64);
    let by_seconds = panel("seconds", |entry, epoch| entry.median(epoch, |row| row.seconds));
    let by_operations = panel("operations counted, in billions", |entry, epoch| {
        entry.median(epoch, |row| row.operations as f64) / 1e9
    });
    write_atomically(folder.join("loss.svg"), two_panels(title, &by_epoch, &by_seconds)?.as_bytes())?;
    write_atomically(folder.join("operations.svg"), line_chart(title, &by_operations)?.as_bytes())?;
    Ok(())
}

fn csv(rows: &[&Row]) -> String {
    let held_out = rows.iter().any(|row| row.held_out_loss.is_some());
    let judged = rows.iter().any(|row| row.accuracy.is_some());
    let mut text = String::from("optimizer,seed,epoch,loss,seconds,rotations,operations");
    text.push_str(if held_out { ",held_out_loss" } else { "" });
    text.push_str(if judged { ",accuracy\n" } else { "\n" });
    for row in rows {
        let Row { optimizer, seed, epoch, loss, seconds, rotations, operations, .. } = row;
        let loss = csv_cell(*loss);
        let _ = write!(text, "{optimizer},{seed},{epoch},{loss},{seconds},{rotations},{operations}");
        for value in row.held_out_loss.iter().chain(&row.accuracy) {
            let _ = write!(text, ",{}", csv_cell(*value));
        }
        text.push('\n');
    }
    text
}

/// A number as JSON has it: one that is not finite is absent.
pub(super) fn csv_cell(value: f32) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

/// A table for the terminal.
pub(super) fn new_table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

/// Each optimiser with the setting of its grid that has the lowest median loss at the end.
pub(super) fn bests_at_the_end(entries: &[Entry]) -> Vec<&Entry> {
    let last = |entry: &Entry| entry.median(entry.last_epoch(), |row| f64::from(row.loss));
    let grids = entries.chunk_by(|left, right| left.optimizer == right.optimizer);
    grids.filter_map(|grid| grid.iter().min_by(|left, right| last(left).total_cmp(&last(right)))).collect()
}

/// The best setting of each optimiser's grid after each of these epochs.
pub(super) fn best_of_grid(entries: &[Entry], epochs: &[usize]) -> Table {
    let mut table = new_table(["optimiser", "epoch", "loss", "setting"].map(String::from).to_vec());
    for entries in entries.chunk_by(|left, right| left.optimizer == right.optimizer) {
        for epoch in epochs {
            let losses = entries.iter().map(|entry| (entry, entry.median(*epoch, |row| f64::from(row.loss))));
            if let Some((entry, loss)) = losses.min_by(|left, right| left.1.total_cmp(&right.1)) {
                let cells =
                    [entry.optimizer.clone(), epoch.to_string(), loss_cell(loss), entry.setting.clone()];
                table.add_row(cells);
            }
        }
    }
    table
}

/// The table at the end.
pub(super) fn table(entries: &[&Entry], epochs: usize) -> Table {
    let shown = shown(epochs);
    let mut header = vec!["optimiser".to_string(), "setting".into()];
    header.extend(shown.iter().map(|epoch| format!("loss @{epoch}")));
    let (held_out, judged) = (
        entries.iter().any(|entry| held_out_loss(entry, 0).is_finite()),
        entries.iter().any(|entry| accuracy(entry, 0).is_finite()),
    );
    header.extend(held_out.then(|| "held-out loss".to_string()));
    header.extend(judged.then(|| "held-out accuracy".to_string()));
    header.extend(["seconds", "rotations/step", "operations / SGD"].map(String::from));
    let mut table = new_table(header);
    let work = |entry: &Entry| entry.median(epochs, |row| row.operations as f64);
    let sgd = entries.iter().find(|entry| entry.optimizer == "sgd").map(|entry| work(entry));
    for entry in entries {
        let mut cells = vec![entry.optimizer.clone(), entry.setting.clone()];
        cells.extend(shown.iter().map(|epoch| loss_cell(entry.median(*epoch, |row| f64::from(row.loss)))));
        cells.extend(held_out.then(|| loss_cell(held_out_loss(entry, epochs))));
        cells.extend(judged.then(|| percent(accuracy(entry, epochs))));
        cells.push(format!("{:.1}", entry.median(epochs, |row| row.seconds)));
        cells.push(format!("{:.0}", entry.median(epochs, |row| row.rotations)));
        cells.push(sgd.map_or_else(|| "-".into(), |sgd| format!("{:.1}", work(entry) / sgd)));
        table.add_row(cells);
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The median loss over the held-out examples; not finite where there are none.
pub(super) fn held_out_loss(entry: &Entry, epoch: usize) -> f64 {
    entry.median(epoch, |row| row.held_out_loss.map_or(f64::NAN, f64::from))
}

/// The median share of held-out examples classified correctly; not finite where that says nothing.
pub(super) fn accuracy(entry: &Entry, epoch: usize) -> f64 {
    entry.median(epoch, |row| row.accuracy.map_or(f64::NAN, f64::from))
}

/// A share for a table.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "-".into() }
}

/// A loss for a table.
pub(super) fn loss_cell(loss: f64) -> String {
    if loss.is_finite() { text::number(loss) } else { "diverged".into() }
}
