//! Snapshots: bit for bit, across machines and versions; and nothing that is damaged or foreign changes anything.

use ekfac::{
    Activation, Config, Coordinates, Dense, Learner, Loss, Net, Progress, Scalar, Shape, Targets,
    snapshot::{self, CHUNK, Refusal, Snapshot, SnapshotError},
};
use ekfac_std::{
    Network,
    checkpoint::{self, Extra, Stored},
    program,
};
use ekfac_tests::{random::Draws, renewed::renewed};
use std::{convert::Infallible, fs, path::PathBuf};

const LAYERS: [Dense; 2] = [
    Dense::new(3, 2, Activation::Tanh),
    Dense::with_shape(Shape::new(2, 2).without_bias(), Activation::Identity),
];
const NET: Net<'static> = Net::new(&LAYERS, Loss::Huber(1.5));

fn memory<T: Scalar>() -> Vec<T> {
    vec![T::ZERO; NET.words(1)]
}

fn steps<T: Scalar>(learner: &mut Learner<'_, T>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        // Exact in both precisions, so that the same bits come out everywhere.
        let value = |index: u32| T::from_f64(f64::from((number * 37 + index * 11) % 64) / 32.0 - 1.0);
        learner.step(&[0, 1, 2].map(value), Targets::Values(&[3, 4].map(value))).unwrap();
    }
}

/// The bytes of a run after so many steps.
fn saved<T: Scalar>(count: u32) -> Vec<u8> {
    let mut memory = memory::<T>();
    let mut learner = Learner::new(NET, Config::default(), 11, 1, &mut memory).unwrap();
    // One layer in each kind of coordinates.
    learner.set_coordinates(1, Coordinates::Parameter).unwrap();
    steps(&mut learner, 0..count);
    save(&learner)
}

fn save<T: Scalar>(learner: &Learner<'_, T>) -> Vec<u8> {
    let mut bytes = vec![0xAA; snapshot::length::<T>(learner.net()) + 3];
    let length = learner.save_into(&mut bytes).unwrap();
    assert!(bytes.split_off(length) == [0xAA; 3]);
    bytes
}

/// Sets the checksum right again.
fn seal(bytes: &mut [u8]) {
    let (contents, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc32fast::hash(contents).to_le_bytes());
}

/// Why it is refused; and the learner is as it was.
#[track_caller]
fn refusal<T: Scalar>(net: Net<'_>, bytes: &[u8]) -> Refusal {
    let mut memory = vec![T::ZERO; net.words(1)];
    let mut learner = Learner::new(net, Config::default(), 5, 1, &mut memory).unwrap();
    let before = save(&learner);
    let refusal = learner.restore_from(bytes).unwrap_err();
    assert!(save(&learner) == before, "a refused snapshot changed the learner");
    refusal
}

fn goes_on<T: Scalar>() {
    let mut uninterrupted = memory::<T>();
    let mut uninterrupted = Learner::new(NET, Config::default(), 11, 1, &mut uninterrupted).unwrap();
    for number in 0..200 {
        steps(&mut uninterrupted, number..number + 1);
        // Each step on a machine that knows nothing but the snapshot.
        if number == 0 {
            continue;
        }
        let mut other = vec![T::ONE; NET.words(1)];
        let mut resumed = Learner::new(NET, Config::default(), 0, 1, &mut other).unwrap();
        steps(&mut resumed, 7..9);
        resumed.restore_from(&save(&uninterrupted)).unwrap();
        let mut ahead = memory::<T>();
        let mut ahead = Learner::new(NET, Config::default(), 11, 1, &mut ahead).unwrap();
        steps(&mut ahead, 0..number + 4);
        steps(&mut resumed, number + 1..number + 4);
        assert!(save(&resumed) == save(&ahead), "after {number} steps");
    }
}

