//! Failing refreshes, injected through the kernels: the last good basis stays, the failure is reported, more than three in a row are
//! an error, and the next good batch goes on. No matrix is known that makes a solve hit its cap; what a solve leaves behind that is cut
//! short is checked in `eigen.rs`.
//!
//! Mutants that these tests catch: a factor that is not finite enters the solve; a failure that is not counted, or not forgotten; an
//! error one failure early or late; a layer left out because one before it failed; a failed batch whose work and step are not
//! counted.

use ekfac::{
    Adaptation, Clip, Config, Dense, Error, Event, Fisher, LayerMut, Learner, Loss, Net, Outcome, Progress,
    Reason, Refresh, Targets, step::MAX_FAILED_REFRESHES,
};
use ekfac_tests::{oracle::bits, random::Draws, tampered::Tampered};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const LAYERS: [Dense; 2] = ekfac::layers![5 => 4 Tanh => 3 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
const BATCH: usize = 8;

fn refreshes() -> [Refresh<f64>; 2] {
    [Refresh::every(1), Refresh::Rotations { per_step: 6, per_line: 0.0, threshold: 0.01 }]
}

fn settings(refresh: Refresh<f64>) -> Config<f64> {
    Config { refresh, clip: Clip::Fixed(1e-3), fisher: Fisher::Empirical, ..Config::default() }
}

fn batch(draws: &mut Draws) -> (Vec<f64>, Vec<f64>) {
    (draws.list(5 * BATCH), draws.list(3 * BATCH))
}

/// Both bases of every layer, bit for bit.
fn bases(learner: &mut Learner<'_, f64>) -> Vec<Vec<u64>> {
    let sides = |layer: LayerMut<'_, f64>| {
        [bits(layer.input_factor().basis().as_slice()), bits(layer.output_factor().basis().as_slice())]
    };
    (0..LAYERS.len()).flat_map(|index| sides(learner.layer(index).unwrap())).collect()
}

#[test]
fn an_engine_that_spoils_a_factor_leaves_the_last_good_basis() {
    for (refresh, bad) in refreshes().into_iter().flat_map(|r| [f64::NAN, f64::INFINITY].map(|bad| (r, bad)))
    {
        let spoiling = AtomicBool::new(false);
        let factor = |packed: &mut [f64]| {
            // The last layer's factors alone: 5 with the bias, and 3.
            if spoiling.load(Relaxed) && packed.len() == 15 {
                packed[7] = bad;
            }
        };
        let kernels = Tampered { factor, scalings: true };
        let mut memory = vec![0.0; NET.words(BATCH)];
        let mut learner =
            Learner::new(NET, settings(refresh), 3, BATCH, &mut memory).unwrap().with_kernels(&kernels);
        let mut draws = Draws::new(3);
        let mut step = |learner: &mut Learner<'_, f64>| {
            let (inputs, targets) = batch(&mut draws);
            learner.step(&inputs, Targets::Values(&targets))
        };
        (0..4).for_each(|_| assert_eq!(step(&mut learner).unwrap().outcome, Outcome::Applied));
        let expected = Outcome::Degraded(Reason::NotConverged { layer: 1 });
        for round in 0..2 {
            let before = bases(&mut learner);
            for failure in 1..=MAX_FAILED_REFRESHES {
                spoiling.store(true, Relaxed);
                let taken = step(&mut learner).unwrap();
                assert_eq!(taken.outcome, expected, "{refresh:?}, {bad}, round {round}, failure {failure}");
                assert_eq!(learner.layer(1).unwrap().failed_refreshes(), failure);
                let after = bases(&mut learner);
                assert_eq!(after[2..], before[2..], "{refresh:?}, {bad}: the failed layer's bases stay");
                let weights = learner.stored_weights(1).unwrap().as_mut_slice().to_vec();
                assert!(weights.iter().all(|weight| weight.is_finite()));
            }
            // One good batch and all is forgotten, so that three more may fail.
            spoiling.store(false, Relaxed);
            assert_eq!(step(&mut learner).unwrap().outcome, Outcome::Applied, "{refresh:?}, {bad}");
            assert_eq!(learner.layer(1).unwrap().failed_refreshes(), 0);
            assert!(learner.state().iter().all(|word| word.is_finite()), "{refresh:?}, {bad}");
        }
        assert_eq!(learner.progress().degraded, 2 * u64::from(MAX_FAILED_REFRESHES));
        let event = Event { step: 8, skipped: false, reason: Reason::NotConverged { layer: 1 } };
        assert!(learner.events().oldest_ordered().any(|noted| *noted == event));
    }
}

