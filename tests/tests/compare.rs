//! The subcommand `compare`, in process: the same start and batches for all, whatever the number of threads; files that
//! agree; and bad arguments.

use clap::Parser;
use ekfac_std::program::{self, Arguments};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const FIELDS: [&str; 7] = ["optimizer", "seed", "epoch", "loss", "seconds", "rotations", "operations"];

/// A folder, and `ekfac compare <options> --out <folder>/<out>`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn compare(&self, options: &str, out: &str) -> Result<PathBuf, String> {
        let out = self.path(out);
        let words = ["ekfac", "compare"].into_iter().chain(options.split_whitespace());
        let words = words.chain(["--out", out.to_str().unwrap()]);
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        program::run(arguments).map_err(|error| error.to_string())?;
        Ok(out)
    }
}

fn json(path: &Path) -> Vec<Value> {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The losses, as they stand in the file: equal text is equal bits.
fn losses(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["loss"].to_string()).collect()
}

#[test]
fn results_have_the_fields_that_are_promised_and_begin_alike() {
    let place = Place::new();
    let out = place.compare("--optimizers sgd,ekfac,soap,sgd --epochs 2 --seeds 2", "out").unwrap();
    let rows = json(&out.join("results.json"));
    // Three optimisers, each once, two seeds, the start and two epochs.
    assert_eq!(rows.len(), 3 * 2 * 3);
    for row in &rows {
        let mut names: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = FIELDS.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
    for seed in [1, 2] {
        let starts = rows.iter().filter(|row| row["epoch"] == 0 && row["seed"] == seed);
        let starts: Vec<Value> = starts.map(|row| row["loss"].clone()).collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|loss| *loss == starts[0]), "{starts:?}");
        assert!((8.0..13.0).contains(&starts[0].as_f64().unwrap()));
    }
    for pair in rows.windows(2).filter(|pair| pair[1]["epoch"] != 0) {
        assert!(pair[1]["loss"].as_f64().unwrap() < pair[0]["loss"].as_f64().unwrap(), "{pair:?}");
        assert!(pair[1]["seconds"].as_f64().unwrap() > pair[0]["seconds"].as_f64().unwrap());
        assert!(pair[1]["operations"].as_u64().unwrap() > pair[0]["operations"].as_u64().unwrap());
    }
    let rotations =
        |name: &str| rows.iter().rfind(|row| row["optimizer"] == name).unwrap()["rotations"].as_f64();
    assert_eq!(rotations("sgd"), Some(0.0));
    assert!(rotations("ekfac") > Some(1.0));
}

