//! Golden vectors from an independent `numpy` program: those of `tests/golden/`, and those of the folder that the
//! environment variable `EKFAC_GOLDEN` names. `cargo test golden -- --nocapture` shows the margins.

use ekfac_tests::golden::{
    Golden, GoldenFile, LinearCase, classify, committed_folder, convolution, extra_folder,
    linear::{Basis, Case, EXACT},
    measure::{Measure, Report, distance},
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
        Golden::Convolution(golden, geometry) => {
            let case = convolution::Case::new(golden, *geometry);
            report.add("conv2d", &name, case.measures());
            let narrow = case.measures_f32();
            if !narrow.is_empty() {
                report.add("conv2d in f32", &name, narrow);
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
        [("linear", 13), ("linear_sequence", 1), ("trajectory clf", 3), ("conv2d", 2), ("conv2d in f32", 2)]
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

/// The committed static cases.
fn static_cases() -> Vec<LinearCase> {
    let files = read_folder(&committed_folder()).expect("the committed vectors");
    let linear = files.into_iter().filter_map(|file| match file.golden {
        Golden::Linear(golden) => Some(*golden),
        _ => None,
    });
    linear.collect()
}

/// The smallest error over a file's dampings with this basis; S is measured in it, or is the given one.
fn error_in_basis(golden: &LinearCase, basis: &Basis, scalings: Option<&DMatrix<f64>>) -> f64 {
    let case = Case::new(golden);
    let mut bench = case.in_basis(basis);
    if let Some(scalings) = scalings {
        bench.layer().load_scalings(scalings.into()).expect("scalings of the layer's shape");
    }
    let measures = case.ekfac(&mut bench, |_| EXACT);
    measures.iter().map(|measure| measure.error).fold(f64::INFINITY, f64::min)
}

/// Columns last to first.
fn reversed(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    let columns: Vec<usize> = (0..matrix.ncols()).rev().collect();
    matrix.select_columns(&columns)
}

fn reversed_rows(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    reversed(&matrix.transpose()).transpose()
}

/// Planted: the projection by U instead of U^T, S measured in the same wrong basis.
#[test]
fn a_wrong_transpose_misses_the_golden_vectors() {
    let mut caught = 0;
    for golden in static_cases() {
        let right = Basis::golden(&golden);
        let wrong =
            Basis { input: right.input.transpose(), output: right.output.transpose(), ..right.clone() };
        let (hit, miss) = (error_in_basis(&golden, &right, None), error_in_basis(&golden, &wrong, None));
        println!("{}: right {hit:.1e}, transposed {miss:.1e}", golden.name);
        assert!(hit <= EXACT, "{}: the golden basis misses by {hit:.2e}", golden.name);
        // Two reflections, as in the 2 x 2 file, are their own transposes: nothing is wrong there.
        if (&wrong.input - &right.input).norm() + (&wrong.output - &right.output).norm() > WIDE {
            assert!(miss >= WIDE, "{}: a transposed basis misses by {miss:.2e} only", golden.name);
            caught += 1;
        }
    }
    assert!(caught >= 12, "only {caught} files tell a basis from its transpose");
}

/// Planted: eigenvectors sorted, the scalings left where they were. Sorting both is harmless.
#[test]
fn a_sort_that_forgets_the_scalings_misses_the_golden_vectors() {
    for golden in static_cases() {
        let right = Basis::golden(&golden);
        let sorted = Basis {
            input: reversed(&right.input),
            input_values: reversed_rows(&right.input_values),
            output: reversed(&right.output),
            output_values: reversed_rows(&right.output_values),
        };
        let kept = golden.S_star.matrix();
        let moved = reversed(&reversed_rows(&kept));
        let hit = error_in_basis(&golden, &sorted, Some(&moved));
        let miss = error_in_basis(&golden, &sorted, Some(&kept));
        println!("{}: S moved along {hit:.1e}, S left {miss:.1e}", golden.name);
        assert!(hit <= EXACT, "{}: basis and scalings sorted together miss by {hit:.2e}", golden.name);
        assert!(miss >= WIDE, "{}: scalings left behind miss by {miss:.2e} only", golden.name);
    }
}

/// A check that NaN passes, or that skips what it does not know, checks nothing.
#[test]
fn golden_checks_refuse_nan_and_unknown_files() {
    assert!(!Measure::new("nan", f64::NAN, 1.0).holds());
    let (nan, one) = (DMatrix::from_element(2, 2, f64::NAN), DMatrix::from_element(2, 2, 1.0));
    assert!(distance(&nan, &one, 0.0).is_nan() && distance(&one, &nan, 1.0).is_nan());
    assert!(distance(&one, &DMatrix::zeros(2, 2), 0.0) > 1e300, "anything beside zero is far from it");
    assert_eq!(distance(&DMatrix::zeros(2, 2), &DMatrix::zeros(2, 2), 0.0), 0.0);
    assert_eq!(distance(&one, &DMatrix::zeros(2, 3), 0.0), f64::INFINITY);
    let path = committed_folder().join("traj_clf_8_4_6_ekfac_ra_freq4.json");
    let text = std::fs::read_to_string(path).expect("a committed file");
    assert!(classify(&text).is_ok());
    let tampered = [
        text.replace("\"ekfac_ra\"", "\"ekfac_of_mars\""),
        text.replace("\"clf\"", "\"regression\""),
        text.replace("\"alpha\"", "\"beta\""),
        text.replace("\"W_final\"", "\"W_last\""),
        text.chars().take(text.len() / 2).collect(),
        "{}".to_owned(),
    ];
    for text in tampered {
        println!("{}", classify(&text).expect_err("a tampered file is refused"));
    }
}
