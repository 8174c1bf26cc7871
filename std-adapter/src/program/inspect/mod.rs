//! The subcommand `inspect`: what a checkpoint holds, as tables and a plot of its spectra.
//!
//! *Invariant*: the checkpoint is not changed. *Cost*: the checkpoint in memory, and n^3 operations a layer for the
//! orthogonality. *Failure*: what is wrong with the file, and with the generation before it.

mod examine;

use super::{ProgramError, text};
use crate::{
    atomic::{self, Newest},
    checkpoint::{self, Checkpoint, CheckpointError},
    plot::spectrum_chart,
};
use examine::Findings;
use safetensors::Dtype;
use std::{fmt, fs, path::PathBuf, str::FromStr};

/// Which layers a plot shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chosen {
    /// The one with the most weights.
    #[default]
    Largest,
    /// This one, from 0.
    Layer(usize),
    /// All of them.
    All,
}

impl fmt::Display for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chosen::Largest => formatter.write_str("largest"),
            Chosen::Layer(index) => write!(formatter, "{index}"),
            Chosen::All => formatter.write_str("all"),
        }
    }
}

impl FromStr for Chosen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "largest" => Ok(Chosen::Largest),
            "all" => Ok(Chosen::All),
            number => {
                number.parse().map(Chosen::Layer).map_err(|_| "give a number from 0, `largest` or `all`")
            }
        }
    }
}

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The checkpoint; `<CHECKPOINT>.previous` is read where it is damaged.
    pub checkpoint: PathBuf,
    /// The layer whose spectrum is drawn: a number from 0, `largest` or `all`.
    #[arg(long, default_value_t)]
    pub layer: Chosen,
    /// The plot; `<CHECKPOINT>.svg` by default.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// A checkpoint that cannot be read, a layer that does not exist, a plot that cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), ProgramError> {
    text::print(&report(arguments)?)
}

/// The text that [`run`] prints; writes the plot.
///
/// # Errors
/// Those of [`run`].
pub fn report(arguments: &Arguments) -> Result<String, ProgramError> {
    let Newest { value: findings, passed_over, .. } = atomic::read_newest(&arguments.checkpoint, &findings)?;
    let path = arguments.checkpoint.display();
    let warning = passed_over.map(|reason| format!("{path}: {reason}\nread instead: {path}.previous\n\n"));
    let drawn = draw(arguments, &findings)?;
    Ok(format!("{}{}\n{drawn}", warning.unwrap_or_default(), findings.text))
}

/// Reads the checkpoint with the scalar that it holds.
fn findings(bytes: &[u8]) -> Result<Findings, CheckpointError> {
    if checkpoint::dtype(bytes)? == Dtype::F64 {
        let Checkpoint { mut network, extra } = checkpoint::any_from_bytes::<f64>(bytes, 1)?;
        Ok(examine::examine(&mut network, &extra)?)
    } else {
        let Checkpoint { mut network, extra } = checkpoint::any_from_bytes::<f32>(bytes, 1)?;
        Ok(examine::examine(&mut network, &extra)?)
    }
}

/// Draws S of the chosen layers against K-FAC's eigenvalues.
fn draw(arguments: &Arguments, findings: &Findings) -> Result<String, ProgramError> {
    let count = findings.spectra.len();
    let layers = match arguments.layer {
        Chosen::Largest => findings.largest()..findings.largest() + 1,
        Chosen::Layer(index) if index < count && findings.spectra[index].scalings.is_empty() => {
            return Err(format!("--layer {index}: that layer has no weights, so no spectrum").into());
        }
        Chosen::Layer(index) if index < count => index..index + 1,
        Chosen::Layer(index) => {
            return Err(format!("--layer {index}: the layers are 0 to {}", count - 1).into());
        }
        Chosen::All => 0..count,
    };
    let title = match layers.len() {
        1 => format!("Curvature of layer {}", layers.start),
        _ => "Curvature of all layers".to_string(),
    };
    let named =
        |index: usize, name: &str| if layers.len() == 1 { name.into() } else { format!("{index}: {name}") };
    let spectra = layers.clone().zip(&findings.spectra[layers.clone()]).flat_map(|(index, spectra)| {
        [
            (named(index, "EKFAC, S"), spectra.scalings.clone()),
            (named(index, "K-FAC"), spectra.kronecker.clone()),
        ]
    });
    // Layers without weights have none.
    let spectra: Vec<(String, Vec<f64>)> = spectra.filter(|(_, values)| !values.is_empty()).collect();
    if !spectra.iter().flat_map(|(_, values)| values).any(|value| *value > 0.0) {
        return Ok("no curvature was measured yet, so there is no plot".into());
    }
    let path = arguments.out.clone().unwrap_or_else(|| {
        let mut name = arguments.checkpoint.clone().into_os_string();
        name.push(".svg");
        name.into()
    });
    let svg = spectrum_chart(&title, "eigenvalue of the Fisher", &spectra)?;
    fs::write(&path, svg).map_err(|cause| {
        format!("{}: cannot write the plot: {cause}; name another file with --out", path.display())
    })?;
    Ok(format!("plot: {}", path.display()))
}