#[test]
fn the_table_of_values_and_the_plots_agree_with_the_json() {
    let place = Place::new();
    let out = place.compare("--optimizers adam,kfac --epochs 2", "out").unwrap();
    let rows = json(&out.join("results.json"));
    let csv = fs::read_to_string(out.join("results.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some(FIELDS.join(",").as_str()));
    for row in &rows {
        let cells: Vec<&str> = lines.next().unwrap().split(',').collect();
        assert_eq!(cells.len(), FIELDS.len());
        for (name, cell) in FIELDS.iter().zip(cells) {
            match &row[*name] {
                Value::String(text) => assert_eq!(text, cell),
                number => assert_eq!(number.as_f64(), cell.parse().ok(), "{name}"),
            }
        }
    }
    assert_eq!(lines.next(), None);
    for plot in ["loss.svg", "operations.svg"] {
        let svg = fs::read_to_string(out.join(plot)).unwrap();
        assert!(svg.contains("kfac") && svg.contains("adam") && svg.trim_end().ends_with("</svg>"), "{plot}");
    }
}

#[test]
fn losses_do_not_depend_on_threads_or_on_company() {
    let place = Place::new();
    let all = "--optimizers ekfac,ekfac-ra,soap,adam --epochs 2 --seeds 2";
    let one = json(&place.compare(&format!("{all} --threads 1"), "one").unwrap().join("results.json"));
    let four = json(&place.compare(&format!("{all} --threads 4"), "four").unwrap().join("results.json"));
    assert_eq!(losses(&one), losses(&four));
    let alone = place.compare("--optimizers soap --epochs 2", "alone").unwrap();
    let company: Vec<Value> =
        one.into_iter().filter(|row| row["optimizer"] == "soap" && row["seed"] == 1).collect();
    assert_eq!(losses(&json(&alone.join("results.json"))), losses(&company));
}

#[test]
fn classifiers_report_their_accuracy_on_examples_that_were_held_out() {
    let place = Place::new();
    let out = place.compare("--preset wine --optimizers ekfac,sgd --epochs 8", "out").unwrap();
    let rows = json(&out.join("results.json"));
    assert_eq!(rows.len(), 18);
    let last = rows[8]["accuracy"].as_f64().unwrap();
    assert!(rows[8]["epoch"] == 8 && last > 0.9, "{last}");
    // 178 wines, of which 36 are held out.
    assert!((last * 36.0 - (last * 36.0).round()).abs() < 1e-4, "{last}");
    let csv = fs::read_to_string(out.join("results.csv")).unwrap();
    assert!(csv.starts_with(&format!("{},held_out_loss,accuracy\n", FIELDS.join(","))));
    assert!(csv.lines().all(|line| line.split(',').count() == FIELDS.len() + 2));
    // The loss is of other examples than the training loss, and of a network that learns.
    let [start, end] = [0, 8].map(|epoch: usize| rows[epoch]["held_out_loss"].as_f64().unwrap());
    assert!(end < 0.5 * start && rows[8]["held_out_loss"] != rows[8]["loss"], "{start} {end}");
}

/// Learning rates that are too large belong to the grid of SGD: they end as `null`, and the other runs go on.
#[test]
fn a_grid_keeps_every_seed_and_records_divergence() {
    let place = Place::new();
    let out = place.compare("--grid --optimizers sgd --epochs 6 --seeds 2", "out").unwrap();
    let rows = json(&out.join("grid.json"));
    // Nine rates, two seeds, one epoch that is shown.
    assert_eq!(rows.len(), 18);
    assert!(rows.iter().any(|row| row["loss"].is_null()));
    assert!(rows.iter().any(|row| row["loss"].as_f64().is_some_and(|loss| loss < 2.0)));
    let csv = fs::read_to_string(out.join("grid.csv")).unwrap();
    assert!(csv.starts_with("optimizer,setting,seed,epoch,loss\n") && csv.lines().count() == 19);
    assert!(!csv.contains("NaN") && !csv.contains("inf"));
}

// Mutant: standardised or unit targets, the training examples held out as well, an accuracy of a regression.
#[test]
fn regressions_report_a_loss_on_examples_that_were_held_out() {
    let place = Place::new();
    for (preset, start) in [("diabetes", 5e3..4e4), ("ill-conditioned", 2e3..2e5)] {
        let out = place.compare(&format!("--preset {preset} --optimizers adam --epochs 3"), preset).unwrap();
        let rows = json(&out.join("results.json"));
        // Half the squared error of raw targets: 442 patients around 150, and four values around 100.
        assert!(start.contains(&rows[0]["loss"].as_f64().unwrap()), "{preset}: {}", rows[0]["loss"]);
        let losses = rows.iter().filter(|row| row["held_out_loss"].is_number() && row["accuracy"].is_null());
        assert_eq!(losses.count(), 4, "{preset}");
        assert_ne!(rows[3]["held_out_loss"], rows[3]["loss"]);
        assert!(rows[3]["held_out_loss"].as_f64() < rows[0]["held_out_loss"].as_f64());
    }
}

// Mutant: hold out windows of subjects that are trained on as well.
#[test]
fn the_smartwatch_preset_holds_out_two_subjects() {
    let place = Place::new();
    let out = place.compare("--preset smartwatch --optimizers ekfac --epochs 4", "out").unwrap();
    let rows = json(&out.join("results.json"));
    let (loss, held_out) = (rows[4]["loss"].as_f64().unwrap(), rows[4]["held_out_loss"].as_f64().unwrap());
    let accuracy = rows[4]["accuracy"].as_f64().unwrap();
    // 314 windows of subjects 9 and 10, by whom the network was not trained.
    assert!((accuracy * 314.0 - (accuracy * 314.0).round()).abs() < 1e-3, "{accuracy}");
    assert!(accuracy > 0.5 && held_out > loss, "{accuracy}: {loss} {held_out}");
}

// Mutant: an option that is ignored.
#[test]
fn the_batch_can_be_named_down_to_one_example_at_a_time() {
    let place = Place::new();
    let run = |batch: usize| {
        let options = format!("--preset wine --optimizers sgd,ekfac --epochs 2 --batch {batch}");
        json(&place.compare(&options, &batch.to_string()).unwrap().join("results.json"))
    };
    let (one, all) = (run(1), run(142));
    assert_eq!(
        one[0]["loss"].as_f64().map(|loss| loss as f32),
        all[0]["loss"].as_f64().map(|loss| loss as f32)
    );
    // 142 steps in place of one go further, for either optimiser.
    for (last, name) in [(2, "ekfac"), (5, "sgd")] {
        assert_eq!(one[last]["optimizer"], name);
        assert!(one[last]["loss"].as_f64() < all[last]["loss"].as_f64().map(|loss| 0.5 * loss), "{name}");
    }
    let error = place.compare("--preset wine --batch 143", "out").unwrap_err();
    assert!(error.contains("142 training examples") && error.contains("--batch"), "{error}");
}

fn idx_file(shape: &[u32], payload: &[u8]) -> Vec<u8> {
    let lengths = shape.iter().flat_map(|length| length.to_be_bytes());
    [0, 0, 8, shape.len() as u8].into_iter().chain(lengths).chain(payload.iter().copied()).collect()
}

// Mutant: train on the test images, or on labels in place of the images.
#[test]
fn nets_for_mnist_reproduce_the_images_of_a_folder() {
    let place = Place::new();
    for (part, count, pixel) in [("train", 5_u32, 255_u8), ("t10k", 3, 0)] {
        let pixels = vec![pixel; count as usize * 784];
        let labels = vec![1; count as usize];
        fs::write(place.path(&format!("{part}-images-idx3-ubyte")), idx_file(&[count, 28, 28], &pixels))
            .unwrap();
        fs::write(place.path(&format!("{part}-labels-idx1-ubyte")), idx_file(&[count], &labels)).unwrap();
    }
    let folder = place.path("").display().to_string();
    let options = format!("--preset medium-net --mnist {folder} --optimizers sgd --epochs 1 --batch 5");
    let rows = json(&place.compare(&options, "out").unwrap().join("results.json"));
    // Half the summed square of 784 pixels at 1, give or take the outputs of a fresh net; nothing where all is 0.
    let loss = |name: &str| rows[0][name].as_f64().unwrap();
    assert!((300.0..700.0).contains(&loss("loss")) && loss("held_out_loss") < 100.0, "{rows:?}");
    assert!(rows[0]["accuracy"].is_null());
    // So many images and no more.
    let error = place.compare(&format!("{options} --images 4"), "out").unwrap_err();
    assert!(error.contains("the 4 training examples"), "{error}");
}

// Mutant: lose a run, summarise another epoch, choose Adam's rate by the first seed, count a win as a loss.
#[test]
fn a_study_agrees_with_the_runs_it_was_made_from() {
    let place = Place::new();
    let out = place.compare("--study --preset diabetes --epochs 3 --seeds 3", "out").unwrap();
    let csv = fs::read_to_string(out.join("study.csv")).unwrap();
    let mut lines = csv.lines();
    let header = "task,optimizer,setting,seed,epoch,loss,held_out_loss,accuracy,seconds,operations";
    assert_eq!(lines.next(), Some(header));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    // EKFAC and nine rates, three seeds, the start and three epochs.
    assert_eq!(rows.len(), 10 * 3 * 4);
    assert!(rows.iter().all(|row| row.len() == 10 && row[0] == "diabetes" && row[7].is_empty()));
    let losses = |setting: &str, column: usize| {
        let last = rows.iter().filter(|row| row[2] == setting && row[4] == "3");
        let mut losses: Vec<f64> = last.map(|row| row[column].parse().unwrap_or(f64::INFINITY)).collect();
        losses.sort_by(f64::total_cmp);
        losses
    };
    let rates: BTreeSet<&str> = rows.iter().filter(|row| row[1] == "adam").map(|row| row[2]).collect();
    assert_eq!(rates.len(), 9);
    let median = |setting: &str| losses(setting, 5)[1];
    let best = rates.iter().min_by(|left, right| median(left).total_cmp(&median(right))).unwrap();
    let lowest = rates.iter().map(|rate| losses(rate, 6)[1]).fold(f64::INFINITY, f64::min);

    let text = fs::read_to_string(out.join("study.md")).unwrap();
    let tables: Vec<Vec<&str>> = (text.lines().filter(|line| line.starts_with("| diabetes ")))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let [training, held_out] = tables.as_slice() else { panic!("two tables: {text}") };
    let close = |cell: &str, value: f64| (cell.parse::<f64>().unwrap() / value - 1.0).abs() < 1e-2;
    let (ours, theirs) = (median("\"default\""), median(best));
    assert_eq!((training[1], training[7]), ("3", "0 of 3 / 0 of 27"));
    assert!(close(training[2], ours) && close(training[3], theirs), "{text}");
    assert!(best.contains(training[4].trim_end_matches(" (end)")), "{text}");
    assert!(close(training[5], ours / theirs) && training[8].parse::<f64>().unwrap() > 1.0, "{text}");
    let worst: Vec<&str> = training[6].split(" / ").collect();
    assert!(close(worst[0], losses("\"default\"", 5)[2]) && close(worst[1], losses(best, 5)[2]), "{text}");
    let expected = [losses("\"default\"", 6)[1], losses(best, 6)[1], lowest];
    assert!(held_out[1..4].iter().zip(expected).all(|(cell, value)| close(cell, value)), "{text}");
    assert_eq!(held_out[4..], ["-"; 3]);
    let wins = usize::from(ours < theirs);
    assert!(text.contains(&format!("ahead by training loss on {wins} of 1;")), "{text}");
    let wins = usize::from(expected[0] < lowest);
    assert!(text.contains(&format!("the best of Adam's rates for it on {wins} of 1.")), "{text}");
    for (name, words) in [("study.svg", "training loss"), ("study-held-out.svg", "held-out loss")] {
        let svg = fs::read_to_string(out.join(name)).unwrap();
        assert!(svg.contains(&format!("diabetes: {words}")) && svg.contains("Adam, best of nine rates"));
    }
    // Nothing is held out of the autoencoder, so there is nothing to draw or to say about it.
    let out = place.compare("--study --preset digits-autoencoder --epochs 1", "whole").unwrap();
    let text = fs::read_to_string(out.join("study.md")).unwrap();
    assert!(!out.join("study-held-out.svg").exists() && !text.contains("by held-out loss"), "{text}");
}

#[test]
fn bad_arguments_are_errors_that_help() {
    let place = Place::new();
    for (options, hint) in [
        ("--optimizers ekfac,adagrad", "sgd"),
        ("--preset mnist", "digits-autoencoder"),
        ("--epochs 0", "1..=100000"),
        ("--epochs 18446744073709551615", "1..=100000"),
        ("--seeds 0", "1..=1000"),
        ("--threads 0", "1..=256"),
        ("--batch 0", "1..=100000"),
        ("--preset paper-net", "--mnist <DIR>"),
        ("--preset medium-net --mnist nowhere", "train-labels-idx1-ubyte"),
        ("--study --grid", "--grid"),
        ("--study --optimizers sgd", "--optimizers"),
        ("--study --images 5", "--images"),
        ("--images 100", "no images"),
    ] {
        let error = place.compare(options, "out").unwrap_err();
        assert!(error.contains(hint), "{options}: {error}");
    }
    fs::write(place.path("file"), "").unwrap();
    let error = place.compare("--optimizers sgd --epochs 1", "file/out").unwrap_err();
    assert!(error.contains("file") && error.contains("--out"), "{error}");
}

// Mutant: convolutions left on the processor in silence, or flattened in some way for SOAP.
#[test]
fn what_convolutions_cannot_do_is_an_error_before_any_run() {
    let place = Place::new();
    let refused =
        |options: &str| place.compare(&format!("--preset fashion-vgg {options}"), "out").unwrap_err();
    let soap = refused("--optimizers ekfac,soap");
    assert!(soap.contains("fashion-vgg has convolutions") && soap.contains("leave it out"), "{soap}");
    // A device that is not there is refused before.
    let device = refused("--device wgpu");
    assert!(device.contains("leave --device out") || device.contains("--device wgpu"), "{device}");
    assert!(!place.path("out").join("results.json").exists());
}

// Mutant: baselines that train a network of their own, or from another start.
#[test]
fn a_network_with_convolutions_races_on_the_same_start() {
    if let Err(error) = ekfac_std::data::fashion_mnist() {
        return println!("left out: {error}");
    }
    let place = Place::new();
    let options = "--preset fashion-vgg --optimizers ekfac,adam,sgd --epochs 1 --batch 500";
    let rows = json(&place.compare(options, "out").unwrap().join("results.json"));
    let (starts, ends): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["epoch"] == 0);
    assert!(starts.iter().all(|row| row["loss"] == starts[0]["loss"] && row["accuracy"].is_number()));
    for row in ends {
        assert!(row["loss"].as_f64().unwrap() < 0.9 * starts[0]["loss"].as_f64().unwrap(), "{row}");
        assert!(row["operations"].as_f64().unwrap() > 1e9, "{row}");
    }
}
