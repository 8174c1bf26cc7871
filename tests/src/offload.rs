//! What every offload engine is put through: its operations against plain vectors, golden vectors, trajectories against
//! core's own learner.

use crate::{
    golden::{
        Golden, committed_folder, extra_folder,
        linear::{CLEAR_GAP, Case},
        read_folder, trajectory,
    },
    plain::Plain,
    random::Draws,
};
use ekfac::{
    Activation, Averaging, Carry, Config, Dense, Estimator, Loss, Outcome, Progress, Refresh, Targets,
};
use ekfac_std::{
    Network,
    data::digits,
    offload::{
        DeviceNet, DevicePreconditioner, Engine,
        engine::{Map, Operand, Question, ROTATION, Turn, View, from, into, rounds},
    },
};

/// The worst difference of an operation, relative to the largest magnitude expected.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    let scale = expected.iter().fold(1e-30_f32, |most, value| most.max(value.abs()));
    found
        .iter()
        .zip(expected)
        .map(|(x, y)| f64::from((x - y).abs() / scale))
        .fold(0.0, |most, x| if x <= most { most } else { x })
}

/// Whether there must be a Vulkan device: where `EKFAC_VULKAN` is set, a missing one fails instead of being skipped.
#[must_use]
pub fn vulkan_is_due() -> bool {
    std::env::var_os("EKFAC_VULKAN").is_some()
}

/// An engine with the same numbers in its buffers as plain vectors.
struct Pair<'e, E: Engine> {
    engine: &'e mut E,
    plain: Plain,
    buffers: Vec<(E::Buffer, Vec<f32>)>,
}

impl<E: Engine> Pair<'_, E> {
    fn add(&mut self, draws: &mut Draws, words: usize, offset: f64) -> usize {
        let values: Vec<f32> = (0..words).map(|_| (draws.normal() + offset) as f32).collect();
        let mut buffer = self.engine.allocate(words).expect("memory");
        self.engine.write(&mut buffer, 0, &values).expect("a write");
        self.buffers.push((buffer, values));
        self.buffers.len() - 1
    }

    fn compare(&mut self, what: &str, index: usize, limit: f64) {
        let (buffer, expected) = &self.buffers[index];
        let mut found = vec![0.0; expected.len()];
        self.engine.read(buffer, 0, &mut found).expect("a read");
        let error = apart(&found, expected);
        println!("    {what:<44} {error:.1e}, at most {limit:.0e}");
        assert!(error <= limit, "{what}: off by {error:.2e}");
    }
}

/// Runs an operation on both; `out` is the buffer written, the others are read.
macro_rules! both {
    ($pair:expr, $out:expr, [$($in:expr),*], |$engine:ident, $target:ident, $read:ident| $work:expr) => {{
        let mut out = $pair.buffers.swap_remove($out);
        let moved = $pair.buffers.len();
        // What was last took the place of `out`.
        let index = |i: usize| if i == moved { $out } else { i };
        {
            let $engine = &mut *$pair.engine;
            let $target = &mut out.0;
            let $read = [$(&$pair.buffers[index($in)].0),*];
            $work.expect("an operation");
        }
        {
            let $engine = &mut $pair.plain;
            let $target = &mut out.1;
            let $read = [$(&$pair.buffers[index($in)].1),*];
            $work.expect("an operation");
        }
        $pair.buffers.push(out);
        let last = $pair.buffers.len() - 1;
        $pair.buffers.swap($out, last);
    }};
}

