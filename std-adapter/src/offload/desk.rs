//! An engine and its first fault: after that, nothing more is asked of it.

use super::engine::{Answer, Engine, Fault, Map, Measure, Operand, Question, Target, Turn};

/// Drives an engine for a network. Every operation is a no-op once one has failed.
pub(super) struct Desk<E> {
    pub(super) engine: E,
    pub(super) fault: Option<Fault>,
}

impl<E: Engine> Desk<E> {
    pub(super) fn new(engine: E) -> Self {
        Self { engine, fault: None }
    }

    /// Runs one operation unless one has failed before.
    pub(super) fn ask<R>(&mut self, work: impl FnOnce(&mut E) -> Result<R, Fault>) -> Option<R> {
        if self.fault.is_some() {
            return None;
        }
        match work(&mut self.engine) {
            Ok(result) => Some(result),
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }

    /// The fault, as an error.
    pub(super) fn verdict(&self) -> Result<(), Fault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    pub(super) fn product(
        &mut self,
        out: Target<'_, E::Buffer>,
        left: Operand<'_, E::Buffer>,
        right: Operand<'_, E::Buffer>,
        transposed: (bool, bool),
        factors: (f32, f32),
    ) {
        self.ask(|engine| engine.product(out, left, right, transposed, factors));
    }

    pub(super) fn symmetric(
        &mut self,
        out: Target<'_, E::Buffer>,
        x: Operand<'_, E::Buffer>,
        factors: (f32, f32),
    ) {
        self.ask(|engine| engine.symmetric(out, x, factors));
    }

    pub(super) fn map(
        &mut self,
        map: Map,
        out: Target<'_, E::Buffer>,
        x: Operand<'_, E::Buffer>,
        y: Operand<'_, E::Buffer>,
    ) {
        self.ask(|engine| engine.map(map, out, x, y));
    }

    pub(super) fn copy(&mut self, out: Target<'_, E::Buffer>, x: Operand<'_, E::Buffer>) {
        self.map(Map::Sum { scale: 1.0, keep: 0.0 }, out, x, x);
    }

    /// What matrices hold; nothing that is finite after a fault.
    pub(super) fn measure<const N: usize>(&mut self, matrices: [Operand<'_, E::Buffer>; N]) -> [Measure; N] {
        let lost = Measure { sum: f64::NAN, squares: f64::NAN, largest: f32::NAN };
        let found = self.ask(|engine| engine.measure(&matrices)).unwrap_or_default();
        std::array::from_fn(|index| found.get(index).copied().unwrap_or(lost))
    }

    pub(super) fn survey(&mut self, question: &Question<'_, E::Buffer>) -> Option<Answer> {
        self.ask(|engine| engine.survey(question))
    }

    pub(super) fn rotate(
        &mut self,
        rotations: &mut E::Buffer,
        matrix: &mut E::Buffer,
        turn: Turn,
        negligible: (f32, f32),
    ) {
        self.ask(|engine| engine.rotate(rotations, matrix, turn, negligible));
    }

    pub(super) fn turn(&mut self, matrix: Target<'_, E::Buffer>, rotations: &E::Buffer, turn: Turn) {
        self.ask(|engine| engine.turn(matrix, rotations, turn));
    }

    pub(super) fn read(&mut self, from: &E::Buffer, offset: usize, words: &mut [f32]) {
        self.ask(|engine| engine.read(from, offset, words));
    }

    pub(super) fn write(&mut self, into: &mut E::Buffer, offset: usize, words: &[f32]) {
        self.ask(|engine| engine.write(into, offset, words));
    }
}