// Mutant: leave a counter or a mean out; keep the old progress.
#[test]
fn a_restored_run_goes_on_bit_for_bit() {
    goes_on::<f32>();
    goes_on::<f64>();
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn expect_golden<T: Scalar>(name: &str) {
    let bytes = fs::read(golden(name)).unwrap();
    let mut memory = memory::<T>();
    let mut learner = Learner::new(NET, Config::default(), 0, 1, &mut memory).unwrap();
    learner.restore_from(&bytes).unwrap();
    let expected = if bytes[4] < 3 { renewed(&bytes) } else { bytes };
    assert!(save(&learner) == expected, "{name} is written in another way today");
    assert_eq!((learner.progress().seed, learner.progress().steps), (11, 40));
    steps(&mut learner, 40..60);
    assert!(learner.predict(&[T::HALF; 3]).unwrap().iter().all(|output| output.is_finite()));
}

// Mutants: another order, width, byte order or checksum; an older one's missing words read from what follows.
#[test]
fn snapshots_of_versions_1_and_3_load_for_ever() {
    expect_golden::<f32>("snapshot_v3_f32.bin");
    expect_golden::<f64>("snapshot_v3_f64.bin");
    expect_golden::<f32>("snapshot_v1_f32.bin");
    expect_golden::<f64>("snapshot_v1_f64.bin");
}

#[test]
#[ignore = "writes the golden snapshots; only for a new version of the format"]
fn write_golden_snapshots() {
    fs::write(golden("snapshot_v3_f32.bin"), saved::<f32>(40)).unwrap();
    fs::write(golden("snapshot_v3_f64.bin"), saved::<f64>(40)).unwrap();
}

// The table of the module's documentation, read anew.
#[test]
fn the_format_is_the_documented_one() {
    let bytes = saved::<f32>(5);
    let number = |place: usize| u64::from_le_bytes(bytes[place..place + 8].try_into().unwrap());
    let word = |place: usize| f32::from_le_bytes(bytes[place..place + 4].try_into().unwrap());
    assert_eq!(bytes[..8], *b"EKFS\x03\x00\x04\x02");
    assert_eq!(bytes[8..12], (bytes.len() as u32).to_le_bytes());
    assert_eq!((bytes[12], f64::from_bits(number(16))), (3, 1.5));
    assert_eq!([24, 32, 40, 48, 56].map(number), [11, 5, 5, 0, 0]);
    let mut memory = memory::<f32>();
    let mut learner = Learner::new(NET, Config::default(), 0, 1, &mut memory).unwrap();
    learner.restore_from(&bytes).unwrap();
    let progress = *learner.progress();
    assert_eq!([64, 72].map(number), [progress.rotations, progress.operations]);
    let means =
        [progress.damping_multiplier, progress.mean_loss, progress.mean_length, progress.mean_loss_weight];
    assert_eq!([80, 84, 88, 92].map(word), means);
    assert_eq!([96, 100].map(word), [progress.mean_cosine, progress.annealing]);
    assert_eq!(bytes[104..120], *b"\x03\0\0\0\x02\0\0\0\x01\x03\0\0\0\0\0\0");
    assert_eq!(bytes[120..136], *b"\x02\0\0\0\x02\0\0\0\x00\x00\0\0\0\0\0\0");
    for (index, expected) in learner.state().iter().enumerate() {
        assert_eq!(word(136 + 4 * index).to_bits(), expected.to_bits(), "word {index}");
    }
    let end = 136 + 4 * NET.state_words();
    assert_eq!(bytes[end..], crc32fast::hash(&bytes[..end]).to_le_bytes());
}

// Mutant: a checksum that leaves a part out.
#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    fn check<T: Scalar>() {
        let whole = saved::<T>(3);
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = refusal::<T>(NET, &bytes);
            let expected = match bit / 8 {
                0..4 => matches!(found, Refusal::Magic),
                // Of 3 one bit makes 1 and 2, which are versions too.
                4..6 if bytes[5] == 0 && bytes[4] < 3 => matches!(found, Refusal::Checksum { .. }),
                4..6 => matches!(found, Refusal::Version { .. }),
                8..12 => matches!(found, Refusal::Length { .. }),
                _ => matches!(found, Refusal::Checksum { .. }),
            };
            assert!(expected, "bit {bit}: {found}");
            assert!(Snapshot::new(&bytes).is_err());
        }
        for length in 0..whole.len() {
            assert!(matches!(refusal::<T>(NET, &whole[..length]), Refusal::Length { .. }), "{length}");
            assert!(Snapshot::new(&whole[..length]).is_err());
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(matches!(refusal::<T>(NET, &longer), Refusal::Length { .. }));
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn a_million_random_strings_are_refused() {
    let (mut draws, whole) = (Draws::new(20_261_124), saved::<f32>(3));
    let mut memory = memory::<f32>();
    let mut learner = Learner::new(NET, Config::default(), 5, 1, &mut memory).unwrap();
    let before = save(&learner);
    for number in 0..1_000_000 {
        // Half of them with the first bytes of a snapshot, a few as long as one.
        let length = if number % 16 == 0 { whole.len() } else { draws.index(160) };
        let mut bytes: Vec<u8> = (0..length).map(|_| draws.index(256) as u8).collect();
        let kept = if number % 2 == 0 { draws.index(40).min(length) } else { 0 };
        bytes[..kept].copy_from_slice(&whole[..kept]);
        assert!(learner.restore_from(&bytes).is_err(), "seed {}, string {number}", draws.seed());
    }
    assert!(save(&learner) == before);
}

// Each check by itself, behind a checksum that is right.
#[test]
fn what_is_foreign_or_absurd_is_named() {
    let whole = saved::<f32>(3);
    let with = |place: usize, part: &[u8]| {
        let mut bytes = whole.clone();
        bytes[place..place + part.len()].copy_from_slice(part);
        seal(&mut bytes);
        refusal::<f32>(NET, &bytes)
    };
    assert_eq!(with(4, &[5]), Refusal::Version { found: 5 });
    assert_eq!(with(4, &[4]), Refusal::Kind);
    assert_eq!(with(6, &[8]), Refusal::Scalar { expected: 4, found: 8 });
    assert_eq!(refusal::<f64>(NET, &whole), Refusal::Scalar { expected: 8, found: 4 });
    assert_eq!(with(7, &[3]), Refusal::Layers { expected: 2, found: 3 });
    for (place, part) in [(12, &[0][..]), (12, &[4]), (13, &[1]), (16, &[1])] {
        assert_eq!(with(place, part), Refusal::Loss, "byte {place}");
    }
    for place in 104..136 {
        assert_eq!(with(place, &[77]), Refusal::Layer { layer: (place - 104) / 16 }, "byte {place}");
    }
    let huge = (1_u64 << 62).to_le_bytes();
    for (place, name) in
        [(32, "steps"), (40, "examples"), (48, "skipped"), (64, "rotations"), (72, "operations")]
    {
        assert_eq!(with(place, &huge), Refusal::Progress { name });
    }
    assert_eq!(with(40, &2_u64.to_le_bytes()), Refusal::Progress { name: "examples" });
    assert_eq!(with(56, &4_u64.to_le_bytes()), Refusal::Progress { name: "degraded" });
    let means =
        ["damping_multiplier", "mean_loss", "mean_length", "mean_loss_weight", "mean_cosine", "annealing"];
    for (place, name) in (80..).step_by(4).zip(means) {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(with(place, &bad.to_le_bytes()), Refusal::Progress { name });
        }
    }
    assert_eq!(with(80, &0.0_f32.to_le_bytes()), Refusal::Progress { name: "damping_multiplier" });
    for (place, value, name) in [
        (92, 1.5_f32, "mean_loss_weight"),
        (96, -1.5, "mean_cosine"),
        (100, 1.5, "annealing"),
        (100, 0.0, "annealing"),
    ] {
        assert_eq!(with(place, &value.to_le_bytes()), Refusal::Progress { name });
    }
    for index in 0..NET.state_words() {
        for bad in [f32::NAN, f32::INFINITY] {
            let found = with(136 + 4 * index, &bad.to_le_bytes());
            assert_eq!(found, Refusal::NonFinite { index });
        }
    }
    // The header of the first layer's state, after its eight weights.
    for (mark, bad) in [(0, 0.0), (1, 1.5), (1, -0.5), (2, 2.0), (3, -1.0), (3, 1e9), (4, 0.5)] {
        let found = with(136 + 4 * (8 + mark), &f32::to_le_bytes(bad));
        assert_eq!(found, Refusal::Mark { index: 8 + mark });
    }
    // Another network of the same lengths.
    let layers = LAYERS.map(|dense| Dense::with_shape(*dense.shape(), Activation::Relu));
    assert_eq!(refusal::<f32>(Net::new(&layers, NET.loss()), &whole), Refusal::Layer { layer: 0 });
    assert_eq!(refusal::<f32>(Net::new(&LAYERS, Loss::SquaredError), &whole), Refusal::Loss);
    assert_eq!(
        refusal::<f32>(Net::new(&LAYERS[..1], NET.loss()), &whole),
        Refusal::Layers { expected: 1, found: 2 }
    );
}

