//! The program `ekfac`, feature `program`: one module a subcommand, so that tests can run them in process.
//!
//! An error is one line that says what to do next, and exit code 1; results go to standard output, progress bars and
//! errors to standard error.

pub mod bench;
pub mod compare;
pub mod devices;
pub mod inspect;
pub mod snapshot;
mod text;
pub mod train;

use clap::{Parser, Subcommand, builder::RangedU64ValueParser};
use std::{fs, path::Path, process::ExitCode};

/// What a subcommand ends with when it fails.
pub type ProgramError = Box<dyn std::error::Error + Send + Sync>;

/// Natural-gradient descent in a Kronecker-factored eigenbasis.
#[derive(Debug, Parser)]
#[command(name = "ekfac", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Times steps of EKFAC and of gradient descent on this machine.
    Bench(bench::Arguments),
    /// Trains the same network from the same start by several optimisers, and draws their losses.
    Compare(compare::Arguments),
    /// Trains a network on a CSV, NPY or IDX file.
    Train(train::Arguments),
    /// Shows what a checkpoint holds.
    Inspect(inspect::Arguments),
    /// Lists what a network can run on, and why an engine has no device.
    Devices(devices::Arguments),
    /// Turns a checkpoint into a snapshot for a device, or a device's snapshot into a checkpoint.
    Snapshot(snapshot::Arguments),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one subcommand.
///
/// # Errors
/// Those of the subcommand.
pub fn run(arguments: Arguments) -> Result<(), ProgramError> {
    match arguments.command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Snapshot(arguments) => snapshot::run(&arguments),
    }
}

/// A number from 1 to `most`.
fn up_to<T: TryFrom<u64> + Clone + Send + Sync>(most: u64) -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(1..=most)
}

/// Creates a folder and tries to write into it, before the work that it is for.
///
/// # Errors
/// The system's, with the path.
fn open_folder(folder: &Path) -> Result<(), ProgramError> {
    let failed = |action: &str, cause: std::io::Error| {
        format!("{}: cannot {action} the folder: {cause}; name another with --out", folder.display())
    };
    fs::create_dir_all(folder).map_err(|cause| failed("create", cause))?;
    tempfile::tempfile_in(folder).map_err(|cause| failed("write into", cause))?;
    Ok(())
}
