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
//! [`coordinates`](crate::coordinates); the refresh as in [`jacobi`](crate::jacobi). *Failure*: [`Outcome::Skipped`] for bad data,
//! [`Outcome::Degraded`] for a refresh that failed, [`Error::RefreshFailed`] after more than [`MAX_FAILED_REFRESHES`] of these
//! in a row. A refresh fails when its solve hits the cap, which leaves a valid basis, or when [`Kernels`](crate::Kernels) have returned a factor
//! that is not finite: then the basis stays as it was, and the next batch starts the factors of that layer anew.

use crate::{
    Blend, Carry, Clip, Config, Error, Estimator, Outcome, Progress, Reason, Scalar, Shape,
    config::Known,
    damping::{self, LayerDamping},
    marks::Marks,
    progress::is_due,
};
pub use crate::{
    kernels::Counted,
    precondition::{Plan, Survey},
    refresh::{Effect, Effort},
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
    fn check(&mut self, layer: usize, batch: usize) -> Result<(), Reason>;
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
    fn refresh(&mut self, counted: &Counted<'_, T>, effort: Effort<T>) -> Effect;
    /// mean(S).
    fn mean_scaling(&mut self) -> T;
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
fn opened<R>(room: &mut Result<R, Error>) -> Result<&mut R, Error> {
    room.as_mut().map_err(|error| *error)
}

/// Takes a batch into the statistics: everything up to and including S and K. Returns a layer whose refresh failed.
///
/// # Errors
/// [`Stop::Refused`] for a bad batch, [`Error::RefreshFailed`].
#[inline(never)]
pub fn observe<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<Option<usize>, Stop> {
    let config = run.config;
    let measuring = !run.measured.is_empty();
    let effort = Effort::due(config, run.progress.steps, run.measured.len());
    gate(rooms, run.batch, measuring)?;
    project_all(rooms, run)?;
    let rebuild = effort.is_some() && config.refresh.carry() == Carry::Rebuild;
    let mut scalings =
        if measuring && config.estimator.is_per_example() { Some(scaling_decay(run, rebuild)) } else { None };
    if measuring {
        let now = if effort.is_some() { None } else { scalings.take() };
        walk_fisher(rooms, run, Walk { load: true, factors: true, scalings: now })?;
    }
    let failed = match effort {
        Some(effort) => refresh_all(rooms, run, effort)?,
        None => None,
    };
    if scalings.is_some() {
        // One pass has left its projected gradients in the rooms, where they turned along; several are walked again.
        let load = rooms.passes() > 1;
        walk_fisher(rooms, run, Walk { load, factors: false, scalings })?;
    }
    form_gradients(rooms, run, rebuild)?;
    Ok(failed)
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
        Ok(failed) => (after_refresh(failed), Ok(())),
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
    let outcome = after_refresh(observe(rooms, run)?);
    let mut taken = Taken { outcome, shrink: T::ONE, held: 0, predicted: T::ZERO };
    match plan(rooms, run)? {
        Some(plan) => apply_all(rooms, run, &plan, &mut taken)?,
        None => taken.outcome = Outcome::Degraded(Reason::StepTooLarge),
    }
    Ok(taken)
}

/// The outcome where the refresh of a layer failed, or none did.
fn after_refresh(failed: Option<usize>) -> Outcome {
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
        let damping = damping_of(room, run.config, run.progress);
        let mut own = *plan;
        // The outputs have units of their own; hidden units saturate at about 1.
        if let (Some(reach), true) = (run.config.reach, index + 1 < layers) {
            own = plan.within_reach(room.marks().typical_reach(), reach * T::from_usize(run.batch).sqrt());
            taken.held += usize::from(own.shrink < plan.shrink);
        }
        if run.config.adaptation.is_some() {
            let survey = room.survey(&run.counted, damping);
            taken.predicted += own.predicted(&survey);
            run.counted.add(SURVEY * room.shape().parameters());
        }
        run.counted.add(6 * room.shape().parameters());
        room.advance(&mut run.counted, damping, &own);
    }
    Ok(())
}

#[inline(never)]
fn gate<T: Scalar, R: Rooms<T>>(rooms: &mut R, batch: usize, measuring: bool) -> Result<(), Stop> {
    let passes = if measuring { rooms.passes() } else { 1 };
    for pass in 0..passes {
        if measuring {
            rooms.load(pass)?;
        }
        for index in 0..rooms.layers() {
            opened(&mut rooms.room(index))?.check(index, batch).map_err(Stop::Refused)?;
        }
    }
    Ok(())
}

/// Projects what the passes have not, and takes the activations into the input factors.
#[inline(never)]
fn project_all<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<(), Error> {
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        room.project(&mut run.counted, run.batch);
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
struct Walk<T> {
    /// Loads and projects them; otherwise the rooms hold them projected.
    load: bool,
    /// Takes them into the output factors.
    factors: bool,
    /// Takes them into the scalings, with this weight for the old value.
    scalings: Option<T>,
}

#[inline(never)]
fn walk_fisher<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    run: &mut Run<'_, T>,
    walk: Walk<T>,
) -> Result<(), Error> {
    for pass in 0..rooms.passes() {
        if walk.load {
            rooms.load(pass)?;
        }
        // Later passes are further terms of the same mean.
        let blend = |share| if pass == 0 { Blend::Move(share) } else { Blend::Add(share) };
        for index in 0..rooms.layers() {
            let mut room = rooms.room(index);
            let room = opened(&mut room)?;
            if walk.load {
                room.project_fisher(&mut run.counted);
            }
            if walk.factors {
                let decay = factor_decay(run, &room.shape());
                let blend = blend(room.marks().factor_share(decay));
                room.measure_output(&mut run.counted, &run.measured, blend);
            }
            if let Some(decay) = walk.scalings {
                if pass == 0 {
                    room.marks().advance_scalings(decay);
                }
                let blend = blend(room.marks().scaling_share(decay));
                room.measure_scalings(&mut run.counted, &run.measured, blend);
            }
        }
    }
    Ok(())
}

/// Rotates every factor towards its eigenbasis; all that lives there turns along. Returns the last layer where that failed.
#[inline(never)]
fn refresh_all<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    run: &mut Run<'_, T>,
    effort: Effort<T>,
) -> Result<Option<usize>, Error> {
    let (mut last_failed, mut lost) = (None, None);
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        let Effect { rotations, operations, failed } = room.refresh(&run.counted, effort);
        run.progress.rotations = run.progress.rotations.saturating_add(rotations);
        run.counted.add(operations as usize);
        let in_a_row = room.marks().note_refresh(failed);
        if failed {
            last_failed = Some(index);
        }
        if in_a_row > MAX_FAILED_REFRESHES {
            lost = lost.or(Some(index));
        }
        if run.config.refresh.carry() == Carry::Reset && !failed {
            room.set_kronecker();
            room.marks().fill_scaling_weight();
        }
    }
    lost.map_or(Ok(last_failed), |layer| Err(Error::RefreshFailed { layer }))
}

