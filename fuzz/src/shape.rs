//! Sizes of any kind: no length function panics, and all agree with exact arithmetic, cut off at `usize::MAX`.
//!
//! ```text
//! byte 0    bits 0 to 2: one less than the number of layers; bit 3: layers follow one another
//! then      for each layer a byte with bit 0 set for a bias, and two sizes; then the capacity, four further sizes,
//!           and the length of a buffer as one byte
//! a size    a byte s, then 8 bytes: the number modulo 2^(s mod 65)
//! ```

use crate::byte;
use arbitrary::Unstructured;
use ekfac::{
    Activation, Config, Dense, Error, LayerMut, Learner, Loss, MatrixMut, MatrixRef, Net, Preconditioner,
    Progress, Shape,
    jacobi::{self, Companion, Limits, Turn},
    net,
    shape::{factor_words, packed_words},
};

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let head = byte(&mut bytes);
    let (count, linked) = (usize::from(head % 8) + 1, head & 8 != 0);
    let mut layers: Vec<Dense> = Vec::new();
    for _ in 0..count {
        let bias = byte(&mut bytes) % 2 == 1;
        let (mut inputs, outputs) = (size(&mut bytes), size(&mut bytes));
        if let (true, Some(last)) = (linked, layers.last()) {
            inputs = last.shape().outputs();
        }
        let shape = Shape::new(inputs, outputs);
        let shape = if bias { shape } else { shape.without_bias() };
        layers.push(Dense::with_shape(shape, Activation::Tanh));
    }
    let capacity = size(&mut bytes);
    let further = [size(&mut bytes), size(&mut bytes), size(&mut bytes), size(&mut bytes)];
    let mut buffer = vec![0.0_f32; 4 * usize::from(byte(&mut bytes))];

    for layer in &layers {
        check_shape(layer.shape(), capacity, &mut buffer);
    }
    check_net(&layers, capacity, &mut buffer);
    check_views(further, &mut buffer);
}

fn size(bytes: &mut Unstructured<'_>) -> usize {
    let width = u32::from(byte(bytes)) % 65;
    let value: u64 = bytes.arbitrary().unwrap_or_default();
    let mask = 1_u64.checked_shl(width).map_or(u64::MAX, |power| power - 1);
    usize::try_from(value & mask).unwrap_or(usize::MAX)
}

/// Exact arithmetic, as far as it is needed: u128, which saturates only far beyond `usize`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Exact(u128);

impl From<usize> for Exact {
    fn from(value: usize) -> Self {
        Self(value as u128)
    }
}

impl std::ops::Add for Exact {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::ops::Mul for Exact {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        Self(self.0.saturating_mul(other.0))
    }
}

