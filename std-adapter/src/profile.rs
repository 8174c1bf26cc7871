//! Where the time of an EKFAC step goes, found from outside: kernels with a clock, and what lies between their calls.
//!
//! A call belongs to a stage by its method, by whether it multiplies with an eigenbasis (told by its address), and by whether the mean
//! gradient is formed already. The time between two calls goes to the stage that the corridor of [`step`](ekfac::step) has there:
//! between the last factor and the first scaling it refreshes, after the mean gradient it divides by S + lambda and moves the weights.
//! What no rule covers is [`Stage::Rest`]. *Invariant*: the stages add up to the time of the steps. *Cost*: two readings of the clock a
//! call, while it is attached; nothing else in the library knows of it. *Failure*: none of its own; another order of the corridor
//! would shift times between stages, never lose them.

use crate::{Network, kernels::Element};
use ekfac::{
    Activation, Blend, Error, Kernels, MatrixMut, MatrixRef, Scalar, Step, Targets, kernels::Elementwise,
};
use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The forward pass, the loss, and the backward passes for the training targets and for the Fisher's.
    Passes,
    /// Activations and gradients through the eigenbases: into them, and where the weights live there, out of them again.
    Project,
    /// Their second moments into the Kronecker factors.
    Factors,
    /// The bases turned towards those of their factors.
    Refresh,
    /// Second moments of the examples' gradients into S.
    Scalings,
    /// The mean gradient K in the eigenbasis.
    Gradient,
    /// K / (S + lambda), clip, momentum and the update of the weights.
    Update,
    /// The direction back to parameter coordinates, for layers whose weights live there.
    Return,
    /// The gate against bad data, and all that no other stage covers.
    Rest,
}

impl Stage {
    /// All of them, in the order of a step.
    pub const ALL: [Self; 9] = [
        Self::Passes,
        Self::Project,
        Self::Factors,
        Self::Refresh,
        Self::Scalings,
        Self::Gradient,
        Self::Update,
        Self::Return,
        Self::Rest,
    ];

    /// What a reader sees.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Passes => "forward and backward",
            Self::Project => "project",
            Self::Factors => "factors",
            Self::Refresh => "refresh",
            Self::Scalings => "scalings",
            Self::Gradient => "mean gradient",
            Self::Update => "precondition and apply",
            Self::Return => "products back to parameters",
            Self::Rest => "else",
        }
    }
}

/// The time of several steps, stage by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    times: [Duration; Stage::ALL.len()],
    /// The number of steps.
    pub steps: u32,
}

impl StageTimes {
    /// The time of all steps in this stage.
    #[must_use]
    pub fn of(&self, stage: Stage) -> Duration {
        self.times[stage as usize]
    }

    /// The time of all steps.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.times.iter().sum()
    }

    fn add(&mut self, stage: Stage, time: Duration) {
        self.times[stage as usize] += time;
    }
}

/// What a step is doing: what the clock needs to know of the calls before.
#[derive(Debug, Default)]
struct Recorder {
    /// Addresses of the eigenbases.
    bases: Vec<Range<usize>>,
    spent: StageTimes,
    /// The end of the last call, or the start of the step; none between steps.
    mark: Option<Instant>,
    last: Option<Stage>,
    /// Whether the mean gradient is formed.
    formed: bool,
}

impl Recorder {
    fn is_basis<T: Scalar>(&self, matrix: MatrixRef<'_, T>) -> bool {
        let address = matrix.as_slice().as_ptr() as usize;
        self.bases.iter().any(|range| range.contains(&address))
    }

    /// The stage of a product.
    fn product<T: Scalar>(&self, left: MatrixRef<'_, T>) -> Stage {
        match (self.formed, self.is_basis(left)) {
            (true, _) => Stage::Return,
            (false, true) => Stage::Project,
            (false, false) => Stage::Passes,
        }
    }

    /// The stage of left right^T, which forms gradients until they are formed.
    fn outer_product<T: Scalar>(&self, right: MatrixRef<'_, T>) -> Stage {
        if self.is_basis(right) { Stage::Return } else { Stage::Gradient }
    }

    /// The stage of elementwise work: the gate before a factor is measured, turns until the gradient is formed, then what is made
    /// of it.
    fn elementwise(&self) -> Stage {
        match self.last {
            _ if self.formed => Stage::Update,
            None | Some(Stage::Passes | Stage::Project | Stage::Rest) => Stage::Rest,
            _ => Stage::Refresh,
        }
    }

    fn begin(&mut self) {
        (self.mark, self.last, self.formed) = (Some(Instant::now()), None, false);
    }

