//! Bad calls: whatever does not fit is an error that names its argument, before any write.
//!
//! Mutants that these tests catch: a length taken from one slice for another; a matrix accepted by its length alone; a
//! setting that is not checked, or whose check lets NaN through; an overflowing size; a write before a check.

use ekfac::{
    Activation, Adaptation, Averaging, Bases, Carry, Clip, Config, Damping, Dense, Error, Estimator,
    LayerMut, Learner, Loss, MatrixMut, MatrixRef, Net, Outcome, Preconditioner, Progress, Reference,
    Refresh, Shape, StaticLayer, Targets, jacobi, jacobi::Limits, net::dense_layers,
};
use ekfac_tests::{oracle::bits, random::Draws};

const LAYERS: [Dense; 2] = ekfac::layers![3 => 4 Tanh => 2 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SoftmaxCrossEntropy);

fn matrix(values: &[f64], rows: usize, columns: usize) -> MatrixRef<'_, f64> {
    MatrixRef::new(values, rows, columns).unwrap()
}

#[test]
fn shapes_and_buffers_are_checked() {
    for (inputs, outputs, argument) in [(0, 1, "inputs"), (1, 0, "outputs"), (0, 0, "inputs")] {
        assert_eq!(Shape::new(inputs, outputs).check(), Err(Error::Empty { argument }));
        assert!(LayerMut::<f32>::new(Shape::new(inputs, outputs), &mut []).is_err());
    }
    for (inputs, outputs) in
        [(usize::MAX, 1), (1, usize::MAX), (1 << 33, 1 << 33), (1 << 32, 1), (usize::MAX, usize::MAX)]
    {
        for shape in [Shape::new(inputs, outputs), Shape::new(inputs, outputs).without_bias()] {
            assert_eq!(shape.check(), Err(Error::SizeOverflow { argument: "shape" }), "{shape:?}");
            assert!(LayerMut::<f32>::new(shape, &mut [0.0; 8]).is_err());
            assert_eq!(Preconditioner::<f32>::workspace_words(&shape, usize::MAX), usize::MAX);
        }
    }
    let shape = Shape::new(3, 2);
    for length in [0, 1, shape.words() - 1, shape.words() + 1] {
        let mut buffer = vec![0.0_f32; length];
        let expected = Error::Length { argument: "layer buffer", expected: shape.words(), found: length };
        assert_eq!(LayerMut::new(shape, &mut buffer).map(|_| ()), Err(expected));
        assert!(buffer.iter().all(|word| word.to_bits() == 0), "a refused buffer was written");
    }
    let mut short: StaticLayer<f32, 5> = StaticLayer::new(shape);
    assert!(short.view().is_err() && short.words_mut() == [0.0; 5]);
}

#[test]
fn matrices_are_checked() {
    for (rows, columns) in [(2, 2), (2, 4), (usize::MAX, 2), (usize::MAX, usize::MAX), (0, 3)] {
        assert!(MatrixRef::new(&[0.0_f32; 6], rows, columns).is_err(), "{rows} x {columns}");
        assert!(MatrixMut::new(&mut [0.0_f32; 6], rows, columns).is_err(), "{rows} x {columns}");
    }
    let mut values = [1.0_f32; 6];
    let view = MatrixRef::new(&values, 2, 3).unwrap();
    assert_eq!(
        (view.get(2, 0), view.get(0, 3), view.column(3), view.get(usize::MAX, usize::MAX)),
        (None, None, None, None)
    );
    let mut target = nalgebra::DMatrix::<f32>::zeros(3, 2);
    assert!(view.copy_to(&mut target).is_err() && target.sum() == 0.0);
    let source = nalgebra::DMatrix::<f32>::zeros(3, 2);
    assert!(MatrixMut::new(&mut values, 2, 3).unwrap().copy_from(&source).is_err());
    assert_eq!(values, [1.0; 6]);
}

#[test]
fn the_eigensolver_checks_its_arguments() {
    let values = [1.0_f32; 12];
    for (rows, columns, packed, basis) in
        [(3, 4, 6, 9), (4, 3, 10, 16), (3, 3, 5, 9), (3, 3, 7, 9), (3, 3, 6, 8), (3, 3, 6, 10), (3, 3, 0, 0)]
    {
        let matrix = MatrixRef::new(&values[..rows * columns], rows, columns).unwrap();
        let (mut packed, mut basis) = (vec![9.0; packed], vec![9.0; basis]);
        let outcome = jacobi::eigen(matrix, &mut packed, &mut basis, Limits::default());
        assert!(matches!(outcome, Err(Error::Length { .. })), "{rows} x {columns}: {outcome:?}");
        assert!(packed.iter().chain(&basis).all(|value| *value == 9.0));
    }
}

