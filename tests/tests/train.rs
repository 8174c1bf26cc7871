//! The subcommand `train`, in process: it learns, goes on bit for bit, and says what is wrong with its arguments.

use clap::Parser;
use ekfac_std::{
    checkpoint,
    program::{self, Arguments},
};
use safetensors::SafeTensors;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A folder with data in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// `ekfac train --data <file> <options> --out <out>`
    fn train(&self, file: &str, options: &str, out: &str) -> Result<(), String> {
        let (data, out) = (self.text(file), self.text(out));
        let words = ["ekfac", "train", "--data", &data, "--out", &out];
        let words = words.into_iter().chain(options.split_whitespace());
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        program::run(arguments).map_err(|error| error.to_string())
    }
}

/// Evenly spread pairs in the square from -1 to 1.
fn pairs(count: u32) -> impl Iterator<Item = (f64, f64)> {
    let part = |index: u32, step: f64| 2.0 * (f64::from(index) * step).fract() - 1.0;
    (1..=count).map(move |index| (part(index, 0.754_877_666), part(index, 0.569_840_291)))
}

/// Two classes, inside and outside a circle of half the area.
fn circle() -> String {
    pairs(200).fold("x,y,where\n".to_string(), |mut text, (x, y)| {
        writeln!(text, "{x},{y},{}", if x * x + y * y < 0.64 { "inside" } else { "outside" }).unwrap();
        text
    })
}

/// 3 x - 2 y + 10, in units of 100.
fn plane() -> String {
    pairs(120).fold("x,y,height\n".to_string(), |mut text, (x, y)| {
        writeln!(text, "{},{y},{}", 5.0 * x + 7.0, 100.0 * (3.0 * x - 2.0 * y + 10.0)).unwrap();
        text
    })
}

/// The column of the log with this name.
fn column(place: &Place, out: &str, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(place.path(out).join("log.csv")).unwrap();
    let index = text.lines().next().unwrap().split(',').position(|title| title == name);
    let index = index.unwrap_or_else(|| panic!("no {name} in {text}"));
    text.lines().skip(1).map(|line| line.split(',').nth(index).unwrap().parse().unwrap()).collect()
}

fn last(place: &Place, out: &str, name: &str) -> f64 {
    *column(place, out, name).last().unwrap()
}

fn bytes(place: &Place, out: &str, name: &str) -> Vec<u8> {
    fs::read(place.path(out).join(name)).unwrap()
}

fn tensor(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensor = file.tensor(name).unwrap();
    let values = match tensor.dtype() {
        safetensors::Dtype::F64 => {
            tensor.data().chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
        }
        _ => tensor.data().chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
    };
    (tensor.shape().to_vec(), values)
}

// Mutant: do not shuffle, classes shifted by one, accuracy of the training part.
#[test]
fn classification_learns_and_leaves_its_files() {
    let place = Place::new();
    place.write("circle.csv", &circle());
    place.train("circle.csv", "--task classify --layers 2,16,2 --epochs 40", "out").unwrap();
    assert!(last(&place, "out", "validation_accuracy") > 0.9);
    assert_eq!(column(&place, "out", "epoch").len(), 40);
    assert!(column(&place, "out", "rotations").windows(2).all(|pair| pair[0] <= pair[1]));
    for name in ["checkpoint.safetensors", "checkpoint.safetensors.previous", "weights.safetensors"] {
        assert!(SafeTensors::deserialize(&bytes(&place, "out", name)).is_ok(), "{name}");
    }
    assert!(bytes(&place, "out", "loss.svg").starts_with(b"<svg"));
}

#[test]
fn one_output_serves_for_two_classes() {
    let place = Place::new();
    place.write("circle.csv", &circle());
    let options = "--task classify --loss binary --hidden 16 --epochs 40 --target where";
    place.train("circle.csv", options, "out").unwrap();
    assert!(last(&place, "out", "validation_accuracy") > 0.9);
}

