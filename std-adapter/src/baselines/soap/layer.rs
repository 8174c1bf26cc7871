//! One matrix under SOAP: rotations, moments and the change of basis.
//!
//! ```text
//! G' = Q_Lᵀ G Q_R        D = Q_L D' Q_Rᵀ        M' ← Q_L⁺ᵀ (Q_L M' Q_Rᵀ) Q_R⁺
//! ```
//!
//! Vyas et al. 2024 (arXiv 2409.11321), algorithm 3; `Q⁺` is the basis after a refresh.
//!
//! *Invariant.* Rotations keep the Frobenius norm; the second moment is only permuted.
//!
//! *Cost.* A rotation takes `2 m n (m + n)` operations, less for a side that is not
//! preconditioned; the methods named `…_operations` count what each phase spends.
//!
//! *How it fails.* Only [`Layer::start`] can, when an eigendecomposition does not converge.

use crate::baselines::adamw::{MomentRule, Moments, OPERATIONS_PER_ENTRY};
use crate::baselines::dense::{self, Factoriser};
use crate::baselines::eigenbasis::{Eigenbasis, gather_columns, gather_rows};
use faer::MatRef;

/// One matrix: its bases and its moments in them.
pub(super) struct Layer {
    rows: usize,
    columns: usize,
    left: Option<Eigenbasis>,
    right: Option<Eigenbasis>,
    moments: Moments,
}

/// Buffers that every layer shares; nothing in them outlives a step.
pub(super) struct Buffers {
    factoriser: Factoriser,
    product: Vec<f32>,
    estimates: Vec<f32>,
    permutation: Vec<usize>,
    half: Vec<f32>,
    rotated: Vec<f32>,
    direction: Vec<f32>,
}

impl Buffers {
    /// Buffers for sides up to `largest` and matrices of up to `widest` entries.
    pub(super) fn new(largest: usize, widest: usize) -> Self {
        Self {
            factoriser: Factoriser::new(largest),
            product: vec![0.0; largest * largest],
            estimates: Vec::with_capacity(largest),
            permutation: Vec::with_capacity(largest),
            half: vec![0.0; widest],
            rotated: vec![0.0; widest],
            direction: vec![0.0; widest],
        }
    }
}

impl Layer {
    pub(super) fn new((rows, columns): (usize, usize), max_dimension: usize) -> Self {
        let side = |order: usize| (order <= max_dimension).then(|| Eigenbasis::new(order));
        let (left, right) = (side(rows), side(columns));
        Self { rows, columns, left, right, moments: Moments::new(rows * columns) }
    }

    fn entries(&self) -> usize {
        self.rows * self.columns
    }

    /// `target ← Q_Lᵀ source Q_R`.
    fn project(&self, source: &[f32], half: &mut [f32], target: &mut [f32]) {
        let left = self.left.as_ref().map(|side| side.view().transpose());
        self.rotate(left, self.right.as_ref().map(Eigenbasis::view), source, half, target);
    }

    /// `target ← Q_L source Q_Rᵀ`.
    fn project_back(&self, source: &[f32], half: &mut [f32], target: &mut [f32]) {
        let right = self.right.as_ref().map(|side| side.view().transpose());
        self.rotate(self.left.as_ref().map(Eigenbasis::view), right, source, half, target);
    }

    /// `target ← left · source · right`; a side that is absent counts as the identity.
    fn rotate(
        &self,
        left: Option<MatRef<'_, f32>>,
        right: Option<MatRef<'_, f32>>,
        source: &[f32],
        half: &mut [f32],
        target: &mut [f32],
    ) {
        let (rows, columns) = (self.rows, self.columns);
        let (half, target) = (&mut half[..rows * columns], &mut target[..rows * columns]);
        match left {
            Some(left) => {
                let source = dense::view(source, rows, columns);
                dense::multiply(dense::view_mut(half, rows, columns), left, source);
            }
            None => half.copy_from_slice(source),
        }
        match right {
            Some(right) => {
                let half = dense::view(half, rows, columns);
                dense::multiply(dense::view_mut(target, rows, columns), half, right);
            }
            None => target.copy_from_slice(half),
        }
    }

