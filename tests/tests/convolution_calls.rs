//! Convolutions that are called wrongly, or given bad data: a typed error or a skipped batch, and no word written.
//!
//! Mutants that these tests catch: a length that is not checked, or only after a write; a geometry that divides by zero or
//! overflows; the gate left out, or as wide as a dense layer's; a batch that is not contiguous read as if it were; an allocation.

use allocation_counter::measure;
use ekfac::{
    Config, Error, Kernels, MatrixMut, MatrixRef, Outcome, Progress, Reason, Reference, Scalar,
    convolution::{Axis, Convolution, ConvolutionPreconditioner, Layout, Sharing},
    guard,
};
use ekfac_std::{
    DeterministicKernels, FaerKernels,
    kernels::{ThreadPoolBuilder, Threaded},
};
use ekfac_tests::{
    oracle::{bits, convolution::Bench, relative_difference},
    random::Draws,
};
use nalgebra::DMatrix;

const SIDE: Axis = Axis::new(5, 3).stride(2).padding(1);
const LAYER: Convolution = Convolution::new_2d(4, [SIDE, SIDE], 6).groups(2);
const INPUTS: usize = LAYER.input_words();
const OUTPUTS: usize = LAYER.output_words();
const WORKSPACE: usize = ConvolutionPreconditioner::<f64>::workspace_words(&LAYER, 4);

fn refused(convolution: Convolution) -> Error {
    let error = convolution.check().expect_err("a bad geometry");
    // No door opens for it.
    let (config, mut progress) = (Config::<f32>::default(), Progress::new(0));
    let made = ConvolutionPreconditioner::new(convolution, &mut [], &config, &mut progress, &mut []);
    assert_eq!(made.err(), Some(error), "{convolution:?}");
    let none = MatrixRef::new(&[0.0_f32; 0], 0, 0).expect("an empty matrix");
    let mut out = [0.0; 0];
    let into = MatrixMut::new(&mut out, 0, 0).expect("an empty matrix");
    assert_eq!(convolution.forward(&Reference, &[], none, into, &mut []), Err(error), "{convolution:?}");
    error
}

#[test]
fn a_bad_geometry_is_an_error_of_its_own() {
    let along = |axis| Convolution::new_1d(2, axis, 2);
    let empty = |argument| Error::Empty { argument };
    assert_eq!(refused(along(Axis::new(0, 1))), empty("length"));
    assert_eq!(refused(along(Axis::new(4, 0))), empty("kernel"));
    assert_eq!(refused(along(Axis::new(4, 2).stride(0))), empty("stride"));
    assert_eq!(refused(along(Axis::new(4, 2).dilation(0))), empty("dilation"));
    assert_eq!(refused(Convolution::new_1d(0, Axis::new(4, 2), 2)), empty("channels"));
    assert_eq!(refused(Convolution::new_1d(2, Axis::new(4, 2), 0)), empty("outputs"));
    assert_eq!(refused(along(Axis::new(4, 2)).groups(0)), empty("groups"));
    let out_of_range = |argument| Error::OutOfRange { argument, index: 0 };
    assert_eq!(refused(along(Axis::new(4, 5))), out_of_range("kernel"));
    assert_eq!(refused(along(Axis::new(4, 3).dilation(2))), out_of_range("kernel"));
    assert_eq!(refused(Convolution::new_1d(4, Axis::new(4, 2), 3).groups(2)), out_of_range("groups"));
    assert_eq!(refused(Convolution::new_1d(3, Axis::new(4, 2), 4).groups(2)), out_of_range("groups"));
    assert_eq!(refused(Convolution::new_1d(2, Axis::new(4, 2), 4).groups(4)), out_of_range("groups"));
    let most = usize::MAX;
    let overflow = |argument| Error::SizeOverflow { argument };
    assert_eq!(refused(along(Axis::new(4, 2).padding(most / 2 + 1))), overflow("axis"));
    assert_eq!(refused(along(Axis::new(most, 2).dilation(most))), overflow("axis"));
    assert_eq!(refused(along(Axis::new(most / 2, 1 << 40))), overflow("shape"));
    assert_eq!(refused(along(Axis::new(most / 2 + 1, 1))), overflow("convolution"));
    assert_eq!(refused(Convolution::new_2d(1, [Axis::new(1 << 40, 1); 2], 1)), overflow("convolution"));
}

