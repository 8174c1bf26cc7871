//! What a build leaves out is refused by name, and what it keeps computes the same bits. To be run with each of the features, and
//! without.

#[cfg(any(feature = "batches", not(feature = "published")))]
use ekfac::Refresh;
#[cfg(not(feature = "batches"))]
use ekfac::snapshot;
#[cfg(not(feature = "published"))]
use ekfac::{Adaptation, Annealing, Estimator, Fisher};
use ekfac::{
    Config, Coordinates, Dense, Error, LayerMut, Learner, Loss, MatrixRef, Net, Preconditioner, Progress,
    Shape, Targets, layers,
};

const LAYERS: [Dense; 2] = layers![3 => 2 Tanh => 2 Identity];
const NET: Net<'static> = Net::new(&LAYERS, Loss::SoftmaxCrossEntropy);

#[cfg(not(feature = "published"))]
/// A mutant that only ignores the setting would train by another method than was asked for.
#[test]
fn settings_that_are_not_built_are_refused_before_any_write() {
    let standard = Config::<f32>::default();
    let list = [
        ("fisher", Config { fisher: Fisher::Exact, ..standard }),
        ("estimator", Config { estimator: Estimator::PerExampleFresh, ..standard }),
        ("estimator", Config { estimator: Estimator::Kronecker, ..standard }),
        ("refresh", Config { refresh: Refresh::every(5), ..standard }),
        ("annealing", Config { annealing: Annealing::Stream, ..standard }),
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

#[cfg(not(feature = "batches"))]
/// A mutant that takes a batch for its first example, or weights in parameter coordinates for others, learns something else.
#[test]
fn batches_and_parameter_coordinates_that_are_not_built_are_refused() -> Result<(), Error> {
    let not_built = |argument| Error::NotBuilt { argument, feature: "batches" };
    let (standard, mut memory) = (Config::<f32>::default(), [0.0; NET.words(2)]);
    assert_eq!(Learner::new(NET, standard, 7, 2, &mut memory).err(), Some(not_built("capacity")));
    assert!(memory.iter().all(|word| *word == 0.0));

    let mut learner = Learner::new(NET, standard, 7, 1, &mut memory)?;
    assert_eq!(learner.set_coordinates(1, Coordinates::Parameter), Err(not_built("coordinates")));
    assert!(matches!(
        learner.step(&[0.5; 6], Targets::Classes(&[0, 1])),
        Err(Error::Length { argument: "inputs", .. })
    ));
    let progress = *learner.progress();
    let mut bytes = [0; snapshot::length::<f32>(&NET)];
    assert_eq!(learner.save_into(&mut bytes), Ok(bytes.len()));

    // The mark of the first layer, behind its weights.
    let [first, _] = LAYERS;
    memory.iter_mut().skip(first.shape().parameters() + 4).take(1).for_each(|mark| *mark = 0.0);
    let state = memory;
    assert_eq!(
        Learner::resume(NET, standard, progress, 1, &mut memory).err(),
        Some(not_built("coordinates"))
    );
    assert_eq!(memory, state);

    // A new learner does not mind what was there.
    let mut learner = Learner::new(NET, standard, 7, 1, &mut memory)?;
    assert_eq!(learner.layer(0)?.coordinates(), Coordinates::Eigenbasis);

    let shape = *first.shape();
    let (mut state, mut progress) = (vec![0.0_f32; shape.words()], Progress::new(7));
    let mut workspace = vec![0.0; Preconditioner::<f32>::workspace_words(&shape, 2)];
    let layer = LayerMut::new(shape, &mut state)?;
    let mut layer = Preconditioner::new(layer, &standard, &mut progress, &mut workspace);
    let (activations, gradients) = (MatrixRef::new(&[0.5; 6], 3, 2)?, MatrixRef::new(&[0.5; 4], 2, 2)?);
    assert_eq!(layer.observe(activations, gradients), Err(not_built("activations")));
    assert_eq!(progress, Progress::new(7));
    Ok(())
}

/// A learner over memory that was never one starts with weights of zero, which live where the build has them.
#[test]
fn resumed_over_zeros_a_learner_steps() -> Result<(), Error> {
    let mut memory = [0.0_f32; NET.words(1)];
    let mut learner = Learner::resume(NET, Config::default(), Progress::new(7), 1, &mut memory)?;
    let expected = if cfg!(feature = "batches") { Coordinates::Parameter } else { Coordinates::Eigenbasis };
    assert_eq!(learner.layer(0)?.coordinates(), expected);
    assert!(learner.step(&[0.5, -1.0, 0.2], Targets::Classes(&[1]))?.loss > 0.6);
    Ok(())
}

/// Of the state after 200 steps.
const DIGEST: u64 = 3_932_645_548_743_162_368;

/// A mutant that leaves out a part of the default setting, with a feature or without, ends in other bits.
#[test]
fn the_default_learns_to_the_same_bits() -> Result<(), Error> {
    let mut memory = [0.0_f32; NET.words(1)];
    let mut learner = Learner::new(NET, Config::default(), 7, 1, &mut memory)?;
    let mut losses = [0.0; 200];
    for (index, loss) in losses.iter_mut().enumerate() {
        let input = [0.5, -1.0, 0.2].map(|x: f32| if index % 2 == 0 { x } else { -0.7 * x });
        *loss = learner.step(&input, Targets::Classes(&[u32::from(index % 2 == 0)]))?.loss;
    }
    let [first, .., last] = losses;
    assert!(last < 0.5 * first, "{first} {last}");
    assert_eq!(digest(learner.state()), DIGEST);
    Ok(())
}

/// Of the state after 50 examples.
const NARROW_DIGEST: u64 = 15_047_141_515_591_307_815;

/// A mutant whose product or average of a single column is another one than a batch's ends in other bits, and so does one that
/// forgets that a layer on its own has its examples projected by itself.
#[test]
fn a_layer_on_its_own_has_the_same_bits_one_example_at_a_time() -> Result<(), Error> {
    let shape = Shape::new(5, 3);
    let mut state = vec![0.0_f32; shape.words()];
    let mut workspace = vec![0.0; Preconditioner::<f32>::workspace_words(&shape, 1)];
    let (config, mut progress, mut seed) = (Config::default(), Progress::new(7), 9_u32);
    for _ in 0..50 {
        let example: Vec<f32> = (0..8)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / 16_777_216.0 - 0.3
            })
            .collect();
        let (activations, gradients) = example.split_at(5);
        let layer = LayerMut::new(shape, &mut state)?;
        let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
        layer.observe(MatrixRef::new(activations, 5, 1)?, MatrixRef::new(gradients, 3, 1)?)?;
    }
    assert_eq!((digest(&state), progress.operations), (NARROW_DIGEST, 40_662));
    Ok(())
}

