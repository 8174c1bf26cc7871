//! The subcommand `inspect`.

pub(super) mod text;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Runs it.
///
/// # Errors
/// None yet.
pub fn run(_arguments: &Arguments) -> Result<(), super::ProgramError> {
    Ok(())
}
