//! Every public entry point of core, in a firmware that does not link if any of them can panic. Not made to be run: all
//! that it computes with is hidden from the compiler, which must therefore prove each path sound for any input.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{
    Bases, Blend, Config, Coordinates, Dense, Error, EventLog, Initialization, Kernels, LayerMut, Learner,
    Loss, MatrixMut, MatrixRef, Net, Preconditioner, Progress, Reference, Scalar, Shape, StaticLayer,
    Targets, damping,
    factor::FactorMut,
    guard, jacobi, kernels,
    snapshot::{self, FlashStore, Snapshot},
};

use ekfac_firmware::flash::RamFlash;

ekfac_firmware::firmware!(run);

fn run() -> bool {
    everything::<f32>(&mut [0.0; 64]).is_ok() & everything::<f64>(&mut [0.0; 64]).is_ok()
}

/// A slice of any length.
fn any<T>(slice: &mut [T]) -> &mut [T] {
    black_box(slice)
}

fn number() -> usize {
    black_box(1)
}

/// Keeps a result from being optimised away.
fn keep<T>(value: T) {
    black_box(value);
}

fn everything<T: Scalar>(words: &mut [T; 64]) -> Result<(), Error> {
    let [a, b, c, d] = &mut [*words; 4];
    let (a, b, c, d) = (any(a), any(b), any(c), any(d));
    let config: Config<T> = black_box(Config::default());
    let layers: &[Dense] = black_box(&[]);
    let net = Net::new(layers, black_box(Loss::SoftmaxCrossEntropy));
    shapes(&net);
    keep(Config::paper(*words.first().unwrap_or(&T::ONE), T::ONE, black_box(3)).check());
    keep(Config::paper_running(T::ONE, T::ONE, black_box(3), T::ZERO).check());
    keep(Config::kfac(T::ONE, T::ONE, black_box(3)).check());
    keep(
        Learner::new(net, config, black_box(7), number(), &mut *a)
            .map(|mut learner| learner.step(b, targets(b))),
    );
    let progress = black_box(Progress::new(3));
    keep(
        Learner::resume(net, config, progress, number(), a)
            .map(|learner| learn(learner.with_kernels(black_box(&Reference)), b, c, d)),
    );
    keep(layers_alone(&config, b, c, d));
    keep(solvers(b, c, d));
    Ok(())
}

fn shapes(net: &Net<'_>) {
    keep((net.words(number()), net.state_words(), net.parameters(), net.check()));
    let shape = Shape::new(number(), number());
    keep((shape.check(), shape.words(), Coordinates::cheaper(&shape, number(), number(), black_box(true))));
    let sizes: &[usize] = black_box(&[]);
    keep(ekfac::net::dense_layers(sizes, ekfac::Activation::Tanh, ekfac::Activation::Identity));
}

fn targets<T: Scalar>(values: &[T]) -> Targets<'_, T> {
    if black_box(true) { Targets::Values(values) } else { Targets::Classes(black_box(&[1])) }
}

fn matrix<T: Scalar>(data: &[T]) -> Result<MatrixRef<'_, T>, Error> {
    MatrixRef::new(data, number(), number())
}

fn learn<T: Scalar>(
    mut learner: Learner<'_, T>,
    inputs: &[T],
    out: &mut [T],
    more: &mut [T],
) -> Result<(), Error> {
    keep(learner.set_config(black_box(Config::default())));
    learner.initialize(black_box(Initialization::HeNormal));
    keep(learner.step(inputs, targets(more)));
    keep(learner.step_or_undo(inputs, targets(more), T::ONE, out));
    keep(learner.rotate(black_box(4)));
    keep(learner.predict(inputs));
    keep(learner.evaluate(inputs, targets(more)));
    keep(learner.most_operations(number()));
    keep(learner.mean_gradient(inputs, targets(more), out));
    keep(learner.weights(number(), MatrixMut::new(out, number(), number())?));
    keep(learner.set_weights(number(), matrix(more)?));
    keep(learner.stored_weights(number()).map(|mut weights| weights.as_mut_slice().len()));
    learner.iter_stored_weights().for_each(|mut weights| keep(weights.as_mut_slice().len()));
    let coordinates = if black_box(true) { Coordinates::Eigenbasis } else { Coordinates::Parameter };
    keep(learner.set_coordinates(number(), coordinates));
    keep(learner.layer(number()).map(|mut layer| view(&mut layer, out, more)));
    snapshots(&mut learner)?;
    let events: &EventLog = learner.events();
    events.oldest_ordered().for_each(keep);
    keep((
        learner.progress().operations,
        learner.state().len(),
        learner.net().inputs(),
        learner.config().momentum,
    ));
    Ok(())
}