    /// A call of this stage from `start` to now.
    fn note(&mut self, stage: Stage, start: Instant) {
        let Some(mark) = self.mark else { return };
        self.spent.add(between(self.last, Some(stage)), start.duration_since(mark));
        let end = Instant::now();
        self.spent.add(stage, end.duration_since(start));
        self.formed |= stage == Stage::Gradient;
        (self.mark, self.last) = (Some(end), Some(stage));
    }

    fn end(&mut self) {
        let Some(mark) = self.mark.take() else { return };
        self.spent.add(between(self.last, None), mark.elapsed());
        self.spent.steps += 1;
    }
}

/// The stage of the time between two calls; none before the first and after the last one.
fn between(before: Option<Stage>, after: Option<Stage>) -> Stage {
    match (before, after) {
        (Some(Stage::Passes), Some(Stage::Passes)) => Stage::Passes,
        // The bias's share of a projection is added outside the kernels.
        (Some(Stage::Project), _) => Stage::Project,
        (Some(Stage::Factors), Some(Stage::Refresh | Stage::Scalings | Stage::Gradient))
        | (Some(Stage::Refresh), _) => Stage::Refresh,
        (Some(Stage::Gradient | Stage::Return | Stage::Update), _) => Stage::Update,
        _ => Stage::Rest,
    }
}

/// Keeps the time of a network's steps.
///
/// ```
/// use ekfac::{Activation::{Identity, Tanh}, Config, Dense, Loss, Targets};
/// use ekfac_std::{Mode, Network, profile::{Profile, Stage}};
/// let layers = vec![Dense::new(64, 32, Tanh), Dense::new(32, 10, Identity)];
/// let network = Network::<f32>::new(layers, Loss::SoftmaxCrossEntropy, Config::default(), 1, 16)?;
/// let (mut network, profile) = Profile::attach(network, Mode::Fast.kernels(None))?;
/// profile.step(&mut network, &[0.5; 64 * 16], Targets::Classes(&[3; 16]))?;
/// let times = profile.times();
/// assert!(times.steps == 1 && times.of(Stage::Factors) < times.total());
/// # Ok::<(), ekfac::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Profile(Arc<Mutex<Recorder>>);

impl Profile {
    /// The network with these kernels under a clock, and the profile that reads it. Kernels that are given to the network later
    /// have no clock.
    ///
    /// # Errors
    /// None once the network exists.
    pub fn attach<T: Element>(
        network: Network<T>,
        kernels: Box<dyn Kernels<T> + Send>,
    ) -> Result<(Network<T>, Self), Error> {
        let profile = Self(Arc::default());
        let clock = Clocked { kernels, recorder: profile.0.clone() };
        let mut network = network.with_kernels(Box::new(clock));
        profile.lock().bases = addresses(&mut network)?;
        Ok((network, profile))
    }

    /// One step of the network that this profile is attached to, its time kept.
    ///
    /// # Errors
    /// Those of [`Network::step`].
    pub fn step<T: Element>(
        &self,
        network: &mut Network<T>,
        inputs: &[T],
        targets: Targets<'_, T>,
    ) -> Result<Step<T>, Error> {
        self.lock().begin();
        let step = network.step(inputs, targets);
        self.lock().end();
        step
    }

    /// The times so far.
    #[must_use]
    pub fn times(&self) -> StageTimes {
        self.lock().spent
    }

    fn lock(&self) -> MutexGuard<'_, Recorder> {
        lock(&self.0)
    }
}

fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the bases lie: a network's words stay where they are, even when it moves.
fn addresses<T: Element>(network: &mut Network<T>) -> Result<Vec<Range<usize>>, Error> {
    network.with(|learner| {
        let mut ranges = Vec::new();
        for index in 0..learner.net().layers().len() {
            let layer = learner.layer(index)?;
            for basis in [layer.input_factor().basis(), layer.output_factor().basis()] {
                let words = basis.as_slice();
                let start = words.as_ptr() as usize;
                ranges.push(start..start + size_of_val(words));
            }
        }
        Ok(ranges)
    })
}

/// Kernels with a clock.
struct Clocked<T> {
    kernels: Box<dyn Kernels<T> + Send>,
    recorder: Arc<Mutex<Recorder>>,
}

impl<T> Clocked<T> {
    fn time<R>(&self, stage: impl FnOnce(&Recorder) -> Stage, work: impl FnOnce() -> R) -> R {
        let stage = stage(&lock(&self.recorder));
        let start = Instant::now();
        let result = work();
        lock(&self.recorder).note(stage, start);
        result
    }
}

impl<T: Scalar> Kernels<T> for Clocked<T> {
    fn product(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        self.time(|recorder| recorder.product(left), || self.kernels.product(out, left, right, scale, keep));
    }