#[test]
fn loading_checks_lengths_and_numbers_before_any_write() {
    let shape = Shape::new(2, 2);
    let mut buffer = vec![0.0_f64; shape.words()];
    LayerMut::new(shape, &mut buffer).unwrap();
    let before = buffer.clone();
    let mut layer = LayerMut::new(shape, &mut buffer).unwrap();
    let (six, nine, ten) = ([0.5; 6], [0.5; 9], [0.5; 10]);
    for wrong in [matrix(&six, 3, 2), matrix(&six, 1, 6), matrix(&nine, 3, 3), matrix(&[], 0, 0)] {
        assert!(matches!(layer.load_scalings(wrong), Err(Error::Length { .. })), "{wrong:?}");
    }
    for bad in [-1e-9, f64::NAN, f64::INFINITY] {
        let mut values = six;
        values[4] = bad;
        assert_eq!(
            layer.load_scalings(matrix(&values, 2, 3)),
            Err(Error::OutOfRange { argument: "scalings", index: 4 })
        );
        let (mut basis, mut covariance) = (nine, six);
        basis[8] = bad;
        covariance[5] = bad;
        if !bad.is_finite() {
            let expected = |argument, index| Err(Error::NonFinite { argument, index });
            assert_eq!(layer.load_input_factor(matrix(&basis, 3, 3), &six), expected("basis", 8));
            assert_eq!(layer.load_input_factor(matrix(&nine, 3, 3), &covariance), expected("covariance", 5));
        }
    }
    let wrong: [(_, &[f64]); 4] = [
        (matrix(&nine, 1, 9), &six),
        (matrix(&nine, 3, 3), &ten),
        (matrix(&six, 2, 3), &six),
        (matrix(&nine, 3, 3), &[]),
    ];
    for (basis, covariance) in wrong {
        assert!(matches!(layer.load_input_factor(basis, covariance), Err(Error::Length { .. })));
        assert!(matches!(layer.load_output_factor(basis, covariance), Err(Error::Length { .. })));
    }
    // Columns that lie apart are not read as if they followed one another.
    let apart = matrix(&ten, 5, 2).block(0..2, 0..2).unwrap();
    let scalings = matrix(&[0.5; 12], 4, 3).block(0..2, 0..3).unwrap();
    let named = |argument, expected, found| Err(Error::Length { argument, expected, found });
    assert_eq!(layer.load_output_factor(apart, &[0.5; 3]), named("basis stride", 2, 5));
    assert_eq!(layer.load_scalings(scalings), named("scalings stride", 2, 4));
    let factor = layer.input_factor();
    for (rows, columns) in [(3, 2), (2, 3), (1, 9), (0, 0)] {
        let mut out = vec![9.0; rows * columns];
        assert!(factor.reconstruct(MatrixMut::new(&mut out, rows, columns).unwrap()).is_err());
        assert!(out.iter().all(|value| *value == 9.0));
    }
    assert_eq!(bits(&buffer), bits(&before));
}

#[test]
fn preconditioning_with_bases_of_ones_own_checks_its_arguments() {
    let values = [0.5_f64; 12];
    let length = |argument, expected, found| Err(Error::Length { argument, expected, found });
    for (input, output, rows, columns, words, expected) in [
        ((3, 3), (2, 2), 2, 3, 8, Ok(())),
        ((2, 3), (2, 2), 2, 3, 8, length("input basis", 3, 2)),
        ((3, 3), (3, 2), 2, 3, 8, length("output basis", 2, 3)),
        ((3, 3), (2, 2), 3, 3, 8, length("gradient", 2, 3)),
        ((3, 3), (2, 2), 2, 4, 8, length("gradient", 3, 4)),
        ((3, 3), (2, 2), 2, 3, 7, length("scratch", 8, 7)),
        ((3, 3), (2, 2), 2, 3, 1, length("scratch", 8, 1)),
    ] {
        let view = |(rows, columns): (usize, usize)| matrix(&values[..rows * columns], rows, columns);
        let bases = Bases { input: view(input), output: view(output) };
        let (mut out, mut scratch) = ([7.0; 6], vec![0.0; words]);
        let into = MatrixMut::new(&mut out, 2, 3).unwrap();
        let gradient = view((rows, columns));
        let damped = |_, column: &mut [f64]| column.fill(1.0);
        let outcome = ekfac::precondition(&Reference, bases, gradient, damped, into, &mut scratch);
        assert_eq!(outcome, expected);
        assert_eq!(outcome.is_err(), out == [7.0; 6], "a refused call wrote");
    }
    let mut bad = [0.5; 6];
    bad[4] = f64::NAN;
    let bases = Bases { input: matrix(&values[..9], 3, 3), output: matrix(&values[..4], 2, 2) };
    let (mut out, mut scratch) = ([7.0; 6], [0.0; 8]);
    let mut precondition = |columns| {
        let into = MatrixMut::new(&mut out[..2 * columns], 2, columns).unwrap();
        ekfac::precondition(&Reference, bases, matrix(&bad, 2, 3), |_, _: &mut [f64]| {}, into, &mut scratch)
    };
    assert_eq!(precondition(3), Err(Error::NonFinite { argument: "gradient", index: 4 }));
    assert_eq!(precondition(2), length("out", 3, 2));
    assert_eq!(out, [7.0; 6]);
}

