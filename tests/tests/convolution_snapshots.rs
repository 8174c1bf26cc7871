//! Snapshots of networks of convolutions: bit for bit, across machines and versions; and nothing that is damaged or foreign changes
//! anything. What they share with those of dense layers is tested in `snapshots.rs`.

use ekfac::{
    Activation::{Identity, Relu, Tanh},
    Config, Dense, Learner, Loss, Net, Scalar, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Layout, Pooling},
    snapshot::{self, CHUNK, FlashStore, Refusal, Snapshot},
};
use ekfac_std::{ConvolutionNetwork, Network, checkpoint::Stored};
use ekfac_tests::{flash::MockFlash, renewed::renewed};
use std::{fs, path::PathBuf};

const STEM: Convolution = Convolution::new_1d(2, Axis::new(6, 3).padding(1), 4).layout(Layout::ChannelsLast);
const BLOCK: Convolution = Convolution::new_1d(4, Axis::new(6, 2).padding(1).dilation(2), 4)
    .groups(2)
    .without_bias()
    .layout(Layout::ChannelsLast);
const HALVED: Axis = Axis::new(6, 2).stride(2);
const POOL: Convolution = Convolution::depthwise(4, [Axis::new(1, 1), HALVED]).layout(Layout::ChannelsLast);
const MEAN: Convolution =
    Convolution::depthwise(4, [Axis::new(1, 1), Axis::new(3, 3)]).layout(Layout::ChannelsLast);
/// All kinds of layers.
const LAYERS: [ConvolutionLayer; 6] = [
    ConvolutionLayer::new(STEM, Tanh),
    ConvolutionLayer::new(BLOCK, Identity),
    ConvolutionLayer::add(0, 24, Relu),
    ConvolutionLayer::pool(Pooling::Max, POOL),
    ConvolutionLayer::pool(Pooling::Average, MEAN),
    ConvolutionLayer::dense(4, 3, Identity),
];
const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
const COLUMNS: usize = 5;
/// Where the records begin, in 32 bits, and where the state words do.
const RECORDS: usize = 104;
const WORDS: usize = RECORDS + 64 * LAYERS.len();

fn memory<T: Scalar>() -> Vec<T> {
    vec![T::ONE; NET.words(1, COLUMNS)]
}

fn fresh<T: Scalar>(memory: &mut [T], seed: u64) -> ConvolutionLearner<'_, T> {
    ConvolutionLearner::new(NET, Config::default(), seed, 1, COLUMNS, memory).unwrap()
}

fn steps<T: Scalar>(learner: &mut ConvolutionLearner<'_, T>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let value = |index: u32| T::from_f64(f64::from((number * 37 + index * 11) % 64) / 32.0 - 1.0);
        let input: Vec<T> = (0..12).map(value).collect();
        learner.step(&input, Targets::Classes(&[number % 3])).unwrap();
    }
}

fn save<T: Scalar>(learner: &ConvolutionLearner<'_, T>) -> Vec<u8> {
    let mut bytes = vec![0xAA; snapshot::length_of_convolutions::<T>(learner.net()) + 3];
    let length = learner.save_into(&mut bytes).unwrap();
    assert!(bytes.split_off(length) == [0xAA; 3]);
    bytes
}

fn saved<T: Scalar>(count: u32) -> Vec<u8> {
    let mut memory = memory::<T>();
    let mut learner = fresh(&mut memory, 11);
    steps(&mut learner, 0..count);
    save(&learner)
}

/// Sets the checksum right again.
fn seal(bytes: &mut [u8]) {
    let (contents, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc32fast::hash(contents).to_le_bytes());
}

/// Why it is refused; and the learner is as it was.
#[track_caller]
fn refusal<T: Scalar>(bytes: &[u8]) -> Refusal {
    let mut memory = memory::<T>();
    let mut learner = fresh(&mut memory, 5);
    let before = save(&learner);
    let refusal = learner.restore_from(bytes).unwrap_err();
    assert!(save(&learner) == before, "a refused snapshot changed the learner");
    refusal
}

