//! Devices in the program: the list, and comparisons on a device.
//!
//! Mutants that these tests catch: a missing engine without a remedy, a comparison that goes on without its device or writes before
//! it looks, a device row that is the processor's, baselines that change with the device.

use clap::Parser;
use ekfac_std::{
    offload::{
        Fault,
        devices::{Absent, Device, Kind, devices},
    },
    program::{self, Arguments},
};
use ekfac_tests::offload::vulkan_is_due;
use serde_json::Value;
use std::{fs, path::Path};

fn run(words: &[&str]) -> Result<(), String> {
    let words = ["ekfac"].iter().chain(words);
    let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
    program::run(arguments).map_err(|error| error.to_string())
}

/// Losses by optimiser, as they stand in the file.
fn compare(folder: &Path, device: &str) -> Result<Vec<(String, Value)>, String> {
    let out = folder.join(device);
    let words = ["compare", "--optimizers", "ekfac-ra,sgd", "--epochs", "2", "--device", device, "--out"];
    run(&[&words[..], &[out.to_str().unwrap()]].concat())?;
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(out.join("results.json")).unwrap()).unwrap();
    let row = |row: &Value| (row["optimizer"].as_str().unwrap().to_owned(), row["loss"].clone());
    Ok(rows.iter().map(row).collect())
}

#[test]
fn the_list_ends_well_whatever_is_there() {
    run(&["devices"]).unwrap();
    let text = program::devices::report(devices);
    for kind in Kind::ALL {
        assert!(text.contains(kind.name()), "{text}");
        match devices(kind) {
            Ok(found) => assert!(found.iter().all(|device| text.contains(device.name.trim())), "{text}"),
            Err(absent) => assert!(text.contains(&format!("\n{kind}: {absent}")), "{text}"),
        }
    }
    assert!(devices(Kind::Cpu).unwrap()[0].driver.contains("threads"));
    #[cfg(not(feature = "wgpu"))]
    assert!(text.contains("--features program,wgpu"), "{text}");
    #[cfg(not(feature = "cuda"))]
    assert!(text.contains("--features program,cuda"), "{text}");
}

#[test]
fn the_list_says_what_is_missing_and_what_to_do() {
    let text = program::devices::report(|kind| match kind {
        Kind::Cpu => Ok(vec![Device {
            number: 3,
            name: "a processor".to_owned(),
            driver: "4 threads".to_owned(),
            memory: Some(3 << 30),
        }]),
        Kind::Wgpu => {
            Err(Absent::NoLibrary { libraries: "libone, libtwo".to_owned(), remedy: "install them" })
        }
        Kind::Cuda => Err(Absent::NoDevice { what: "an empty slot".to_owned(), remedy: "put one in" }),
    });
    for part in ["a processor", "4 threads", "3.0 GiB"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.contains("\nwgpu: not found: libone, libtwo; install them"), "{text}");
    assert!(text.contains("\ncuda: no device: an empty slot; put one in"), "{text}");
    let fault = Absent::Fails(Fault::OutOfMemory(7)).to_string();
    assert!(fault.contains("7 words") && fault.contains("--device cpu"), "{fault}");
}

#[test]
fn a_device_that_is_not_there_is_an_error_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Kind::Wgpu, Kind::Cuda] {
        let Err(absent) = devices(kind) else { continue };
        for more in [&[][..], &["--study"]] {
            let out = folder.path().join("out");
            let words = ["compare", "--device", kind.name(), "--out", out.to_str().unwrap()];
            let error = run(&[&words[..], more].concat()).unwrap_err();
            assert_eq!(error, format!("--device {kind}: {absent}"));
            assert!(!out.exists(), "a folder was made");
        }
    }
    assert!(
        run(&["compare", "--device", "abacus"]).unwrap_err().contains("possible values: cpu, wgpu, cuda")
    );
}

#[test]
fn a_comparison_on_a_device_agrees_with_the_processors() {
    let folder = tempfile::tempdir().unwrap();
    let on_host = compare(folder.path(), "cpu").unwrap();
    for kind in [Kind::Wgpu, Kind::Cuda] {
        if let Err(absent) = devices(kind) {
            assert!(kind != Kind::Wgpu || !vulkan_is_due(), "{absent}");
            println!("SKIPPED: {kind}: {absent}");
            continue;
        }
        let on_device = compare(folder.path(), kind.name()).unwrap();
        let mut rounded = false;
        for ((name, host), (same, device)) in on_host.iter().zip(&on_device) {
            assert_eq!(name, same);
            if name == "sgd" {
                assert_eq!(host, device, "a baseline runs on the processor");
            } else {
                let (host, device) = (host.as_f64().unwrap(), device.as_f64().unwrap());
                assert!((host - device).abs() <= 1e-2 * host, "{host} and {device}");
                rounded |= host != device;
            }
        }
        assert!(rounded && on_host.len() == on_device.len(), "the device's run is the processor's");
    }
}
