//! A run into bytes. The format stands in the [module](super) above.

use super::{
    CHUNK, Checksum, Layers, MAGIC, Refusal, SnapshotError, check_progress, checksum, counters, each_record,
    each_word, means, record, refusal,
};
use crate::{Progress, Scalar};
use core::convert::Infallible;

/// Refuses what [`encode`] could not write or nobody could restore.
pub(crate) fn check<T: Scalar>(
    net: &impl Layers,
    progress: &Progress<T>,
    state: &[T],
) -> Result<(), Refusal> {
    let (found, expected) = (net.count(), usize::from(u8::MAX));
    if found > expected {
        return Err(Refusal::Layers { expected, found });
    }
    each_record(net, |layer, record| record.map(drop).ok_or(Refusal::Layer { layer }))?;
    let needed = net.bytes(T::WIDTH);
    if u32::try_from(needed).is_err() {
        return Err(Refusal::Room { needed, available: u32::MAX as usize });
    }
    check_progress(progress)?;
    let mut words = state.iter().copied();
    each_word(net, |index| {
        words.next().ok_or(SnapshotError::<Infallible>::Refused(Refusal::NonFinite { index }))
    })
    .map_err(refusal)
}

/// Writes a run that has passed [`check`].
pub(crate) fn encode<T: Scalar, N: Layers, E>(
    net: &N,
    progress: &Progress<T>,
    state: &[T],
    write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut writer = Writer { write, chunk: [0; CHUNK], filled: 0, checksum: checksum() };
    writer.put(&MAGIC)?;
    writer.put(&N::VERSION.to_le_bytes())?;
    writer.put(&[T::WIDTH as u8, net.count() as u8])?;
    writer.put(&(net.bytes(T::WIDTH) as u32).to_le_bytes())?;
    writer.put(&record::loss(net.loss()))?;
    writer.put(&progress.seed.to_le_bytes())?;
    for (_, count) in counters(progress) {
        writer.put(&count.to_le_bytes())?;
    }
    for mean in means(progress) {
        writer.put_word(mean)?;
    }
    each_record(net, |_, record| record.map_or(Ok(()), |record| writer.put(&record)))?;
    for word in state {
        writer.put_word(*word)?;
    }
    writer.finish()
}

/// Gathers bytes into chunks, and their checksum.
struct Writer<F> {
    write: F,
    chunk: [u8; CHUNK],
    filled: usize,
    checksum: Checksum,
}

impl<E, F: FnMut(&[u8]) -> Result<(), E>> Writer<F> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.checksum.update(bytes);
        self.push(bytes)
    }

    fn put_word<T: Scalar>(&mut self, word: T) -> Result<(), E> {
        self.put(word.to_bit_pattern().to_le_bytes().get(..T::WIDTH).unwrap_or_default())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), E> {
        for byte in bytes {
            if let Some(place) = self.chunk.get_mut(self.filled) {
                *place = *byte;
            }
            self.filled += 1;
            if self.filled == CHUNK {
                (self.write)(&self.chunk)?;
                self.filled = 0;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), E> {
        let checksum = self.checksum.clone().finalize();
        self.push(&checksum.to_le_bytes())?;
        match self.chunk.get(..self.filled) {
            None | Some([]) => Ok(()),
            Some(rest) => (self.write)(rest),
        }
    }
}
