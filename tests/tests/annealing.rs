//! Annealing: the formula by hand, a floor of noise that it lowers, a change that it follows, and nets that it leaves alone.

use ekfac::{
    Activation::{Identity, Tanh},
    Annealing, Config, Dense, Error, Loss, Shape, Targets,
};
use ekfac_std::Network;
use ekfac_tests::random::Draws;

// With one weight the cosine is a sign, which a hand knows.
const ONE: [Dense; 1] = [Dense::with_shape(Shape::new(1, 1).without_bias(), Identity)];

/// Mutants: u of another momentum or without alpha; a bound doubled or halved; the window; the rate; the step not shortened.
#[test]
fn one_weight_is_annealed_as_a_hand_does() {
    for (annealing, share_of_epoch) in [(Annealing::Stream, 0.0), (Annealing::Epochs(400), 0.01)] {
        check_by_hand(annealing, share_of_epoch);
    }
}

fn check_by_hand(annealing: Annealing, share_of_epoch: f64) {
    let config = Config { annealing, restart: false, reach: None, ..Config::<f64>::default() };
    let q = (0.12_f64 / 1.88).sqrt();
    let mut network = Network::<f64>::new(ONE.to_vec(), Loss::SquaredError, config, 3, 4).unwrap();
    let mut draws = Draws::new(3);
    let (mut cosines, mut least, mut velocity) = (0.0, 1.0_f64, 0.0_f64);
    for step in 0..300 {
        let (inputs, noise) = (draws.list(4), draws.list(4));
        let targets: Vec<f64> = inputs.iter().zip(noise).map(|(x, e)| 2.0 * x + e).collect();
        let weight = network.weights(0).unwrap()[0];
        let gradient: f64 = inputs.iter().zip(&targets).map(|(x, y)| (weight * x - y) * x).sum();
        let before = *network.progress();
        let taken = network.step(&inputs, Targets::Values(&targets)).unwrap();
        let after = *network.progress();
        let cosine = if velocity == 0.0 { 0.0 } else { gradient.signum() * velocity.signum() };
        let share = (8.0 / (8.0 + f64::from(step))).max(4.0 / 1e5);
        cosines += share * (cosine - cosines);
        assert!((after.mean_cosine - cosines).abs() <= 1e-12, "step {step}: {after:?} for {cosines}");
        let u = 0.1 * (taken.shrink / after.annealing) * before.annealing / (1.0 - 0.88);
        let opposed = -cosines - 0.75 * share_of_epoch / q;
        let excess = (opposed - u * q / 3.0).min(2.0 * u - opposed);
        let expected = (before.annealing * (1.0 - 0.3 * excess)).clamp(1e-3, 1.0);
        assert!((after.annealing - expected).abs() <= 1e-12, "step {step}: {after:?} for {expected}");
        let now = network.weights(0).unwrap()[0];
        velocity = weight - now;
        least = least.min(after.annealing);
    }
    assert!(least < 0.9, "never annealed: {least}");
}

const CLASSES: usize = 3;
const INPUTS: usize = 6;
const BATCH: usize = 50;
const NET: [Dense; 2] = [Dense::new(INPUTS, 8, Tanh), Dense::new(8, CLASSES, Identity)];

/// A teacher of classes that is often wrong: a stream without an end, whose loss has a floor.
struct Stream {
    draws: Draws,
    teacher: Vec<f64>,
}

impl Stream {
    fn new(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let teacher = draws.list(INPUTS * CLASSES);
        Self { draws, teacher }
    }

    fn examples(&mut self, count: usize) -> (Vec<f32>, Vec<u32>) {
        let inputs = self.draws.list(INPUTS * count);
        let class = |input: &[f64]| {
            let of = |row: &[f64]| row.iter().zip(input).map(|(w, x)| w * x).sum::<f64>().exp();
            let weights: Vec<f64> = self.teacher.chunks_exact(INPUTS).map(of).collect();
            let mut left = self.draws.uniform() * weights.iter().sum::<f64>();
            let place = weights.iter().position(|weight| {
                left -= weight;
                left < 0.0
            });
            place.unwrap_or(CLASSES - 1) as u32
        };
        let classes = inputs.chunks_exact(INPUTS).map(class).collect();
        (inputs.iter().map(|value| *value as f32).collect(), classes)
    }
}

