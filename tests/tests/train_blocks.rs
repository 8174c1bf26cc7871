//! `ekfac train --layers FILE.toml` with blocks of the Fisher beside the full one: scales and shifts, kernels whose points share a
//! factor, embeddings. They learn, go on bit for bit, reach a device and other programs, and the reports name their blocks.

use ekfac::{
    Activation::Identity,
    convolution::{Block, Convolution, ConvolutionLayer},
};
use ekfac_std::{
    AnyNetwork, checkpoint,
    program::inspect::{self, Chosen},
};
use ekfac_tests::{
    place::{Place, expect_error},
    random::Draws,
};
use safetensors::SafeTensors;
use std::fs;

const DIGITS: &str = r#"
input = { rows = 8, columns = 8 }
layer = [
    { kind = "conv", outputs = 8, kernel = 3, padding = 1, activation = "identity" },
    { kind = "affine", activation = "relu" },
    { kind = "max-pool", kernel = 2 },
    { kind = "conv", outputs = 8, kernel = 3, padding = 1, uncorrelated = true },
    { kind = "affine", bias = false },
    { kind = "dense", outputs = 10 },
]
"#;

fn layers(place: &Place, checkpoint: &str) -> (Vec<ConvolutionLayer>, usize) {
    let loaded = checkpoint::load_any::<f32>(&place.path(checkpoint), 50).unwrap();
    let AnyNetwork::Convolutions(network) = loaded.value.network else { panic!("there are convolutions") };
    (network.net().layers().to_vec(), network.bytes())
}

// Mutants: the block of a kind mistaken; a diagonal's words not counted; the affine layer's activation by default the hidden one.
#[test]
fn every_block_learns_and_is_reported() {
    let place = Place::new();
    let text = place.announcement(DIGITS, "--batch 50");
    place.digits(DIGITS, "--batch 50 --epochs 4 --out @out").unwrap();
    let accuracy = place.last("out", "validation_accuracy");
    assert!(accuracy > 0.93, "{accuracy}");
    let (layers, bytes) = layers(&place, "out/checkpoint.safetensors");
    let blocks: Vec<Option<Block>> = layers.iter().map(ConvolutionLayer::block).collect();
    let expected =
        [Block::Full, Block::Diagonal, Block::Full, Block::Uncorrelated, Block::Diagonal, Block::Full];
    assert_eq!(
        blocks,
        [Some(expected[0]), Some(expected[1]), None, Some(expected[3]), Some(expected[4]), Some(expected[5])]
    );
    assert_eq!(layers[4], ConvolutionLayer::new(Convolution::affine(8, [4, 4]).without_bias(), Identity));
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let words = (bytes / 4).to_string();
    assert!(rows.iter().any(|row| row.first() == Some(&"all") && row.get(1) == Some(&&*words)), "{text}");
    let arguments = inspect::Arguments {
        checkpoint: place.path("out/checkpoint.safetensors"),
        layer: Chosen::All,
        out: None,
    };
    let report = inspect::report(&arguments).map_err(|error| error.to_string()).unwrap();
    for shown in [&text, &report] {
        assert_eq!(shown.matches("diagonal block").count(), 2, "{shown}");
        assert_eq!(shown.matches("uncorrelated block").count(), 1, "{shown}");
    }
    assert!(!report.contains("NaN"), "{report}");
}

