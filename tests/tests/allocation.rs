//! No allocation: a counting global allocator watches thousands of steps.
//!
//! Mutants that these tests catch: a `Vec`, a `Box` or a formatted string anywhere in core. A control allocates once and
//! must be seen.

use allocation_counter::measure;
use ekfac::{
    Adaptation, Carry, Config, Dense, Estimator, Fisher, LayerMut, Learner, Loss, MatrixMut, MatrixRef, Net,
    Outcome, Preconditioner, Progress, Refresh, Shape, Targets, jacobi,
};
use ekfac_tests::random::Draws;

const LAYERS: [Dense; 3] = ekfac::layers![8 => 6 Tanh => 4 Gelu => 3 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SoftmaxCrossEntropy);
const CAPACITY: usize = 8;

fn single(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

#[test]
fn the_counter_sees_an_allocation() {
    let seen = measure(|| drop(std::hint::black_box(Box::new(1_u8))));
    assert_eq!(seen.count_total, 1);
}

fn check_learner(config: Config<f32>, batch: usize, steps: usize) {
    let mut draws = Draws::new(2);
    let (inputs, classes) = (single(draws.list(8 * 100)), draws.classes(100, 3));
    let mut poisoned = inputs[..8 * batch].to_vec();
    poisoned[3] = f32::NAN;
    let mut memory = vec![0.0_f32; NET.words(CAPACITY)];
    let mut applied = 0;
    let seen = measure(|| {
        let mut learner = Learner::new(NET, config, 1, CAPACITY, &mut memory).expect("a good network");
        for step in 0..steps {
            let start = step * batch % (100 - batch);
            let inputs = &inputs[8 * start..8 * (start + batch)];
            let targets = Targets::Classes(&classes[start..start + batch]);
            let step = learner.step(inputs, targets).expect("a good batch");
            applied += usize::from(!matches!(step.outcome, Outcome::Skipped(_)));
            if learner.progress().steps % 50 == 0 {
                learner.step(&poisoned, targets).expect("a well-formed batch");
                learner.step(&inputs[1..], targets).expect_err("a short batch");
                learner.predict(&inputs[..8]).expect("an input");
            }
        }
        learner.evaluate(&inputs, Targets::Classes(&classes)).expect("examples");
        learner.layer(0).expect("a layer").input_factor().orthogonality();
        learner.set_config(config).expect("good settings");
    });
    assert_eq!((seen.count_total, seen.bytes_total), (0, 0), "{config:?}, batch {batch}");
    assert_eq!(applied, steps, "{config:?}, batch {batch}");
}

#[test]
fn ten_thousand_steps_of_a_learner_allocate_nothing() {
    let adaptation = Some(Adaptation::default());
    for batch in [1, 8] {
        check_learner(Config { adaptation, ..Config::default() }, batch, 10_000);
    }
}

#[test]
fn no_setting_allocates() {
    let plain =
        Config { refresh: Refresh::every(3), adaptation: Some(Adaptation::default()), ..Config::default() };
    for fisher in [Fisher::Empirical, Fisher::Sampled, Fisher::Exact] {
        for estimator in
            [Estimator::PerExampleFresh, Estimator::PerExampleRunning, Estimator::MeanGradientRunning]
        {
            for carry in [Carry::Transport, Carry::Rebuild, Carry::Reset] {
                let refresh = plain.refresh.carrying(carry);
                check_learner(Config { fisher, estimator, refresh, ..plain }, 5, 100);
            }
        }
    }
    check_learner(Config::kfac(0.01, 0.1, 2), 5, 100);
}

#[test]
fn the_preconditioner_and_the_eigensolver_allocate_nothing() {
    let shape = Shape::new(9, 5);
    let mut draws = Draws::new(3);
    let (a, g, gradient) = (single(draws.list(9 * 6)), single(draws.list(5 * 6)), single(draws.list(50)));
    let matrix = single(draws.list(81));
    let (mut state, mut out) = (vec![0.0_f32; shape.words()], vec![0.0_f32; 50]);
    let mut workspace = vec![0.0_f32; Preconditioner::<f32>::workspace_words(&shape, 6)];
    let (mut packed, mut basis) = (vec![0.0_f32; 45], vec![0.0_f32; 81]);
    let (config, mut progress) = (Config::default(), Progress::new(0));
    let seen = measure(|| {
        let view = |values, rows, columns| MatrixRef::new(values, rows, columns).expect("a matrix");
        let layer = LayerMut::new(shape, &mut state).expect("the shape's words");
        let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
        for _ in 0..100 {
            layer.observe(view(&a, 9, 6), view(&g, 5, 6)).expect("a batch");
            let into = MatrixMut::new(&mut out, 5, 10).expect("a matrix");
            layer.precondition(view(&gradient, 5, 10), into).expect("a gradient");
        }
        jacobi::eigen(view(&matrix, 9, 9), &mut packed, &mut basis, jacobi::Limits::default())
            .expect("finite");
    });
    assert_eq!((seen.count_total, seen.bytes_total), (0, 0));
}