/// K of every layer, and the estimators of S that are made from it or from the factors.
#[inline(never)]
fn form_gradients<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    run: &mut Run<'_, T>,
    rebuild: bool,
) -> Result<(), Error> {
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        room.form_gradient(&mut run.counted, run.batch);
        match run.config.estimator {
            Estimator::PerExampleFresh | Estimator::PerExampleRunning => {}
            Estimator::Kronecker => room.set_kronecker(),
            Estimator::MeanGradientRunning => {
                let decay = scaling_decay(run, rebuild);
                room.marks().advance_scalings(decay);
                let blend = Blend::Move(room.marks().scaling_share(decay));
                room.measure_mean_gradient(&mut run.counted, run.batch, blend);
            }
        }
    }
    Ok(())
}

/// The weight of the old factors of a layer.
fn factor_decay<T: Scalar>(run: &Run<'_, T>, shape: &Shape) -> T {
    run.config.factors.for_lines(shape.longest_side()).decay(run.measured_weight)
}

/// The weight of the old scalings: none for a fresh S, nor at a refresh that rebuilds it.
fn scaling_decay<T: Scalar>(run: &Run<'_, T>, rebuild: bool) -> T {
    let mean_gradient = run.config.estimator == Estimator::MeanGradientRunning;
    let examples = if mean_gradient { run.batch } else { run.measured_weight };
    if rebuild || run.config.estimator == Estimator::PerExampleFresh {
        T::ZERO
    } else {
        run.config.scalings.decay(examples)
    }
}

