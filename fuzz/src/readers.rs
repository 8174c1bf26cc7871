//! Bytes that claim to be data: IDX, NPY and CSV, raw or gzip.
//!
//! ```text
//! byte 0    modulo 4: IDX, NPY, CSV, or whatever the contents look like; bits 2 to 5: options of CSV
//! then      the file
//! ```
//!
//! What must hold: no panic and no allocation on the word of a header; as many values as the shape says, all finite; labels below the
//! number of classes; the same contents at the second reading.

use crate::byte;
use arbitrary::Unstructured;
use ekfac_std::data::{Array, CsvOptions, Dataset, LoadOptions, TargetKind, Targets, csv, idx, npy};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The readers read files; this process has one of its own, in memory where the system offers that.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("ekfac-fuzz-{}", std::process::id()))
});

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let head = byte(&mut bytes);
    fs::write(&*FILE, bytes.take_rest()).expect("a file of our own");
    let path = FILE.as_path();
    match head % 4 {
        0 => array(|| idx::read(path).ok()),
        1 => array(|| npy::read(path).ok()),
        2 => {
            let read = || csv::read(path, &options(head)).ok();
            let first = read();
            if let Some(csv) = &first {
                data_set(&csv.data);
                assert_eq!(csv.input_names.len(), csv.data.input_width);
            }
            assert_eq!(first, read());
        }
        _ => {
            let load = || Dataset::load(path, &LoadOptions { labels: None, csv: options(head) }).ok();
            let first = load();
            first.iter().for_each(data_set);
            assert_eq!(first, load());
        }
    }
}

fn options(head: u8) -> CsvOptions {
    let kinds = [TargetKind::Auto, TargetKind::Classes, TargetKind::Values, TargetKind::Auto];
    CsvOptions {
        header: [None, Some(false), Some(true), None][usize::from(head >> 2) % 4],
        kind: kinds[usize::from(head >> 4) % 4],
        ..CsvOptions::default()
    }
}

fn array(read: impl Fn() -> Option<Array>) {
    let first = read();
    if let Some(Array { shape, values }) = &first {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        assert!(values.iter().all(|value| value.is_finite()));
    }
    assert_eq!(first, read());
}

fn data_set(data: &Dataset) {
    assert_eq!(data.inputs.len(), data.examples * data.input_width);
    assert!(data.inputs.iter().all(|value| value.is_finite()));
    match &data.targets {
        Targets::Classes { labels, names } => {
            assert_eq!(labels.len(), data.examples);
            assert!(labels.iter().all(|label| (*label as usize) < names.len()));
        }
        Targets::Values { values, width } => {
            assert_eq!(values.len(), data.examples * width);
            assert!(values.iter().all(|value| value.is_finite()));
        }
        _ => {}
    }
}
