//! Wrong calls of what lives on a device are refused as core refuses them, before anything is written; and its adaptation is core's.
//!
//! Mutants that these tests catch: a check left out, so that a slice panics or a state changes; an adaptation that is not due, or
//! takes another loss; one that believes a device's NaN.

use ekfac::{
    Activation::{Identity, Tanh},
    Adaptation, Config, Dense, Error, Loss, Progress, Shape, Targets,
};
use ekfac_std::{
    Network,
    offload::{DeviceNet, DevicePreconditioner, Fault, Offloaded, Patience},
};
use ekfac_tests::{
    faulty::{Faulty, Trouble},
    plain::Plain,
    random::Draws,
};

const BATCH: usize = 4;
const LOSS: Loss = Loss::SoftmaxCrossEntropy;
const LAYERS: [Dense; 2] = ekfac::layers![6 => 5 Tanh => 3 Identity];

fn fresh(config: Config<f32>) -> Network<f32> {
    Network::new(LAYERS.to_vec(), LOSS, config, 3, BATCH).unwrap()
}

fn on_plain(network: &Network<f32>) -> DeviceNet<Plain> {
    DeviceNet::new(Plain, &LAYERS, LOSS, BATCH, network.state()).unwrap()
}

fn state(device: &mut DeviceNet<Plain>, words: usize) -> Vec<f32> {
    let mut state = vec![0.0; words];
    device.save(&mut state).unwrap();
    state
}

fn batch(draws: &mut Draws) -> (Vec<f32>, Vec<u32>) {
    ((0..6 * BATCH).map(|_| draws.normal() as f32).collect(), draws.classes(BATCH, 3))
}

/// The error of a wrong call.
fn call<T>(result: Result<T, Fault>) -> Error {
    match result {
        Err(Fault::Call(error)) => error,
        Err(fault) => panic!("{fault}"),
        Ok(_) => panic!("it went well"),
    }
}

#[test]
fn bad_networks_and_states_are_refused() {
    let network = fresh(Config::default());
    let words = network.state().len();
    let length = |found| Error::Length { argument: "state", expected: words, found };
    let new = |layers: &[Dense], capacity, state: &[f32]| {
        call(DeviceNet::new(Plain, layers, LOSS, capacity, state).map(drop))
    };
    for state in [&network.state()[1..], &[network.state(), &[0.0]].concat(), &[]] {
        assert_eq!(new(&LAYERS, BATCH, state), length(state.len()));
    }
    assert_eq!(new(&LAYERS, 0, network.state()), Error::Empty { argument: "capacity" });
    assert_eq!(new(&[], BATCH, &[]), Error::Empty { argument: "layers" });
    let apart = [Dense::new(6, 5, Tanh), Dense::new(4, 3, Identity)];
    assert!(matches!(new(&apart, BATCH, network.state()), Error::Length { argument: "layer inputs", .. }));
    let mut device = on_plain(&network);
    assert_eq!(call(device.load(&network.state()[1..])), length(words - 1));
    assert_eq!(call(device.save(&mut vec![0.0; words + 1])), length(words + 1));
    assert_eq!(state(&mut device, words), network.state());
}