// Mutant: leave the scale of the targets out of RMSE, transpose the exported weights, export the scaled means.
#[test]
fn the_exported_weights_give_the_plane_in_its_own_units() {
    let place = Place::new();
    place.write("plane.csv", &plane());
    place.train("plane.csv", "--task regress --layers 2,1 --epochs 60", "out").unwrap();
    assert!(last(&place, "out", "validation_r_squared") > 0.9999);
    assert!(last(&place, "out", "validation_rmse") < 1.0);

    let contents = bytes(&place, "out", "weights.safetensors");
    let file = SafeTensors::deserialize(&contents).unwrap();
    let values = |name: &str| tensor(&file, name).1;
    assert_eq!(tensor(&file, "layers.0.weight").0, [1, 2]);
    let (weight, bias) = (values("layers.0.weight"), values("layers.0.bias"));
    let (mean, scale) = (values("inputs.mean"), values("inputs.scale"));
    let (target_mean, target_scale) = (values("targets.mean"), values("targets.scale"));
    for (x, y) in [(0.3, -0.8), (-0.5, 0.1)] {
        let inputs = [5.0 * x + 7.0, y];
        let sum: f64 = (0..2).map(|i| weight[i] * (inputs[i] - mean[i]) / scale[i]).sum();
        let height = (sum + bias[0]) * target_scale[0] + target_mean[0];
        assert!((height - 100.0 * (3.0 * x - 2.0 * y + 10.0)).abs() < 2.0, "{height}");
    }
}

// Mutant: the label column among the inputs.
#[test]
fn reconstruction_finds_the_plane_in_four_columns() {
    let place = Place::new();
    let text = pairs(150).fold("a,b,c,d,label\n".to_string(), |mut text, (x, y)| {
        writeln!(text, "{x},{y},{},{},name", x + y, x - 2.0 * y).unwrap();
        text
    });
    place.write("four.csv", &text);
    let options = "--task reconstruct --layers 4,2,4 --activation identity --target label --epochs 60";
    place.train("four.csv", options, "out").unwrap();
    assert!(last(&place, "out", "validation_rmse") < 0.1);
}

// Mutant: the order of an epoch from a stream that goes on, the best loss or the patience not stored.
#[test]
fn a_resumed_run_has_the_bits_of_an_uninterrupted_one() {
    let place = Place::new();
    place.write("circle.csv", &circle());
    let options = "--task classify --layers 2,8,2 --seed 7 --weight-decay 0.01";
    place.train("circle.csv", &format!("{options} --epochs 6"), "whole").unwrap();
    place.train("circle.csv", &format!("{options} --epochs 3"), "parts").unwrap();
    assert_ne!(
        bytes(&place, "whole", "checkpoint.safetensors"),
        bytes(&place, "parts", "checkpoint.safetensors")
    );
    place.train("circle.csv", &format!("{options} --epochs 6 --resume"), "parts").unwrap();
    for name in ["checkpoint.safetensors", "checkpoint.safetensors.previous", "weights.safetensors"] {
        assert_eq!(bytes(&place, "whole", name), bytes(&place, "parts", name), "{name}");
    }
    for name in ["epoch", "loss", "validation_loss", "validation_accuracy", "rotations"] {
        assert_eq!(column(&place, "whole", name), column(&place, "parts", name), "{name}");
    }
}

#[test]
fn a_damaged_checkpoint_resumes_from_the_one_before() {
    let place = Place::new();
    place.write("circle.csv", &circle());
    let options = "--task classify --layers 2,4,2";
    place.train("circle.csv", &format!("{options} --epochs 4"), "whole").unwrap();
    place.train("circle.csv", &format!("{options} --epochs 3"), "out").unwrap();
    let path = place.path("out").join("checkpoint.safetensors");
    let mut contents = fs::read(&path).unwrap();
    let middle = contents.len() / 2;
    contents[middle] ^= 1;
    fs::write(&path, contents).unwrap();
    place.train("circle.csv", &format!("{options} --epochs 4 --resume"), "out").unwrap();
    assert_eq!(bytes(&place, "whole", "checkpoint.safetensors"), fs::read(&path).unwrap());
    assert!(checkpoint::load::<f32>(&path, 1).unwrap().passed_over.is_none());
}

