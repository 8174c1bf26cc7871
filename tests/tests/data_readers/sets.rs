//! Data sets: loading, splitting, standardising, and the embedded ones.

use super::{Folder, assert_message, classes, gzip, idx_file, npy_file, values};
use ekfac_std::data::{self, Array, Dataset, LoadOptions, TargetKind, Targets};
use std::path::PathBuf;

// Mutant: choose by name only, forget a companion, pair files of different length.
#[test]
fn load_chooses_the_reader_and_pairs_inputs_with_labels() {
    let folder = Folder::new("load");
    let images = idx_file(0x08, &[2, 2, 2], &[0, 51, 102, 153, 204, 255, 0, 51]);
    let labels = idx_file(0x08, &[2], &[3, 1]);
    let with = |labels: PathBuf| LoadOptions { labels: Some(labels), ..Default::default() };
    let labels_path = folder.write("labels-idx1-ubyte.gz", &gzip(&labels));
    // Neither the raw contents under `.gz` nor the missing extension mislead it.
    for name in ["images.idx3-ubyte.gz", "images"] {
        let mut data = Dataset::load(folder.write(name, &images), &with(labels_path.clone())).unwrap();
        assert_eq!((data.examples, data.input_width, data.name.as_str()), (2, 4, "images"));
        assert_eq!(data.targets, classes(&[3, 1], &["0", "1", "2", "3"]));
        assert_eq!(data.scale_by_max(), 255.0);
        assert_eq!(data.inputs, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.0, 0.2]);
    }
    let x = folder.write("x.npy", &npy_file("|u1", false, "(2, 3)", &[1, 2, 3, 4, 5, 6]));
    let y = folder.write("y.npy", &npy_file("<f4", false, "(2, 1)", &[0, 0, 0, 63, 0, 0, 0, 191]));
    assert_eq!(Dataset::load(&x, &with(y.clone())).unwrap().targets, values(&[0.5, -0.5], 1));
    assert_eq!(Dataset::load(&x, &LoadOptions::default()).unwrap().targets, Targets::None);
    let text = folder.write("t.csv.gz", &gzip(b"1,2,a\n3,4,b\n"));
    assert_eq!(Dataset::load(&text, &LoadOptions::default()).unwrap().targets, classes(&[0, 1], &["a", "b"]));

    let one = folder.write("one.npy", &npy_file("|u1", false, "(3,)", &[1, 0, 1]));
    assert_message(Dataset::load(&x, &with(one)), "\"x\"", &["[2, 3]", "[3]", "belong together"]);
    assert_message(Dataset::load(&text, &with(y)), "t.csv.gz", &["file of labels"]);
    assert_message(
        Dataset::load(folder.write("b", &[1, 0, 2]), &LoadOptions::default()),
        "b",
        &["neither IDX nor NPY"],
    );
    assert_message(
        Dataset::load(folder.write("b.npy", b"1,2"), &LoadOptions::default()),
        "b.npy",
        &["invalid NPY"],
    );
    assert_message(
        Dataset::load(folder.write("b-ubyte", b"1,2"), &LoadOptions::default()),
        "b-ubyte",
        &["invalid IDX"],
    );
    let missing = Dataset::load(folder.0.join("none.csv"), &LoadOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    assert!(missing.to_string().contains("none.csv: cannot open"), "{missing}");
}

// Mutant: believe a shape, accept -1 or 0.5 as a class.
#[test]
fn arrays_that_do_not_fit_are_errors() {
    let array = |shape: &[usize], values: &[f32]| Array { shape: shape.to_vec(), values: values.to_vec() };
    let make = |x, y, kind| Dataset::from_arrays("made", x, y, kind);
    let x = || array(&[2, 1], &[1.0, 2.0]);
    assert_message(make(array(&[3], &[1.0]), None, TargetKind::Auto), "\"made\"", &["1 values", "[3]"]);
    assert_message(make(array(&[usize::MAX, 2], &[]), None, TargetKind::Auto), "\"made\"", &["0 values"]);
    assert_message(make(array(&[], &[1.0]), None, TargetKind::Auto), "\"made\"", &["single value"]);
    for labels in [[-1.0, 0.0], [0.5, 0.0], [f32::NAN, 0.0], [65_536.0, 0.0]] {
        let result = make(x(), Some(array(&[2], &labels)), TargetKind::Classes);
        assert_message(result, "\"made\"", &["whole number"]);
    }
    let wide = make(x(), Some(array(&[2, 2], &[0.0, 1.0, 1.0, 0.0])), TargetKind::Classes);
    assert_message(wide, "\"made\"", &["[2, 2]"]);
}