#[test]
fn bad_steps_are_refused_as_core_refuses_them() {
    let mut network = fresh(Config::default());
    let (mut device, words) = (on_plain(&network), network.state().len());
    let before = state(&mut device, words);
    let (inputs, classes) = batch(&mut Draws::new(5));
    let (config, mut progress) = (Config::default(), Progress::new(3));
    let many = inputs.repeat(2);
    let wrong: [(&[f32], Targets<'_, f32>); 6] = [
        (&[], Targets::Classes(&classes)),
        (&inputs[1..], Targets::Classes(&classes)),
        (&inputs, Targets::Classes(&classes[1..])),
        (&inputs, Targets::Classes(&[0, 1, 2, 3])),
        (&inputs, Targets::Values(&inputs)),
        (&many, Targets::Classes(&[0; 2 * BATCH])),
    ];
    for (inputs, targets) in wrong {
        let expected = network.step(inputs, targets).unwrap_err();
        assert_eq!(device.step(&config, &mut progress, inputs, targets).unwrap(), Err(expected));
        assert_eq!(call(device.evaluate(inputs, targets)), expected);
        assert_eq!(call(device.descend(0.1, inputs, targets)), expected);
    }
    let adaptation = Adaptation::default();
    for adaptation in [
        Adaptation { interval: 0, ..adaptation },
        Adaptation { factor: 1.0, ..adaptation },
        Adaptation { high: f32::NAN, ..adaptation },
        Adaptation { bounds: (2.0, 3.0), ..adaptation },
    ] {
        let config = Config { adaptation: Some(adaptation), ..Config::default() };
        let expected = network.with(|learner| learner.set_config(config)).unwrap_err();
        let step = device.step(&config, &mut progress, &inputs, Targets::Classes(&classes)).unwrap();
        assert_eq!(step, Err(expected));
    }
    assert_eq!((progress, state(&mut device, words)), (Progress::new(3), before));
}

#[test]
fn bad_calls_of_a_single_layer_are_refused() {
    let (shape, config) = (Shape::new(3, 2), Config::<f32>::default());
    let new = |capacity, words: &mut [f32]| DevicePreconditioner::new(Plain, shape, capacity, words);
    assert!(matches!(call(new(4, &mut [0.0; 3]).map(drop)), Error::Length { argument: "words", .. }));
    let fresh = vec![0.0; shape.words()];
    assert_eq!(call(new(0, &mut fresh.clone()).map(drop)), Error::Empty { argument: "capacity" });
    let (mut device, mut progress) = (new(4, &mut fresh.clone()).unwrap(), Progress::new(0));
    for (activations, gradients) in [(6, 0), (5, 4), (6, 3), (15, 10)] {
        let outcome =
            device.observe(&config, &mut progress, &vec![1.0; activations], &vec![1.0; gradients]).unwrap();
        assert!(matches!(outcome, Err(Error::Length { .. })), "{activations} and {gradients}: {outcome:?}");
    }
    let bad = Config { learning_rate: f32::NAN, ..config };
    assert!(device.observe(&bad, &mut progress, &[1.0; 6], &[1.0; 4]).unwrap().is_err());
    assert_eq!(progress, Progress::new(0));
    device.observe(&config, &mut progress, &[1.0; 6], &[1.0; 4]).unwrap().unwrap();
    for (gradient, out) in [(7, 8), (8, 9), (0, 0)] {
        let error = call(device.precondition(&config, &progress, &vec![1.0; gradient], &mut vec![0.0; out]));
        assert!(matches!(error, Error::Length { expected: 8, .. }), "{error:?}");
    }
    call(device.precondition(&bad, &progress, &[1.0; 8], &mut [0.0; 8]));
    assert!(matches!(call(device.save(&mut [0.0; 3])), Error::Length { argument: "words", .. }));
    device.precondition(&config, &progress, &[1.0; 8], &mut [0.0; 8]).unwrap();
}

fn adapting(interval: u32) -> Config<f32> {
    let adaptation = Some(Adaptation { interval, ..Adaptation::default() });
    Config { adaptation, ..Config::kfac(0.3, 0.05, 1) }
}

#[test]
fn the_adaptation_is_cores() {
    let (config, mut progress) = (adapting(3), Progress::new(3));
    let mut network = fresh(config);
    let (mut device, mut draws) = (on_plain(&network), Draws::new(9));
    let mut adapted = 0;
    for step in 0..30 {
        let (inputs, classes) = batch(&mut draws);
        let targets = Targets::Classes(&classes);
        let expected = network.step(&inputs, targets).unwrap();
        let found = device.step(&config, &mut progress, &inputs, targets).unwrap().unwrap();
        match (expected.reduction_ratio, found.reduction_ratio) {
            (None, None) => {}
            (Some(expected), Some(found)) => {
                assert!((found - expected).abs() <= 1e-2 * expected.abs(), "{step}: {found} for {expected}");
                adapted += 1;
            }
            (expected, found) => panic!("{step}: {found:?} for {expected:?}"),
        }
        let (found, expected) = (progress.damping_multiplier, network.progress().damping_multiplier);
        assert!((found - expected).abs() <= 1e-5 * expected, "{step}: {found} for {expected}");
    }
    assert!(adapted == 10 && progress.damping_multiplier != 1.0, "{progress:?}");
}

/// Wherever a device begins to answer NaN, no step reports one, and the damping is not raised for it.
#[test]
fn an_adaptation_does_not_believe_a_devices_nan() {
    let network = fresh(adapting(1));
    let mut falls = 0;
    for call in (0..400).step_by(7) {
        let trouble = Some((call, Trouble::Poisons));
        let open = move || Ok(Faulty::new(Plain, trouble));
        let mut offloaded = Offloaded::new(&network, BATCH, Patience::default(), open).unwrap();
        let (mut host, mut draws) = (fresh(adapting(1)), Draws::new(9));
        for _ in 0..4 {
            let (inputs, classes) = batch(&mut draws);
            let step = offloaded.step(&inputs, Targets::Classes(&classes)).unwrap();
            assert!(step.reduction_ratio.is_some_and(f32::is_finite), "call {call}: {step:?}");
            host.step(&inputs, Targets::Classes(&classes)).unwrap();
        }
        if let Some(fall) = offloaded.fall_back() {
            assert_eq!(fall.fault, Fault::NotFinite);
            falls += 1;
        } else {
            let (found, expected) =
                (offloaded.progress().damping_multiplier, host.progress().damping_multiplier);
            assert!((found - expected).abs() <= 1e-5 * expected, "call {call}");
        }
    }
    assert!(falls > 20, "only {falls} falls");
}
