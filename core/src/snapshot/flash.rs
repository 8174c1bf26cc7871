//! Two slots in NOR flash, behind the traits of `embedded-storage`: a power cut leaves the old snapshot or the new one.
//!
//! ```text
//! slot      record (64 bytes) | snapshot, its last write padded with 0xFF
//! record    "EKFC" | sequence number (4) | length (4) | CRC-32 of the snapshot (4) | CRC-32 of these 16 bytes (4)
//! ```
//!
//! A save erases the slot that does not hold the newest whole snapshot, writes the snapshot, reads it back, and writes the
//! record last, in one call. *Invariant*: the newest whole snapshot is never touched, so whatever a cut leaves of an erase or a
//! write, and however often it comes, the store holds that one or the new one. *Cost*: one erase and one write of a slot, the
//! other slot and the new one read once more; each slot wears half as fast as the saves come. *Failure*: an error before the
//! erase for a run that could not be restored or does not fit; a flash that does not hold what was written is noticed before the
//! record is. A slot that the flash cannot read, as after a cut under error correction, counts as damaged. It is assumed that
//! a flash, read twice, says the same twice.

use super::{CHUNK, Refusal, Run, SnapshotError, checksum, decode, run, run::Layers};
use crate::{Error, Scalar, config::expect};
use core::ops::Range;
use embedded_storage::nor_flash::NorFlash;

/// A store for one snapshot at a time.
///
/// Built at every start of the device; nothing about the flash is kept in RAM.
///
/// ```
/// use ekfac::{Learner, snapshot::{FlashStore, SnapshotError}};
/// use embedded_storage::nor_flash::NorFlash;
///
/// fn run<F: NorFlash>(
///     store: &mut FlashStore<F>, // FlashStore::new(flash, 0x8_0000..0x8_4000)?
///     learner: &mut Learner<'_, f32>,
/// ) -> Result<(), SnapshotError<F::Error>> {
///     // None at the very first start: the learner is as it was.
///     let _resumed = store.load(learner)?;
///     // ... steps ...
///     store.save(learner)?;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct FlashStore<F> {
    flash: F,
    start: u32,
    slot_bytes: u32,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    First,
    Second,
}

/// What makes the contents of a slot count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    sequence: u32,
    length: u32,
    checksum: u32,
}

const RECORD_MAGIC: [u8; 4] = *b"EKFC";
const RECORD: usize = 20;

impl Record {
    fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        let words = [
            RECORD_MAGIC,
            self.sequence.to_le_bytes(),
            self.length.to_le_bytes(),
            self.checksum.to_le_bytes(),
        ];
        let mut own = checksum();
        words.iter().for_each(|word| own.update(word));
        let words = words.into_iter().chain([own.finalize().to_le_bytes()]);
        bytes.iter_mut().zip(words.flatten()).for_each(|(to, byte)| *to = byte);
        bytes
    }

    fn from_bytes(bytes: &[u8; CHUNK]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let [_, sequence, length, checksum, ..] = words else { return None };
        let [sequence, length, checksum] = [sequence, length, checksum].map(|word| u32::from_le_bytes(*word));
        let record = Self { sequence, length, checksum };
        bytes.starts_with(&record.to_bytes()).then_some(record)
    }

    /// Whether this one was written after the other; the numbers may wrap.
    fn is_after(&self, other: &Self) -> bool {
        self.sequence.wrapping_sub(other.sequence).cast_signed() > 0
    }
}

impl<F: NorFlash> FlashStore<F> {
    /// A store over a range of the flash, whose two halves are the slots. Nothing is read or written yet.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a flash whose units of reading and writing do not divide 64 bytes, and for a range that does not
    /// lie in it, whose start or half is not a whole number of erase units and of 64 bytes, or that is empty.
    pub fn new(flash: F, range: Range<u32>) -> Result<Self, Error> {
        let (start, bytes) = (range.start, range.end.saturating_sub(range.start));
        let slot_bytes = bytes / 2;
        let divides = |unit: usize, whole: usize| whole.checked_rem(unit) == Some(0);
        expect(divides(F::READ_SIZE, CHUNK) && divides(F::WRITE_SIZE, CHUNK), "flash")?;
        let aligned =
            |offset: u32| divides(F::ERASE_SIZE, offset as usize) && divides(CHUNK, offset as usize);
        let halves = bytes.is_multiple_of(2) && aligned(start) && aligned(slot_bytes);
        expect(halves && slot_bytes as usize > CHUNK && range.end as usize <= flash.capacity(), "range")?;
        Ok(Self { flash, start, slot_bytes })
    }

    /// Gives the flash back.
    pub fn release(self) -> F {
        self.flash
    }

