//! What all firmware here shares: the way in, the way out, and the panic handler.
#![no_std]

pub mod flash;
#[cfg(target_arch = "arm")]
pub mod meter;

use semihosting::{println, process};

/// Prints one figure for the host to read.
pub fn figure(name: &str, value: u64) {
    println!("figure\t{name}\t{value}");
}

/// Runs learners, and prints what they found and the digest of all their bits; false for one that fails.
#[cfg(feature = "workload")]
pub fn show(runs: &[ekfac_workload::Run]) -> bool {
    for run in runs {
        let Ok(report) = (run.run)() else { return false };
        report.figures().iter().for_each(|(what, count)| println!("figure\t{}: {what}\t{count}", run.name));
        println!("digest\t{}\t{:016x}", run.name, report.digest.0);
    }
    true
}

/// Ends the emulation.
pub fn end(good: bool) -> ! {
    process::exit(if good { 0 } else { 1 })
}

#[cfg(not(feature = "no-panic"))]
#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    println!("panic: {information}");
    process::exit(101)
}

#[cfg(feature = "no-panic")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_can_be_reached() -> !;
    }
    // SAFETY: nobody defines it, so nothing that calls it links.
    unsafe { a_panic_can_be_reached() }
}

#[cfg(target_arch = "arm")]
#[cortex_m_rt::exception]
unsafe fn HardFault(_frame: &cortex_m_rt::ExceptionFrame) -> ! {
    process::exit(102)
}

/// Names the entry point of a firmware: a function `fn() -> bool`, true when all went well.
#[macro_export]
macro_rules! firmware {
    ($main:path) => {
        #[cfg_attr(target_arch = "arm", cortex_m_rt::entry)]
        #[cfg_attr(target_arch = "riscv32", riscv_rt::entry)]
        fn entry() -> ! {
            $crate::end($main())
        }
    };
}
