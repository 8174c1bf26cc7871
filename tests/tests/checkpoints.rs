//! Checkpoints: bit for bit, and no damage goes unnoticed.

use ekfac::{
    Activation::{Identity, Tanh},
    Config, Coordinates, Dense, Loss, Progress, Shape, Targets,
};
use ekfac_std::{
    Network,
    atomic::{Generation, previous_of},
    checkpoint::{self, Checkpoint, Extra, Stored},
};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::fs;

const BATCH: usize = 4;

/// A small network; the first layer lives in the eigenbasis, the second has no bias.
fn network<T: Stored>() -> Network<T> {
    let second = Dense::with_shape(Shape::new(2, 2).without_bias(), Tanh);
    let layers = vec![Dense::new(3, 2, Tanh), second, Dense::new(2, 2, Identity)];
    Network::new(layers, Loss::SquaredError, Config::default(), 5, BATCH).unwrap()
}

/// A step on the batch with this number.
fn step<T: Stored>(network: &mut Network<T>, number: u32) {
    let value = |index: u32| T::from_f64(f64::from(number * 7 + index).sin());
    let inputs: Vec<T> = (0..3 * BATCH as u32).map(value).collect();
    let targets: Vec<T> = (50..50 + 2 * BATCH as u32).map(value).collect();
    network.step(&inputs, Targets::Values(&targets)).unwrap();
}

fn trained<T: Stored>(steps: u32) -> Network<T> {
    let mut network = network();
    (0..steps).for_each(|number| step(&mut network, number));
    network
}

fn extra() -> Extra {
    Extra::from([("name".into(), "\"quoted\" ü\n".into()), ("another".into(), String::new())])
}

/// The same words, counters and settings.
#[track_caller]
fn expect_same<T: Stored>(left: &Network<T>, right: &Network<T>) {
    let bits = |network: &Network<T>| checkpoint::to_bytes(network, &Extra::new()).unwrap();
    assert_eq!(bits(left), bits(right));
    assert_eq!(left.progress(), right.progress());
    assert_eq!(left.config(), right.config());
}

fn goes_on<T: Stored>() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut before = trained::<T>(5);
    checkpoint::save_with(&before, &extra(), &path).unwrap();
    let loaded = checkpoint::load_with::<T>(&path, BATCH).unwrap();
    assert_eq!((loaded.generation, &loaded.passed_over), (Generation::Current, &None));
    assert_eq!(loaded.value.extra, extra());
    let mut after = loaded.value.network;
    expect_same(&before, &after);
    for number in 5..9 {
        step(&mut before, number);
        step(&mut after, number);
        expect_same(&before, &after);
    }
}

// Mutant: transpose on one side only, leave the velocity or a counter out.
#[test]
fn a_loaded_network_goes_on_bit_for_bit_in_32_bits() {
    goes_on::<f32>();
}

#[test]
fn a_loaded_network_goes_on_bit_for_bit_in_64_bits() {
    goes_on::<f64>();
}

// Mutant: one metadata entry for each text, whose order changes from run to run.
#[test]
fn the_same_network_gives_the_same_bytes() {
    let bytes = || checkpoint::to_bytes(&trained::<f32>(3), &extra()).unwrap();
    assert_eq!(bytes(), bytes());
}

/// Damaged bytes are refused, or hold what they held before.
fn is_refused_or_same<T: Stored>(damaged: &[u8], original: &[u8]) -> bool {
    match checkpoint::from_bytes::<T>(damaged, BATCH) {
        Err(error) => !error.to_string().is_empty(),
        Ok(Checkpoint { network, extra }) => checkpoint::to_bytes(&network, &extra).unwrap() == original,
    }
}

#[test]
fn no_truncated_file_is_taken() {
    let bytes = checkpoint::to_bytes(&trained::<f32>(3), &extra()).unwrap();
    for length in 0..bytes.len() {
        assert!(checkpoint::from_bytes::<f32>(&bytes[..length], BATCH).is_err(), "{length}");
    }
    assert!(checkpoint::from_bytes::<f32>(&[&bytes[..], &[0]].concat(), BATCH).is_err());
}

