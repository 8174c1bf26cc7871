//! Instructions and stack, as the emulator lets them be measured.
//!
//! *Instructions*: QEMU's `-icount shift=6` makes one instruction take 64 ns, and the board's timer 0 counts 25 MHz. They
//! are not cycles: a Cortex-M4F takes one to three for most. *Stack*: all between the end of the statics and the stack
//! pointer is painted, and the first changed word tells how deep a call went.

use core::hint::black_box;
use core::ptr;

const TIMER: *mut u32 = 0x4000_0000 as *mut u32;
const PAINT: u32 = 0x5A5A_5A5A;

/// Ticks of the timer in a second.
pub const TICKS_PER_SECOND: u32 = 25_000_000;

/// Starts the timer: once, before anything is measured.
pub fn start() {
    // SAFETY: the registers of timer 0 of the board MPS2 AN386: value, reload, control.
    unsafe {
        TIMER.add(1).write_volatile(u32::MAX);
        TIMER.add(2).write_volatile(u32::MAX);
        TIMER.write_volatile(1);
    }
}

/// The timer's value, which counts down.
#[must_use]
pub fn now() -> u32 {
    // SAFETY: reading the timer's value has no effect.
    unsafe { TIMER.add(1).read_volatile() }
}

/// Instructions of a call, those of measuring taken off.
pub fn instructions<R>(work: impl FnOnce() -> R) -> u64 {
    let idle = ticks(|| ());
    (ticks(work).saturating_sub(idle) * 40).div_ceil(64)
}

fn ticks<R>(work: impl FnOnce() -> R) -> u64 {
    let begin = now();
    black_box(work());
    u64::from(begin.wrapping_sub(now()))
}

/// Bytes of stack that a call takes below its caller.
#[inline(never)]
pub fn stack<R>(work: impl FnOnce() -> R) -> u64 {
    unsafe extern "C" {
        static mut __sheap: u32;
    }
    let bottom = &raw mut __sheap;
    let top = cortex_m::register::msp::read() as usize - 32;
    let words = (top - bottom as usize) / 4;
    for index in 0..words {
        // SAFETY: between the statics and the stack pointer, less a margin, nothing lives.
        unsafe { ptr::write_volatile(bottom.add(index), PAINT) };
    }
    black_box(work());
    // SAFETY: as above, and read only.
    let untouched =
        (0..words).take_while(|index| unsafe { ptr::read_volatile(bottom.add(*index)) } == PAINT).count();
    ((words - untouched) * 4 + 32) as u64
}

/// Instructions, and the operations that they were spent on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Instructions.
    pub instructions: u64,
    /// Operations.
    pub operations: u64,
}

impl Rate {
    /// The figures of the hardest steps, the most of either kind that one took, beside the bound of operations and the time that it
    /// allows at the instructions an operation of these, which are settled.
    pub fn show_hardest(&self, show: impl Fn(&str, u64), hardest: Self, bound: u64) {
        show("hardest step", hardest.instructions);
        show("hardest step: operations below the bound, of 1000", 1000 - hardest.operations * 1000 / bound);
        let allowed = bound * self.instructions / self.operations;
        show("hardest step, 100 = the time of the bound", hardest.instructions * 100 / allowed);
    }

    /// The most of either kind.
    pub fn note(&mut self, instructions: u64, operations: u64) {
        self.instructions = self.instructions.max(instructions);
        self.operations = self.operations.max(operations);
    }
}
