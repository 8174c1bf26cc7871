//! The corridor: it alone knows the order of an EKFAC step.
//!
//! ```text
//! gate -> project -> factors -> refresh -> scalings -> precondition -> clip -> apply
//! ```
//!
//! The basis is refreshed *before* S is measured in it, and S is measured before it divides (George et al. 2018,
//! Algorithm 1). *Invariant*: the step is transactional. All layers pass the gate before the first word of state changes; a
//! refused batch leaves every byte as it was; a step that would overflow changes no weight.
//! *Cost* for a layer and a batch of N: projections 2 N (n^2 + 2 m^2), factors N (n^2 + m^2), S and K 4 N m n,
//! precondition and apply 2 m n (m + n); the refresh as in [`jacobi`](crate::jacobi). *Failure*: [`Outcome::Skipped`] for bad data,
//! [`Outcome::Degraded`] for a solve that hit its cap, [`Error::RefreshFailed`] after more than
//! [`MAX_FAILED_REFRESHES`] of these in a row.

use crate::{
    Blend, Carry, Clip, Config, Error, Estimator, LayerMut, MatrixMut, MatrixRef, Outcome, Progress, Reason,
    Scalar, guard,
    jacobi::Report,
    kernels::Counted,
    precondition::{self, Gradient, Plan},
    scalings,
};

/// So many refreshes in a row may fail to converge.
pub const MAX_FAILED_REFRESHES: u32 = 3;

/// All that one layer brings to a step with N examples: one column an example.
pub(crate) struct Room<'a, T> {
    pub(crate) layer: LayerMut<'a, T>,
    /// W, m x n; empty when only statistics are taken.
    pub(crate) weights: &'a mut [T],
    /// inputs x N.
    pub(crate) activations: &'a [T],
    /// m x N, for the training targets.
    pub(crate) gradients: &'a [T],
    /// m x N, for the Fisher's targets.
    pub(crate) fisher_gradients: &'a [T],
    /// n x N.
    pub(crate) projected_activations: &'a mut [T],
    /// m x N.
    pub(crate) projected_gradients: &'a mut [T],
    /// K, m x n, or empty for one example.
    pub(crate) mean_gradient: &'a mut [T],
    /// At least 2 max(m, n) words; m n as well for a batch.
    pub(crate) scratch: &'a mut [T],
}

/// The layers of a step, and the passes that give their Fisher gradients.
pub(crate) trait Rooms<T: Scalar> {
    /// Number of layers.
    fn layers(&self) -> usize;
    /// The room of one layer.
    fn room(&mut self, layer: usize) -> Result<Room<'_, T>, Error>;
    /// Passes over which the Fisher gradients come; 1 unless the Fisher is exact.
    fn passes(&self) -> usize;
    /// Whether the Fisher gradients are the training gradients.
    fn is_empirical(&self) -> bool;
    /// Fills the Fisher gradients of all layers with those of one pass. Writes no state.
    fn load(&mut self, pass: usize) -> Result<(), Error>;
}

/// What a step is run with.
pub(crate) struct Run<'a, T> {
    pub(crate) config: &'a Config<T>,
    pub(crate) counted: Counted<'a, T>,
    pub(crate) progress: &'a mut Progress<T>,
    pub(crate) batch: usize,
}

/// What a step did besides its [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Taken<T> {
    pub(crate) outcome: Outcome,
    /// nu, by which the clip shortened the step; 1 when it did not.
    pub(crate) shrink: T,
    /// The change of the loss that the quadratic model predicts.
    pub(crate) predicted: T,
}

