//! A file opened for reading: raw or gzip, told apart by the first two bytes and never by the name.
//!
//! A reader that knows from a header how many bytes must follow asks [`Source::expect_payload`] before it
//! allocates. For a raw file that compares with the length of the file; the length of a gzip stream is unknown,
//! so there the values are collected as they arrive and memory grows only with bytes that really exist.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::DataError;

/// Bytes looked at before the reader of a format is chosen.
const HEAD: u64 = 1 << 16;

pub(super) struct Source {
    pub(super) path: PathBuf,
    reader: Chain<Cursor<Vec<u8>>, Box<dyn Read>>,
    /// Bytes in the file; `None` for gzip and for what is not a regular file.
    length: Option<u64>,
    gzip: bool,
}

/// What a binary format promised: `count` elements of `size` bytes from byte `offset` on.
#[derive(Clone, Copy)]
pub(super) struct Payload {
    pub(super) format: &'static str,
    pub(super) offset: u64,
    pub(super) count: u64,
    pub(super) size: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |action, next| move |cause| DataError::Io { path: path.to_owned(), action, cause, next };
        let file = File::open(path).map_err(failed("open", "check the path and the permissions"))?;
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
        Self::from_reader(path, Box::new(BufReader::with_capacity(1 << 16, file)), length)
    }

    /// The embedded data sets; `label` stands for the path in messages.
    pub(super) fn from_bytes(label: &str, bytes: &'static [u8]) -> Result<Self, DataError> {
        Self::from_reader(Path::new(label), Box::new(bytes), Some(bytes.len() as u64))
    }

    fn from_reader(path: &Path, mut raw: Box<dyn BufRead>, length: Option<u64>) -> Result<Self, DataError> {
        let gzip = raw.fill_buf().map_err(|e| read_error(path, false, e))?.starts_with(&[0x1f, 0x8b]);
        let mut rest: Box<dyn Read> =
            if gzip { Box::new(BufReader::new(MultiGzDecoder::new(raw))) } else { Box::new(raw) };
        let mut head = Vec::new();
        rest.by_ref().take(HEAD).read_to_end(&mut head).map_err(|e| read_error(path, gzip, e))?;
        let reader = Cursor::new(head).chain(rest);
        Ok(Self { path: path.to_owned(), reader, length: length.filter(|_| !gzip), gzip })
    }

    /// The first 64 KiB of the (decompressed) contents.
    pub(super) fn head(&self) -> &[u8] {
        self.reader.get_ref().0.get_ref()
    }

    /// The error for a failure while reading, which for gzip is nearly always damage.
    pub(super) fn read_error(&self, cause: io::Error) -> DataError {
        read_error(&self.path, self.gzip, cause)
    }

    /// Fills `buffer` as far as the contents go; fewer bytes than its length mean the end.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DataError> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.read_error(e)),
            }
        }
        Ok(filled)
    }

    /// An empty vector for the elements of `payload`, with room for all of them where the length of the file
    /// proves that they are there, and an error where it proves that they are not.
    pub(super) fn expect_payload(&self, payload: &Payload) -> Result<Vec<f32>, DataError> {
        let mut values = Vec::new();
        let Some(length) = self.length else { return Ok(values) };
        let present = length.saturating_sub(payload.offset);
        match payload.count.checked_mul(payload.size) {
            // More bytes than needed are found by `expect_end`.
            Some(needed) if needed <= present => {}
            _ => return Err(self.truncated(payload, present)),
        }
        usize::try_from(payload.count).ok().and_then(|n| values.try_reserve_exact(n).ok()).ok_or_else(
            || {
                let problem = format!("{} values do not fit in memory", payload.count);
                DataError::unusable(&self.path, problem, "read a smaller file")
            },
        )?;
        Ok(values)
    }

    /// To be called after the last element: refuses a file that goes on.
    pub(super) fn expect_end(&mut self, payload: &Payload) -> Result<(), DataError> {
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.trailing(payload)),
        }
    }

    pub(super) fn truncated(&self, payload: &Payload, present: u64) -> DataError {
        let Payload { format, offset, count, size } = *payload;
        DataError::Format {
            path: self.path.clone(),
            format,
            offset: offset.saturating_add(present),
            expected: format!("{count} elements of {size} bytes from byte {offset} on"),
            found: format!("the end of the file after {present} bytes of them"),
            next: "the file is cut short or its header is wrong: fetch or write it again",
        }
    }

    fn trailing(&self, payload: &Payload) -> DataError {
        let Payload { format, offset, count, size } = *payload;
        DataError::Format {
            path: self.path.clone(),
            format,
            offset: offset.saturating_add(count.saturating_mul(size)),
            expected: format!("the end of the file after {count} elements of {size} bytes"),
            found: "more bytes".to_owned(),
            next: "the header does not describe the whole file: fetch or write it again",
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

fn read_error(path: &Path, gzip: bool, cause: io::Error) -> DataError {
    let (action, next) = if gzip {
        ("decompress", "the gzip file is damaged or cut short: fetch or write it again")
    } else {
        ("read", "check that it is a readable file")
    };
    DataError::Io { path: path.to_owned(), action, cause, next }
}
