//! A learner under a sequence of calls, beside a twin that never sees a batch the learner refused.
//!
//! ```text
//! byte 0    bits 0 and 1: loss; the rest: settings to begin with
//! then      one call after another: a byte (modulo 8) and its arguments, see `call`
//! ```
//!
//! What must hold, for every sequence:
//! - no call panics; a well-formed batch never fails but by [`Error::RefreshFailed`];
//! - a batch that is [`Outcome::Skipped`] leaves every bit of state and all of the progress but two counters;
//! - after any other batch the twin, which was spared the refused ones, has the same outcome and the same bits;
//! - a state that was finite stays finite, and a step that was too large changes no weight;
//! - predictions, evaluations, refused calls and refused settings change no bit;
//! - a learner resumed from a copied state over a workspace full of NaN goes on with the same bits.

use crate::{Bits, all_bits, byte};
use arbitrary::Unstructured;
use ekfac::{
    Adaptation, Annealing, Averaging, Carry, Clip, Config, Damping, Dense, Error, Estimator, Fisher, Learner,
    Loss, Net, Outcome, Progress, Reason, Refresh, Step, Targets, jacobi::Limits,
};

const LAYERS: [Dense; 2] = ekfac::layers![3 => 4 Tanh => 2 Identity];
const CAPACITY: usize = 4;
const INPUTS: usize = 3;
const OUTPUTS: usize = 2;
const LOSSES: [Loss; 4] =
    [Loss::SoftmaxCrossEntropy, Loss::SquaredError, Loss::BinaryCrossEntropy, Loss::Huber(0.5)];
/// More calls than this add time but nothing new.
const CALLS: usize = 48;

/// Inputs and targets of up to [`CAPACITY`] examples.
struct Batch {
    inputs: Vec<f32>,
    values: Vec<f32>,
    classes: Option<Vec<u32>>,
}

/// One learner: what it owns between two calls.
struct Owner {
    net: Net<'static>,
    config: Config<f32>,
    progress: Progress<f32>,
    memory: Vec<f32>,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let head = byte(&mut bytes);
    let net = Net::new(&LAYERS, LOSSES[usize::from(head % 4)]);
    let config = settings(head / 4, &mut bytes);
    let config = if config.check().is_ok() { config } else { Config::default() };
    let mut subject = Owner::new(net, config);
    let mut twin = Owner::new(net, config);
    for _ in 0..CALLS {
        if bytes.is_empty() {
            break;
        }
        call(&mut subject, &mut twin, &mut bytes);
        assert_eq!(all_bits(subject.state()), all_bits(twin.state()), "learner and twin differ");
    }
}

/// One call on both learners.
fn call(subject: &mut Owner, twin: &mut Owner, bytes: &mut Unstructured<'_>) {
    let before = all_bits(subject.state());
    match byte(bytes) % 8 {
        // Half of all calls are steps.
        0..=3 => return step(subject, twin, &batch(subject.net, bytes)),
        4 => {
            let Batch { inputs, values, classes } = batch(subject.net, bytes);
            let batch = inputs.len() / INPUTS;
            subject.with(|learner| {
                learner.predict(&inputs[..INPUTS]).expect("a well-formed input");
                let targets = targets(&values, classes.as_deref());
                let evaluation = learner.evaluate(&inputs, targets).expect("a well-formed batch");
                assert_eq!(evaluation.examples, batch);
                let mut gradient = vec![0.0; learner.net().parameters()];
                learner.mean_gradient(&inputs, targets, &mut gradient).expect("a well-formed batch");
            });
        }
        5 => {
            let config = settings(byte(bytes), bytes);
            let old = subject.config;
            let accepted = subject.with(|learner| learner.set_config(config)).is_ok();
            assert_eq!(accepted, config.check().is_ok());
            assert!(twin.with(|learner| learner.set_config(config)).is_ok() == accepted);
            if !accepted {
                assert_eq!(subject.config, old, "refused settings stay out");
            }
        }
        6 => {
            // Only the state goes on; what a workspace holds must not matter.
            let words = subject.net.state_words();
            subject.memory[words..].fill(f32::NAN);
            // And calls that are wrong.
            let long = vec![0.5; INPUTS * (CAPACITY + 1)];
            subject.with(|learner| {
                assert!(learner.step(&long, Targets::Values(&[0.5; OUTPUTS * (CAPACITY + 1)])).is_err());
                assert!(learner.step(&long[..INPUTS], Targets::Values(&[0.5; OUTPUTS + 1])).is_err());
                assert!(learner.step(&long[..INPUTS - 1], Targets::Values(&[0.5; OUTPUTS])).is_err());
                assert!(learner.step(&[], Targets::Values(&[])).is_err());
                assert!(learner.step(&long[..INPUTS], Targets::Classes(&[9])).is_err());
                assert!(learner.predict(&long).is_err());
                assert!(learner.layer(2).is_err() && learner.stored_weights(2).is_err());
            });
        }
        _ => {
            let (place, value) = (usize::from(byte(bytes)), value(bytes));
            for owner in [&mut *subject, twin] {
                owner.with(|learner| {
                    let mut weights = learner.stored_weights(place % LAYERS.len()).expect("a layer");
                    let weights = weights.as_mut_slice();
                    let place = place % weights.len();
                    weights[place] = value;
                });
            }
            return;
        }
    }
    assert_eq!(all_bits(subject.state()), before, "a call that is no step changed the state");
}

