//! The program `ekfac`: see `ekfac --help` and the README.

use std::process::ExitCode;

fn main() -> ExitCode {
    ekfac_std::program::main()
}
