//! What a step costs on a Cortex-M4F: instructions and stack, beside gradient descent and nalgebra's eigensolver.
#![no_std]
#![no_main]

use core::hint::black_box;
use ekfac::{
    Config, Coordinates, Error, Fisher, Kernels, LayerMut, Learner, Loss, MatrixMut, MatrixRef, Net,
    Preconditioner, Progress, Reference, Refresh, Shape, Targets, layers, snapshot::FlashStore,
};
use ekfac_firmware::{
    flash::RamFlash,
    meter::{self, Rate, instructions, stack},
};
use ekfac_workload::Draws;
use semihosting::println;

ekfac_firmware::firmware!(run);

const WARM_UP: usize = 200;
const MEASURED: usize = 100;
/// Data sets that drive a step to its bound, and steps on each.
const DATA_SETS: u32 = 100;
const HARD_STEPS: usize = 12;

const SMALL: Net<'static> = Net::new(&layers![8 => 4 Tanh => 2 Identity], Loss::SoftmaxCrossEntropy);
const MIDDLE: Net<'static> = Net::new(&layers![16 => 8 Tanh => 4 Identity], Loss::SoftmaxCrossEntropy);
const LARGE: Net<'static> = Net::new(&layers![32 => 16 Tanh => 4 Identity], Loss::SoftmaxCrossEntropy);

fn run() -> bool {
    meter::start();
    net("8-4-2", SMALL, &mut [0.0; SMALL.words(1)]).is_ok()
        & net("16-8-4", MIDDLE, &mut [0.0; MIDDLE.words(1)]).is_ok()
        & net("32-16-4", LARGE, &mut [0.0; LARGE.words(1)]).is_ok()
        & deepest("exact Fisher", Config { fisher: Fisher::Exact, ..Config::default() }).is_ok()
        & deepest("solve at every step", Config { refresh: Refresh::every(1), ..Config::default() }).is_ok()
        & refresh::<8>()
        & refresh::<16>()
        & refresh::<32>()
        & inner_loops()
        & products::<16>()
        & products::<32>()
        & solver()
        & snapshots().is_some()
}

fn show(name: &str, what: &str, value: u64) {
    println!("figure\t{name}: {what}\t{value}");
}

/// Inputs of four hidden causes and a little noise, and a class that is a function of them.
fn example(draws: &mut Draws, input: &mut [f32], classes: usize) -> u32 {
    let causes = [0; 4].map(|_| draws.uniform());
    for (index, value) in input.iter_mut().enumerate() {
        let cause = causes.iter().enumerate().map(|(k, cause)| cause * ((index * (k + 3)) % 7) as f32);
        *value = cause.sum::<f32>() * 0.15 + 0.1 * draws.uniform();
    }
    let [a, b, ..] = causes;
    ((usize::from(a > 0.0) + 2 * usize::from(b > 0.0)) % classes) as u32
}

#[inline(never)]
fn net(name: &str, net: Net<'static>, memory: &mut [f32]) -> Result<(), Error> {
    let mut draws = Draws::new(3);
    let mut learner = Learner::new(net, Config::default(), 7, 1, memory)?;
    let mut input = [0.0; 32];
    let input = input.get_mut(..net.inputs()).unwrap_or_default();
    let (mut sum, mut most, mut deepest, mut operations) = (0, 0, 0, 0);
    for index in 0..WARM_UP + 2 * MEASURED {
        let class = [example(&mut draws, input, net.outputs())];
        if index < WARM_UP {
            learner.step(input, Targets::Classes(&class))?;
        } else if index < WARM_UP + MEASURED {
            let before = learner.progress().operations;
            let count = instructions(|| learner.step(input, Targets::Classes(&class)).is_ok());
            operations += learner.progress().operations - before;
            sum += count;
            most = count.max(most);
        } else {
            deepest = stack(|| learner.step(input, Targets::Classes(&class)).is_ok()).max(deepest);
        }
    }
    let step = sum / MEASURED as u64;
    let settled = Rate { instructions: sum, operations };
    show(name, "step, mean", step);
    show(name, "step, most", most);
    show(name, "instructions for 100 operations of a step", sum * 100 / operations);
    show(name, "stack of a step", deepest);
    show(name, "predict", instructions(|| learner.predict(input).is_ok()));
    show(name, "stack of predict", stack(|| learner.predict(input).is_ok()));
    show(name, "one rotation of each factor", instructions(|| learner.rotate(1).is_ok()));
    show(name, "stack of rotate", stack(|| learner.rotate(1).is_ok()));
    let descent = descent(&mut learner, input)?;
    show(name, "step of gradient descent", descent);
    show(name, "step, 100 = gradient descent", step * 100 / descent);
    hardest(name, net, memory, &settled)
}

