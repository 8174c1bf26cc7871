//! The wgpu engine: WGSL kernels over Vulkan, on a GPU of any maker, or on a processor through a software driver.
//!
//! Everything is `f32`, partial sums too, which are then added in double precision. Operations are recorded and sent together when
//! an answer is waited for, or after [`RING`] of them. *Failure*: an error of the driver, or an answer that takes longer than the
//! limit ([`Vulkan::with_limit`]), is a [`Fault`].

mod open;
mod params;

use super::engine::{
    Answer, Engine, Fault, Map, Measure, Operand, Question, Target, Turn, into, rotate_by_rounds,
};
use ekfac::Activation;
use open::Opened;
pub use open::devices;
use params::Params;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Operations that are sent together at most.
pub const RING: usize = 1024;
/// Bytes from one operation's parameters to the next.
const SLOT: usize = 256;
/// Most work groups of a reduction.
const GROUPS: usize = 64;
/// Words that a work group of a reduction adds up before another is worth its launch.
const WORDS_A_GROUP: usize = 1024;
/// Buffers of a kernel.
const BINDINGS: usize = 8;
const SURVEYED: usize = 7;
const MEASURED: usize = 3;

/// The kernels, in the order of their pipelines.
#[derive(Clone, Copy)]
enum Kernel {
    Product,
    Map,
    Measure,
    Survey,
    Rotations,
    Turn,
    TurnRounds,
    Rotate,
}

const NAMES: [&str; 8] =
    ["product", "map", "measure", "survey", "rotations", "turn", "turn_rounds", "rotate"];

/// Up to so many lines, rounds are done together: one work group can hold a matrix, and launches cost more than idle threads.
const SMALL: usize = 256;

/// A Vulkan device at work.
pub struct Vulkan {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Vec<wgpu::ComputePipeline>,
    layout: wgpu::BindGroupLayout,
    ring: wgpu::Buffer,
    idle: wgpu::Buffer,
    idle_output: wgpu::Buffer,
    partial: wgpu::Buffer,
    params: Vec<u8>,
    encoder: Option<wgpu::CommandEncoder>,
    trouble: Arc<Mutex<Option<Fault>>>,
    limit: Duration,
    name: String,
    largest: usize,
}

fn storage(device: &wgpu::Device, words: usize) -> wgpu::Buffer {
    use wgpu::BufferUsages as Use;
    device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4 * words.max(1) as u64,
        usage: Use::STORAGE | Use::COPY_DST | Use::COPY_SRC,
        mapped_at_creation: false,
    })
}

