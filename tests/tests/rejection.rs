//! Steps that are taken back: to the bit, with more damping, and only where they do harm.
//!
//! Mutants that these tests catch: a comparison that lets NaN through; a word of state, a counter or a random stream that is not
//! taken back; damping that is raised twice, or not at all; a gentle step that differs from `step`.

use ekfac::{
    Adaptation, Clip, Config, Damping, Dense, Error, Learner, Loss, Net, Outcome, Progress, Reason, Targets,
};
use ekfac_tests::{oracle::bits, random::Draws};

const LAYERS: [Dense; 2] = ekfac::layers![3 => 4 Tanh => 2 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
const BATCH: usize = 3;

fn batch(draws: &mut Draws) -> (Vec<f64>, Vec<f64>) {
    (draws.list(3 * BATCH), draws.list(2 * BATCH))
}

fn reckless(learning_rate: f64) -> Config<f64> {
    Config {
        learning_rate,
        clip: Clip::None,
        reach: None,
        damping: Damping::Absolute(1e-3),
        ..Config::default()
    }
}

#[test]
fn a_step_that_raises_the_loss_is_taken_back_to_the_bit() {
    for (seed, rise) in (0..40).zip([0.0, 0.1].into_iter().cycle()) {
        let mut draws = Draws::new(seed);
        let mut memory = vec![0.0; NET.words(BATCH)];
        let mut saved = vec![f64::NAN; NET.state_words()];
        let mut learner = Learner::new(NET, reckless(2.0), seed, BATCH, &mut memory).unwrap();
        let factor = Adaptation::<f64>::default().factor.powi(Adaptation::<f64>::default().interval as i32);
        let (mut taken_back, mut kept) = (0, 0);
        for step in 0..60 {
            let (inputs, targets) = batch(&mut draws);
            let targets = Targets::Values(&targets);
            let (state, progress) = (bits(learner.state()), *learner.progress());
            let before = learner.evaluate(&inputs, targets).unwrap().loss;
            let outcome = learner.step_or_undo(&inputs, targets, rise, &mut saved).unwrap().outcome;
            let after = learner.evaluate(&inputs, targets).unwrap().loss;
            assert_eq!(bits(&saved), state, "seed {seed}, step {step}");
            assert!(after <= before + rise + 1e-12, "seed {seed}, step {step}: {before} -> {after}");
            if outcome == Outcome::Skipped(Reason::LossRose) {
                taken_back += 1;
                assert_eq!(bits(learner.state()), state, "seed {seed}, step {step}");
                let now = *learner.progress();
                let raised = (progress.damping_multiplier * factor).min(1e4);
                assert!((now.damping_multiplier / raised - 1.0).abs() <= 1e-12, "seed {seed}, step {step}");
                let expected = Progress {
                    skipped: progress.skipped + 1,
                    operations: now.operations,
                    damping_multiplier: now.damping_multiplier,
                    ..progress
                };
                assert_eq!(now, expected, "seed {seed}, step {step}");
                assert!(now.operations > progress.operations, "seed {seed}, step {step}");
                assert_eq!(learner.events().recent().map(|event| event.reason), Some(Reason::LossRose));
            } else {
                kept += 1;
            }
        }
        assert!(taken_back > 0 && kept > 0, "seed {seed}: {taken_back} taken back, {kept} kept");
    }
}

#[test]
fn a_loss_that_is_no_number_is_a_rise() {
    // Steps of about 1e200, whose outputs overflow when they are squared.
    let mut memory = vec![0.0; NET.words(BATCH)];
    let mut saved = vec![0.0; NET.state_words()];
    let mut learner = Learner::new(NET, reckless(1e200), 1, BATCH, &mut memory).unwrap();
    let (inputs, targets) = batch(&mut Draws::new(1));
    let state = bits(learner.state());
    let step = learner.step_or_undo(&inputs, Targets::Values(&targets), f64::MAX, &mut saved).unwrap();
    assert_eq!(step.outcome, Outcome::Skipped(Reason::LossRose));
    assert_eq!(bits(learner.state()), state);
}

#[test]
fn a_step_that_is_kept_is_a_step() {
    let mut memories = [vec![0.0; NET.words(BATCH)], vec![0.0; NET.words(BATCH)]];
    let mut saved = vec![0.0; NET.state_words()];
    let [mut plain, mut guarded] =
        memories.each_mut().map(|memory| Learner::new(NET, Config::default(), 2, BATCH, memory).unwrap());
    let mut draws = Draws::new(2);
    for step in 0..50 {
        let (inputs, targets) = batch(&mut draws);
        let targets = Targets::Values(&targets);
        let expected = plain.step(&inputs, targets);
        assert_eq!(guarded.step_or_undo(&inputs, targets, 1e6, &mut saved), expected, "step {step}");
        assert_eq!(bits(guarded.state()), bits(plain.state()), "step {step}");
    }
}

#[test]
fn bad_arguments_are_refused_before_any_write() {
    let mut memory = vec![0.0; NET.words(BATCH)];
    let mut learner = Learner::new(NET, Config::default(), 3, BATCH, &mut memory).unwrap();
    let (inputs, targets) = batch(&mut Draws::new(3));
    let (state, words) = (bits(learner.state()), NET.state_words());
    for rise in [-1e-9, f64::NAN] {
        let refused = learner.step_or_undo(&inputs, Targets::Values(&targets), rise, &mut vec![0.0; words]);
        assert_eq!(refused, Err(Error::OutOfRange { argument: "rise", index: 0 }));
    }
    for found in [0, words - 1, words + 1] {
        let refused = learner.step_or_undo(&inputs, Targets::Values(&targets), 0.0, &mut vec![0.0; found]);
        assert_eq!(refused, Err(Error::Length { argument: "saved", expected: words, found }));
    }
    assert_eq!(bits(learner.state()), state);
}