/// Of the state of a wide layer after 60 batches in which a factor turns as often as it may, and in which few pairs turn.
#[cfg(feature = "batches")]
const WIDE_DIGESTS: [u64; 2] = [10008115730424425180, 4996455213761186313];

/// With the feature `large` the turns of a factor of 141 lines wait, in a list that is full twice for each batch: turns that are
/// lost when it is, or when the walk is over, or taken in another order end in other bits, and so does a basis whose care is not
/// taken with them. Where few pairs turn, the bound on the pairs looked at ends the walk within a row.
#[cfg(feature = "batches")]
#[test]
fn a_wide_layer_has_the_same_bits_whether_its_turns_wait_or_not() -> Result<(), Error> {
    let shape = Shape::new(140, 2);
    for ((threshold, rotations), expected) in
        [(1e-4, 350..400), (0.25, 20..200)].into_iter().zip(WIDE_DIGESTS)
    {
        let mut state = vec![0.0_f32; shape.words()];
        let mut workspace = vec![0.0; Preconditioner::<f32>::workspace_words(&shape, 3)];
        let refresh = Refresh::Rotations { per_step: 400, per_line: 0.0, threshold };
        let (config, mut progress) = (Config { refresh, ..Config::default() }, Progress::new(7));
        let (mut seed, mut value) = (9_u32, 0.0);
        for _ in 0..60 {
            let examples: Vec<f32> = (0..3 * 142)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Neighbours correlate, so that there is something to turn.
                    value = 0.9 * value + (seed >> 8) as f32 / 16_777_216.0 - 0.5;
                    value
                })
                .collect();
            let (activations, gradients) = examples.split_at(3 * 140);
            let layer = LayerMut::new(shape, &mut state)?;
            let mut layer = Preconditioner::new(layer, &config, &mut progress, &mut workspace);
            layer.observe(MatrixRef::new(activations, 140, 3)?, MatrixRef::new(gradients, 2, 3)?)?;
        }
        assert!(rotations.contains(&(progress.rotations / 60)), "{}", progress.rotations);
        assert_eq!(digest(&state), expected);
    }
    Ok(())
}

/// Of weights, states and the mean length after 30 steps.
#[cfg(feature = "batches")]
const SURVEYED_DIGEST: u64 = 1220448239158966293;

/// With the feature `large` the sums of a survey are noted column by column: added up in another order they are other bits, and so
/// are the mean length and the typical reach that are made of them.
#[cfg(feature = "batches")]
#[test]
fn a_learner_has_the_same_bits_whether_its_surveys_are_noted_or_not() -> Result<(), Error> {
    const LAYERS: [Dense; 2] = layers![30 => 20 Tanh => 6 Identity];
    const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
    let mut memory = vec![0.0_f32; NET.words(8)];
    let mut learner = Learner::new(NET, Config::default(), 5, 8, &mut memory)?;
    let mut seed = 11_u32;
    for _ in 0..30 {
        let examples: Vec<f32> = (0..8 * 36)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / 16_777_216.0 - 0.5
            })
            .collect();
        let (inputs, targets) = examples.split_at(8 * 30);
        learner.step(inputs, Targets::Values(targets))?;
    }
    let mut words = learner.state().to_vec();
    words.push(learner.progress().mean_length);
    assert_eq!(digest(&words), SURVEYED_DIGEST);
    Ok(())
}

fn digest(words: &[f32]) -> u64 {
    words
        .iter()
        .fold(0_u64, |digest, word| (digest ^ u64::from(word.to_bits())).wrapping_mul(0x0000_0100_0000_01B3))
}