impl<'a, T: Scalar> Room<'a, T> {
    pub(crate) fn reborrow(&mut self) -> Room<'_, T> {
        Room {
            layer: self.layer.reborrow(),
            weights: self.weights,
            activations: self.activations,
            gradients: self.gradients,
            fisher_gradients: self.fisher_gradients,
            projected_activations: self.projected_activations,
            projected_gradients: self.projected_gradients,
            mean_gradient: self.mean_gradient,
            scratch: self.scratch,
        }
    }

    fn check(&self, layer: usize, batch: usize, with_fisher: bool) -> Result<(), Reason> {
        let limit = guard::limit(self.layer.shape(), batch);
        let fisher = if with_fisher { self.fisher_gradients } else { &[] };
        let arguments =
            [("activations", self.activations), ("gradients", self.gradients), ("Fisher gradients", fisher)];
        for (argument, values) in arguments {
            if let Some(index) = guard::first_beyond(values, limit) {
                let finite = values.get(index).is_some_and(|value| value.is_finite());
                return Err(if finite {
                    Reason::TooLarge { layer, argument, index }
                } else {
                    Reason::NonFinite { layer, argument, index }
                });
            }
        }
        match guard::first_non_finite(self.weights) {
            Some(index) => Err(Reason::NonFinite { layer, argument: "weights", index }),
            None => Ok(()),
        }
    }

    fn project_activations(&mut self, counted: &mut Counted<'_, T>, batch: usize) {
        let activations = MatrixRef::over(self.activations, self.layer.shape().inputs(), batch);
        self.layer.input_factor().project(counted, activations, self.projected_activations);
    }

    fn project_gradients(&mut self, counted: &mut Counted<'_, T>, batch: usize, fisher: bool) {
        let gradients = if fisher { self.fisher_gradients } else { self.gradients };
        let gradients = MatrixRef::over(gradients, self.layer.shape().rows(), batch);
        self.layer.output_factor().project(counted, gradients, self.projected_gradients);
    }

    fn measure_scalings(&mut self, counted: &mut Counted<'_, T>, batch: usize, blend: Blend<T>) {
        let (m, n) = (self.layer.shape().rows(), self.layer.shape().columns());
        let gradients = MatrixRef::over(self.projected_gradients, m, batch);
        let activations = MatrixRef::over(self.projected_activations, n, batch);
        scalings::blend_examples(&mut self.layer, counted, gradients, activations, blend, self.scratch);
    }

    /// The layer, its K (a matrix, or the outer product of one example), its weights and its scratch, side by side.
    fn parts(&mut self) -> (&mut LayerMut<'a, T>, Gradient<'_, T>, &mut [T], &mut [T]) {
        let shape = *self.layer.shape();
        let gradient = if self.mean_gradient.is_empty() {
            Gradient::Outer { gradient: self.projected_gradients, activation: self.projected_activations }
        } else {
            Gradient::Matrix(MatrixRef::over(self.mean_gradient, shape.rows(), shape.columns()))
        };
        (&mut self.layer, gradient, self.weights, self.scratch)
    }

    /// K = (1/N) G~ A~^T, formed for a batch.
    fn form_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize) {
        if batch > 1 {
            let (m, n) = (self.layer.shape().rows(), self.layer.shape().columns());
            counted.product_right_transposed(
                MatrixMut::over(self.mean_gradient, m, n),
                MatrixRef::over(self.projected_gradients, m, batch),
                MatrixRef::over(self.projected_activations, n, batch),
                T::ONE / T::from_usize(batch),
                T::ZERO,
            );
        }
    }
}

/// Takes a batch into the statistics: everything up to and including S and K. A bad batch is the inner error.
pub(crate) fn observe<T: Scalar>(
    rooms: &mut dyn Rooms<T>,
    run: &mut Run<'_, T>,
) -> Result<Result<Outcome, Reason>, Error> {
    let config = run.config;
    let factors_due = run.progress.steps.is_multiple_of(u64::from(config.factor_period));
    let refresh_due = run.progress.steps.is_multiple_of(u64::from(config.refresh.period));
    let per_example = matches!(config.estimator, Estimator::PerExampleFresh | Estimator::PerExampleRunning);
    let with_fisher = factors_due || per_example;
    if let Err(reason) = gate(rooms, run.batch, with_fisher)? {
        return Ok(Err(reason));
    }
    project_activations(rooms, run, factors_due)?;
    // One pass leaves its projected gradients in the rooms, where they turn along with a refresh; several have to be
    // walked again to measure S in the new basis.
    let one_pass = rooms.passes() == 1;
    let mut scalings = if per_example { Some(scaling_decay(run, refresh_due)) } else { None };
    if with_fisher {
        let now = if refresh_due { None } else { scalings.take() };
        walk_fisher(rooms, run, Walk { project: true, factors: factors_due, scalings: now })?;
    }
    let outcome = if refresh_due { refresh_all(rooms, run)? } else { Outcome::Applied };
    if scalings.is_some() {
        walk_fisher(rooms, run, Walk { project: !one_pass, factors: false, scalings })?;
    }
    let projected = with_fisher && one_pass && rooms.is_empirical();
    form_gradients(rooms, run, refresh_due, !projected)?;
    Ok(Ok(outcome))
}

