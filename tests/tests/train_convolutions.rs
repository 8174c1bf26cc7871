//! `ekfac train --layers FILE.toml`: a described network learns, goes on bit for bit, takes the RAM that was announced, and every
//! mistake in its file is answered by the layer and what to do.
//!
//! Mutants that these tests catch: defaults of activations swapped; strides, paddings or dilations of rows for columns; a stride of
//! pooling that is 1; groups, biases or sharing lost between file and checkpoint; weights transposed or groups mixed in a file;
//! a table that counts something twice.

use ekfac::{
    Activation::{Identity, Relu, Tanh},
    Config, Loss, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, Pooling, Sharing},
};
use ekfac_std::{
    AnyNetwork, ConvolutionNetwork,
    checkpoint::{self, Checkpoint, Extra},
    program::inspect::{self, Chosen},
};
use ekfac_tests::place::{Place, expect_error};
use safetensors::SafeTensors;
use std::fs;

/// 8 x 8 pixels to ten classes.
const DIGITS: &str = r#"
[input]
rows = 8
columns = 8

[[layer]]
kind = "conv"
outputs = 8
kernel = 3
padding = 1
activation = "relu"

[[layer]]
kind = "max-pool"
kernel = 2

[[layer]]
kind = "conv"
outputs = 8
kernel = [3, 1]
padding = [1, 0]
groups = 2
bias = false

[[layer]]
kind = "dense"
outputs = 10
"#;

fn network(place: &Place, checkpoint: &str, capacity: usize) -> ConvolutionNetwork<f32> {
    let loaded = checkpoint::load_any::<f32>(&place.path(checkpoint), capacity).unwrap();
    let AnyNetwork::Convolutions(network) = loaded.value.network else { panic!("there are convolutions") };
    network
}

#[test]
fn a_described_network_learns_the_digits() {
    let place = Place::new();
    place.digits(DIGITS, "--epochs 4 --out @out").unwrap();
    let accuracy = place.last("out", "validation_accuracy");
    assert!(accuracy > 0.93, "{accuracy}");
    let side = Axis::new(4, 3).padding(1);
    let halved = Axis::new(8, 2).stride(2);
    let filters = Convolution::new_2d(8, [side, Axis::new(4, 1)], 8).groups(2).without_bias();
    let expected = [
        ConvolutionLayer::new(Convolution::new_2d(1, [Axis::new(8, 3).padding(1); 2], 8), Relu),
        ConvolutionLayer::pool(Pooling::Max, Convolution::depthwise(8, [halved; 2])),
        ConvolutionLayer::new(filters, Tanh),
        ConvolutionLayer::new(Convolution::new_2d(128, [Axis::new(1, 1); 2], 10), Identity),
    ];
    assert_eq!(network(&place, "out/checkpoint.safetensors", 1).net().layers(), expected);
}

#[test]
fn the_readme_shows_a_network_that_learns() {
    let readme = include_str!("../../README.md");
    let text = readme.split("```toml\n[input]").nth(1).unwrap().split("```").next().unwrap();
    let place = Place::new();
    place.digits(&format!("[input]{text}"), "--epochs 3 --out @out").unwrap();
    assert!(place.last("out", "validation_accuracy") > 0.9);
}

#[test]
fn a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let place = Place::new();
    let options = "--seed 7 --weight-decay 0.01 --batch 100";
    place.digits(DIGITS, &format!("{options} --epochs 3 --out @whole")).unwrap();
    place.digits(DIGITS, &format!("{options} --epochs 1 --out @parts")).unwrap();
    expect_error(
        place.digits(&DIGITS.replace("outputs = 8", "outputs = 6"), "--batch 100 --resume --out @parts"),
        &["--layers is 4 layers of checksum", "same arguments"],
    );
    // The layers count, not the name or the words of their file.
    fs::write(place.path("again.toml"), format!("# The same.\n{DIGITS}")).unwrap();
    let again = "train --data digits --task classify --layers @again.toml --epochs 3 --resume --out @parts";
    place.run(&format!("{again} {options}")).unwrap();
    for name in ["checkpoint.safetensors", "checkpoint.safetensors.previous", "weights.safetensors"] {
        assert_eq!(place.bytes(&format!("whole/{name}")), place.bytes(&format!("parts/{name}")), "{name}");
    }
    for name in ["loss", "validation_loss", "validation_accuracy", "rotations"] {
        assert_eq!(place.last("whole", name), place.last("parts", name), "{name}");
    }
}

