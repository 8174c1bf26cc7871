//! The entry points of convolutions, as in `nopanic`: a firmware that does not link if any of them can panic.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{
    Config, Error, Initialization, Kernels, Loss, MatrixMut, MatrixRef, Progress, Reference, Scalar, Targets,
    convolution::{
        Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, ConvolutionPreconditioner,
        Layout, Sharing,
    },
    snapshot::{self, FlashStore, Snapshot},
};
use ekfac_firmware::flash::RamFlash;

ekfac_firmware::firmware!(run);

fn run() -> bool {
    everything::<f32>(&mut [0.0; 64]).is_ok() & everything::<f64>(&mut [0.0; 64]).is_ok()
}

fn number() -> usize {
    black_box(1)
}

/// Keeps a result from being optimised away.
fn keep<T>(value: T) {
    black_box(value);
}

fn targets<T: Scalar>(values: &[T]) -> Targets<'_, T> {
    if black_box(true) { Targets::Values(values) } else { Targets::Classes(black_box(&[1])) }
}

fn matrix<T: Scalar>(data: &[T]) -> Result<MatrixRef<'_, T>, Error> {
    MatrixRef::new(data, number(), number())
}

fn everything<T: Scalar>(words: &mut [T; 64]) -> Result<(), Error> {
    let [a, b, c] = &mut [*words; 3];
    let (a, b, c): (&mut [T], &mut [T], &mut [T]) = (black_box(a), black_box(b), black_box(c));
    convolutions(&black_box(Config::default()), a, b, c)
}

fn convolutions<T: Scalar>(
    config: &Config<T>,
    state: &mut [T],
    workspace: &mut [T],
    values: &mut [T],
) -> Result<(), Error> {
    let axis = || {
        let axis = Axis::new(number(), number()).stride(number()).padding(number()).dilation(number());
        keep((axis.span(), axis.positions()));
        axis
    };
    let layout = if black_box(true) { Layout::ChannelsFirst } else { Layout::ChannelsLast };
    let convolution = match number() {
        0 => Convolution::embedding(number(), number(), number()),
        1 => Convolution::affine(number(), [number(), number()]),
        2 => Convolution::new_2d(number(), [axis(), axis()], number()),
        _ => Convolution::new_2d(number(), [axis(), axis()], number()).uncorrelated(),
    };
    let convolution = convolution.groups(number()).layout(layout);
    let convolution = if black_box(true) { convolution } else { convolution.without_bias() };
    keep((convolution.block(), convolution.shape().lines(), convolution.shape().points()));
    keep((
        Convolution::sequence(number(), number(), number()),
        convolution.check(),
        convolution.parameters(),
    ));
    let (values, out) = values.split_at_mut_checked(number()).ok_or(Error::Empty { argument: "values" })?;
    let engine: &dyn Kernels<T> = black_box(&Reference);
    let into = MatrixMut::new(out, number(), number())?;
    keep(convolution.forward(engine, values, matrix(values)?, into, workspace));
    let into = MatrixMut::new(out, number(), number())?;
    keep(convolution.backward(engine, values, matrix(values)?, into, workspace));
    keep(convolution.mean_gradient(engine, matrix(values)?, matrix(values)?, out, workspace));
    let mut progress = black_box(Progress::new(0));
    let sharing = if black_box(true) { Sharing::Expand } else { Sharing::Reduce };
    let mut layer = ConvolutionPreconditioner::new(convolution, state, config, &mut progress, workspace)?
        .with_kernels(engine)
        .with_sharing(sharing);
    keep(layer.observe(matrix(values)?, matrix(values)?));
    keep(layer.precondition(values, out));
    keep(layer.layer(number()).map(|layer| layer.mean_scaling()));
    keep(layer.layer(number()).map(|layer| layer.input_moments().len()));
    let layers: &[ConvolutionLayer] = black_box(&[]);
    let net = ConvolutionNet::new(layers, black_box(Loss::SoftmaxCrossEntropy));
    keep(net.layers().first().and_then(ConvolutionLayer::block));
    keep((net.check(), net.words(number(), number()), net.state_words(), net.inputs(), net.outputs()));
    keep(
        ConvolutionLearner::new(net, *config, black_box(7), number(), number(), &mut *state)
            .map(|mut learner| learner.step(values, targets(out))),
    );
    let progress = black_box(Progress::new(3));
    let mut learner = ConvolutionLearner::resume(net, *config, progress, number(), number(), workspace)?
        .with_kernels(engine)
        .with_sharing(sharing);
    keep(learner.set_config(black_box(Config::default())));
    learner.initialize(black_box(Initialization::HeNormal));
    keep(learner.step(values, targets(out)));
    keep(learner.mean_gradient(values, targets(out), &mut []));
    keep(learner.most_operations(number()));
    keep((learner.iter_weights().count(), learner.sharing()));
    keep(learner.predict(values));
    keep(learner.evaluate(values, targets(out)));
    keep(learner.weights(number()).map(|weights| weights.len()));
    keep(learner.layer(number(), number()).map(|layer| layer.mean_scaling()));
    keep((learner.progress().operations, learner.state().len()));
    snapshots(&mut learner);
    Ok(())
}

fn snapshots<T: Scalar>(learner: &mut ConvolutionLearner<'_, T>) {
    let mut room = [0; 64];
    let bytes: &mut [u8] = black_box(&mut room);
    keep(snapshot::length_of_convolutions::<T>(learner.net()));
    keep(learner.save_into(bytes));
    keep(learner.restore_from(bytes));
    keep(Snapshot::new(bytes).map(|view| (view.convolutions().count(), view.has_convolutions())));
    let range = black_box(0)..black_box(64);
    keep(FlashStore::new(RamFlash(bytes), range).map(|mut store| {
        keep(store.load(learner));
        keep(store.save(learner));
        store.release().0.len()
    }));
}
