//! The memory table of the README: `cargo run -p ekfac --example memory`.

use ekfac::{Dense, Loss, Net};

const LAYERS: [(&str, &[Dense]); 6] = [
    ("8-4-2", &ekfac::layers![8 => 4 Tanh => 2 Identity]),
    ("16-8-4", &ekfac::layers![16 => 8 Tanh => 4 Identity]),
    ("32-16-4", &ekfac::layers![32 => 16 Tanh => 4 Identity]),
    ("36-24-6", &ekfac::layers![36 => 24 Tanh => 6 Identity]),
    ("64-32-10", &ekfac::layers![64 => 32 Tanh => 10 Identity]),
    (
        "64-48-24-12-24-48-64",
        &ekfac::layers![64 => 48 Tanh => 24 Tanh => 12 Identity => 24 Tanh => 48 Tanh => 64 Identity],
    ),
];

/// What weights, state and the scratch of one step take in the usual layout: A, B, U_A and U_B as full squares, W, S, the
/// momentum, and for the largest layer a square for the solver and two m x n for the gradient on its way through the bases.
fn usual_words(net: &Net<'_>) -> usize {
    let shapes = net.layers().iter().map(Dense::shape);
    let state = shapes.clone().map(|shape| {
        2 * (shape.rows() * shape.rows() + shape.columns() * shape.columns()) + 3 * shape.parameters()
    });
    let scratch = shapes.map(|shape| shape.longest_side() * shape.longest_side() + 2 * shape.parameters());
    state.sum::<usize>() + scratch.max().unwrap_or(0)
}

fn main() {
    println!(
        "| net | weights | weights and state | + workspace, one example | + workspace, batch of 32 | the usual layout |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, layers) in LAYERS {
        let net = Net::new(layers, Loss::SquaredError);
        let bytes = |words: usize| format!("{:.1} KB", (words * size_of::<f32>()) as f64 / 1024.0);
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            bytes(net.parameters()),
            bytes(net.state_words()),
            bytes(net.words(1)),
            bytes(net.words(32)),
            bytes(usual_words(&net))
        );
    }
}
