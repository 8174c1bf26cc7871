//! IDX files of every kind, and all that can be wrong with them.

use super::{Folder, assert_message, gzip, idx_file, npy_file};
use ekfac_std::data::{Array, idx, npy};

/// The payloads of 1, -2 and 100 (255 for the unsigned type) in every element type.
fn idx_kinds() -> Vec<(u8, Vec<u8>, [f32; 3])> {
    let signed = [1.0, -2.0, 100.0];
    vec![
        (0x08, vec![1, 254, 255], [1.0, 254.0, 255.0]),
        (0x09, vec![1, 254, 100], signed),
        (0x0B, [1_i16, -2, 100].iter().flat_map(|v| v.to_be_bytes()).collect(), signed),
        (0x0C, [1_i32, -2, 100].iter().flat_map(|v| v.to_be_bytes()).collect(), signed),
        (0x0D, [1_f32, -2.0, 100.0].iter().flat_map(|v| v.to_be_bytes()).collect(), signed),
        (0x0E, [1_f64, -2.0, 100.0].iter().flat_map(|v| v.to_be_bytes()).collect(), signed),
    ]
}

// Mutant: little-endian elements, a wrong size, an unsigned i8.
#[test]
fn idx_files_of_every_element_type_raw_and_gzip() {
    let folder = Folder::new("idx-types");
    for (kind, payload, values) in idx_kinds() {
        let file = idx_file(kind, &[1, 3], &payload);
        let expected = Array { shape: vec![1, 3], values: values.to_vec() };
        assert_eq!(idx::read(folder.write("raw", &file)).unwrap(), expected);
        // Gzip is told by its first bytes, so the name is deliberately that of a raw file.
        assert_eq!(idx::read(folder.write("images-idx3-ubyte", &gzip(&file))).unwrap(), expected);
    }
}

// Mutant: take a short read for zeros, at any byte; a loop over chunks that loses its place.
#[test]
fn idx_files_cut_at_every_byte_are_errors() {
    let folder = Folder::new("idx-cut");
    for (kind, payload, _) in idx_kinds() {
        let file = idx_file(kind, &[3], &payload);
        for length in 0..file.len() {
            let path = folder.write("cut.idx", &file[..length]);
            assert_message(idx::read(&path), "cut.idx", &["invalid IDX at byte"]);
            let path = folder.write("cut.idx.gz", &gzip(&file[..length]));
            assert_message(idx::read(&path), "cut.idx.gz", &["cut.idx.gz"]);
        }
        let packed = gzip(&file);
        for length in 3..packed.len() {
            assert!(idx::read(folder.write("packed", &packed[..length])).is_err(), "{length}");
        }
    }
}

// Mutant: chunks that overlap or skip.
#[test]
fn idx_files_larger_than_the_buffers_keep_every_value() {
    let folder = Folder::new("idx-large");
    let values: Vec<i32> = (0..70_000).collect();
    let payload: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    let file = idx_file(0x0C, &[700, 100], &payload);
    let expected: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    assert!(idx::read(folder.write("raw", &file)).unwrap().values == expected);
    assert!(idx::read(folder.write("gz", &gzip(&file))).unwrap().values == expected);
    let cut = &file[..file.len() - 2];
    let parts = ["at byte 280010", "the end of the file after 279998 bytes"];
    assert_message(idx::read(folder.write("raw", cut)), "raw", &parts);
    assert_message(idx::read(folder.write("gz", &gzip(cut))), "gz", &parts);
}

// Mutant: leave out the check for the end.
#[test]
fn idx_files_that_go_on_are_errors() {
    let folder = Folder::new("idx-long");
    let file = idx_file(0x08, &[2], &[1, 2, 3]);
    let parts = ["at byte 10", "the end of the file after 2 elements of 1 bytes, found more bytes"];
    assert_message(idx::read(folder.write("long", &file)), "long", &parts);
    assert_message(idx::read(folder.write("long.gz", &gzip(&file))), "long.gz", &parts);
}

// Mutant: accept any magic number, or a file without dimensions.
#[test]
fn idx_files_with_a_wrong_magic_number_are_errors() {
    let folder = Folder::new("idx-magic");
    for magic in [[1, 0, 8, 1], [0, 1, 8, 1], [0, 0, 0x0A, 1], [0, 0, 8, 0]] {
        let path = folder.write("magic", &[&magic[..], &[0, 0, 0, 1, 7]].concat());
        let found = format!("found {magic:02X?}");
        assert_message(idx::read(&path), "magic", &["at byte 0", &found, "check that this is an IDX file"]);
    }
}

// Mutant: multiply without a check, or reserve memory before comparing with the file: 16 EiB, or 64 GiB for the
// last shape, which only an allocation that is refused or a killed process would show.
#[test]
fn idx_headers_that_promise_too_much_are_errors() {
    let folder = Folder::new("idx-hostile");
    let big = u32::MAX;
    for shape in [vec![big; 3], vec![big; 255], vec![0, big, big, big], vec![big, big], vec![big, 4]] {
        for kind in [0x08, 0x0E] {
            let file = idx_file(kind, &shape, &[1, 2, 3]);
            assert_message(idx::read(folder.write("hostile", &file)), "hostile", &["invalid IDX"]);
            assert_message(
                idx::read(folder.write("hostile.gz", &gzip(&file))),
                "hostile.gz",
                &["invalid IDX"],
            );
        }
    }
    let empty = idx::read(folder.write("empty", &idx_file(0x08, &[0, 28, 28], &[]))).unwrap();
    assert_eq!(empty, Array { shape: vec![0, 28, 28], values: vec![] });
}

// Mutant: let NaN through, or report the wrong element.
#[test]
fn binary_values_that_are_not_finite_are_errors() {
    let folder = Folder::new("finite");
    for bad in [f64::NAN, f64::INFINITY, 1e39] {
        let payload: Vec<u8> = [1.0, bad].iter().flat_map(|v: &f64| v.to_be_bytes()).collect();
        let path = folder.write("i", &idx_file(0x0E, &[2], &payload));
        assert_message(idx::read(&path), "i", &["at byte 16", "at element 1"]);
        let path = folder.write("n", &npy_file(">f8", false, "(2,)", &payload));
        assert_message(npy::read(&path), "n", &["at element 1"]);
    }
}
