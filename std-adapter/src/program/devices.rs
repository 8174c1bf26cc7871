//! The subcommand `devices`: what a network can run on here, and for an engine without a device, why and what to do.

use super::{ProgramError, text};
use crate::offload::devices::{Absent, Device, Kind, devices};

/// Its arguments: none.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Arguments {}

/// Lists the devices. That one is missing is no failure.
///
/// # Errors
/// A standard output that cannot be written.
pub fn run(_arguments: &Arguments) -> Result<(), ProgramError> {
    text::print(&report(devices))
}

/// The text that [`run`] prints, from what `look` finds for each kind.
#[must_use]
pub fn report(look: impl Fn(Kind) -> Result<Vec<Device>, Absent>) -> String {
    let (mut rows, mut reasons) = (Vec::new(), String::new());
    for kind in Kind::ALL {
        match look(kind) {
            Ok(devices) => rows.extend(devices.into_iter().map(|device| row(kind, device))),
            Err(absent) => {
                rows.push([kind.name(), "-", "missing, see below", "-", "-"].map(String::from).to_vec());
                reasons.push_str(&format!("\n{kind}: {absent}"));
            }
        }
    }
    format!("{}{reasons}", text::table(&["engine", "device", "name", "driver", "memory"], rows))
}

fn row(kind: Kind, device: Device) -> Vec<String> {
    let memory = device.memory.and_then(|memory| usize::try_from(memory).ok());
    let memory = memory.map_or_else(|| "unknown".to_owned(), text::bytes);
    vec![kind.name().to_owned(), device.number.to_string(), device.name, device.driver, memory]
}
