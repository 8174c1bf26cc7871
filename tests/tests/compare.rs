//! The subcommand `compare`, in process: the same start and batches for all, whatever the number of threads; files that
//! agree; and bad arguments.

use clap::Parser;
use ekfac_std::program::{self, Arguments};
use serde_json::Value;
use std::{
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
    assert!(csv.lines().all(|line| line.split(',').count() == FIELDS.len() + 1));
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
    ] {
        let error = place.compare(options, "out").unwrap_err();
        assert!(error.contains(hint), "{options}: {error}");
    }
    fs::write(place.path("file"), "").unwrap();
    let error = place.compare("--optimizers sgd --epochs 1", "file/out").unwrap_err();
    assert!(error.contains("file") && error.contains("--out"), "{error}");
}
