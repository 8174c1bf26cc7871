//! Reader of IDX files, the format of MNIST and its relatives, raw or gzip.
//!
//! ```text
//! byte 0, 1   0
//! byte 2      element type: 08 u8, 09 i8, 0B i16, 0C i32, 0D f32, 0E f64
//! byte 3      number of dimensions, at least 1
//! byte 4 ..   length of each dimension, u32
//! then        the elements, row-major; everything is big-endian
//! ```
//!
//! Cost: one pass, 4 bytes of memory for each element. Fails with [`DataError::Format`] on a wrong magic number,
//! an unknown element type, dimensions whose product overflows, a file that ends early or goes on, and values
//! that are not finite. Nothing is allocated on the word of a header alone.

use std::path::Path;

use super::DataError;
use super::array::{Array, collect, elements, in_memory};
use super::source::{Payload, Source};

const FORMAT: &str = "IDX";

/// Reads an IDX file.
///
/// # Errors
/// [`DataError::Io`] where the file cannot be read or decompressed, [`DataError::Format`] where its contents break
/// the format.
///
/// ```
/// use ekfac_std::data::idx;
///
/// let path = std::env::temp_dir().join(format!("ekfac-idx-{}", std::process::id()));
/// std::fs::write(&path, [0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9])?;
/// let array = idx::read(&path)?;
/// assert_eq!(array.shape, [1, 3]);
/// assert_eq!(array.values, [7.0, 8.0, 9.0]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> Result<Array, DataError> {
    parse(Source::open(path.as_ref())?)
}

/// Whether `head` starts like an IDX file.
pub(super) fn recognises(head: &[u8]) -> bool {
    matches!(head, &[0, 0, kind, 1..=255, ..] if Element::from_byte(kind).is_some())
}

pub(super) fn parse(mut source: Source) -> Result<Array, DataError> {
    let (element, dimensions) = magic(&mut source)?;
    let shape = lengths(&mut source, dimensions)?;
    let offset = 4 + 4 * u64::from(dimensions);
    let (Some(count), Some(in_memory)) = (elements(&shape), in_memory(&shape)) else {
        return Err(DataError::Format {
            path: source.path.clone(),
            format: FORMAT,
            offset: 4,
            expected: "dimensions whose product fits in 64 bits".to_owned(),
            found: format!("{shape:?}"),
            next: "the header is wrong: fetch or write the file again",
        });
    };
    let payload = Payload { format: FORMAT, offset, count, size: element.size() as u64 };
    let values = collect(&mut source, &payload, |bytes, values| {
        values.extend(bytes.chunks_exact(element.size()).map(|bytes| element.decode(bytes)));
        Ok(())
    })?;
    Ok(Array { shape: in_memory, values })
}

fn magic(source: &mut Source) -> Result<(Element, u8), DataError> {
    let mut bytes = [0; 4];
    let filled = source.fill(&mut bytes)?;
    let found = bytes.get(..filled).unwrap_or_default();
    match *found {
        [0, 0, kind, dimensions @ 1..=255] if let Some(element) = Element::from_byte(kind) => {
            Ok((element, dimensions))
        }
        _ => Err(DataError::Format {
            path: source.path.clone(),
            format: FORMAT,
            offset: 0,
            expected: "00 00, an element type (08, 09, 0B, 0C, 0D or 0E) and a number of dimensions from 01"
                .to_owned(),
            found: format!("{found:02X?}"),
            next: "check that this is an IDX file",
        }),
    }
}

fn lengths(source: &mut Source, dimensions: u8) -> Result<Vec<u64>, DataError> {
    let mut shape = Vec::with_capacity(usize::from(dimensions));
    for dimension in 0..u64::from(dimensions) {
        let mut bytes = [0; 4];
        let filled = source.fill(&mut bytes)?;
        if filled < bytes.len() {
            return Err(DataError::Format {
                path: source.path.clone(),
                format: FORMAT,
                offset: 4 + 4 * dimension + filled as u64,
                expected: format!("the lengths of {dimensions} dimensions, 4 bytes each"),
                found: "the end of the file".to_owned(),
                next: "the file is cut short: fetch or write it again",
            });
        }
        shape.push(u64::from(u32::from_be_bytes(bytes)));
    }
    Ok(shape)
}

#[derive(Clone, Copy)]
enum Element {
    U8,
    I8,
    I16,
    I32,
    F32,
    F64,
}

impl Element {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x08 => Self::U8,
            0x09 => Self::I8,
            0x0B => Self::I16,
            0x0C => Self::I32,
            0x0D => Self::F32,
            0x0E => Self::F64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// `bytes` has the length [`Self::size`]; NaN, which `collect` refuses, for any other length.
    fn decode(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::U8, &[a]) => f32::from(a),
            (Self::I8, &[a]) => f32::from(a as i8),
            (Self::I16, &[a, b]) => f32::from(i16::from_be_bytes([a, b])),
            (Self::I32, &[a, b, c, d]) => i32::from_be_bytes([a, b, c, d]) as f32,
            (Self::F32, &[a, b, c, d]) => f32::from_be_bytes([a, b, c, d]),
            (Self::F64, &[a, b, c, d, e, f, g, h]) => f64::from_be_bytes([a, b, c, d, e, f, g, h]) as f32,
            _ => f32::NAN,
        }
    }
}
