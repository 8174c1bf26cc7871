//! Learning: whole runs that must reach a bound, and the parts of a step that a user tunes, against hand computation.
//!
//! Mutants that these tests catch: a sign or a factor in the step; momentum, clip or weight decay applied twice, in the wrong
//! place or to the biases; an adaptation that moves the damping the wrong way; a clip that divides by a negative budget; a
//! damping floor that lets a long run end in NaN.

use ekfac::{
    Adaptation, Averaging, Carry, Clip, Config, Damping, Dense, Fisher, Learner, Loss, Net, Outcome, Refresh,
    Shape, Targets,
};
use ekfac_tests::{
    oracle::{bench::Bench, bits, mean_gradient, network::Network, relative_difference, weights},
    random::Draws,
};
use nalgebra::DMatrix;

const CLASSIFIER: [Dense; 2] = ekfac::layers![64 => 32 Tanh => 10 Identity];
const EXAMPLES: usize = 640;

/// Ten noisy clusters in 64 dimensions of very different scales.
fn clusters(seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut draws = Draws::new(seed);
    let centers = draws.matrix(64, 10);
    let classes = draws.classes(EXAMPLES, 10);
    let mut inputs = Vec::with_capacity(64 * EXAMPLES);
    for class in &classes {
        let mut scale = 1.0;
        for row in 0..64 {
            scale *= 0.97;
            inputs.push((scale * (centers[(row, *class as usize)] + 1.2 * draws.normal())) as f32);
        }
    }
    (inputs, classes)
}

/// Trains for some passes and returns the loss before and after, and the share of right answers.
fn train(config: Config<f32>, batch: usize, passes: usize, seed: u64) -> (f32, f32, f64) {
    let net = Net::new(&CLASSIFIER, Loss::SoftmaxCrossEntropy);
    let (inputs, classes) = clusters(seed);
    let mut memory = vec![0.0_f32; net.words(batch)];
    let mut learner = Learner::new(net, config, seed, batch, &mut memory).unwrap();
    let all = Targets::Classes(&classes);
    let before = learner.evaluate(&inputs, all).unwrap().loss;
    for _ in 0..passes {
        for start in (0..EXAMPLES).step_by(batch) {
            let end = (start + batch).min(EXAMPLES);
            let step =
                learner.step(&inputs[64 * start..64 * end], Targets::Classes(&classes[start..end])).unwrap();
            assert_eq!(step.outcome, Outcome::Applied, "seed {seed}, {config:?}");
        }
    }
    let after = learner.evaluate(&inputs, all).unwrap();
    (before, after.loss, after.correct.unwrap() as f64 / EXAMPLES as f64)
}

fn check_learns(name: &str, config: Config<f32>, batch: usize, passes: usize, bound: f32) {
    for seed in 0..3 {
        let (before, after, correct) = train(config, batch, passes, seed);
        println!("{name}, batch {batch}, seed {seed}: {before} -> {after}, {correct} right");
        assert!(before >= 2.0, "{name}, seed {seed}: {before} is no start for ten classes");
        assert!(after <= bound && correct >= 0.95, "{name}, batch {batch}, seed {seed}: {after}, {correct}");
    }
}

#[test]
fn every_method_learns_in_batches() {
    check_learns("default", Config::default(), 32, 10, 0.05);
    check_learns("paper", Config::paper(0.02, 0.03, 5), 32, 10, 0.05);
    check_learns("paper, running", Config::paper_running(0.02, 0.03, 5, 0.95), 32, 10, 0.05);
    check_learns("K-FAC", Config::kfac(0.02, 0.03, 5), 32, 10, 0.05);
}

#[test]
fn every_method_learns_one_example_at_a_time() {
    check_learns("default", Config::default(), 1, 2, 0.1);
    // A single example says little about a curvature, so these need a longer memory than the paper's.
    let memory = Averaging::Memory(500.0);
    let patient = |config| Config { factors: memory, scalings: memory, ..config };
    check_learns("paper", patient(Config::paper(0.002, 0.03, 20)), 1, 2, 0.1);
    check_learns("paper, running", patient(Config::paper_running(0.002, 0.03, 20, 0.99)), 1, 2, 0.1);
    check_learns("K-FAC", patient(Config::kfac(0.002, 0.03, 20)), 1, 2, 0.1);
}