#[test]
fn the_announced_memory_is_what_the_network_takes() {
    let place = Place::new();
    let text = place.announcement(DIGITS, "--batch 50");
    place.digits(DIGITS, "--batch 50 --epochs 1 --out @out").unwrap();
    let network = network(&place, "out/checkpoint.safetensors", 50);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let words = (network.bytes() / 4).to_string();
    assert!(
        rows.iter().any(|row| row.first() == Some(&"all") && row.get(1) == Some(&&*words)),
        "{words}: {text}"
    );
    // 8 maps of 64 words; h, z, g and g_Fisher of 50 examples, and the mean gradient of 10 weights a filter; the state.
    let state = network.net().layers()[0].convolution().state_words() + 2 * 80;
    let first = (4 * 50 * 8 * 64 + state).to_string();
    for part in
        ["conv: 1 x 8 x 8 -> 8 x 8 x 8", "max-pool: 8 x 8 x 8 -> 8 x 4 x 4", "dense: 8 x 4 x 4 -> 10", &first]
    {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let parameters = 80 + 8 * 12 + 129 * 10;
    assert!(text.contains(&format!("{parameters} parameters")), "{text}");
}

#[test]
fn a_line_of_samples_with_every_option_has_the_layers_that_it_describes() {
    let place = Place::new();
    let text = r#"
        input = { channels = 2, length = 32, layout = "channels-last" }
        layer = [
            { kind = "conv", outputs = 4, kernel = 3, stride = 2, padding = 2, dilation = 3, groups = 2 },
            { kind = "average-pool", kernel = 3, stride = 2, padding = 1 },
            { kind = "sequence", outputs = 5, activation = "gelu", bias = false },
            { kind = "global-pool" },
            { kind = "dense", outputs = 10 },
        ]
    "#;
    place.digits(text, "--activation sigmoid --output-activation tanh --epochs 1 --out @out").unwrap();
    let last = ekfac::convolution::Layout::ChannelsLast;
    let axis = Axis::new(32, 3).stride(2).padding(2).dilation(3);
    let one = Axis::new(1, 1);
    let pooled = Convolution::depthwise(4, [one, Axis::new(15, 3).stride(2).padding(1)]).layout(last);
    let sequence = Convolution::sequence(4, 8, 5).without_bias();
    let whole = Convolution::depthwise(5, [one, Axis::new(8, 8)]).layout(last);
    let expected = [
        ConvolutionLayer::new(
            Convolution::new_1d(2, axis, 4).groups(2).layout(last),
            ekfac::Activation::Sigmoid,
        ),
        ConvolutionLayer::pool(Pooling::Average, pooled),
        ConvolutionLayer::new(sequence, ekfac::Activation::Gelu),
        ConvolutionLayer::pool(Pooling::Average, whole),
        ConvolutionLayer::dense(5, 10, Tanh),
    ];
    assert_eq!(network(&place, "out/checkpoint.safetensors", 1).net().layers(), expected);
}

/// A stem, and a block of two convolutions around which its output is led.
const RESIDUAL: &str = r#"
    input = { rows = 8, columns = 8 }
    layer = [
        { kind = "conv", outputs = 4, kernel = 3, stride = 2, padding = 1, name = "stem" },
        { kind = "conv", outputs = 4, kernel = 3, padding = 1 },
        { kind = "conv", outputs = 4, kernel = 3, padding = 1, activation = "identity", name = "block" },
        { kind = "add", from = "stem", activation = "relu" },
        { kind = "max-pool", kernel = 2 },
        { kind = "dense", outputs = 10 },
    ]
"#;

#[test]
fn a_residual_network_learns_and_goes_on_bit_for_bit() {
    let place = Place::new();
    place.digits(RESIDUAL, "--epochs 3 --out @whole").unwrap();
    place.digits(RESIDUAL, "--epochs 1 --out @parts").unwrap();
    place.digits(RESIDUAL, "--epochs 3 --resume --out @parts").unwrap();
    let bytes = |out: &str| place.bytes(&format!("{out}/checkpoint.safetensors"));
    assert_eq!(bytes("whole"), bytes("parts"));
    assert!(place.last("whole", "validation_accuracy") > 0.9);
    let network = network(&place, "whole/checkpoint.safetensors", 1);
    assert_eq!(network.net().layers()[3], ConvolutionLayer::add(0, 4 * 16, Relu));
    let text = place.announcement(RESIDUAL, "");
    for part in ["add: 4 x 4 x 4 -> 4 x 4 x 4", "max-pool: 4 x 4 x 4 -> 4 x 2 x 2"] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let checkpoint = place.path("whole/checkpoint.safetensors");
    let arguments = inspect::Arguments { checkpoint, layer: Chosen::Largest, out: None };
    let text = inspect::report(&arguments).unwrap();
    assert!(text.contains("64 values + layer 0"), "{text}");
}

#[test]
fn mistakes_in_an_addition_are_answered_by_its_layer() {
    let place = Place::new();
    let refused = |old: &str, new: &str, parts: &[&str]| {
        assert!(RESIDUAL.contains(old), "{old}");
        expect_error(place.digits(&RESIDUAL.replacen(old, new, 1), "--epochs 1 --out @out"), parts);
    };
    refused(
        "from = \"stem\"",
        "from = \"root\"",
        &["layer 4 (add)", "no layer before it", "name = \"root\""],
    );
    refused("from = \"stem\"", "from = \"block\"", &["layer 4 (add)", "the layer below", "earlier"]);
    refused("\"block\"", "\"stem\"", &["layer 3 (conv)", "name = \"stem\"", "layer 1"]);
    refused("\"block\"", "3", &["layer 3 (conv)", "name is a text"]);
    refused("from = \"stem\", ", "", &["layer 4 (add)", "from"]);
    refused(
        "{ kind = \"conv\", outputs = 4, kernel = 3, padding = 1 }",
        "{ kind = \"conv\", outputs = 4, kernel = 3 }",
        &["layer 4 (add): \"stem\" gives 4 x 4 x 4", "below 4 x 2 x 2", "equal sizes"],
    );
}

#[test]
fn mistakes_in_the_file_are_answered_by_the_layer_and_what_to_do() {
    let place = Place::new();
    let refused = |text: &str, parts: &[&str]| {
        expect_error(place.digits(text, "--epochs 1 --out @out"), &[&["net.toml"], parts].concat());
    };
    let with = |old: &str, new: &str| {
        assert!(DIGITS.contains(old), "{old}");
        DIGITS.replacen(old, new, 1)
    };
    refused(&with("rows = 8", "rows = "), &["line 3"]);
    refused(&with("[input]", "[inputs]"), &["inputs", "input"]);
    refused(&with("rows = 8", "rows = 9"), &["[input]", "1 x 9 x 8", "72", "digits", "64"]);
    refused(&with("rows = 8\n", ""), &["[input]", "rows and columns, or length"]);
    refused(&with("rows = 8", "rows = 0"), &["[input]", "1 or more"]);
    refused(&with("rows = 8", "rows = 8\nlayout = \"c\""), &["[input]", "channels-first", "channels-last"]);
    refused(&with("\"conv\"", "\"convolution\""), &["layer 1 (convolution)", "no such kind", "max-pool"]);
    refused(&with("kind = \"max-pool\"\n", ""), &["layer 2 has no kind", "global-pool"]);
    refused(&with("kernel = 2", "kernel = 2\nstrid = 1"), &["layer 2 (max-pool)", "strid", "stride"]);
    refused(&with("kernel = 2", ""), &["layer 2 (max-pool)", "kernel"]);
    refused(
        &with("kernel = 2", "kernel = 9"),
        &["layer 2 (max-pool): kernel 9 does not fit a side of 8", "padding 1"],
    );
    refused(
        &with("padding = 1", "padding = 1\ndilation = 9"),
        &["layer 1 (conv): kernel 3, spread over 19, does not fit a side of 8 with padding 1", "padding 6"],
    );
    refused(&with("kernel = 2", "kernel = -1"), &["layer 2 (max-pool)", "[rows, columns]"]);
    refused(&with("kernel = 2", "kernel = 0"), &["layer 2 (max-pool): kernel 0", "1 or more"]);
    refused(&with("kernel = 2", "kernel = 2\nstride = 0"), &["layer 2 (max-pool): stride 0"]);
    refused(&with("groups = 2", "groups = 3"), &["layer 3 (conv): 3 groups do not divide 8 channels"]);
    refused(&with("groups = 2", "groups = 0"), &["layer 3 (conv): 0 groups"]);
    refused(&with("outputs = 8", "outputs = 0"), &["layer 1 (conv): outputs 0"]);
    refused(&with("\"relu\"", "\"rely\""), &["layer 1 (conv)", "rely", "leaky-relu"]);
    refused(
        &with("outputs = 10", "outputs = 11"),
        &["layer 4 (dense)", "11", "digits asks for 10", "outputs = 10"],
    );
    refused("input = { length = 64 }", &["no layers", "[[layer]]"]);
    refused(
        "input = { length = 64 }\nlayer = [{ kind = \"max-pool\", kernel = 2 }]",
        &["no layer with weights", "dense"],
    );
    refused(
        "input = { length = 64 }\nlayer = [{ kind = \"conv\", kernel = [3, 3], outputs = 2 }]",
        &["layer 1 (conv)", "line", "kernel = 3"],
    );
    refused(&with("outputs = 8", "outputs = 4000000000000000000"), &["layer 1 (conv)", "smaller"]);
    expect_error(
        place.run("train --data digits --task classify --layers @none.toml --out @out"),
        &["none.toml", "cannot be read"],
    );
    expect_error(
        place.run("train --data digits --task classify --layers 64,@net.toml --out @out"),
        &["--layers", "net.toml", "sizes or one file"],
    );
}

/// Groups, several channels and outputs, no bias in one: what a file can mix up.
fn grouped(sharing: Sharing) -> ConvolutionNetwork<f32> {
    let filters = Convolution::new_2d(4, [Axis::new(6, 3), Axis::new(5, 2)], 6).groups(2);
    let second = Convolution::new_2d(6, [Axis::new(4, 1); 2], 4).groups(2).without_bias();
    let pooling = ConvolutionLayer::pool(Pooling::Average, Convolution::depthwise(4, [Axis::new(4, 4); 2]));
    let layers = vec![
        ConvolutionLayer::new(filters, Tanh),
        ConvolutionLayer::new(second, Tanh),
        pooling,
        ConvolutionLayer::dense(4, 3, Identity),
    ];
    let loss = Loss::SquaredError;
    let network = ConvolutionNetwork::new(layers, loss, Config::default(), 5, 4).unwrap();
    let mut network = network.with_sharing(sharing).with_columns(7).unwrap();
    steps(&mut network, 0..3);
    network
}

fn steps(network: &mut ConvolutionNetwork<f32>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let values = |count: usize| (0..count).map(|i| ((number * 31 + i) as f32).sin()).collect::<Vec<_>>();
        network.step(&values(4 * 30 * 4), Targets::Values(&values(3 * 4))).unwrap();
    }
}

