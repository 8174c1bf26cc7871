//! A network on a device: its passes, for core's [`remote`] step, and the same engine's gradient descent to compare with.
//!
//! The bias's ones are materialised, so that every pass is a product: z = W [h; 1]. *Bus*: the inputs; outputs and
//! their gradients for losses that are worked out on the host, which squared error on many outputs is not ([`OUTPUTS_ON_HOST`]),
//! then targets and a few sums only. *Cost*: as in core's passes. *Failure*: a [`Fault`], after which the net is of no use.

use super::{
    desk::Desk,
    engine::{Engine, Fault, Map, Operand, View, from, into},
    layer::{DeviceLayer, Scratch},
    room::DeviceRoom,
};
use ekfac::{
    Config, Dense, Error, Fisher, Loss, Net, Progress, Shape, Step, Targets,
    net::remote::{self, Body, Source, Stream},
    step::Rooms,
};
use std::ops::Range;

/// Squared error on more outputs than this, all examples together, is worked out on the device, with signs of its own generator.
pub const OUTPUTS_ON_HOST: usize = 1 << 16;

/// Refuses a slice of another length.
pub(super) fn expect(argument: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { argument, expected, found }) }
}

/// A network whose weights and state live on a device.
pub struct DeviceNet<E: Engine> {
    desk: Desk<E>,
    layers: Vec<Dense>,
    rooms: Vec<DeviceLayer<E::Buffer>>,
    scratch: Scratch<E::Buffer>,
    /// Inputs or targets of a batch, as they came.
    staging: E::Buffer,
    /// h of the last layer.
    outputs: E::Buffer,
    loss: Loss,
    capacity: usize,
    fisher: Fisher,
    batch: usize,
    measured: Range<usize>,
    host: Vec<f32>,
    /// Of the passes since they were last asked for.
    operations: usize,
}

/// Which gradients a pass fills.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Training,
    Fisher,
}

impl<E: Engine> DeviceNet<E> {
    /// A network on an engine, from weights and state in core's words ([`Net::state_words`]).
    ///
    /// # Errors
    /// [`Fault::Call`] for a bad network, no capacity, or a state of another length; what the engine does not manage.
    pub fn new(
        mut engine: E,
        layers: &[Dense],
        loss: Loss,
        capacity: usize,
        state: &[f32],
    ) -> Result<Self, Fault> {
        let words = Net::new(layers, loss);
        words.check()?;
        expect("state", words.state_words(), state.len())?;
        if capacity == 0 {
            return Err(Error::Empty { argument: "capacity" }.into());
        }
        let shapes: Vec<Shape> = layers.iter().map(|dense| *dense.shape()).collect();
        let widest = shapes.iter().map(Shape::longest_side).max().unwrap_or(1);
        let mut rooms = Vec::new();
        for shape in &shapes {
            rooms.push(DeviceLayer::new(&mut engine, *shape, capacity)?);
        }
        let outputs = shapes.last().map_or(1, Shape::rows);
        let mut net = Self {
            scratch: Scratch::new(&mut engine, &shapes, capacity)?,
            staging: engine.allocate(widest * capacity)?,
            outputs: engine.allocate(outputs * capacity)?,
            desk: Desk::new(engine),
            layers: layers.to_vec(),
            rooms,
            loss,
            capacity,
            fisher: Fisher::Empirical,
            batch: 0,
            measured: 0..0,
            host: Vec::new(),
            operations: 0,
        };
        net.load(state)?;
        Ok(net)
    }

    /// The engine.
    pub fn engine(&mut self) -> &mut E {
        &mut self.desk.engine
    }

    /// Takes over weights and state.
    ///
    /// # Errors
    /// A [`Fault`] of the engine, [`Fault::Call`] for another length.
    pub fn load(&mut self, state: &[f32]) -> Result<(), Fault> {
        expect("state", self.words(), state.len())?;
        let mut rest = state;
        for room in &mut self.rooms {
            let (weights, tail) = rest.split_at(room.shape.parameters());
            let (words, tail) = tail.split_at(room.shape.words());
            room.load(&mut self.desk, weights, &mut words.to_vec());
            rest = tail;
        }
        self.desk.verdict()
    }