// Mutants: a block's state or weights lost between file, snapshot and network.
#[test]
fn a_run_goes_on_from_a_checkpoint_and_from_a_snapshot() {
    let place = Place::new();
    place.digits(DIGITS, "--epochs 2 --out @whole").unwrap();
    place.digits(DIGITS, "--epochs 1 --out @halves").unwrap();
    place.digits(DIGITS, "--epochs 2 --resume --out @halves").unwrap();
    let name = "checkpoint.safetensors";
    assert!(place.bytes(&format!("whole/{name}")) == place.bytes(&format!("halves/{name}")));
    place.run("snapshot @whole/checkpoint.safetensors --out @snapshot").unwrap();
    place.run("snapshot @snapshot --settings @whole/checkpoint.safetensors --out @back").unwrap();
    assert!(place.bytes("back") == place.bytes(&format!("whole/{name}")));
    let bytes = place.bytes("whole/weights.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).map(|tensor| tensor.shape().to_vec()).ok();
    assert_eq!((shape("layers.1.weight"), shape("layers.1.bias")), (Some(vec![8]), Some(vec![8])));
    assert_eq!((shape("layers.4.weight"), shape("layers.4.bias")), (Some(vec![8]), None));
    assert_eq!(shape("layers.3.weight"), Some(vec![8, 8, 3, 3]));
}

const TOKENS: &str = r#"
input = { length = 5 }
layer = [
    { kind = "embedding", vocabulary = 12, outputs = 4 },
    { kind = "conv", outputs = 6, kernel = 2 },
    { kind = "dense", outputs = 2 },
]
"#;

/// Five tokens of twelve; the class is whether token 7 comes before token 3.
fn write_tokens(place: &Place) {
    let mut draws = Draws::new(20_261_129);
    let mut text = String::new();
    for _ in 0..400 {
        let mut tokens: Vec<usize> = (0..5).map(|_| draws.index(12)).collect();
        let (first, second) = (draws.index(2), 2 + draws.index(3));
        let turned = draws.index(2) == 1;
        (tokens[first], tokens[second]) = if turned { (7, 3) } else { (3, 7) };
        let words: Vec<String> = tokens.iter().map(usize::to_string).collect();
        text += &format!("{},{}\n", words.join(","), if turned { "before" } else { "after" });
    }
    fs::write(place.path("tokens.csv"), text).unwrap();
}

fn train(place: &Place, text: &str, options: &str) -> Result<(), String> {
    fs::write(place.path("net.toml"), text).unwrap();
    place.run(&format!("train --data @tokens.csv --task classify --layers @net.toml {options}"))
}

// Mutants: tokens that are scaled; columns of W for another token; W written by rows where it is read by columns.
#[test]
fn an_embedding_learns_from_tokens() {
    let place = Place::new();
    write_tokens(&place);
    train(&place, TOKENS, "--standardise no --epochs 30 --out @out").unwrap();
    let accuracy = place.last("out", "validation_accuracy");
    assert!(accuracy > 0.9, "{accuracy}");
    let (layers, _) = layers(&place, "out/checkpoint.safetensors");
    assert_eq!(layers[0].block(), Some(Block::DiagonalInput));
    let bytes = place.bytes("out/weights.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("layers.0.weight").unwrap().shape(), [4, 12]);
}

#[test]
fn mistakes_with_these_kinds_are_answered_by_the_layer_and_what_to_do() {
    let place = Place::new();
    write_tokens(&place);
    let options = "--standardise no --epochs 1 --out @out";
    expect_error(
        train(&place, TOKENS, "--epochs 1 --out @out"),
        &["layer 1 (embedding)", "--standardise no"],
    );
    let few = TOKENS.replace("12", "11");
    expect_error(train(&place, &few, options), &["layer 1 (embedding)", "vocabulary = 12"]);
    let none = TOKENS.replace("12", "0");
    expect_error(train(&place, &none, options), &["layer 1 (embedding)", "vocabulary 0"]);
    let wide = TOKENS.replace("length = 5", "length = 5, channels = 2");
    expect_error(train(&place, &wide, options), &["layer 1 (embedding)", "2 x 5", "length alone"]);
    let second = TOKENS.replace("layer = [", "layer = [ { kind = \"affine\" },");
    expect_error(train(&place, &second, options), &["layer 2 (embedding)", "first layer"]);
    let kernel = TOKENS.replace("vocabulary", "kernel = 2, vocabulary");
    expect_error(train(&place, &kernel, options), &["layer 1 (embedding)", "kernel"]);
    let outputs = DIGITS.replace("\"affine\", bias", "\"affine\", outputs = 3, bias");
    expect_error(place.digits(&outputs, "--epochs 1 --out @out"), &["layer 5 (affine)", "outputs"]);
    let text = fs::read_to_string(place.path("tokens.csv")).unwrap();
    fs::write(place.path("tokens.csv"), text.replacen(',', ".5,", 1)).unwrap();
    expect_error(train(&place, TOKENS, options), &["layer 1 (embedding)", ".5", "no token"]);
}