    /// Starts both factors and bases; the name of the side that failed otherwise.
    pub(super) fn start(
        &mut self,
        gradient: &[f32],
        decay: f32,
        buffers: &mut Buffers,
    ) -> Result<(), &'static str> {
        let gradient = dense::view(gradient, self.rows, self.columns);
        let sides = [("left", &mut self.left, gradient), ("right", &mut self.right, gradient.transpose())];
        for (name, side, gradient) in sides {
            if let Some(side) = side
                && !side.start(decay, gradient, &mut buffers.factoriser)
            {
                return Err(name);
            }
        }
        Ok(())
    }

    /// Adam's update in the bases, then the weights in parameter coordinates.
    pub(super) fn descend(
        &mut self,
        weight: &mut [f32],
        gradient: &[f32],
        rule: MomentRule,
        (learning_rate, weight_decay): (f32, f32),
        buffers: &mut Buffers,
    ) {
        let entries = self.entries();
        let Buffers { half, rotated, direction, .. } = buffers;
        self.project(gradient, half, rotated);
        self.moments.update(&rotated[..entries], rule, |index, value| direction[index] = value);
        self.project_back(&direction[..entries], half, rotated);
        let shrink = 1.0 - learning_rate * weight_decay;
        for (w, d) in weight.iter_mut().zip(&rotated[..entries]) {
            *w = shrink * *w - learning_rate * d;
        }
    }

    /// Takes the gradient into both factors.
    pub(super) fn average(&mut self, gradient: &[f32], decay: f32) {
        let gradient = dense::view(gradient, self.rows, self.columns);
        if let Some(left) = &mut self.left {
            left.average(decay, gradient);
        }
        if let Some(right) = &mut self.right {
            right.average(decay, gradient.transpose());
        }
    }

    /// Moves to the new bases: the first moment by rotation, the second by permutation.
    pub(super) fn refresh(&mut self, buffers: &mut Buffers) {
        let entries = self.entries();
        let Buffers { factoriser, product, estimates, permutation, half, rotated, direction } = buffers;
        self.project_back(&self.moments.first, half, rotated);
        let second = &mut self.moments.second;
        let copy = &mut direction[..entries];
        if let Some(left) = &mut self.left {
            left.refresh(factoriser, product, estimates, permutation);
            copy.copy_from_slice(second);
            gather_rows(copy, second, permutation);
        }
        if let Some(right) = &mut self.right {
            right.refresh(factoriser, product, estimates, permutation);
            copy.copy_from_slice(second);
            gather_columns(copy, second, self.rows, permutation);
        }
        self.project(&rotated[..entries], half, direction);
        self.moments.first.copy_from_slice(&direction[..entries]);
    }

    /// The sides present, each with the length of the other one.
    pub(super) fn sides(&self) -> impl Iterator<Item = (&Eigenbasis, usize)> {
        let left = self.left.iter().map(|side| (side, self.columns));
        left.chain(self.right.iter().map(|side| (side, self.rows)))
    }

    /// Operations of one rotation into or out of the bases.
    fn rotation_operations(&self) -> u64 {
        let entries = self.entries() as u64;
        self.sides().map(|(side, _)| 2 * entries * side.order as u64).sum()
    }

    fn average_operations(&self) -> u64 {
        self.sides().map(|(side, other)| side.average_operations(other)).sum()
    }

    pub(super) fn start_operations(&self) -> u64 {
        self.average_operations() + self.sides().map(|(side, _)| side.start_operations()).sum::<u64>()
    }

    pub(super) fn step_operations(&self, decays: bool) -> u64 {
        let per_entry = OPERATIONS_PER_ENTRY + if decays { 3 } else { 2 };
        2 * self.rotation_operations() + self.average_operations() + per_entry * self.entries() as u64
    }

    pub(super) fn refresh_operations(&self) -> u64 {
        let power: u64 = self.sides().map(|(side, _)| side.refresh_operations()).sum();
        2 * self.rotation_operations() + power
    }
}