/// Example i has inputs (i, -i) and value i.
fn numbered(examples: usize) -> Dataset {
    let numbers = || (0..examples).map(|i| i as f32);
    let inputs = numbers().flat_map(|i| [i, -i]).collect();
    let targets = Targets::Values { values: numbers().collect(), width: 1 };
    Dataset { name: "numbered".to_owned(), inputs, input_width: 2, targets, examples }
}

// Mutant: overlapping parts, targets that do not follow their inputs, a seed that is ignored, no shuffle.
#[test]
fn split_is_a_seeded_disjoint_cover() {
    let data = numbered(101);
    let (training, validation) = data.split(0.2, 7).unwrap();
    assert_eq!((training.examples, validation.examples), (81, 20));
    let mut seen = Vec::new();
    for part in [&training, &validation] {
        let Targets::Values { values, .. } = &part.targets else { panic!("no values") };
        assert_eq!(values.len(), part.examples);
        assert_eq!(part.inputs, values.iter().flat_map(|&v| [v, -v]).collect::<Vec<_>>());
        seen.extend_from_slice(values);
    }
    assert!(!seen.is_sorted());
    seen.sort_by(f32::total_cmp);
    assert_eq!(Targets::Values { values: seen, width: 1 }, data.targets);
    assert_eq!(data.split(0.2, 7).unwrap(), (training.clone(), validation));
    assert!(data.split(0.2, 8).unwrap().0 != training);
    assert_eq!(data.split(0.0, 7).unwrap().1.examples, 0);
    for fraction in [-0.1, 1.0, 0.999, f64::NAN, f64::INFINITY] {
        assert_message(data.split(fraction, 7), "\"numbered\"", &["validation part"]);
    }
    let broken = Dataset { examples: 100, ..data };
    assert_message(broken.split(0.2, 7), "\"numbered\"", &["do not agree"]);
}

// Mutant: always put the same example first (an off-by-one in the shuffle).
#[test]
fn split_reaches_every_example_equally() {
    let data = numbered(5);
    let mut held_out = [0; 5];
    for seed in 0..1000 {
        let Targets::Values { values, .. } = data.split(0.2, seed).unwrap().1.targets else {
            panic!("no values")
        };
        held_out[values[0] as usize] += 1;
    }
    // 200 expected, standard deviation 12.6.
    assert!(held_out.iter().all(|count| (140..=260).contains(count)), "{held_out:?}");
}

// Mutant: the sample variance, one mean for all features, a constant feature divided by nearly 0, no scaling.
#[test]
fn standardise_gives_mean_0_and_variance_1_and_applies_to_other_data() {
    let mut data = data::diabetes().unwrap();
    data.inputs.chunks_exact_mut(10).for_each(|example| example[3] = 0.1);
    let (mut training, mut validation) = data.split(0.25, 3).unwrap();
    let raw = validation.inputs[..10].to_vec();
    let standardisation = training.standardise();
    for feature in 0..10 {
        let column: Vec<f64> = training.inputs.chunks_exact(10).map(|e| f64::from(e[feature])).collect();
        let n = column.len() as f64;
        let mean = column.iter().sum::<f64>() / n;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let expected = if feature == 3 { 0.0 } else { 1.0 };
        assert!(mean.abs() < 1e-6 && (variance - expected).abs() < 1e-5, "{feature}: {mean} {variance}");
    }
    assert_eq!(standardisation.scale[3], 1.0);
    standardisation.apply(&mut validation).unwrap();
    for (feature, (&before, &after)) in raw.iter().zip(&validation.inputs).enumerate() {
        let expected = (f64::from(before) - standardisation.mean[feature]) / standardisation.scale[feature];
        assert!((f64::from(after) - expected).abs() < 1e-6, "{feature}");
    }
    assert_message(standardisation.apply(&mut numbered(3)), "\"numbered\"", &["2 features, but 10 means"]);
    let mut empty =
        Dataset { inputs: vec![], input_width: 0, examples: 0, targets: Targets::None, name: String::new() };
    assert!(empty.standardise().mean.is_empty());
    assert_eq!(empty.scale_by_max(), 1.0);
}