impl Vulkan {
    /// The device of this number, from 0.
    ///
    /// # Errors
    /// [`Fault::Missing`] for a device or a driver that is not there, [`Fault::Lost`] for one that refuses.
    pub fn new(ordinal: usize) -> Result<Self, Fault> {
        let Opened { adapter, device, queue, trouble } = open::open(ordinal)?;
        let layout = open::bindings(&device);
        let pipelines = open::pipelines(&device, &layout);
        let ring = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: (RING * SLOT) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let info = adapter.get_info();
        let limits = device.limits();
        let largest = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) as usize / 4;
        let rows = super::engine::MOST_MEASURED.max(SURVEYED);
        let engine = Self {
            idle: storage(&device, 4),
            idle_output: storage(&device, 4),
            partial: storage(&device, GROUPS * SURVEYED * rows),
            pipelines,
            layout,
            ring,
            params: Vec::new(),
            encoder: None,
            trouble,
            limit: Duration::from_secs(60),
            name: format!("Vulkan device {ordinal}, {} ({:?})", info.name, info.device_type),
            largest,
            device,
            queue,
        };
        engine.verdict()?;
        Ok(engine)
    }

    /// Waits at most so long for an answer.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    fn verdict(&self) -> Result<(), Fault> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    fn encoder(&mut self) -> &mut wgpu::CommandEncoder {
        let device = &self.device;
        self.encoder
            .get_or_insert_with(|| device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()))
    }

    /// Sends what has been recorded.
    fn send(&mut self) -> Result<(), Fault> {
        if !self.params.is_empty() {
            self.queue.write_buffer(&self.ring, 0, &self.params);
            self.params.clear();
        }
        if let Some(encoder) = self.encoder.take() {
            self.queue.submit([encoder.finish()]);
        }
        self.verdict()
    }

    /// Records one operation. The inputs are x, y, z, w, u of the kernels; that of a [`Kernel::Rotate`] is written as well.
    fn run(
        &mut self,
        kernel: Kernel,
        params: Params,
        out: &wgpu::Buffer,
        inputs: &[&wgpu::Buffer],
        groups: (usize, usize),
    ) -> Result<(), Fault> {
        if groups.0 == 0 || groups.1 == 0 {
            return Ok(());
        }
        if self.params.len() >= RING * SLOT {
            self.send()?;
        }
        let at = self.params.len() as u32;
        params.write(&mut self.params);
        let slot =
            wgpu::BufferBinding { buffer: &self.ring, offset: 0, size: wgpu::BufferSize::new(SLOT as u64) };
        let (second, inputs) = match (kernel, inputs) {
            (Kernel::Rotate, [second, rest @ ..]) => (*second, rest),
            _ => (&self.idle_output, inputs),
        };
        let resource = |binding: usize| match binding {
            0 => wgpu::BindingResource::Buffer(slot.clone()),
            1 => out.as_entire_binding(),
            7 => second.as_entire_binding(),
            _ => inputs.get(binding - 2).map_or(&self.idle, |buffer| *buffer).as_entire_binding(),
        };
        let entries: [_; BINDINGS] = std::array::from_fn(|binding| wgpu::BindGroupEntry {
            binding: binding as u32,
            resource: resource(binding),
        });
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &entries,
        });
        let pipeline = self.pipelines[kernel as usize].clone();
        let mut pass = self.encoder().begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[at]);
        pass.dispatch_workgroups(groups.0 as u32, groups.1.min(65_535) as u32, 1);
        Ok(())
    }

    /// Copies words to the host, and waits for them.
    fn fetch(&mut self, from: &wgpu::Buffer, offset: usize, words: &mut [f32]) -> Result<(), Fault> {
        let bytes = 4 * words.len() as u64;
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.encoder().copy_buffer_to_buffer(from, 4 * offset as u64, &staging, 0, bytes);
        self.send()?;
        let (done, answer) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| drop(done.send(result)));
        match self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(self.limit) }) {
            Ok(_) => {}
            Err(wgpu::PollError::Timeout) => return Err(Fault::Late),
            Err(error) => return Err(Fault::Lost(error.to_string())),
        }
        self.verdict()?;
        match answer.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Fault::Lost(error.to_string())),
            Err(_) => return Err(Fault::Late),
        }
        let range = staging.get_mapped_range(..).map_err(|error| Fault::Lost(error.to_string()))?;
        for (word, bytes) in words.iter_mut().zip(range.as_chunks::<4>().0) {
            *word = f32::from_ne_bytes(*bytes);
        }
        Ok(())
    }

    /// Rows of partial sums, added up; the last `maxima` are largest magnitudes, the largest number standing for infinity.
    fn partial(
        &mut self,
        rows: usize,
        groups: usize,
        count: usize,
        maxima: usize,
    ) -> Result<Vec<Vec<f64>>, Fault> {
        let mut found = vec![0.0; rows * groups * count];
        let partial = self.partial.clone();
        self.fetch(&partial, 0, &mut found)?;
        let gathered = found.chunks_exact(groups * count).map(|groups| {
            let mut sums = vec![0.0_f64; count];
            for group in groups.chunks_exact(count) {
                for (index, (sum, value)) in sums.iter_mut().zip(group).enumerate() {
                    let value = if index + maxima >= count && *value >= f32::MAX {
                        f64::INFINITY
                    } else {
                        (*value).into()
                    };
                    *sum = if index + maxima >= count { sum.max(value) } else { *sum + value };
                }
            }
            sums
        });
        Ok(gathered.collect())
    }
}

/// Work groups of a reduction over so many words.
fn groups_for(words: usize) -> usize {
    words.div_ceil(WORDS_A_GROUP).clamp(1, GROUPS)
}