/// The stack of a step with other settings than the default's.
#[inline(never)]
fn deepest(name: &str, config: Config<f32>) -> Result<(), Error> {
    let (mut draws, mut memory, mut input) = (Draws::new(3), [0.0; MIDDLE.words(1)], [0.0; 16]);
    let mut learner = Learner::new(MIDDLE, config, 7, 1, &mut memory)?;
    let mut deepest = 0;
    for _ in 0..MEASURED {
        let class = [example(&mut draws, &mut input, 4)];
        deepest = stack(|| learner.step(&input, Targets::Classes(&class)).is_ok()).max(deepest);
    }
    println!("figure\t16-8-4: stack of a step, {name}\t{deepest}");
    Ok(())
}

/// Drives steps to their bound of operations: the first examples of many data sets, no two causes of which agree, so that every
/// pair that may be looked at turns. The time of the hardest step is compared with what the bound allows at the settled steps'
/// instructions an operation.
#[inline(never)]
fn hardest(name: &str, net: Net<'static>, memory: &mut [f32], settled: &Rate) -> Result<(), Error> {
    let (mut hardest, mut bound) = (Rate::default(), 0);
    let mut input = [0.0; 32];
    let input = input.get_mut(..net.inputs()).unwrap_or_default();
    for seed in 0..DATA_SETS {
        let mut draws = Draws::new(100 + seed);
        let mut learner = Learner::new(net, Config::default(), seed.into(), 1, memory)?;
        bound = learner.most_operations(1)?;
        for _ in 0..HARD_STEPS {
            input.iter_mut().for_each(|value| *value = draws.uniform());
            let class = [draws.bits() % net.outputs() as u32];
            let before = learner.progress().operations;
            let count = instructions(|| learner.step(input, Targets::Classes(&class)).is_ok());
            hardest.note(count, learner.progress().operations - before);
        }
    }
    settled.show_hardest(|what, value| show(name, what, value), hardest, bound);
    Ok(())
}

/// A step of gradient descent with momentum over the same passes.
#[inline(never)]
fn descent(learner: &mut Learner<'_, f32>, input: &[f32]) -> Result<u64, Error> {
    let (mut gradient, mut velocity) = ([0.0; 600], [0.0; 600]);
    let words = learner.net().parameters();
    for layer in 0..learner.net().layers().len() {
        learner.set_coordinates(layer, Coordinates::Parameter)?;
    }
    let gradient = gradient.get_mut(..words).ok_or(Error::Empty { argument: "gradient" })?;
    let velocity = velocity.get_mut(..words).ok_or(Error::Empty { argument: "velocity" })?;
    let mut step = || {
        let good = learner.mean_gradient(input, Targets::Classes(&[1]), gradient).is_ok();
        let mut rest = gradient.iter().zip(velocity.iter_mut());
        for mut weights in learner.iter_stored_weights() {
            for (weight, (slope, velocity)) in weights.as_mut_slice().iter_mut().zip(rest.by_ref()) {
                *velocity = 0.9 * *velocity + *slope;
                *weight -= 1e-6 * *velocity;
            }
        }
        good
    };
    step();
    Ok(instructions(step))
}