#[test]
fn the_preconditioner_checks_its_arguments() {
    let (shape, config) = (Shape::new(3, 2), Config::<f64>::default());
    let mut state = vec![0.0; shape.words()];
    LayerMut::new(shape, &mut state).unwrap();
    let before = bits(&state);
    let values = [0.5; 24];
    let words = Preconditioner::<f64>::workspace_words(&shape, 4);
    // Rows and columns of the activations, then of the gradients, then words of workspace.
    let calls = [
        (2, 4, 2, 4, words, "activation rows"),
        (4, 4, 2, 4, words, "activation rows"),
        (3, 4, 3, 4, words, "gradient rows"),
        (3, 4, 1, 4, words, "gradient rows"),
        (3, 4, 2, 3, words, "gradient columns"),
        (3, 4, 2, 5, words, "gradient columns"),
        (3, 4, 2, 0, words, "gradient columns"),
        (3, 4, 2, 4, words - 1, "workspace"),
        (3, 4, 2, 4, 0, "workspace"),
        (3, 0, 2, 0, words, "activations"),
    ];
    for (rows, columns, gradient_rows, gradient_columns, words, name) in calls {
        let (mut workspace, mut progress) = (vec![0.0; words], Progress::new(0));
        let layer = LayerMut::new(shape, &mut state).unwrap();
        let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
        let activations = matrix(&values[..rows * columns], rows, columns);
        let gradients = matrix(&values[..gradient_rows * gradient_columns], gradient_rows, gradient_columns);
        let outcome = layer.observe(activations, gradients);
        assert!(names(outcome.unwrap_err(), name), "{outcome:?} should name {name}");
        assert_eq!((progress, bits(&state)), (Progress::new(0), before.clone()), "{name}");
    }
    let (mut workspace, mut progress) = (vec![0.0; words], Progress::new(0));
    let layer = LayerMut::new(shape, &mut state).unwrap();
    let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
    let (activations, gradients) = (matrix(&values[..12], 3, 4), matrix(&values[..8], 2, 4));
    // Columns that lie apart, and part of a matrix whose other columns are none of the call's business.
    let apart = |rows| matrix(&values, 6, 4).block(0..rows, 0..4).unwrap();
    let named = |argument, expected| Err(Error::Length { argument, expected, found: 6 });
    assert_eq!(layer.observe(apart(3), gradients), named("activation stride", 3));
    assert_eq!(layer.observe(activations, apart(2)), named("gradient stride", 2));
    let mut wide = [0.5; 15];
    wide[13] = f64::NAN;
    let four = matrix(&wide, 3, 5).block(0..3, 0..4).unwrap();
    assert_eq!(layer.observe(four, gradients), Ok(Outcome::Applied));
    state.fill(0.0);
    LayerMut::new(shape, &mut state).unwrap();
    let words = Preconditioner::<f64>::workspace_words(&shape, 1);
    let mut infinite = [0.5; 8];
    infinite[5] = f64::INFINITY;
    let calls = [
        (&values[..8], 4, 2, 2, 4, words, "gradient"),
        (&values[..6], 2, 3, 2, 4, words, "gradient"),
        (&values[..0], 0, 0, 2, 4, words, "gradient"),
        (&values[..8], 2, 4, 4, 2, words, "out"),
        (&values[..8], 2, 4, 2, 3, words, "out"),
        (&values[..8], 2, 4, 2, 4, words - 1, "workspace"),
        (&infinite, 2, 4, 2, 4, words, "gradient"),
    ];
    for (gradient, rows, columns, out_rows, out_columns, words, name) in calls {
        let (mut workspace, mut progress) = (vec![0.0; words], Progress::new(0));
        let layer = LayerMut::new(shape, &mut state).unwrap();
        let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
        let mut out = vec![9.0; out_rows * out_columns];
        let into = MatrixMut::new(&mut out, out_rows, out_columns).unwrap();
        let outcome = layer.precondition(matrix(gradient, rows, columns), into);
        assert!(names(outcome.unwrap_err(), name), "{outcome:?} should name {name}");
        assert!(out.iter().all(|value| *value == 9.0), "{name}");
        assert_eq!((progress, bits(&state)), (Progress::new(0), before.clone()), "{name}");
    }
}

