//! What the default setting promises on the digits autoencoder, 64-48-24-12-24-48-64, in batches and one example at a time.
//!
//! Mutants that these tests catch: a default that is worse than it was; statistics or a clip that forget the size of the
//! batch; a rotation budget that is not kept. The five-seed figures come from `cargo ekfac compare --seeds 5`, and with
//! `--batch 1 --epochs 4`.

use ekfac::{Config, Dense, Learner, Loss, Net, Outcome, Targets};
use ekfac_std::data::digits;
use ekfac_tests::random::Draws;

const LAYERS: [Dense; 6] =
    ekfac::layers![64 => 48 Tanh => 24 Tanh => 12 Identity => 24 Tanh => 48 Tanh => 64 Identity];
const SEEDS: [u64; 3] = [1, 2, 3];

/// Trains on the digits and returns the losses after the passes that are asked for, and the mean rotations a step.
fn train(batch: usize, passes: &[usize], seed: u64) -> (Vec<f32>, f64) {
    let inputs = digits().unwrap().inputs;
    let examples = inputs.len() / 64;
    let net = Net::new(&LAYERS, Loss::SquaredError);
    let mut memory = vec![0.0_f32; net.words(batch)];
    let mut learner = Learner::new(net, Config::default(), seed, batch, &mut memory).unwrap();
    let mut draws = Draws::new(seed);
    let (mut losses, mut order) = (Vec::new(), (0..examples).collect::<Vec<_>>());
    for pass in 1..=passes.iter().copied().max().unwrap() {
        for place in (1..examples).rev() {
            order.swap(place, draws.index(place + 1));
        }
        for chosen in order.chunks(batch) {
            let rows: Vec<f32> = chosen.iter().flat_map(|i| inputs[64 * i..64 * (i + 1)].to_vec()).collect();
            let step = learner.step(&rows, Targets::Values(&rows)).unwrap();
            assert_eq!(step.outcome, Outcome::Applied, "seed {seed}, pass {pass}");
        }
        if passes.contains(&pass) {
            losses.push(learner.evaluate(&inputs, Targets::Values(&inputs)).unwrap().loss);
        }
    }
    (losses, learner.progress().rotations as f64 / learner.progress().steps as f64)
}

/// The median over the seeds after each of the passes must be within its bound.
fn check(batch: usize, passes: &[usize], bounds: &[f32], rotations: f64) {
    let runs = SEEDS.map(|seed| train(batch, passes, seed));
    println!("batch {batch}, seeds {SEEDS:?}: {runs:?}");
    for (place, bound) in bounds.iter().enumerate() {
        let mut losses = runs.each_ref().map(|(losses, _)| losses[place]);
        losses.sort_by(f32::total_cmp);
        let median = losses[SEEDS.len() / 2];
        assert!(median <= *bound, "{median} after {} passes, not {bound}", passes[place]);
    }
    for (seed, (_, mean)) in SEEDS.iter().zip(&runs) {
        assert!(*mean <= rotations, "seed {seed}: {mean} rotations a step");
    }
}

#[test]
fn the_default_learns_the_digits_in_batches() {
    check(100, &[10, 20, 50], &[0.37, 0.30, 0.25], 100.0);
}

#[test]
fn the_default_learns_the_digits_one_example_at_a_time() {
    check(1, &[1, 4], &[0.52, 0.36], 100.0);
}
