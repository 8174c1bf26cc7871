//! The CUDA engine: cuBLAS for products, own kernels, compiled by NVRTC when it starts, for the rest.
//!
//! The libraries are looked for at run time, so a program with this engine builds and starts on a machine without CUDA, and
//! [`Cuda::new`] says what is missing. Sums of a survey are in double precision; products are in `f32`, and on tensor cores with
//! TF32's eleven bits only after [`Cuda::with_tf32`]. Buffers, kernels and transfers follow one another on one stream.

#![allow(
    unsafe_code,
    reason = "cuBLAS and kernel launches are foreign calls; sizes come from the callers of `Engine`"
)]

use super::{
    devices::{Absent, Device},
    engine::{Answer, Engine, Fault, Map, Measure, Operand, Question, ROTATION, Target, Turn},
};
use cudarc::{
    cublas::{self, CudaBlas, sys as blas},
    driver::{
        self, CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DriverError,
        LaunchConfig, PushKernelArg,
    },
    nvrtc,
};
use ekfac::Activation;
use std::sync::Arc;

const KERNELS: &str = include_str!("kernels.cu");
const THREADS: u32 = 256;
/// Blocks of a reduction, each of which leaves a row of partial sums.
const BLOCKS: u32 = 528;
/// Numbers in a row of a survey.
const SURVEYED: usize = 7;
const MEASURED: usize = 3;

/// A CUDA device at work.
pub struct Cuda {
    stream: Arc<CudaStream>,
    blas: CudaBlas,
    functions: Functions,
    partial: CudaSlice<f64>,
    name: String,
}

struct Functions {
    map: CudaFunction,
    measure: CudaFunction,
    survey: CudaFunction,
    rotations: CudaFunction,
    turn_columns: CudaFunction,
    turn_rows: CudaFunction,
    mirror: CudaFunction,
}

impl Functions {
    fn new(module: &Arc<CudaModule>) -> Result<Self, DriverError> {
        let of = |name| module.load_function(name);
        Ok(Self {
            map: of("map")?,
            measure: of("measure")?,
            survey: of("survey")?,
            rotations: of("rotations")?,
            turn_columns: of("turn_columns")?,
            turn_rows: of("turn_rows")?,
            mirror: of("mirror")?,
        })
    }
}

fn lost(error: impl std::fmt::Debug) -> Fault {
    Fault::Lost(format!("{error:?}"))
}

/// The libraries that are not to be found, with commas between; `None` where all are.
fn missing() -> Option<String> {
    // SAFETY: each only tries to open a library by its name.
    let present = unsafe {
        [
            (driver::sys::is_culib_present(), "libcuda (the driver)"),
            (nvrtc::sys::is_culib_present(), "libnvrtc"),
            (cublas::sys::is_culib_present(), "libcublas"),
        ]
    };
    let missing: Vec<&str> =
        present.into_iter().filter_map(|(present, name)| (!present).then_some(name)).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// The devices, in their order.
///
/// # Errors
/// [`Absent`], where there is none.
pub fn devices() -> Result<Vec<Device>, Absent> {
    if let Some(libraries) = missing() {
        let remedy = "install NVIDIA's driver and CUDA 12 or newer, and put its libraries on LD_LIBRARY_PATH";
        return Err(Absent::NoLibrary { libraries, remedy });
    }
    let none = |what: String| Absent::NoDevice { what, remedy: "see whether `nvidia-smi` lists one" };
    let count = CudaContext::device_count().map_err(|error| none(format!("{error:?}")))?;
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return Err(none("the driver lists none".to_owned()));
    }
    (0..count).map(|number| device(number).map_err(|error| Absent::Fails(lost(error)))).collect()
}