// Mutants: look for bad words while writing; write although the room is too small.
#[test]
fn a_run_that_could_not_be_restored_is_not_saved() {
    let mut memory = memory::<f32>();
    let mut learner = Learner::new(NET, Config::default(), 11, 1, &mut memory).unwrap();
    let needed = snapshot::length::<f32>(&NET);
    let mut bytes = vec![0xAA; needed - 1];
    let refused = learner.save_into(&mut bytes);
    assert_eq!(refused, Err(Refusal::Room { needed, available: needed - 1 }));
    learner.stored_weights(1).unwrap().as_mut_slice()[3] = f32::NAN;
    let index = NET.state_words() - LAYERS[1].shape().words() - 1;
    let refused = learner.save(|_| -> Result<(), Infallible> { panic!("something was written") });
    assert_eq!(refused, Err(SnapshotError::Refused(Refusal::NonFinite { index })));
    assert!(bytes.iter().all(|byte| *byte == 0xAA));
    let progress = Progress { operations: u64::MAX, ..Progress::new(1) };
    let mut memory = memory.clone();
    let learner = Learner::<f32>::resume(NET, Config::default(), progress, 1, &mut memory).unwrap();
    assert_eq!(learner.save_into(&mut [0; 2_000]), Err(Refusal::Progress { name: "operations" }));
}

