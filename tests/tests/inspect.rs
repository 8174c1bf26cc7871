//! The subcommand `inspect`, in process.

use clap::Parser;
use ekfac::{
    Activation::{Identity, Tanh},
    Config, Damping, Dense, Loss, Targets,
};
use ekfac_std::{
    Network,
    checkpoint::{self, Extra, Stored},
    program::{
        self,
        inspect::{self, Chosen},
    },
};
use std::{fs, path::Path};

fn save<T: Stored>(path: &Path, config: Config<T>, steps: usize) {
    let layers = vec![Dense::new(3, 5, Tanh), Dense::new(5, 2, Identity)];
    let mut network = Network::new(layers, Loss::SoftmaxCrossEntropy, config, 9, 8).unwrap();
    for number in 0..steps {
        let inputs: Vec<T> = (0..24).map(|index| T::from_f64(((number * 31 + index) as f64).sin())).collect();
        network.step(&inputs, Targets::Classes(&[0, 1, 1, 0, 1, 0, 0, 1])).unwrap();
    }
    let extra = Extra::from([("note".to_string(), "from a test".to_string())]);
    checkpoint::save_with(&network, &extra, path).unwrap();
}

fn report(path: &Path, layer: Chosen) -> Result<String, String> {
    let arguments = inspect::Arguments { checkpoint: path.into(), layer, out: None };
    inspect::report(&arguments).map_err(|error| error.to_string())
}

#[track_caller]
fn expect(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn a_checkpoint_is_shown_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    save::<f32>(&path, Config { damping: Damping::Absolute(1e-3), ..Config::default() }, 10);
    let before = fs::read(&path).unwrap();
    let text = report(&path, Chosen::Largest).unwrap();
    expect(
        &text,
        &["3 -> 5", "5 -> 2", "condition A", "off-diagonal B", "orthogonality", "mean S", "damping"],
    );
    expect(&text, &["F32", "rotations", "learning_rate", "0.1", "from a test", "state.safetensors.svg"]);
    let facts: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(facts.contains(&vec!["steps", "10"]) && facts.contains(&vec!["seed", "9"]), "{text}");
    expect_numbers(&path, &facts);
    let svg = fs::read_to_string(folder.path().join("state.safetensors.svg")).unwrap();
    expect(&svg, &["<svg", "layer 0", "EKFAC", "K-FAC"]);
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// The rows of the tables say what the network says.
fn expect_numbers(path: &Path, rows: &[Vec<&str>]) {
    let mut network = checkpoint::load::<f32>(path, 1).unwrap().value;
    for index in 0..2 {
        let name = index.to_string();
        let mut rows = rows.iter().filter(|row| row.first() == Some(&name.as_str()));
        let (shape, curvature) = (rows.next().unwrap(), rows.next().unwrap());
        assert_eq!(shape[5], ["20", "12"][index]);
        let expected = network.with(|learner| {
            let layer = learner.layer(index)?;
            let (a, b) = (layer.input_factor(), layer.output_factor());
            let orthogonality = a.orthogonality().max(b.orthogonality());
            let health = [a.condition(), b.condition(), a.off_diagonal(), b.off_diagonal(), orthogonality];
            Ok(health.into_iter().chain([layer.mean_scaling(), 1e-3]).collect::<Vec<f32>>())
        });
        for (cell, expected) in curvature[1..].iter().zip(expected.unwrap()) {
            let found: f32 = cell.parse().unwrap();
            assert!(
                found == expected || (found - expected).abs() <= 0.01 * expected,
                "{cell} for {expected}"
            );
        }
    }
}

// Mutant: read every file in 32 bits.
#[test]
fn sixty_four_bits_are_recognised_and_the_plot_goes_where_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let (path, plot) = (folder.path().join("state"), folder.path().join("plot.svg"));
    let config = Config { damping: Damping::Absolute(0.062_5), ..Config::default() };
    save::<f64>(&path, config, 5);
    expect(&report(&path, Chosen::Layer(1)).unwrap(), &["F64", "0.0625"]);
    let words = ["ekfac", "inspect", path.to_str().unwrap(), "--layer", "1", "--out", plot.to_str().unwrap()];
    program::run(program::Arguments::try_parse_from(words).unwrap()).unwrap();
    expect(&fs::read_to_string(&plot).unwrap(), &["<svg", "layer 1"]);
}

#[test]
fn every_damping_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    save::<f32>(&path, Config { damping: Damping::RelativeToMean(0.1), ..Config::default() }, 3);
    report(&path, Chosen::All).unwrap();
    save::<f32>(&path, Config::kfac(0.01, 0.1, 1), 3);
    expect(&report(&path, Chosen::All).unwrap(), &["A 0.", "B 0."]);
}

#[test]
fn the_generation_before_is_shown_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    save::<f32>(&path, Config::default(), 4);
    save::<f32>(&path, Config::default(), 5);
    fs::write(&path, b"nothing").unwrap();
    expect(&report(&path, Chosen::Largest).unwrap(), &["state.previous", "safetensors"]);
}

#[test]
fn a_fresh_network_has_no_curvature_to_draw() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    save::<f32>(&path, Config::default(), 0);
    expect(&report(&path, Chosen::Largest).unwrap(), &["no curvature"]);
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    expect(&report(&path, Chosen::Largest).unwrap_err(), &["state"]);
    save::<f32>(&path, Config::default(), 2);
    expect(&report(&path, Chosen::Layer(2)).unwrap_err(), &["--layer 2", "0 to 1"]);
    fs::write(&path, b"nothing").unwrap();
    expect(&report(&path, Chosen::Largest).unwrap_err(), &["state", "safetensors"]);
}