/// A whole step: [`observe`], then precondition, clip and apply.
pub(crate) fn step<T: Scalar>(rooms: &mut dyn Rooms<T>, run: &mut Run<'_, T>) -> Result<Taken<T>, Error> {
    let mut taken = Taken { outcome: Outcome::Applied, shrink: T::ONE, predicted: T::ZERO };
    taken.outcome = match observe(rooms, run)? {
        Ok(outcome) => outcome,
        Err(reason) => return Ok(Taken { outcome: Outcome::Skipped(reason), ..taken }),
    };
    let Some(plan) = plan(rooms, run)? else {
        return Ok(Taken { outcome: Outcome::Degraded(Reason::StepTooLarge), ..taken });
    };
    taken.shrink = plan.shrink;
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index)?;
        let (layer, k, weights, scratch) = room.parts();
        let damping = run.config.damping.of_layer(layer, run.progress.damping_multiplier);
        let model = precondition::accelerate(layer, k, damping, &plan, scratch);
        taken.predicted += model.slope + T::HALF * model.curvature;
        run.counted.add(10 * layer.shape().parameters());
        precondition::apply(layer, &mut run.counted, &plan, weights, scratch);
    }
    Ok(taken)
}

fn gate<T: Scalar>(
    rooms: &mut dyn Rooms<T>,
    batch: usize,
    with_fisher: bool,
) -> Result<Result<(), Reason>, Error> {
    let passes = if with_fisher { rooms.passes() } else { 1 };
    for pass in 0..passes {
        if with_fisher {
            rooms.load(pass)?;
        }
        for index in 0..rooms.layers() {
            if let Err(reason) = rooms.room(index)?.check(index, batch, with_fisher) {
                return Ok(Err(reason));
            }
        }
    }
    Ok(Ok(()))
}

/// Projects the activations of all layers and, if asked to, takes them into the input factors.
fn project_activations<T: Scalar>(
    rooms: &mut dyn Rooms<T>,
    run: &mut Run<'_, T>,
    into_factors: bool,
) -> Result<(), Error> {
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index)?;
        room.project_activations(&mut run.counted, run.batch);
        if into_factors {
            let share = room.layer.advance_factors(run.config.factors.decay(run.batch));
            let n = room.layer.shape().columns();
            let projected = MatrixRef::over(room.projected_activations, n, run.batch);
            let factor = room.layer.input_factor_mut();
            factor.observe(&mut run.counted, projected, Blend::Move(share), room.scratch);
        }
    }
    Ok(())
}

/// What a walk over the Fisher passes does with the gradients.
#[derive(Clone, Copy)]
struct Walk<T> {
    /// Loads and projects them; otherwise the rooms hold them projected.
    project: bool,
    /// Takes them into the output factors.
    factors: bool,
    /// Takes them into the scalings, with this weight for the old value.
    scalings: Option<T>,
}

fn walk_fisher<T: Scalar>(
    rooms: &mut dyn Rooms<T>,
    run: &mut Run<'_, T>,
    walk: Walk<T>,
) -> Result<(), Error> {
    let factor_decay = run.config.factors.decay(run.batch);
    for pass in 0..rooms.passes() {
        if walk.project {
            rooms.load(pass)?;
        }
        // Later passes are further terms of the same mean.
        let blend = |share| if pass == 0 { Blend::Move(share) } else { Blend::Add(share) };
        for index in 0..rooms.layers() {
            let mut room = rooms.room(index)?;
            if walk.project {
                room.project_gradients(&mut run.counted, run.batch, true);
            }
            if walk.factors {
                let projected =
                    MatrixRef::over(room.projected_gradients, room.layer.shape().rows(), run.batch);
                let blend = blend(room.layer.factor_share(factor_decay));
                let factor = room.layer.output_factor_mut();
                factor.observe(&mut run.counted, projected, blend, room.scratch);
            }
            if let Some(decay) = walk.scalings {
                if pass == 0 {
                    room.layer.advance_scalings(decay);
                }
                let blend = blend(room.layer.scaling_share(decay));
                room.measure_scalings(&mut run.counted, run.batch, blend);
            }
        }
    }
    Ok(())
}

/// Rotates every factor towards its eigenbasis; S and the velocity turn along.
fn refresh_all<T: Scalar>(rooms: &mut dyn Rooms<T>, run: &mut Run<'_, T>) -> Result<Outcome, Error> {
    let refresh = run.config.refresh;
    let mut outcome = Outcome::Applied;
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index)?;
        let layer = &mut room.layer;
        let reports = [
            layer.refresh_input(room.projected_activations, refresh.limits),
            layer.refresh_output(room.projected_gradients, refresh.limits),
        ];
        run.progress.rotations += reports.iter().map(|report| u64::from(report.rotations)).sum::<u64>();
        run.counted.add(rotation_operations(layer, &reports, run.batch));
        // A lower cap is a budget, not a failure; so is a loose threshold, under which the last pairs converge slowly.
        let complete = refresh.limits.sweeps >= T::SWEEP_LIMIT && refresh.limits.threshold <= T::EPSILON;
        let failed = complete && reports.iter().any(|report| !report.converged);
        layer.set_failed_refreshes(if failed { layer.failed_refreshes() + 1 } else { 0 });
        if failed {
            outcome = Outcome::Degraded(Reason::NotConverged { layer: index });
        }
        if layer.failed_refreshes() > MAX_FAILED_REFRESHES {
            return Err(Error::RefreshFailed { layer: index });
        }
        if refresh.carry == Carry::Reset {
            scalings::set_kronecker(layer);
            layer.fill_scaling_weight();
        }
    }
    Ok(outcome)
}

