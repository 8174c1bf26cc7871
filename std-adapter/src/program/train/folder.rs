//! The folder of the results: `checkpoint.safetensors`, `weights.safetensors`, `log.csv`, `loss.svg`.

use super::{
    Arguments,
    prepare::Prepared,
    state::{Record, Settings, State},
};
use crate::{
    AnyNetwork,
    atomic::{Generation, previous_of},
    checkpoint::{self, Checkpoint},
    plot::{Axis, Panel, PlotError, Series, line_chart},
    program::ProgramError,
};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// The folder, known to be writable.
pub(super) struct Folder {
    path: PathBuf,
}

fn failed(path: &Path, action: &str, cause: impl std::fmt::Display) -> ProgramError {
    format!(
        "{}: cannot {action}: {cause}; check the space and permissions, or name another folder with --out",
        path.display()
    )
    .into()
}

impl Folder {
    /// Creates the folder and tries to write into it, before an hour of training finds that it cannot.
    pub(super) fn open(arguments: &Arguments) -> Result<Self, ProgramError> {
        let path = arguments.out.clone();
        fs::create_dir_all(&path).map_err(|cause| failed(&path, "create the folder", cause))?;
        tempfile::tempfile_in(&path).map_err(|cause| failed(&path, "write into the folder", cause))?;
        let folder = Self { path };
        let checkpoint = folder.checkpoint();
        let exists = checkpoint.exists() || previous_of(&checkpoint).exists();
        if exists && !arguments.resume && !arguments.overwrite {
            let path = checkpoint.display();
            return Err(format!(
                "{path} exists: go on with --resume, start anew with --overwrite, or name another folder with --out"
            )
            .into());
        }
        if !exists && arguments.resume {
            return Err(
                format!("{}: no checkpoint to resume; leave --resume out", checkpoint.display()).into()
            );
        }
        Ok(folder)
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log.csv")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the checkpoint.
    pub(super) fn save(
        &self,
        network: &AnyNetwork<f32>,
        state: &State,
        settings: &Settings,
    ) -> Result<(), ProgramError> {
        checkpoint::save_with(network, &state.to_extra(settings)?, &self.checkpoint())?;
        Ok(())
    }

    /// Reads the checkpoint. A damaged one is moved aside, so that the next save keeps the intact generation as previous.
    pub(super) fn load(
        &self,
        capacity: usize,
        settings: &Settings,
    ) -> Result<(AnyNetwork<f32>, State), ProgramError> {
        let path = self.checkpoint();
        let newest = checkpoint::load_any::<f32>(&path, capacity)?;
        let Checkpoint { network, extra } = newest.value;
        let state = State::from_extra(&extra, settings);
        let state = state.map_err(|problem| format!("{}: {problem}", path.display()))?;
        if newest.generation == Generation::Previous {
            let reason = newest.passed_over.unwrap_or_default();
            eprintln!("warning: {}: {reason}; going on from the previous checkpoint", path.display());
            if path.exists() {
                let aside = self.path.join("checkpoint.safetensors.damaged");
                fs::rename(&path, &aside)
                    .map_err(|cause| failed(&path, "move the damaged file aside", cause))?;
            }
        }
        Ok((network, state))
    }

    /// Writes the weights, with what was done to inputs and targets. They go before the checkpoint of their epoch: after a
    /// crash between the two, that epoch is trained again, to the same bits.
    pub(super) fn export(
        &self,
        network: &mut AnyNetwork<f32>,
        prepared: &Prepared,
    ) -> Result<(), ProgramError> {
        let inputs = &prepared.inputs;
        let mut vectors = vec![("inputs.mean", &*inputs.mean), ("inputs.scale", &*inputs.scale)];
        if let Some(targets) = &prepared.targets {
            vectors.extend([("targets.mean", &*targets.mean), ("targets.scale", &*targets.scale)]);
        }
        checkpoint::export_weights(network, &vectors, &self.path.join("weights.safetensors"))?;
        Ok(())
    }

    /// Draws the losses of the log.
    pub(super) fn draw(&self, log: &Log, judged: &str, title: &str) -> Result<(), ProgramError> {
        let line = |label: &str, column: usize| Series::new(label, log.points(column));
        let after_epoch = if judged == "training" { "training, after the epoch" } else { judged };
        let (x, y) = (Axis::linear("epoch"), Axis::logarithmic("loss"));
        let panel = Panel { x, y, series: vec![line("training", 1), line(after_epoch, 2)] };
        let path = self.path.join("loss.svg");
        match line_chart(title, &panel) {
            Ok(svg) => fs::write(&path, svg).map_err(|cause| failed(&path, "write", cause)),
            // Losses of zero have no place on the axis, and no epoch may have ended yet.
            Err(PlotError::NothingToDraw { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// `log.csv`: one row an epoch, written when the epoch ends.
pub(super) struct Log {
    path: PathBuf,
    rows: Vec<Vec<String>>,
}

impl Log {
    /// Starts the log, or goes on with the rows of the first `epochs` epochs.
    pub(super) fn open(folder: &Folder, header: &str, epochs: u64) -> Result<Self, ProgramError> {
        let path = folder.log();
        let mut rows = Vec::new();
        if epochs > 0 {
            // Without the old log a resumed run is as good; only its first epochs are missing here.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let cells = |line: &str| line.split(',').map(str::to_string).collect::<Vec<_>>();
            let number = |row: &Vec<String>| row.first().and_then(|cell| cell.parse::<u64>().ok());
            rows.extend(
                text.lines().skip(1).map(cells).filter(|row| number(row).is_some_and(|n| n <= epochs)),
            );
        }
        let mut text = format!("{header}\n");
        rows.iter().for_each(|row| text.extend([&*row.join(","), "\n"]));
        fs::write(&path, text).map_err(|cause| failed(&path, "write", cause))?;
        Ok(Self { path, rows })
    }

    /// Appends the row of one epoch.
    pub(super) fn add(&mut self, record: &Record, seconds: f64, rotations: u64) -> Result<(), ProgramError> {
        let mut row =
            vec![record.epoch.to_string(), record.loss.to_string(), record.measure.loss.to_string()];
        row.extend(
            record.measure.values.iter().map(|value| value.map_or_else(String::new, |v| v.to_string())),
        );
        row.extend([format!("{seconds:.3}"), rotations.to_string()]);
        let appended = File::options().append(true).open(&self.path);
        appended
            .and_then(|mut file| writeln!(file, "{}", row.join(",")))
            .map_err(|cause| failed(&self.path, "write", cause))?;
        self.rows.push(row);
        Ok(())
    }

    /// Seconds of training up to the last row.
    pub(super) fn seconds(&self) -> f64 {
        let cell = self.rows.last().and_then(|row| row.iter().nth_back(1));
        cell.and_then(|cell| cell.parse().ok()).unwrap_or(0.0)
    }

    fn points(&self, column: usize) -> Vec<(f64, f64)> {
        let number = |row: &Vec<String>, index| row.get(index).and_then(|cell: &String| cell.parse().ok());
        self.rows.iter().filter_map(|row| Some((number(row, 0)?, number(row, column)?))).collect()
    }
}