fn device(number: usize) -> Result<Device, DriverError> {
    let context = CudaContext::new(number)?;
    let mut version = 0;
    // SAFETY: the driver writes one number.
    unsafe { driver::sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(Device {
        number,
        name: context.name()?,
        driver: format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
        memory: Some(context.total_mem()? as u64),
    })
}

fn number(size: usize) -> Result<i32, Fault> {
    i32::try_from(size).map_err(|_| Fault::OutOfMemory(size))
}

impl Cuda {
    /// The device of this number, from 0.
    ///
    /// # Errors
    /// [`Fault::Missing`] for a library or a device that is not there, [`Fault::Lost`] for one that fails.
    pub fn new(ordinal: usize) -> Result<Self, Fault> {
        if let Some(libraries) = missing() {
            return Err(Fault::Missing(libraries));
        }
        let none = |error: DriverError| Fault::Missing(format!("CUDA device {ordinal}: {error:?}"));
        let context = CudaContext::new(ordinal).map_err(none)?;
        // SAFETY: all that is ever allocated stays on one stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(lost)?;
        let (major, minor) = context.compute_capability().map_err(lost)?;
        let options = nvrtc::CompileOptions {
            // A name from a short list of those that exist would have to be leaked; the option takes any.
            options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
            ..Default::default()
        };
        let compiled = nvrtc::compile_ptx_with_opts(KERNELS, options).map_err(lost)?;
        let module = context.load_module(compiled).map_err(lost)?;
        let functions = Functions::new(&module).map_err(lost)?;
        let rows = super::engine::MOST_MEASURED.max(SURVEYED);
        let partial = stream.alloc_zeros(BLOCKS as usize * SURVEYED * rows).map_err(lost)?;
        let blas = CudaBlas::new(Arc::clone(&stream)).map_err(lost)?;
        let name = format!("CUDA device {ordinal}, {}", context.name().map_err(lost)?);
        Ok(Self { stream, blas, functions, partial, name })
    }

    /// Products on tensor cores, eleven bits a factor: faster, and off unless asked for.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    pub fn with_tf32(self) -> Result<Self, Fault> {
        // SAFETY: the handle lives as long as `self`.
        let status = unsafe {
            blas::cublasSetMathMode(*self.blas.handle(), blas::cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH)
        };
        status.result().map_err(lost)?;
        Ok(self)
    }

    /// Waits for all that is queued.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    pub fn synchronize(&self) -> Result<(), Fault> {
        self.stream.synchronize().map_err(lost)
    }

    /// The address of an element.
    fn address(&self, buffer: &CudaSlice<f32>, offset: usize) -> u64 {
        buffer.device_ptr(&self.stream).0 + (offset * size_of::<f32>()) as u64
    }

    fn at(&self, operand: Operand<'_, CudaSlice<f32>>) -> u64 {
        self.address(operand.buffer, operand.view.offset)
    }

    /// Rows of partial sums, added up; the last `maxima` are largest magnitudes.
    fn partial(&self, row: usize, count: usize, maxima: usize) -> Result<Vec<Vec<f64>>, Fault> {
        let mut found = vec![0.0; BLOCKS as usize * count * row];
        let view = self.partial.slice(..found.len());
        self.stream.memcpy_dtoh(&view, &mut found).map_err(lost)?;
        self.stream.synchronize().map_err(lost)?;
        let gathered = found.chunks_exact(BLOCKS as usize * count).map(|blocks| {
            let mut sums = vec![0.0; count];
            for block in blocks.chunks_exact(count) {
                for (index, (sum, value)) in sums.iter_mut().zip(block).enumerate() {
                    *sum = if index + maxima >= count { f64::max(*sum, *value) } else { *sum + *value };
                }
            }
            sums
        });
        Ok(gathered.collect())
    }
}