fn step(subject: &mut Owner, twin: &mut Owner, batch: &Batch) {
    let (before, progress) = (subject.state().to_vec(), subject.progress);
    let weights = subject.weights();
    let result = subject.step(batch);
    let outcome = match result {
        Ok(Step { outcome, .. }) => outcome,
        Err(Error::RefreshFailed { .. }) => {
            assert_eq!(twin.step(batch), result);
            return;
        }
        Err(error) => panic!("a well-formed batch was refused: {error}"),
    };
    if let Outcome::Skipped(_) = outcome {
        assert_eq!(all_bits(subject.state()), all_bits(&before), "a skipped batch changed the state");
        let expected =
            Progress { skipped: progress.skipped + 1, operations: subject.progress.operations, ..progress };
        assert_eq!(subject.progress, expected);
        return;
    }
    let twins = twin.step(batch);
    assert_eq!(twins.map(|step| step.outcome), Ok(outcome));
    assert_eq!(subject.progress.steps, progress.steps + 1);
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    if finite(&before) {
        let Progress { mean_loss, mean_loss_weight, damping_multiplier, mean_cosine, annealing, .. } =
            subject.progress;
        assert!(finite(subject.state()), "{outcome:?} left a state that is not finite, {:?}", subject.config);
        assert!(
            finite(&[mean_loss, mean_loss_weight, damping_multiplier, mean_cosine, annealing]),
            "{:?}",
            subject.progress
        );
    }
    // In the eigenbasis the stored weights turn with every rotation, and a solve exchanges lines, which is no step.
    let turned = subject.progress.rotations > progress.rotations;
    if let (Outcome::Degraded(Reason::StepTooLarge), false) = (outcome, turned) {
        assert_eq!(sorted(&subject.weights()), sorted(&weights), "a step too large changed a weight");
    }
}

fn sorted(values: &[f32]) -> Vec<u64> {
    let mut bits = all_bits(values);
    bits.sort_unstable();
    bits
}

impl Owner {
    fn new(net: Net<'static>, config: Config<f32>) -> Self {
        // Whatever the memory held before.
        let mut memory = vec![f32::NAN; net.words(CAPACITY)];
        let learner = Learner::new(net, config, 7, CAPACITY, &mut memory).expect("a sound network");
        let progress = *learner.progress();
        Self { net, config, progress, memory }
    }

    fn state(&self) -> &[f32] {
        &self.memory[..self.net.state_words()]
    }

