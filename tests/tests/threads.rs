//! Kernels in vector code and on threads: core's own bits in `Deterministic`, a bound on the difference in `Fast`, and a panic in
//! a worker that leaves every state valid.

use ekfac::{
    Activation, Blend, Config, Coordinates, Dense, Error, Kernels, LayerMut, Learner, Loss, MatrixMut,
    MatrixRef, Net, Outcome, Preconditioner, Progress, Reason, Reference, Scalar, Shape, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer},
    kernels::Elementwise,
    net::dense_layers,
};
use ekfac_std::{
    ConvolutionNetwork, DeterministicKernels, FaerKernels, Mode, Network,
    kernels::{ThreadPool, ThreadPoolBuilder, Threaded},
};
use ekfac_tests::{oracle::relative_difference, random::Draws};
use nalgebra::DMatrix;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

fn pool(threads: usize) -> Arc<ThreadPool> {
    Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().expect("threads"))
}

fn draws<T: Scalar>(seed: u64, count: usize) -> Vec<T> {
    let mut source = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..count)
        .map(|_| T::from_unit_bits(source.next_u64()) + T::from_unit_bits(source.next_u64()) - T::ONE)
        .collect()
}

/// Everything that kernels compute, for one set of sizes: rows, columns, terms.
fn all<T: Scalar>(kernels: &dyn Kernels<T>, [m, n, k]: [usize; 3], keep: T) -> Vec<Vec<T>> {
    let seed = (m * 10_000 + n * 100 + k) as u64;
    let (a, b) = (draws::<T>(seed, m * k), draws::<T>(seed + 1, k * n));
    let (scale, blend) = (T::from_f64(0.7), Blend::Move(T::from_f64(0.3)));
    let start = draws::<T>(seed + 2, m * n);
    let matrix = |data, rows, columns| MatrixRef::new(data, rows, columns).unwrap();
    let out = |data| MatrixMut::new(data, m, n).unwrap();
    let mut scratch = vec![T::ZERO; 2 * m.max(n)];
    let (mut plain, mut left, mut right, mut squared) =
        (start.clone(), start.clone(), start.clone(), start.clone());
    kernels.product(out(&mut plain), matrix(&a, m, k), matrix(&b, k, n), scale, keep);
    kernels.product_left_transposed(out(&mut left), matrix(&a, k, m), matrix(&b, k, n), scale, keep);
    kernels.product_right_transposed(out(&mut right), matrix(&a, m, k), matrix(&b, n, k), scale, keep);
    kernels.squared_product(out(&mut squared), matrix(&a, m, k), matrix(&b, n, k), blend, &mut scratch);
    let mut packed = draws::<T>(seed + 3, m * (m + 1) / 2);
    kernels.symmetric_update(&mut packed, matrix(&a, m, k), blend, &mut scratch);
    let (mut h, mut g) = (vec![T::ZERO; m * n], draws::<T>(seed + 4, m * n));
    assert!(kernels.activate(Activation::Tanh, &start, &mut h));
    kernels.through_activation(Activation::Tanh, &mut g, &start, &h);
    vec![plain, left, right, squared, packed, h, g]
}

const SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [17, 5, 9],
    [33, 34, 7],
    [64, 40, 33],
    [31, 100, 66],
    [130, 6, 250],
    [1000, 1, 700],
    [301, 203, 101],
    [500, 9, 333],
];

fn expect_bits<T: Scalar>(kernels: &dyn Kernels<T>, what: &str) {
    for sizes in SIZES {
        for keep in [T::ZERO, T::ONE, T::from_f64(0.5)] {
            let (expected, found) = (all(&Reference, sizes, keep), all(kernels, sizes, keep));
            for (kind, (expected, found)) in expected.iter().zip(&found).enumerate() {
                let same = expected.iter().zip(found).all(|(x, y)| x.to_bit_pattern() == y.to_bit_pattern());
                assert!(
                    same && expected.len() == found.len(),
                    "{what}: kernel {kind} at {sizes:?}, keep {keep}"
                );
            }
        }
    }
}

#[test]
fn deterministic_kernels_give_cores_bits() {
    expect_bits::<f32>(&DeterministicKernels, "f32");
    expect_bits::<f64>(&DeterministicKernels, "f64");
    for threads in [1, 2, 3, 4, 8] {
        let kernels = Threaded::new(DeterministicKernels, pool(threads));
        expect_bits::<f32>(&kernels, &format!("f32, {threads} threads"));
        expect_bits::<f64>(&kernels, &format!("f64, {threads} threads"));
    }
}