// Mutants: an offset that is no multiple of a chunk; a medium's failure that leaves half a state behind.
#[test]
fn a_medium_that_fails_or_changes_leaves_the_old_run_or_a_fresh_one() {
    let whole = saved::<f32>(9);
    let other = saved::<f32>(10);
    let reads = 2 * whole.len().div_ceil(CHUNK);
    let mut memory_of_fresh = memory::<f32>();
    let fresh = save(&Learner::new(NET, Config::default(), 11, 1, &mut memory_of_fresh).unwrap());
    for failing in 0..reads {
        for changed in [false, true] {
            let mut memory = memory::<f32>();
            let mut learner = Learner::new(NET, Config::default(), 5, 1, &mut memory).unwrap();
            let (before, mut read) = (save(&learner), 0);
            let result = learner.restore(whole.len(), |offset, into| {
                assert!(offset % CHUNK == 0 && into.len() == CHUNK.min(whole.len() - offset));
                let source = if changed && read >= failing { &other } else { &whole };
                into.copy_from_slice(&source[offset..offset + into.len()]);
                read += 1;
                if !changed && read > failing { Err("dead") } else { Ok(()) }
            });
            let now = save(&learner);
            match result {
                // It changed before anything had been read: another snapshot, and a whole one.
                Ok(()) => assert!(changed && now == other, "read {failing}"),
                Err(_) if failing < reads / 2 => assert!(now == before, "read {failing}"),
                Err(_) => assert!(now == fresh, "read {failing}"),
            }
        }
    }
    let mut memory = memory::<f32>();
    let learner = Learner::new(NET, Config::default(), 5, 1, &mut memory).unwrap();
    assert_eq!(learner.save(|_| Err("full")), Err(SnapshotError::Medium("full")));
}

/// A network of the desktop on the same data, core's kernels.
fn network<T: Stored>() -> Network<T> {
    Network::new(LAYERS.to_vec(), NET.loss(), Config::default(), 11, 1).unwrap().deterministic()
}

fn train<T: Stored>(network: &mut Network<T>, numbers: std::ops::Range<u32>) {
    let trained = network.with(|learner| {
        steps(learner, numbers);
        Ok(())
    });
    trained.unwrap();
}