fn view<T: Scalar>(layer: &mut LayerMut<'_, T>, out: &mut [T], values: &[T]) -> Result<(), Error> {
    keep((layer.mean_scaling(), layer.typical_reach(), layer.failed_refreshes(), layer.coordinates()));
    keep((layer.scalings().get(number(), number()), layer.velocity().len(), damping::pi(layer)));
    layer.clear_velocity();
    keep(layer.load_scalings(matrix(values)?));
    let progress = black_box(Progress::new(1));
    keep(black_box(Config::default()).damping_of(layer, &progress));
    keep(layer.load_input_factor(matrix(values)?, values));
    keep(layer.load_output_factor(matrix(values)?, values));
    factor(layer.input_factor(), out)?;
    factor(layer.output_factor(), out)
}

fn snapshots<T: Scalar>(learner: &mut Learner<'_, T>) -> Result<(), Error> {
    let mut room = [0; 64];
    let bytes: &mut [u8] = black_box(&mut room);
    keep(snapshot::length::<T>(learner.net()));
    keep(learner.save_into(bytes));
    keep(learner.restore_from(bytes));
    let whole: &[u8] = bytes;
    keep(Snapshot::new(whole).map(|view| (view.layers().count(), view.loss(), view.word_bytes())));
    let range = black_box(0)..black_box(64);
    keep(FlashStore::new(RamFlash(bytes), range).map(|mut store| {
        keep(store.load(learner));
        keep(store.save(learner));
        store.release().0.len()
    }));
    Ok(())
}

fn factor<T: Scalar>(factor: &FactorMut<'_, T>, out: &mut [T]) -> Result<(), Error> {
    keep((factor.trace(), factor.condition(), factor.off_diagonal(), factor.orthogonality()));
    keep((factor.basis().get(number(), number()), factor.covariance().len()));
    keep(factor.reconstruct(MatrixMut::new(out, number(), number())?));
    Ok(())
}

fn layers_alone<T: Scalar>(
    config: &Config<T>,
    buffer: &mut [T],
    workspace: &mut [T],
    values: &mut [T],
) -> Result<(), Error> {
    let shape = Shape::new(number(), number());
    let (values, out) = values.split_at_mut_checked(number()).ok_or(Error::Empty { argument: "values" })?;
    let mut own: StaticLayer<T, 64> = StaticLayer::new(shape);
    keep(own.view().map(|mut layer| view(&mut layer, out, values)));
    own.words_mut().fill(T::ONE);
    let mut progress = black_box(Progress::new(0));
    let layer = LayerMut::new(shape, buffer)?;
    let mut layer =
        Preconditioner::new(layer, config, &mut progress, workspace).with_kernels(black_box(&Reference));
    keep(layer.observe(matrix(values)?, matrix(values)?));
    keep(layer.precondition(matrix(values)?, MatrixMut::new(out, number(), number())?));
    let bases = Bases { input: matrix(values)?, output: matrix(values)? };
    let damped = |index, column: &mut [T]| column.fill(T::from_usize(index));
    let into = MatrixMut::new(out, number(), number())?;
    keep(ekfac::precondition(&Reference, bases, matrix(values)?, damped, into, any(&mut [T::ZERO; 9])));
    view(layer.layer_mut(), out, values)
}

fn solvers<T: Scalar>(values: &mut [T], packed: &mut [T], basis: &mut [T]) -> Result<(), Error> {
    keep(jacobi::eigen(matrix(values)?, packed, basis, black_box(jacobi::Limits::default())));
    let mut companions = [jacobi::Companion::rows(basis, number(), jacobi::Turn::Moments)];
    keep(jacobi::diagonalise(packed, number(), &mut companions, black_box(jacobi::Limits::default())));
    let mut cursor = jacobi::Cursor { row: number(), column: number() };
    let negligible = jacobi::Negligible { threshold: T::HALF, floor: T::ZERO };
    let budget = jacobi::Budget { rotations: black_box(3), checks: black_box(5) };
    keep(jacobi::walk(packed, number(), &mut cursor, negligible, budget, &mut |p, q, _| keep((p, q))));
    keep((
        jacobi::diagonal(packed, number()),
        jacobi::off_diagonal(packed, number()),
        jacobi::pairs(number()),
    ));
    keep((guard::first_beyond(packed, T::ONE), guard::first_non_finite(packed)));
    let shape = Shape::new(number(), number());
    keep((guard::limit::<T>(&shape, number()), guard::turning_limit::<T>(&shape)));
    keep(kernels::dot(packed, values));
    let blend = Blend::Move(T::HALF);
    blend.apply(packed, values);
    let (x, y, share) = (matrix(values)?, matrix(values)?, T::HALF);
    let engine: &dyn Kernels<T> = black_box(&Reference);
    engine.product(MatrixMut::new(packed, number(), number())?, x, y, share, share);
    engine.product_left_transposed(MatrixMut::new(packed, number(), number())?, x, y, share, share);
    engine.product_right_transposed(MatrixMut::new(packed, number(), number())?, x, y, share, share);
    engine.squared_product(MatrixMut::new(packed, number(), number())?, x, y, blend, &mut [T::ZERO; 3]);
    engine.symmetric_update(packed, x, blend, &mut [T::ZERO; 3]);
    Ok(())
}