impl Exact {
    fn cut(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    fn packed(self) -> Self {
        let Self(n) = self;
        // Core says usize::MAX for what no memory holds.
        if n > u128::from(u32::MAX) {
            return Self(usize::MAX as u128);
        }
        Self(if n % 2 == 0 { (n / 2).saturating_mul(n + 1) } else { n.saturating_mul(n / 2 + 1) })
    }

    fn factor(self) -> Self {
        Exact(4) + self.packed() + self * self
    }
}

/// m, n, m n and the words of the state.
fn measures(shape: &Shape) -> (Exact, Exact, Exact, Exact) {
    let (m, n) = (Exact::from(shape.outputs()), Exact::from(shape.inputs()) + Exact(shape.bias().into()));
    (m, n, m * n, Exact(7) + n.factor() + m.factor() + m * n + m * n)
}

fn check_shape(shape: &Shape, capacity: usize, buffer: &mut [f32]) {
    let (m, n, parameters, words) = measures(shape);
    assert_eq!(
        [shape.rows(), shape.columns(), shape.parameters(), shape.words()],
        [m, n, parameters, words].map(Exact::cut)
    );
    assert_eq!(shape.longest_side(), m.max(n).cut());
    assert_eq!([packed_words(shape.inputs()), factor_words(shape.inputs())], {
        let inputs = Exact::from(shape.inputs());
        [inputs.packed(), inputs.factor()].map(Exact::cut)
    });
    let workspace = Exact::from(capacity) * (m + n) + parameters * Exact(3) + m.max(n) * Exact(2);
    assert_eq!(Preconditioner::<f32>::workspace_words(shape, capacity), workspace.cut());

    let expected = if shape.inputs() == 0 {
        Err(Error::Empty { argument: "inputs" })
    } else if shape.outputs() == 0 {
        Err(Error::Empty { argument: "outputs" })
    } else if words.cut() == usize::MAX {
        Err(Error::SizeOverflow { argument: "shape" })
    } else {
        Ok(())
    };
    assert_eq!(shape.check(), expected);
    let fits = expected.is_ok() && words == Exact::from(buffer.len());
    assert_eq!(LayerMut::new(*shape, &mut *buffer).is_ok(), fits);
    // And the length that does fit, where it is small enough to be had.
    if expected.is_ok() && words.0 <= 4096 {
        let mut exact = vec![0.0_f32; words.cut()];
        assert!(LayerMut::new(*shape, &mut exact).is_ok());
    }
}

fn check_net(layers: &[Dense], capacity: usize, buffer: &mut [f32]) {
    let net = Net::new(layers, Loss::SquaredError);
    let batch = capacity > 1;
    let (mut parameters, mut state, mut rooms, mut scratch) = (Exact(0), Exact(0), Exact(0), Exact(0));
    for layer in layers {
        let (m, n, own, words) = measures(layer.shape());
        parameters = parameters + own;
        state = state + own + words;
        rooms = rooms + (Exact(6) * m + n) * Exact::from(capacity);
        rooms = rooms + if batch { own } else { Exact(0) };
        let larger = if batch { own.max(n * Exact::from(capacity)) } else { Exact(0) };
        scratch = scratch.max(Exact(2) * m.max(n)).max(larger);
    }
    let words = state + rooms + scratch;
    assert_eq!(
        [net.parameters(), net.state_words(), net.words(capacity)],
        [parameters, state, words].map(Exact::cut)
    );

    let linked = layers.windows(2).all(|pair| pair[0].shape().outputs() == pair[1].shape().inputs());
    let sound = linked && layers.iter().all(|layer| layer.shape().check().is_ok());
    assert_eq!(net.check().is_ok(), sound);
    let fits = sound && capacity > 0 && words <= Exact::from(buffer.len());
    assert_eq!(Learner::new(net, Config::default(), 1, capacity, &mut *buffer).is_ok(), fits);
    let resumed = Learner::resume(net, Config::default(), Progress::new(1), capacity, buffer);
    assert_eq!(resumed.is_ok(), fits);

    let widths: Vec<usize> = layers.iter().map(|layer| layer.shape().inputs()).collect();
    let dense = net::dense_layers(&widths, Activation::Relu, Activation::Identity);
    assert!(dense.is_err() || widths.len() > 1);
}

/// Views, packed matrices and companions over a buffer that has nothing to do with the sizes.
fn check_views([rows, columns, i, j]: [usize; 4], buffer: &mut [f32]) {
    let fits = Exact::from(rows) * Exact::from(columns) == Exact::from(buffer.len());
    let view = MatrixRef::new(buffer, rows, columns);
    assert_eq!(view.is_ok(), fits);
    if let Ok(view) = view {
        assert_eq!(view.get(i, j).is_some(), i < rows && j < columns);
        assert_eq!(view.column(j).is_some(), j < columns);
        // Columns of no rows are none to walk.
        assert_eq!(view.iter_columns().count(), if rows == 0 { 0 } else { columns });
    }
    assert_eq!(MatrixMut::new(buffer, rows, columns).is_ok(), fits);

    let index = Exact::from(j).packed() + Exact::from(i);
    assert_eq!(jacobi::packed_index(i, j), index.cut());
    let diagonal = (Exact::from(i).packed() + Exact::from(i)).cut();
    assert_eq!(jacobi::diagonal(buffer, i), buffer.get(diagonal).copied().unwrap_or(0.0));

    // A solve whose size and companions do not match the memory does what it can, and ends.
    let mut packed: Vec<f32> = (0..buffer.len().min(40)).map(|k| (k * k % 7) as f32).collect();
    let (mut first, mut second) = (packed.clone(), packed.clone());
    let mut companions = [
        Companion::columns(&mut first, rows, Turn::Linear),
        Companion::rows(&mut second, columns, Turn::Moments),
    ];
    let limits = Limits { sweeps: 3, threshold: f32::EPSILON };
    let report = jacobi::diagonalise(&mut packed, i % 12, &mut companions, limits);
    assert!(report.sweeps <= 3);
}