// Mutant: a checksum of the words alone, or of the metadata alone.
#[test]
fn no_flipped_bit_changes_the_network() {
    let bytes = checkpoint::to_bytes(&trained::<f32>(3), &extra()).unwrap();
    let mut damaged = bytes.clone();
    for index in 0..bytes.len() {
        for bit in 0..8 {
            damaged[index] ^= 1 << bit;
            assert!(is_refused_or_same::<f32>(&damaged, &bytes), "byte {index}, bit {bit}");
            damaged[index] = bytes[index];
        }
    }
}

#[test]
fn a_changed_text_is_noticed() {
    let bytes = checkpoint::to_bytes(&trained::<f32>(1), &extra()).unwrap();
    let position = bytes.windows(6).position(|window| window == b"quoted").unwrap();
    let mut damaged = bytes;
    damaged[position..position + 6].copy_from_slice(b"misled");
    let error = checkpoint::from_bytes::<f32>(&damaged, BATCH).err().unwrap().to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn the_generation_before_is_read_where_the_current_one_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (old, new) = (trained::<f32>(2), trained::<f32>(3));
    checkpoint::save(&old, &path).unwrap();
    checkpoint::save(&new, &path).unwrap();
    expect_same(&checkpoint::load(&path, BATCH).unwrap().value, &new);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let loaded = checkpoint::load::<f32>(&path, BATCH).unwrap();
    assert_eq!(loaded.generation, Generation::Previous);
    assert!(loaded.passed_over.unwrap().contains("safetensors"));
    expect_same(&loaded.value, &old);
    fs::write(previous_of(&path), b"").unwrap();
    let error = checkpoint::load::<f32>(&path, BATCH).err().unwrap().to_string();
    assert!(error.contains("state") && error.contains("previous"), "{error}");
}

