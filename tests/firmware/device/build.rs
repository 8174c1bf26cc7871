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
    fs::copy(format!("memory/{board}"), folder.join("memory.x"))?;
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