#[test]
fn a_checkpoint_keeps_everything_that_decides_the_bits() {
    for sharing in [Sharing::Expand, Sharing::Reduce] {
        let mut before = grouped(sharing);
        let bytes = checkpoint::to_bytes(&before, &Extra::new()).unwrap();
        let Checkpoint { network, .. } = checkpoint::any_from_bytes::<f32>(&bytes, 4).unwrap();
        let AnyNetwork::Convolutions(mut after) = network else { panic!("there are convolutions") };
        assert_eq!((after.sharing(), after.columns()), (sharing, 7));
        steps(&mut before, 3..6);
        steps(&mut after, 3..6);
        let bytes = |network| checkpoint::to_bytes(network, &Extra::new()).unwrap();
        assert_eq!(bytes(&before), bytes(&after), "{sharing:?}");
    }
}

#[test]
fn weights_are_where_other_programs_look_for_them() {
    let place = Place::new();
    let mut network = grouped(Sharing::Expand);
    checkpoint::export_weights(&mut network, &[], &place.path("weights")).unwrap();
    let bytes = place.bytes("weights");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name: &str| {
        let tensor = file.tensor(name).unwrap();
        let values = tensor.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (tensor.shape().to_vec(), values.collect::<Vec<f32>>())
    };
    let own = network.with(|learner| Ok(learner.weights(0)?.to_vec())).unwrap();
    let ((shape, weights), (_, bias)) = (tensor("layers.0.weight"), tensor("layers.0.bias"));
    assert_eq!((shape, bias.len()), (vec![6, 2, 3, 2], 6));
    // Output, channel, row, column; within a block of 3 x 13 column after column.
    for output in 0..6 {
        let (group, row) = (output / 3, output % 3);
        let at = |column: usize| own[group * 39 + column * 3 + row];
        assert!((0..12).all(|column| weights[output * 12 + column] == at(column)), "{output}");
        assert_eq!(bias[output], at(12));
    }
    assert_eq!(tensor("layers.1.weight").0, [4, 3, 1, 1]);
    assert_eq!(tensor("layers.3.weight").0, [3, 4]);
    assert!(file.tensor("layers.1.bias").is_err() && file.tensor("layers.2.weight").is_err());
}

