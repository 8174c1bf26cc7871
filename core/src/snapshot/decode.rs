//! Bytes into a run: one pass, front to back. Lengths are checked before they are used.
//!
//! What is wrong with the contents is remembered while the rest goes through the checksum: damage is told from a snapshot of
//! another network.

use super::{
    CHECKSUM, CHUNK, Checksum, LAYER_RECORD, LOSS_RECORD, Layers, MAGIC, Refusal, SnapshotError, VERSION,
    VERSIONS, check_progress, checksum, each_record, each_word, missing, record,
};
use crate::{Progress, Scalar};
use core::convert::Infallible;

/// Bytes in memory, to read from.
pub(crate) fn from_slice(bytes: &[u8]) -> impl FnMut(usize, &mut [u8]) -> Result<(), Infallible> + '_ {
    |offset, into| {
        let from = bytes.get(offset..).unwrap_or_default();
        into.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
        Ok(())
    }
}

/// Checks a whole snapshot against a network, shows its state words to `visit`, and returns its progress.
pub(crate) fn scan<T: Scalar, E>(
    net: &impl Layers,
    length: usize,
    read: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    visit: impl FnMut(usize, T),
) -> Result<Progress<T>, SnapshotError<E>> {
    let mut reader = Reader::new(length, read);
    let envelope = reader.envelope()?;
    let mut progress = Progress::new(0);
    let found = match contents(&mut reader, net, envelope, &mut progress, visit) {
        Ok(()) => Ok(()),
        Err(SnapshotError::Refused(refusal)) => Err(refusal),
        Err(failed) => return Err(failed),
    };
    reader.finish()?;
    found.map(|()| progress).map_err(SnapshotError::Refused)
}

/// The CRC-32 at the end of a snapshot that is whole, whatever its network.
#[cfg(feature = "embedded-storage")]
pub(crate) fn whole<E>(
    length: usize,
    read: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
) -> Result<u32, SnapshotError<E>> {
    Reader::new(length, read).finish()
}

/// What stands in front: the same in every version up to the length.
#[derive(Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) version: u16,
    pub(crate) width: u8,
    pub(crate) layers: u8,
}

impl Envelope {
    /// Today's version of the same kind of network.
    pub(crate) fn kind(self) -> u16 {
        if self.version < VERSION { self.version + 2 } else { self.version }
    }
}

fn contents<T: Scalar, N: Layers, E, F: FnMut(usize, &mut [u8]) -> Result<(), E>>(
    reader: &mut Reader<F>,
    net: &N,
    envelope: Envelope,
    progress: &mut Progress<T>,
    mut visit: impl FnMut(usize, T),
) -> Result<(), SnapshotError<E>> {
    let Envelope { version, width, layers } = envelope;
    if envelope.kind() != N::VERSION {
        return Err(Refusal::Kind.into());
    }
    let (expected, found) = (T::WIDTH, usize::from(width));
    if found != expected {
        return Err(Refusal::Scalar { expected, found }.into());
    }
    let (expected, found) = (net.count(), usize::from(layers));
    if found != expected {
        return Err(Refusal::Layers { expected, found }.into());
    }
    let loss: [u8; LOSS_RECORD] = reader.take()?;
    reader.progress(version, progress)?;
    each_record(net, |layer, record| {
        let found: [u8; LAYER_RECORD] = reader.take()?;
        if record == Some(found) { Ok(()) } else { Err(SnapshotError::from(Refusal::Layer { layer })) }
    })?;
    if loss != record::loss(net.loss()) {
        return Err(Refusal::Loss.into());
    }
    let (expected, found) = (net.bytes(T::WIDTH) - missing(version, T::WIDTH), reader.length);
    if expected != found {
        return Err(Refusal::Length { expected, found }.into());
    }
    check_progress(progress)?;
    each_word(net, |index| {
        let word = reader.word()?;
        visit(index, word);
        Ok(word)
    })
}

