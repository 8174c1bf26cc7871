//! The corridor: it alone knows the order of an EKFAC step.
//!
//! ```text
//! gate -> project -> factors -> refresh -> scalings -> precondition -> clip -> apply
//! ```
//!
//! The basis is refreshed *before* S is measured in it, and S is measured before it divides (George et al. 2018,
//! Algorithm 1). *Invariant*: the step is transactional. All layers pass the gate before the first word of state changes; a
//! refused batch leaves every byte as it was; a step that would overflow changes no weight.
//! *Cost* for a layer and a batch of N, M of whose examples enter the statistics: projections 2 N (n^2 + m^2) + 2 M m^2,
//! factors M (n^2 + m^2), S and K 2 (M + N) m n, step 18 m n, and 2 m n (m + n) where the weights live in parameter
//! [`coordinates`](crate::coordinates); the refresh as in [`jacobi`](crate::jacobi); nothing on the side of a B that is known to be
//! [diagonal](Marks::output_is_diagonal). *Failure*: [`Outcome::Skipped`] for bad data,
//! [`Outcome::Degraded`] for a refresh that failed, [`Error::RefreshFailed`] after more than [`MAX_FAILED_REFRESHES`] of these
//! in a row. A refresh fails when its solve hits the cap, which leaves a valid basis, or when [`Kernels`](crate::Kernels) have returned a factor
//! that is not finite: then the basis stays as it was, and the next batch starts the factors of that layer anew.

use crate::{
    Blend, Carry, Config, Error, Estimator, Outcome, Progress, Reason, Scalar, Shape,
    config::PUBLISHED,
    damping::LayerDamping,
    marks::Marks,
    plan::plan,
    progress::{count, is_due},
    single::{built, expect_built},
};
pub use crate::{
    kernels::Counted,
    plan::damping_of,
    precondition::Plan,
    refresh::{Effect, Effort},
    survey::Survey,
};
use core::ops::Range;

/// So many refreshes in a row may fail.
pub const MAX_FAILED_REFRESHES: u32 = 3;

