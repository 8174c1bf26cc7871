//! What a step of the convolutional learner costs on a Cortex-M4F: instructions and stack.
#![no_std]
#![no_main]

use ekfac::{Config, Error, Targets, convolution::ConvolutionLearner};
use ekfac_firmware::meter::{self, Rate, instructions, stack};
use ekfac_workload::{
    Draws,
    convolution_learner::{COLUMNS, NET, WORDS},
};
use semihosting::println;

ekfac_firmware::firmware!(run);

const WARM_UP: usize = 100;
const MEASURED: usize = 20;
/// Data sets that drive a step to its bound, and steps on each.
const DATA_SETS: u32 = 12;
const HARD_STEPS: usize = 4;

fn run() -> bool {
    meter::start();
    let mut memory = [0.0; WORDS];
    let Ok(settled) = learner(&mut memory) else { return false };
    hardest(&mut memory, &settled).is_ok()
}

fn show(what: &str, value: u64) {
    println!("figure\tconvolutions: {what}\t{value}");
}

#[inline(never)]
fn learner(memory: &mut [f32]) -> Result<Rate, Error> {
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
    let descent = descent(&mut learner, &input)?;
    show("step of gradient descent", descent);
    show("step, 100 = gradient descent", sum / MEASURED as u64 * 100 / descent);
    Ok(Rate { instructions: sum, operations })
}

/// The first steps on noise of many kinds, every pair of which turns, beside the bound of operations and the time that it allows at the
/// settled steps' instructions an operation.
#[inline(never)]
fn hardest(memory: &mut [f32], settled: &Rate) -> Result<(), Error> {
    let (mut hardest, mut bound) = (Rate::default(), 0);
    let mut input = [0.0; NET.inputs()];
    for seed in 0..DATA_SETS {
        let mut draws = Draws::new(100 + seed);
        let mut learner = ConvolutionLearner::new(NET, Config::default(), seed.into(), 1, COLUMNS, memory)?;
        bound = learner.most_operations(1)?;
        for _ in 0..HARD_STEPS {
            input.iter_mut().for_each(|value| *value = draws.uniform());
            let class = [draws.bits() % NET.outputs() as u32];
            let before = learner.progress().operations;
            let count = instructions(|| learner.step(&input, Targets::Classes(&class)).is_ok());
            hardest.note(count, learner.progress().operations - before);
        }
    }
    settled.show_hardest(show, hardest, bound);
    Ok(())
}

/// A step of gradient descent with momentum over the same passes.
#[inline(never)]
fn descent(learner: &mut ConvolutionLearner<'_, f32>, input: &[f32]) -> Result<u64, Error> {
    let (mut gradient, mut velocity) = ([0.0; NET.parameters()], [0.0; NET.parameters()]);
    let mut step = || {
        let good = learner.mean_gradient(input, Targets::Classes(&[1]), &mut gradient).is_ok();
        let slopes = gradient.iter().zip(velocity.iter_mut());
        for (weight, (slope, velocity)) in learner.iter_weights().flatten().zip(slopes) {
            *velocity = 0.9 * *velocity + *slope;
            *weight -= 1e-6 * *velocity;
        }
        good
    };
    step();
    Ok(instructions(step))
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