    /// Reads weights and state back.
    ///
    /// # Errors
    /// A [`Fault`], [`Fault::NotFinite`] for a word that is NaN or infinite, [`Fault::Call`] for another length.
    pub fn save(&mut self, state: &mut [f32]) -> Result<(), Fault> {
        expect("state", self.words(), state.len())?;
        let mut rest = &mut *state;
        for room in &self.rooms {
            let (weights, tail) = rest.split_at_mut(room.shape.parameters());
            let (words, tail) = tail.split_at_mut(room.shape.words());
            room.save(&mut self.desk, weights, words);
            rest = tail;
        }
        self.desk.verdict()?;
        if state.iter().all(|word| word.is_finite()) { Ok(()) } else { Err(Fault::NotFinite) }
    }

    /// One EKFAC step, by core's [`remote::step`].
    ///
    /// # Errors
    /// The outer one is a [`Fault`], after which the state on the device is not to be trusted; the inner one is core's.
    pub fn step(
        &mut self,
        config: &Config<f32>,
        progress: &mut Progress<f32>,
        inputs: &[f32],
        targets: Targets<'_, f32>,
    ) -> Result<Result<Step<f32>, Error>, Fault> {
        if let Err(error) = config.check().and_then(|()| self.stage(inputs, &targets)) {
            return Ok(Err(error));
        }
        self.fisher = config.fisher;
        let (layers, loss) = (self.layers.clone(), self.loss);
        let step = remote::step(self, &Net::new(&layers, loss), config, progress, inputs, targets);
        self.desk.verdict()?;
        Ok(step)
    }

    /// One step of plain gradient descent, W <- W - lr G, in parameter coordinates; returns the mean loss. The layers' coordinates
    /// must be those.
    ///
    /// # Errors
    /// A [`Fault`], [`Fault::Call`] for data that do not fit.
    pub fn descend(
        &mut self,
        learning_rate: f32,
        inputs: &[f32],
        targets: Targets<'_, f32>,
    ) -> Result<f32, Fault> {
        self.stage(inputs, &targets)?;
        let batch = self.batch;
        self.forward(batch);
        let sum = self.loss(targets, batch);
        self.backward(targets, batch);
        for room in &mut self.rooms {
            let (g, a, matrix) = (room.outputs(batch), room.inputs(batch), room.view());
            let (g, a) = (from(&room.gradients, g), from(&room.activations, a));
            let factors = (-learning_rate / batch as f32, 1.0);
            self.desk.product(into(&mut room.weights, matrix), g, a, (false, true), factors);
        }
        self.desk.verdict()?;
        Ok(sum / batch as f32)
    }

    /// Summed loss and right answers of up to as many examples as the capacity holds.
    ///
    /// # Errors
    /// A [`Fault`], [`Fault::Call`] for data that do not fit.
    pub fn evaluate(
        &mut self,
        inputs: &[f32],
        targets: Targets<'_, f32>,
    ) -> Result<(f32, Option<usize>), Fault> {
        self.stage(inputs, &targets)?;
        self.forward(self.batch);
        self.read_outputs(0..self.batch);
        self.desk.verdict()?;
        let width = self.width();
        Ok((self.loss.sum(&self.host, targets, width), self.loss.correct(&self.host, targets, width)))
    }

    fn words(&self) -> usize {
        Net::new(&self.layers, self.loss).state_words()
    }

    fn width(&self) -> usize {
        self.layers.last().map_or(0, |dense| dense.shape().outputs())
    }

    fn on_host(&self) -> bool {
        self.loss != Loss::SquaredError || self.width() * self.batch <= OUTPUTS_ON_HOST
    }

    /// Takes a batch to the device, if it fits.
    fn stage(&mut self, inputs: &[f32], targets: &Targets<'_, f32>) -> Result<(), Error> {
        let batch = remote::examples(&Net::new(&self.layers, self.loss), inputs, targets)?;
        let Some(first) = self.rooms.first_mut() else { return Err(Error::Empty { argument: "layers" }) };
        let width = first.shape.inputs();
        if batch > self.capacity {
            let expected = self.capacity * width;
            return Err(Error::Length { argument: "inputs", expected, found: inputs.len() });
        }
        self.batch = batch;
        self.desk.write(&mut self.staging, 0, inputs);
        let rows = first.inputs(self.batch).top(width);
        self.desk.copy(into(&mut first.activations, rows), from(&self.staging, View::new(width, self.batch)));
        Ok(())
    }

