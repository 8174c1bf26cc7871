//! The firmware for the Cortex-M4F under QEMU, every figure of it against its committed bound: `tests/firmware/run quick`.
//!
//! Skipped, visibly, where the tools are not there; never in a continuous integration (`CI` or `EKFAC_CI`), where the script
//! fetches them. All targets: `tests/firmware/run`.

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const TARGET: &str = "thumbv7em-none-eabihf";

/// What is not there, with what brings it.
fn missing() -> Vec<String> {
    let runs = |program: &str| {
        let call =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        call.is_ok_and(|status| status.success())
    };
    let mut missing: Vec<String> = [
        ("bash", "bash"),
        ("qemu-system-arm", "qemu-system-arm"),
        ("arm-none-eabi-size", "binutils-arm-none-eabi"),
    ]
    .into_iter()
    .filter(|(program, _)| !runs(program))
    .map(|(_, package)| format!("the package {package}"))
    .collect();
    let library = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let folder = library.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    if !folder.is_some_and(|folder| Path::new(folder.trim()).is_dir()) {
        missing.push(format!("rustup target add {TARGET}"));
    }
    missing
}

#[test]
fn the_firmware_holds_its_bounds() {
    let missing = missing();
    if !missing.is_empty() && env::var_os("CI").is_none() && env::var_os("EKFAC_CI").is_none() {
        // Past the harness, which would hide what a passing test prints.
        writeln!(std::io::stderr(), "\nfirmware: skipped: install {}", missing.join(", ")).unwrap();
        return;
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("firmware/run");
    // What this build was started with is not meant for a device.
    let output = Command::new("bash").arg(script).arg("quick").env_remove("RUSTFLAGS").output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