/// 6 operations a pair of words touched, in C, U, S, the velocity and the projections, and about 20 for the angle; 4 for
/// each pair checked.
fn rotation_operations<T: Scalar>(layer: &LayerMut<'_, T>, reports: &[Report<T>; 2], batch: usize) -> usize {
    let (m, n) = (layer.shape().rows(), layer.shape().columns());
    let side = |report: &Report<T>, size: usize, other: usize| {
        let words = 2 * size + 2 * other + batch;
        report.rotations as usize * (6 * words + 20) + report.sweeps as usize * 2 * size * (size - 1)
    };
    let [input, output] = reports;
    side(input, n, m) + side(output, m, n)
}

/// K of every layer, and the estimators of S that are made from it or from the factors.
fn form_gradients<T: Scalar>(
    rooms: &mut dyn Rooms<T>,
    run: &mut Run<'_, T>,
    refresh_due: bool,
    project: bool,
) -> Result<(), Error> {
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index)?;
        if project {
            room.project_gradients(&mut run.counted, run.batch, false);
        }
        room.form_gradient(&mut run.counted, run.batch);
        match run.config.estimator {
            Estimator::PerExampleFresh | Estimator::PerExampleRunning => {}
            Estimator::Kronecker => scalings::set_kronecker(&mut room.layer),
            Estimator::MeanGradientRunning => {
                let decay = scaling_decay(run, refresh_due);
                room.layer.advance_scalings(decay);
                let blend = Blend::Move(room.layer.scaling_share(decay));
                let (layer, k, _, scratch) = room.parts();
                scalings::blend_mean_gradient(layer, &mut run.counted, k, run.batch, blend, scratch);
            }
        }
    }
    Ok(())
}

/// The weight of the old scalings: none for a fresh S, nor at a refresh that rebuilds it.
fn scaling_decay<T: Scalar>(run: &Run<'_, T>, refresh_due: bool) -> T {
    let rebuilt = refresh_due && run.config.refresh.carry == Carry::Rebuild;
    if rebuilt || run.config.estimator == Estimator::PerExampleFresh {
        T::ZERO
    } else {
        run.config.scalings.decay(run.batch)
    }
}

/// The numbers of the step, or `None` if it would overflow. Looks at all layers, writes nothing.
fn plan<T: Scalar>(rooms: &mut dyn Rooms<T>, run: &mut Run<'_, T>) -> Result<Option<Plan<T>>, Error> {
    let config = run.config;
    let mut plan = Plan {
        learning_rate: config.learning_rate,
        momentum: config.momentum,
        weight_decay: config.weight_decay,
        shrink: T::ONE,
    };
    let (mut length, mut agreement, mut velocity_length, mut safe) = (T::ZERO, T::ZERO, T::ZERO, true);
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index)?;
        let (layer, k, weights, scratch) = room.parts();
        let damping = config.damping.of_layer(layer, run.progress.damping_multiplier);
        let survey = precondition::survey(layer, k, damping, weights, scratch);
        // Unshrunk, so a clip can only make it safer.
        safe &= survey.is_safe(&plan, layer.shape().parameters());
        length += survey.length;
        agreement += survey.agreement;
        velocity_length += survey.velocity_length;
        run.counted.add(10 * layer.shape().parameters());
    }
    let budget = match config.clip {
        Clip::None => None,
        Clip::Fixed(r) => Some(r),
        Clip::PerExample(kappa) => Some(kappa * T::from_usize(run.batch)),
        // A loss below zero (targets that are no probabilities) leaves no budget, and no root of a negative number.
        Clip::ShareOfLoss(share) => {
            Some((share * T::from_usize(run.batch) * run.progress.mean_loss).maximum(T::ZERO))
        }
    };
    if let Some(budget) = budget {
        let reach = config.learning_rate * length.sqrt();
        if reach * reach > budget {
            plan.shrink = budget.sqrt() / reach;
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