    /// Outputs of a range of examples, to the host.
    fn read_outputs(&mut self, examples: Range<usize>) {
        let width = self.width();
        self.host.resize(width * examples.len(), 0.0);
        self.desk.read(&self.outputs, examples.start * width, &mut self.host);
    }

    /// Fills the gradients at the output from the host.
    fn gradients_from_host(&mut self, mut source: Source<'_, f32>, side: Side, examples: &Range<usize>) {
        self.read_outputs(examples.clone());
        let mut gradients = vec![0.0; self.host.len()];
        self.loss.gradients(&mut source, &self.host, examples, self.width(), &mut gradients);
        if let Some(last) = self.rooms.last_mut() {
            let into = if side == Side::Training { &mut last.gradients } else { &mut last.fisher_gradients };
            self.desk.write(into, 0, &gradients);
        }
    }

    /// From dL/dh at the outputs to g of every layer, projected where a layer lives in the eigenbasis.
    fn take_down(&mut self, side: Side, examples: &Range<usize>) {
        let count = examples.len();
        for index in (0..self.rooms.len()).rev() {
            let activation = self.layers[index].activation();
            let (below, above) = self.rooms.split_at_mut(index + 1);
            let Some((room, below)) = below.split_last_mut() else { return };
            let (shape, g) = (room.shape, room.outputs(count));
            let h = match above.first() {
                Some(above) => {
                    let rows = above.inputs(self.batch).top(shape.rows());
                    from(&above.activations, rows.columns(examples.start, count))
                }
                None => from(&self.outputs, room.outputs(self.batch).columns(examples.start, count)),
            };
            let z = from(&room.pre_activations, room.outputs(self.batch).columns(examples.start, count));
            let (matrix, turning) = (room.view(), room.in_eigenbasis());
            let (m, n) = (shape.rows(), shape.columns());
            self.operations += match (turning, index > 0) {
                (true, true) => 2 * count * n * (m + shape.inputs()),
                (false, true) => 2 * count * m * shape.inputs(),
                (_, false) => 0,
            };
            let gradients = match side {
                Side::Training => &mut room.gradients,
                Side::Fisher => &mut room.fisher_gradients,
            };
            self.desk.map(Map::Derive(activation), into(gradients, g), z, h);
            let transposed = ((true, false), (1.0, 0.0));
            if turning {
                self.operations += room.project_gradients(&mut self.desk, side == Side::Fisher, count);
            }
            let (gradients, projected) = match side {
                Side::Training => (&room.gradients, &room.projected_gradients),
                Side::Fisher => (&room.fisher_gradients, &room.projected_fisher),
            };
            let a = room.input.view();
            let Some(below) = below.last_mut() else { continue };
            let out = View::new(shape.inputs(), count);
            let target = match side {
                Side::Training => into(&mut below.gradients, out),
                Side::Fisher => into(&mut below.fisher_gradients, out),
            };
            if turning {
                let (turned, basis) =
                    (View::new(shape.columns(), count), from(&room.input.basis, a.top(shape.inputs())));
                let weights = from(&room.weights, matrix);
                let first = &mut self.scratch.first;
                self.desk.product(
                    into(first, turned),
                    weights,
                    from(projected, g),
                    transposed.0,
                    transposed.1,
                );
                self.desk.product(target, basis, from(first, turned), (false, false), (1.0, 0.0));
            } else {
                let weights = from(&room.weights, matrix.columns(0, shape.inputs()));
                self.desk.product(target, weights, from(gradients, g), transposed.0, transposed.1);
            }
        }
    }
}

impl<E: Engine> Rooms<f32> for DeviceNet<E> {
    type Room<'r>
        = DeviceRoom<'r, E>
    where
        Self: 'r;

    fn layers(&self) -> usize {
        self.rooms.len()
    }

    fn room(&mut self, layer: usize) -> Result<DeviceRoom<'_, E>, Error> {
        let room = self.rooms.get_mut(layer).ok_or(Error::OutOfRange { argument: "layer", index: layer })?;
        let fisher = if self.fisher == Fisher::Empirical { 0 } else { self.measured.len() };
        Ok(DeviceRoom {
            desk: &mut self.desk,
            layer: room,
            scratch: &mut self.scratch,
            batch: self.batch,
            fisher,
        })
    }

    fn passes(&self) -> usize {
        if self.fisher == Fisher::Exact { self.width() } else { 1 }
    }

    fn load(&mut self, pass: usize) -> Result<(), Error> {
        if self.fisher == Fisher::Exact {
            let measured = self.measured.clone();
            self.gradients_from_host(Source::Exact(pass), Side::Fisher, &measured);
            self.take_down(Side::Fisher, &measured);
        }
        Ok(())
    }
}