/// Any numbers at all: an error, or sizes that agree with one another.
#[test]
fn no_numbers_upset_the_geometry() {
    let mut draws = Draws::new(3);
    let mut good = 0;
    for _ in 0..20_000 {
        let mut any = || match draws.index(40) {
            0 => usize::MAX,
            1 => usize::MAX / 2,
            2 => 1 << draws.index(64),
            3 => 0,
            _ => 1 + draws.index(4),
        };
        let mut axis = || Axis::new(any(), any()).stride(any()).padding(any()).dilation(any());
        let axes = [axis(), axis()];
        let convolution = Convolution::new_2d(any(), axes, any()).groups(any());
        if convolution.check().is_ok() {
            good += 1;
            let shape = convolution.shape();
            assert!(convolution.locations() > 0 && shape.check().is_ok(), "{convolution:?}");
            assert_eq!(convolution.parameters(), convolution.group_count() * shape.parameters());
        }
    }
    assert!(good > 100, "{good} of them are good");
}

/// A batch of the right sizes.
struct Batch {
    images: DMatrix<f64>,
    gradients: DMatrix<f64>,
    gradient: Vec<f64>,
}

fn good_batch() -> Batch {
    let mut draws = Draws::new(1);
    let (images, gradients) = (draws.matrix(INPUTS, 3), draws.matrix(OUTPUTS, 3));
    Batch { images, gradients, gradient: draws.list(LAYER.parameters()) }
}

#[test]
fn wrong_lengths_are_errors_and_write_nothing() {
    let Batch { images, gradients, gradient } = good_batch();
    let mut state = vec![0.0; LAYER.state_words()];
    let (config, mut progress) = (Config::default(), Progress::new(0));
    let length = |argument, expected, found| Error::Length { argument, expected, found };
    let (words, mut workspace) = (state.len(), vec![0.0; WORKSPACE]);
    let least = ConvolutionPreconditioner::<f64>::workspace_words(&LAYER, 1);
    let made = ConvolutionPreconditioner::new(LAYER, &mut state[1..], &config, &mut progress, &mut workspace);
    assert_eq!(made.err(), Some(length("state", words, words - 1)));
    let short = &mut workspace[..least - 1];
    let made = ConvolutionPreconditioner::new(LAYER, &mut state, &config, &mut progress, short);
    assert_eq!(made.err(), Some(length("workspace", least, least - 1)));
    assert!(state.iter().all(|word| *word == 0.0), "a refused door writes nothing");

    let mut bench = Bench::<f64>::new(LAYER, config);
    let before = bits(&bench.state);
    let (x, g) = (MatrixRef::from(&images), MatrixRef::from(&gradients));
    let cut = |matrix: &DMatrix<f64>, rows: usize, columns: usize| {
        matrix.view((0, 0), (rows, columns)).clone_owned()
    };
    let short = [
        (cut(&images, INPUTS - 1, 3), gradients.clone(), length("image rows", INPUTS, INPUTS - 1)),
        (images.clone(), cut(&gradients, OUTPUTS - 1, 3), length("map rows", OUTPUTS, OUTPUTS - 1)),
        (images.clone(), cut(&gradients, OUTPUTS, 2), length("map columns", 3, 2)),
        (cut(&images, INPUTS, 0), cut(&gradients, OUTPUTS, 0), Error::Empty { argument: "images" }),
    ];
    bench.with(|layer| {
        for (images, gradients, error) in &short {
            assert_eq!(layer.observe(images.into(), gradients.into()), Err(*error));
        }
        let (mut out, mut few) = (vec![7.0; gradient.len()], vec![7.0; gradient.len() - 1]);
        let parameters = gradient.len();
        let found = layer.precondition(&gradient[1..], &mut out);
        assert_eq!(found, Err(length("gradient", parameters, parameters - 1)));
        assert_eq!(layer.precondition(&gradient, &mut few), Err(length("out", parameters, parameters - 1)));
        for index in [0, parameters - 1] {
            let mut poisoned = gradient.clone();
            poisoned[index] = f64::NAN;
            let error = Error::NonFinite { argument: "gradient", index };
            assert_eq!(layer.precondition(&poisoned, &mut out), Err(error));
        }
        assert!(out.iter().chain(&few).all(|word| *word == 7.0));
        assert_eq!(layer.layer(2).err(), Some(Error::OutOfRange { argument: "group", index: 2 }));
        assert!(layer.layer(1).is_ok());
    });
    let bad = Config { learning_rate: f64::NAN, ..config };
    bench.config = bad;
    bench.with(|layer| {
        let error = Error::OutOfRange { argument: "learning_rate", index: 0 };
        assert_eq!(layer.observe(x, g), Err(error));
        assert_eq!(layer.precondition(&gradient, &mut vec![0.0; gradient.len()]), Err(error));
    });
    assert_eq!(bits(&bench.state), before);
    assert_eq!(bench.progress, Progress::new(0));
}