// Mutant: off by one, a panic beyond the end, targets that do not follow their inputs.
#[test]
fn split_at_keeps_the_order() {
    let data = numbered(5);
    let (first, rest) = data.split_at(2);
    assert_eq!((first.inputs, first.examples), (vec![0.0, 0.0, 1.0, -1.0], 2));
    assert_eq!((rest.targets, rest.examples), (values(&[2.0, 3.0, 4.0], 1), 3));
    for count in [5, 6] {
        let (first, rest) = data.split_at(count);
        assert_eq!((first == data, rest.examples, rest.inputs.len()), (true, 0, 0));
    }
}

// The embedded data. Mutant: a damaged file, targets among the inputs, a forgotten scale.

fn counts(data: &Dataset) -> Vec<usize> {
    let Targets::Classes { labels, names } = &data.targets else { panic!("no classes") };
    (0..names.len()).map(|class| labels.iter().filter(|&&label| label as usize == class).count()).collect()
}

fn assert_shape(data: &Dataset, name: &str, examples: usize, width: usize) {
    assert_eq!((data.name.as_str(), data.examples, data.input_width), (name, examples, width));
    assert_eq!(data.inputs.len(), examples * width);
}

#[test]
fn digits_are_the_published_ones() {
    let data = data::digits().unwrap();
    assert_shape(&data, "digits", 1797, 64);
    assert_eq!(data.inputs.iter().copied().fold(f32::NAN, f32::max), 1.0);
    assert_eq!(data.inputs.iter().copied().fold(f32::NAN, f32::min), 0.0);
    let first = [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0, 0.0, 0.0, 13.0, 15.0, 10.0, 15.0, 5.0, 0.0];
    assert_eq!(data.inputs[..16], first.map(|pixel| pixel / 16.0));
    assert_eq!(counts(&data), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    let Targets::Classes { labels, names } = &data.targets else { panic!("no classes") };
    assert_eq!((&labels[..5], names[9].as_str()), (&[0, 1, 2, 3, 4][..], "9"));
    // Sixteenths are exact; the sum of all cells of the file is 569,788, of which the labels are 8,070.
    let labels: u32 = labels.iter().sum();
    let sum: f64 = data.inputs.iter().map(|&x| f64::from(x) * 16.0).sum();
    assert_eq!(sum + f64::from(labels), 569_788.0);
}

#[test]
fn the_tables_are_the_published_ones() {
    let data = data::breast_cancer().unwrap();
    assert_shape(&data, "breast_cancer", 569, 30);
    assert_eq!((counts(&data), data.inputs[0]), (vec![212, 357], 17.99));
    assert!(matches!(&data.targets, Targets::Classes { names, .. } if names == &["malignant", "benign"]));
    let data = data::wine().unwrap();
    assert_shape(&data, "wine", 178, 13);
    assert_eq!((counts(&data), data.inputs[12]), (vec![59, 71, 48], 1065.0));
    let data = data::diabetes().unwrap();
    assert_shape(&data, "diabetes", 442, 10);
    assert_eq!(data.inputs[..3], [59.0, 2.0, 32.1]);
    let Targets::Values { values, width: 1 } = &data.targets else { panic!("no values") };
    assert_eq!((values.len(), values[0], values[2]), (442, 151.0, 141.0));
}
