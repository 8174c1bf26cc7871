//! The readers of IDX, NPY and CSV files and the methods of data sets. All files are written here byte by byte, the
//! gzip wrapper included, so that no reader is checked against a writer from the same crate.

use std::fs;
use std::path::PathBuf;

use ekfac_std::data::{
    self, Array, Column, Csv, CsvOptions, DataError, Dataset, LoadOptions, TargetKind, Targets, csv, idx, npy,
};

/// A folder of its own for each test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ekfac-data-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
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
fn gzip(bytes: &[u8]) -> Vec<u8> {
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

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn idx_file(kind: u8, shape: &[u32], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, kind, shape.len() as u8];
    shape.iter().for_each(|length| out.extend(length.to_be_bytes()));
    out.extend(payload);
    out
}

fn npy_file(descr: &str, fortran: bool, shape: &str, payload: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    npy_text(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"), payload)
}

fn npy_text(text: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out.extend(payload);
    out
}

/// The message names the file, has all `parts`, and says what to do after a `;`.
fn assert_message<T: std::fmt::Debug>(result: Result<T, DataError>, file: &str, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts.iter().chain(&[file, "; "]) {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

// IDX

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

// NPY

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

// CSV

fn read_csv(folder: &Folder, text: &str) -> Result<Csv, DataError> {
    csv::read(folder.write("t.csv", text.as_bytes()), &CsvOptions::default())
}

fn classes(labels: &[u32], names: &[&str]) -> Targets {
    Targets::Classes { labels: labels.to_vec(), names: names.iter().map(|&n| n.to_owned()).collect() }
}

fn values(values: &[f32], width: usize) -> Targets {
    Targets::Values { values: values.to_vec(), width }
}

// Mutant: a fixed delimiter; a header kept as an example or an example lost as a header; order of appearance.
#[test]
fn csv_delimiters_and_headers_are_detected() {
    let folder = Folder::new("csv-detect");
    for delimiter in [",", ";", "\t"] {
        for end in ["\n", "\r\n"] {
            for header in [true, false] {
                let rows = ["1,2.5,y", " -3 ,4e1,\"x\"", "", "5,6,y"].map(|row| row.replace(',', delimiter));
                let mut text = if header { ["a", "b", "kind"].join(delimiter) + end } else { String::new() };
                text.push_str(&rows.join(end));
                let csv = read_csv(&folder, &text).unwrap();
                assert_eq!(csv.data.inputs, [1.0, 2.5, -3.0, 40.0, 5.0, 6.0], "{text:?}");
                assert_eq!((csv.data.examples, csv.data.input_width, csv.data.name.as_str()), (3, 2, "t"));
                assert_eq!(csv.data.targets, classes(&[1, 0, 1], &["x", "y"]));
                let names = if header { ["a", "b", "kind"] } else { ["column 1", "column 2", "column 3"] };
                assert_eq!(
                    (&csv.input_names[..], &csv.target_names[..]),
                    (&names.map(str::to_owned)[..2], &names.map(str::to_owned)[2..])
                );
            }
        }
    }
    let packed = folder.write("packed.csv", &gzip(b"a;b\n1;2\n3;4.5\n"));
    assert_eq!(csv::read(packed, &CsvOptions::default()).unwrap().data.targets, values(&[2.0, 4.5], 1));
    let quoted = read_csv(&folder, "1,\"a;b;c\"\n2,\"a;b;d\"\n").unwrap();
    assert_eq!(quoted.data.targets, classes(&[0, 1], &["a;b;c", "a;b;d"]));
    let bom = read_csv(&folder, "\u{feff}a,b\n1,2\n").unwrap();
    assert_eq!(bom.input_names, ["a"]);
}

// Mutant: skip a first row with a faulty cell as if it were a header.
#[test]
fn a_first_row_of_words_and_numbers_must_be_decided() {
    let folder = Folder::new("csv-ambiguous");
    let text = "NA,2,3\n4,5,6.5\n";
    let parts = ["line 1", "column 1 holds \"NA\"", "column 2 holds \"2\"", "header"];
    assert_message(read_csv(&folder, text), "t.csv", &parts);
    let forced = |header| {
        let options = CsvOptions { header: Some(header), ..Default::default() };
        csv::read(folder.write("t.csv", text.as_bytes()), &options)
    };
    assert_eq!(forced(true).unwrap().data.inputs, [4.0, 5.0]);
    assert_message(forced(false), "t.csv, line 1, column 1:", &["\"NA\""]);
    assert_message(read_csv(&folder, ",2,3\n4,5,6\n"), "t.csv, line 1, column 1:", &["found \"\""]);
}

// Mutant: count lines from 0, skip blank lines in the count, count `\r\n` late (as the crate `csv` does), leave out
// the name, count columns from 0.
#[test]
fn csv_cells_that_are_not_finite_numbers_are_reported_with_line_and_column() {
    let folder = Folder::new("csv-cells");
    for bad in ["", "NaN", "inf", "-infinity", "1e39", "abc", "1,5"] {
        for end in ["\n", "\r\n"] {
            let cell = if bad.contains(',') { format!("\"{bad}\"") } else { bad.to_owned() };
            let rows = ["age,\"the\nsize\",y", "1,2,3", "", "4,5,6", &format!("7,{cell},9")];
            let message = read_csv(&folder, &rows.join(end)).unwrap_err().to_string();
            let place = format!(
                "t.csv, line 6, column 2 (\"the\\nsize\"): expected a finite number, found {bad:?}; "
            );
            assert!(message.contains(&place), "{message}");
            let message =
                read_csv(&folder, &format!("1,2{end}{end}3,4{end}{cell},6{end}")).unwrap_err().to_string();
            assert!(
                message
                    .contains(&format!("t.csv, line 4, column 1: expected a finite number, found {bad:?}; ")),
                "{message}"
            );
        }
    }
    let message = read_csv(&folder, "1,2\n3,4.5\n5,x\n").unwrap_err().to_string();
    assert!(
        message.contains("t.csv, line 3, column 2: ") && message.contains("ask for classes"),
        "{message}"
    );
    let path = folder.write("t.csv", b"a,b\n1,2\n\xff,3\n");
    assert_message(
        csv::read(path, &CsvOptions::default()),
        "t.csv, line 3, column 1",
        &["expected a finite number"],
    );
}

// Mutant: pad or cut rows; read an open quote to the end of the file.
#[test]
fn csv_rows_of_another_length_are_errors() {
    let folder = Folder::new("csv-ragged");
    for (row, found) in [("3", 1), ("3,4,5", 3)] {
        let message = read_csv(&folder, &format!("1,2\r\n{row}\r\n")).unwrap_err().to_string();
        let place = format!("t.csv, line 2: expected 2 cells as in the first row, found {found}; ");
        assert!(message.contains(&place), "{message}");
    }
    let parts = ["the quote opened in line 2 is never closed"];
    assert_message(read_csv(&folder, "1,2\n3,\"4\n5,6\n7,8\n"), "t.csv", &parts);
    assert_message(read_csv(&folder, "1,2\n3,\"4"), "t.csv", &parts);
    assert_message(read_csv(&folder, ""), "t.csv", &["no rows"]);
    assert_message(read_csv(&folder, "\n\r\n\n"), "t.csv", &["no rows"]);
    let only_header = CsvOptions { header: Some(true), ..Default::default() };
    assert_message(csv::read(folder.write("t.csv", b"a,b\n"), &only_header), "t.csv", &["no example"]);
    let cut = gzip(b"1,2\n3,4\n");
    let path = folder.write("t.csv.gz", &cut[..cut.len() - 4]);
    assert_message(csv::read(path, &CsvOptions::default()), "t.csv.gz", &["decompress"]);
}

// Mutant: always take the last column; lose the order of several targets; number columns from 0.
#[test]
fn csv_target_columns_are_chosen_by_name_or_number() {
    let folder = Folder::new("csv-targets");
    let path = folder.write("t.csv", b"a,b,c\n1,2,3\n4,5,6\n");
    let read = |targets: &[Column], kind| {
        csv::read(&path, &CsvOptions { targets: targets.to_vec(), kind, ..Default::default() })
    };
    let b = read(&[Column::Name("b".into())], TargetKind::Auto).unwrap();
    assert_eq!((&b.data.inputs[..], &b.data.targets), (&[1.0, 3.0, 4.0, 6.0][..], &values(&[2.0, 5.0], 1)));
    assert_eq!(read(&[Column::Number(2)], TargetKind::Auto).unwrap(), b);
    let two = read(&[Column::Last, Column::Number(1)], TargetKind::Auto).unwrap();
    assert_eq!(
        (&two.data.inputs[..], &two.data.targets),
        (&[2.0, 5.0][..], &values(&[3.0, 1.0, 6.0, 4.0], 2))
    );
    assert_eq!(two.target_names, ["c", "a"]);
    let none = read(&[], TargetKind::Auto).unwrap();
    assert_eq!((none.data.input_width, &none.data.targets), (3, &Targets::None));

    let listed = ["choose one of: 1 \"a\", 2 \"b\", 3 \"c\""];
    assert_message(
        read(&[Column::Name("d".into())], TargetKind::Auto),
        "t.csv: there is no column \"d\"",
        &listed,
    );
    assert_message(read(&[Column::Number(4)], TargetKind::Auto), "t.csv: there is no column 4", &listed);
    assert_message(read(&[Column::Number(0)], TargetKind::Auto), "t.csv: there is no column 0", &listed);
    let all = [Column::Number(1), Column::Number(2), Column::Number(3)];
    assert_message(read(&all, TargetKind::Auto), "t.csv", &["all 3 columns are targets"]);
    assert_message(read(&all[..2], TargetKind::Classes), "t.csv", &["2 target columns"]);
    let unnamed =
        CsvOptions { targets: vec![Column::Name("a".into())], header: Some(false), ..Default::default() };
    assert_message(
        csv::read(folder.write("u.csv", b"1,2\n3,4\n"), &unnamed),
        "u.csv",
        &["1 to 2", "no header"],
    );
}

// Mutant: number classes as text (10 before 2), by appearance, or take any whole numbers for classes.
#[test]
fn csv_targets_are_classes_or_values_by_rule_or_on_demand() {
    let folder = Folder::new("csv-kinds");
    let read = |targets: &str, kind| {
        let text: String = targets.split(' ').map(|target| format!("0.5,{target}\n")).collect();
        csv::read(
            folder.write("t.csv", text.as_bytes()),
            &CsvOptions { kind, header: Some(false), ..Default::default() },
        )
    };
    let auto = |targets| read(targets, TargetKind::Auto).unwrap().data.targets;
    assert_eq!(auto("1 0 0 1"), classes(&[1, 0, 0, 1], &["0", "1"]));
    assert_eq!(auto("1 0 0"), values(&[1.0, 0.0, 0.0], 1));
    assert_eq!(auto("0 2 2 0"), values(&[0.0, 2.0, 2.0, 0.0], 1));
    assert_eq!(auto("0 0 0 0"), values(&[0.0; 4], 1));
    assert_eq!(auto("b a b"), classes(&[1, 0, 1], &["a", "b"]));
    let forced = read("10 2 2.0 -1 x", TargetKind::Classes).unwrap().data.targets;
    assert_eq!(forced, classes(&[1, 2, 3, 0, 4], &["-1", "10", "2", "2.0", "x"]));
    let forced = read("10 2 2.0 -1", TargetKind::Classes).unwrap().data.targets;
    assert_eq!(forced, classes(&[2, 1, 1, 0], &["-1", "2", "10"]));
    assert_eq!(read("1 0 0 1", TargetKind::Values).unwrap().data.targets, values(&[1.0, 0.0, 0.0, 1.0], 1));
    assert_message(read("a b", TargetKind::Values), "t.csv, line 1, column 2", &["finite number"]);
    for missing in ["a  b", "a nan b"] {
        let result = read(missing, TargetKind::Auto);
        assert_message(result, "t.csv, line 2, column 2: expected the name of a class", &[]);
    }
}

// Data sets

// Mutant: choose by name only, forget a companion, pair files of different length.
#[test]
fn load_chooses_the_reader_and_pairs_inputs_with_labels() {
    let folder = Folder::new("load");
    let images = idx_file(0x08, &[2, 2, 2], &[0, 51, 102, 153, 204, 255, 0, 51]);
    let labels = idx_file(0x08, &[2], &[3, 1]);
    let with = |labels: PathBuf| LoadOptions { labels: Some(labels), ..Default::default() };
    let labels_path = folder.write("labels-idx1-ubyte.gz", &gzip(&labels));
    // Neither the raw contents under `.gz` nor the missing extension mislead it.
    for name in ["images.idx3-ubyte.gz", "images"] {
        let mut data = Dataset::load(folder.write(name, &images), &with(labels_path.clone())).unwrap();
        assert_eq!((data.examples, data.input_width, data.name.as_str()), (2, 4, "images"));
        assert_eq!(data.targets, classes(&[3, 1], &["0", "1", "2", "3"]));
        assert_eq!(data.scale_by_max(), 255.0);
        assert_eq!(data.inputs, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.0, 0.2]);
    }
    let x = folder.write("x.npy", &npy_file("|u1", false, "(2, 3)", &[1, 2, 3, 4, 5, 6]));
    let y = folder.write("y.npy", &npy_file("<f4", false, "(2, 1)", &[0, 0, 0, 63, 0, 0, 0, 191]));
    assert_eq!(Dataset::load(&x, &with(y.clone())).unwrap().targets, values(&[0.5, -0.5], 1));
    assert_eq!(Dataset::load(&x, &LoadOptions::default()).unwrap().targets, Targets::None);
    let text = folder.write("t.csv.gz", &gzip(b"1,2,a\n3,4,b\n"));
    assert_eq!(Dataset::load(&text, &LoadOptions::default()).unwrap().targets, classes(&[0, 1], &["a", "b"]));

    let one = folder.write("one.npy", &npy_file("|u1", false, "(3,)", &[1, 0, 1]));
    assert_message(Dataset::load(&x, &with(one)), "\"x\"", &["[2, 3]", "[3]", "belong together"]);
    assert_message(Dataset::load(&text, &with(y)), "t.csv.gz", &["file of labels"]);
    assert_message(
        Dataset::load(folder.write("b", &[1, 0, 2]), &LoadOptions::default()),
        "b",
        &["neither IDX nor NPY"],
    );
    assert_message(
        Dataset::load(folder.write("b.npy", b"1,2"), &LoadOptions::default()),
        "b.npy",
        &["invalid NPY"],
    );
    assert_message(
        Dataset::load(folder.write("b-ubyte", b"1,2"), &LoadOptions::default()),
        "b-ubyte",
        &["invalid IDX"],
    );
    let missing = Dataset::load(folder.0.join("none.csv"), &LoadOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    assert!(missing.to_string().contains("none.csv: cannot open"), "{missing}");
}

// Mutant: believe a shape, accept -1 or 0.5 as a class.
#[test]
fn arrays_that_do_not_fit_are_errors() {
    let array = |shape: &[usize], values: &[f32]| Array { shape: shape.to_vec(), values: values.to_vec() };
    let make = |x, y, kind| Dataset::from_arrays("made", x, y, kind);
    let x = || array(&[2, 1], &[1.0, 2.0]);
    assert_message(make(array(&[3], &[1.0]), None, TargetKind::Auto), "\"made\"", &["1 values", "[3]"]);
    assert_message(make(array(&[usize::MAX, 2], &[]), None, TargetKind::Auto), "\"made\"", &["0 values"]);
    assert_message(make(array(&[], &[1.0]), None, TargetKind::Auto), "\"made\"", &["single value"]);
    for labels in [[-1.0, 0.0], [0.5, 0.0], [f32::NAN, 0.0], [65_536.0, 0.0]] {
        let result = make(x(), Some(array(&[2], &labels)), TargetKind::Classes);
        assert_message(result, "\"made\"", &["whole number"]);
    }
    let wide = make(x(), Some(array(&[2, 2], &[0.0, 1.0, 1.0, 0.0])), TargetKind::Classes);
    assert_message(wide, "\"made\"", &["[2, 2]"]);
}

/// Example i has inputs (i, -i) and value i.
fn numbered(examples: usize) -> Dataset {
    let numbers = || (0..examples).map(|i| i as f32);
    let inputs = numbers().flat_map(|i| [i, -i]).collect();
    let targets = Targets::Values { values: numbers().collect(), width: 1 };
    Dataset { name: "numbered".to_owned(), inputs, input_width: 2, targets, examples }
}

// Mutant: overlapping parts, targets that do not follow their inputs, a seed that is ignored, no shuffle.
#[test]
fn split_is_a_seeded_disjoint_cover() {
    let data = numbered(101);
    let (training, validation) = data.split(0.2, 7).unwrap();
    assert_eq!((training.examples, validation.examples), (81, 20));
    let mut seen = Vec::new();
    for part in [&training, &validation] {
        let Targets::Values { values, .. } = &part.targets else { panic!("no values") };
        assert_eq!(values.len(), part.examples);
        assert_eq!(part.inputs, values.iter().flat_map(|&v| [v, -v]).collect::<Vec<_>>());
        seen.extend_from_slice(values);
    }
    assert!(!seen.is_sorted());
    seen.sort_by(f32::total_cmp);
    assert_eq!(Targets::Values { values: seen, width: 1 }, data.targets);
    assert_eq!(data.split(0.2, 7).unwrap(), (training.clone(), validation));
    assert!(data.split(0.2, 8).unwrap().0 != training);
    assert_eq!(data.split(0.0, 7).unwrap().1.examples, 0);
    for fraction in [-0.1, 1.0, 0.999, f64::NAN, f64::INFINITY] {
        assert_message(data.split(fraction, 7), "\"numbered\"", &["validation part"]);
    }
    let broken = Dataset { examples: 100, ..data };
    assert_message(broken.split(0.2, 7), "\"numbered\"", &["do not agree"]);
}

// Mutant: always put the same example first (an off-by-one in the shuffle).
#[test]
fn split_reaches_every_example_equally() {
    let data = numbered(5);
    let mut held_out = [0; 5];
    for seed in 0..1000 {
        let Targets::Values { values, .. } = data.split(0.2, seed).unwrap().1.targets else {
            panic!("no values")
        };
        held_out[values[0] as usize] += 1;
    }
    // 200 expected, standard deviation 12.6.
    assert!(held_out.iter().all(|count| (140..=260).contains(count)), "{held_out:?}");
}

// Mutant: the sample variance, one mean for all features, a constant feature divided by nearly 0, no scaling.
#[test]
fn standardise_gives_mean_0_and_variance_1_and_applies_to_other_data() {
    let mut data = data::diabetes().unwrap();
    data.inputs.chunks_exact_mut(10).for_each(|example| example[3] = 0.1);
    let (mut training, mut validation) = data.split(0.25, 3).unwrap();
    let raw = validation.inputs[..10].to_vec();
    let standardisation = training.standardise();
    for feature in 0..10 {
        let column: Vec<f64> = training.inputs.chunks_exact(10).map(|e| f64::from(e[feature])).collect();
        let n = column.len() as f64;
        let mean = column.iter().sum::<f64>() / n;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let expected = if feature == 3 { 0.0 } else { 1.0 };
        assert!(mean.abs() < 1e-6 && (variance - expected).abs() < 1e-5, "{feature}: {mean} {variance}");
    }
    assert_eq!(standardisation.scale[3], 1.0);
    standardisation.apply(&mut validation).unwrap();
    for (feature, (&before, &after)) in raw.iter().zip(&validation.inputs).enumerate() {
        let expected = (f64::from(before) - standardisation.mean[feature]) / standardisation.scale[feature];
        assert!((f64::from(after) - expected).abs() < 1e-6, "{feature}");
    }
    assert_message(standardisation.apply(&mut numbered(3)), "\"numbered\"", &["2 features, but 10 means"]);
    let mut empty =
        Dataset { inputs: vec![], input_width: 0, examples: 0, targets: Targets::None, name: String::new() };
    assert!(empty.standardise().mean.is_empty());
    assert_eq!(empty.scale_by_max(), 1.0);
}

// The embedded data. Mutant: a damaged file, targets among the inputs, a forgotten scale.

fn counts(data: &Dataset) -> Vec<usize> {
    let Targets::Classes { labels, names } = &data.targets else { panic!("no classes") };
    (0..names.len()).map(|class| labels.iter().filter(|&&label| label as usize == class).count()).collect()
}

fn assert_shape(data: &Dataset, name: &str, examples: usize, width: usize) {
    assert_eq!((data.name.as_str(), data.examples, data.input_width), (name, examples, width));
    assert_eq!(data.inputs.len(), examples * width);
}

#[test]
fn digits_are_the_published_ones() {
    let data = data::digits().unwrap();
    assert_shape(&data, "digits", 1797, 64);
    assert_eq!(data.inputs.iter().copied().fold(f32::NAN, f32::max), 1.0);
    assert_eq!(data.inputs.iter().copied().fold(f32::NAN, f32::min), 0.0);
    let first = [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0, 0.0, 0.0, 13.0, 15.0, 10.0, 15.0, 5.0, 0.0];
    assert_eq!(data.inputs[..16], first.map(|pixel| pixel / 16.0));
    assert_eq!(counts(&data), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    let Targets::Classes { labels, names } = &data.targets else { panic!("no classes") };
    assert_eq!((&labels[..5], names[9].as_str()), (&[0, 1, 2, 3, 4][..], "9"));
    // Sixteenths are exact; the sum of all cells of the file is 569,788, of which the labels are 8,070.
    let labels: u32 = labels.iter().sum();
    let sum: f64 = data.inputs.iter().map(|&x| f64::from(x) * 16.0).sum();
    assert_eq!(sum + f64::from(labels), 569_788.0);
}

#[test]
fn the_tables_are_the_published_ones() {
    let data = data::breast_cancer().unwrap();
    assert_shape(&data, "breast_cancer", 569, 30);
    assert_eq!((counts(&data), data.inputs[0]), (vec![212, 357], 17.99));
    assert!(matches!(&data.targets, Targets::Classes { names, .. } if names == &["malignant", "benign"]));
    let data = data::wine().unwrap();
    assert_shape(&data, "wine", 178, 13);
    assert_eq!((counts(&data), data.inputs[12]), (vec![59, 71, 48], 1065.0));
    let data = data::diabetes().unwrap();
    assert_shape(&data, "diabetes", 442, 10);
    assert_eq!(data.inputs[..3], [59.0, 2.0, 32.1]);
    let Targets::Values { values, width: 1 } = &data.targets else { panic!("no values") };
    assert_eq!((values.len(), values[0], values[2]), (442, 151.0, 141.0));
}
