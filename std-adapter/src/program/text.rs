//! Numbers and tables as the terminal shows them.

use crate::{LayerMemory, NetworkMemory, program::ProgramError};
use ekfac::Dense;
use std::io::{self, Write};

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
pub(in crate::program) fn print(text: &str) -> Result<(), ProgramError> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}").into())
        }
        _ => Ok(()),
    }
}

/// Four significant digits, with an exponent where that is shorter.
pub(in crate::program) fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if !value.is_finite() {
        value.to_string()
    } else if (1e-3..1e5).contains(&size) {
        let before_point = size.log10().floor() as i32 + 1;
        format!("{value:.*}", (4 - before_point).clamp(0, 6) as usize)
    } else {
        format!("{value:.2e}")
    }
}

/// Bytes in the largest unit that leaves at least 1.
pub(in crate::program) fn bytes(count: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A table for the terminal.
pub(in crate::program) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table.to_string()
}

/// One row a layer, with the memory that it needs between steps.
pub(in crate::program) fn layers<T>(layers: &[Dense]) -> String {
    let rows = layers.iter().enumerate().map(|(index, layer)| {
        let shape = layer.shape();
        let bias = if shape.bias() { "" } else { ", no bias" };
        vec![
            index.to_string(),
            format!("{} -> {}{bias}", shape.inputs(), shape.outputs()),
            format!("{:?}", layer.activation()),
            shape.parameters().to_string(),
            bytes((shape.parameters() + shape.words()) * size_of::<T>()),
        ]
    });
    table(&["layer", "shape", "activation", "parameters", "RAM of weights and state"], rows)
}

/// One row a layer: all the memory that a network will take, before it is allocated.
pub(in crate::program) fn memory(layers: &[Dense], memory: &NetworkMemory) -> String {
    let header =
        ["layer", "shape", "weights", "factors", "bases", "scalings", "velocity", "workspace", "all"];
    let row = |(index, (layer, own)): (usize, (&Dense, &LayerMemory))| {
        let shape = layer.shape();
        let mut cells = vec![index.to_string(), format!("{} -> {}", shape.inputs(), shape.outputs())];
        let parts = [own.weights, own.factors, own.bases, own.scalings, own.velocity, own.workspace];
        cells.extend(parts.into_iter().chain([own.total()]).map(bytes));
        cells
    };
    let mut rows: Vec<Vec<String>> = layers.iter().zip(&memory.layers).enumerate().map(row).collect();
    let mut last = |name: &str, count: usize| {
        let mut cells = vec![name.to_string()];
        cells.resize(header.len() - 1, String::new());
        cells.push(bytes(count));
        rows.push(cells);
    };
    last("shared scratch", memory.scratch);
    last("all", memory.total());
    table(&header, rows)
}