#[test]
fn damage_and_later_versions_are_noticed() {
    let bytes = checkpoint::to_bytes(&grouped(Sharing::Expand), &Extra::new()).unwrap();
    let read =
        |bytes: &[u8]| checkpoint::any_from_bytes::<f32>(bytes, 4).map(|_| ()).map_err(|e| e.to_string());
    read(&bytes).unwrap();
    for index in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[index] ^= 4;
        let is_same = || {
            let again = checkpoint::any_from_bytes::<f32>(&damaged, 4).unwrap().network;
            checkpoint::to_bytes(&again, &Extra::new()).unwrap() == bytes
        };
        assert!(read(&damaged).is_err() || is_same(), "byte {index}");
        assert!(read(&bytes[..index]).is_err(), "{index} bytes");
    }
    let old = br#"\"version\":5"#;
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap() + old.len() - 1;
    for (version, part) in [(b'6', "reads 2 to 5"), (b'4', "no version 4")] {
        let mut other = bytes.clone();
        other[at] = version;
        let error = read(&other).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    // 8 columns would cut the sums elsewhere; so many have no memory.
    let old = br#"\"columns\":7"#;
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap() + old.len() - 1;
    let mut other = bytes;
    other[at] = b'8';
    assert!(read(&other).unwrap_err().contains("damaged"));
}

