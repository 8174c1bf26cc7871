//! A folder in which the program is run as a user would.

use clap::Parser;
use ekfac_std::program::{self, Arguments, train};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A folder for files and results.
pub struct Place(TempDir);

impl Default for Place {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `ekfac <words>`, where a word that begins with @ is a file here.
    pub fn run(&self, words: &str) -> Result<(), String> {
        let words = words.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).to_str().unwrap().to_string(),
            None => word.to_string(),
        });
        let words = ["ekfac".to_string()].into_iter().chain(words);
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        program::run(arguments).map_err(|error| error.to_string())
    }

    /// Trains on the digits with the network of this text.
    pub fn digits(&self, text: &str, options: &str) -> Result<(), String> {
        fs::write(self.path("net.toml"), text).unwrap();
        self.run(&format!("train --data digits --task classify --layers @net.toml {options}"))
    }

    /// What is printed before such a training.
    pub fn announcement(&self, text: &str, options: &str) -> String {
        #[derive(Parser)]
        struct Words {
            #[command(flatten)]
            train: train::Arguments,
        }
        fs::write(self.path("net.toml"), text).unwrap();
        let layers = self.path("net.toml").to_str().unwrap().to_string();
        let words = ["train", "--data", "digits", "--task", "classify", "--layers", &layers];
        let words = Words::parse_from(words.into_iter().chain(options.split_whitespace()));
        train::announcement(&words.train).unwrap()
    }

    /// What is in a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The last value of a column of the log.
    pub fn last(&self, out: &str, name: &str) -> f64 {
        let text = fs::read_to_string(self.path(out).join("log.csv")).unwrap();
        let at = text.lines().next().unwrap().split(',').position(|title| title == name).unwrap();
        text.lines().last().unwrap().split(',').nth(at).unwrap().parse().unwrap()
    }
}

/// The command was refused, in one line that has all these parts.
#[track_caller]
pub fn expect_error(result: Result<(), String>, parts: &[&str]) {
    let message = result.expect_err("should be refused");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
}
