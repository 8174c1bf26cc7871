//! Writes the seed corpora: `cargo run --example seeds` in the folder `fuzz`. The formats stand in the library's modules.

use ekfac::{
    Activation::{Identity, Tanh},
    Config, Dense, Learner, Loss, Net, Scalar, Shape, Targets,
    convolution::{ConvolutionLearner, ConvolutionNet},
    snapshot::{length, length_of_convolutions},
};
use ekfac_fuzz::snapshot::{CONVOLUTIONS, LAYERS, LOSS};
use ekfac_std::{
    Network,
    checkpoint::{self, Stored},
};
use std::{fs, io, path::Path};

/// Writes a seed: target, name, bytes.
type Writer<'a> = dyn Fn(&str, &str, Vec<u8>) -> io::Result<()> + 'a;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = |target: &str, name: &str, bytes: Vec<u8>| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };

    let single = |size: u8, limits: &[u8], values: &[f32]| {
        let words = values.iter().flat_map(|value| value.to_le_bytes());
        [2 * size].iter().chain(limits).copied().chain(words).collect::<Vec<u8>>()
    };
    let double = |size: u8, values: &[f64]| {
        [2 * size + 1, 0].into_iter().chain(values.iter().flat_map(|value| value.to_le_bytes())).collect()
    };
    write("eigen", "empty", single(0, &[0], &[]))?;
    write("eigen", "random-3", single(3, &[0], &[1.0, 0.5, -2.0, 0.25, 3.0, 0.75]))?;
    write("eigen", "nan-last", single(2, &[0], &[1.0, 2.0, f32::NAN]))?;
    write("eigen", "ones-12", single(12, &[0], &[1.0; 78]))?;
    write(
        "eigen",
        "graded-4",
        double(4, &[1.0, 1e-40, 1e-80, 1e-120, 1e-160, 1e-200, 0.0, 1e-9, 0.0, 1e-300]),
    )?;
    write("eigen", "huge-3", double(3, &[1e300, -1e300, 1e299, 1e307, 1e306, -1e305]))?;
    write("eigen", "subnormal-2", single(2, &[0], &[1e-45, 3e-45, 1e-44]))?;
    write("eigen", "two-sweeps", single(3, &[3, 0, 0, 0, 0x3d], &[1.0, 2.0, 1.0, 2.0, 2.0, 1.0]))?;

    let tame = |examples: u8, first: u8| -> Vec<u8> {
        let words = (0..examples * 5).map(|k| first.wrapping_add(k.wrapping_mul(37)) & 0x3f);
        [0, 8 + examples - 1].into_iter().chain(words).collect()
    };
    let wild = |word: f32| -> Vec<u8> { [&[0, 0, 0x80][..], &word.to_le_bytes(), &[1, 2, 3, 4]].concat() };
    for (name, head) in [("default", 0), ("paper", 5), ("running", 10), ("kfac", 15)] {
        let calls =
            [vec![head], tame(4, 3), wild(f32::NAN), tame(1, 9), vec![4, 8, 1, 2, 3, 4, 5], tame(2, 20)];
        write("step", name, calls.concat())?;
    }
    let huge = [vec![1], wild(1e30), tame(2, 1), wild(3e38), vec![7, 5, 0x80, 0, 0, 0x7f, 0x7f], tame(3, 8)];
    write("step", "huge", huge.concat())?;
    let resumed = [vec![0], tame(4, 1), vec![6], tame(4, 2), vec![5, 3], tame(4, 3), vec![6], tame(1, 4)];
    write("step", "resumed", resumed.concat())?;
    let mixed =
        [vec![16, 2, 1, 0, 3, 0, 1, 1, 1, 1, 1, 1, 30], vec![8; 8], tame(4, 1), tame(3, 2), tame(2, 3)];
    write("step", "mixed", mixed.concat())?;

    let size = |width: u8, value: u64| [&[width][..], &value.to_le_bytes()].concat();
    let layer = |inputs: Vec<u8>, outputs: Vec<u8>| [vec![1], inputs, outputs].concat();
    let rest = |sizes: [u64; 5], buffer: u8| {
        let sizes = sizes.iter().flat_map(|value| size(64, *value)).collect::<Vec<u8>>();
        [sizes, vec![buffer]].concat()
    };
    let small = layer(size(64, 3), size(64, 2));
    write("shape", "fits", [vec![0], small.clone(), rest([1, 4, 43, 3, 2], 43)].concat())?;
    let two = [vec![9], small, layer(size(64, 2), size(64, 2)), rest([4, 10, 10, 1, 1], 25)].concat();
    write("shape", "two-layers", two)?;
    let square = [vec![0], layer(size(32, u64::MAX), size(32, u64::MAX)), rest([u64::MAX; 5], 1)].concat();
    write("shape", "overflow", square)?;
    let largest = [vec![0], layer(size(64, u64::MAX), size(64, 1)), rest([0; 5], 0)].concat();
    write("shape", "largest", largest)?;
    checkpoints(&write)?;
    readers(&write)?;
    snapshots(&write)
}

