//! One layer on a device, for a training loop of the user's own: core's [`Preconditioner`](ekfac::Preconditioner), elsewhere.

use super::{
    desk::Desk,
    engine::{Engine, Fault, from, into},
    layer::{DeviceLayer, Scratch},
    net::expect,
    room::DeviceRoom,
};
use ekfac::{
    Config, Error, Outcome, Progress, Reference, Shape,
    step::{self, Counted, Rooms, Stages},
};

/// EKFAC for a single layer on an engine: activations and gradients go over, the preconditioned gradient comes back.
pub struct DevicePreconditioner<E: Engine> {
    desk: Desk<E>,
    layer: DeviceLayer<E::Buffer>,
    scratch: Scratch<E::Buffer>,
    batch: usize,
    capacity: usize,
}

impl<E: Engine> DevicePreconditioner<E> {
    /// A layer for batches of up to `capacity` examples, from its words ([`Shape::words`]; zeros for a fresh one).
    ///
    /// # Errors
    /// A [`Fault`], [`Fault::Call`] for a bad shape, no capacity, or words of another length.
    pub fn new(mut engine: E, shape: Shape, capacity: usize, words: &mut [f32]) -> Result<Self, Fault> {
        shape.check()?;
        shape.expect_full()?;
        expect("words", shape.words(), words.len())?;
        if capacity == 0 {
            return Err(Error::Empty { argument: "capacity" }.into());
        }
        let mut layer = DeviceLayer::new(&mut engine, shape, capacity)?;
        let scratch = Scratch::new(&mut engine, &[shape], capacity)?;
        let mut desk = Desk::new(engine);
        layer.load(&mut desk, &vec![0.0; shape.parameters()], words);
        desk.verdict()?;
        Ok(Self { desk, layer, scratch, batch: 0, capacity })
    }

    /// Takes a batch in, as [`Preconditioner::observe`](ekfac::Preconditioner::observe) does.
    ///
    /// # Errors
    /// A [`Fault`]; within, core's errors.
    pub fn observe(
        &mut self,
        config: &Config<f32>,
        progress: &mut Progress<f32>,
        activations: &[f32],
        gradients: &[f32],
    ) -> Result<Result<Outcome, Error>, Fault> {
        let shape = self.layer.shape;
        if let Err(error) = config.check() {
            return Ok(Err(error));
        }
        let batch = gradients.len() / shape.rows();
        let expected = (batch * shape.inputs(), batch * shape.rows());
        let found = (activations.len(), gradients.len());
        if batch == 0 || batch > self.capacity || expected != found {
            let argument = "activations and gradients";
            return Ok(Err(Error::Length {
                argument,
                expected: expected.0 + expected.1,
                found: found.0 + found.1,
            }));
        }
        self.batch = batch;
        self.desk.write(&mut self.scratch.first, 0, activations);
        let rows = ekfac_view(&shape, batch);
        let staged = super::engine::View::new(shape.inputs(), batch);
        self.desk.copy(into(&mut self.layer.activations, rows), from(&self.scratch.first, staged));
        self.desk.write(&mut self.layer.gradients, 0, gradients);
        let outcome = step::observe_all(self, config, Counted::new(&Reference), progress, batch);
        self.desk.verdict()?;
        Ok(outcome)
    }

    /// U_B [ (U_B^T G U_A) / (S + lambda) ] U_A^T for G, m x n.
    ///
    /// # Errors
    /// A [`Fault`]; [`Fault::NotFinite`] if the result is not finite; [`Fault::Call`] for a bad setting or other lengths.
    pub fn precondition(
        &mut self,
        config: &Config<f32>,
        progress: &Progress<f32>,
        gradient: &[f32],
        out: &mut [f32],
    ) -> Result<(), Fault> {
        config.check()?;
        expect("gradient", self.layer.shape.parameters(), gradient.len())?;
        expect("out", self.layer.shape.parameters(), out.len())?;
        self.desk.write(&mut self.layer.mean_gradient, 0, gradient);
        let Self { desk, layer, scratch, batch, .. } = self;
        let mut room = DeviceRoom { desk, layer, scratch, batch: *batch, fisher: 0 };
        let mean = room.mean_scaling(&Counted::new(&Reference));
        room.marks().note_mean_scaling(mean);
        let damping = step::damping_of(&mut room, config, progress);
        room.precondition(damping);
        self.desk.read(&self.scratch.first, 0, out);
        self.desk.verdict()?;
        if out.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(Fault::NotFinite) }
    }

    /// Reads the layer's words back.
    ///
    /// # Errors
    /// A [`Fault`], [`Fault::Call`] for another length.
    pub fn save(&mut self, words: &mut [f32]) -> Result<(), Fault> {
        expect("words", self.layer.shape.words(), words.len())?;
        let mut weights = vec![0.0; self.layer.shape.parameters()];
        self.layer.save(&mut self.desk, &mut weights, words);
        self.desk.verdict()
    }
}

fn ekfac_view(shape: &Shape, batch: usize) -> super::engine::View {
    super::engine::View::new(shape.columns(), batch).top(shape.inputs())
}

impl<E: Engine> Rooms<f32> for DevicePreconditioner<E> {
    type Room<'r>
        = DeviceRoom<'r, E>
    where
        Self: 'r;

    fn layers(&self) -> usize {
        1
    }

    fn room(&mut self, _layer: usize) -> Result<DeviceRoom<'_, E>, Error> {
        let Self { desk, layer, scratch, batch, .. } = self;
        Ok(DeviceRoom { desk, layer, scratch, batch: *batch, fisher: 0 })
    }

    fn passes(&self) -> usize {
        1
    }

    fn load(&mut self, _pass: usize) -> Result<(), Error> {
        Ok(())
    }
}
