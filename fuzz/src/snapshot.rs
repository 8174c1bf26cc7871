//! Any bytes as a snapshot: nothing panics, a refusal changes nothing, and what is accepted is saved as the same bytes and goes
//! on.
//!
//! ```text
//! byte 0    bit 0: set the length and the checksum right first; bit 1: 64 bits; bit 2: a learner of convolutions
//! then      the snapshot
//! ```

use crate::{Bits, all_bits};
use ekfac::{
    Activation, Config, Dense, Learner, Loss, Net, Targets,
    convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionLearner, ConvolutionNet, Pooling},
    guard,
    snapshot::{self, Snapshot},
};

/// The network that the snapshots should be of.
pub const LAYERS: [Dense; 2] = [Dense::new(2, 2, Activation::Tanh), Dense::new(2, 1, Activation::Identity)];
/// Its loss.
pub const LOSS: Loss = Loss::SquaredError;

const FILTERS: Convolution = Convolution::new_1d(2, Axis::new(4, 2), 2).groups(2);
const MEAN: Convolution = Convolution::depthwise(2, [Axis::new(1, 1), Axis::new(3, 3)]);
/// The network of convolutions that they should be of.
pub const CONVOLUTIONS: [ConvolutionLayer; 2] =
    [ConvolutionLayer::new(FILTERS, Activation::Tanh), ConvolutionLayer::pool(Pooling::Average, MEAN)];

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((head, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if head & 1 != 0 {
        seal(&mut bytes);
    }
    match head & 6 {
        0 => restore::<f32>(&bytes),
        2 => restore::<f64>(&bytes),
        4 => restore_convolutions::<f32>(&bytes),
        _ => restore_convolutions::<f64>(&bytes),
    }
    if let Ok(snapshot) = Snapshot::new(&bytes) {
        describe(&snapshot);
    }
}

/// The length and the checksum as they should be. Bit by bit, so that it owes nothing to the library's table.
fn seal(bytes: &mut [u8]) {
    let length = (bytes.len() as u32).to_le_bytes();
    if let Some(place) = bytes.get_mut(8..12) {
        place.copy_from_slice(&length);
    }
    let Some(end) = bytes.len().checked_sub(4) else { return };
    let mut sum = u32::MAX;
    for byte in &bytes[..end] {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { (sum >> 1) ^ 0xEDB8_8320 };
        }
    }
    bytes[end..].copy_from_slice(&(!sum).to_le_bytes());
}

/// What is accepted is saved as the same bytes; of an older version as two words more.
fn expect_saved_alike(bytes: &[u8], saved: &[u8]) {
    let (version, width) = (bytes[4], usize::from(bytes[6]));
    if version >= 3 {
        assert_eq!(saved, bytes, "an accepted snapshot is saved in another way");
        return;
    }
    let head = 24..80 + 4 * width;
    assert_eq!(saved[head.clone()], bytes[head.clone()]);
    let rest = bytes.len() - 4;
    assert_eq!(saved[head.end + 2 * width..rest + 2 * width], bytes[head.end..rest]);
}

fn save<T: Bits>(learner: &Learner<'_, T>) -> Vec<u8> {
    let mut bytes = vec![0; snapshot::length::<T>(learner.net())];
    assert_eq!(learner.save_into(&mut bytes), Ok(bytes.len()));
    bytes
}

fn restore<T: Bits>(bytes: &[u8]) {
    let net = Net::new(&LAYERS, LOSS);
    let mut memory = vec![T::ZERO; net.words(1)];
    let Ok(mut learner) = Learner::new(net, Config::default(), 1, 1, &mut memory) else { return };
    let before = save(&learner);
    if learner.restore_from(bytes).is_err() {
        assert_eq!(save(&learner), before, "a refused snapshot changed the learner");
        return;
    }
    expect_saved_alike(bytes, &save(&learner));
    // Whatever the words, it goes on without a panic, and a step that is refused changes none of them.
    let words = all_bits(learner.state());
    let limit = T::ONE.minimum(guard::limit(LAYERS[0].shape(), 1));
    let step = learner.step(&[limit, T::HALF], Targets::Values(&[T::ONE]));
    if step.is_ok_and(|step| matches!(step.outcome, ekfac::Outcome::Skipped(_))) {
        assert_eq!(all_bits(learner.state()), words, "a skipped step changed the state");
    }
    let _ = learner.rotate(3);
    let _ = learner.predict(&[T::ONE, T::ZERO]);
}

fn restore_convolutions<T: Bits>(bytes: &[u8]) {
    fn save<T: Bits>(learner: &ConvolutionLearner<'_, T>) -> Vec<u8> {
        let mut bytes = vec![0; snapshot::length_of_convolutions::<T>(learner.net())];
        assert_eq!(learner.save_into(&mut bytes), Ok(bytes.len()));
        bytes
    }
    let net = ConvolutionNet::new(&CONVOLUTIONS, LOSS);
    let mut memory = vec![T::ZERO; net.words(1, 1)];
    let Ok(mut learner) = ConvolutionLearner::new(net, Config::default(), 1, 1, 1, &mut memory) else {
        return;
    };
    let before = save(&learner);
    if learner.restore_from(bytes).is_err() {
        assert_eq!(save(&learner), before, "a refused snapshot changed the learner");
        return;
    }
    expect_saved_alike(bytes, &save(&learner));
    let words = all_bits(learner.state());
    let step = learner.step(&[T::HALF; 8], Targets::Values(&[T::ONE; 2]));
    if step.is_ok_and(|step| matches!(step.outcome, ekfac::Outcome::Skipped(_))) {
        assert_eq!(all_bits(learner.state()), words, "a skipped step changed the state");
    }
    let _ = learner.predict(&[T::ONE; 8]);
}

/// A description that was accepted is one of a network.
fn describe(snapshot: &Snapshot<'_>) {
    let (layers, convolutions) = (
        snapshot.layers().collect::<Vec<Dense>>(),
        snapshot.convolutions().collect::<Vec<ConvolutionLayer>>(),
    );
    let (dense, shared) =
        (Net::new(&layers, snapshot.loss()), ConvolutionNet::new(&convolutions, snapshot.loss()));
    let length = match (snapshot.has_convolutions(), snapshot.word_bytes()) {
        (false, 4) => dense.check().map(|()| snapshot::length::<f32>(&dense)),
        (false, _) => dense.check().map(|()| snapshot::length::<f64>(&dense)),
        (true, 4) => shared.check().map(|()| snapshot::length_of_convolutions::<f32>(&shared)),
        (true, _) => shared.check().map(|()| snapshot::length_of_convolutions::<f64>(&shared)),
    };
    // The older versions lack two words.
    let lacking = if snapshot.bytes()[4] < 3 { 2 * snapshot.word_bytes() } else { 0 };
    assert_eq!(length, Ok(snapshot.bytes().len() + lacking));
}