#[test]
fn the_other_subcommands_take_it_too() {
    let place = Place::new();
    place.digits(DIGITS, "--epochs 1 --out @out").unwrap();
    let path = place.path("out/checkpoint.safetensors");
    let report = |layer: Chosen| {
        let arguments = inspect::Arguments { checkpoint: path.clone(), layer, out: None };
        inspect::report(&arguments).map_err(|error| error.to_string())
    };
    let text = report(Chosen::All).unwrap();
    for part in ["1 x 8 x 8 -> 8 x 8 x 8", "2 groups, no bias", "Max pooling", "2, group 1", "128 x 1 x 1"] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(!text.contains("2, group 2") && report(Chosen::Layer(2)).unwrap().contains("plot"));
    assert!(report(Chosen::Layer(1)).unwrap_err().contains("--layer 1: that layer has no weights"));
    // For a device and back, with what is the program's and not the run's.
    place.run("snapshot @out/checkpoint.safetensors --out @snapshot").unwrap();
    place.run("snapshot @snapshot --settings @out/checkpoint.safetensors --out @back").unwrap();
    assert!(fs::read(place.path("back")).unwrap() == fs::read(&path).unwrap());
    let dense = checkpoint::load::<f32>(&path, 1).err().unwrap().to_string();
    assert!(dense.contains("convolutions"), "{dense}");
}

#[test]
fn numbers_and_inputs_themselves_can_be_learned_too() {
    let place = Place::new();
    let text = r#"
        input = { length = 10 }
        layer = [
            { kind = "conv", outputs = 3, kernel = 3 },
            { kind = "dense", outputs = 1 },
        ]
    "#;
    fs::write(place.path("net.toml"), text).unwrap();
    place.run("train --data diabetes --task regress --layers @net.toml --epochs 20 --out @values").unwrap();
    let share = place.last("values", "validation_r_squared");
    assert!(share > 0.3, "{share}");
    // Reconstruction asks for as many values as there are inputs.
    let inputs = "train --data diabetes --task reconstruct --layers @net.toml --epochs 20 --out @inputs";
    expect_error(place.run(inputs), &["layer 2 (dense)", "asks for", "outputs ="]);
}
