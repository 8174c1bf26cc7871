//! The readers of IDX, NPY and CSV files and the methods of data sets. All files are written here byte by byte, the
//! gzip wrapper included, so that no reader is checked against a writer from the same crate.

use std::fs;
use std::path::PathBuf;

use ekfac_std::data::{DataError, Targets};

mod csv_files;
mod idx_files;
mod made_sets;
mod npy_files;
mod sets;

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ekfac-data-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A gzip file with stored (uncompressed) blocks, after RFC 1951 and RFC 1952.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        out.push(u8::from(blocks.peek().is_none()));
        let length = block.len() as u16;
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(crc32(bytes).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

pub(crate) fn idx_file(kind: u8, shape: &[u32], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, kind, shape.len() as u8];
    shape.iter().for_each(|length| out.extend(length.to_be_bytes()));
    out.extend(payload);
    out
}

pub(crate) fn npy_file(descr: &str, fortran: bool, shape: &str, payload: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    npy_text(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"), payload)
}

pub(crate) fn npy_text(text: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out.extend(payload);
    out
}

/// The message names the file, has all `parts`, and says what to do after a `;`.
pub(crate) fn assert_message<T: std::fmt::Debug>(result: Result<T, DataError>, file: &str, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts.iter().chain(&[file, "; "]) {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

pub(crate) fn classes(labels: &[u32], names: &[&str]) -> Targets {
    Targets::Classes { labels: labels.to_vec(), names: names.iter().map(|&n| n.to_owned()).collect() }
}

pub(crate) fn values(values: &[f32], width: usize) -> Targets {
    Targets::Values { values: values.to_vec(), width }
}