fn between_desktop_and_device<T: Stored>() {
    let mut memory = memory::<T>();
    let mut uninterrupted = Learner::new(NET, Config::default(), 11, 1, &mut memory).unwrap();
    steps(&mut uninterrupted, 0..60);
    let mut desktop = network::<T>();
    train(&mut desktop, 0..20);
    let mut memory = vec![T::ONE; NET.words(1)];
    let mut device = Learner::new(NET, Config::default(), 0, 1, &mut memory).unwrap();
    device.restore_from(&desktop.snapshot().unwrap()).unwrap();
    steps(&mut device, 20..40);
    let back = Network::<T>::from_snapshot(&save(&device), Config::default(), 1);
    let mut desktop = back.unwrap().deterministic();
    assert!(desktop.net() == NET);
    train(&mut desktop, 40..60);
    assert!(desktop.snapshot().unwrap() == save(&uninterrupted));
}

// Mutant: weights folded into parameter coordinates on the way.
#[test]
fn a_run_goes_from_the_desktop_to_a_device_and_back() {
    between_desktop_and_device::<f32>();
    between_desktop_and_device::<f64>();
}

#[test]
fn a_network_is_not_built_from_what_is_not_one() {
    let whole = saved::<f32>(3);
    let refused =
        |bytes: &[u8]| Network::<f32>::from_snapshot(bytes, Config::default(), 1).map(|_| ()).unwrap_err();
    assert_eq!(
        refused(&whole[..90]).to_string(),
        format!("a snapshot of 90 bytes that should have {}", whole.len())
    );
    assert!(Network::<f64>::from_snapshot(&whole, Config::default(), 1).is_err());
    assert!(Network::<f32>::from_snapshot(&whole, Config::default(), 0).is_err());
    // Layers of absurd sizes, of none, or that do not meet.
    for (place, part) in [(104, u32::MAX), (108, u32::MAX), (108, 0), (120, 3)] {
        let mut bytes = whole.clone();
        bytes[place..place + 4].copy_from_slice(&part.to_le_bytes());
        seal(&mut bytes);
        assert!(Snapshot::new(&bytes).is_err(), "byte {place}");
        refused(&bytes);
    }
}

fn ekfac(words: &[&str]) -> Result<(), String> {
    use clap::Parser;
    let words = ["ekfac"].iter().chain(words);
    program::run(program::Arguments::try_parse_from(words).unwrap()).map_err(|error| error.to_string())
}

// Mutants: the default settings always; the texts of a training lost.
#[test]
fn the_program_turns_checkpoints_into_snapshots_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (state, device, back, plain) = (path("state"), path("device"), path("back"), path("plain"));
    let mut network = network::<f64>();
    let config = Config { momentum: 0.5, ..Config::default() };
    network.with(|learner| learner.set_config(config)).unwrap();
    train(&mut network, 0..20);
    let extra = Extra::from([("note".to_string(), "from a test".to_string())]);
    checkpoint::save_with(&network, &extra, state.as_ref()).unwrap();
    ekfac(&["snapshot", &state, "--out", &device]).unwrap();
    assert!(fs::read(&device).unwrap() == network.snapshot().unwrap());
    ekfac(&["snapshot", &device, "--settings", &state, "--out", &back]).unwrap();
    assert!(fs::read(&back).unwrap() == fs::read(&state).unwrap());
    ekfac(&["snapshot", &device, "--out", &plain]).unwrap();
    let loaded = checkpoint::load_with::<f64>(plain.as_ref(), 1).unwrap().value;
    assert_eq!((loaded.network.config(), loaded.extra.len()), (&Config::default(), 0));
    assert_eq!(loaded.network.state(), network.state());
    // What cannot be done is named, and writes nothing.
    let nowhere = path("nowhere");
    for words in [
        ["snapshot", &nowhere, "--out", &path("none"), "--settings", &state],
        ["snapshot", &state, "--out", &path("none"), "--settings", &state],
        ["snapshot", &device, "--out", &path("none"), "--settings", &nowhere],
    ] {
        ekfac(&words).unwrap_err();
    }
    fs::write(&device, &network.snapshot().unwrap()[..99]).unwrap();
    assert!(ekfac(&["snapshot", &device, "--out", &path("none")]).unwrap_err().contains("99 bytes"));
    assert!(!folder.path().join("none").exists());
}
