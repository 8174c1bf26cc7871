//! The comparison. A figure holds if it is at most its bound, a digest if it is the committed one; one without a bound, or
//! a bound without a figure, does not.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::Path,
};

/// name, digest.
const DIGESTS: &str = include_str!("../../digests.tsv");
/// target, name, bound, unit; a `*` stands for every target that has no bound of its own.
const BOUNDS: &str = include_str!("../../bounds.tsv");

/// All that must show the digests.
const TARGETS: [&str; 8] = [
    "x86_64-debug",
    "x86_64-release",
    "x86_64-native",
    "powerpc",
    "thumbv7em-none-eabihf",
    "riscv32imac-unknown-none-elf",
    "riscv32imafc-unknown-none-elf",
    "thumbv6m-none-eabi",
];

type Key = (String, String);

/// Prints the table and writes it as JSON. What these targets should have printed must be there; without any, what all should have.
///
/// # Errors
/// A file that cannot be read or written, or anything that does not hold.
pub(crate) fn check(folder: &Path, json: &Path, targets: &[&str]) -> Result<(), Box<dyn Error>> {
    let (figures, digests) = read(folder)?;
    let golden: BTreeMap<&str, &str> = DIGESTS.lines().filter_map(|line| line.split_once('\t')).collect();
    let (bounds, mut used) = (bounds()?, BTreeSet::new());
    let mut rows = Vec::new();
    for ((target, name), value) in &digests {
        let expected = golden.get(name.as_str()).copied().unwrap_or("none");
        let ok = value == expected;
        rows.push(row(&format!("digest: {name}"), target, json!(value), json!(expected), "bits", ok));
    }
    let asked = |target: &str| targets.is_empty() || targets.contains(&target);
    for target in TARGETS.into_iter().filter(|target| asked(target)) {
        let names = golden.keys().copied().filter(|name| is_run_on(name, target));
        expect_all(&digests, target, names, &mut rows);
    }
    for ((target, name), value) in &figures {
        let key = [target.as_str(), "*"].map(|target| (target.to_owned(), name.clone()));
        let bound = key.iter().find_map(|key| bounds.get(key)).cloned();
        used.extend(key);
        let ok = bound.as_ref().is_some_and(|(bound, _)| value <= bound);
        let (bound, unit) = bound.map_or((Value::Null, "?".to_owned()), |(bound, unit)| (json!(bound), unit));
        rows.push(row(name, target, json!(value), bound, &unit, ok));
    }
    for ((target, name), (bound, unit)) in
        bounds.into_iter().filter(|(key, _)| !used.contains(key) && asked(&key.0))
    {
        rows.push(row(&name, &target, Value::Null, json!(bound), &unit, false));
    }
    let failed = print(&rows);
    fs::write(json, serde_json::to_string_pretty(&rows)?)?;
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} figures do not hold", rows.len()).into()) }
}

/// Whether a target runs what leaves this digest.
fn is_run_on(name: &str, target: &str) -> bool {
    match target {
        "thumbv6m-none-eabi" => {
            !matches!(name, "cold" | "tuned") && !name.contains("convolutions") && !name.starts_with("32-")
        }
        "x86_64-debug" | "x86_64-release" | "x86_64-native" | "powerpc" => true,
        _ => !name.contains("small net"),
    }
}

fn expect_all<'n>(
    digests: &BTreeMap<Key, String>,
    target: &str,
    names: impl Iterator<Item = &'n str>,
    rows: &mut Vec<Value>,
) {
    for name in names.filter(|name| !digests.contains_key(&(target.to_owned(), (*name).to_owned()))) {
        rows.push(row(&format!("digest: {name}"), target, Value::Null, json!("any"), "bits", false));
    }
}

fn row(name: &str, target: &str, value: Value, bound: Value, unit: &str, ok: bool) -> Value {
    json!({ "name": name, "target": target, "value": value, "bound": bound, "unit": unit, "ok": ok })
}

type Outputs = (BTreeMap<Key, u64>, BTreeMap<Key, String>);

fn read(folder: &Path) -> Result<Outputs, Box<dyn Error>> {
    let (mut figures, mut digests) = (BTreeMap::new(), BTreeMap::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((target, _)) = file.split_once('.') else { continue };
        for line in fs::read_to_string(&path)?.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["figure", name, value] => {
                    figures.insert((target.to_owned(), name.to_owned()), value.parse()?);
                }
                ["digest", name, value] => {
                    digests.insert((target.to_owned(), name.to_owned()), value.to_owned());
                }
                _ => return Err(format!("{file}: {line}").into()),
            }
        }
    }
    Ok((figures, digests))
}

fn bounds() -> Result<BTreeMap<Key, (u64, String)>, Box<dyn Error>> {
    let mut bounds = BTreeMap::new();
    for line in BOUNDS.lines().filter(|line| !line.starts_with('#')) {
        let [target, name, bound, unit] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("bounds.tsv: {line}").into());
        };
        bounds.insert((target.to_owned(), name.to_owned()), (bound.parse()?, unit.to_owned()));
    }
    Ok(bounds)
}

fn print(rows: &[Value]) -> usize {
    let text = |row: &Value, key: &str| match &row[key] {
        Value::String(text) => text.clone(),
        Value::Null => "missing".to_owned(),
        other => other.to_string(),
    };
    println!("{:<30} {:<46} {:>17} {:>17}  {:<13}", "target", "figure", "value", "bound", "unit");
    for row in rows {
        let ok = if row["ok"] == true { "" } else { "FAILED" };
        let [target, name, value, bound, unit] =
            ["target", "name", "value", "bound", "unit"].map(|key| text(row, key));
        println!("{target:<30} {name:<46} {value:>17} {bound:>17}  {unit:<13} {ok}");
    }
    rows.iter().filter(|row| row["ok"] != true).count()
}