fn network(seed: u64, annealing: Annealing) -> Network<f32> {
    let config = Config { annealing, ..Config::default() };
    Network::new(NET.to_vec(), Loss::SoftmaxCrossEntropy, config, seed, BATCH).unwrap()
}

fn train(network: &mut Network<f32>, stream: &mut Stream, steps: usize) -> Result<(), Error> {
    for _ in 0..steps {
        let (inputs, classes) = stream.examples(BATCH);
        network.step(&inputs, Targets::Classes(&classes))?;
    }
    Ok(())
}

/// The loss on many examples, after so many steps more of each.
fn losses(network: &mut Network<f32>, stream: &mut Stream, pieces: usize, steps: usize) -> Vec<f32> {
    let (inputs, classes) = stream.examples(20_000);
    let piece = |_| {
        train(network, stream, steps).unwrap();
        network.evaluate(&inputs, Targets::Classes(&classes)).unwrap().loss
    };
    (0..pieces).map(piece).collect()
}

/// Mutants: steps grow where they should shrink; the mean not kept; the bound of what steps explain left out.
#[test]
fn a_floor_of_noise_is_lower_with_it() {
    let mut gained = 0.0;
    for seed in 1..=3 {
        let [off, on] = [Annealing::Off, Annealing::Stream].map(|annealing| {
            let (mut stream, mut network) = (Stream::new(seed), network(seed, annealing));
            losses(&mut network, &mut stream, 6, 500)[3..].iter().sum::<f32>() / 3.0
        });
        println!("seed {seed}: {off} without, {on} with");
        gained += off - on;
    }
    assert!(gained >= 0.02, "{gained}");
}

/// Mutant: what has been shortened stays so.
#[test]
fn a_change_ends_it() {
    let [off, on] = [Annealing::Off, Annealing::Stream].map(|annealing| {
        let (mut stream, mut network) = (Stream::new(2), network(2, annealing));
        train(&mut network, &mut stream, 3000).unwrap();
        let before = network.progress().annealing;
        stream.teacher.iter_mut().for_each(|weight| *weight = -*weight);
        let after = losses(&mut network, &mut stream, 5, 50);
        println!("{annealing:?}: {before}, then {after:?}, {}", network.progress().annealing);
        assert!(annealing == Annealing::Off || before <= 0.1 && network.progress().annealing >= 0.5);
        after[4]
    });
    assert!(on <= 1.03 * off, "{on} for {off}");
}

/// Batches of a small set oppose one another whatever the steps, and that is no reason to shorten them.
///
/// Mutants: the examples not told; the share of an epoch the wrong way round.
#[test]
fn a_small_set_seen_often_is_left_alone() {
    let least = |annealing| {
        let mut stream = Stream::new(4);
        let (inputs, classes) = stream.examples(6 * BATCH);
        let mut network = network(4, annealing);
        let mut least = 1.0_f32;
        for _ in 0..100 {
            for batch in stream.draws.permutation(classes.len()).chunks_exact(BATCH) {
                let inputs: Vec<f32> =
                    batch.iter().flat_map(|at| &inputs[at * INPUTS..][..INPUTS]).copied().collect();
                let classes: Vec<u32> = batch.iter().map(|at| classes[*at]).collect();
                network.step(&inputs, Targets::Classes(&classes)).unwrap();
            }
            least = least.min(network.progress().annealing);
        }
        least
    };
    let (stream, epochs) = (least(Annealing::Stream), least(Annealing::Epochs(6 * BATCH as u32)));
    println!("least {stream} as a stream, {epochs} told");
    assert!(stream <= 0.5 && epochs >= 0.9);
}

#[test]
fn no_examples_at_all_are_refused() {
    let config = Config::<f32> { annealing: Annealing::Epochs(0), ..Config::default() };
    assert_eq!(config.check(), Err(Error::OutOfRange { argument: "annealing", index: 0 }));
}
