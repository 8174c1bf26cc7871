//! The flash that a learner takes: a net in f32 that steps, rotates and predicts.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{Config, Error, Learner, Loss, Net, Targets};

const NET: Net<'static> = Net::new(&ekfac::layers![8 => 4 Tanh => 2 Identity], Loss::SoftmaxCrossEntropy);

ekfac_firmware::firmware!(run);

fn run() -> bool {
    learn(black_box(&mut [0.0; NET.words(1)])).is_ok()
}

fn learn(memory: &mut [f32]) -> Result<(), Error> {
    let mut learner = Learner::new(black_box(NET), black_box(Config::default()), 7, 1, memory)?;
    let input = black_box([0.5; 8]);
    black_box(learner.step(&input, Targets::Classes(black_box(&[1])))?);
    black_box(learner.rotate(black_box(3))?);
    black_box(learner.predict(&input)?);
    Ok(())
}
