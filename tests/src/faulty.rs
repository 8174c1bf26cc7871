//! An engine that fails on purpose: any other, with one [`Trouble`] in it.

use ekfac_std::offload::engine::{Answer, Engine, Fault, Map, Measure, Operand, Question, Target, Turn};
use std::{thread, time::Duration};

/// What goes wrong at one call of an operation that can fail, all calls counted from 0.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The call fails.
    Fails(Fault),
    /// From then on every answer is NaN.
    Poisons,
    /// The call takes so long.
    Sleeps(Duration),
    /// The thread dies.
    Dies,
}

/// The engine.
#[derive(Clone, Debug, Default)]
pub struct Faulty<E> {
    engine: E,
    trouble: Option<(usize, Trouble)>,
    calls: usize,
    poisoned: bool,
}

impl<E> Faulty<E> {
    /// An engine that fails at the call of this number, or does not.
    pub fn new(engine: E, trouble: Option<(usize, Trouble)>) -> Self {
        Self { engine, trouble, calls: 0, poisoned: false }
    }

    /// The engine, unless the trouble is due.
    fn call(&mut self) -> Result<&mut E, Fault> {
        let due = self.trouble.clone().filter(|(call, _)| *call == self.calls);
        self.calls += 1;
        match due.map(|(_, trouble)| trouble) {
            None => {}
            Some(Trouble::Fails(fault)) => return Err(fault),
            Some(Trouble::Poisons) => self.poisoned = true,
            Some(Trouble::Sleeps(time)) => thread::sleep(time),
            // Without the hook, whose backtrace can take longer than the patience of a test.
            Some(Trouble::Dies) => std::panic::resume_unwind(Box::new("the engine dies, as planned")),
        }
        Ok(&mut self.engine)
    }
}

impl<E: Engine> Engine for Faulty<E> {
    type Buffer = E::Buffer;

    fn name(&self) -> String {
        self.engine.name()
    }

    fn allocate(&mut self, words: usize) -> Result<E::Buffer, Fault> {
        self.call()?.allocate(words)
    }

    fn write(&mut self, into: &mut E::Buffer, offset: usize, words: &[f32]) -> Result<(), Fault> {
        self.call()?.write(into, offset, words)
    }

    fn read(&mut self, from: &E::Buffer, offset: usize, words: &mut [f32]) -> Result<(), Fault> {
        self.call()?.read(from, offset, words)?;
        if self.poisoned {
            words.fill(f32::NAN);
        }
        Ok(())
    }

    fn product(
        &mut self,
        out: Target<'_, E::Buffer>,
        left: Operand<'_, E::Buffer>,
        right: Operand<'_, E::Buffer>,
        transposed: (bool, bool),
        factors: (f32, f32),
    ) -> Result<(), Fault> {
        self.call()?.product(out, left, right, transposed, factors)
    }

    fn symmetric(
        &mut self,
        out: Target<'_, E::Buffer>,
        x: Operand<'_, E::Buffer>,
        factors: (f32, f32),
    ) -> Result<(), Fault> {
        self.call()?.symmetric(out, x, factors)
    }

    fn map(
        &mut self,
        map: Map,
        out: Target<'_, E::Buffer>,
        x: Operand<'_, E::Buffer>,
        y: Operand<'_, E::Buffer>,
    ) -> Result<(), Fault> {
        self.call()?.map(map, out, x, y)
    }

    fn measure(&mut self, matrices: &[Operand<'_, E::Buffer>]) -> Result<Vec<Measure>, Fault> {
        let mut found = self.call()?.measure(matrices)?;
        if self.poisoned {
            found.fill(Measure { sum: f64::NAN, squares: f64::NAN, largest: f32::NAN });
        }
        Ok(found)
    }

    fn survey(&mut self, question: &Question<'_, E::Buffer>) -> Result<Answer, Fault> {
        self.call()?.survey(question)
    }

    fn rotations(
        &mut self,
        rotations: &mut E::Buffer,
        matrix: &E::Buffer,
        turn: Turn,
        negligible: (f32, f32),
    ) -> Result<(), Fault> {
        self.call()?.rotations(rotations, matrix, turn, negligible)
    }

    fn turn(
        &mut self,
        matrix: Target<'_, E::Buffer>,
        rotations: &E::Buffer,
        turn: Turn,
    ) -> Result<(), Fault> {
        self.call()?.turn(matrix, rotations, turn)
    }

    fn rotate(
        &mut self,
        rotations: &mut E::Buffer,
        matrix: &mut E::Buffer,
        turn: Turn,
        negligible: (f32, f32),
    ) -> Result<(), Fault> {
        self.call()?.rotate(rotations, matrix, turn, negligible)
    }
}