    /// Saves the run of a learner of either kind. Returns its sequence number, one more than that of the snapshot before.
    ///
    /// # Errors
    /// [`Refusal`] for a run that could not be restored, and [`Refusal::Room`]: before anything is erased. What the flash
    /// fails with, and [`Refusal::Checksum`] for one that does not hold what was written: the snapshot before is still there.
    pub fn save<T: Scalar>(&mut self, learner: &impl Run<T>) -> Result<u32, SnapshotError<F::Error>> {
        run::check(learner)?;
        let (bytes, available) = (learner.layers().bytes(T::WIDTH), self.slot_bytes as usize);
        let needed = bytes.saturating_add(CHUNK).next_multiple_of(CHUNK);
        if needed > available {
            return Err(Refusal::Room { needed, available }.into());
        }
        // Where neither slot is whole there is nothing to lose.
        let (slot, sequence) = match self.newest() {
            Ok(Some((Slot::First, record))) => (Slot::Second, record.sequence.wrapping_add(1)),
            Ok(Some((Slot::Second, record))) => (Slot::First, record.sequence.wrapping_add(1)),
            Ok(None) | Err(_) => (Slot::First, 0),
        };
        let base = self.base(slot);
        self.flash.erase(base, base + self.slot_bytes).map_err(SnapshotError::Medium)?;
        let (flash, mut offset) = (&mut self.flash, base + CHUNK as u32);
        run::save(learner, |piece| {
            let written = write_padded(flash, offset, piece);
            offset += CHUNK as u32;
            written
        })?;
        let checksum = decode::whole(bytes, |offset, into| self.read(slot, offset, into))?;
        let record = Record { sequence, length: bytes as u32, checksum };
        write_padded(&mut self.flash, base, &record.to_bytes()).map_err(SnapshotError::Medium)?;
        match self.record(slot).map_err(SnapshotError::Medium)? {
            Some(found) if found == record => Ok(sequence),
            _ => Err(Refusal::Checksum { stored: 0, computed: checksum }.into()),
        }
    }

    /// Restores the newest whole snapshot and returns its sequence number; `None` where there is none, and the learner is as it
    /// was.
    ///
    /// # Errors
    /// [`Refusal`] for a snapshot of another network or precision, before any write; what the flash fails with, where it can
    /// read neither slot.
    pub fn load<T: Scalar>(
        &mut self,
        learner: &mut impl Run<T>,
    ) -> Result<Option<u32>, SnapshotError<F::Error>> {
        let Some((slot, record)) = self.newest().map_err(SnapshotError::Medium)? else { return Ok(None) };
        run::restore(learner, record.length as usize, |offset, into| self.read(slot, offset, into))?;
        Ok(Some(record.sequence))
    }

    /// The newest whole snapshot; an error only where there is none and the flash failed.
    fn newest(&mut self) -> Result<Option<(Slot, Record)>, F::Error> {
        let (first, second) = (self.inspect(Slot::First), self.inspect(Slot::Second));
        match (first, second) {
            (Ok(Some(first)), Ok(Some(second))) if second.is_after(&first) => {
                Ok(Some((Slot::Second, second)))
            }
            (Ok(Some(first)), _) => Ok(Some((Slot::First, first))),
            (_, Ok(Some(second))) => Ok(Some((Slot::Second, second))),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(None), Ok(None)) => Ok(None),
        }
    }

    /// The record of a slot whose snapshot is whole.
    fn inspect(&mut self, slot: Slot) -> Result<Option<Record>, F::Error> {
        let Some(record) = self.record(slot)? else { return Ok(None) };
        let length = record.length as usize;
        if length > (self.slot_bytes as usize).saturating_sub(CHUNK) {
            return Ok(None);
        }
        match decode::whole(length, |offset, into| self.read(slot, offset, into)) {
            Ok(checksum) => Ok((checksum == record.checksum).then_some(record)),
            Err(SnapshotError::Refused(_)) => Ok(None),
            Err(SnapshotError::Medium(error)) => Err(error),
        }
    }

    fn record(&mut self, slot: Slot) -> Result<Option<Record>, F::Error> {
        let mut bytes = [0; CHUNK];
        self.flash.read(self.base(slot), &mut bytes)?;
        Ok(Record::from_bytes(&bytes))
    }

    /// Reads from a snapshot; a chunk at a time, since a flash may read in units only.
    fn read(&mut self, slot: Slot, offset: usize, into: &mut [u8]) -> Result<(), F::Error> {
        let mut bytes = [0; CHUNK];
        // An offset within the slot, so within 32 bits.
        self.flash.read(self.base(slot) + CHUNK as u32 + offset as u32, &mut bytes)?;
        into.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        Ok(())
    }

    fn base(&self, slot: Slot) -> u32 {
        match slot {
            Slot::First => self.start,
            Slot::Second => self.start + self.slot_bytes,
        }
    }
}

/// Writes at most a chunk, padded to whole units.
fn write_padded<F: NorFlash>(flash: &mut F, offset: u32, piece: &[u8]) -> Result<(), F::Error> {
    let mut bytes = [0xFF; CHUNK];
    bytes.iter_mut().zip(piece).for_each(|(to, byte)| *to = *byte);
    // A unit divides a chunk, so the padded piece is no longer than one.
    let padded = piece.len().next_multiple_of(F::WRITE_SIZE);
    flash.write(offset, bytes.get(..padded).unwrap_or_default())
}