#[test]
fn passes_of_wrong_lengths_write_nothing() {
    let Batch { images, gradients, gradient: weights } = good_batch();
    let (x, g) = (MatrixRef::from(&images), MatrixRef::from(&gradients));
    let mut out = DMatrix::from_element(OUTPUTS, 3, 7.0);
    let mut below = DMatrix::from_element(INPUTS, 3, 7.0);
    let mut short = DMatrix::from_element(INPUTS, 2, 7.0);
    let mut sums = vec![7.0; LAYER.parameters()];
    let length = |argument, expected, found| Some(Error::Length { argument, expected, found });
    let (parameters, least) = (LAYER.parameters(), LAYER.scratch_words(1));
    let (mut scratch, mut few) = (vec![0.0; least], vec![0.0; least - 1]);
    let k = &Reference;
    let found = [
        LAYER.forward(k, &weights[1..], x, (&mut out).into(), &mut scratch).err(),
        LAYER.forward(k, &weights, x, (&mut out).into(), &mut few).err(),
        LAYER.forward(k, &weights, g, (&mut out).into(), &mut scratch).err(),
        LAYER.forward(k, &weights, x, (&mut below).into(), &mut scratch).err(),
        LAYER.backward(k, &weights[1..], g, (&mut below).into(), &mut scratch).err(),
        LAYER.backward(k, &weights, g, (&mut below).into(), &mut few).err(),
        LAYER.backward(k, &weights, x, (&mut below).into(), &mut scratch).err(),
        LAYER.backward(k, &weights, g, (&mut short).into(), &mut scratch).err(),
        LAYER.mean_gradient(k, x, g, &mut sums[1..], &mut scratch).err(),
        LAYER.mean_gradient(k, x, g, &mut sums, &mut few).err(),
        LAYER.mean_gradient(k, g, g, &mut sums, &mut scratch).err(),
        LAYER.mean_gradient(k, x, x, &mut sums, &mut scratch).err(),
    ];
    let expected = [
        length("weights", parameters, parameters - 1),
        length("scratch", least, least - 1),
        length("image rows", INPUTS, OUTPUTS),
        length("map rows", OUTPUTS, INPUTS),
        length("weights", parameters, parameters - 1),
        length("scratch", least, least - 1),
        length("map rows", OUTPUTS, INPUTS),
        length("image columns", 3, 2),
        length("weights", parameters, parameters - 1),
        length("scratch", least, least - 1),
        length("image rows", INPUTS, OUTPUTS),
        length("map rows", OUTPUTS, INPUTS),
    ];
    assert_eq!(found, expected);
    assert!(out.iter().chain(&below).chain(&short).chain(&sums).all(|word| *word == 7.0));
}

fn check_skipped<T: Scalar>(sharing: Sharing) {
    let Batch { images, gradients, .. } = good_batch();
    let mut bench = Bench::<T>::new(LAYER, Config::default());
    bench.sharing = sharing;
    assert_eq!(bench.observe(&images, &gradients), Outcome::Applied);
    let (state, progress) = (bits(&bench.state), bench.progress);
    let limit = guard::limit::<T>(&LAYER.shape(), 3).to_f64() / (LAYER.locations() as f64).sqrt();
    for (is_image, row, column, value) in [
        (true, 0, 0, f64::NAN),
        (true, INPUTS - 1, 2, f64::NEG_INFINITY),
        (true, 7, 1, -1.01 * limit),
        (false, OUTPUTS - 1, 2, f64::NAN),
        (false, 5, 0, 1.01 * limit),
    ] {
        let (mut x, mut g) = (images.clone(), gradients.clone());
        let poisoned = if is_image { &mut x } else { &mut g };
        poisoned[(row, column)] = value;
        let index = column * poisoned.nrows() + row;
        let (layer, argument) = (0, if is_image { "images" } else { "gradients" });
        let reason = if value.is_finite() {
            Reason::TooLarge { layer, argument, index }
        } else {
            Reason::NonFinite { layer, argument, index }
        };
        assert_eq!(bench.observe(&x, &g), Outcome::Skipped(reason));
    }
    assert_eq!(bits(&bench.state), state);
    let skipped = Progress { skipped: progress.skipped + 5, ..progress };
    assert_eq!(Progress { operations: progress.operations, ..bench.progress }, skipped);
    // Just below the limit nothing overflows, even where all values are as large and of one sign.
    let most = 0.99 * limit;
    let (x, g) = (DMatrix::from_element(INPUTS, 3, most), DMatrix::from_element(OUTPUTS, 3, most));
    assert_eq!(bench.observe(&x, &g), Outcome::Applied);
    assert!(bench.state.iter().all(|word| word.is_finite()));
}

#[test]
fn bad_data_are_skipped_and_write_nothing() {
    for sharing in [Sharing::Expand, Sharing::Reduce] {
        check_skipped::<f32>(sharing);
        check_skipped::<f64>(sharing);
    }
}