/// Whether an error is about this argument, and says so to a reader.
fn names(error: Error, name: &str) -> bool {
    let (Error::Length { argument, .. }
    | Error::Empty { argument }
    | Error::SizeOverflow { argument }
    | Error::NonFinite { argument, .. }
    | Error::OutOfRange { argument, .. }) = error
    else {
        return false;
    };
    argument == name && error.to_string().contains(name)
}

#[test]
fn networks_are_checked() {
    let tanh = |inputs, outputs| Dense::new(inputs, outputs, Activation::Tanh);
    let mut memory = vec![0.5_f64; 1_000];
    let gap = [tanh(3, 4), tanh(5, 2)];
    let zero = [tanh(3, 0)];
    let huge = [tanh(usize::MAX, 2)];
    let nets = [
        (Net::new(&[], Loss::SquaredError), "layers"),
        (Net::new(&gap, Loss::SquaredError), "layer inputs"),
        (Net::new(&zero, Loss::SquaredError), "outputs"),
        (Net::new(&huge, Loss::SquaredError), "shape"),
        (Net::new(&LAYERS, Loss::Huber(0.0)), "loss"),
        (Net::new(&LAYERS, Loss::Huber(-1.0)), "loss"),
        (Net::new(&LAYERS, Loss::Huber(f64::NAN)), "loss"),
        (Net::new(&LAYERS, Loss::Huber(f64::INFINITY)), "loss"),
    ];
    for (net, name) in nets {
        assert!(names(net.check().unwrap_err(), name), "{net:?}");
        let learner = Learner::new(net, Config::default(), 0, 1, &mut memory);
        assert!(learner.is_err_and(|error| names(error, name)), "{net:?}");
    }
    assert_eq!(Net::new(&huge, Loss::SquaredError).words(1), usize::MAX);
    for (capacity, words, name) in [
        (0, 1_000, "capacity"),
        (1, NET.words(1) - 1, "memory"),
        (8, NET.words(8) - 1, "memory"),
        (usize::MAX, 1_000, "memory"),
        (usize::MAX / 8, 1_000, "memory"),
        (1, 0, "memory"),
    ] {
        let learner = Learner::new(NET, Config::default(), 0, capacity, &mut memory[..words]);
        assert!(learner.is_err_and(|error| names(error, name)), "capacity {capacity}, {words} words");
        let resumed =
            Learner::resume(NET, Config::default(), Progress::new(0), capacity, &mut memory[..words]);
        assert!(resumed.is_err_and(|error| names(error, name)), "capacity {capacity}, {words} words");
    }
    assert!(memory.iter().all(|word| *word == 0.5), "a refused buffer was written");
    for sizes in [&[][..], &[3], &[3, 0, 2], &[0, 1], &[2; 18], &[usize::MAX, 1]] {
        assert!(dense_layers(sizes, Activation::Tanh, Activation::Identity).is_err(), "{sizes:?}");
    }
    assert_eq!(dense_layers(&[2; 17], Activation::Tanh, Activation::Identity).map(|list| list.len()), Ok(16));
}