/// The work of one layer in a step, wherever its state lives: on the host (core's own implementation, over slices), or on a
/// device. The corridor calls these in its order; an implementation decides nothing.
///
/// They cannot fail: a device that does so notes it, makes the rest no-ops, and its owner discards the step. A survey with NaN
/// in it stops the step before any weight is touched.
pub trait Stages<T: Scalar> {
    /// The shape.
    fn shape(&self) -> Shape;
    /// The layer's scalars, on the host.
    fn marks(&mut self) -> Marks<'_, T>;
    /// The gate, [`guard`](crate::guard), before the first word of state changes.
    ///
    /// # Errors
    /// The first offender of this layer.
    fn check(&mut self, counted: &Counted<'_, T>, layer: usize, batch: usize) -> Result<(), Reason>;
    /// a~ = U_A^T [a; 1] and g~ = U_B^T g, unless the passes have left them.
    fn project(&mut self, counted: &mut Counted<'_, T>, batch: usize);
    /// g~ for the Fisher's targets, likewise.
    fn project_fisher(&mut self, counted: &mut Counted<'_, T>);
    /// Blends mean(a~ a~^T) over the measured examples into C_A.
    fn measure_input(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>);
    /// Blends mean(g~ g~^T) of the Fisher gradients into C_B.
    fn measure_output(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>);
    /// Blends mean((g~ a~^T)^2), element by element, into S.
    fn measure_scalings(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>);
    /// Blends N K^2 into S.
    fn measure_mean_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize, blend: Blend<T>);
    /// S = diag(C_B) diag(C_A)^T.
    fn set_kronecker(&mut self);
    /// K = (1/N) G~ A~^T; for one example it may stay unformed.
    fn form_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize);
    /// Turns both bases towards the eigenbases of their factors, and all that is held in them along.
    fn refresh(&mut self, counted: &Counted<'_, T>, effort: &Effort<T>) -> Effect;
    /// mean(S).
    fn mean_scaling(&mut self, counted: &Counted<'_, T>) -> T;
    /// The traces of A and B.
    fn traces(&mut self) -> (T, T);
    /// Looks at K and D = K / (S + lambda) without writing any state.
    fn survey(&mut self, counted: &Counted<'_, T>, damping: LayerDamping<T>) -> Survey<T>;
    /// velocity <- mu velocity + nu D, then W <- (1 - lr decay) W - lr U_B velocity U_A^T, the bias not decayed.
    fn advance(&mut self, counted: &mut Counted<'_, T>, damping: LayerDamping<T>, plan: &Plan<T>);
}

/// The layers of a step, and the passes that give their Fisher gradients.
pub trait Rooms<T: Scalar> {
    /// One layer at work.
    type Room<'r>: Stages<T>
    where
        Self: 'r;
    /// Number of layers.
    fn layers(&self) -> usize;
    /// One layer.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist.
    fn room(&mut self, layer: usize) -> Result<Self::Room<'_>, Error>;
    /// Whether the passes leave all that the examples bring to a step, the projections of every layer and no K, since there is one
    /// example: then no layer is asked to project, nor to form its gradient.
    fn passes_suffice(&self) -> bool {
        false
    }
    /// Passes over which the Fisher gradients come; 1 unless the Fisher is exact.
    fn passes(&self) -> usize;
    /// Fills the Fisher gradients of all layers with those of one pass, projected in layers that live in the eigenbasis.
    /// Writes no state.
    ///
    /// # Errors
    /// None in core.
    fn load(&mut self, pass: usize) -> Result<(), Error>;
}

/// What a step is run with.
pub struct Run<'a, T> {
    /// The settings.
    pub config: &'a Config<T>,
    /// Kernels, and the count of operations.
    pub counted: Counted<'a, T>,
    /// The counters of the run.
    pub progress: &'a mut Progress<T>,
    /// N.
    pub batch: usize,
    /// Which of the N examples enter the statistics; none, where no statistics are due.
    pub measured: Range<usize>,
    /// The weight of these against later ones, in examples.
    pub measured_weight: usize,
}

/// What a step did besides its [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken<T> {
    /// How it ended.
    pub outcome: Outcome,
    /// nu, by which the clip shortened the step; 1 when it did not.
    pub shrink: T,
    /// How many layers were held back further, lest their pre-activations change too much.
    pub held: usize,
    /// The change of the loss that the quadratic model predicts, for Levenberg-Marquardt adaptation.
    pub predicted: T,
}

/// Why a step went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The batch is bad; no word of state was written.
    Refused(Reason),
    /// The call is wrong, or a refresh has failed once too often.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Operations of a survey for each weight.
pub(crate) const SURVEY: usize = 10;

/// A room by reference: it is large, and a move would take its size of the stack again.
pub(crate) fn opened<R>(room: &mut Result<R, Error>) -> Result<&mut R, Error> {
    room.as_mut().map_err(|error| *error)
}

/// Takes a batch into the statistics: everything up to and including S and K. Returns a layer whose refresh failed.
///
/// # Errors
/// [`Stop::Refused`] for a bad batch, [`Error::RefreshFailed`].
#[inline(always)]
pub fn observe<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<Option<usize>, Stop> {
    expect_built(run.batch == 1, "batch")?;
    before_refresh(rooms, run)?;
    let failed = refresh_all(rooms, run)?;
    after_refresh(rooms, run)?;
    Ok(failed)
}

/// The refresh that is due.
fn effort<T: Scalar>(run: &Run<'_, T>) -> Option<Effort<T>> {
    Effort::due(run.config, run.progress.steps, run.measured.len())
}

/// Whether S is measured of the examples' own gradients.
fn measures_examples<T: Scalar>(run: &Run<'_, T>) -> bool {
    !run.measured.is_empty() && run.config.estimator.is_per_example()
}

#[inline(always)]
fn before_refresh<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<(), Stop> {
    let measuring = !run.measured.is_empty();
    gate(rooms, &run.counted, built(run.batch), measuring)?;
    project_all(rooms, run)?;
    if measuring {
        let now = effort(run).is_none() && measures_examples(run);
        walk_fisher(rooms, run, Walk { load: true, factors: true, scalings: now })?;
    }
    Ok(())
}

#[inline(always)]
fn after_refresh<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<(), Stop> {
    if effort(run).is_some() && measures_examples(run) {
        // One pass has left its projected gradients in the rooms, where they turned along; several are walked again.
        let load = rooms.passes() > 1;
        walk_fisher(rooms, run, Walk { load, factors: false, scalings: true })?;
    }
    Ok(form_gradients(rooms, run)?)
}

/// [`observe`] for a caller who chooses what enters the statistics by what is passed: all of it on the steps that are due.
/// Counts the batch.
///
/// # Errors
/// [`Error::RefreshFailed`].
pub fn observe_all<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    config: &Config<T>,
    counted: Counted<'_, T>,
    progress: &mut Progress<T>,
    batch: usize,
) -> Result<Outcome, Error> {
    let due = is_due(progress.steps, config.statistics_period);
    let measured = if due { 0..batch } else { 0..0 };
    let mut run = Run { config, counted, progress, batch, measured, measured_weight: batch };
    let result = observe(rooms, &mut run);
    let operations = run.counted.operations();
    let (outcome, result) = match result {
        Ok(failed) => (outcome_of(failed), Ok(())),
        Err(Stop::Refused(reason)) => (Outcome::Skipped(reason), Ok(())),
        // The batch has entered the statistics all the same.
        Err(Stop::Failed(error @ Error::RefreshFailed { layer })) => {
            (Outcome::Degraded(Reason::NotConverged { layer }), Err(error))
        }
        Err(Stop::Failed(error)) => return Err(error),
    };
    progress.finish(outcome, batch, operations);
    result.map(|()| outcome)
}

/// A whole step: [`observe`], then precondition, clip and apply.
///
/// # Errors
/// [`Stop::Refused`] for a bad batch, [`Error::RefreshFailed`].
pub fn step<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<Taken<T>, Stop> {
    let failed = observe(rooms, run)?;
    take(rooms, run, failed)
}

/// Preconditions, clips and applies.
#[inline(never)]
fn take<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    run: &mut Run<'_, T>,
    failed: Option<usize>,
) -> Result<Taken<T>, Stop> {
    let mut taken = Taken { outcome: outcome_of(failed), shrink: T::ONE, held: 0, predicted: T::ZERO };
    match plan(rooms, run)? {
        Some(plan) => apply_all(rooms, run, &plan, &mut taken)?,
        None => taken.outcome = Outcome::Degraded(Reason::StepTooLarge),
    }
    Ok(taken)
}

/// The outcome where the refresh of a layer failed, or none did.
fn outcome_of(failed: Option<usize>) -> Outcome {
    failed.map_or(Outcome::Applied, |layer| Outcome::Degraded(Reason::NotConverged { layer }))
}

/// Accelerates and moves the weights of all layers.
#[inline(never)]
fn apply_all<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    run: &mut Run<'_, T>,
    plan: &Plan<T>,
    taken: &mut Taken<T>,
) -> Result<(), Error> {
    taken.shrink = plan.shrink;
    let layers = rooms.layers();
    for index in 0..layers {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        let own = own_plan(room, run, plan, index + 1 < layers);
        taken.held += usize::from(own.shrink < plan.shrink);
        if run.config.built_adaptation().is_some() {
            taken.predicted += predict(room, run, &own);
        }
        run.counted.add(6 * room.shape().parameters_held());
        let damping = damping_of(room, run.config, run.progress);
        room.advance(&mut run.counted, damping, &own);
    }
    Ok(())
}