// Mutants: leave the last group, a counter or a mean out; keep the old progress.
#[test]
fn a_restored_run_goes_on_bit_for_bit() {
    fn check<T: Scalar>() {
        for count in [0, 1, 7, 40] {
            let whole = saved::<T>(count);
            let mut other = memory::<T>();
            let mut resumed = fresh(&mut other, 3);
            steps(&mut resumed, 7..9);
            resumed.restore_from(&whole).unwrap();
            assert!(save(&resumed) == whole);
            steps(&mut resumed, count..count + 20);
            assert!(save(&resumed) == saved::<T>(count + 20), "after {count} steps");
        }
    }
    check::<f32>();
    check::<f64>();
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

// Mutants: another order, width, byte order or checksum; an older one's missing words read from what follows.
#[test]
fn snapshots_of_versions_2_and_4_load_for_ever() {
    fn check<T: Scalar>(name: &str) {
        let bytes = fs::read(golden(name)).unwrap();
        let mut memory = memory::<T>();
        let mut learner = fresh(&mut memory, 0);
        learner.restore_from(&bytes).unwrap();
        let expected = if bytes[4] < 3 { renewed(&bytes) } else { bytes };
        assert!(save(&learner) == expected, "{name} is written in another way today");
        assert_eq!((learner.progress().seed, learner.progress().steps), (11, 40));
        steps(&mut learner, 40..60);
        assert!(learner.predict(&[T::HALF; 12]).unwrap().iter().all(|output| output.is_finite()));
    }
    check::<f32>("snapshot_v4_f32.bin");
    check::<f64>("snapshot_v4_f64.bin");
    check::<f32>("snapshot_v2_f32.bin");
    check::<f64>("snapshot_v2_f64.bin");
}

#[test]
#[ignore = "writes the golden snapshots; only for a new version of the format"]
fn write_golden_snapshots() {
    fs::write(golden("snapshot_v4_f32.bin"), saved::<f32>(40)).unwrap();
    fs::write(golden("snapshot_v4_f64.bin"), saved::<f64>(40)).unwrap();
}

// The table of the module's documentation, read anew.
#[test]
fn the_format_is_the_documented_one() {
    let bytes = saved::<f32>(5);
    assert_eq!(bytes[..8], *b"EKFS\x04\x00\x04\x06");
    let number = |place: usize| u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap());
    // Channels, outputs, groups, from | rows | columns | dilations.
    let record =
        |layer: usize| -> Vec<u32> { (0..14).map(|at| number(RECORDS + 64 * layer + 4 * at)).collect() };
    assert_eq!(record(1), [4, 4, 2, 0, 1, 1, 1, 0, 6, 2, 1, 1, 1, 2]);
    assert_eq!(record(2), [1, 1, 1, 0, 1, 1, 1, 0, 24, 1, 1, 0, 1, 1]);
    assert_eq!(record(3), [4, 4, 4, 0, 1, 1, 1, 0, 6, 2, 2, 0, 1, 1]);
    let bytes_of = |layer: usize| &bytes[RECORDS + 64 * layer + 56..][..8];
    // Bias, channels last, kind, activation.
    assert_eq!(bytes_of(0), [1, 1, 0, 3, 0, 0, 0, 0]);
    assert_eq!(bytes_of(1), [0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes_of(2), [1, 0, 3, 1, 0, 0, 0, 0]);
    assert_eq!(bytes_of(3), [1, 1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(bytes_of(4), [1, 1, 2, 0, 0, 0, 0, 0]);
    assert_eq!(bytes.len(), WORDS + 4 * NET.state_words() + 4);
}

// Mutant: a checksum that leaves a part out.
#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    let whole = saved::<f32>(3);
    let mut memory = memory::<f32>();
    let mut learner = fresh(&mut memory, 5);
    let before = save(&learner);
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(learner.restore_from(&bytes).is_err() && Snapshot::new(&bytes).is_err(), "bit {bit}");
    }
    for length in 0..whole.len() {
        let cut = &whole[..length];
        assert!(matches!(learner.restore_from(cut), Err(Refusal::Length { .. })), "{length}");
        assert!(Snapshot::new(cut).is_err());
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
        bytes
    };
    assert_eq!(refusal::<f32>(&with(4, &[5])), Refusal::Version { found: 5 });
    assert_eq!(refusal::<f32>(&with(4, &[3])), Refusal::Kind);
    assert_eq!(refusal::<f64>(&whole), Refusal::Scalar { expected: 8, found: 4 });
    assert_eq!(refusal::<f32>(&with(7, &[5])), Refusal::Layers { expected: 6, found: 5 });
    for place in RECORDS..WORDS {
        let layer = (place - RECORDS) / 64;
        assert_eq!(refusal::<f32>(&with(place, &[77])), Refusal::Layer { layer }, "byte {place}");
    }
    for index in (0..NET.state_words()).step_by(7) {
        let bytes = with(WORDS + 4 * index, &f32::NAN.to_le_bytes());
        assert_eq!(refusal::<f32>(&bytes), Refusal::NonFinite { index });
    }
    // The headers of both groups of the second layer, which stand after its weights.
    let shape = BLOCK.shape();
    let first = LAYERS[0].state_words() + 2 * shape.parameters();
    for index in [first, first + shape.words()] {
        let bytes = with(WORDS + 4 * index, &0.0_f32.to_le_bytes());
        assert_eq!(refusal::<f32>(&bytes), Refusal::Mark { index });
    }
}

// Mutants: the version not compared, so that one kind is read as the other.
#[test]
fn the_kinds_of_networks_are_told_apart() {
    const DENSE: [Dense; 1] = [Dense::new(3, 2, Identity)];
    let net = Net::new(&DENSE, Loss::SquaredError);
    let (mut memory, mut bytes) = (vec![0.0_f32; net.words(1)], vec![0; snapshot::length::<f32>(&net)]);
    let mut learner = Learner::new(net, Config::default(), 1, 1, &mut memory).unwrap();
    learner.save_into(&mut bytes).unwrap();
    assert_eq!(refusal::<f32>(&bytes), Refusal::Kind);
    let whole = saved::<f32>(3);
    assert_eq!(learner.restore_from(&whole), Err(Refusal::Kind));
    let (config, kind) = (Config::default(), "a snapshot of the other kind of network");
    let refused = ConvolutionNetwork::<f32>::from_snapshot(&bytes, config, 1).err().unwrap();
    assert_eq!(refused.to_string(), kind);
    assert_eq!(Network::<f32>::from_snapshot(&whole, config, 1).err().unwrap().to_string(), kind);
    let (dense, convolutions) = (Snapshot::new(&bytes).unwrap(), Snapshot::new(&whole).unwrap());
    assert!(!dense.has_convolutions() && dense.layers().eq(DENSE) && dense.convolutions().next().is_none());
    assert!(convolutions.has_convolutions() && convolutions.layers().next().is_none());
    assert!(convolutions.convolutions().eq(LAYERS));
}

// Mutants: records that are read and not checked; an addition from above; sizes that do not meet.
#[test]
fn a_network_is_not_built_from_what_is_not_one() {
    let whole = saved::<f32>(3);
    let check = |layer: usize, place: usize, part: &[u8]| {
        let mut bytes = whole.clone();
        let start = RECORDS + 64 * layer + place;
        bytes[start..start + part.len()].copy_from_slice(part);
        seal(&mut bytes);
        let found = Snapshot::new(&bytes).map(|_| ());
        assert_eq!(found, Err(Refusal::Layer { layer }), "layer {layer}, byte {place}");
        assert!(ConvolutionNetwork::<f32>::from_snapshot(&bytes, Config::default(), 1).is_err());
    };
    // Channels and outputs, groups that do not divide, a stride of 0, a length beyond all memory.
    for (place, number) in [(0, 0), (0, 5), (4, 0), (8, 3), (8, 0), (40, 0), (32, u32::MAX)] {
        check(1, place, &number.to_le_bytes());
    }
    // No such bias, layout, kind or activation, and bytes that stand for nothing.
    for place in 56..64 {
        check(1, place, &[9]);
    }
    // An addition of the layer below, of itself, of one above; a place where there is no addition.
    for from in [1_u32, 2, 3, u32::MAX] {
        check(2, 12, &from.to_le_bytes());
    }
    check(0, 12, &1_u32.to_le_bytes());
}

// Mutant: the columns of the desktop's choice on the way back.
#[test]
fn a_run_goes_from_the_desktop_to_a_device_and_back() {
    fn network<T: Stored>(bytes: Option<&[u8]>) -> ConvolutionNetwork<T> {
        let (config, loss) = (Config::default(), NET.loss());
        let network = match bytes {
            Some(bytes) => ConvolutionNetwork::from_snapshot(bytes, config, 1).unwrap(),
            None => ConvolutionNetwork::new(LAYERS.to_vec(), loss, config, 11, 1).unwrap(),
        };
        network.deterministic().with_columns(COLUMNS).unwrap()
    }
    fn train<T: Stored>(network: &mut ConvolutionNetwork<T>, numbers: std::ops::Range<u32>) -> Vec<u8> {
        let trained = network.with(|learner| {
            steps(learner, numbers);
            Ok(())
        });
        trained.unwrap();
        network.snapshot().unwrap()
    }
    fn check<T: Stored>() {
        let bytes = train(&mut network::<T>(None), 0..20);
        let mut memory = memory::<T>();
        let mut device = fresh(&mut memory, 0);
        device.restore_from(&bytes).unwrap();
        steps(&mut device, 20..40);
        let bytes = train(&mut network::<T>(Some(&save(&device))), 40..60);
        assert!(bytes == saved::<T>(60));
    }
    check::<f32>();
    check::<f64>();
}

// Mutants: an offset that is no multiple of a chunk; a medium's failure that leaves half a state behind.
#[test]
fn a_medium_that_fails_leaves_the_old_run_or_a_fresh_one() {
    let whole = saved::<f32>(9);
    let reads = 2 * whole.len().div_ceil(CHUNK);
    let mut memory_of_fresh = memory::<f32>();
    let at_start = save(&fresh(&mut memory_of_fresh, 11));
    for failing in 0..reads {
        let mut memory = memory::<f32>();
        let mut learner = fresh(&mut memory, 5);
        let (before, mut read) = (save(&learner), 0);
        let result = learner.restore(whole.len(), |offset, into| {
            assert!(offset % CHUNK == 0);
            into.copy_from_slice(&whole[offset..offset + into.len()]);
            read += 1;
            if read > failing { Err("dead") } else { Ok(()) }
        });
        assert!(result.is_err());
        let expected = if failing < reads / 2 { &before } else { &at_start };
        assert!(save(&learner) == *expected, "read {failing}");
    }
}

// Every cut is tested in `flash_store.rs`: here one in each operation of a save. Mutant: the other kind's length in the record.
#[test]
fn a_store_in_flash_holds_the_old_run_or_the_new_one() {
    const PAGES: usize = 64;
    let store = |flash: MockFlash<4, 4, 256>| FlashStore::new(flash, 0..(PAGES * 256) as u32).unwrap();
    let mut memories = [memory::<f32>(), memory::<f32>(), memory::<f32>()];
    let [old, new, found] = memories.each_mut();
    let (mut old, mut new, mut found) = (fresh(old, 11), fresh(new, 11), fresh(found, 5));
    steps(&mut old, 0..5);
    steps(&mut new, 0..9);
    let mut first = store(MockFlash::new(PAGES, false, 17));
    assert_eq!(first.load(&mut found).unwrap(), None);
    assert_eq!(first.save(&old).unwrap(), 0);
    let start = first.release();
    let (mut cuts, mut olds) = (0, 0);
    loop {
        let mut flash = start.clone();
        flash.cut_after(cuts, 3);
        let mut cut = store(flash);
        let saved = cut.save(&new).is_ok();
        let mut flash = cut.release();
        flash.reboot();
        let sequence = store(flash).load(&mut found).unwrap();
        let is_new = save(&found) == save(&new);
        assert!(is_new || save(&found) == save(&old) && !saved, "cut {cuts}");
        assert_eq!(sequence, Some(u32::from(is_new)));
        olds += usize::from(!is_new);
        if saved {
            break;
        }
        cuts += 1;
    }
    println!("{cuts} cuts, {olds} of which left the old run");
    assert!(olds > 50, "only {olds}: cuts were left out");
}