/// Every operation against plain vectors.
///
/// # Panics
/// Where one is off, or fails.
pub fn operations<E: Engine>(engine: &mut E) {
    println!("operations of {}", engine.name());
    let mut draws = Draws::new(7);
    let mut pair = Pair { engine, plain: Plain, buffers: Vec::new() };
    for (m, n, k) in [(3, 2, 5), (65, 33, 100), (130, 257, 64)] {
        let (a, b) = (pair.add(&mut draws, m * k, 0.0), pair.add(&mut draws, k * n, 0.0));
        let out = pair.add(&mut draws, (m + 3) * n + 2, 0.0);
        let view = View { offset: 2, rows: m, columns: n, stride: m + 3 };
        for (left, right) in [(false, false), (true, false), (false, true), (true, true)] {
            let x = if left { View::new(k, m) } else { View::new(m, k) };
            let y = if right { View::new(n, k) } else { View::new(k, n) };
            both!(pair, out, [a, b], |engine, target, read| engine.product(
                into(target, view),
                from(read[0], x),
                from(read[1], y),
                (left, right),
                (0.3, 0.5)
            ));
            pair.compare(&format!("product {m} x {k} x {n}, {left} {right}"), out, 2e-5);
        }
        let square = pair.add(&mut draws, m * m, 0.0);
        both!(pair, square, [a], |engine, target, read| engine.symmetric(
            into(target, View::new(m, m)),
            from(read[0], View::new(m, k)),
            (0.1, 0.0)
        ));
        both!(pair, square, [a], |engine, target, read| engine.symmetric(
            into(target, View::new(m, m)),
            from(read[0], View::new(m, k)),
            (0.2, 0.7)
        ));
        pair.compare(&format!("symmetric {m} x {k}"), square, 2e-5);
        let (x, y) = (pair.add(&mut draws, m * n, 0.0), pair.add(&mut draws, m * n, 5.0));
        let (z, whole) = (pair.add(&mut draws, m * n, 0.0), View::new(m, n));
        let sum = Map::Sum { scale: 0.5, keep: 0.25 };
        for (map, limit) in [
            (sum, 1e-6),
            (Map::Square { scale: 0.5, keep: 0.25 }, 1e-6),
            (Map::Quotient { scale: 0.5, keep: 0.9, add: 2.0 }, 1e-6),
            (Map::Outer { rows: 0.1, columns: 0.2 }, 1e-6),
            (Map::Signs(12345), 0.0),
        ] {
            let (first, second) = if matches!(map, Map::Outer { .. }) {
                (View { stride: 1, ..View::new(1, m) }, View { stride: 1, ..View::new(1, n) })
            } else {
                (whole, whole)
            };
            both!(pair, z, [x, y], |engine, target, read| engine.map(
                map,
                into(target, whole),
                from(read[0], first),
                from(read[1], second)
            ));
            pair.compare(&format!("{map:?}"), z, limit);
        }
        for activation in [
            Activation::Identity,
            Activation::Relu,
            Activation::LeakyRelu,
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::Gelu,
        ] {
            for map in [Map::Activate(activation), Map::Derive(activation)] {
                both!(pair, z, [x, y], |engine, target, read| engine.map(
                    map,
                    into(target, whole),
                    from(read[0], whole),
                    from(read[1], whole)
                ));
                pair.compare(&format!("{map:?}"), z, 3e-6);
            }
        }
        sums(&mut pair, [x, y, z, square], (m, n));
        turns(&mut pair, &mut draws, m);
    }
}

