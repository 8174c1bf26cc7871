//! Chooses the linker script: the memory of the board that the target stands for.
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let target = env::var("TARGET")?;
    let board = match target.as_str() {
        "thumbv7em-none-eabihf" => "mps2-an386.x",
        "thumbv6m-none-eabi" => "microbit.x",
        _ => "virt.x",
    };
    println!("cargo:rustc-check-cfg=cfg(sixteen_kilobytes)");
    if target.starts_with("thumbv6m") {
        println!("cargo:rustc-cfg=sixteen_kilobytes");
    }
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    let mut memory = fs::read_to_string(format!("memory/{board}"))?;
    // The proof holds all of core in both precisions and is not run; the fast build is for its time, not for its size.
    if env::var_os("CARGO_FEATURE_NO_PANIC").is_some() || env::var("OPT_LEVEL")? == "3" {
        memory = memory.replace("128K", "2M").replace("256K", "1M");
    }
    fs::write(folder.join("memory.x"), memory)?;
    println!("cargo:rustc-link-search={}", folder.display());
    println!("cargo:rerun-if-changed=memory");
    if target.starts_with("thumb") {
        println!("cargo:rustc-link-arg-bins=--nmagic");
        println!("cargo:rustc-link-arg-bins=-Tlink.x");
    } else if target.starts_with("riscv") {
        println!("cargo:rustc-link-arg-bins=-Tmemory.x");
        println!("cargo:rustc-link-arg-bins=-Tlink.x");
    }
    Ok(())
}
