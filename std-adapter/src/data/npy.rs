//! Reader of NPY files, the format of `numpy.save`, raw or gzip, on top of the crate `npyz`.
//!
//! Element types: booleans, signed and unsigned integers of 1, 2, 4 and 8 bytes, floats of 4 and 8 bytes, in
//! either byte order; C or Fortran order, returned row-major. Half floats, complex numbers, strings, dates,
//! records and pickled objects are refused.
//!
//! Cost: one pass, 4 bytes of memory for each element, twice that for Fortran order. Fails with
//! [`DataError::Format`]. The text of the header is checked before `npyz` sees it: `npyz` 0.9.1 multiplies the
//! dimensions without a check for overflow, believes any length of the header and takes minutes over a few hundred
//! nested brackets, so that a hostile file could crash or stall the program.

use std::path::Path;

use npyz::{DType, Deserialize, NpyHeader, Order, TypeChar, TypeRead};

use super::DataError;
use super::array::{Array, collect, elements, in_memory};
use super::source::{Payload, Source};

const FORMAT: &str = "NPY";
const MAGIC: &[u8] = b"\x93NUMPY";
/// What version 1 of the format can express, and far more than a plain array needs.
const LONGEST_HEADER: usize = 65_535;

/// Reads an NPY file.
///
/// # Errors
/// [`DataError::Io`] where the file cannot be read or decompressed, [`DataError::Format`] where its contents break
/// the format or hold elements of another type.
pub fn read(path: impl AsRef<Path>) -> Result<Array, DataError> {
    parse(Source::open(path.as_ref())?)
}

