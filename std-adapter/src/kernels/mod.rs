//! The products of a step on a desktop: two modes, each on any number of threads.
//!
//! | mode | kernels | bits |
//! | --- | --- | --- |
//! | [`Mode::Deterministic`] | [`DeterministicKernels`], vector code in core's own order of summation | those of [`Reference`](ekfac::Reference), on every machine and any number of threads |
//! | [`Mode::Fast`] | [`FaerKernels`] | sums in another order: within k eps of the sum of magnitudes, k the terms of a sum |
//!
//! *Invariant*: nothing starts a thread unasked. [`Threaded`] splits every large product over a pool that it is given, by
//! columns or rows of the result, so that no sum is cut. *Failure*: a panic in a worker ends the step and comes back as
//! [`Error::KernelsFailed`](ekfac::Error::KernelsFailed) from [`Network`](crate::Network); the pool stays usable.

mod activations;
mod deterministic;
mod fast;
mod tanh;
mod threaded;

pub use deterministic::DeterministicKernels;
pub use fast::{CROSSOVER, FaerKernels};
pub use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
pub use tanh::TANH_CROSSOVER;
pub use threaded::{SPLIT, Threaded};

use ekfac::{Kernels, Scalar, kernels::Elementwise};
use faer::traits::{ComplexField, Conjugate};
use pulp::{Arch, NullaryFnOnce};
use std::sync::Arc;

/// A scalar that both core and faer know: `f32` or `f64`.
pub trait Element: Scalar + ComplexField + Conjugate<Canonical = Self> {
    /// h = tanh z for long slices, where [`Mode::Fast`] has a way of its own; false where it has none.
    fn fast_tanh(_z: &[Self], _h: &mut [Self]) -> bool {
        false
    }
}

impl Element for f32 {
    fn fast_tanh(z: &[f32], h: &mut [f32]) -> bool {
        tanh::all(z, h);
        true
    }
}

impl Element for f64 {}

/// Which bits the kernels give, and how fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Core's own bits, on every machine and any number of threads.
    Deterministic,
    /// As fast as it gets: the same from run to run on one machine, rounded otherwise than core's.
    #[default]
    Fast,
}

impl Mode {
    /// The kernels of this mode, on the threads of a pool or on the caller's own.
    #[must_use]
    pub fn kernels<T: Element>(self, pool: Option<Arc<ThreadPool>>) -> Box<dyn Kernels<T> + Send> {
        match (self, pool) {
            (Mode::Deterministic, None) => Box::new(DeterministicKernels),
            (Mode::Deterministic, Some(pool)) => Box::new(Threaded::new(DeterministicKernels, pool)),
            (Mode::Fast, None) => Box::new(FaerKernels::new()),
            (Mode::Fast, Some(pool)) => {
                let kernels = FaerKernels::on_threads(pool.current_num_threads());
                Box::new(Threaded::new(kernels, pool).leaving_products())
            }
        }
    }
}

/// Elementwise work in the widest vectors of this machine: the same operations, so the same bits.
fn vectorised<T: Scalar>(work: Elementwise<'_, T>) {
    /// A closure would not be inlined, and so have no wider vectors.
    struct Run<'w, T>(Elementwise<'w, T>);

    impl<T: Scalar> NullaryFnOnce for Run<'_, T> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            self.0.run_inlined();
        }
    }

    Arch::new().dispatch(Run(work));
}

/// Clears the upper halves of the vector registers, which faer's products do not. Until they are clear some processors (seen on an AMD
/// with AVX2 and no AVX-512) take hundreds of cycles wherever vector code calls a function compiled without vectors: libm's tanh takes
/// six to ten times as long (`results/speed/growth.md`).
fn clear_vectors() {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(simd) = pulp::x86::V3::try_new() {
        simd.avx._mm256_zeroupper();
    }
}

fn is_small(rows: usize, columns: usize, inner: usize, limit: usize) -> bool {
    rows.saturating_mul(columns).saturating_mul(inner) < limit
}