/// A part of a larger matrix, with words between its columns that belong to nobody.
#[test]
fn batches_need_not_be_contiguous() {
    let Batch { images, gradients, .. } = good_batch();
    let padded = |matrix: &DMatrix<f64>| matrix.clone().insert_rows(matrix.nrows(), 2, f64::NAN);
    let (wide_x, wide_g) = (padded(&images), padded(&gradients));
    let part =
        |wide: &'static DMatrix<f64>, rows| MatrixRef::from(wide).block(0..rows, 0..3).expect("a part");
    let (wide_x, wide_g) = (&*Box::leak(Box::new(wide_x)), &*Box::leak(Box::new(wide_g)));
    let (mut whole, mut parts) =
        (Bench::<f64>::new(LAYER, Config::default()), Bench::new(LAYER, Config::default()));
    whole.observe(&images, &gradients);
    let outcome = parts.with(|layer| layer.observe(part(wide_x, INPUTS), part(wide_g, OUTPUTS)));
    assert_eq!(outcome, Ok(Outcome::Applied));
    assert_eq!(bits(&whole.state), bits(&parts.state));
}

#[test]
fn a_convolution_allocates_nothing() {
    let Batch { images, gradients, gradient } = good_batch();
    let mut state = vec![0.0; LAYER.state_words()];
    let (mut workspace, mut scratch) = (vec![0.0; WORKSPACE], vec![0.0; LAYER.scratch_words(3)]);
    let (mut natural, mut out, mut below) =
        (gradient.clone(), DMatrix::zeros(OUTPUTS, 3), DMatrix::zeros(INPUTS, 3));
    let (config, mut progress) = (Config::default(), Progress::new(0));
    let (x, g) = (MatrixRef::from(&images), MatrixRef::from(&gradients));
    let seen = measure(|| {
        let mut layer =
            ConvolutionPreconditioner::new(LAYER, &mut state, &config, &mut progress, &mut workspace)
                .expect("a good convolution");
        for sharing in [Sharing::Expand, Sharing::Reduce].into_iter().cycle().take(100) {
            layer = layer.with_sharing(sharing);
            layer.observe(x, g).expect("a batch");
            layer.precondition(&gradient, &mut natural).expect("a gradient");
            let convolution = layer.convolution().layout(Layout::ChannelsLast);
            convolution.forward(&Reference, &gradient, x, (&mut out).into(), &mut scratch).expect("a batch");
            convolution
                .backward(&Reference, &gradient, g, (&mut below).into(), &mut scratch)
                .expect("a batch");
            convolution.mean_gradient(&Reference, x, g, &mut natural, &mut scratch).expect("a batch");
        }
    });
    assert_eq!((seen.count_total, seen.bytes_total), (0, 0));
}

/// Larger blocks, where the adapter's kernels go ways of their own: the same bits, or the same to rounding.
#[test]
fn other_kernels_agree() {
    let side = Axis::new(11, 3).padding(1);
    let (layer, mut draws) = (Convolution::new_2d(8, [side, side], 16), Draws::new(2));
    let (images, maps) = (draws.matrix(layer.input_words(), 4), draws.matrix(layer.output_words(), 4));
    let (x, g) = (MatrixRef::from(&images), MatrixRef::from(&maps));
    let weights = draws.list(layer.parameters());
    let (config, columns) = (Config::paper(0.1, 1e-2, 1), 121);
    let run = |kernels: &dyn Kernels<f64>| {
        let (mut state, mut progress) = (vec![0.0; layer.state_words()], Progress::new(0));
        let mut workspace = vec![0.0; ConvolutionPreconditioner::<f64>::workspace_words(&layer, columns)];
        let mut z = DMatrix::zeros(layer.output_words(), 4);
        layer.forward(kernels, &weights, x, (&mut z).into(), &mut workspace).expect("a batch");
        let mut gradient = vec![0.0; layer.parameters()];
        layer.mean_gradient(kernels, x, g, &mut gradient, &mut workspace).expect("a batch");
        let mut natural = gradient.clone();
        let made = ConvolutionPreconditioner::new(layer, &mut state, &config, &mut progress, &mut workspace);
        let mut preconditioner = made.expect("a good convolution").with_kernels(kernels);
        assert_eq!(preconditioner.observe(x, g), Ok(Outcome::Applied));
        preconditioner.precondition(&gradient, &mut natural).expect("a gradient");
        [z.as_slice().to_vec(), gradient, natural]
    };
    let expected = run(&Reference);
    let pool = ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let pool = std::sync::Arc::new(pool);
    assert_eq!(run(&DeterministicKernels), expected);
    assert_eq!(run(&Threaded::new(DeterministicKernels, pool.clone())), expected);
    for found in [run(&FaerKernels::new()), run(&Threaded::new(FaerKernels::new(), pool))] {
        for (found, expected) in found.iter().zip(&expected) {
            let column = |values: &[f64]| DMatrix::from_column_slice(values.len(), 1, values);
            let error = relative_difference(&column(found), &column(expected));
            assert!(error <= 1e-9, "{error:e}");
        }
    }
}
