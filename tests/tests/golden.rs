//! Golden vectors from an independent `numpy` program: those of `tests/golden/`, and those of the folder that the
//! environment variable `EKFAC_GOLDEN` names. `cargo test golden -- --nocapture` shows the margins.

use ekfac_tests::golden::{
    Golden, GoldenFile, LinearCase, committed_folder, extra_folder,
    linear::{Basis, Case, EXACT},
    measure::Report,
    read_folder, sequence, trajectory,
};
use nalgebra::DMatrix;
use std::path::Path;

/// A wide margin: what a planted bug must miss by, beside a tolerance of 1e-9.
const WIDE: f64 = 1e-2;

fn add(report: &mut Report, file: &GoldenFile) {
    let name = file.path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    match &file.golden {
        Golden::Linear(golden) => {
            let case = Case::new(golden);
            report.add("linear", &name, case.measures());
            let narrow = case.measures_f32();
            if !narrow.is_empty() {
                report.add("linear in f32", &name, narrow);
            }
        }
        Golden::Sequence(golden) => report.add("linear_sequence", &name, sequence::measures(golden)),
        Golden::Trajectory(golden) => {
            report.add(&format!("trajectory {}", golden.kind), &name, trajectory::measures(golden));
            let narrow = trajectory::measures_f32(golden);
            if !narrow.is_empty() {
                report.add(&format!("trajectory {} in f32", golden.kind), &name, narrow);
            }
        }
        Golden::NotCovered(kind) => report.add(&format!("not covered yet: {kind}"), &name, Vec::new()),
    }
}

fn check_folder(folder: &Path) -> Report {
    let mut report = Report::default();
    let files = read_folder(folder).unwrap_or_else(|errors| panic!("golden vectors:\n{errors}"));
    files.iter().for_each(|file| add(&mut report, file));
    println!("golden vectors of {}, {} files\n{report}", folder.display(), files.len());
    assert!(report.failures().is_empty(), "golden vectors missed:\n{}", report.failures().join("\n"));
    report
}

#[test]
fn committed_golden_vectors_agree() {
    let report = check_folder(&committed_folder());
    for (kind, count) in
        [("linear", 12), ("linear_sequence", 1), ("trajectory clf", 3), ("not covered yet: conv2d", 2)]
    {
        assert_eq!(report.count(kind), count, "files of the kind {kind}");
    }
}

#[test]
fn golden_vectors_of_the_named_folder_agree() {
    match extra_folder() {
        Some(folder) => drop(check_folder(&folder)),
        None => println!("EKFAC_GOLDEN names no folder: nothing further to check"),
    }
}
