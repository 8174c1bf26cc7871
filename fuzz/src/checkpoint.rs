//! Bytes that claim to be a checkpoint, read as `f32` and as `f64`.
//!
//! ```text
//! byte 0    the largest batch, 1 to 4
//! then      the file; the CRC-32 is not compared in a fuzz build, or no input would get past it
//! ```
//!
//! What must hold: no panic and no allocation on the word of a header; what is read can be written and read again, with the
//! same words, settings and texts; and the network that came out of it can predict, and take a step without a panic.

use crate::{Bits, all_bits, byte};
use arbitrary::Unstructured;
use ekfac::{Error, Outcome, Targets};
use ekfac_std::{
    Network,
    checkpoint::{self, Checkpoint, Stored},
};

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let capacity = 1 + usize::from(byte(&mut bytes) % 4);
    let file = bytes.take_rest();
    let _ = checkpoint::dtype(file);
    read::<f32>(file, capacity);
    read::<f64>(file, capacity);
}

fn read<T: Bits + Stored>(file: &[u8], capacity: usize) {
    let Ok(Checkpoint { mut network, extra }) = checkpoint::from_bytes::<T>(file, capacity) else { return };
    // A counter or a setting that JSON cannot hold cannot have come from it.
    let written = checkpoint::to_bytes(&network, &extra).expect("what was read can be written");
    let again = checkpoint::from_bytes::<T>(&written, capacity).expect("what was written can be read");
    assert_eq!(all_bits(again.network.state()), all_bits(network.state()));
    assert_eq!(again.extra, extra);
    assert_eq!((again.network.config(), again.network.progress()), (network.config(), network.progress()));
    use_it(&mut network);
}

fn use_it<T: Bits + Stored>(network: &mut Network<T>) {
    let (inputs, outputs) = (network.net().inputs(), network.net().outputs());
    // State words of any value: the counters could be at the end of their range.
    let input = vec![T::from_f64(0.5); inputs];
    assert_eq!(network.predict(&input).map(|prediction| prediction.len()), Ok(outputs));
    let target = vec![T::from_f64(0.25); outputs];
    let before = all_bits(network.state());
    match network.step(&input, Targets::Values(&target)) {
        Ok(step) if matches!(step.outcome, Outcome::Skipped(_)) => {
            assert_eq!(all_bits(network.state()), before, "a skipped step changed the state");
        }
        Ok(_) | Err(Error::RefreshFailed { .. }) => {}
        Err(error) => panic!("a well-formed example was refused: {error}"),
    }
}
