//! The measurement itself.

use ekfac::{
    Activation, Config, Coordinates, Dense, Estimator, Loss, Net, Progress, Refresh, Targets, marks::Marks,
};
use ekfac_std::offload::{
    DeviceNet, Engine, Fault,
    cuda::Cuda,
    engine::{Map, ROTATION, Turn, View, from, into},
};
use std::time::Instant;

/// Peak of one H100 SXM in `f32` without tensor cores, in TFLOP/s.
const PEAK: f64 = 66.9;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Milliseconds of a queued operation.
fn time(engine: &mut Cuda, mut work: impl FnMut(&mut Cuda) -> Result<(), Fault>) -> f64 {
    let mut times = Vec::new();
    for _ in 0..8 {
        engine.synchronize().expect("a device");
        let start = Instant::now();
        work(engine).expect("an operation");
        engine.synchronize().expect("a device");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    median(times)
}

fn kernels(engine: &mut Cuda, n: usize, batch: usize) {
    let words = n * n.max(batch);
    let [mut a, mut b, mut c] = [0; 3].map(|_| engine.allocate(words).expect("memory"));
    let mut r = engine.allocate(n * ROTATION).expect("memory");
    let values: Vec<f32> = (0..words).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
    let start = Instant::now();
    engine.write(&mut a, 0, &values).expect("a write");
    engine.write(&mut b, 0, &values).expect("a write");
    println!("write: {:.2} GB/s", 8.0 * words as f64 / start.elapsed().as_secs_f64() / 1e9);
    let mut back = vec![0.0; words];
    let start = Instant::now();
    engine.read(&a, 0, &mut back).expect("a read");
    println!("read: {:.2} GB/s", 4.0 * words as f64 / start.elapsed().as_secs_f64() / 1e9);
    let (square, tall) = (View::new(n, n), View::new(n, batch));
    let products = [
        ("U x, n x n by n x N", tall, square, tall, (false, false), 2 * n * n * batch),
        ("U^T x", tall, square, tall, (true, false), 2 * n * n * batch),
        ("g a^T, n x N by N x n", square, tall, tall, (false, true), 2 * n * n * batch),
        ("n x n by n x n", square, square, square, (false, false), 2 * n * n * n),
    ];
    let rate = |what: &str, ms: f64, flops: f64, bytes: f64| {
        println!(
            "{what:<26} {ms:>8.3} ms {:>7.1} TFLOP/s ({:.0}% of peak) {:>7.0} GB/s",
            flops / ms / 1e9,
            100.0 * flops / ms / 1e9 / PEAK,
            bytes / ms / 1e6
        );
    };
    for (what, out, left, right, transposed, flops) in products {
        let ms = time(engine, |engine| {
            engine.product(into(&mut c, out), from(&a, left), from(&b, right), transposed, (1.0, 0.0))
        });
        rate(what, ms, flops as f64, 0.0);
    }
    let ms = time(engine, |engine| engine.symmetric(into(&mut c, square), from(&a, tall), (1e-3, 0.9)));
    rate("syrk and mirror", ms, (n * n * batch) as f64, 0.0);
    let bytes = 4.0 * (n * n) as f64;
    let quotient = Map::Quotient { scale: 1.0, keep: 0.9, add: 2.0 };
    let ms =
        time(engine, |engine| engine.map(quotient, into(&mut c, square), from(&a, square), from(&b, square)));
    rate("velocity", ms, 0.0, 4.0 * bytes);
    let ms = time(engine, |engine| engine.measure(&[from(&a, square)]).map(drop));
    rate("measure", ms, 0.0, bytes);
    engine.symmetric(into(&mut c, square), from(&a, tall), (1e-3, 0.0)).expect("a factor");
    let turn = Turn { size: n, round: 5, count: 1, offset: 0, columns: true, moments: false };
    let ms = time(engine, |engine| engine.rotations(&mut r, &c, turn, (1e-6, 0.0)));
    rate("angles", ms, 0.0, 0.0);
    let ms = time(engine, |engine| engine.turn(into(&mut b, square), &r, turn));
    rate("turn columns", ms, 0.0, 2.0 * bytes);
    let ms = time(engine, |engine| engine.turn(into(&mut b, square), &r, Turn { columns: false, ..turn }));
    rate("turn rows", ms, 0.0, 2.0 * bytes);
}

pub(super) fn run() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (width, batch) = (sizes.first().copied().unwrap_or(4096), sizes.get(1).copied().unwrap_or(1024));
    let engine = |tf32: bool| match Cuda::new(0) {
        Ok(engine) => Some(if tf32 { engine.with_tf32().expect("TF32") } else { engine }),
        Err(fault) => {
            println!("skipped: {fault}");
            None
        }
    };
    let Some(mut first) = engine(false) else { return };
    println!("{}; width {width}, batch {batch}", first.name());
    kernels(&mut first, width, batch);
    drop(first);
    let layers = [Activation::Tanh, Activation::Tanh, Activation::Identity]
        .map(|activation| Dense::with_shape(ekfac::Shape::new(width, width).without_bias(), activation));
    let net = Net::new(&layers, Loss::SquaredError);
    let inputs: Vec<f32> =
        (0..width * batch).map(|i| ((i * 7919 + i / 977) % 2003) as f32 / 1000.0 - 1.0).collect();
    for tf32 in [false, true] {
        println!("-- {}", if tf32 { "TF32" } else { "f32" });
        let mut state = vec![0.0_f32; net.state_words()];
        fresh(&net, &mut state, Coordinates::Parameter);
        let Some(device) = engine(tf32) else { return };
        let mut device = DeviceNet::new(device, &layers, Loss::SquaredError, batch, &state).expect("memory");
        let mut times = Vec::new();
        for step in 0..20 {
            let start = Instant::now();
            let loss = device.descend(1e-3, &inputs, Targets::Values(&inputs)).expect("a step");
            device.engine().synchronize().expect("a device");
            times.push(start.elapsed().as_secs_f64() * 1e3);
            if step == 19 {
                println!("gradient descent, loss {loss:.1}: first {:.2} ms", times[0]);
            }
        }
        let descent = median(times);
        let flops = 16.0 * (width * width * batch) as f64;
        println!("gradient descent {descent:.3} ms, {:.1} TFLOP/s", flops / descent / 1e9);
        let running = Config::<f32>::default();
        let settings = [
            ("default", Coordinates::Eigenbasis, running),
            (
                "default, statistics every 4 steps",
                Coordinates::Eigenbasis,
                Config { statistics_period: 4, ..running },
            ),
            (
                "default, a quarter measured",
                Coordinates::Eigenbasis,
                Config { statistics_share: 0.25, ..running },
            ),
            (
                "empirical Fisher",
                Coordinates::Eigenbasis,
                Config { fisher: ekfac::Fisher::Empirical, ..running },
            ),
            ("default, parameter coordinates", Coordinates::Parameter, running),
            (
                "mean gradient, every 100",
                Coordinates::Eigenbasis,
                Config {
                    estimator: Estimator::MeanGradientRunning,
                    statistics_period: 100,
                    refresh: Refresh::Rotations { per_step: 64, per_line: 0.5, threshold: 0.08 },
                    ..running
                },
            ),
        ];
        for (name, coordinates, config) in settings {
            fresh(&net, &mut state, coordinates);
            device.load(&state).expect("a device");
            let (mut progress, mut times, mut last) = (Progress::new(0), Vec::new(), 0.0);
            for _ in 0..20 {
                let start = Instant::now();
                let step = device
                    .step(&config, &mut progress, &inputs, Targets::Values(&inputs))
                    .expect("no fault")
                    .expect("a step");
                device.engine().synchronize().expect("a device");
                times.push(start.elapsed().as_secs_f64() * 1e3);
                last = step.loss;
            }
            let later = times[4..].to_vec();
            let mean = later.iter().sum::<f64>() / later.len() as f64;
            let worst = later.iter().copied().fold(0.0, f64::max);
            println!(
                "{name:<36} {coordinates:?}: mean {mean:.3} ms, {:.2} x descent; worst {worst:.3} ms, {:.2} x; loss {last:.1}",
                mean / descent,
                worst / descent
            );
        }
    }
}

/// A fresh state with Glorot-uniform weights.
fn fresh(net: &Net<'_>, state: &mut [f32], coordinates: Coordinates) {
    state.fill(0.0);
    let (mut rest, mut seed) = (state, 1_u32);
    for layer in net.layers() {
        let (weights, tail) = rest.split_at_mut(layer.shape().parameters());
        let limit = (6.0 / (layer.shape().inputs() + layer.shape().outputs()) as f32).sqrt();
        for weight in weights {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *weight = limit * ((seed >> 8) as f32 / 8_388_608.0 - 1.0);
        }
        let (words, tail) = tail.split_at_mut(layer.shape().words());
        ekfac::LayerMut::new(*layer.shape(), words).expect("a state");
        Marks::over(&mut words[..ekfac::shape::HEADER]).set_coordinates(coordinates);
        rest = tail;
    }
}
