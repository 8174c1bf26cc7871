//! The sets that are not copies of published tables: smartwatch windows, the generated regression, folders of images.

use super::{Folder, assert_message, gzip, idx_file};
use ekfac_std::data::{self, Column, CsvOptions, Targets, csv};
use nalgebra::{DMatrix, DVector};

// Mutant: the subject among the features, or rows out of the order of subjects, by which presets hold some out.
#[test]
fn smartwatch_windows_are_ordered_by_subject_and_do_not_tell_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../std-adapter/data/smartwatch.csv.gz");
    let options = CsvOptions { targets: vec![Column::Last], header: Some(true), ..Default::default() };
    let file = csv::read(path, &options).unwrap();
    let data = data::smartwatch().unwrap();
    assert_eq!((data.name.as_str(), data.examples, data.input_width), ("smartwatch", 1465, 36));
    assert_eq!(data.targets, file.data.targets);
    assert_eq!((file.input_names[0].as_str(), file.input_names[36].as_str()), ("subject", "wz crossings"));
    let rows = file.data.inputs.chunks_exact(37);
    for (row, features) in rows.clone().zip(data.inputs.chunks_exact(36)) {
        assert_eq!(&row[1..], features);
    }
    let subjects: Vec<f32> = rows.map(|row| row[0]).collect();
    assert!(subjects.is_sorted() && subjects[1464] == 10.0);
    assert_eq!((subjects[1465 - 315], subjects[1465 - 314]), (8.0, 9.0));
    let Targets::Classes { labels, names } = &data.targets else { panic!("no classes") };
    assert_eq!(names, &["ABD", "ER", "FEL", "IR", "PEN", "ROW", "TRAP"]);
    for part in [&labels[..1151], &labels[1151..]] {
        assert!((0..7).all(|class| part.iter().filter(|&&label| label == class).count() > 20));
    }
}

// Mutant: features that do not describe their axis: a mean beyond the extremes, a deviation that is a variance.
#[test]
fn smartwatch_features_are_consistent() {
    for row in data::smartwatch().unwrap().inputs.chunks_exact(36) {
        for axis in row.chunks_exact(6) {
            let &[mean, deviation, minimum, maximum, step, crossings] = axis else { panic!("six features") };
            assert!(minimum <= mean && mean <= maximum && deviation >= 0.0);
            // The largest variance between two bounds (Bhatia and Davis), and the way there and back in 159 steps.
            assert!(deviation.powi(2) <= (maximum - mean) * (mean - minimum) * 1.01 + 1e-6);
            assert!(159.0 * step >= (maximum - minimum) * 0.999 && (0.0..=1.0).contains(&crossings));
        }
    }
}

// Mutant: no spread, no rotation, targets of unit scale, a seed that is ignored, noise alone.
#[test]
fn the_ill_conditioned_regression_has_the_stated_spectrum() {
    let data = data::ill_conditioned(1);
    assert_eq!((data.examples, data.input_width, data.targets.width()), (1250, 32, 4));
    assert_eq!(data, data::ill_conditioned(1));
    assert_ne!(data.inputs, data::ill_conditioned(2).inputs);
    let x = DMatrix::from_iterator(32, 1250, data.inputs.iter().map(|&x| f64::from(x)));
    let covariance = &x * x.transpose() / 1250.0;
    let spread = covariance.clone().symmetric_eigenvalues();
    let condition = spread.max() / spread.min();
    assert!((7e3..1.6e4).contains(&condition), "{condition}");
    assert!((27.0..37.0).contains(&covariance.trace()), "{}", covariance.trace());
    // Rotated: no input carries the largest direction alone, so the diagonal is far from the spectrum.
    let diagonal: DVector<f64> = covariance.diagonal();
    assert!(diagonal.max() / diagonal.min() < 100.0, "{diagonal}");
    let Targets::Values { values, .. } = &data.targets else { panic!("no values") };
    let size = (values.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>() / 5000.0).sqrt();
    assert!((30.0..300.0).contains(&size), "{size}");
    // Linear regression explains a good part but not all: the teacher is neither noise nor linear.
    let y = DMatrix::from_iterator(4, 1250, values.iter().map(|&y| f64::from(y)));
    let weights = covariance.cholesky().unwrap().solve(&(&x * y.transpose() / 1250.0));
    let rest = (&y - weights.transpose() * &x).norm_squared() / y.norm_squared();
    assert!((0.005..0.7).contains(&rest), "{rest}");
}

// Mutant: test images for training, raw pixels, only one spelling of the names, a message that does not help.
#[test]
fn folders_of_images_are_found_raw_or_packed() {
    let folder = Folder::new("images");
    let write = |part: &str, pixels: &[u8], labels: &[u8], packed: bool| {
        let count = labels.len() as u32;
        let files = [
            ("images-idx3", idx_file(0x08, &[count, 1, 2], pixels)),
            ("labels-idx1", idx_file(0x08, &[count], labels)),
        ];
        for (rest, bytes) in files {
            let (end, bytes) = if packed { (".gz", gzip(&bytes)) } else { ("", bytes) };
            folder.write(&format!("{part}-{rest}-ubyte{end}"), &bytes);
        }
    };
    write("train", &[0, 51, 102, 255], &[1, 0], true);
    assert_message(data::mnist(&folder.0), "images", &["t10k-labels-idx1-ubyte", "four IDX files"]);
    write("t10k", &[255, 0], &[1], false);
    let (training, test) = data::mnist(&folder.0).unwrap();
    assert_eq!((training.inputs, training.examples), (vec![0.0, 0.2, 0.4, 1.0], 2));
    assert_eq!((test.inputs, test.targets.width()), (vec![1.0, 0.0], 2));
}

#[test]
fn fashion_mnist_is_read_where_its_package_is_installed() {
    match data::fashion_mnist() {
        Ok((training, test)) => {
            assert_eq!((training.examples, test.examples, test.input_width), (60_000, 10_000, 784));
            assert_eq!((training.targets.width(), test.targets.width()), (10, 10));
            assert_eq!(test.inputs.iter().copied().fold(0.0, f32::max), 1.0);
        }
        Err(error) => assert!(error.to_string().contains("install the Debian package dataset-fashion-mnist")),
    }
}