#[test]
fn more_failures_in_a_row_are_an_error_that_is_counted_and_can_be_survived() {
    for refresh in refreshes() {
        let spoiling = AtomicBool::new(true);
        let factor = |packed: &mut [f64]| {
            if spoiling.load(Relaxed) {
                packed[0] = f64::NAN;
            }
        };
        let kernels = Tampered { factor, scalings: true };
        let mut memory = vec![0.0; NET.words(BATCH)];
        let mut learner =
            Learner::new(NET, settings(refresh), 4, BATCH, &mut memory).unwrap().with_kernels(&kernels);
        let mut draws = Draws::new(4);
        let (mut ends, mut weights) = (Vec::new(), Vec::new());
        for _ in 0..MAX_FAILED_REFRESHES + 2 {
            weights.push(learner.stored_weights(0).unwrap().as_mut_slice().to_vec());
            let before = *learner.progress();
            let (inputs, targets) = batch(&mut draws);
            ends.push(learner.step(&inputs, Targets::Values(&targets)).map(|step| step.outcome));
            let after = learner.progress();
            assert_eq!((after.steps, after.degraded), (before.steps + 1, before.degraded + 1));
            assert!(after.operations > before.operations, "the work of a failed step is counted");
        }
        let (failed, refused) = ends.split_at(MAX_FAILED_REFRESHES as usize);
        assert!(failed.iter().all(|end| matches!(end, Ok(Outcome::Degraded(_)))), "{ends:?}");
        assert_eq!(refused, [Err(Error::RefreshFailed { layer: 0 }); 2]);
        assert_eq!(weights[MAX_FAILED_REFRESHES as usize], weights[MAX_FAILED_REFRESHES as usize + 1]);
        spoiling.store(false, Relaxed);
        let (inputs, targets) = batch(&mut draws);
        assert_eq!(learner.step(&inputs, Targets::Values(&targets)).unwrap().outcome, Outcome::Applied);
        assert!(learner.state().iter().all(|word| word.is_finite()));
    }
}

/// Counters of a resumed run may be of any size; none of them may wrap.
#[test]
fn counters_at_the_end_of_their_range_stay_there() {
    let mut memory = vec![0.0; NET.words(BATCH)];
    let config = Config { adaptation: Some(Adaptation::default()), ..settings(Refresh::every(1)) };
    Learner::new(NET, config, 5, BATCH, &mut memory).unwrap();
    let top = u64::MAX;
    let progress = Progress {
        steps: top,
        examples: top,
        skipped: top,
        degraded: top,
        rotations: top,
        operations: top,
        ..Progress::new(5)
    };
    let mut learner = Learner::resume(NET, config, progress, BATCH, &mut memory).unwrap();
    let mut draws = Draws::new(5);
    for poison in [0.0, f64::NAN] {
        let (mut inputs, targets) = batch(&mut draws);
        inputs[3] += poison;
        learner.step(&inputs, Targets::Values(&targets)).unwrap();
        learner.rotate(3).unwrap();
        let found = *learner.progress();
        let counted =
            [found.steps, found.examples, found.skipped, found.degraded, found.rotations, found.operations];
        assert_eq!(counted, [top; 6]);
    }
}