/// A grid that walks rows and columns.
fn grid(rows: usize, columns: usize) -> LaunchConfig {
    let blocks = |size: usize, most: usize| size.clamp(1, most) as u32;
    LaunchConfig {
        grid_dim: (blocks(rows.div_ceil(THREADS as usize), 65_535), blocks(columns, 16_384), 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

fn kind(activation: Activation) -> i32 {
    match activation {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::LeakyRelu => 2,
        Activation::Tanh => 3,
        Activation::Sigmoid => 4,
        Activation::Gelu => 5,
    }
}

impl Engine for Cuda {
    type Buffer = CudaSlice<f32>;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&mut self, words: usize) -> Result<CudaSlice<f32>, Fault> {
        let full = |error: DriverError| match error.0 {
            driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Fault::OutOfMemory(words),
            _ => lost(error),
        };
        self.stream.alloc_zeros(words.max(1)).map_err(full)
    }

    fn write(&mut self, into: &mut CudaSlice<f32>, offset: usize, words: &[f32]) -> Result<(), Fault> {
        if words.is_empty() {
            return Ok(());
        }
        let mut part = into.slice_mut(offset..offset + words.len());
        self.stream.memcpy_htod(words, &mut part).map_err(lost)?;
        // The caller may reuse its memory as soon as this returns.
        self.stream.synchronize().map_err(lost)
    }

    fn read(&mut self, from: &CudaSlice<f32>, offset: usize, words: &mut [f32]) -> Result<(), Fault> {
        if words.is_empty() {
            return Ok(());
        }
        self.stream.memcpy_dtoh(&from.slice(offset..offset + words.len()), words).map_err(lost)?;
        self.stream.synchronize().map_err(lost)
    }

    fn product(
        &mut self,
        out: Target<'_, CudaSlice<f32>>,
        left: Operand<'_, CudaSlice<f32>>,
        right: Operand<'_, CudaSlice<f32>>,
        transposed: (bool, bool),
        (scale, keep): (f32, f32),
    ) -> Result<(), Fault> {
        let inner = if transposed.0 { left.view.rows } else { left.view.columns };
        let (m, n, k) = (number(out.view.rows)?, number(out.view.columns)?, number(inner)?);
        if m == 0 || n == 0 {
            return Ok(());
        }
        let operation = |transposed| {
            if transposed {
                blas::cublasOperation_t::CUBLAS_OP_T
            } else {
                blas::cublasOperation_t::CUBLAS_OP_N
            }
        };
        let (a, b) = (self.at(left), self.at(right));
        let c = self.address(out.buffer, out.view.offset);
        let strides = [left.view.stride, right.view.stride, out.view.stride];
        let [lda, ldb, ldc] = strides.map(|stride| number(stride).unwrap_or(i32::MAX));
        // SAFETY: the caller has seen to it that the views lie within their buffers.
        unsafe {
            cublas::result::sgemm(
                *self.blas.handle(),
                operation(transposed.0),
                operation(transposed.1),
                m,
                n,
                k,
                &raw const scale,
                a as *const f32,
                lda,
                b as *const f32,
                ldb,
                &raw const keep,
                c as *mut f32,
                ldc,
            )
        }
        .map_err(lost)
    }

    fn symmetric(
        &mut self,
        out: Target<'_, CudaSlice<f32>>,
        x: Operand<'_, CudaSlice<f32>>,
        (scale, keep): (f32, f32),
    ) -> Result<(), Fault> {
        let (size, k) = (number(out.view.rows)?, number(x.view.columns)?);
        let (a, c) = (self.at(x), self.address(out.buffer, out.view.offset));
        let (lda, ldc) = (number(x.view.stride)?, number(out.view.stride)?);
        // SAFETY: as above.
        unsafe {
            blas::cublasSsyrk_v2(
                *self.blas.handle(),
                blas::cublasFillMode_t::CUBLAS_FILL_MODE_UPPER,
                blas::cublasOperation_t::CUBLAS_OP_N,
                size,
                k,
                &raw const scale,
                a as *const f32,
                lda,
                &raw const keep,
                c as *mut f32,
                ldc,
            )
        }
        .result()
        .map_err(lost)?;
        let mut launch = self.stream.launch_builder(&self.functions.mirror);
        launch.arg(&c).arg(&size);
        // SAFETY: as above, for a square without gaps.
        unsafe { launch.launch(grid(out.view.rows, out.view.rows)) }.map(drop).map_err(lost)
    }

    fn map(
        &mut self,
        map: Map,
        out: Target<'_, CudaSlice<f32>>,
        x: Operand<'_, CudaSlice<f32>>,
        y: Operand<'_, CudaSlice<f32>>,
    ) -> Result<(), Fault> {
        let (op, activation, [scale, keep, add], seed) = match map {
            Map::Sum { scale, keep } => (0, 0, [scale, keep, 0.0], 0),
            Map::Square { scale, keep } => (1, 0, [scale, keep, 0.0], 0),
            Map::Quotient { scale, keep, add } => (2, 0, [scale, keep, add], 0),
            Map::Outer { rows, columns } => (3, 0, [rows, columns, 0.0], 0),
            Map::Activate(activation) => (4, kind(activation), [0.0; 3], 0),
            Map::Derive(activation) => (5, kind(activation), [0.0; 3], 0),
            Map::Signs(seed) => (6, 0, [0.0; 3], seed),
        };
        let pointers = [self.address(out.buffer, out.view.offset), self.at(x), self.at(y)];
        let strides = [number(out.view.stride)?, number(x.view.stride)?, number(y.view.stride)?];
        let (rows, columns): (i32, i32) = (number(out.view.rows)?, number(out.view.columns)?);
        if rows == 0 || columns == 0 {
            return Ok(());
        }
        let mut launch = self.stream.launch_builder(&self.functions.map);
        launch.arg(&op).arg(&activation).arg(&scale).arg(&keep).arg(&add).arg(&seed);
        for (pointer, stride) in pointers.iter().zip(&strides) {
            launch.arg(pointer).arg(stride);
        }
        launch.arg(&rows).arg(&columns);
        // SAFETY: as above.
        unsafe { launch.launch(grid(out.view.rows, out.view.columns)) }.map(drop).map_err(lost)
    }

    fn measure(&mut self, matrices: &[Operand<'_, CudaSlice<f32>>]) -> Result<Vec<Measure>, Fault> {
        let config =
            LaunchConfig { grid_dim: (BLOCKS, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        let partial = self.partial.device_ptr(&self.stream).0;
        for (index, matrix) in matrices.iter().enumerate() {
            let (x, stride) = (self.at(*matrix), number(matrix.view.stride)?);
            let (rows, columns) = (number(matrix.view.rows)?, number(matrix.view.columns)?);
            let out = partial + (index * BLOCKS as usize * MEASURED * size_of::<f64>()) as u64;
            let mut launch = self.stream.launch_builder(&self.functions.measure);
            launch.arg(&x).arg(&stride).arg(&rows).arg(&columns).arg(&out);
            // SAFETY: as above; the partial sums of eight matrices fit.
            unsafe { launch.launch(config) }.map_err(lost)?;
        }
        let found = self.partial(matrices.len(), MEASURED, 1)?;
        let measure = |sums: Vec<f64>| Measure { sum: sums[0], squares: sums[1], largest: sums[2] as f32 };
        Ok(found.into_iter().map(measure).collect())
    }

    fn survey(&mut self, question: &Question<'_, CudaSlice<f32>>) -> Result<Answer, Fault> {
        let matrix = question.gradient.view;
        let pointers =
            [question.gradient, question.scalings, question.velocity, question.weights, question.spectrum];
        let [k, s, velocity, weights, spectrum] = pointers.map(|operand| self.at(operand));
        let stride = number(question.spectrum.view.stride)?;
        let (rows, columns) = (number(matrix.rows)?, number(matrix.columns)?);
        let out = self.partial.device_ptr(&self.stream).0;
        let mut launch = self.stream.launch_builder(&self.functions.survey);
        launch.arg(&k).arg(&s).arg(&question.damping).arg(&velocity).arg(&weights);
        launch.arg(&spectrum).arg(&stride).arg(&rows).arg(&columns).arg(&out);
        let config =
            LaunchConfig { grid_dim: (BLOCKS, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: as above.
        unsafe { launch.launch(config) }.map_err(lost)?;
        let found = self.partial(1, SURVEYED, 3)?;
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
        rotations: &mut CudaSlice<f32>,
        matrix: &CudaSlice<f32>,
        turn: Turn,
        (threshold, floor): (f32, f32),
    ) -> Result<(), Fault> {
        let (out, c) = (self.address(rotations, turn.offset), self.address(matrix, 0));
        let (size, round) = (number(turn.size)?, number(turn.round)?);
        let mut launch = self.stream.launch_builder(&self.functions.rotations);
        launch.arg(&out).arg(&c).arg(&size).arg(&round).arg(&threshold).arg(&floor);
        debug_assert_eq!(ROTATION, 3, "as the kernels have it");
        // SAFETY: as above.
        unsafe { launch.launch(grid(turn.size.div_ceil(2), 1)) }.map(drop).map_err(lost)
    }

    fn turn(
        &mut self,
        matrix: Target<'_, CudaSlice<f32>>,
        rotations: &CudaSlice<f32>,
        turn: Turn,
    ) -> Result<(), Fault> {
        let m = self.address(matrix.buffer, matrix.view.offset);
        let (size, moments) = (number(turn.size)?, i32::from(turn.moments));
        let stride = number(matrix.view.stride)?;
        let pairs = turn.size.div_ceil(2);
        let (function, length, shape) = if turn.columns {
            (&self.functions.turn_columns, matrix.view.rows, grid(matrix.view.rows, pairs))
        } else {
            (&self.functions.turn_rows, matrix.view.columns, grid(pairs, matrix.view.columns))
        };
        let length = number(length)?;
        for one in turn.each() {
            let (r, round) = (self.address(rotations, one.offset), number(one.round)?);
            let mut launch = self.stream.launch_builder(function);
            launch.arg(&m).arg(&stride).arg(&length).arg(&r).arg(&size).arg(&round).arg(&moments);
            // SAFETY: as above.
            unsafe { launch.launch(shape) }.map_err(lost)?;
        }
        Ok(())
    }
}