/// The plan of one layer. The outputs have units of their own; hidden units saturate at about 1.
#[inline(never)]
fn own_plan<T: Scalar>(room: &mut impl Stages<T>, run: &Run<'_, T>, plan: &Plan<T>, hidden: bool) -> Plan<T> {
    match (run.config.reach, hidden) {
        (Some(reach), true) => {
            let limit = reach * T::from_usize(built(run.batch)).sqrt();
            plan.within_reach(room.marks().typical_reach(), limit)
        }
        _ => *plan,
    }
}

/// The change of the loss that the quadratic model predicts of one layer's step.
#[inline(never)]
fn predict<T: Scalar>(room: &mut impl Stages<T>, run: &mut Run<'_, T>, plan: &Plan<T>) -> T {
    let damping = damping_of(room, run.config, run.progress);
    let survey = room.survey(&run.counted, damping);
    run.counted.add(SURVEY * room.shape().parameters_held());
    plan.predicted(&survey)
}

#[inline(never)]
fn gate<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    counted: &Counted<'_, T>,
    batch: usize,
    measuring: bool,
) -> Result<(), Stop> {
    let passes = if measuring { rooms.passes() } else { 1 };
    for pass in 0..passes {
        if measuring {
            rooms.load(pass)?;
        }
        check_all(rooms, counted, batch)?;
    }
    Ok(())
}

/// A function of its own, as [`walk_layers`] is, so that no room is open on the stack while a pass is loaded.
#[inline(never)]
fn check_all<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    counted: &Counted<'_, T>,
    batch: usize,
) -> Result<(), Stop> {
    for index in 0..rooms.layers() {
        opened(&mut rooms.room(index))?.check(counted, index, batch).map_err(Stop::Refused)?;
    }
    Ok(())
}

/// Projects what the passes have not, and takes the activations into the input factors.
#[inline(never)]
fn project_all<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<(), Error> {
    let suffice = rooms.passes_suffice();
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        if !suffice {
            room.project(&mut run.counted, built(run.batch));
        }
        if !run.measured.is_empty() {
            let decay = factor_decay(run, &room.shape());
            let share = room.marks().advance_factors(decay);
            room.measure_input(&mut run.counted, &run.measured, Blend::Move(share));
        }
    }
    Ok(())
}

