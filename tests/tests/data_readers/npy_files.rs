//! NPY files of every kind, and all that can be wrong with them.

use super::{Folder, assert_message, gzip, npy_file, npy_text};
use ekfac_std::data::{Array, npy};

// Mutant: ignore the byte order, mix up types of the same size, forget a type.
#[test]
fn npy_files_of_every_element_type_and_byte_order() {
    let folder = Folder::new("npy-types");
    macro_rules! check {
        ($($kind:ty as $code:literal: $values:expr => $expected:expr),*) => {$(
            let values: [$kind; 3] = $values;
            let expected = Array { shape: vec![3], values: $expected.to_vec() };
            let little: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
            for (order, payload) in [("<", little), (">", big)] {
                let file = npy_file(&format!("{order}{}", $code), false, "(3,)", &payload);
                assert_eq!(npy::read(folder.write("x.npy", &file)).unwrap(), expected, "{order}{}", $code);
                assert_eq!(npy::read(folder.write("x.npy.gz", &gzip(&file))).unwrap(), expected);
            }
        )*};
    }
    check!(
        i16 as "i2": [1, -2, 300] => [1.0, -2.0, 300.0],
        i32 as "i4": [1, -2, 70_000] => [1.0, -2.0, 70_000.0],
        i64 as "i8": [1, -2, 1 << 40] => [1.0, -2.0, 1_099_511_627_776.0],
        u16 as "u2": [1, 2, 65_535] => [1.0, 2.0, 65_535.0],
        u32 as "u4": [1, 2, 1 << 31] => [1.0, 2.0, 2_147_483_648.0],
        u64 as "u8": [1, 2, 1 << 63] => [1.0, 2.0, 9_223_372_036_854_775_808.0],
        f32 as "f4": [0.1, -2.0, 1e30] => [0.1, -2.0, 1e30],
        f64 as "f8": [0.1, -2.0, 1e30] => [0.1, -2.0, 1e30]
    );
    for (descr, last) in [("|u1", 255.0), ("|i1", -1.0)] {
        let file = npy_file(descr, false, "(3,)", &[0, 1, 255]);
        assert_eq!(npy::read(folder.write("x.npy", &file)).unwrap().values, [0.0, 1.0, last]);
    }
    let file = npy_file("|b1", false, "(3,)", &[0, 1, 1]);
    assert_eq!(npy::read(folder.write("x.npy", &file)).unwrap().values, [0.0, 1.0, 1.0]);
    let file = npy_file("|u1", false, "()", &[9]);
    assert_eq!(npy::read(folder.write("x.npy", &file)).unwrap(), Array { shape: vec![], values: vec![9.0] });
}

// Mutant: return Fortran order as it lies, or reverse only two of three dimensions.
#[test]
fn npy_fortran_order_becomes_row_major() {
    let folder = Folder::new("npy-fortran");
    // Element (i, j, k) of a 2 x 3 x 4 array is 100 i + 10 j + k.
    let mut fortran = Vec::new();
    let mut expected = Vec::new();
    for k in 0..4 {
        for j in 0..3 {
            fortran.extend([10 * j + k, 100 + 10 * j + k]);
        }
    }
    for i in 0..2 {
        for j in 0..3 {
            expected.extend((0..4).map(|k: u8| f32::from(100 * i + 10 * j + k)));
        }
    }
    let file = npy_file("|u1", true, "(2, 3, 4)", &fortran);
    let array = npy::read(folder.write("f.npy", &file)).unwrap();
    assert_eq!(array, Array { shape: vec![2, 3, 4], values: expected });
}

// Mutant: take a short read for zeros, at any byte; trust the header.
#[test]
fn npy_files_cut_at_every_byte_or_going_on_are_errors() {
    let folder = Folder::new("npy-cut");
    let file = npy_file("<f4", false, "(1, 2)", &[0; 8]);
    for length in 0..file.len() {
        assert_message(
            npy::read(folder.write("cut.npy", &file[..length])),
            "cut.npy",
            &["invalid NPY at byte"],
        );
        let path = folder.write("cut.npy.gz", &gzip(&file[..length]));
        assert!(npy::read(&path).is_err(), "{length}");
    }
    let long = [&file[..], &[0]].concat();
    assert_message(npy::read(folder.write("long.npy", &long)), "long.npy", &["found more bytes"]);
    assert_message(npy::read(folder.write("long.gz", &gzip(&long))), "long.gz", &["found more bytes"]);
}

// Mutant: hand the header to `npyz` unchecked: it panics on the products and stalls on nested brackets.
#[test]
fn npy_headers_that_promise_too_much_are_errors() {
    let folder = Folder::new("npy-hostile");
    let huge = "9223372036854775807";
    let shapes = [
        format!("({huge}, {huge})"),
        format!("(0, {huge}, {huge})"),
        format!("({huge},)"),
        "(99999999999999999999999,)".to_owned(),
        "(4294967296, 1024)".to_owned(),
        "(-1,)".to_owned(),
        format!("[{huge}, {huge}]"),
        "(".repeat(30_000),
        "[".repeat(30_000),
        "{".repeat(30_000),
    ];
    for shape in &shapes {
        let file = npy_file("<f8", false, shape, &[0; 8]);
        assert_message(npy::read(folder.write("hostile.npy", &file)), "hostile.npy", &["invalid NPY"]);
        assert!(npy::read(folder.write("hostile.gz", &gzip(&file))).is_err());
    }
    // Brackets in a key must not hide the shape.
    for key in ["(9,)", "[", "{"] {
        let text =
            format!("{{'{key}': 0, 'descr': '<f8', 'fortran_order': False, 'shape': ({huge}, {huge}), }}");
        let path = folder.write("hidden.npy", &npy_text(&text, &[0; 8]));
        assert_message(npy::read(&path), "hidden.npy", &["a dictionary with a shape"]);
    }
    let version_2 = [b"\x93NUMPY\x02\x00".as_slice(), &u32::MAX.to_le_bytes(), b"{}"].concat();
    assert_message(
        npy::read(folder.write("v2.npy", &version_2)),
        "v2.npy",
        &["header of at most 65535", "4294967295"],
    );
}

// Mutant: read another type as bytes.
#[test]
fn npy_types_that_are_not_numbers_are_errors() {
    let folder = Folder::new("npy-kinds");
    for descr in ["<f2", "<c8", "|S4", "<U4", "|O", "<M8[s]", "<f16", "nonsense"] {
        let file = npy_file(descr, false, "(1,)", &[0; 16]);
        assert_message(npy::read(folder.write("kind.npy", &file)), "kind.npy", &["numpy.save"]);
    }
    let record = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n";
    assert!(npy::read(folder.write("record.npy", &npy_text(record, &[0; 4]))).is_err());
}