const LINEAR: [Dense; 1] = ekfac::layers![4 => 3 Identity];

/// A linear regression: for squared error and the exact Fisher the model of the loss is exact, but for the Kronecker form.
fn regress(
    config: Config<f64>,
    steps: usize,
    mut see: impl FnMut(usize, &ekfac::Step<f64>, &Learner<'_, f64>),
) {
    let net = Net::new(&LINEAR, Loss::SquaredError);
    let mut memory = vec![0.0; net.words(30)];
    let mut learner = Learner::new(net, config, 3, 30, &mut memory).unwrap();
    let mut draws = Draws::new(3);
    let (inputs, targets) = (draws.list(4 * 30), draws.list(3 * 30));
    for index in 0..steps {
        let step = learner.step(&inputs, Targets::Values(&targets)).unwrap();
        see(index, &step, &learner);
    }
}

fn adapting(learning_rate: f64) -> Config<f64> {
    let adaptation = Some(Adaptation { interval: 2, factor: 1.25, ..Adaptation::default() });
    Config { adaptation, fisher: Fisher::Exact, ..Config::paper(learning_rate, 0.5, 1) }
}

#[test]
fn a_good_model_lowers_the_damping() {
    let mut last = 1.0;
    regress(adapting(1.0), 12, |index, step, learner| {
        let multiplier = learner.progress().damping_multiplier;
        if index % 2 == 0 {
            assert_eq!((step.reduction_ratio, multiplier), (None, last), "step {index} is not due");
        } else {
            // The Fisher is A x I, so S is exact; the damping only makes the model cautious: 1 <= ratio <= 2.
            let ratio = step.reduction_ratio.unwrap();
            assert!((1.0..=2.0).contains(&ratio), "step {index}: {ratio}");
            assert!((multiplier * 1.25 * 1.25 - last).abs() <= 1e-12, "step {index}: {last} to {multiplier}");
        }
        last = multiplier;
    });
    assert!(last < 0.1);
}

#[test]
fn the_ratio_is_one_where_the_model_is_exact() {
    let config = Config { damping: Damping::Absolute(1e-12), ..adapting(0.5) };
    let mut seen = 0;
    regress(config, 4, |_, step, _| {
        if let Some(ratio) = step.reduction_ratio {
            assert!((ratio - 1.0).abs() <= 1e-9, "{ratio}");
            seen += 1;
        }
    });
    assert_eq!(seen, 2);
}

#[test]
fn a_reckless_step_raises_the_damping_up_to_its_bound() {
    let mut last = 1.0;
    regress(adapting(40.0), 60, |index, step, learner| {
        let multiplier = learner.progress().damping_multiplier;
        if step.reduction_ratio.is_some() {
            // 40 times too long a step: the model foretells an increase, whatever the damping.
            assert!(multiplier > last || multiplier == 1e4, "step {index}: {last} to {multiplier}");
        }
        last = multiplier;
    });
    assert!(last > 1e3, "{last}");
    let rule = Adaptation { interval: 3, factor: 2.0, bounds: (0.125, 16.0), ..Adaptation::default() };
    for (change, predicted, start, expected) in [
        (-1.0, -1.0, 1.0, 0.125),
        (-0.5, -1.0, 1.0, 1.0),
        (-0.1, -1.0, 1.0, 8.0),
        (-1.0, -1.0, 0.25, 0.125),
        (1.0, -1.0, 4.0, 16.0),
        (f64::NAN, -1.0, 1.0, 8.0),
        (f64::INFINITY, -1.0, 1.0, 8.0),
        (-1.0, f64::NAN, 1.0, 8.0),
        // Not a decrease that was foretold: no reason for trust, however the loss went.
        (-1.0, 0.0, 1.0, 8.0),
        (1.0, 1.0, 1.0, 8.0),
    ] {
        assert_eq!(rule.next(start, change, predicted), expected, "{change} for {predicted} from {start}");
    }
}

#[test]
fn weight_decay_shrinks_weights_but_not_biases() {
    const LAYERS: [Dense; 2] = [
        Dense::new(4, 5, ekfac::Activation::Tanh),
        Dense::with_shape(Shape::new(5, 3).without_bias(), ekfac::Activation::Identity),
    ];
    let net = Net::new(&LAYERS, Loss::SquaredError);
    for capacity in [1, 2] {
        let config = Config { weight_decay: 0.5, ..Config::paper(0.25, 0.1, 1) };
        let mut memory = vec![0.0; net.words(capacity)];
        let mut learner = Learner::new(net, config, 7, capacity, &mut memory).unwrap();
        let mut draws = Draws::new(7);
        learner
            .stored_weights(0)
            .unwrap()
            .as_mut_slice()
            .iter_mut()
            .for_each(|weight| *weight = draws.normal());
        let before = Network::of(&mut learner);
        // The targets are the outputs, so there is no gradient: only the decay is left.
        let input = draws.list(4);
        let target = learner.predict(&input).unwrap().to_vec();
        learner.step(&input, Targets::Values(&target)).unwrap();
        let after = Network::of(&mut learner);
        let keep = 1.0 - 0.25 * 0.5;
        let (after, before) = (after.layers, before.layers);
        let decayed = before[0].weights.columns(0, 4) * keep;
        assert!(relative_difference(&after[0].weights.columns(0, 4).into(), &decayed) <= 1e-14);
        let bias = |layer: &DMatrix<f64>| layer.columns(4, 1).into_owned();
        let difference = bias(&after[0].weights) - bias(&before[0].weights);
        assert!(difference.amax() <= 1e-14 * before[0].weights.amax());
        let rounded = relative_difference(&after[1].weights, &(&before[1].weights * keep));
        assert!(rounded <= 1e-14, "{rounded:e}");
    }
}

/// One step with a clip, beside the same step without; returns nu and checks that it is all that differs.
fn clipped(clip: Clip<f64>, expected_budget: impl Fn(f64) -> f64) -> f64 {
    let net = Net::new(&CLIPPED, Loss::SquaredError);
    let mut draws = Draws::new(11);
    let (inputs, targets) = (draws.matrix(4, 6), draws.matrix(2, 6));
    let run = |clip| {
        let config = Config { clip, ..Config::paper(0.5, 0.05, 1) };
        let mut memory = vec![0.0; net.words(6)];
        let mut learner = Learner::new(net, config, 11, 6, &mut memory).unwrap();
        let before = Network::of(&mut learner);
        let step = learner.step(inputs.as_slice(), Targets::Values(targets.as_slice())).unwrap();
        (before, step, Network::of(&mut learner))
    };
    let (before, free, free_after) = run(Clip::None);
    let (_, step, after) = run(clip);
    assert_eq!(free.shrink, 1.0);
    let trace = before.forward(&inputs);
    let gradients = before.backward(&trace, &before.output_gradients(&trace, &targets));
    // lr^2 K . D = lr G . (lr D), and lr D is what the free step took from the weights.
    let mut length = 0.0;
    for (index, start) in before.layers.iter().enumerate() {
        let whole = &start.weights - &free_after.layers[index].weights;
        let part = &start.weights - &after.layers[index].weights;
        length += 0.5 * mean_gradient(&trace.activations[index], &gradients[index]).dot(&whole);
        assert!(relative_difference(&part, &(whole * step.shrink)) <= 1e-12, "{clip:?}");
    }
    let budget = expected_budget(before.mean_loss(&inputs, &targets));
    let expected = (budget / length).sqrt().min(1.0);
    assert!((step.shrink - expected).abs() <= 1e-12, "{clip:?}: {} against {expected}", step.shrink);
    // The length that was taken, in the Fisher metric.
    assert!(step.shrink.powi(2) * length <= budget * (1.0 + 1e-12), "{clip:?}");
    step.shrink
}

const CLIPPED: [Dense; 2] = ekfac::layers![4 => 3 Tanh => 2 Identity];

#[test]
fn clips_bound_the_length_of_a_step() {
    assert!(clipped(Clip::Fixed(1e-4), |_| 1e-4) < 0.5);
    assert_eq!(clipped(Clip::Fixed(1e3), |_| 1e3), 1.0);
    assert!(clipped(Clip::PerExample(1e-4), |_| 6e-4) < 0.5);
    assert!(clipped(Clip::ShareOfLoss(1e-4), |loss| 6e-4 * loss) < 0.5);
}

#[test]
fn a_negative_loss_leaves_no_budget_but_does_no_harm() {
    const LAYERS: [Dense; 1] = ekfac::layers![2 => 1 Identity];
    let net = Net::new(&LAYERS, Loss::BinaryCrossEntropy);
    let config = Config { clip: Clip::ShareOfLoss(1e-3), ..Config::paper(0.1, 0.1, 1) };
    let mut memory = vec![0.0_f32; net.words(1)];
    let mut learner = Learner::new(net, config, 1, 1, &mut memory).unwrap();
    learner.stored_weights(0).unwrap().as_mut_slice().fill(3.0);
    // A target beyond 1 makes the cross-entropy negative: ln(1 + e^h) - 4 h.
    let step = learner.step(&[1.0, 1.0], Targets::Values(&[4.0])).unwrap();
    assert!(step.loss < 0.0);
    assert!(learner.state().iter().all(|word| word.is_finite()), "{step:?}, {:?}", learner.state());
}

/// A layer of one weight, by hand: every matrix is a number and the basis is 1.
fn check_momentum(restart: bool, capacity: usize, budget: f64) {
    const LAYERS: [Dense; 1] =
        [Dense::with_shape(Shape::new(1, 1).without_bias(), ekfac::Activation::Identity)];
    let net = Net::new(&LAYERS, Loss::SquaredError);
    let (rate, momentum, damping, decay) = (0.7, 0.8, 0.3, 0.6);
    let config = Config {
        momentum,
        restart,
        clip: Clip::Fixed(budget),
        scalings: Averaging::Decay(decay),
        refresh: Refresh::every(2).carrying(Carry::Transport),
        estimator: ekfac::Estimator::PerExampleRunning,
        ..Config::paper(rate, damping, 1)
    };
    let mut memory = vec![0.0; net.words(capacity)];
    let mut learner = Learner::new(net, config, 1, capacity, &mut memory).unwrap();
    learner.stored_weights(0).unwrap().as_mut_slice()[0] = 2.0;
    let (mut weight, mut velocity, mut moments, mut share) = (2.0, 0.0, 0.0, 0.0);
    let (mut opposed, mut shortened) = (0, 0);
    for step in 0..30 {
        // The target jumps to and fro, so that the gradient now and then opposes the velocity.
        let (input, target) = (1.0 + 0.1 * f64::from(step % 3), if step % 7 < 4 { -1.0 } else { 3.0 });
        learner.step(&[input], Targets::Values(&[target])).unwrap();
        let gradient = (weight * input - target) * input;
        moments = decay * moments + (1.0 - decay) * gradient * gradient;
        share = decay * share + (1.0 - decay);
        let direction = gradient / (moments / share + damping);
        let against = gradient * velocity < 0.0;
        opposed += usize::from(against);
        // The clip shortens the new direction, not the velocity that is there already.
        let shrink = (budget / (rate * rate * gradient * direction)).sqrt().min(1.0);
        shortened += usize::from(shrink < 1.0);
        // In one dimension the cosine is -1, and the brake stops the velocity altogether.
        let kept = if restart && against { 0.0 } else { momentum * velocity };
        velocity = kept + shrink * direction;
        weight -= rate * velocity;
        let found = weights(&mut learner, 0)[(0, 0)];
        assert!(
            (found - weight).abs() <= 1e-13 * weight.abs().max(1.0),
            "step {step}: {found} against {weight}"
        );
    }
    assert!(opposed > 3, "the velocity was opposed {opposed} times only");
    assert_eq!(shortened > 3, budget < 1.0, "{shortened} steps were shortened");
}

#[test]
fn momentum_is_what_a_hand_computes() {
    for capacity in [1, 4] {
        for budget in [0.05, 1e9] {
            check_momentum(false, capacity, budget);
            check_momentum(true, capacity, budget);
        }
    }
}

#[test]
fn a_long_run_at_the_lowest_damping_stays_finite() {
    for damping in [Damping::Absolute(1e-30), Damping::RelativeToMean(1e-30)] {
        // All examples measured: a direction that S has not seen has no scale but the damping.
        let config = Config { damping, statistics_share: 1.0, ..Config::default() };
        let net = Net::new(&LINEAR, Loss::SquaredError);
        let mut memory = vec![0.0_f32; net.words(2)];
        let mut learner = Learner::new(net, config, 3, 2, &mut memory).unwrap();
        let mut draws = Draws::new(3);
        let mut list = |length| draws.list(length).into_iter().map(|value| value as f32).collect::<Vec<_>>();
        let (inputs, targets) = (list(4 * 20), list(3 * 20));
        for step in 0..100_000 {
            let start = step % 10 * 2;
            let (inputs, targets) = (&inputs[4 * start..4 * start + 8], &targets[3 * start..3 * start + 6]);
            learner.step(inputs, Targets::Values(targets)).unwrap();
        }
        assert!(learner.state().iter().all(|word| word.is_finite()), "{damping:?}");
        assert_eq!(learner.progress().skipped, 0, "{damping:?}");
        let layer = learner.layer(0).unwrap();
        for factor in [layer.input_factor(), layer.output_factor()] {
            assert!(factor.orthogonality() <= 1e-4, "{damping:?}: {}", factor.orthogonality());
        }
    }
}

#[test]
fn factors_short_of_full_rank_do_not_end_a_run() {
    // Batches that fill up 150 of 200 directions: the default's loose threshold once ran into the cap on sweeps four times
    // in a row here, and the run ended in an error.
    const LAYERS: [Dense; 2] = ekfac::layers![200 => 16 Tanh => 4 Identity];
    let net = Net::new(&LAYERS, Loss::SoftmaxCrossEntropy);
    for seed in 0..4 {
        let mut draws = Draws::new(seed);
        let mix = draws.matrix(200, 150) / 150.0_f64.sqrt();
        let mut memory = vec![0.0_f32; net.words(16)];
        let mut learner = Learner::new(net, Config::default(), seed, 16, &mut memory).unwrap();
        for step in 0..20 {
            let inputs = (&mix * draws.matrix(150, 16)).map(|value| value as f32);
            let step = (step, learner.step(inputs.as_slice(), Targets::Classes(&draws.classes(16, 4))));
            assert!(step.1.is_ok_and(|step| step.outcome == Outcome::Applied), "seed {seed}: {step:?}");
        }
        let layer = learner.layer(0).unwrap();
        assert!(layer.input_factor().orthogonality() <= 1e-4, "{}", layer.input_factor().orthogonality());
    }
}

#[test]
fn poisoned_batches_change_nothing_in_a_long_run() {
    const STEPS: u64 = 100_000;
    let net = Net::new(&CLIPPED, Loss::SquaredError);
    let mut memories = [vec![0.0_f32; net.words(1)], vec![0.0_f32; net.words(1)]];
    let [mut clean, mut poisoned] =
        memories.each_mut().map(|memory| Learner::new(net, Config::default(), 5, 1, memory).unwrap());
    let mut draws = Draws::new(5);
    let mut bad = 0;
    for _ in 0..STEPS {
        let mut input: Vec<f32> = draws.list(4).into_iter().map(|value| value as f32).collect();
        let target = [input[0] * input[1], input[2].sin()];
        clean.step(&input, Targets::Values(&target)).unwrap();
        poisoned.step(&input, Targets::Values(&target)).unwrap();
        if draws.uniform() < 0.01 {
            input[draws.index(4)] = [f32::NAN, f32::INFINITY, 3e38][draws.index(3)];
            poisoned.step(&input, Targets::Values(&target)).unwrap();
            bad += 1;
        }
    }
    assert!(bad > 900);
    assert_eq!((clean.progress().skipped, poisoned.progress().skipped), (0, bad));
    assert_eq!((clean.progress().steps, poisoned.progress().steps), (STEPS, STEPS));
    assert_eq!(bits(clean.state()), bits(poisoned.state()));
}

#[test]
fn a_bench_and_a_learner_agree() {
    // The preconditioner is the learner's corridor with one layer: same statistics, same direction.
    let net = Net::new(&LINEAR, Loss::SquaredError);
    let config = Config { refresh: Refresh::every(2), ..Config::paper(0.5, 0.05, 1) };
    let mut memory = vec![0.0_f64; net.words(5)];
    let mut learner = Learner::new(net, config, 2, 5, &mut memory).unwrap();
    let mut bench = Bench::<f64>::new(*LINEAR[0].shape(), config);
    let mut draws = Draws::new(2);
    for step in 0..10 {
        let (inputs, targets) = (draws.matrix(4, 5), draws.matrix(3, 5));
        let before = Network::of(&mut learner);
        let trace = before.forward(&inputs);
        let gradients = before.output_gradients(&trace, &targets);
        bench.observe(&inputs, &gradients);
        let expected: DMatrix<f64> =
            bench.precondition(&mean_gradient(&trace.activations[0], &gradients)) * 0.5;
        learner.step(inputs.as_slice(), Targets::Values(targets.as_slice())).unwrap();
        let taken = &before.layers[0].weights - &Network::of(&mut learner).layers[0].weights;
        let error = relative_difference(&taken, &expected);
        assert!(error <= 1e-10, "step {step}: {error:e}");
    }
}

/// Mutants: the outputs held back as well, whose units are those of the targets; a hidden layer not held back.
#[test]
fn the_reach_holds_back_every_hidden_layer_and_no_other() {
    const LAYERS: [Dense; 3] = ekfac::layers![4 => 5 Tanh => 3 Tanh => 2 Identity];
    let step = |layers: &[Dense], reach: Option<f64>| {
        let net = Net::new(layers, Loss::SquaredError);
        let mut draws = Draws::new(21);
        let mut memory = vec![0.0; net.words(6)];
        let config = Config { reach, clip: Clip::None, ..Config::default() };
        let mut learner = Learner::new(net, config, 21, 6, &mut memory).unwrap();
        let mut held = Vec::new();
        for _ in 0..5 {
            let (inputs, targets) = (draws.list(4 * 6), draws.list(net.outputs() * 6));
            held.push(learner.step(&inputs, Targets::Values(&targets)).unwrap().held);
        }
        let last = learner.stored_weights(layers.len() - 1).unwrap().as_mut_slice().to_vec();
        (held, last)
    };
    assert_eq!(step(&LAYERS, Some(1e-9)).0, [2; 5]);
    assert_eq!(step(&LAYERS, Some(1e9)).0, [0; 5]);
    // Alone, the last layer is what it is without a reach.
    assert_eq!(step(&LAYERS[..1], Some(1e-9)), step(&LAYERS[..1], None));
}

/// Mutants: a mean of the losses that begins at zero, or forgets by another weight.
#[test]
fn the_mean_loss_is_debiased() {
    const LAYERS: [Dense; 1] = ekfac::layers![3 => 2 Identity];
    let net = Net::new(&LAYERS, Loss::SquaredError);
    let config = Config { scalings: Averaging::Decay(0.75), ..Config::default() };
    let mut memory = vec![0.0; net.words(4)];
    let mut learner = Learner::new(net, config, 22, 4, &mut memory).unwrap();
    let mut draws = Draws::new(22);
    let (mut sum, mut weight) = (0.0, 0.0);
    for _ in 0..6 {
        let (inputs, targets) = (draws.list(12), draws.list(8));
        let loss = learner.step(&inputs, Targets::Values(&targets)).unwrap().loss;
        (sum, weight) = (0.75 * sum + loss, 0.75 * weight + 1.0);
        let found = learner.progress().mean_loss;
        assert!((found - sum / weight).abs() <= 1e-14 * found, "{found} for {}", sum / weight);
    }
}
