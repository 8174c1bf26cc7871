//! The subcommand `bench`, in process: the keys that are promised, numbers that agree with one another, and bad arguments. And what
//! it is made of: memory that is known before it is taken, and a profile that changes nothing and adds up. No test depends on speed.

use clap::Parser;
use ekfac::{
    Activation::{Identity, Tanh},
    Config, Coordinates, Dense, Error, Loss, Net, Targets,
};
use ekfac_std::{
    LayerMemory, Mode, Network,
    profile::{Profile, Stage},
    program::{self, Arguments},
};
use serde_json::{Map, Value};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const KEYS: [&str; 9] = [
    "preset",
    "batch",
    "steps",
    "sgd_step_ms",
    "ekfac_step_ms",
    "ratio",
    "worst_step_ms",
    "peak_rss_mb",
    "threads",
];

/// A folder, and `ekfac bench <options> --out <folder>/<out>`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bench(&self, options: &str, out: &str) -> Result<PathBuf, String> {
        let out = self.path(out);
        let words = ["ekfac", "bench"].into_iter().chain(options.split_whitespace());
        let words = words.chain(["--out", out.to_str().unwrap()]);
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        program::run(arguments).map_err(|error| error.to_string())?;
        Ok(out)
    }
}

fn findings(out: &Path) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(out.join("bench.json")).unwrap()).unwrap()
}

fn number(findings: &Map<String, Value>, name: &str) -> f64 {
    findings[name].as_f64().unwrap_or_else(|| panic!("{name} in {findings:?}"))
}

// Mutants: a key renamed, a ratio upside down, the worst step of gradient descent, a step count that is ignored, products that are not done.
#[test]
fn the_file_has_the_keys_that_are_promised_and_they_agree() {
    let place = Place::new();
    let out = place.bench("--preset digits-autoencoder --steps 5", "out").unwrap();
    let findings = findings(&out);
    assert!(KEYS.iter().all(|key| findings.contains_key(*key)), "{findings:?}");
    assert!(findings["ekfac_speedup"].is_null());
    assert!(!findings.contains_key("profile_ms") && !out.join("profile.svg").exists());
    assert_eq!((&findings["preset"], &findings["data"]), (&"digits-autoencoder".into(), &"digits".into()));
    assert_eq!(["batch", "steps", "threads"].map(|name| number(&findings, name)), [100.0, 5.0, 1.0]);
    let of = |name| number(&findings, name);
    assert!(of("sgd_step_ms") > 0.0 && of("worst_step_ms") >= of("ekfac_step_ms"));
    assert!((of("ratio") - of("ekfac_step_ms") / of("sgd_step_ms")).abs() < 1e-9);
    assert!((of("sgd_over_arithmetic") - of("sgd_step_ms") / of("arithmetic_ms")).abs() < 1e-9);
    // No core does ten million million operations a second: these were done.
    assert!(of("arithmetic_ms") > 0.0 && of("arithmetic_gflops") < 1e4);
    if cfg!(target_os = "linux") {
        // The process holds the network and more.
        assert!(of("peak_rss_mb") > of("predicted_memory_mb"));
    }
    let svg = fs::read_to_string(out.join("bench.svg")).unwrap();
    assert!(svg.contains("EKFAC, worst step") && svg.contains("digits-autoencoder, batch 100, 1 thread"));
}

// Mutants: a stage that is left out, times of a step that are counted twice, threads that are not started, or not compared with one.
#[test]
fn a_profile_names_every_stage_and_is_drawn() {
    let place = Place::new();
    let out = place.bench("--preset digits-autoencoder --steps 4 --profile --threads 2", "out").unwrap();
    let findings = findings(&out);
    let of = |name| number(&findings, name);
    assert_eq!(of("threads"), 2.0);
    assert!((of("ekfac_speedup") - of("ekfac_one_thread_ms") / of("ekfac_step_ms")).abs() < 1e-9);
    assert!((of("sgd_speedup") - of("sgd_one_thread_ms") / of("sgd_step_ms")).abs() < 1e-9);
    let stages = findings["profile_ms"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|part| part["stage"].as_str().unwrap()).collect();
    assert_eq!(names, Stage::ALL.map(Stage::name));
    assert!(stages.iter().all(|part| part["ms"].as_f64().unwrap() >= 0.0));
    let svg = fs::read_to_string(out.join("profile.svg")).unwrap();
    assert!(names.iter().all(|name| svg.contains(name)), "{svg}");
}

// Mutants: MNIST asked for although nobody has named it; a made image of another size.
#[test]
fn the_medium_net_needs_no_data() {
    let place = Place::new();
    let findings = findings(&place.bench("--preset medium-net --steps 1", "out").unwrap());
    assert_eq!((&findings["data"], number(&findings, "batch")), (&"synthetic".into(), 200.0));
    assert!(number(&findings, "ratio") > 0.0);
}

fn idx_file(shape: &[u32], payload: &[u8]) -> Vec<u8> {
    let lengths = shape.iter().flat_map(|length| length.to_be_bytes());
    [0, 0, 8, shape.len() as u8].into_iter().chain(lengths).chain(payload.iter().copied()).collect()
}

