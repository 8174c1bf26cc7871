//! The subcommand `snapshot`: a checkpoint into a snapshot for a device, or back.
//!
//! *Invariant*: weights, state and counters go over bit for bit, there and back. *Failure*: what is wrong with the file; the
//! output is written whole or not at all ([`atomic`]).

use super::{ProgramError, text};
use crate::{
    AnyNetwork,
    atomic::{self, Newest},
    checkpoint::{self, Checkpoint, CheckpointError, Extra, Stored},
};
use ekfac::{Config, snapshot::Snapshot};
use safetensors::Dtype;
use std::{fs, path::PathBuf};

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A checkpoint, or a device's snapshot: which of the two, its first bytes say.
    pub input: PathBuf,
    /// The other of the two.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// For a snapshot: take the settings, which it does not hold, and the state of a training from this checkpoint. The
    /// library's default settings without it.
    #[arg(long, value_name = "CHECKPOINT")]
    pub settings: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// A file that cannot be read or written, or is neither a checkpoint nor a snapshot.
pub fn run(arguments: &Arguments) -> Result<(), ProgramError> {
    let Arguments { input, out, settings } = arguments;
    let bytes = fs::read(input).map_err(|cause| format!("{}: cannot be read: {cause}", input.display()));
    let refused = |error: ProgramError| format!("{}: {error}", input.display());
    let done = match bytes {
        Ok(bytes) if bytes.starts_with(&ekfac::snapshot::MAGIC) => {
            let word_bytes = Snapshot::new(&bytes).map_err(|error| refused(error.into()))?.word_bytes();
            if word_bytes == 8 {
                to_checkpoint::<f64>(arguments, &bytes)
            } else {
                to_checkpoint::<f32>(arguments, &bytes)
            }
            .map_err(refused)?
        }
        // The generation before is read where this one is damaged or gone.
        _ => {
            if settings.is_some() {
                let place = input.display();
                return Err(format!(
                    "{place}: no snapshot of a device: a checkpoint has settings of its own"
                )
                .into());
            }
            let Newest { value, passed_over, .. } = atomic::read_newest(input, &to_snapshot)?;
            atomic::write_atomically(out, &value)?;
            let warning =
                passed_over.map(|reason| format!("{}: {reason}; read the one before\n", input.display()));
            format!("{}snapshot of {} bytes", warning.unwrap_or_default(), value.len())
        }
    };
    text::print(&format!("{}: {done}", out.display()))
}

fn to_snapshot(bytes: &[u8]) -> Result<Vec<u8>, CheckpointError> {
    fn convert<T: Stored>(bytes: &[u8]) -> Result<Vec<u8>, CheckpointError> {
        Ok(checkpoint::any_from_bytes::<T>(bytes, 1)?.network.snapshot()?)
    }
    if checkpoint::dtype(bytes)? == Dtype::F64 { convert::<f64>(bytes) } else { convert::<f32>(bytes) }
}

fn to_checkpoint<T: Stored>(arguments: &Arguments, bytes: &[u8]) -> Result<String, ProgramError> {
    let settings = match &arguments.settings {
        None => None,
        Some(path) => Some(checkpoint::load_any::<T>(path, 1)?.value),
    };
    let config = settings.as_ref().map_or_else(Config::default, |settings| *settings.network.config());
    let network = match (AnyNetwork::<T>::from_snapshot(bytes, config, 1)?, &settings) {
        // What decides the bits of convolutions besides their settings is no part of a snapshot either.
        (
            AnyNetwork::Convolutions(own),
            Some(Checkpoint { network: AnyNetwork::Convolutions(asked), .. }),
        ) => AnyNetwork::Convolutions(own.with_sharing(asked.sharing()).with_columns(asked.columns())?),
        (network, _) => network,
    };
    let extra = settings.map_or_else(Extra::new, |settings| settings.extra);
    checkpoint::save_with(&network, &extra, &arguments.out)?;
    Ok(format!("checkpoint after {} steps", network.progress().steps))
}