/// One layer with N inputs, bias included: statistics with and without the rotations of the default.
#[inline(never)]
fn refresh<const N: usize>() -> bool {
    let name = match N {
        8 => "n = 8",
        16 => "n = 16",
        _ => "n = 32",
    };
    let with = Config::<f32>::default();
    let per_step = match with.refresh {
        Refresh::Rotations { threshold, .. } => Refresh::Rotations { per_step: 0, per_line: 0.0, threshold },
        other => other,
    };
    let without = Config { refresh: per_step, ..with };
    let (Ok((with, depth)), Ok((without, _))) = (observe::<N>(&with), observe::<N>(&without)) else {
        return false;
    };
    show(name, "observe one example", with);
    show(name, "stack of observe", depth);
    show(name, "refresh slice of a step", with.saturating_sub(without));
    true
}

fn observe<const N: usize>(config: &Config<f32>) -> Result<(u64, u64), Error> {
    let shape = Shape::new(N - 1, 1);
    let (mut state, mut workspace) = ([0.0; 2000], [0.0; 300]);
    let state = state.get_mut(..shape.words()).ok_or(Error::Empty { argument: "state" })?;
    let mut progress = Progress::new(0);
    let layer = LayerMut::new(shape, state)?;
    let mut layer = Preconditioner::new(layer, config, &mut progress, &mut workspace);
    let mut draws = Draws::new(5);
    let (mut sum, mut deepest, mut input) = (0, 0, [0.0; N]);
    for index in 0..WARM_UP + 2 * MEASURED {
        let input = input.get_mut(..N - 1).unwrap_or_default();
        example(&mut draws, input, 2);
        let gradient = [draws.uniform()];
        let (activations, gradients) = (MatrixRef::new(input, N - 1, 1)?, MatrixRef::new(&gradient, 1, 1)?);
        if index < WARM_UP {
            layer.observe(activations, gradients)?;
        } else if index < WARM_UP + MEASURED {
            sum += instructions(|| layer.observe(activations, gradients).is_ok());
        } else {
            deepest = stack(|| layer.observe(activations, gradients).is_ok()).max(deepest);
        }
    }
    Ok((sum / MEASURED as u64, deepest))
}

/// Instructions for 100 multiply-adds of each product, on one example.
#[inline(never)]
fn products<const N: usize>() -> bool {
    let name = if N == 16 { "n = 16" } else { "n = 32" };
    let mut draws = Draws::new(9);
    let mut matrix = [[0.0_f32; N]; N];
    matrix.as_flattened_mut().iter_mut().for_each(|value| *value = draws.uniform());
    let (x, mut out, mut scratch) = ([0.5_f32; N], [0.0_f32; N], [0.0_f32; N]);
    let engine: &dyn Kernels<f32> = black_box(&Reference);
    let (Ok(x), Ok(a)) = (MatrixRef::new(&x, N, 1), MatrixRef::new(matrix.as_flattened(), N, N)) else {
        return false;
    };
    let Ok(into) = MatrixMut::new(&mut out, N, 1) else { return false };
    let square = (N * N) as u64;
    let each = |count: u64, terms: u64| count * 100 / terms;
    show(
        name,
        "product, for 100 multiply-adds",
        each(instructions(|| engine.product(into, a, x, 1.0, 0.0)), square),
    );
    let Ok(into) = MatrixMut::new(&mut out, N, 1) else { return false };
    let count = instructions(|| engine.product_left_transposed(into, a, x, 1.0, 0.0));
    show(name, "transposed product, for 100 multiply-adds", each(count, square));
    let count = instructions(|| as_on_paper(black_box(&matrix), x.as_slice(), &mut out));
    show(name, "product as on paper, for 100 multiply-adds", each(count, square));
    let mut packed = [0.0_f32; 528];
    let Some(packed) = packed.get_mut(..N * (N + 1) / 2) else { return false };
    let blend = ekfac::Blend::Move(0.1);
    let count = instructions(|| engine.symmetric_update(packed, x, blend, &mut scratch));
    show(name, "symmetric update, for 100 words", each(count, (N * (N + 1) / 2) as u64));
    let Ok(into) = MatrixMut::new(matrix.as_flattened_mut(), N, N) else { return false };
    let count = instructions(|| engine.squared_product(into, x, x, blend, &mut scratch));
    show(name, "squared product, for 100 words", each(count, square));
    true
}

