//! The state and the workspace of a layer whose words live on a device.
//!
//! *Invariant*: the header stays on the host; all else is the engine's. *Cost*: the words of core's layer, both triangles of C, and the
//! batch. *Failure*: an allocation that does is a [`Fault`].

use super::{
    desk::Desk,
    engine::{Engine, Fault, ROTATION, View, from, into},
    turning::KEPT,
};
use ekfac::{Coordinates, LayerMut, Shape, marks::Marks, shape};

/// One side of a layer: C (n x n, both triangles) and U.
pub(super) struct Side<B> {
    pub(super) size: usize,
    pub(super) covariance: B,
    pub(super) basis: B,
    /// Of the tournament.
    pub(super) round: usize,
    /// Rounds since the last care.
    pub(super) turned: usize,
}

/// The state and the workspace of a layer.
pub(super) struct DeviceLayer<B> {
    pub(super) shape: Shape,
    pub(super) header: [f32; shape::HEADER],
    pub(super) input: Side<B>,
    pub(super) output: Side<B>,
    pub(super) scalings: B,
    pub(super) velocity: B,
    pub(super) weights: B,
    /// [a; 1], n x N.
    pub(super) activations: B,
    /// z, m x N.
    pub(super) pre_activations: B,
    pub(super) gradients: B,
    pub(super) fisher_gradients: B,
    pub(super) projected_activations: B,
    pub(super) projected_gradients: B,
    pub(super) projected_fisher: B,
    /// K, m x n.
    pub(super) mean_gradient: B,
}

/// Memory that all layers share.
pub(super) struct Scratch<B> {
    pub(super) first: B,
    pub(super) second: B,
    pub(super) rotations: B,
}

impl<B> Scratch<B> {
    pub(super) fn new<E: Engine<Buffer = B>>(
        engine: &mut E,
        shapes: &[Shape],
        batch: usize,
    ) -> Result<Self, Fault> {
        let longest = shapes.iter().map(Shape::longest_side).max().unwrap_or(1);
        let words = longest * longest.max(batch);
        Ok(Self {
            first: engine.allocate(words)?,
            second: engine.allocate(words)?,
            rotations: engine.allocate(KEPT * longest.div_ceil(2) * ROTATION)?,
        })
    }
}

impl<B> Side<B> {
    fn new<E: Engine<Buffer = B>>(engine: &mut E, size: usize) -> Result<Self, Fault> {
        let (covariance, basis) = (engine.allocate(size * size)?, engine.allocate(size * size)?);
        Ok(Self { size, covariance, basis, round: 0, turned: 0 })
    }

    pub(super) fn view(&self) -> View {
        View::new(self.size, self.size)
    }
}

impl<B> DeviceLayer<B> {
    /// Memory for a layer and for batches of up to `batch` examples; its state is to be loaded.
    pub(super) fn new<E: Engine<Buffer = B>>(
        engine: &mut E,
        shape: Shape,
        batch: usize,
    ) -> Result<Self, Fault> {
        let (m, n) = (shape.rows(), shape.columns());
        let mut layer = Self {
            shape,
            header: [0.0; shape::HEADER],
            input: Side::new(engine, n)?,
            output: Side::new(engine, m)?,
            scalings: engine.allocate(m * n)?,
            velocity: engine.allocate(m * n)?,
            weights: engine.allocate(m * n)?,
            activations: engine.allocate(n * batch)?,
            pre_activations: engine.allocate(m * batch)?,
            gradients: engine.allocate(m * batch)?,
            fisher_gradients: engine.allocate(m * batch)?,
            projected_activations: engine.allocate(n * batch)?,
            projected_gradients: engine.allocate(m * batch)?,
            projected_fisher: engine.allocate(m * batch)?,
            mean_gradient: engine.allocate(m * n)?,
        };
        // The bias's ones stay where they are; the passes write the rows above.
        engine.write(&mut layer.activations, 0, &vec![1.0; n * batch])?;
        Ok(layer)
    }

    pub(super) fn coordinates(&self) -> Coordinates {
        Coordinates::of(&self.header)
    }