#[test]
fn fast_kernels_differ_by_a_few_rounding_errors_a_term() {
    for threads in [1, 3, 4] {
        // Of the last but one, faer gets a few rows at a time; the last has too few for four threads.
        for sizes in SIZES.into_iter().chain([[700, 9, 520], [60, 400, 100]]) {
            let kernels = Mode::Fast.kernels::<f32>(Some(pool(threads)));
            let (found, [m, n, k]) = (all(&*kernels, sizes, 0.5), sizes);
            // Against core in the same precision; all factors are below 1, so a sum of magnitudes is at most k.
            let expected = all(&Reference, sizes, 0.5_f32);
            let limit = 4.0 * (k as f32 + 4.0) * f32::EPSILON;
            for (kind, (expected, found)) in expected.iter().zip(&found).enumerate() {
                for (x, y) in expected.iter().zip(found) {
                    assert!(
                        (x - y).abs() <= limit,
                        "{threads} threads, kernel {kind} at {m}, {n}, {k}: {x} or {y}"
                    );
                }
            }
        }
    }
}

/// FNV-1a of a run's state and of its running means, which hold what the surveys have seen.
fn digest(network: &Network<f32>) -> u64 {
    let progress = network.progress();
    network
        .state()
        .iter()
        .chain(&[progress.mean_loss, progress.mean_length])
        .flat_map(|word| word.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// One layer has two factors that are large enough for turns to wait, the others have one.
const NET: [usize; 4] = [150, 140, 40, 150];

fn network(batch: usize) -> Network<f32> {
    let layers = dense_layers(&NET, Activation::Tanh, Activation::Identity).unwrap().to_vec();
    Network::new(layers, Loss::SquaredError, Config::default(), 5, batch).unwrap()
}

fn trained(mut network: Network<f32>, steps: usize) -> u64 {
    let data = draws::<f32>(11, NET[0] * 128);
    for _ in 0..steps {
        network.step(&data, Targets::Values(&data)).unwrap();
    }
    digest(&network)
}

#[test]
fn any_number_of_threads_leaves_the_digest_of_core() {
    let reference = trained(network(128).with_kernels(Box::new(Reference)), 6);
    assert_eq!(trained(network(128).deterministic(), 6), reference);
    for round in 0..25 {
        for threads in [1, 2, 4, 8] {
            let network = network(128).with_threads(threads).unwrap().deterministic();
            assert_eq!(network.threads(), threads);
            assert_eq!(trained(network, 6), reference, "{threads} threads, round {round}");
        }
    }
}

#[test]
fn fast_mode_is_the_same_from_run_to_run_and_its_loss_is_near() {
    let (shared, data) = (pool(4), draws::<f32>(11, NET[0] * 128));
    let loss = |mut network: Network<f32>| {
        (0..20).map(|_| network.step(&data, Targets::Values(&data)).unwrap().loss).next_back().unwrap()
    };
    let fast = || loss(network(128).with_pool(shared.clone()));
    let (one, other, exact) = (fast(), fast(), loss(network(128).with_mode(Mode::Deterministic)));
    assert_eq!(one.to_bits(), other.to_bits());
    assert!((one - exact).abs() <= 1e-3 * exact, "{one} or {exact}");
}

/// Panics in the product that takes the fuse to zero, on whatever thread that falls. Elementwise work is cut as far as it goes, and
/// its pieces are done in the opposite of their order.
struct Watched {
    fuse: Arc<AtomicUsize>,
    pieces: Arc<AtomicUsize>,
}

const LONG: usize = usize::MAX / 2;

impl Watched {
    fn with_fuse(fuse: Arc<AtomicUsize>) -> Self {
        Self { fuse, pieces: Arc::default() }
    }

    fn count(&self) {
        assert!(self.fuse.fetch_sub(1, Ordering::SeqCst) != 0, "injected");
    }
}

impl Kernels<f32> for Watched {
    fn product(&self, out: MatrixMut<'_, f32>, a: MatrixRef<'_, f32>, b: MatrixRef<'_, f32>, s: f32, k: f32) {
        self.count();
        DeterministicKernels.product(out, a, b, s, k);
    }
    fn product_left_transposed(
        &self,
        out: MatrixMut<'_, f32>,
        a: MatrixRef<'_, f32>,
        b: MatrixRef<'_, f32>,
        s: f32,
        k: f32,
    ) {
        self.count();
        DeterministicKernels.product_left_transposed(out, a, b, s, k);
    }
    fn product_right_transposed(
        &self,
        out: MatrixMut<'_, f32>,
        a: MatrixRef<'_, f32>,
        b: MatrixRef<'_, f32>,
        s: f32,
        k: f32,
    ) {
        self.count();
        DeterministicKernels.product_right_transposed(out, a, b, s, k);
    }
    fn symmetric_update(
        &self,
        packed: &mut [f32],
        x: MatrixRef<'_, f32>,
        blend: Blend<f32>,
        scratch: &mut [f32],
    ) {
        self.count();
        DeterministicKernels.symmetric_update(packed, x, blend, scratch);
    }
    fn squared_product(
        &self,
        s: MatrixMut<'_, f32>,
        g: MatrixRef<'_, f32>,
        a: MatrixRef<'_, f32>,
        blend: Blend<f32>,
        scratch: &mut [f32],
    ) {
        self.count();
        DeterministicKernels.squared_product(s, g, a, blend, scratch);
    }
    fn elementwise(&self, work: Elementwise<'_, f32>) {
        match work.halves() {
            (one, Some(other)) => {
                self.elementwise(other);
                self.elementwise(one);
            }
            (whole, None) => {
                self.pieces.fetch_add(1, Ordering::Relaxed);
                whole.run();
            }
        }
    }
}

#[test]
fn elementwise_work_in_pieces_leaves_the_digest_of_core() {
    let kernels = Watched::with_fuse(Arc::new(AtomicUsize::new(LONG)));
    let pieces = kernels.pieces.clone();
    let cut = network(128).with_kernels(Box::new(kernels));
    assert_eq!(trained(cut, 6), trained(network(128).with_kernels(Box::new(Reference)), 6));
    // Three layers, each surveyed and moved once a step: uncut that would be 36, and the turns.
    let pieces = pieces.load(Ordering::Relaxed);
    assert!(pieces > 1000, "{pieces} pieces");
}

/// Mutant: a half of the gate's work lost, or its finding.
#[test]
fn a_gate_in_pieces_names_the_offender_wherever_it_is() {
    const LAYERS: [Dense; 1] = [Dense::new(5, 3, Activation::Identity)];
    let net = Net::new(&LAYERS, Loss::SquaredError);
    let kernels = Watched::with_fuse(Arc::new(AtomicUsize::new(LONG)));
    let (inputs, targets) = (draws::<f32>(1, 5 * 7), draws::<f32>(2, 3 * 7));
    for (argument, count) in [("activations", inputs.len()), ("gradients", targets.len())] {
        for place in 0..count {
            let (mut inputs, mut targets) = (inputs.clone(), targets.clone());
            if argument == "gradients" {
                targets[place] = 1e15;
            } else {
                inputs[place] = 1e15;
            }
            let mut memory = vec![0.0; net.words(7)];
            let learner = Learner::new(net, Config::default(), 1, 7, &mut memory).unwrap();
            let mut learner = learner.with_kernels(&kernels);
            let found = learner.step(&inputs, Targets::Values(&targets)).unwrap().outcome;
            let expected = Outcome::Skipped(Reason::TooLarge { layer: 0, argument, index: place });
            assert_eq!(found, expected, "{argument}, {place}");
        }
    }
}

#[test]
fn a_panic_in_a_worker_is_an_error_and_leaves_every_state_valid() {
    let (shared, data) = (pool(4), draws::<f32>(11, NET[0] * 128));
    let step = |network: &mut Network<f32>| network.step(&data, Targets::Values(&data));
    let fuse = Arc::new(AtomicUsize::new(LONG));
    let started = || {
        let kernels = Threaded::new(Watched::with_fuse(fuse.clone()), shared.clone());
        let mut network = network(128).with_kernels(Box::new(kernels));
        for _ in 0..3 {
            step(&mut network).unwrap();
        }
        network
    };
    let all_weights = |network: &mut Network<f32>| [0, 1, 2].map(|layer| network.weights(layer).unwrap());
    let mut whole = started();
    fuse.store(LONG, Ordering::SeqCst);
    step(&mut whole).unwrap();
    let calls = LONG - fuse.load(Ordering::SeqCst);
    assert!(calls > 60, "the products are cut into pieces: {calls}");
    let stepped = all_weights(&mut whole);
    for fatal in 0..calls {
        fuse.store(LONG, Ordering::SeqCst);
        let mut network = started();
        let weights = all_weights(&mut network);
        let progress = *network.progress();
        fuse.store(fatal, Ordering::SeqCst);
        assert_eq!(step(&mut network).unwrap_err(), Error::KernelsFailed, "call {fatal}");
        fuse.store(LONG, Ordering::SeqCst);
        assert_eq!(*network.progress(), progress);
        assert!(network.state().iter().all(|word| word.is_finite()));
        // Rotations turn the basis in which weights are held, and nothing else; each weight has taken its step or none of it.
        let found = all_weights(&mut network);
        for ((old, new), found) in weights.iter().zip(&stepped).zip(&found) {
            for ((old, new), found) in old.iter().zip(new).zip(found) {
                let distance = (old - found).abs().min((new - found).abs());
                assert!(distance <= 1e-4, "call {fatal}: from {old} to {found}, a whole step to {new}");
            }
        }
        // The same pool goes on, and so does learning.
        let before = step(&mut network).unwrap().loss;
        for _ in 0..10 {
            step(&mut network).unwrap();
        }
        let after = step(&mut network).unwrap().loss;
        assert!(after < before, "call {fatal}: from {before} to {after}");
    }
}

#[test]
fn a_panic_before_the_statistics_changes_no_byte() {
    let kernels = Threaded::new(Watched::with_fuse(Arc::new(AtomicUsize::new(2))), pool(4));
    let mut network = network(128).with_kernels(Box::new(kernels));
    let (before, data) = (digest(&network), draws::<f32>(11, NET[0] * 128));
    assert_eq!(network.step(&data, Targets::Values(&data)).unwrap_err(), Error::KernelsFailed);
    assert_eq!(digest(&network), before);
}

// Mutant: call core unguarded.
#[test]
fn a_panic_in_a_network_with_convolutions_is_an_error_too() {
    let filters = Convolution::new_2d(1, [Axis::new(28, 3).padding(1); 2], 16);
    let layers = vec![ConvolutionLayer::new(filters, Activation::Tanh)];
    let fuse = Arc::new(AtomicUsize::new(LONG));
    let kernels = Threaded::new(Watched::with_fuse(fuse.clone()), pool(4));
    let network = ConvolutionNetwork::new(layers, Loss::SquaredError, Config::default(), 1, 4).unwrap();
    let mut network = network.with_kernels(Box::new(kernels));
    let (inputs, targets) = (draws(1, 784 * 4), draws(2, 16 * 784 * 4));
    let mut step = || network.step(&inputs, Targets::Values(&targets));
    step().unwrap();
    fuse.store(3, Ordering::SeqCst);
    assert_eq!(step().unwrap_err(), Error::KernelsFailed);
    fuse.store(LONG, Ordering::SeqCst);
    step().unwrap();
    assert!(network.state().iter().all(|word| word.is_finite()));
}

#[test]
fn parameter_coordinates_keep_cores_bits_as_well() {
    let layers = [Dense::new(150, 120, Activation::Tanh), Dense::new(120, 150, Activation::Identity)];
    let (net, data) = (Net::new(&layers, Loss::SquaredError), draws::<f32>(3, 150 * 64));
    let run = |kernels: &dyn Kernels<f32>| {
        let mut memory = vec![0.0; net.words(64)];
        let learner = Learner::new(net, Config::default(), 1, 64, &mut memory).unwrap();
        let mut learner = learner.with_kernels(kernels);
        (0..2).for_each(|layer| learner.set_coordinates(layer, Coordinates::Parameter).unwrap());
        for _ in 0..4 {
            learner.step(&data, Targets::Values(&data)).unwrap();
        }
        learner.state().to_vec()
    };
    assert!(run(&Threaded::new(DeterministicKernels, pool(3))) == run(&Reference));
}

/// A workspace has more words than any one matrix in it, and faer wants slices of exactly a matrix's length.
#[test]
fn a_preconditioner_runs_on_faer() {
    let (shape, mut draws) = (Shape::new(40, 30), Draws::new(4));
    let (a, g, gradient) = (draws.matrix(40, 20), draws.matrix(30, 20), draws.matrix(30, 41));
    let (config, faer) = (Config::<f64>::paper(0.1, 1e-2, 1), FaerKernels::<f64>::new());
    let kernels: [&dyn Kernels<f64>; 2] = [&Reference, &faer];
    let [expected, found] = kernels.map(|kernels| {
        let (mut state, mut progress) = (vec![0.0; shape.words()], Progress::new(0));
        let mut workspace = vec![0.0; Preconditioner::<f64>::workspace_words(&shape, 20)];
        let layer = LayerMut::new(shape, &mut state).unwrap();
        let mut layer =
            Preconditioner::new(layer, &config, &mut progress, &mut workspace).with_kernels(kernels);
        layer.observe((&a).into(), (&g).into()).unwrap();
        let mut natural = DMatrix::zeros(30, 41);
        layer.precondition((&gradient).into(), (&mut natural).into()).unwrap();
        natural
    });
    let error = relative_difference(&found, &expected);
    assert!(error <= 1e-9, "{error:e}");
}
