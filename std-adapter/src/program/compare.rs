//! The subcommand `compare`.

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
