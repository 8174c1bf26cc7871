//! EKFAC.
#![no_std]

mod carve;
pub mod config;
pub mod damping;
mod error;
pub mod factor;
pub mod guard;
pub mod jacobi;
pub mod kernels;
pub mod layer;
pub mod net;
mod precondition;
mod preconditioner;
mod progress;
mod scalar;
mod scalings;
pub mod shape;
pub mod step;
mod view;

pub use config::{Averaging, Carry, Clip, Config, Estimator, Fisher, Refresh};
pub use damping::{Adaptation, Damping};
pub use error::Error;
pub use factor::FactorMut;
pub use kernels::{Blend, Kernels, Reference};
pub use layer::{LayerMut, StaticLayer};
pub use net::{Activation, Dense, Evaluation, Initialization, LayerList, Learner, Loss, Net, Step, Targets};
pub use preconditioner::Preconditioner;
pub use progress::{Event, EventLog, Outcome, Progress, Reason};
pub use scalar::Scalar;
pub use shape::Shape;
pub use view::{MatrixMut, MatrixRef};