fn sums<E: Engine>(pair: &mut Pair<'_, E>, [x, y, z, square]: [usize; 4], (m, n): (usize, usize)) {
    let views =
        [View::new(m, n), View { offset: 1, rows: m - 1, columns: n, stride: m }, View::new(m, n).row(1)];
    let found = pair.engine.measure(&views.map(|view| from(&pair.buffers[x].0, view))).expect("sums");
    let expected = pair.plain.measure(&views.map(|view| from(&pair.buffers[x].1, view))).expect("sums");
    let within = |what: &str, found: f64, expected: f64, scale: f64| {
        let error = (found - expected).abs() / scale.max(1e-30);
        println!("    {what:<44} {error:.1e}, at most 1e-5");
        assert!(error <= 1e-5, "{what}: {found} for {expected}");
    };
    for (found, expected) in found.iter().zip(&expected) {
        within("sum", found.sum, expected.sum, expected.squares.sqrt() * (m as f64).sqrt());
        within("squares", found.squares, expected.squares, expected.squares);
        within("largest", found.largest.into(), expected.largest.into(), 1.0);
    }
    fn question<'b, B>(
        of: impl Fn(usize) -> &'b B,
        [x, y, z, square]: [usize; 4],
        (m, n): (usize, usize),
    ) -> Question<'b, B> {
        let part = |index: usize| -> Operand<'b, B> { from(of(index), View::new(m, n)) };
        let spectrum = from(of(square), View { stride: 1, ..View::new(1, n.min(m)) });
        let view = View { columns: n.min(m), ..View::new(m, n) };
        let cut = |operand: Operand<'b, B>| Operand { view, ..operand };
        Question {
            gradient: cut(part(x)),
            scalings: cut(part(y)),
            damping: 20.0,
            velocity: cut(part(z)),
            weights: cut(part(x)),
            spectrum,
        }
    }
    let indices = [x, y, z, square];
    let found = pair.engine.survey(&question(|i| &pair.buffers[i].0, indices, (m, n))).expect("a survey");
    let expected = pair.plain.survey(&question(|i| &pair.buffers[i].1, indices, (m, n))).expect("a survey");
    within("length", found.length, expected.length, expected.length);
    within(
        "agreement",
        found.agreement,
        expected.agreement,
        (expected.length * expected.velocity_length).sqrt(),
    );
    within("velocity length", found.velocity_length, expected.velocity_length, expected.velocity_length);
    within("spread", found.spread, expected.spread, expected.spread);
    within("largest D", found.largest_direction.into(), expected.largest_direction.into(), 1.0);
    within("largest velocity", found.largest_velocity.into(), expected.largest_velocity.into(), 1.0);
    within("largest weight", found.largest_weight.into(), expected.largest_weight.into(), 1.0);
    let mut bad = pair.engine.allocate(m).expect("memory");
    pair.engine.write(&mut bad, 0, &[&[f32::NAN][..], &vec![1.0; m - 1]].concat()).expect("a write");
    let found = pair.engine.measure(&[from(&bad, View::new(m, 1))]).expect("sums");
    assert!(!found[0].largest.is_finite(), "NaN seen as {:?}", found[0]);
}

fn turns<E: Engine>(pair: &mut Pair<'_, E>, draws: &mut Draws, size: usize) {
    let (factor, c) = (pair.add(draws, size * size, 0.0), pair.add(draws, size * size, 0.0));
    let (rotations, other) =
        (pair.add(draws, size.div_ceil(2) * ROTATION + 4, 0.0), pair.add(draws, size * 7, 0.0));
    let square = View::new(size, size);
    both!(pair, c, [factor], |engine, target, read| engine.symmetric(
        into(target, square),
        from(read[0], square),
        (0.1, 0.0)
    ));
    for round in 0..4 {
        let turn = Turn { size, round, count: 1, offset: 4, columns: true, moments: false };
        both!(pair, rotations, [c], |engine, target, read| engine.rotations(
            target,
            read[0],
            turn,
            (0.02, 1e-6)
        ));
        pair.compare(&format!("rotations of {size}, round {round}"), rotations, 1e-3);
        both!(pair, c, [rotations], |engine, target, read| engine.turn(into(target, square), read[0], turn));
        let rows = Turn { columns: false, ..turn };
        both!(pair, c, [rotations], |engine, target, read| engine.turn(into(target, square), read[0], rows));
        both!(pair, other, [rotations], |engine, target, read| engine.turn(
            into(target, View::new(size, 7)),
            read[0],
            rows
        ));
        let moments = Turn { moments: true, ..turn };
        both!(pair, other, [rotations], |engine, target, read| engine.turn(
            into(target, View::new(7, size)),
            read[0],
            moments
        ));
        pair.compare("turned from both sides", c, 1e-3);
        pair.compare("turned companion", other, 1e-3);
    }
    many_rounds(pair, [c, other], size);
}

/// Several rounds in one go, over the end of the tournament.
fn many_rounds<E: Engine>(pair: &mut Pair<'_, E>, [c, other]: [usize; 2], size: usize) {
    const COUNT: usize = 5;
    let words = 4 + COUNT * size.div_ceil(2) * ROTATION;
    let turned = pair.engine.allocate(words).expect("memory");
    pair.buffers.push((turned, vec![0.0; words]));
    let rotations = pair.buffers.len() - 1;
    let turn = Turn {
        size,
        round: rounds(size).saturating_sub(2),
        count: COUNT,
        offset: 4,
        columns: true,
        moments: false,
    };
    {
        let [c, angles] = pair.buffers.get_disjoint_mut([c, rotations]).expect("two buffers");
        pair.engine.rotate(&mut angles.0, &mut c.0, turn, (0.02, 1e-6)).expect("rounds");
        pair.plain.rotate(&mut angles.1, &mut c.1, turn, (0.02, 1e-6)).expect("rounds");
    }
    pair.compare("several rounds: rotations", rotations, 1e-3);
    pair.compare("several rounds: from both sides", c, 1e-3);
    for (columns, moments) in [(false, false), (true, false), (false, true), (true, true)] {
        let view = if columns { View::new(7, size) } else { View::new(size, 7) };
        both!(pair, other, [rotations], |engine, target, read| engine.turn(
            into(target, view),
            read[0],
            Turn { columns, moments, ..turn }
        ));
        pair.compare(&format!("several rounds: companion, {columns} {moments}"), other, 1e-3);
    }
}

