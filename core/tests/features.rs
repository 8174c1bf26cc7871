//! What a build leaves out is refused by name. Run without the default features; with them there is nothing to refuse.
#![cfg(not(feature = "published"))]

use ekfac::{
    Adaptation, Config, Dense, Error, Estimator, Fisher, Learner, Loss, Net, Refresh, Targets,
    damping::Damping, layers,
};

const LAYERS: [Dense; 2] = layers![3 => 2 Tanh => 2 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SoftmaxCrossEntropy);

/// A mutant that only ignores the setting would train by another method than was asked for.
#[test]
fn settings_that_are_not_built_are_refused_before_any_write() {
    let standard = Config::<f32>::default();
    let list = [
        ("fisher", Config { fisher: Fisher::Exact, ..standard }),
        ("estimator", Config { estimator: Estimator::PerExampleFresh, ..standard }),
        ("estimator", Config { estimator: Estimator::Kronecker, ..standard }),
        ("refresh", Config { refresh: Refresh::every(5), ..standard }),
        ("adaptation", Config { adaptation: Some(Adaptation::default()), ..standard }),
        ("fisher", Config { fisher: Fisher::Exact, ..Config::paper(0.1, 0.1, 1) }),
        ("estimator", Config::paper_running(0.1, 0.1, 1, 0.9)),
    ];
    let mut memory = [0.0; NET.words(1)];
    for (argument, config) in list {
        let expected = Error::NotBuilt { argument, feature: "published" };
        assert_eq!(config.check(), Err(expected));
        assert_eq!(Learner::new(NET, config, 7, 1, &mut memory).err(), Some(expected));
        assert!(memory.iter().all(|word| *word == 0.0));
    }
}

#[test]
fn the_default_learns_without() -> Result<(), Error> {
    let mut memory = [0.0_f32; NET.words(1)];
    let config = Config { damping: Damping::Absolute(1e-3), ..Config::default() };
    let mut learner = Learner::new(NET, config, 7, 1, &mut memory)?;
    let mut losses = [0.0; 200];
    for loss in &mut losses {
        *loss = learner.step(&[0.5, -1.0, 0.2], Targets::Classes(&[1]))?.loss;
    }
    let [first, .., last] = losses;
    assert!(last < 0.5 * first, "{first} {last}");
    Ok(())
}
