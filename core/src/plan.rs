//! The numbers of a step: a look at all layers, and the plan that is made of it.
//!
//! ```text
//! survey of each layer -> sum K . D, sum K . velocity -> nu by the clip and the annealing, mu by the restart
//! ```
//!
//! *Invariant*: no weight and no velocity is written; only the mean of S, the running means of the reach, of the length
//! and of the cosine, and the annealing.
//! *Cost*: a survey of every layer. *Failure*: no plan where a step would overflow.

use crate::{
    Carry, Clip, Config, Error, Progress, Scalar,
    annealing::anneal,
    config::Known,
    damping::{self, LayerDamping},
    precondition::Plan,
    single::built,
    step::{Rooms, Run, SURVEY, Stages, opened},
    survey::Survey,
};

/// The damping of a layer, with the mean of S that was noted last ([`Marks::note_mean_scaling`](crate::marks::Marks::note_mean_scaling)).
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

/// What all layers say before the step.
struct Look<T> {
    length: T,
    agreement: T,
    velocity_length: T,
    /// Whether no weight and no velocity would overflow.
    safe: bool,
    /// Of the net.
    outputs: usize,
    /// Of the net.
    parameters: usize,
}

impl<T: Scalar> Look<T> {
    /// Before the first layer.
    fn new() -> Self {
        Self {
            length: T::ZERO,
            agreement: T::ZERO,
            velocity_length: T::ZERO,
            safe: true,
            outputs: 0,
            parameters: 0,
        }
    }
}

/// The weight of this step in the running means of its length and of the reach.
fn share_of_step<T: Scalar>(run: &Run<'_, T>) -> T {
    run.progress.share(run.config.scalings.decay(built(run.batch)))
}

/// Looks at all layers, and makes the plan of the step, or none if it would overflow. Writes nothing but the mean of S and the running
/// means of the reach and of the length.
#[inline(never)]
pub(crate) fn plan<T: Scalar, R: Rooms<T>>(
    rooms: &mut R,
    run: &mut Run<'_, T>,
) -> Result<Option<Plan<T>>, Error> {
    let mut look = Look::new();
    let config = run.config;
    // A turn keeps the sum of S, so that its mean moves only with the statistics, or where a refresh replaces S.
    let replaced = config.refresh.carry() == Carry::Reset;
    let moved = replaced || !run.measured.is_empty() || !config.estimator.is_per_example();
    // With the other statistics, one example at a time only now and then.
    let with_reach = config.reach.is_some() && !run.measured.is_empty();
    for index in 0..rooms.layers() {
        let mut room = rooms.room(index);
        let room = opened(&mut room)?;
        let known = !moved && room.marks().noted_mean_scaling() > T::ZERO;
        if config.damping.uses_mean() && !known {
            let mean = room.mean_scaling(&run.counted);
            room.marks().note_mean_scaling(mean);
            run.counted.add(room.shape().parameters_held());
        }
        let damping = damping_of(room, config, run.progress);
        let survey = room.survey(&run.counted, damping);
        note_survey(room, run, &survey, with_reach, &mut look);
    }
    Ok(settle(run, &look))
}

/// Adds the survey of a layer to the look at all.
#[inline(never)]
fn note_survey<T: Scalar>(
    room: &mut impl Stages<T>,
    run: &mut Run<'_, T>,
    survey: &Survey<T>,
    with_reach: bool,
    look: &mut Look<T>,
) {
    let shape = room.shape();
    // Unshrunk, so a clip can only make it safer.
    look.safe &= survey.is_safe(&unshrunk(run.config), &shape);
    look.length += survey.length;
    look.agreement += survey.agreement;
    look.velocity_length += survey.velocity_length;
    look.outputs = shape.rows();
    look.parameters += shape.parameters_held();
    run.counted.add(SURVEY * shape.parameters_held());
    if with_reach {
        room.marks().note_reach(survey.reach, share_of_step(run));
        run.counted.add(2 * shape.parameters_held());
    }
}

/// The step that nothing shortens.
fn unshrunk<T: Scalar>(config: &Config<T>) -> Plan<T> {
    Plan {
        learning_rate: config.learning_rate,
        momentum: config.momentum,
        weight_decay: config.weight_decay,
        shrink: T::ONE,
    }
}

/// The numbers of the step, or `None` if it would overflow. Notes the running mean of the length.
#[inline(never)]
fn settle<T: Scalar>(run: &mut Run<'_, T>, look: &Look<T>) -> Option<Plan<T>> {
    let config = run.config;
    let mut plan = unshrunk(config);
    let Look { length, agreement, velocity_length, .. } = *look;
    let mut judged = length.sqrt();
    let share = share_of_step(run);
    run.progress.note_length(judged, share);
    // A loss below zero (targets that are no probabilities) leaves no budget, and no root of a negative number.
    let share_of_loss =
        |share: T| (share * T::from_usize(built(run.batch)) * run.progress.mean_loss).maximum(T::ZERO);
    let budget = match config.clip {
        Clip::None => None,
        Clip::Fixed(r) => Some(r),
        Clip::PerExample(kappa) => Some(kappa * T::from_usize(built(run.batch))),
        Clip::ShareOfLoss(share) => Some(share_of_loss(share)),
        Clip::PerParameter(kappa) => {
            judged = run.progress.mean_length.maximum(judged / T::from_f64(3.0));
            Some(share_of_loss(kappa * T::from_usize(look.outputs) / T::from_usize(look.parameters)))
        }
    };
    if let Some(budget) = budget {
        let stride = config.learning_rate * judged;
        if stride * stride > budget {
            plan.shrink = budget.sqrt() / stride;
        }
    }
    // Both roots on their own: the product of the squares could overflow.
    let cosine = agreement / (length.sqrt() * velocity_length.sqrt());
    plan.shrink *= anneal(run.progress, config, built(run.batch), cosine, plan.shrink);
    if config.restart && agreement < T::ZERO {
        // A length beyond the range gives no number; the opposed velocity then stops.
        plan.momentum *= if cosine >= -T::ONE { T::ONE + cosine } else { T::ZERO };
    }
    if look.safe && length.is_finite() { Some(plan) } else { None }
}
