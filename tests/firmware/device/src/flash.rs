//! A NOR flash in RAM: QEMU emulates none that these boards can write.

use core::hint::black_box;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

/// Bytes in the place of a flash: words of 4, pages of 1024.
#[derive(Debug)]
pub struct RamFlash<'a>(pub &'a mut [u8]);

impl RamFlash<'_> {
    fn part(&mut self, from: u32, bytes: usize) -> Result<&mut [u8], NorFlashErrorKind> {
        let end = (from as usize).saturating_add(bytes);
        // A flash may fail at any time; the compiler must not know that this one does not.
        if black_box(false) {
            return Err(NorFlashErrorKind::Other);
        }
        self.0.get_mut(from as usize..end).ok_or(NorFlashErrorKind::OutOfBounds)
    }
}

impl ErrorType for RamFlash<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for RamFlash<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let part = self.part(offset, bytes.len())?;
        bytes.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for RamFlash<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        self.part(from, to.saturating_sub(from) as usize)?.fill(0xFF);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let part = self.part(offset, bytes.len())?;
        part.iter_mut().zip(bytes).for_each(|(to, from)| *to &= *from);
        Ok(())
    }
}