/// Hands out a snapshot's bytes one after another, and their checksum.
pub(crate) struct Reader<F> {
    read: F,
    length: usize,
    /// Bytes handed out so far.
    at: usize,
    chunk: [u8; CHUNK],
    checksum: Checksum,
}

impl<E, F: FnMut(usize, &mut [u8]) -> Result<(), E>> Reader<F> {
    pub(crate) fn new(length: usize, read: F) -> Self {
        Self { read, length, at: 0, chunk: [0; CHUNK], checksum: checksum() }
    }

    /// Magic, version and length: without them nothing else can be relied on.
    pub(crate) fn envelope(&mut self) -> Result<Envelope, SnapshotError<E>> {
        if self.take::<4>()? != MAGIC {
            return Err(Refusal::Magic.into());
        }
        let version = u16::from_le_bytes(self.take()?);
        if !VERSIONS.contains(&version) {
            return Err(Refusal::Version { found: version }.into());
        }
        let [width, layers] = self.take()?;
        let (expected, found) = (u32::from_le_bytes(self.take()?) as usize, self.length);
        if expected != found {
            return Err(Refusal::Length { expected, found }.into());
        }
        Ok(Envelope { version, width, layers })
    }

    /// The next bytes before the checksum.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError<E>> {
        if self.at.saturating_add(N + CHECKSUM) > self.length {
            let expected = self.at.saturating_add(N + CHECKSUM);
            return Err(Refusal::Length { expected, found: self.length }.into());
        }
        let bytes = self.next_bytes()?;
        self.checksum.update(&bytes);
        Ok(bytes)
    }

    /// The next bytes, which the length has room for.
    fn next_bytes<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError<E>> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            let place = self.at % CHUNK;
            if place == 0 {
                let due = self.length.saturating_sub(self.at).min(CHUNK);
                let room = self.chunk.get_mut(..due).unwrap_or_default();
                (self.read)(self.at, room).map_err(SnapshotError::Medium)?;
            }
            *byte = self.chunk.get(place).copied().unwrap_or(0);
            self.at += 1;
        }
        Ok(bytes)
    }

    pub(crate) fn word<T: Scalar>(&mut self) -> Result<T, SnapshotError<E>> {
        let pattern = if T::WIDTH == 4 {
            u64::from(u32::from_le_bytes(self.take()?))
        } else {
            u64::from_le_bytes(self.take()?)
        };
        Ok(T::from_bit_pattern(pattern))
    }

    fn progress<T: Scalar>(
        &mut self,
        version: u16,
        progress: &mut Progress<T>,
    ) -> Result<(), SnapshotError<E>> {
        for count in [
            &mut progress.seed,
            &mut progress.steps,
            &mut progress.examples,
            &mut progress.skipped,
            &mut progress.degraded,
            &mut progress.rotations,
            &mut progress.operations,
        ] {
            *count = u64::from_le_bytes(self.take()?);
        }
        for mean in [
            &mut progress.damping_multiplier,
            &mut progress.mean_loss,
            &mut progress.mean_length,
            &mut progress.mean_loss_weight,
        ] {
            *mean = self.word()?;
        }
        if version >= VERSION {
            progress.mean_cosine = self.word()?;
            progress.annealing = self.word()?;
        }
        Ok(())
    }

    /// Reads on to the end, and compares the checksum, which it returns.
    pub(crate) fn finish(mut self) -> Result<u32, SnapshotError<E>> {
        while self.at.saturating_add(CHECKSUM) < self.length {
            self.take::<1>()?;
        }
        if self.length < CHECKSUM {
            return Err(Refusal::Length { expected: CHECKSUM, found: self.length }.into());
        }
        let stored = u32::from_le_bytes(self.next_bytes()?);
        let computed = self.checksum.finalize();
        if stored == computed { Ok(stored) } else { Err(Refusal::Checksum { stored, computed }.into()) }
    }
}
