//! To copy: a loop that samples a sensor on time, predicts at once, and learns in what time is left.
//!
//! A window of features comes every 40 ms. The prediction comes first; a label, where there is one, costs one step without
//! rotations ([`Refresh::Rotations`] with none), whose time is bounded; and until the next window is due, single rotations turn
//! the eigenbases. Nothing has to be finished: the state is valid after each. Under embassy the same loop is a task, with
//! `Ticker::every` in the place of `wait_for` and the rest as it stands.
#![no_std]
#![no_main]

use ekfac::{Config, Error, Learner, Loss, Net, Refresh, Targets};
use ekfac_firmware::meter::{self, TICKS_PER_SECOND};
use ekfac_workload::Draws;
use semihosting::println;

const NET: Net<'static> = Net::new(&ekfac::layers![12 => 8 Tanh => 4 Identity], Loss::SoftmaxCrossEntropy);
/// Between two windows.
const PERIOD: u32 = TICKS_PER_SECOND / 25;
/// A rotation is begun only if at least so much time is left: longer than the longest takes.
const SLICE: u32 = TICKS_PER_SECOND / 200;
const WINDOWS: u32 = 400;

ekfac_firmware::firmware!(run);

fn run() -> bool {
    meter::start();
    live(&mut [0.0; NET.words(1)]).is_ok()
}

fn live(memory: &mut [f32]) -> Result<(), Error> {
    let none = Refresh::Rotations { per_step: 0, per_line: 0.0, threshold: 0.1 };
    let config = Config { refresh: none, ..Config::default() };
    let mut learner = Learner::new(NET, config, 7, 1, memory)?;
    let mut sensor = Draws::new(1);
    let (mut late, mut wrong, mut slices) = (0, 0, 0);
    let mut due = meter::now().wrapping_sub(PERIOD);
    for window in 0..WINDOWS {
        late += u32::from(!wait_for(due));
        due = due.wrapping_sub(PERIOD);
        let (features, class) = sample(&mut sensor);
        let outputs = learner.predict(&features)?;
        let named = (0..4).max_by(|a, b| {
            outputs.get(*a).partial_cmp(&outputs.get(*b)).unwrap_or(core::cmp::Ordering::Equal)
        });
        wrong += u32::from(window >= WINDOWS / 2 && named != Some(class as usize));
        if window % 2 == 0 {
            learner.step(&features, Targets::Classes(&[class]))?;
        }
        while left(due) > SLICE && learner.rotate(1)? > 0 {
            slices += 1;
        }
    }
    println!("figure\tdeadlines: windows taken late\t{late}");
    println!("figure\tdeadlines: wrong among the last 200\t{wrong}");
    println!("figure\tdeadlines: slices without a rotation\t{}", u32::from(slices == 0));
    Ok(())
}

/// Waits until the timer, which counts down, is at `due`; false when it was past that already.
fn wait_for(due: u32) -> bool {
    let on_time = meter::now().wrapping_sub(due) <= u32::MAX / 2;
    while left(due) > 0 {}
    on_time
}

/// Ticks until then; none when it has passed.
fn left(due: u32) -> u32 {
    let left = meter::now().wrapping_sub(due);
    if left > u32::MAX / 2 { 0 } else { left }
}

/// Stands for a sensor and, now and then, somebody who names what it saw.
fn sample(draws: &mut Draws) -> ([f32; 12], u32) {
    let class = draws.bits() >> 30;
    let features = core::array::from_fn(|index| {
        let sign = if (class as usize >> (index % 2)) & 1 == 0 { 0.5 } else { -0.5 };
        sign + 0.8 * draws.uniform()
    });
    (features, class)
}