    fn with<R>(&mut self, work: impl FnOnce(&mut Learner<'_, f32>) -> R) -> R {
        let mut learner = Learner::resume(self.net, self.config, self.progress, CAPACITY, &mut self.memory)
            .expect("settings are checked before they are kept");
        let result = work(&mut learner);
        (self.config, self.progress) = (*learner.config(), *learner.progress());
        result
    }

    fn step(&mut self, batch: &Batch) -> Result<Step<f32>, Error> {
        self.with(|learner| learner.step(&batch.inputs, targets(&batch.values, batch.classes.as_deref())))
    }

    fn weights(&mut self) -> Vec<f32> {
        self.with(|learner| {
            learner.iter_stored_weights().flat_map(|mut weights| weights.as_mut_slice().to_vec()).collect()
        })
    }
}

fn targets<'a>(values: &'a [f32], classes: Option<&'a [u32]>) -> Targets<'a, f32> {
    classes.map_or(Targets::Values(values), Targets::Classes)
}

/// 1 to [`CAPACITY`] examples; bit 2 of the head for classes where the loss knows them, bit 3 for tame values only.
fn batch(net: Net<'_>, bytes: &mut Unstructured<'_>) -> Batch {
    let head = byte(bytes);
    let examples = usize::from(head) % CAPACITY + 1;
    let tame = head & 8 != 0;
    let mut draw = |count: usize| -> Vec<f32> {
        (0..count).map(|_| if tame { small(byte(bytes)) } else { value(bytes) }).collect()
    };
    let (inputs, values) = (draw(examples * INPUTS), draw(examples * OUTPUTS));
    let classes = (head & 4 != 0 && net.loss() == Loss::SoftmaxCrossEntropy)
        .then(|| values.iter().take(examples).map(|value| value.to_bits() % OUTPUTS as u32).collect());
    Batch { inputs, values, classes }
}

/// From -4 to 4 in steps of 1/32.
fn small(byte: u8) -> f32 {
    f32::from(byte.cast_signed()) / 32.0
}

/// Mostly small; after a byte of 0x80 to 0x83 any bit pattern.
fn value(bytes: &mut Unstructured<'_>) -> f32 {
    match byte(bytes) {
        0x80..=0x83 => f32::read(bytes),
        other => small(other),
    }
}

/// Settings of all kinds; some are out of range.
fn settings(kind: u8, bytes: &mut Unstructured<'_>) -> Config<f32> {
    match kind % 6 {
        0 => Config::default(),
        1 => Config::paper(0.1, 1e-2, 2),
        2 => Config::paper_running(0.1, 1e-2, 3, 0.9),
        3 => Config::kfac(0.1, 1e-2, 2),
        _ => mixed(bytes),
    }
}

fn mixed(bytes: &mut Unstructured<'_>) -> Config<f32> {
    let mut choice = |count: u8| byte(bytes) % count;
    let (fisher, estimator, carry, share) = (choice(3), choice(4), choice(4), choice(3));
    let (clip, damping, adapt, restart) = (choice(5), choice(4), choice(2), choice(2));
    let (factors, scalings) = (choice(3), choice(3));
    let (period, statistics_period, sweeps) = (choice(4), choice(4), choice(32));
    let mut positive = || {
        let value = value(bytes).abs();
        if value > 0.0 { value } else { 1e-3 }
    };
    let mut averaging = |kind| {
        let strength = positive();
        match kind {
            0 => Averaging::Decay(strength / (1.0 + strength)),
            1 => Averaging::Memory(strength),
            _ => Averaging::PerLine { least: strength, per_line: strength },
        }
    };
    let (factors, scalings) = (averaging(factors), averaging(scalings));
    let (learning_rate, momentum, weight_decay) = (positive(), positive(), positive());
    let (radius, strength, threshold) = (positive(), positive(), positive());
    Config {
        learning_rate,
        momentum: momentum / (1.0 + momentum),
        restart: restart == 1,
        weight_decay: if weight_decay < 1.0 { weight_decay } else { 0.0 },
        reach: (carry == 1).then_some(radius),
        annealing: [Annealing::Off, Annealing::Stream, Annealing::Epochs(0), Annealing::Epochs(9)]
            [usize::from(sweeps % 4)],
        clip: match clip {
            0 => Clip::None,
            1 => Clip::Fixed(radius),
            2 => Clip::PerExample(radius),
            3 => Clip::ShareOfLoss(radius),
            _ => Clip::PerParameter(radius),
        },
        damping: match damping {
            0 => Damping::Absolute(strength),
            1 => Damping::RelativeToMean(strength),
            2 => Damping::Shrunk(strength),
            _ => Damping::Factored(strength),
        },
        adaptation: (adapt == 1).then(|| Adaptation { interval: 2, ..Adaptation::default() }),
        fisher: [Fisher::Empirical, Fisher::Sampled, Fisher::Exact][usize::from(fisher)],
        estimator: [
            Estimator::PerExampleFresh,
            Estimator::PerExampleRunning,
            Estimator::MeanGradientRunning,
            Estimator::Kronecker,
        ][usize::from(estimator)],
        statistics_period: u32::from(statistics_period),
        factors,
        scalings,
        refresh: match carry {
            3 => Refresh::Rotations {
                per_step: u32::from(sweeps),
                per_line: threshold / 256.0,
                threshold: threshold / 1024.0,
            },
            _ => Refresh::Periodic {
                period: u32::from(period),
                limits: Limits { sweeps: u32::from(sweeps), threshold: threshold / 1024.0 },
                carry: [Carry::Transport, Carry::Rebuild, Carry::Reset][usize::from(carry)],
            },
        },
        statistics_share: [1.0, 0.5, 0.3][usize::from(share)],
        large_batch: [None, Some(0), Some(3)][usize::from(share)],
    }
}