/// Networks before and after some steps, in both precisions; one cut short and one with a flipped bit.
fn checkpoints(write: &Writer<'_>) -> io::Result<()> {
    fn file<T: Stored>(loss: Loss, steps: usize) -> Vec<u8> {
        let layers =
            vec![Dense::new(3, 2, Tanh), Dense::with_shape(Shape::new(2, 2).without_bias(), Identity)];
        let mut network = Network::<T>::new(layers, loss, Config::default(), 1, 4).expect("a network");
        let (inputs, targets) = (vec![T::HALF; 12], vec![T::from_f64(0.25); 8]);
        for _ in 0..steps {
            network.step(&inputs, Targets::Values(&targets)).expect("a step");
        }
        let extra = [("epoch".to_string(), steps.to_string())].into();
        [vec![3], checkpoint::to_bytes(&network, &extra).expect("a checkpoint")].concat()
    }
    let trained = file::<f32>(Loss::SquaredError, 3);
    write("checkpoint", "fresh-f64", file::<f64>(Loss::SoftmaxCrossEntropy, 0))?;
    write("checkpoint", "huber-f64", file::<f64>(Loss::Huber(1.5), 2))?;
    write("checkpoint", "cut-short", trained[..trained.len() - 9].to_vec())?;
    let mut flipped = trained.clone();
    flipped[trained.len() - 40] ^= 4;
    write("checkpoint", "flipped", flipped)?;
    write("checkpoint", "trained-f32", trained)
}

fn readers(write: &Writer<'_>) -> io::Result<()> {
    let file = |head: u8, parts: &[&[u8]]| [&[head], parts.concat().as_slice()].concat();
    let images: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 7, 0, 255, 9];
    write("readers", "idx-images", file(0, &[images]))?;
    write("readers", "idx-any", file(3, &[images]))?;
    write("readers", "idx-f64", file(0, &[&[0, 0, 14, 1, 0, 0, 0, 1], &2.5_f64.to_be_bytes()]))?;
    write("readers", "idx-product-overflows", file(0, &[&[0, 0, 8, 4], &[255; 16]]))?;
    let npy = |description: &str, data: &[u8]| {
        let text = format!("{description:<117}\n");
        let length = u16::try_from(text.len()).expect("short").to_le_bytes();
        file(1, &[b"\x93NUMPY\x01\x00", &length, text.as_bytes(), data])
    };
    let (one, two) = (1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes());
    write(
        "readers",
        "npy",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }", &[one, two].concat()),
    )?;
    write(
        "readers",
        "npy-fortran",
        npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2), }", &[1, 2, 3, 4]),
    )?;
    write(
        "readers",
        "npy-huge",
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 9), }", &[]),
    )?;
    write("readers", "csv-header", file(2, &[b"length,width,kind\n1.5,2,tulip\n3,4,rose\n"]))?;
    write("readers", "csv-quoted", file(2, &[b"1;\"2\";a\r\n\r\n 3 ;4;\"b \"\"c\"\r\n"]))?;
    write("readers", "csv-tabs", file(3, &[b"1\t2\t0\n3\t4\t1\n5\t6\t0\n7\t8\t1\n"]))?;
    write("readers", "csv-ragged", file(6, &[b"1,2\n3\n"]))?;
    // gzip of "1,2\n3,4\n".
    let zipped: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 51, 212, 49, 226, 50, 214, 49, 225, 2, 0, 71, 147, 108, 175, 8, 0,
        0, 0,
    ];
    write("readers", "csv-gzip", file(3, &[zipped]))
}

/// Whole ones, and one of each that is sealed by the target: damaged, of other sizes, with an absurd mark.
fn snapshots(write: &Writer<'_>) -> io::Result<()> {
    let (single, double) = (snapshot::<f32>(), snapshot::<f64>());
    let with = |head: u8, bytes: &[u8]| [&[head][..], bytes].concat();
    let changed = |place: usize, byte: u8| {
        let mut bytes = single.clone();
        bytes[place] = byte;
        bytes
    };
    write("snapshot", "single", with(0, &single))?;
    write("snapshot", "single-sealed", with(1, &single))?;
    write("snapshot", "double", with(3, &double))?;
    write("snapshot", "damaged", with(0, &changed(200, 0x40)))?;
    write("snapshot", "huge-layer", with(1, &changed(99, 0xFF)))?;
    write("snapshot", "another-word", with(1, &changed(128 + 4 * 6 + 3, 0x7E)))?;
    write("snapshot", "cut", with(0, &single[..150]))?;
    let shared = convolutions();
    write("snapshot", "convolutions", with(4, &shared))?;
    write("snapshot", "convolutions-sealed", with(5, &shared))
}

fn convolutions() -> Vec<u8> {
    let net = ConvolutionNet::new(&CONVOLUTIONS, LOSS);
    let (mut memory, mut bytes) = (vec![0.0; net.words(1, 1)], vec![0; length_of_convolutions::<f32>(&net)]);
    if let Ok(mut learner) = ConvolutionLearner::new(net, Config::default(), 1, 1, 1, &mut memory) {
        for _ in 0..3 {
            let _ = learner.step(&[0.5; 8], Targets::Values(&[1.0; 2]));
        }
        let _ = learner.save_into(&mut bytes);
    }
    bytes
}

/// The run of the target's network after three steps.
fn snapshot<T: Scalar>() -> Vec<u8> {
    let net = Net::new(&LAYERS, LOSS);
    let (mut memory, mut bytes) = (vec![T::ZERO; net.words(1)], vec![0; length::<T>(&net)]);
    if let Ok(mut learner) = Learner::new(net, Config::default(), 1, 1, &mut memory) {
        for _ in 0..3 {
            let _ = learner.step(&[T::ONE, T::HALF], Targets::Values(&[T::ONE]));
        }
        let _ = learner.save_into(&mut bytes);
    }
    bytes
}