#[test]
fn batches_are_checked() {
    let mut memory = vec![0.0_f64; NET.words(2)];
    let mut learner = Learner::new(NET, Config::default(), 0, 2, &mut memory).unwrap();
    let before = (bits(learner.state()), *learner.progress());
    let (inputs, values) = ([0.5; 12], [0.5; 8]);
    let calls = [
        (0, Targets::Values(&values[..0]), "inputs"),
        (2, Targets::Values(&values[..2]), "inputs"),
        (7, Targets::Values(&values[..4]), "inputs"),
        (6, Targets::Values(&values[..3]), "targets"),
        (6, Targets::Values(&values[..5]), "targets"),
        (6, Targets::Values(&values[..0]), "targets"),
        (6, Targets::Classes(&[0]), "targets"),
        (6, Targets::Classes(&[0, 1, 0]), "targets"),
        (6, Targets::Classes(&[]), "targets"),
        (6, Targets::Classes(&[0, 2]), "targets"),
        (3, Targets::Classes(&[u32::MAX]), "targets"),
    ];
    for (length, targets, name) in calls {
        let (inputs, mut out) = (&inputs[..length], [9.0; 26]);
        assert!(names(learner.step(inputs, targets).unwrap_err(), name), "{length}, {targets:?}");
        assert!(names(learner.evaluate(inputs, targets).unwrap_err(), name), "{length}, {targets:?}");
        assert!(names(learner.mean_gradient(inputs, targets, &mut out).unwrap_err(), name), "{targets:?}");
        assert_eq!(out, [9.0; 26]);
    }
    // More than the capacity: an error for a step, but an evaluation goes through it piece by piece.
    let four = Targets::Classes(&[0, 1, 0, 1]);
    assert!(names(learner.step(&inputs, four).unwrap_err(), "inputs"));
    assert!(learner.evaluate(&inputs, four).is_ok());
    let two = Targets::Classes(&[0, 1]);
    for length in [0, 25, 27] {
        assert!(names(learner.mean_gradient(&inputs[..6], two, &mut vec![9.0; length]).unwrap_err(), "out"));
    }
    for length in [0, 2, 4] {
        assert!(names(learner.predict(&inputs[..length]).unwrap_err(), "input"));
    }
    for layer in [2, usize::MAX] {
        assert!(names(learner.stored_weights(layer).map(|_| ()).unwrap_err(), "layer"));
        assert!(names(learner.layer(layer).map(|_| ()).unwrap_err(), "layer"));
    }
    assert_eq!((bits(learner.state()), *learner.progress()), before);
    let squared = Net::new(&LAYERS, Loss::SquaredError);
    let mut memory = vec![0.0_f64; squared.words(2)];
    let mut learner = Learner::new(squared, Config::default(), 0, 2, &mut memory).unwrap();
    assert!(
        names(learner.step(&inputs[..6], two).unwrap_err(), "targets"),
        "classes for a loss without classes"
    );
}

type Setting = (&'static str, fn(&mut Config<f64>, f64), &'static [f64]);

const SETTINGS: [Setting; 20] = [
    ("learning_rate", |c, x| c.learning_rate = x, &[0.0, -1.0, f64::NAN, f64::INFINITY]),
    ("momentum", |c, x| c.momentum = x, &[-0.1, 1.0, 2.0, f64::NAN, f64::INFINITY]),
    ("weight_decay", |c, x| c.weight_decay = x, &[-1e-9, 10.0, f64::NAN, f64::INFINITY]),
    ("clip", |c, x| c.clip = Clip::Fixed(x), &[0.0, -1.0, f64::NAN, f64::INFINITY]),
    ("clip", |c, x| c.clip = Clip::ShareOfLoss(x), &[0.0, -1.0, f64::NAN, f64::INFINITY]),
    ("damping", |c, x| c.damping = Damping::Absolute(x), &[0.0, -1.0, f64::NAN, f64::INFINITY]),
    ("damping", |c, x| c.damping = Damping::RelativeToMean(x), &[0.0, -1.0, f64::NAN, f64::INFINITY]),
    // Factored damping is K-FAC's; 1 is a good value, but not with the other estimators.
    ("damping", |c, x| c.damping = Damping::Factored(x), &[0.0, -1.0, f64::NAN, 1.0]),
    ("statistics_period", |c, x| c.statistics_period = x as u32, &[0.0]),
    ("statistics_share", |c, x| c.statistics_share = x, &[0.0, -0.5, 1.5, f64::NAN]),
    ("factors", |c, x| c.factors = Averaging::Decay(x), &[-0.1, 1.0, f64::NAN, f64::INFINITY]),
    ("factors", |c, x| c.factors = Averaging::Memory(x), &[0.0, -1.0, f64::NAN, f64::INFINITY]),
    ("scalings", |c, x| c.scalings = Averaging::Decay(x), &[-0.1, 1.0, f64::NAN, f64::INFINITY]),
    ("scalings", |c, x| c.scalings = Averaging::Memory(x), &[0.0, -1.0, f64::NAN, f64::INFINITY]),
    ("refresh.period", |c, x| c.refresh = Refresh::every(x as u32), &[0.0]),
    ("refresh.limits.sweeps", |c, x| c.refresh = solving(x as u32, 0.1), &[0.0]),
    ("refresh.threshold", |c, x| c.refresh = solving(1, x), &[-1e-9, f64::NAN, f64::INFINITY]),
    (
        "refresh.threshold",
        |c, x| c.refresh = Refresh::Rotations { per_step: 1, per_line: 0.0, threshold: x },
        &[-1e-9, f64::NAN, f64::INFINITY],
    ),
    (
        "adaptation.factor",
        |c, x| c.adaptation = adaptation(|a| a.factor = x),
        &[1.0, 0.0, f64::NAN, f64::INFINITY],
    ),
    (
        "adaptation.low",
        |c, x| c.adaptation = adaptation(|a| a.low = x),
        &[0.75, 1.0, f64::NAN, f64::INFINITY],
    ),
];