    fn product_left_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        self.time(
            |recorder| recorder.product(left),
            || self.kernels.product_left_transposed(out, left, right, scale, keep),
        );
    }

    fn product_right_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        self.time(
            |recorder| recorder.outer_product(right),
            || self.kernels.product_right_transposed(out, left, right, scale, keep),
        );
    }

    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]) {
        self.time(|_| Stage::Factors, || self.kernels.symmetric_update(packed, x, blend, scratch));
    }

    fn squared_product(
        &self,
        scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        self.time(|_| Stage::Scalings, || self.kernels.squared_product(scalings, g, a, blend, scratch));
    }

    fn activate(&self, activation: Activation, z: &[T], h: &mut [T]) -> bool {
        self.time(|_| Stage::Passes, || self.kernels.activate(activation, z, h))
    }

    fn through_activation(&self, activation: Activation, g: &mut [T], z: &[T], h: &[T]) {
        self.time(|_| Stage::Passes, || self.kernels.through_activation(activation, g, z, h));
    }

    fn elementwise(&self, work: Elementwise<'_, T>) {
        self.time(Recorder::elementwise, || self.kernels.elementwise(work));
    }
}

#[cfg(test)]
mod tests {
    use super::{Recorder, Stage, between};
    use ekfac::MatrixRef;
    use std::{
        thread::sleep,
        time::{Duration, Instant},
    };

    // Mutant: refresh time counted as scalings, or the update as refresh.
    #[test]
    fn the_time_between_calls_belongs_to_what_the_corridor_does_there() {
        use Stage::{Factors, Gradient, Passes, Project, Refresh, Rest, Return, Scalings, Update};
        for (before, after, stage) in [
            (None, Some(Passes), Rest),
            (Some(Passes), Some(Passes), Passes),
            (Some(Passes), Some(Project), Rest),
            (Some(Project), Some(Factors), Project),
            (Some(Factors), Some(Project), Rest),
            (Some(Factors), Some(Scalings), Refresh),
            (Some(Factors), Some(Gradient), Refresh),
            (Some(Factors), Some(Refresh), Refresh),
            (Some(Refresh), Some(Refresh), Refresh),
            (Some(Refresh), Some(Scalings), Refresh),
            (Some(Scalings), Some(Gradient), Rest),
            (Some(Gradient), Some(Return), Update),
            (Some(Update), Some(Return), Update),
            (Some(Return), Some(Return), Update),
            (Some(Return), None, Update),
        ] {
            assert_eq!(between(before, after), stage, "{before:?} {after:?}");
        }
    }

    // Mutant: the direction on its way back to the parameters taken for a projection.
    #[test]
    fn a_product_with_a_basis_projects_until_the_gradient_is_formed() {
        let (basis, weights) = ([1.0_f32; 4], [1.0_f32; 4]);
        let start = basis.as_ptr() as usize;
        let mut recorder = Recorder::default();
        recorder.bases.push(start..start + size_of_val(&basis));
        let view = |words| MatrixRef::new(words, 2, 2).unwrap();
        let below = view(&basis).block(0..1, 0..2).unwrap();
        assert_eq!(recorder.product(view(&weights)), Stage::Passes);
        assert_eq!([recorder.product(view(&basis)), recorder.product(below)], [Stage::Project; 2]);
        assert_eq!(recorder.outer_product(view(&weights)), Stage::Gradient);
        assert_eq!(recorder.outer_product(view(&basis)), Stage::Return);
        recorder.begin();
        recorder.note(Stage::Gradient, Instant::now());
        assert_eq!(recorder.product(view(&basis)), Stage::Return);
        recorder.begin();
        assert_eq!(recorder.product(view(&basis)), Stage::Project);
    }

    // Mutant: the time before the first call, within one or after the last one that is lost; calls outside a step that are counted.
    #[test]
    fn no_time_of_a_step_is_lost() {
        let (mut recorder, pause) = (Recorder::default(), Duration::from_millis(5));
        recorder.note(Stage::Passes, Instant::now());
        assert_eq!((recorder.spent.total(), recorder.spent.steps), (Duration::ZERO, 0));
        recorder.begin();
        sleep(pause);
        let start = Instant::now();
        sleep(pause);
        recorder.note(Stage::Gradient, start);
        sleep(pause);
        recorder.end();
        for stage in [Stage::Rest, Stage::Gradient, Stage::Update] {
            assert!(recorder.spent.of(stage) >= pause, "{stage:?}");
        }
        assert_eq!(recorder.spent.steps, 1);
    }

    #[test]
    fn stages_are_listed_in_the_order_of_their_numbers() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index);
        }
    }
}
