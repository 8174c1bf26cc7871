//! A NOR flash in memory whose power can be cut: writes only clear bits, and only where the flash was erased before; an erase
//! sets a whole page.
//!
//! Power is counted in steps: a word written is one, a page erased [`ERASE_STEPS`]. The step in which it fails leaves the word
//! it was at, or the part of the page it had reached, as an arbitrary mixture of old and new; from then on every call fails, until
//! [`MockFlash::reboot`]. With error correction a torn word cannot be read at all.

use crate::random::Draws;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use std::collections::BTreeSet;

/// Steps of the erasure of one page.
pub const ERASE_STEPS: usize = 8;

/// What the flash fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power is gone.
    PowerCut,
    /// Error correction gave a word up.
    Uncorrectable,
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

/// The flash: words of `WRITE` bytes, pages of `ERASE` bytes, reads in units of `READ`.
#[derive(Clone, Debug)]
pub struct MockFlash<const READ: usize, const WRITE: usize, const ERASE: usize> {
    bytes: Vec<u8>,
    /// Words written since their page was erased.
    written: BTreeSet<usize>,
    torn: BTreeSet<usize>,
    corrects: bool,
    power: Option<usize>,
    steps: usize,
    last_write: Option<u32>,
    draws: Draws,
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> MockFlash<READ, WRITE, ERASE> {
    /// Pages that were never erased and hold anything, with error correction or without.
    pub fn new(pages: usize, corrects: bool, seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let bytes: Vec<u8> = (0..pages * ERASE).map(|_| draws.index(256) as u8).collect();
        let written = (0..bytes.len() / WRITE).collect();
        Self {
            bytes,
            written,
            torn: BTreeSet::new(),
            corrects,
            power: None,
            steps: 0,
            last_write: None,
            draws,
        }
    }

    /// The power lasts for so many steps from now on. Another seed for what the cut leaves.
    pub fn cut_after(&mut self, steps: usize, seed: u64) {
        self.power = Some(steps);
        self.draws = Draws::new(seed);
    }

    /// The power is back, for good.
    pub fn reboot(&mut self) {
        self.power = None;
    }

    /// Steps since the start.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Where the last write began.
    pub fn last_write(&self) -> Option<u32> {
        self.last_write
    }

    /// The bytes, to damage them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn is_dead(&self) -> bool {
        self.power == Some(0)
    }

    /// Takes one step; false when the power fails in it.
    fn step(&mut self) -> bool {
        self.steps += 1;
        match &mut self.power {
            None => true,
            Some(left) => {
                *left = left.saturating_sub(1);
                *left > 0
            }
        }
    }

    fn clear_word(&mut self, word: usize, new: &[u8]) {
        assert!(self.written.insert(word), "word {word} is written twice without an erase");
        let whole = self.step();
        for (place, new) in (word * WRITE..).zip(new) {
            let old = self.bytes[place];
            assert_eq!(old & new, *new, "byte {place} is not erased");
            let spared = if whole { 0 } else { self.draws.index(256) as u8 };
            self.bytes[place] = new | (old & spared);
        }
        if !whole {
            self.torn.insert(word);
        }
    }

    fn erase_page(&mut self, page: usize) {
        let start = page * ERASE;
        for step in 1..=ERASE_STEPS {
            if self.step() {
                continue;
            }
            // An erase clears before it sets: up to where it got, a byte may hold anything. At times it did all, or nothing.
            let reached = start + (ERASE * step).div_ceil(ERASE_STEPS);
            let kind = self.draws.index(4);
            for place in start..reached {
                self.bytes[place] = match kind {
                    0 => 0xFF,
                    1 => self.bytes[place],
                    2 => self.bytes[place] | self.draws.index(256) as u8,
                    _ => self.draws.index(256) as u8,
                };
            }
            self.torn.extend(start / WRITE..reached.div_ceil(WRITE));
            return;
        }
        self.bytes[start..start + ERASE].fill(0xFF);
        for word in start / WRITE..(start + ERASE) / WRITE {
            self.written.remove(&word);
            self.torn.remove(&word);
        }
    }
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> ErrorType for MockFlash<READ, WRITE, ERASE> {
    type Error = Fault;
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> ReadNorFlash
    for MockFlash<READ, WRITE, ERASE>
{
    const READ_SIZE: usize = READ;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let (start, length) = (offset as usize, bytes.len());
        assert!(start.is_multiple_of(READ) && length.is_multiple_of(READ), "a read of {length} at {start}");
        if self.is_dead() {
            return Err(Fault::PowerCut);
        }
        let words = start / WRITE..(start + length).div_ceil(WRITE);
        if self.corrects && self.torn.range(words).next().is_some() {
            return Err(Fault::Uncorrectable);
        }
        bytes.copy_from_slice(&self.bytes[start..start + length]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> NorFlash for MockFlash<READ, WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        let (from, to) = (from as usize, to as usize);
        assert!(
            from.is_multiple_of(ERASE) && to.is_multiple_of(ERASE) && from <= to && to <= self.bytes.len()
        );
        for page in from / ERASE..to / ERASE {
            if self.is_dead() {
                break;
            }
            self.erase_page(page);
        }
        if self.is_dead() { Err(Fault::PowerCut) } else { Ok(()) }
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let start = offset as usize;
        assert!(start.is_multiple_of(WRITE) && bytes.len().is_multiple_of(WRITE));
        self.last_write = Some(offset);
        for (word, new) in (start / WRITE..).zip(bytes.chunks(WRITE)) {
            if self.is_dead() {
                break;
            }
            self.clear_word(word, new);
        }
        if self.is_dead() { Err(Fault::PowerCut) } else { Ok(()) }
    }
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize>
    embedded_storage_async::nor_flash::ReadNorFlash for MockFlash<READ, WRITE, ERASE>
{
    const READ_SIZE: usize = READ;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        ReadNorFlash::read(self, offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> embedded_storage_async::nor_flash::NorFlash
    for MockFlash<READ, WRITE, ERASE>
{
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        NorFlash::erase(self, from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        NorFlash::write(self, offset, bytes)
    }
}