#[test]
fn the_wrong_scalar_and_a_later_version_are_refused() {
    let bytes = checkpoint::to_bytes(&trained::<f32>(1), &extra()).unwrap();
    let error = checkpoint::from_bytes::<f64>(&bytes, BATCH).err().unwrap().to_string();
    assert!(error.contains("F32") && error.contains("F64"), "{error}");
    let old = br#"\"version\":4"#;
    let position = bytes.windows(old.len()).position(|window| window == old).unwrap();
    let mut later = bytes;
    for (version, name) in [(b'5', "convolutions"), (b'6', "version 6")] {
        later[position + old.len() - 1] = version;
        let error = checkpoint::from_bytes::<f32>(&later, BATCH).err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
}

/// The file as version 2 had it: without annealing and what belongs to it.
fn as_version_2(network: &Network<f32>, bytes: &[u8]) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut text = header.metadata().as_ref().unwrap()["ekfac"].clone();
    for (today, then) in [
        (r#""version":4"#, r#""version":2"#),
        (r#""annealing":"Off","#, ""),
        (r#","mean_cosine":0.0,"annealing":1.0"#, ""),
    ] {
        assert!(text.contains(today), "{today} in {text}");
        text = text.replace(today, then);
    }
    let mut covered = text.clone().into_bytes();
    network.state().iter().for_each(|word| covered.extend(word.to_le_bytes()));
    let checksum = crc32fast::hash(&covered).to_le_bytes();
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let views = tensors.iter().map(|(name, view)| {
        let data = if name == "ekfac.crc32" { &checksum } else { view.data() };
        (name.to_string(), TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap())
    });
    let metadata = Some([("ekfac".to_string(), text)].into());
    safetensors::serialize(views, metadata).unwrap()
}

// Mutants: the older version refused; an annealing of 0 where none was stored.
#[test]
fn a_checkpoint_of_version_2_goes_on_as_it_was() {
    let mut network = trained::<f32>(5);
    let old = as_version_2(&network, &checkpoint::to_bytes(&network, &extra()).unwrap());
    let mut resumed = checkpoint::from_bytes::<f32>(&old, BATCH).unwrap().network;
    expect_same(&network, &resumed);
    step(&mut network, 9);
    step(&mut resumed, 9);
    expect_same(&network, &resumed);
}

// Mutant: trust JSON with an infinity, which it writes as null.
#[test]
fn a_setting_that_the_file_cannot_hold_is_refused_before_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let layers = vec![Dense::new(2, 2, Identity)];
    let progress = Progress { mean_loss: f32::NEG_INFINITY, ..Progress::new(1) };
    let network =
        Network::resume(layers, Loss::SquaredError, Config::default(), progress, BATCH, &[]).unwrap();
    let error = checkpoint::save(&network, &path).unwrap_err().to_string();
    assert!(error.contains("infinite") && !path.exists(), "{error}");
}

/// The message for a checkpoint whose tensors went through `change`; `None` drops the tensor.
fn message(change: impl Fn(&str) -> Option<Dtype>) -> String {
    let bytes = checkpoint::to_bytes(&trained::<f32>(1), &extra()).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let zeros = [0; 512];
    let changed = file.tensors().into_iter().filter_map(|(name, tensor)| {
        let dtype = change(&name)?;
        let data = &zeros[..tensor.shape().iter().product::<usize>() * dtype.bitsize() / 8];
        let same = dtype == tensor.dtype();
        let view = TensorView::new(dtype, tensor.shape().to_vec(), if same { tensor.data() } else { data });
        Some((name, view.unwrap()))
    });
    let changed = safetensors::serialize(changed, header.metadata().clone()).unwrap();
    checkpoint::from_bytes::<f32>(&changed, BATCH).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn missing_and_misfit_parts_are_named() {
    let own = |name: &str| if name == "ekfac.crc32" { Dtype::U32 } else { Dtype::F32 };
    assert_eq!(message(|name| Some(own(name))), "");
    let coordinates: Vec<_> = trained::<f32>(1).coordinates();
    assert_eq!(coordinates, [Coordinates::Eigenbasis, Coordinates::Parameter, Coordinates::Parameter]);
    let weights = ["layers.0.weight_in_eigenbasis", "layers.1.weight", "layers.2.weight", "layers.2.bias"];
    for part in weights.into_iter().chain(["layers.1.ekfac", "ekfac.crc32"]) {
        let error = message(|name| (name != part).then(|| own(name)));
        assert!(error.contains(part) && error.contains("missing"), "{error}");
        let error = message(|name| Some(if name == part { Dtype::F16 } else { own(name) }));
        assert!(error.contains(part) && error.contains("F16"), "{error}");
    }
    let foreign = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
    let error = checkpoint::from_bytes::<f32>(&foreign, BATCH).err().unwrap().to_string();
    assert!(error.contains("not a checkpoint of ekfac"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_network_comes_back_and_any_damage_is_noticed(
        sizes in prop::collection::vec((1_usize..6, any::<bool>()), 2..5),
        steps in 0_u32..4,
        seed in any::<u64>(),
        (place, value) in (any::<prop::sample::Index>(), any::<u8>()),
        note in any::<String>(),
    ) {
        let layers = sizes.windows(2).map(|pair| {
            let shape = Shape::new(pair[0].0, pair[1].0);
            Dense::with_shape(if pair[1].1 { shape } else { shape.without_bias() }, Tanh)
        });
        let (inputs, outputs) = (sizes[0].0, sizes[sizes.len() - 1].0);
        let mut before =
            Network::<f32>::new(layers.collect(), Loss::Huber(0.5), Config::default(), seed, BATCH).unwrap();
        let batch = |number: u32, width: usize| -> Vec<f32> {
            (0..BATCH * width).map(|index| ((number as usize * 13 + index) as f32).sin()).collect()
        };
        for number in 0..steps {
            before.step(&batch(number, inputs), Targets::Values(&batch(number + 9, outputs))).unwrap();
        }
        let extra = Extra::from([("note".to_string(), note)]);
        let bytes = checkpoint::to_bytes(&before, &extra).unwrap();
        let Checkpoint { network: mut after, extra: found } = checkpoint::from_bytes::<f32>(&bytes, BATCH).unwrap();
        prop_assert_eq!(&found, &extra);
        prop_assert_eq!(checkpoint::to_bytes(&after, &found).unwrap(), bytes.clone());
        for network in [&mut before, &mut after] {
            network.step(&batch(7, inputs), Targets::Values(&batch(8, outputs))).unwrap();
        }
        expect_same(&before, &after);
        let mut damaged = bytes.clone();
        damaged[place.index(bytes.len())] = value;
        prop_assert!(is_refused_or_same::<f32>(&damaged, &bytes));
    }
}