/// A product with a vector as it is written on paper, row after row: what the kernels are measured against.
#[inline(never)]
fn as_on_paper<const N: usize>(columns: &[[f32; N]; N], x: &[f32], out: &mut [f32; N]) {
    for (row, out) in out.iter_mut().enumerate() {
        let terms = columns.iter().zip(x).map(|(column, x)| column.get(row).map_or(0.0, |value| value * x));
        *out = terms.sum();
    }
}

/// Instructions for 100 multiply-adds in the inner loops alone: what 16 rows more cost, with 16 columns.
#[inline(never)]
fn inner_loops() -> bool {
    let (matrix, x, mut out) = ([0.5_f32; 48 * 16], [0.5_f32; 48], [0.0_f32; 48]);
    let engine: &dyn Kernels<f32> = black_box(&Reference);
    let mut counts = [[0; 2]; 2];
    for (rows, [plain, transposed]) in [32, 48].into_iter().zip(&mut counts) {
        let (Some(a), Some(tall)) = (matrix.get(..rows * 16), x.get(..rows)) else { return false };
        let (Ok(a), Ok(tall)) = (MatrixRef::new(a, rows, 16), MatrixRef::new(tall, rows, 1)) else {
            return false;
        };
        let Some(Ok(short)) = x.get(..16).map(|x| MatrixRef::new(x, 16, 1)) else { return false };
        let Some(Ok(into)) = out.get_mut(..rows).map(|out| MatrixMut::new(out, rows, 1)) else {
            return false;
        };
        *plain = instructions(|| engine.product(into, a, short, 1.0, 0.0));
        let Some(Ok(into)) = out.get_mut(..16).map(|out| MatrixMut::new(out, 16, 1)) else { return false };
        *transposed = instructions(|| engine.product_left_transposed(into, a, tall, 1.0, 0.0));
    }
    let [[plain, transposed], [more_plain, more_transposed]] = counts;
    let each = |count: u64| count * 100 / (16 * 16);
    show("inner loop", "product, for 100 multiply-adds", each(more_plain - plain));
    show("inner loop", "transposed product, for 100 multiply-adds", each(more_transposed - transposed));
    true
}

/// Saving to a flash of two slots, and restoring from it.
#[inline(never)]
fn snapshots() -> Option<()> {
    let (mut memory, mut bytes) = ([0.0; SMALL.words(1)], [0; 8192]);
    let mut learner = Learner::new(SMALL, Config::default(), 7, 1, &mut memory).ok()?;
    let mut store = FlashStore::new(RamFlash(&mut bytes), 0..8192).ok()?;
    store.save(&learner).ok()?;
    show("8-4-2", "stack of save to flash", stack(|| store.save(&learner).is_ok()));
    show("8-4-2", "save to flash", instructions(|| store.save(&learner).is_ok()));
    show("8-4-2", "stack of load from flash", stack(|| store.load(&mut learner).is_ok()));
    show("8-4-2", "load from flash", instructions(|| store.load(&mut learner).is_ok()));
    (store.load(&mut learner).ok()? == Some(2)).then_some(())
}

/// nalgebra's solver on a random second moment, from cold.
#[inline(never)]
fn solver() -> bool {
    const N: usize = 32;
    let mut draws = Draws::new(11);
    let mut moment = nalgebra::SMatrix::<f32, N, N>::zeros();
    for _ in 0..2 * N {
        let x = nalgebra::SVector::<f32, N>::from_fn(|_, _| draws.uniform());
        moment += x * x.transpose() / (2 * N) as f32;
    }
    let count = instructions(|| black_box(nalgebra::SymmetricEigen::new(moment)));
    show("n = 32", "nalgebra's SymmetricEigen", count);
    true
}