/// The damping of a layer, with the mean of S that was noted last ([`Marks::note_mean_scaling`]).
pub fn damping_of<T: Scalar>(
    room: &mut impl Stages<T>,
    config: &Config<T>,
    progress: &Progress<T>,
) -> LayerDamping<T> {
    let (shape, marks) = (room.shape(), room.marks());
    let known = Known { shape, mean: marks.noted_mean_scaling(), weight: marks.factor_weight() };
    config.damping_with(known, progress, || {
        let (trace_a, trace_b) = room.traces();
        damping::pi_of_traces(&shape, trace_a, trace_b)
    })
}

/// The numbers of the step, or `None` if it would overflow. Looks at all layers, and writes nothing but the running means of
/// their reach and of the length.
#[inline(never)]
fn plan<T: Scalar, R: Rooms<T>>(rooms: &mut R, run: &mut Run<'_, T>) -> Result<Option<Plan<T>>, Error> {
    let config = run.config;
    let mut plan = Plan {
        learning_rate: config.learning_rate,
        momentum: config.momentum,
        weight_decay: config.weight_decay,
        shrink: T::ONE,
    };
    let (mut length, mut agreement, mut velocity_length, mut safe) = (T::ZERO, T::ZERO, T::ZERO, true);
    let (mut outputs, mut parameters) = (0, 0);
    let share = run.progress.share(config.scalings.decay(run.batch));
    // A turn keeps the sum of S, so that its mean moves only with the statistics, or where a refresh replaces S.
    let replaced = config.refresh.carry() == Carry::Reset;
    let moved = replaced || !run.measured.is_empty() || !config.estimator.is_per_example();
    // With the other statistics, one example at a time only now and then.
    let with_reach = config.reach.is_some() && !run.measured.is_empty();
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        let shape = room.shape();
        let known = !moved && room.marks().noted_mean_scaling() > T::ZERO;
        if config.damping.uses_mean() && !known {
            let mean = room.mean_scaling();
            room.marks().note_mean_scaling(mean);
            run.counted.add(shape.parameters());
        }
        let damping = damping_of(room, config, run.progress);
        let survey = room.survey(&run.counted, damping);
        // Unshrunk, so a clip can only make it safer.
        safe &= survey.is_safe(&plan, &shape);
        length += survey.length;
        agreement += survey.agreement;
        velocity_length += survey.velocity_length;
        outputs = shape.rows();
        parameters += shape.parameters();
        run.counted.add(SURVEY * shape.parameters());
        if with_reach {
            room.marks().note_reach(survey.reach, share);
            run.counted.add(2 * shape.parameters());
        }
    }
    let mut judged = length.sqrt();
    run.progress.note_length(judged, share);
    // A loss below zero (targets that are no probabilities) leaves no budget, and no root of a negative number.
    let share_of_loss =
        |share: T| (share * T::from_usize(run.batch) * run.progress.mean_loss).maximum(T::ZERO);
    let budget = match config.clip {
        Clip::None => None,
        Clip::Fixed(r) => Some(r),
        Clip::PerExample(kappa) => Some(kappa * T::from_usize(run.batch)),
        Clip::ShareOfLoss(share) => Some(share_of_loss(share)),
        Clip::PerParameter(kappa) => {
            judged = run.progress.mean_length.maximum(judged / T::from_f64(3.0));
            Some(share_of_loss(kappa * T::from_usize(outputs) / T::from_usize(parameters)))
        }
    };
    if let Some(budget) = budget {
        let stride = config.learning_rate * judged;
        if stride * stride > budget {
            plan.shrink = budget.sqrt() / stride;
        }
    }
    if config.restart && agreement < T::ZERO {
        // Both roots on their own: the product of the squares could overflow.
        let cosine = agreement / (length.sqrt() * velocity_length.sqrt());
        // A length beyond the range gives no number; the opposed velocity then stops.
        plan.momentum *= if cosine >= -T::ONE { T::ONE + cosine } else { T::ZERO };
    }
    Ok(if safe && length.is_finite() { Some(plan) } else { None })
}