/// Whether `head` starts like an NPY file.
pub(super) fn recognises(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

pub(super) fn parse(mut source: Source) -> Result<Array, DataError> {
    let raw = raw_header(&mut source)?;
    let invalid = |expected: &str, found: String| DataError::Format {
        path: source.path.clone(),
        format: FORMAT,
        offset: 0,
        expected: expected.to_owned(),
        found,
        next: "save a plain numeric array with numpy.save",
    };
    let header = NpyHeader::from_reader(raw.as_slice())
        .map_err(|e| invalid("the header of a plain array", format!("a header for which npyz says: {e}")))?;
    let element = Element::of(&header.dtype())
        .ok_or_else(|| invalid("booleans, integers or 4- or 8-byte floats", header.dtype().descr()))?;
    let (Some(count), Some(shape)) = (elements(header.shape()), in_memory(header.shape())) else {
        return Err(invalid("dimensions that fit in memory", format!("{:?}", header.shape())));
    };
    let payload = Payload { format: FORMAT, offset: raw.len() as u64, count, size: element.size() };
    let values = element.read(&mut source, &header.dtype(), &payload)?;
    Ok(match header.order() {
        Order::C => Array { shape, values },
        Order::Fortran => Array { values: row_major(&shape, &values), shape },
    })
}

/// The bytes up to the first element, checked so that `npyz` can be trusted with them.
fn raw_header(source: &mut Source) -> Result<Vec<u8>, DataError> {
    let invalid = |source: &Source, offset, expected: &str, found| DataError::Format {
        path: source.path.clone(),
        format: FORMAT,
        offset,
        expected: expected.to_owned(),
        found,
        next: "check that this is a whole file written by numpy.save from a plain numeric array",
    };
    let mut raw = vec![0; 8];
    let filled = source.fill(&mut raw)?;
    raw.truncate(filled);
    let width = match raw.strip_prefix(MAGIC) {
        Some([1, 0]) => 2,
        Some([2 | 3, 0]) => 4,
        _ => {
            let found = format!("{raw:02X?}");
            return Err(invalid(
                source,
                0,
                "93 4E 55 4D 50 59 (\\x93NUMPY) and version 1.0, 2.0 or 3.0",
                found,
            ));
        }
    };
    let mut length = [0; 4];
    let length_bytes = length.get_mut(..width).unwrap_or_default();
    let filled = source.fill(length_bytes)?;
    raw.extend_from_slice(length_bytes);
    let length = u32::from_le_bytes(length) as usize;
    if filled < width || length > LONGEST_HEADER {
        let found = if filled < width { "the end of the file".to_owned() } else { length.to_string() };
        return Err(invalid(source, 8, "a header of at most 65535 bytes", found));
    }
    let start = raw.len();
    raw.resize(start + length, 0);
    let text = raw.get_mut(start..).unwrap_or_default();
    let filled = source.fill(text)?;
    if filled < length {
        let found = format!("the end of the file after {filled}");
        return Err(invalid(source, (start + filled) as u64, &format!("a header of {length} bytes"), found));
    }
    check_text(text).map_err(|(expected, found)| invalid(source, start as u64, expected, found))?;
    Ok(raw)
}

/// The header of a plain array is one dictionary with one tuple, the shape: `{'descr': '<f4', 'fortran_order':
/// False, 'shape': (3, 4), }`. Anything that nests, and any sign, is refused, and so is a shape that overflows.
fn check_text(text: &[u8]) -> Result<(), (&'static str, String)> {
    let shown =
        || String::from_utf8_lossy(text.get(..text.len().min(200)).unwrap_or_default()).trim().to_owned();
    let occurs = |byte: u8| text.iter().filter(|&&b| b == byte).count();
    let nests = [b'(', b')', b'{', b'}'].iter().any(|&byte| occurs(byte) != 1);
    let foreign = text.iter().any(|b| !b.is_ascii() || b"[]+-".contains(b));
    if nests || foreign {
        return Err(("a dictionary with a shape and a simple element type", shown()));
    }
    let after = text.split(|&b| b == b'(').nth(1).unwrap_or_default();
    let tuple = after.split(|&b| b == b')').next().unwrap_or_default();
    let shape: Option<Vec<u64>> = tuple
        .split(|&b| b == b',')
        .map(|length| std::str::from_utf8(length.trim_ascii()).unwrap_or("?"))
        .filter(|length| !length.is_empty())
        .map(|length| length.parse().ok())
        .collect();
    match shape.as_deref().and_then(elements) {
        Some(_) => Ok(()),
        None => Err(("dimensions whose product fits in 64 bits", shown())),
    }
}

#[derive(Clone, Copy)]
enum Element {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
}

impl Element {
    fn of(dtype: &DType) -> Option<Self> {
        let DType::Plain(plain) = dtype else { return None };
        Some(match (plain.type_char(), plain.size_field()) {
            (TypeChar::Bool, 1) => Self::Bool,
            (TypeChar::Int, 1) => Self::I8,
            (TypeChar::Int, 2) => Self::I16,
            (TypeChar::Int, 4) => Self::I32,
            (TypeChar::Int, 8) => Self::I64,
            (TypeChar::Uint, 1) => Self::U8,
            (TypeChar::Uint, 2) => Self::U16,
            (TypeChar::Uint, 4) => Self::U32,
            (TypeChar::Uint, 8) => Self::U64,
            (TypeChar::Float, 4) => Self::F32,
            (TypeChar::Float, 8) => Self::F64,
            _ => return None,
        })
    }

    fn size(self) -> u64 {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    fn read(self, source: &mut Source, dtype: &DType, payload: &Payload) -> Result<Vec<f32>, DataError> {
        match self {
            Self::Bool => values(source, dtype, payload, |v: bool| f32::from(u8::from(v))),
            Self::I8 => values(source, dtype, payload, |v: i8| f32::from(v)),
            Self::I16 => values(source, dtype, payload, |v: i16| f32::from(v)),
            Self::I32 => values(source, dtype, payload, |v: i32| v as f32),
            Self::I64 => values(source, dtype, payload, |v: i64| v as f32),
            Self::U8 => values(source, dtype, payload, |v: u8| f32::from(v)),
            Self::U16 => values(source, dtype, payload, |v: u16| f32::from(v)),
            Self::U32 => values(source, dtype, payload, |v: u32| v as f32),
            Self::U64 => values(source, dtype, payload, |v: u64| v as f32),
            Self::F32 => values(source, dtype, payload, |v: f32| v),
            Self::F64 => values(source, dtype, payload, |v: f64| v as f32),
        }
    }
}

/// The elements in the order of the file.
fn values<T: Deserialize>(
    source: &mut Source,
    dtype: &DType,
    payload: &Payload,
    to_f32: fn(T) -> f32,
) -> Result<Vec<f32>, DataError> {
    let reader = T::reader(dtype)
        .map_err(|e| DataError::unusable(&source.path, e.to_string(), "save the array as float32"))?;
    collect(source, payload, |mut bytes, values| {
        while !bytes.is_empty() {
            values.push(to_f32(reader.read_one(&mut bytes)?));
        }
        Ok(())
    })
}

/// Reorders values whose first index varies fastest.
fn row_major(shape: &[usize], fortran: &[f32]) -> Vec<f32> {
    let mut index = vec![0; shape.len()];
    let mut values = Vec::with_capacity(fortran.len());
    for _ in 0..fortran.len() {
        let position = index.iter().zip(shape).rev().fold(0, |inner, (&i, &length)| inner * length + i);
        values.extend(fortran.get(position));
        for (i, &length) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < length {
                break;
            }
            *i = 0;
        }
    }
    values
}
