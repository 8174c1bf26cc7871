//! Golden vectors: numbers from an independent `numpy` program, read from JSON and compared with this library through
//! its public interface. The format stands in `tests/golden/FORMAT.md`.
//!
//! A file's kind is found from its fields, not from its name. A file that cannot be read, or whose kind or method is
//! unknown, is an error: a check that skips what it does not know checks nothing.

pub mod bench;
pub mod convolution;
pub mod linear;
pub mod measure;
pub mod sequence;
pub mod trajectory;

use nalgebra::DMatrix;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A tensor, row-major.
#[derive(Clone, Debug, Deserialize)]
pub struct Tensor {
    shape: Vec<usize>,
    #[serde(deserialize_with = "numbers")]
    data: Vec<f64>,
}

impl Tensor {
    /// The tensor as a matrix; a vector becomes a column.
    ///
    /// # Panics
    /// When shape and data do not agree.
    pub fn matrix(&self) -> DMatrix<f64> {
        let (rows, columns) = match *self.shape.as_slice() {
            [rows] => (rows, 1),
            [rows, columns] => (rows, columns),
            _ => panic!("a tensor of shape {:?} is no matrix", self.shape),
        };
        assert_eq!(self.data.len(), rows * columns, "data of a tensor of shape {:?}", self.shape);
        DMatrix::from_row_slice(rows, columns, &self.data)
    }

    /// A batch, one row or one image an example, as one column an example.
    ///
    /// # Panics
    /// When shape and data do not agree.
    pub fn batch(&self) -> DMatrix<f64> {
        let (examples, rest) = self.shape.split_first().expect("a batch has examples");
        let words = rest.iter().product();
        assert_eq!(self.data.len(), examples * words, "data of a tensor of shape {:?}", self.shape);
        DMatrix::from_column_slice(words, *examples, &self.data)
    }
}

/// Numbers, with `null` (an undefined value, see [`read`]) as NaN.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    let values = Vec::<Option<f64>>::deserialize(deserializer)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// A number, with `null` as NaN.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// One batch through one layer: dense, or a convolution, whose input is called x.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of FORMAT.md")]
#[allow(non_snake_case, reason = "the fields are those of FORMAT.md")]
pub struct LinearCase {
    pub name: String,
    pub bias: bool,
    pub eps: Vec<f64>,
    #[serde(deserialize_with = "number")]
    pub pi: f64,
    #[serde(deserialize_with = "number")]
    pub min_rel_gap_A: f64,
    #[serde(deserialize_with = "number")]
    pub min_rel_gap_B: f64,
    #[serde(alias = "x")]
    pub h: Tensor,
    pub delta: Tensor,
    pub G: Tensor,
    pub A: Tensor,
    pub B: Tensor,
    pub eig_A: Tensor,
    pub eig_B: Tensor,
    pub S_star: Tensor,
    pub U_A: Tensor,
    pub U_B: Tensor,
    pub ekfac: Vec<Tensor>,
    pub kfac_plain: Vec<Tensor>,
    pub kfac_pi: Vec<Tensor>,
    pub fro: Frobenius,
}

/// What a convolution's file says besides.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of FORMAT.md")]
pub struct Geometry {
    pub c_in: usize,
    pub c_out: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub height: usize,
    pub width: usize,
    pub out_h: usize,
    pub out_w: usize,
    pub locations: usize,
}

/// Distances of the Fisher block from its two approximations.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of FORMAT.md")]
#[allow(non_snake_case, reason = "the fields are those of FORMAT.md")]
pub struct Frobenius {
    pub norm_F: f64,
    pub err_ekfac: f64,
    pub err_kfac: f64,
}

/// Several batches in the basis of the first one.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of FORMAT.md")]
#[allow(non_snake_case, reason = "the fields are those of FORMAT.md")]
pub struct SequenceCase {
    pub name: String,
    pub bias: bool,
    pub alpha: f64,
    pub eps: Vec<f64>,
    pub h: Vec<Tensor>,
    pub delta: Vec<Tensor>,
    pub eig_A: Tensor,
    pub eig_B: Tensor,
    pub m2: Vec<Tensor>,
    pub ekfac_ra: Vec<Vec<Tensor>>,
    pub ekfac_running_intra: Vec<Vec<Tensor>>,
    pub S_running_last: Tensor,
}

