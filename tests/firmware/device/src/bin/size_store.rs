//! The flash that a learner takes together with snapshots in a flash of two slots.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{Config, Learner, Loss, Net, Targets, snapshot::FlashStore};
use ekfac_firmware::flash::RamFlash;

const NET: Net<'static> = Net::new(&ekfac::layers![8 => 4 Tanh => 2 Identity], Loss::SoftmaxCrossEntropy);

ekfac_firmware::firmware!(run);

fn run() -> bool {
    learn(black_box(&mut [0.0; NET.words(1)]), black_box(&mut [0; 8192])).is_some()
}

fn learn(memory: &mut [f32], flash: &mut [u8]) -> Option<u32> {
    let mut learner = Learner::new(black_box(NET), black_box(Config::default()), 7, 1, memory).ok()?;
    let mut store = FlashStore::new(RamFlash(flash), 0..8192).ok()?;
    store.load(&mut learner).ok()?;
    let input = black_box([0.5; 8]);
    black_box(learner.step(&input, Targets::Classes(black_box(&[1]))).ok()?);
    black_box(learner.rotate(black_box(3)).ok()?);
    black_box(learner.predict(&input).ok()?);
    store.save(&learner).ok()
}
