//! CSV files: detection, targets, and errors with line and column.

use super::{Folder, assert_message, classes, gzip, values};
use ekfac_std::data::{Column, Csv, CsvOptions, DataError, TargetKind, Targets, csv};

fn read_csv(folder: &Folder, text: &str) -> Result<Csv, DataError> {
    csv::read(folder.write("t.csv", text.as_bytes()), &CsvOptions::default())
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