/// What a walk over the Fisher passes does with the gradients.
#[derive(Clone, Copy)]
struct Walk {
    /// Loads and projects them; otherwise the rooms hold them projected.
    load: bool,
    /// Takes them into the output factors.
    factors: bool,
    /// Takes them into the scalings.
    scalings: bool,
}

#[inline(always)]
fn walk_fisher<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>, walk: Walk) -> Result<(), Error> {
    for pass in 0..rooms.passes() {
        if walk.load {
            rooms.load(pass)?;
        }
        walk_layers(rooms, run, walk, pass)?;
    }
    Ok(())
}

#[inline(never)]
fn walk_layers<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    run: &mut Run<'_, T>,
    walk: Walk,
    pass: usize,
) -> Result<(), Error> {
    // Later passes are further terms of the same mean.
    let blend = |share| if !PUBLISHED || pass == 0 { Blend::Move(share) } else { Blend::Add(share) };
    let suffice = rooms.passes_suffice();
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        if walk.load && !suffice {
            room.project_fisher(&mut run.counted);
        }
        if walk.factors {
            let decay = factor_decay(run, &room.shape());
            let blend = blend(room.marks().factor_share(decay));
            room.measure_output(&mut run.counted, &run.measured, blend);
        }
        if walk.scalings {
            let decay = scaling_decay(run);
            if pass == 0 {
                room.marks().advance_scalings(decay);
            }
            let blend = blend(room.marks().scaling_share(decay));
            room.measure_scalings(&mut run.counted, &run.measured, blend);
        }
    }
    Ok(())
}

/// Rotates every factor towards its eigenbasis; all that lives there turns along. Returns the last layer where that failed.
#[inline(never)]
fn refresh_all<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<Option<usize>, Error> {
    let Some(effort) = effort(run) else { return Ok(None) };
    let (mut failed, mut lost) = (None, None);
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        let effect = room.refresh(&run.counted, &effort);
        let in_a_row = note_refresh(room, run, &effect);
        failed = if effect.failed { Some(index) } else { failed };
        lost = if in_a_row > MAX_FAILED_REFRESHES { lost.or(Some(index)) } else { lost };
    }
    lost.map_or(Ok(failed), |layer| Err(Error::RefreshFailed { layer }))
}

/// Counts the refresh of a layer; returns how many in a row have failed with it.
#[inline(never)]
fn note_refresh<T: Scalar>(room: &mut impl Stages<T>, run: &mut Run<'_, T>, effect: &Effect) -> u32 {
    count(&mut run.progress.rotations, effect.rotations);
    run.counted.add(effect.operations as usize);
    let in_a_row = room.marks().note_refresh(effect.failed);
    if run.config.refresh.carry() == Carry::Reset && !effect.failed {
        room.set_kronecker();
        room.marks().fill_scaling_weight();
    }
    in_a_row
}

/// K of every layer, and the estimators of S that are made from it or from the factors.
#[inline(never)]
fn form_gradients<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<(), Error> {
    let suffice = rooms.passes_suffice();
    if suffice && !PUBLISHED {
        return Ok(());
    }
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        if !suffice {
            room.form_gradient(&mut run.counted, built(run.batch));
        }
        match run.config.estimator.built() {
            Estimator::PerExampleFresh | Estimator::PerExampleRunning => {}
            Estimator::Kronecker => room.set_kronecker(),
            Estimator::MeanGradientRunning => {
                let decay = scaling_decay(run);
                room.marks().advance_scalings(decay);
                let blend = Blend::Move(room.marks().scaling_share(decay));
                room.measure_mean_gradient(&mut run.counted, built(run.batch), blend);
            }
        }
    }
    Ok(())
}

/// The weight of the old factors of a layer.
#[inline(never)]
fn factor_decay<T: Scalar>(run: &Run<'_, T>, shape: &Shape) -> T {
    run.config.factors.for_lines(shape.longest_side()).decay(run.measured_weight)
}

/// The weight of the old scalings: none for a fresh S, nor at a refresh that rebuilds it.
#[inline(never)]
fn scaling_decay<T: Scalar>(run: &Run<'_, T>) -> T {
    let (config, estimator) = (run.config, run.config.estimator.built());
    let examples =
        if estimator == Estimator::MeanGradientRunning { built(run.batch) } else { run.measured_weight };
    let rebuild = config.refresh.carry() == Carry::Rebuild && effort(run).is_some();
    if rebuild || estimator == Estimator::PerExampleFresh { T::ZERO } else { config.scalings.decay(examples) }
}
