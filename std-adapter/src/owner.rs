//! What owners of networks have in common: memory, and the kernels that serve it.
//!
//! *Invariant*: kernels, mode and pool belong together; a panic in kernels leaves an error behind, not a poisoned owner.

use crate::kernels::{Element, Mode, ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use ekfac::{Error, Kernels, Scalar};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The kernels of an owner, and what they were made of.
pub(crate) struct Products<T> {
    kernels: Box<dyn Kernels<T> + Send>,
    mode: Mode,
    pool: Option<Arc<ThreadPool>>,
}

impl<T: Element> Default for Products<T> {
    fn default() -> Self {
        let mode = Mode::default();
        Self { kernels: mode.kernels(None), mode, pool: None }
    }
}

impl<T: Element> Products<T> {
    pub(crate) fn with_mode(self, mode: Mode) -> Self {
        Self { kernels: mode.kernels(self.pool.clone()), mode, ..self }
    }

    /// 1 is the caller's thread, 0 one for each core.
    pub(crate) fn with_threads(self, threads: usize) -> Result<Self, ThreadPoolBuildError> {
        if threads == 1 {
            return Ok(Self { kernels: self.mode.kernels(None), pool: None, ..self });
        }
        Ok(self.with_pool(Arc::new(ThreadPoolBuilder::new().num_threads(threads).build()?)))
    }

    pub(crate) fn with_pool(self, pool: Arc<ThreadPool>) -> Self {
        Self { kernels: self.mode.kernels(Some(pool.clone())), pool: Some(pool), ..self }
    }

    pub(crate) fn with_kernels(self, kernels: Box<dyn Kernels<T> + Send>) -> Self {
        Self { kernels, ..self }
    }

    pub(crate) fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }
}

impl<T> Products<T> {
    /// The pool that serves them: an owner works within it, so that nothing is handed over and waited for at every product.
    pub(crate) fn pool(&self) -> Option<Arc<ThreadPool>> {
        self.pool.clone()
    }

    pub(crate) fn kernels(&self) -> &dyn Kernels<T> {
        &*self.kernels
    }
}

/// Work that is core's alone: a panic can then only come from the kernels, and becomes an error.
pub(crate) fn guarded<R>(work: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::KernelsFailed))
}

/// State words and zeros after them. None at all make a zero state. Without room for them that is an error: layers that are too
/// large are a mistake, not a reason to abort.
pub(crate) fn memory<T: Scalar>(state: &[T], expected: usize, words: usize) -> Result<Vec<T>, Error> {
    let found = state.len();
    if found != 0 && found != expected {
        return Err(Error::Length { argument: "state", expected, found });
    }
    let mut memory = Vec::new();
    memory.try_reserve_exact(words).map_err(|_| Error::SizeOverflow { argument: "memory" })?;
    memory.extend(state);
    memory.resize(words, T::ZERO);
    Ok(memory)
}
