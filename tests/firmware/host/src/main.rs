//! The desktop's part: `run` prints what the firmware prints; `snapshot FILE` saves the run that the firmware resumes;
//! `check FOLDER JSON [TARGET...]` compares all outputs in a folder, one file TARGET.PROGRAM.txt for each, with the committed
//! digests and bounds, and fails if any does not hold or, for these targets or all, is missing.

mod check;

use ekfac_workload::{CASES, CONVOLUTION_CASES, SMALL_CASES, convolution_learner, learner, resume};
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run"] => run(),
        ["snapshot", path] => snapshot(path),
        ["check", folder, json, ref targets @ ..] => check::check(folder.as_ref(), json.as_ref(), targets),
        _ => Err("usage: run | snapshot FILE | check FOLDER JSON [TARGET...]".into()),
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    for case in SMALL_CASES.iter().chain(CASES).chain(CONVOLUTION_CASES) {
        let digest = (case.run)().map_err(|error| format!("{}: {error:?}", case.name))?;
        println!("digest\t{}\t{:016x}", case.name, digest.0);
    }
    for run in learner::SMALL_RUNS.iter().chain(learner::RUNS).chain(convolution_learner::RUNS) {
        let report = (run.run)().map_err(|error| format!("{}: {error:?}", run.name))?;
        report.figures().iter().for_each(|(what, count)| println!("figure\t{}: {what}\t{count}", run.name));
        println!("digest\t{}\t{:016x}", run.name, report.digest.0);
    }
    // Under the name of the run with stops: the two must be one.
    let digest = resume::uninterrupted().map_err(|error| format!("uninterrupted: {error:?}"))?;
    println!("digest\tresumed\t{:016x}", digest.0);
    let resumed = resume::resumed().map_err(|error| format!("resumed: {error:?}"))?;
    println!("figure\tresumed: bytes not the desktop's\t{}", resumed.differing);
    if resumed.digest == digest { Ok(()) } else { Err("a run with stops is another run".into()) }
}

/// Writes what the firmware includes.
fn snapshot(path: &str) -> Result<(), Box<dyn Error>> {
    let mut bytes = [0; resume::LENGTH];
    resume::half_way(&mut bytes).map_err(|error| format!("{error:?}"))?;
    Ok(fs::write(path, bytes)?)
}
