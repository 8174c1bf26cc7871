//! Numbers and tables as the terminal shows them.

use crate::{LayerMemory, NetworkMemory, program::ProgramError};
use ekfac::{
    Dense,
    convolution::{Block, ConvolutionLayer},
};
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
    states(layers.iter().map(|layer| {
        let shape = layer.shape();
        let bias = if shape.bias() { "" } else { ", no bias" };
        let words = (shape.parameters() + shape.words()) * size_of::<T>();
        let sizes = format!("{} -> {}{bias}", shape.inputs(), shape.outputs());
        (sizes, format!("{:?}", layer.activation()), shape.parameters(), words)
    }))
}

/// The block of the Fisher that a layer has, where it is not a full one.
pub(in crate::program) fn block(layer: &ConvolutionLayer) -> &'static str {
    match layer.block() {
        None | Some(Block::Full) => "",
        Some(Block::Uncorrelated) => ", uncorrelated block",
        Some(Block::DiagonalInput) => ", block of a diagonal A",
        Some(Block::Diagonal) => ", diagonal block",
    }
}

/// The same for a network with convolutions.
pub(in crate::program) fn convolutions<T>(layers: &[ConvolutionLayer]) -> String {
    states(layers.iter().map(|layer| {
        if let Some(from) = layer.addition() {
            let values = layer.convolution().output_words();
            return (format!("{values} values + layer {from}"), format!("{:?}", layer.activation()), 0, 0);
        }
        let (convolution, groups) = (layer.convolution(), layer.groups());
        let [rows, columns] = convolution.axes();
        let channels = |words: usize, locations: usize| words / locations.max(1);
        let before = channels(convolution.input_words(), rows.length() * columns.length());
        let after = channels(convolution.output_words(), convolution.locations());
        let shape = format!(
            "{before} x {} x {} -> {after} x {} x {}, kernel {} x {}",
            rows.length(),
            columns.length(),
            rows.positions(),
            columns.positions(),
            rows.kernel(),
            columns.kernel()
        );
        let grouped = if groups > 1 { format!(", {groups} groups") } else { String::new() };
        let bias = if groups == 0 || convolution.has_bias() { "" } else { ", no bias" };
        let block = block(layer);
        let does = layer
            .pooling()
            .map_or_else(|| format!("{:?}", layer.activation()), |pooling| format!("{pooling:?} pooling"));
        let words = layer.parameters() + groups * convolution.shape().words();
        (format!("{shape}{grouped}{bias}{block}"), does, layer.parameters(), words * size_of::<T>())
    }))
}

fn states(layers: impl Iterator<Item = (String, String, usize, usize)>) -> String {
    let rows = layers.enumerate().map(|(index, (shape, activation, parameters, state))| {
        vec![index.to_string(), shape, activation, parameters.to_string(), bytes(state)]
    });
    table(&["layer", "shape", "activation", "parameters", "RAM of weights and state"], rows)
}

/// What each layer makes of what, for [`memory`].
pub(in crate::program) fn shapes(layers: &[Dense]) -> Vec<String> {
    let shape = |layer: &Dense| format!("{} -> {}", layer.shape().inputs(), layer.shape().outputs());
    layers.iter().map(shape).collect()
}

/// One row a layer: all the memory that a network over scalars of `T` will take, before it is allocated.
pub(in crate::program) fn memory<T>(shapes: &[String], memory: &NetworkMemory) -> String {
    let header = [
        "layer",
        "shape",
        "weights",
        "factors",
        "bases",
        "scalings",
        "velocity",
        "workspace",
        "words",
        "all",
    ];
    let words = |count: usize| (count / size_of::<T>()).to_string();
    let row = |(index, (shape, own)): (usize, (&String, &LayerMemory))| {
        let mut cells = vec![index.to_string(), shape.clone()];
        let parts = [own.weights, own.factors, own.bases, own.scalings, own.velocity, own.workspace];
        cells.extend(parts.map(bytes));
        cells.extend([words(own.total()), bytes(own.total())]);
        cells
    };
    let mut rows: Vec<Vec<String>> = shapes.iter().zip(&memory.layers).enumerate().map(row).collect();
    let mut last = |name: &str, count: usize| {
        let mut cells = vec![name.to_string()];
        cells.resize(header.len() - 2, String::new());
        cells.extend([words(count), bytes(count)]);
        rows.push(cells);
    };
    last("shared scratch", memory.scratch);
    last("all", memory.total());
    table(&header, rows)
}