// Mutant: export the last weights, count the patience from the start of the resumed run.
#[test]
fn patience_ends_a_run_that_only_memorises_and_keeps_the_best_weights() {
    let place = Place::new();
    let text = pairs(80).enumerate().fold("x,y,class\n".to_string(), |mut text, (index, (x, y))| {
        writeln!(text, "{x},{y},{}", ["a", "b"][(index * index / 3) % 2]).unwrap();
        text
    });
    place.write("noise.csv", &text);
    let options = "--task classify --layers 2,16,2 --learning-rate 0.3";
    place.train("noise.csv", &format!("{options} --epochs 200 --patience 3"), "out").unwrap();
    let losses = column(&place, "out", "validation_loss");
    let best = (0..losses.len()).fold(0, |best, next| if losses[next] < losses[best] { next } else { best });
    assert!(losses.len() < 200 && losses.len() == best + 1 + 3, "{losses:?}");
    place.train("noise.csv", &format!("{options} --epochs {}", best + 1), "best").unwrap();
    assert_eq!(bytes(&place, "out", "weights.safetensors"), bytes(&place, "best", "weights.safetensors"));
}

/// Every part of an error message that a user needs.
#[track_caller]
fn expect_error(result: Result<(), String>, parts: &[&str]) {
    let message = result.expect_err("should be refused");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn bad_data_are_named() {
    let place = Place::new();
    place.write("plane.csv", &plane());
    let options = "--task regress --layers 2,1";
    expect_error(
        place.train("plane.csv", &format!("{options} --target depth"), "out"),
        &["plane.csv", "depth", "height"],
    );
    expect_error(place.train("no.csv", options, "out"), &["no.csv", "open"]);
    place.write("bad.csv", "x,y,z\n1,2,3\n1,many,3\n4,5,6\n");
    expect_error(
        place.train("bad.csv", options, "out"),
        &["bad.csv", "line 3", "column 2", "\"y\"", "\"many\""],
    );
    place.write("one.csv", "x,y\n1,only\n2,only\n");
    expect_error(place.train("one.csv", "--task classify --layers 1,1", "out"), &["one.csv", "--target"]);
}

#[test]
fn sizes_that_do_not_fit_are_answered_with_those_that_do() {
    let place = Place::new();
    place.write("circle.csv", &circle());
    expect_error(
        place.train("circle.csv", "--task classify --layers 5,8,3", "out"),
        &["--layers 5,8,3", "2 inputs", "2 outputs", "--layers 2,8,2"],
    );
    expect_error(place.train("circle.csv", "--task classify --layers 2,0,2", "out"), &["--layers 2,0,2"]);
    expect_error(place.train("circle.csv", "--task classify", "out"), &["--layers"]);
}

#[test]
fn bad_settings_are_named() {
    let place = Place::new();
    place.write("circle.csv", &circle());
    let train = |options: &str| place.train("circle.csv", &format!("--layers 2,2 {options}"), "out");
    expect_error(train("--task classify --learning-rate -1"), &["learning-rate"]);
    expect_error(train("--task classify --damping -1"), &["damping"]);
    expect_error(train("--task classify --validation 1"), &["validation"]);
    expect_error(train("--task classify --loss squared"), &["--loss softmax"]);
    expect_error(train("--task reconstruct --target where --loss binary"), &["0 to 1"]);
    expect_error(train("--task classify --batch 0"), &["--batch"]);
    expect_error(train("--task classify --activation cosine"), &["cosine", "tanh"]);
}

#[test]
fn a_folder_that_cannot_serve_is_refused_before_training() {
    let place = Place::new();
    place.write("circle.csv", &circle());
    let options = "--task classify --layers 2,2 --epochs 1";
    expect_error(place.train("circle.csv", options, "circle.csv/out"), &["circle.csv/out", "--out"]);
    expect_error(
        place.train("circle.csv", &format!("{options} --resume"), "out"),
        &["no checkpoint", "--resume"],
    );
    place.train("circle.csv", options, "out").unwrap();
    let before = bytes(&place, "out", "checkpoint.safetensors");
    expect_error(place.train("circle.csv", options, "out"), &["--resume", "--overwrite"]);
    expect_error(
        place.train("circle.csv", &format!("{options} --seed 2 --resume"), "out"),
        &["--seed is 2 now and was 1", "same arguments"],
    );
    place.write("circle.csv", &circle().replace("0.5", "0.6"));
    expect_error(place.train("circle.csv", &format!("{options} --resume"), "out"), &["checksum of the data"]);
    assert_eq!(bytes(&place, "out", "checkpoint.safetensors"), before);
    place.train("circle.csv", &format!("{options} --overwrite"), "out").unwrap();
    assert_ne!(bytes(&place, "out", "checkpoint.safetensors"), before);
}

#[test]
fn the_embedded_data_need_no_file() {
    let place = Place::new();
    let out = place.text("out");
    let words = "ekfac train --data wine --task classify --hidden 8 --epochs 10 --out".split(' ');
    let arguments = Arguments::try_parse_from(words.chain([out.as_str()])).unwrap();
    program::run(arguments).unwrap();
    assert!(last(&place, "out", "validation_accuracy") > 0.9);
}

// Mutant: compare logits with inputs.
#[test]
fn reconstruction_by_shares_is_measured_in_shares() {
    let place = Place::new();
    let text = pairs(100).fold(String::new(), |mut text, (x, y)| {
        writeln!(text, "{},{},{}", 0.5 + 0.5 * x, 0.5 + 0.5 * y, 0.5 - 0.5 * x).unwrap();
        text
    });
    place.write("shares.csv", &text);
    let options =
        "--task reconstruct --loss binary --hidden 2 --activation identity --standardise no --header no";
    place.train("shares.csv", &format!("{options} --epochs 60"), "out").unwrap();
    let error = last(&place, "out", "validation_rmse");
    assert!(error < 0.15, "{error}");
}

#[test]
fn nothing_held_out_is_judged_by_the_training_part() {
    let place = Place::new();
    place.write("plane.csv", &plane());
    place.train("plane.csv", "--task regress --hidden 3 --validation 0 --epochs 3 --batch 7", "out").unwrap();
    let losses = column(&place, "out", "loss_after_epoch");
    assert!(losses[2] < losses[0] && last(&place, "out", "training_r_squared") > 0.5, "{losses:?}");
}

/// The folder of the run that [`the_interrupted_process`] is to do.
const CHILD: &str = "EKFAC_TEST_INTERRUPTED_IN";
const LONG: &str = "ekfac train --data digits --task classify --hidden 48 --save-every 1000000 --epochs";

fn long_run(out: &Path, epochs: &str, rest: &[&str]) -> Result<(), String> {
    let words = LONG.split(' ').chain([epochs, "--out", out.to_str().unwrap()]).chain(rest.iter().copied());
    program::run(Arguments::try_parse_from(words).unwrap()).map_err(|error| error.to_string())
}

/// Not a test of its own: the process that the next test starts and interrupts.
#[test]
#[ignore = "is started by another test"]
fn the_interrupted_process() {
    if let Some(out) = std::env::var_os(CHILD) {
        expect_error(
            long_run(Path::new(&out), "1000000", &[]),
            &["interrupted", "checkpoint.safetensors", "--resume"],
        );
    }
}

// Mutant: save at the end of an epoch only, or forget how many of its batches are done.
#[cfg(unix)]
#[test]
fn ctrl_c_saves_between_two_batches_and_the_run_goes_on() {
    use std::process::{Command, Stdio};
    let place = Place::new();
    let out = place.path("parts");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_interrupted_process"])
        .env(CHILD, &out)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Once an epoch is in the log, Ctrl-C is caught.
    while fs::read_to_string(out.join("log.csv")).map_or(0, |log| log.lines().count()) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the process ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signal.unwrap().success());
    assert!(child.wait().unwrap().success());
    let epochs = (last(&place, "parts", "epoch") + 2.0).to_string();
    long_run(&out, &epochs, &["--resume"]).unwrap();
    long_run(&place.path("whole"), &epochs, &[]).unwrap();
    for name in ["checkpoint.safetensors", "weights.safetensors"] {
        assert_eq!(bytes(&place, "whole", name), bytes(&place, "parts", name), "{name}");
    }
    assert_eq!(column(&place, "whole", "loss"), column(&place, "parts", "loss"));
}