/// The golden vectors that `f32` can be held to: `ekfac` of the static cases, and the strict runs.
///
/// # Panics
/// Where one is missed.
pub fn golden<E: Engine>(mut engine: impl FnMut() -> E) {
    let folder = extra_folder().unwrap_or_else(committed_folder);
    let (mut cases, mut runs) = (0, 0);
    for file in read_folder(&folder).expect("golden vectors") {
        let name = file.path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        match file.golden {
            Golden::Linear(golden) => {
                let case = Case::new(&golden);
                if case.gap() >= CLEAR_GAP {
                    let measures = case.on_device(engine());
                    for measure in measures {
                        println!(
                            "    {name:<28} {:<24} {:.1e}, at most {:.0e}",
                            measure.what, measure.error, measure.tolerance
                        );
                        assert!(measure.holds(), "{name}: {measure:?}");
                    }
                    cases += 1;
                }
            }
            Golden::Trajectory(golden) if golden.strict => {
                for measure in trajectory::on_device(&golden, engine()) {
                    println!(
                        "    {name:<28} {:<24} {:.1e}, at most {:.0e}",
                        measure.what, measure.error, measure.tolerance
                    );
                    assert!(measure.holds(), "{name}: {measure:?}");
                }
                runs += 1;
            }
            _ => {}
        }
    }
    println!("{cases} static cases, {runs} runs");
    assert!(cases >= 5 && runs >= 1, "only {cases} cases and {runs} runs");
}

/// The autoencoder of the digits.
pub const LAYERS: [Dense; 6] =
    ekfac::layers![64 => 48 Tanh => 24 Tanh => 12 Identity => 24 Tanh => 48 Tanh => 64 Identity];

/// A run on the digits: the losses by core's learner and on a device.
///
/// # Panics
/// Where a step fails or is not applied.
pub fn digits_losses<E: Engine>(engine: E, config: Config<f32>, seed: u64, steps: usize) -> Vec<[f32; 2]> {
    const BATCH: usize = 100;
    let inputs = digits().expect("the digits").inputs;
    let loss = Loss::SquaredError;
    let mut host = Network::<f32>::new(LAYERS.to_vec(), loss, config, seed, BATCH).expect("a network");
    let mut device = DeviceNet::new(engine, &LAYERS, loss, BATCH, host.state()).expect("a device");
    let (mut draws, mut progress) = (Draws::new(seed), Progress::new(seed));
    let mut losses = Vec::new();
    for step in 0..steps {
        let mut rows = Vec::new();
        for _ in 0..BATCH {
            let place = 64 * draws.index(inputs.len() / 64);
            rows.extend_from_slice(&inputs[place..place + 64]);
        }
        let targets = Targets::Values(&rows);
        let on_host = host.step(&rows, targets).expect("a step");
        let on_device =
            device.step(&config, &mut progress, &rows, targets).expect("no fault").expect("a step");
        for taken in [on_host, on_device] {
            assert_eq!(taken.outcome, Outcome::Applied, "step {step}");
        }
        losses.push([on_host.loss, on_device.loss]);
    }
    let (on_host, on_device) = (host.progress(), &progress);
    let apart = on_device.operations.abs_diff(on_host.operations) as f64 / on_host.operations as f64;
    println!("    operations: {} and {}", on_host.operations, on_device.operations);
    assert!(apart < 0.2, "operations counted {apart:.2} apart");
    losses
}

