//! What is left of a comparison: `results.json`, `results.csv`, plots and a table.

use super::race::Row;
use crate::{
    atomic::write_atomically,
    plot::{Axis, Panel, Series, line_chart, two_panels},
    program::ProgramError,
};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use std::{fmt::Write, fs, path::Path};

/// The epochs that tables show.
pub(super) const EPOCHS_SHOWN: [usize; 3] = [10, 20, 50];

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
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn last_epoch(&self) -> usize {
        self.runs.first().map_or(0, |rows| rows.len().saturating_sub(1))
    }

    fn series(&self, x: impl Fn(&Self, usize) -> f64) -> Series {
        let loss = |row: &Row| f64::from(row.loss);
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

/// Creates a folder, or says which one could not be created.
///
/// # Errors
/// The system's, with the path.
pub(super) fn create_folder(folder: &Path) -> Result<(), ProgramError> {
    fs::create_dir_all(folder).map_err(|error| {
        format!("{}: cannot create the folder: {error}; name another with --out", folder.display()).into()
    })
}

/// Writes all files.
///
/// # Errors
/// A file that cannot be written, named.
pub(super) fn write(folder: &Path, title: &str, entries: &[Entry]) -> Result<(), ProgramError> {
    let rows: Vec<&Row> = entries.iter().flat_map(|entry| entry.runs.iter().flatten()).collect();
    write_atomically(folder.join("results.json"), &serde_json::to_vec_pretty(&rows)?)?;
    write_atomically(folder.join("results.csv"), csv(&rows).as_bytes())?;
    let panel = |label: &str, x: fn(&Entry, usize) -> f64| Panel {
        x: Axis::linear(label),
        y: Axis::logarithmic("training loss"),
        series: entries.iter().map(|entry| entry.series(x)).collect(),
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
    let mut text = String::from("optimizer,seed,epoch,loss,seconds,rotations,operations\n");
    for row in rows {
        let Row { optimizer, seed, epoch, loss, seconds, rotations, operations } = row;
        let _ = writeln!(text, "{optimizer},{seed},{epoch},{loss},{seconds},{rotations},{operations}");
    }
    text
}

/// The table at the end.
#[must_use]
pub(super) fn table(entries: &[Entry], epochs: usize) -> Table {
    let shown: Vec<usize> =
        EPOCHS_SHOWN.into_iter().filter(|epoch| *epoch < epochs).chain([epochs]).collect();
    let mut header = vec!["optimiser".to_string(), "setting".into()];
    header.extend(shown.iter().map(|epoch| format!("loss @{epoch}")));
    header.extend(["seconds", "rotations/step", "operations / SGD"].map(String::from));
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(header);
    let work = |entry: &Entry| entry.median(epochs, |row| row.operations as f64);
    let sgd = entries.iter().find(|entry| entry.optimizer == "sgd").map(work);
    for entry in entries {
        let mut cells = vec![entry.optimizer.clone(), entry.setting.clone()];
        cells.extend(shown.iter().map(|epoch| loss_cell(entry.median(*epoch, |row| f64::from(row.loss)))));
        cells.push(format!("{:.1}", entry.median(epochs, |row| row.seconds)));
        cells.push(format!("{:.0}", entry.median(epochs, |row| row.rotations)));
        cells.push(sgd.map_or_else(|| "-".into(), |sgd| format!("{:.1}", work(entry) / sgd)));
        table.add_row(cells);
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// A loss for a table.
#[must_use]
pub(super) fn loss_cell(loss: f64) -> String {
    if loss.is_finite() { format!("{loss:.4}") } else { "diverged".into() }
}
