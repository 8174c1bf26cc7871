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

fn main() {
    println!("| net | weights | weights and state | + workspace, one example | + workspace, batch of 32 |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, layers) in LAYERS {
        let net = Net::new(layers, Loss::SquaredError);
        let bytes = |words: usize| format!("{:.1} KB", (words * size_of::<f32>()) as f64 / 1024.0);
        println!(
            "| {name} | {} | {} | {} | {} |",
            bytes(net.parameters()),
            bytes(net.state_words()),
            bytes(net.words(1)),
            bytes(net.words(32))
        );
    }
}