    pub(super) fn in_eigenbasis(&self) -> bool {
        self.coordinates() == Coordinates::Eigenbasis
    }

    /// Whether U_B is I: no product with it is formed.
    pub(super) fn output_is_diagonal(&self) -> bool {
        Marks::over(&mut self.header.clone()).output_is_diagonal()
    }

    pub(super) fn view(&self) -> View {
        View::new(self.shape.rows(), self.shape.columns())
    }

    /// Of z and the gradients.
    pub(super) fn outputs(&self, columns: usize) -> View {
        View::new(self.shape.rows(), columns)
    }

    /// Of [a; 1] and a~.
    pub(super) fn inputs(&self, columns: usize) -> View {
        View::new(self.shape.columns(), columns)
    }

    /// g~ = U_B^T g for so many columns, of the Fisher's targets or the training targets; returns the operations.
    pub(super) fn project_gradients<E: Engine<Buffer = B>>(
        &mut self,
        desk: &mut Desk<E>,
        fisher: bool,
        columns: usize,
    ) -> usize {
        let (view, square, plain) = (self.outputs(columns), self.output.view(), self.output_is_diagonal());
        let (gradients, projected) = if fisher {
            (&self.fisher_gradients, &mut self.projected_fisher)
        } else {
            (&self.gradients, &mut self.projected_gradients)
        };
        let (out, gradients) = (into(projected, view), from(gradients, view));
        if plain {
            desk.copy(out, gradients);
            return 0;
        }
        desk.product(out, from(&self.output.basis, square), gradients, (true, false), (1.0, 0.0));
        2 * columns * square.rows * square.rows
    }

    /// Takes over the weights and the state in core's words.
    pub(super) fn load<E: Engine<Buffer = B>>(
        &mut self,
        desk: &mut Desk<E>,
        weights: &[f32],
        words: &mut [f32],
    ) {
        desk.write(&mut self.weights, 0, weights);
        let Ok(layer) = LayerMut::new(self.shape, words) else {
            desk.fault.get_or_insert(Fault::Gone);
            return;
        };
        for (side, factor) in
            [(&mut self.input, layer.input_factor()), (&mut self.output, layer.output_factor())]
        {
            let size = side.size;
            let mut square = vec![0.0; size * size];
            for (j, packed) in (0..size).map(|j| (j, &factor.covariance()[shape::packed_words(j)..][..=j])) {
                for (i, value) in packed.iter().enumerate() {
                    square[i + j * size] = *value;
                    square[j + i * size] = *value;
                }
            }
            desk.write(&mut side.covariance, 0, &square);
            desk.write(&mut side.basis, 0, factor.basis().as_slice());
            (side.round, side.turned) = (0, 0);
        }
        desk.write(&mut self.scalings, 0, layer.scalings().as_slice());
        desk.write(&mut self.velocity, 0, layer.velocity());
        self.header.copy_from_slice(&words[..shape::HEADER]);
    }

    /// Writes weights and state in core's words; the cursors stay as they are.
    pub(super) fn save<E: Engine<Buffer = B>>(
        &self,
        desk: &mut Desk<E>,
        weights: &mut [f32],
        words: &mut [f32],
    ) {
        desk.read(&self.weights, 0, weights);
        let (header, mut rest) = words.split_at_mut(shape::HEADER);
        header.copy_from_slice(&self.header);
        for side in [&self.input, &self.output] {
            let size = side.size;
            let (factor, tail) = rest.split_at_mut(shape::factor_words(size));
            let (packed, basis) = factor[shape::CURSORS..].split_at_mut(shape::packed_words(size));
            let mut square = vec![0.0; size * size];
            desk.read(&side.covariance, 0, &mut square);
            for j in 0..size {
                packed[shape::packed_words(j)..][..=j].copy_from_slice(&square[j * size..][..=j]);
            }
            desk.read(&side.basis, 0, basis);
            rest = tail;
        }
        let (scalings, velocity) = rest.split_at_mut(self.shape.parameters());
        desk.read(&self.scalings, 0, scalings);
        desk.read(&self.velocity, 0, velocity);
    }
}