const BOUNDS: [(f64, f64); 7] =
    [(0.0, 1.0), (-1.0, 2.0), (2.0, 3.0), (0.1, 0.9), (f64::NAN, 2.0), (0.5, f64::NAN), (0.5, f64::INFINITY)];

fn solving(sweeps: u32, threshold: f64) -> Refresh<f64> {
    Refresh::Periodic { period: 1, limits: Limits { sweeps, threshold }, carry: Carry::Transport }
}

fn adaptation(change: impl FnOnce(&mut Adaptation<f64>)) -> Option<Adaptation<f64>> {
    let mut adaptation = Adaptation::default();
    change(&mut adaptation);
    Some(adaptation)
}

/// Every bad setting, with the name that its error has to carry.
fn bad_settings() -> Vec<(&'static str, Config<f64>)> {
    let mut list = Vec::new();
    for (name, change, values) in SETTINGS {
        for value in values {
            let mut config = Config::default();
            change(&mut config, *value);
            list.push((name, config));
        }
    }
    let with = |adaptation| Config { adaptation, ..Config::default() };
    list.push(("adaptation.interval", with(adaptation(|a| a.interval = 0))));
    list.push(("adaptation.low", with(adaptation(|a| a.high = f64::NAN))));
    list.extend(BOUNDS.map(|bounds| ("adaptation.bounds", with(adaptation(|a| a.bounds = bounds)))));
    list
}

#[test]
fn settings_are_checked_wherever_they_enter() {
    let mut draws = Draws::new(1);
    let (inputs, shape) = (draws.list(3), Shape::new(3, 2));
    for (name, config) in bad_settings() {
        let error = config.check().expect_err(name);
        assert!(names(error, name), "{error:?} should name {name}");
        let mut memory = vec![0.5; NET.words(1)];
        assert_eq!(Learner::new(NET, config, 0, 1, &mut memory).map(|_| ()), Err(error), "{name}");
        assert!(memory.iter().all(|word| *word == 0.5), "{name}");
        let mut learner = Learner::new(NET, Config::default(), 0, 1, &mut memory).unwrap();
        assert_eq!(learner.set_config(config), Err(error), "{name}");
        assert_eq!(*learner.config(), Config::default(), "{name}");
        assert!(learner.step(&inputs, Targets::Classes(&[1])).is_ok());
        let (mut state, mut workspace) =
            (vec![0.0; shape.words()], vec![0.0; Preconditioner::<f64>::workspace_words(&shape, 1)]);
        let mut progress = Progress::new(0);
        let layer = LayerMut::new(shape, &mut state).unwrap();
        let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
        let (a, g, mut out) = (matrix(&inputs, 3, 1), matrix(&inputs[..2], 2, 1), [9.0; 8]);
        assert_eq!(layer.observe(a, g), Err(error), "{name}");
        let into = MatrixMut::new(&mut out, 2, 4).unwrap();
        assert_eq!(layer.precondition(matrix(&[0.5; 8], 2, 4), into), Err(error), "{name}");
        assert_eq!(out, [9.0; 8]);
    }
    for config in [
        Config::default(),
        Config::paper(0.1, 0.1, 1),
        Config::paper_running(0.1, 0.1, 1, 0.9),
        Config::kfac(0.1, 0.1, 1),
    ] {
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.estimator == Estimator::Kronecker, matches!(config.damping, Damping::Factored(_)));
    }
}