fn place(view: super::engine::View) -> [u32; 2] {
    [view.offset as u32, view.stride as u32]
}

fn kind(activation: Activation) -> u32 {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::LeakyRelu => 2,
        Activation::Tanh => 3,
        Activation::Sigmoid => 4,
        Activation::Gelu => 5,
    }
}

impl Engine for Vulkan {
    type Buffer = wgpu::Buffer;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&mut self, words: usize) -> Result<wgpu::Buffer, Fault> {
        if words > self.largest {
            return Err(Fault::OutOfMemory(words));
        }
        let buffer = storage(&self.device, words);
        match self.verdict() {
            Err(Fault::OutOfMemory(_)) => Err(Fault::OutOfMemory(words)),
            verdict => verdict.map(|()| buffer),
        }
    }

    fn write(&mut self, into: &mut wgpu::Buffer, offset: usize, words: &[f32]) -> Result<(), Fault> {
        // What has been recorded comes first.
        self.send()?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.queue.write_buffer(into, 4 * offset as u64, &bytes);
        self.verdict()
    }

    fn read(&mut self, from: &wgpu::Buffer, offset: usize, words: &mut [f32]) -> Result<(), Fault> {
        if words.is_empty() { Ok(()) } else { self.fetch(from, offset, words) }
    }

    fn product(
        &mut self,
        out: Target<'_, wgpu::Buffer>,
        left: Operand<'_, wgpu::Buffer>,
        right: Operand<'_, wgpu::Buffer>,
        transposed: (bool, bool),
        (scale, keep): (f32, f32),
    ) -> Result<(), Fault> {
        let params = Params {
            rows: out.view.rows as u32,
            columns: out.view.columns as u32,
            inner: if transposed.0 { left.view.rows } else { left.view.columns } as u32,
            flags: u32::from(transposed.0) | u32::from(transposed.1) << 1,
            out: place(out.view),
            x: place(left.view),
            y: place(right.view),
            scale,
            keep,
            ..Params::default()
        };
        let groups = (out.view.rows.div_ceil(16), out.view.columns.div_ceil(16));
        self.run(Kernel::Product, params, out.buffer, &[left.buffer, right.buffer], groups)
    }

    fn map(
        &mut self,
        map: Map,
        out: Target<'_, wgpu::Buffer>,
        x: Operand<'_, wgpu::Buffer>,
        y: Operand<'_, wgpu::Buffer>,
    ) -> Result<(), Fault> {
        let mut params = Params {
            rows: out.view.rows as u32,
            columns: out.view.columns as u32,
            out: place(out.view),
            x: place(x.view),
            y: place(y.view),
            ..Params::default()
        };
        (params.op, params.kind, params.seed, [params.scale, params.keep, params.add]) = match map {
            Map::Sum { scale, keep } => (0, 0, 0, [scale, keep, 0.0]),
            Map::Square { scale, keep } => (1, 0, 0, [scale, keep, 0.0]),
            Map::Quotient { scale, keep, add } => (2, 0, 0, [scale, keep, add]),
            Map::Outer { rows, columns } => (3, 0, 0, [rows, columns, 0.0]),
            Map::Activate(activation) => (4, kind(activation), 0, [0.0; 3]),
            Map::Derive(activation) => (5, kind(activation), 0, [0.0; 3]),
            Map::Signs(seed) => (6, 0, seed, [0.0; 3]),
        };
        let groups = (out.view.rows.div_ceil(64), out.view.columns);
        self.run(Kernel::Map, params, out.buffer, &[x.buffer, y.buffer], groups)
    }

    fn measure(&mut self, matrices: &[Operand<'_, wgpu::Buffer>]) -> Result<Vec<Measure>, Fault> {
        let partial = self.partial.clone();
        let words = matrices.iter().map(|matrix| matrix.view.rows * matrix.view.columns).max();
        let groups = groups_for(words.unwrap_or(0));
        for (index, matrix) in matrices.iter().enumerate() {
            let params = Params {
                rows: matrix.view.rows as u32,
                columns: matrix.view.columns as u32,
                out: [(index * groups * MEASURED) as u32, 0],
                x: place(matrix.view),
                ..Params::default()
            };
            self.run(Kernel::Measure, params, &partial, &[matrix.buffer], (groups, 1))?;
        }
        let found = self.partial(matrices.len(), groups, MEASURED, 1)?;
        let measure = |sums: Vec<f64>| Measure { sum: sums[0], squares: sums[1], largest: sums[2] as f32 };
        Ok(found.into_iter().map(measure).collect())
    }

    fn survey(&mut self, question: &Question<'_, wgpu::Buffer>) -> Result<Answer, Fault> {
        let matrix = question.gradient.view;
        let groups = groups_for(matrix.rows * matrix.columns);
        let params = Params {
            rows: matrix.rows as u32,
            columns: matrix.columns as u32,
            x: place(question.spectrum.view),
            add: question.damping,
            ..Params::default()
        };
        let inputs =
            [question.gradient, question.scalings, question.velocity, question.weights, question.spectrum];
        let partial = self.partial.clone();
        self.run(Kernel::Survey, params, &partial, &inputs.map(|input| input.buffer), (groups, 1))?;
        let found = self.partial(1, groups, SURVEYED, 3)?;
        let Some([length, agreement, velocity_length, spread, direction, velocity, weight]) =
            found.first().and_then(|sums| <[f64; SURVEYED]>::try_from(sums.as_slice()).ok())
        else {
            return Err(Fault::Gone);
        };
        Ok(Answer {
            length,
            agreement,
            velocity_length,
            spread,
            largest_direction: direction as f32,
            largest_velocity: velocity as f32,
            largest_weight: weight as f32,
        })
    }

    fn rotations(
        &mut self,
        rotations: &mut wgpu::Buffer,
        matrix: &wgpu::Buffer,
        turn: Turn,
        (threshold, floor): (f32, f32),
    ) -> Result<(), Fault> {
        let params = Params {
            size: turn.size as u32,
            round: turn.round as u32,
            out: [turn.offset as u32, 0],
            scale: threshold,
            keep: floor,
            ..Params::default()
        };
        self.run(Kernel::Rotations, params, rotations, &[matrix], (turn.size.div_ceil(128), 1))
    }

    fn turn(
        &mut self,
        matrix: Target<'_, wgpu::Buffer>,
        rotations: &wgpu::Buffer,
        turn: Turn,
    ) -> Result<(), Fault> {
        if turn.count > 1 && turn.size > SMALL {
            for round in turn.each() {
                self.turn(into(&mut *matrix.buffer, matrix.view), rotations, round)?;
            }
            return Ok(());
        }
        let others = if turn.columns { matrix.view.rows } else { matrix.view.columns };
        let params = Params {
            size: turn.size as u32,
            round: turn.round as u32,
            inner: others as u32,
            flags: u32::from(turn.columns) | u32::from(turn.moments) << 1,
            out: place(matrix.view),
            extra: turn.offset as u32,
            count: turn.count as u32,
            ..Params::default()
        };
        let (kernel, groups) = match turn.count {
            1 => (Kernel::Turn, (turn.size.div_ceil(128), others)),
            _ => (Kernel::TurnRounds, (others.div_ceil(64), 1)),
        };
        self.run(kernel, params, matrix.buffer, &[rotations], groups)
    }

    fn rotate(
        &mut self,
        rotations: &mut wgpu::Buffer,
        matrix: &mut wgpu::Buffer,
        turn: Turn,
        (threshold, floor): (f32, f32),
    ) -> Result<(), Fault> {
        if turn.size > SMALL {
            return rotate_by_rounds(self, rotations, matrix, turn, (threshold, floor));
        }
        let params = Params {
            size: turn.size as u32,
            round: turn.round as u32,
            out: [0, turn.size as u32],
            extra: turn.offset as u32,
            count: turn.count as u32,
            scale: threshold,
            keep: floor,
            ..Params::default()
        };
        self.run(Kernel::Rotate, params, matrix, &[rotations], (1, 1))
    }
}