/// A whole training run.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of FORMAT.md")]
#[allow(non_snake_case, reason = "the fields are those of FORMAT.md")]
pub struct Trajectory {
    pub name: String,
    pub kind: String,
    pub sizes: Vec<usize>,
    #[serde(default)]
    pub linear_layers: Vec<bool>,
    pub method: String,
    pub lr: f64,
    #[serde(default)]
    pub eps: Option<f64>,
    #[serde(default)]
    pub freq: Option<u32>,
    #[serde(default)]
    pub alpha: Option<f64>,
    pub X: Tensor,
    #[serde(default)]
    pub T: Value,
    pub W0: Vec<Tensor>,
    pub batches: Vec<Vec<usize>>,
    pub losses: Vec<f64>,
    #[serde(default)]
    pub first_update: Vec<Tensor>,
    pub W_final: Vec<Tensor>,
    pub strict: bool,
    #[serde(default)]
    pub basis_choice_spread: Option<f64>,
}

/// One file, by kind.
#[derive(Clone, Debug)]
pub enum Golden {
    /// A static case of a dense layer.
    Linear(Box<LinearCase>),
    /// A static case of a convolution.
    Convolution(Box<LinearCase>, Geometry),
    /// A sequence in a kept basis.
    Sequence(Box<SequenceCase>),
    /// A training run.
    Trajectory(Box<Trajectory>),
    /// Recognised, but not covered yet.
    NotCovered(&'static str),
}

/// A file and what it holds.
#[derive(Clone, Debug)]
pub struct GoldenFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it holds.
    pub golden: Golden,
}

/// The vectors that came with the project.
pub fn committed_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// A further folder, named by the environment variable `EKFAC_GOLDEN`.
pub fn extra_folder() -> Option<PathBuf> {
    std::env::var_os("EKFAC_GOLDEN").filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// Reads every `*.json` of a folder, by name.
///
/// # Errors
/// One line for the folder, or for each file that cannot be read or is of no known kind.
pub fn read_folder(folder: &Path) -> Result<Vec<GoldenFile>, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| at(&error))? {
        let path = entry.map_err(|error| at(&error))?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        match read(&path) {
            Ok(golden) => files.push(GoldenFile { path, golden }),
            Err(error) => errors.push(format!("{}: {error}", path.display())),
        }
    }
    match errors.is_empty() {
        true if files.is_empty() => Err(at(&"holds no *.json file")),
        true => Ok(files),
        false => Err(errors.join("\n")),
    }
}

/// Reads one file. Python writes undefined values as `NaN` and `Infinity`, which JSON does not know; they become `null`.
///
/// # Errors
/// Why the file cannot be read.
pub fn read(path: &Path) -> Result<Golden, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    classify(&defined(&text)).map_err(|error| format!("cannot be read as a golden vector: {error}"))
}

/// The text without Python's names for undefined numbers.
fn defined(text: &str) -> String {
    let mut quoted = false;
    let without = |piece: &str| {
        let numbers = !quoted;
        quoted ^= piece.ends_with('"') && !piece.ends_with("\\\"");
        let replaced = |piece: &str, name| piece.replace(name, "null");
        if numbers {
            ["-Infinity", "Infinity", "NaN"].iter().fold(piece.to_owned(), |text, name| replaced(&text, name))
        } else {
            piece.to_owned()
        }
    };
    text.split_inclusive('"').map(without).collect()
}

/// Finds the kind of a golden vector and reads it.
///
/// # Errors
/// Why the text is none: no JSON, a missing field, an unknown kind or method.
pub fn classify(text: &str) -> Result<Golden, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match (field("layer").as_deref(), field("kind").as_deref()) {
        (Some("linear"), _) => Ok(Golden::Linear(parse(value)?)),
        (Some("linear_sequence"), _) => Ok(Golden::Sequence(parse(value)?)),
        (Some("conv2d"), _) => Ok(Golden::Convolution(parse(value.clone())?, *parse(value)?)),
        (None, Some("ae" | "clf")) => {
            let trajectory: Box<Trajectory> = parse(value)?;
            trajectory::check(&trajectory)?;
            Ok(Golden::Trajectory(trajectory))
        }
        (None, None) if value.pointer("/cases/0/eig_top200").is_some() => {
            Ok(Golden::NotCovered("eig_stress"))
        }
        (layer, kind) => Err(format!("unknown layer {layer:?} and kind {kind:?}")),
    }
}

fn parse<C: DeserializeOwned>(value: Value) -> Result<Box<C>, String> {
    serde_json::from_value(value).map(Box::new).map_err(|error| error.to_string())
}