/// A setting, and how far a device's losses may be from core's learner, relative.
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// The setting.
    pub config: Config<f32>,
    /// The limit.
    pub limit: f64,
    /// Of the mean loss of the last fifty steps rather than of every step.
    pub late: bool,
}

/// The settings that are compared. With the first two the basis is that of the factors whenever it is used, and the choice among equal
/// eigenvalues does not matter. With the others core and a device rotate in another order and so live in different, equally
/// good bases: there the mean loss of the last fifty steps is compared, on one seed within what its chance allows.
#[must_use]
pub fn settings() -> [Setting; 4] {
    let kfac = Config { factors: Averaging::Decay(0.95), ..Config::kfac(0.02, 0.1, 10) };
    let ekfac = Config {
        factors: Averaging::Decay(0.95),
        scalings: Averaging::Decay(0.9),
        estimator: Estimator::PerExampleRunning,
        statistics_period: 10,
        refresh: Refresh::every(10).carrying(Carry::Rebuild),
        ..Config::paper(0.02, 1.0, 10)
    };
    let periodic = Config { refresh: Refresh::every(20), ..Config::default() };
    [
        Setting { name: "K-FAC", config: kfac, limit: 1e-4, late: false },
        Setting { name: "EKFAC", config: ekfac, limit: 1e-4, late: false },
        Setting { name: "periodic", config: periodic, limit: 2e-2, late: true },
        Setting { name: "running", config: Config::default(), limit: 5e-2, late: true },
    ]
}

/// The mean losses of the last fifty steps.
fn late(losses: &[[f32; 2]]) -> [f64; 2] {
    let last = &losses[losses.len() - 50..];
    [0, 1].map(|which| last.iter().map(|step| f64::from(step[which])).sum::<f64>() / 50.0)
}

/// 200 steps on the digits with the settings of these names against core's learner.
///
/// # Panics
/// Where the losses are further apart than stated.
pub fn trajectories<E: Engine>(mut engine: impl FnMut() -> E, names: &[&str]) {
    let mut failed = false;
    for Setting { name, config, limit, late: only_late } in settings() {
        if !names.contains(&name) {
            continue;
        }
        let losses = digits_losses(engine(), config, 1, 200);
        for step in [0, 1, 5, 20, 50, 100, 199] {
            println!("    {name}, step {step:>3}: {:?}", losses[step]);
        }
        let apart = |step: &[f32; 2]| f64::from((step[0] - step[1]).abs() / step[0]);
        let worst = losses.iter().map(apart).fold(0.0, |most, x| if x <= most { most } else { x });
        let [core, device] = late(&losses);
        let late = (core - device).abs() / core;
        println!("    {name}: {worst:.1e} at worst, {late:.1e} in the last fifty, at most {limit:.0e}");
        // Only what holds counts, which NaN never does.
        let holds = if only_late { late } else { worst } <= limit;
        failed |= !holds;
    }
    assert!(!failed, "losses too far apart");
}

/// How the default's loss in the last fifty of 200 steps on an engine stands to core's, the mean over seeds 1 to `seeds`.
///
/// # Panics
/// Where a step fails.
pub fn running_ratio<E: Engine>(mut engine: impl FnMut() -> E, seeds: u64) -> f64 {
    let ratio = |seed| {
        let [core, device] = late(&digits_losses(engine(), Config::default(), seed, 200));
        println!("    seed {seed}: {core:.4} by core, {device:.4} on the device");
        device / core
    };
    (1..=seeds).map(ratio).sum::<f64>() / seeds as f64
}

/// One layer on a device, as the golden vectors ask for it.
///
/// # Panics
/// Where the engine fails.
pub fn single<E: Engine>(
    engine: E,
    shape: ekfac::Shape,
    config: &Config<f32>,
    batch: (&[f32], &[f32]),
) -> (DevicePreconditioner<E>, Progress<f32>) {
    let count = batch.1.len() / shape.rows();
    let mut device =
        DevicePreconditioner::new(engine, shape, count, &mut vec![0.0; shape.words()]).expect("a device");
    let mut progress = Progress::new(0);
    let outcome =
        device.observe(config, &mut progress, batch.0, batch.1).expect("no fault").expect("a batch");
    assert_eq!(outcome, Outcome::Applied);
    (device, progress)
}
