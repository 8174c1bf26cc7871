//! What a step of the convolutional learner costs on a Cortex-M4F: instructions and stack.
#![no_std]
#![no_main]

use ekfac::{Config, Error, Targets, convolution::ConvolutionLearner};
use ekfac_firmware::meter::{self, instructions, stack};
use ekfac_workload::{
    Draws,
    convolution_learner::{COLUMNS, NET, WORDS},
};
use semihosting::println;

ekfac_firmware::firmware!(run);

const WARM_UP: usize = 100;
const MEASURED: usize = 20;

fn run() -> bool {
    meter::start();
    learner(&mut [0.0; WORDS]).is_ok()
}

fn show(what: &str, value: u64) {
    println!("figure\tconvolutions: {what}\t{value}");
}

#[inline(never)]
fn learner(memory: &mut [f32]) -> Result<(), Error> {
    let mut draws = Draws::new(3);
    let mut learner = ConvolutionLearner::new(NET, Config::default(), 7, 1, COLUMNS, memory)?;
    let mut input = [0.0; NET.inputs()];
    let (mut sum, mut most, mut deepest, mut operations) = (0, 0, 0, 0);
    for index in 0..WARM_UP + 2 * MEASURED {
        let class = [example(&mut draws, &mut input)];
        if index < WARM_UP {
            learner.step(&input, Targets::Classes(&class))?;
        } else if index < WARM_UP + MEASURED {
            let before = learner.progress().operations;
            let count = instructions(|| learner.step(&input, Targets::Classes(&class)).is_ok());
            operations += learner.progress().operations - before;
            sum += count;
            most = count.max(most);
        } else {
            deepest = stack(|| learner.step(&input, Targets::Classes(&class)).is_ok()).max(deepest);
        }
    }
    show("step, mean", sum / MEASURED as u64);
    show("step, most", most);
    show("instructions for 100 operations of a step", sum * 100 / operations);
    show("stack of a step", deepest);
    show("predict", instructions(|| learner.predict(&input).is_ok()));
    show("stack of predict", stack(|| learner.predict(&input).is_ok()));
    show("memory", 4 * WORDS as u64);
    Ok(())
}

/// A wave on each axis, whose frequency is the class, and noise.
fn example(draws: &mut Draws, input: &mut [f32]) -> u32 {
    let class = draws.bits() % NET.outputs() as u32;
    let mut phase = draws.uniform();
    for value in input {
        phase += 0.05 * (class + 1) as f32;
        phase -= if phase > 1.0 { 2.0 } else { 0.0 };
        *value = phase + 0.2 * draws.uniform();
    }
    class
}