#[test]
fn images_are_those_of_the_users_folder_where_there_is_one() {
    let place = Place::new();
    for (part, count) in [("train", 200_u32), ("t10k", 1)] {
        let pixels: Vec<u8> = (0..count * 784).map(|index| (index % 251) as u8).collect();
        let labels = vec![1; count as usize];
        let images = idx_file(&[count, 28, 28], &pixels);
        fs::write(place.path(&format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(place.path(&format!("{part}-labels-idx1-ubyte")), idx_file(&[count], &labels)).unwrap();
    }
    let options = format!("--preset medium-net --steps 1 --mnist {}", place.path("").display());
    assert_eq!(findings(&place.bench(&options, "out").unwrap())["data"], "MNIST");
}

// Mutant: a folder that is made before the arguments are known to be good.
#[test]
fn bad_arguments_are_errors_that_help_and_write_nothing() {
    let place = Place::new();
    for (options, hint) in [
        ("", "--preset"),
        ("--preset wine", "digits-autoencoder"),
        ("--preset medium-net --steps 0", "1..=100000"),
        ("--preset medium-net --threads 0", "1..=256"),
        ("--preset medium-net --mnist nowhere", "train-labels-idx1-ubyte"),
        ("--preset digits-autoencoder --mnist nowhere", "paper-net"),
    ] {
        let error = place.bench(options, "out").unwrap_err();
        assert!(error.contains(hint), "{options}: {error}");
        assert!(!place.path("out").exists(), "{options}");
    }
    fs::write(place.path("file"), "").unwrap();
    let error = place.bench("--preset digits-autoencoder --steps 1", "file/out").unwrap_err();
    assert!(error.contains("file") && error.contains("--out"), "{error}");
}

fn layers() -> Vec<Dense> {
    let without_bias = ekfac::Shape::new(40, 30).without_bias();
    vec![Dense::new(64, 40, Tanh), Dense::with_shape(without_bias, Tanh), Dense::new(30, 10, Identity)]
}

// Mutants: factors unpacked, one of two bases, scratch counted for each layer, words in the place of bytes.
#[test]
fn memory_is_known_before_it_is_allocated() {
    for capacity in [1, 7, 200] {
        let layers = layers();
        let memory = Network::<f32>::memory(&Net::new(&layers, Loss::SoftmaxCrossEntropy), capacity).unwrap();
        let first = memory.layers[0];
        assert_eq!([first.weights, first.scalings, first.velocity], [4 * 65 * 40; 3]);
        assert_eq!(first.factors, 4 * (65 * 66 / 2 + 40 * 41 / 2));
        assert_eq!((first.bases, first.marks), (4 * (65 * 65 + 40 * 40), 4 * (7 + 4 + 4)));
        let gradient = if capacity > 1 { 65 * 40 } else { 0 };
        assert_eq!(first.workspace, 4 * ((6 * 40 + 65) * capacity + gradient));
        let state: usize = memory.layers.iter().map(LayerMemory::state).sum();
        let mut network = None;
        let allocated = allocation_counter::measure(|| {
            let config = Config::default();
            network = Some(Network::<f32>::new(layers, Loss::SoftmaxCrossEntropy, config, 1, capacity));
        });
        let network = network.unwrap().unwrap();
        assert_eq!((memory.total(), state), (network.bytes(), 4 * network.state().len()));
        // The kernels take some bytes.
        let beyond = allocated.bytes_max - memory.total() as u64;
        assert!(beyond < 4096, "{beyond} bytes beyond what was said");
    }
}

#[test]
fn memory_of_a_bad_network_is_an_error() {
    let memory = |layers: &[Dense], capacity| {
        Network::<f64>::memory(&Net::new(layers, Loss::SquaredError), capacity).map(|memory| memory.total())
    };
    assert_eq!(memory(&[], 1), Err(Error::Empty { argument: "layers" }));
    assert_eq!(memory(&layers(), 0), Err(Error::Empty { argument: "capacity" }));
    let huge = [Dense::new(1 << 20, 1 << 20, Tanh)];
    assert_eq!(memory(&huge, 1 << 60), Err(Error::SizeOverflow { argument: "memory" }));
    // It takes no memory to say how much a terabyte is.
    assert!(memory(&huge, 1).unwrap() > 1 << 40);
}

// Mutants: kernels of another mode under the clock; a projection counted as a pass; a stage that is never left.
#[test]
fn a_profile_changes_no_bit_and_finds_every_stage() {
    for coordinates in [Coordinates::Eigenbasis, Coordinates::Parameter] {
        let new = || {
            let mut network =
                Network::<f32>::new(layers(), Loss::SoftmaxCrossEntropy, Config::default(), 3, 16).unwrap();
            let set = |layer| network.with(|learner| learner.set_coordinates(layer, coordinates));
            (0..3).try_for_each(set).unwrap();
            network
        };
        let (mut plain, inner) = (new(), Mode::Fast.kernels(None));
        let (mut clocked, profile) = Profile::attach(new(), inner).unwrap();
        let classes: Vec<u32> = (0..16).map(|index| index % 10).collect();
        for step in 0..5 {
            let inputs: Vec<f32> = (0..64 * 16).map(|index| ((index * 7 + step * 13) as f32).sin()).collect();
            let targets = Targets::Classes(&classes);
            let (own, other) = (plain.step(&inputs, targets), profile.step(&mut clocked, &inputs, targets));
            assert_eq!(own, other);
        }
        assert_eq!(plain.state(), clocked.state());
        let times = profile.times();
        assert_eq!(times.steps, 5);
        let total = Stage::ALL.into_iter().map(|stage| times.of(stage)).sum();
        assert_eq!(times.total(), total);
        for stage in Stage::ALL {
            // Weights in the eigenbasis have no way back to go.
            let expected = stage != Stage::Return || coordinates == Coordinates::Parameter;
            assert_eq!(!times.of(stage).is_zero(), expected, "{coordinates:?} {stage:?}");
        }
    }
}