impl<E: Engine> Body<f32> for DeviceNet<E> {
    fn forward(&mut self, batch: usize) {
        let count = self.rooms.len();
        for index in 0..count {
            let activation = self.layers[index].activation();
            let (room, above) = self.rooms[index..].split_at_mut(1);
            let room = &mut room[0];
            let (x, z, matrix) = (room.inputs(batch), room.outputs(batch), room.view());
            let (plain, once) = ((false, false), (1.0, 0.0));
            let weights = from(&room.weights, matrix);
            let (m, n) = (room.shape.rows(), room.shape.columns());
            self.operations += 2 * batch * m * n;
            if room.in_eigenbasis() {
                self.operations += 2 * batch * n * n;
                let a = from(&room.input.basis, room.input.view());
                let activations: Operand<'_, _> = from(&room.activations, x);
                self.desk.product(
                    into(&mut room.projected_activations, x),
                    a,
                    activations,
                    (true, false),
                    once,
                );
                // The gradients' room is free until the backward pass.
                let turns = !room.output_is_diagonal();
                let projected = from(&room.projected_activations, x);
                let turned = if turns { &mut room.projected_gradients } else { &mut room.pre_activations };
                self.desk.product(into(turned, z), weights, projected, plain, once);
                if turns {
                    let (b, turned) =
                        (from(&room.output.basis, room.output.view()), from(&room.projected_gradients, z));
                    self.desk.product(into(&mut room.pre_activations, z), b, turned, plain, once);
                    self.operations += 2 * batch * m * m;
                }
            } else {
                self.desk.product(
                    into(&mut room.pre_activations, z),
                    weights,
                    from(&room.activations, x),
                    plain,
                    once,
                );
            }
            let out = match above.first_mut() {
                Some(above) => {
                    let rows = above.inputs(batch).top(room.shape.rows());
                    into(&mut above.activations, rows)
                }
                None => into(&mut self.outputs, z),
            };
            let z = from(&room.pre_activations, z);
            self.desk.map(Map::Activate(activation), out, z, z);
        }
    }

    fn loss(&mut self, targets: Targets<'_, f32>, batch: usize) -> f32 {
        if self.on_host() {
            self.read_outputs(0..batch);
            return if self.desk.fault.is_none() && self.host.iter().all(|h| h.is_finite()) {
                self.loss.sum(&self.host, targets, self.width())
            } else {
                f32::NAN
            };
        }
        let (Targets::Values(targets), Some(last)) = (targets, self.rooms.last_mut()) else {
            return f32::NAN;
        };
        let view = last.outputs(batch);
        self.desk.write(&mut self.staging, 0, targets);
        self.desk.copy(into(&mut last.gradients, view), from(&self.outputs, view));
        let target = from(&self.staging, view);
        self.desk.map(Map::Sum { scale: -1.0, keep: 1.0 }, into(&mut last.gradients, view), target, target);
        let [found] = self.desk.measure([from(&last.gradients, view)]);
        (found.squares / 2.0) as f32
    }

    fn backward(&mut self, targets: Targets<'_, f32>, batch: usize) {
        if self.on_host() {
            self.gradients_from_host(Source::Targets(targets), Side::Training, &(0..batch));
        }
        self.take_down(Side::Training, &(0..batch));
    }

    fn measure(&mut self, measured: &Range<usize>, stream: Option<Stream>) {
        self.measured = measured.clone();
        let Some(mut stream) = stream else { return };
        if self.on_host() {
            self.gradients_from_host(Source::Sampled(stream), Side::Fisher, measured);
        } else if let Some(last) = self.rooms.last_mut() {
            let view = last.outputs(measured.len());
            let idle = from(&last.pre_activations, view);
            self.desk.map(Map::Signs(stream.seed()), into(&mut last.fisher_gradients, view), idle, idle);
        }
        self.take_down(Side::Fisher, measured);
    }

    fn operations(&mut self) -> u64 {
        std::mem::take(&mut self.operations) as u64
    }
}
