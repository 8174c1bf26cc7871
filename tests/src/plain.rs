//! A third engine, on plain vectors: what it takes to write one, in less than two hundred lines, and the reference for the others.

use ekfac::Activation;
use ekfac_std::offload::engine::{
    Answer, Engine, Fault, Map, Measure, Operand, Question, ROTATION, Target, Turn, View, pair, sign,
};

/// The engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

fn at(view: View, i: usize, j: usize) -> usize {
    view.offset + i + j * view.stride
}

fn get(operand: &Operand<'_, Vec<f32>>, i: usize, j: usize) -> f32 {
    operand.buffer[at(operand.view, i, j)]
}

impl Engine for Plain {
    type Buffer = Vec<f32>;

    fn name(&self) -> String {
        "plain vectors".to_owned()
    }

    fn allocate(&mut self, words: usize) -> Result<Vec<f32>, Fault> {
        Ok(vec![0.0; words])
    }

    fn write(&mut self, into: &mut Vec<f32>, offset: usize, words: &[f32]) -> Result<(), Fault> {
        into[offset..offset + words.len()].copy_from_slice(words);
        Ok(())
    }

    fn read(&mut self, from: &Vec<f32>, offset: usize, words: &mut [f32]) -> Result<(), Fault> {
        words.copy_from_slice(&from[offset..offset + words.len()]);
        Ok(())
    }

    fn product(
        &mut self,
        out: Target<'_, Vec<f32>>,
        left: Operand<'_, Vec<f32>>,
        right: Operand<'_, Vec<f32>>,
        transposed: (bool, bool),
        (scale, keep): (f32, f32),
    ) -> Result<(), Fault> {
        let inner = if transposed.0 { left.view.rows } else { left.view.columns };
        for j in 0..out.view.columns {
            for i in 0..out.view.rows {
                let l = |k| if transposed.0 { get(&left, k, i) } else { get(&left, i, k) };
                let r = |k| if transposed.1 { get(&right, j, k) } else { get(&right, k, j) };
                let sum: f32 = (0..inner).map(|k| l(k) * r(k)).sum();
                let value = &mut out.buffer[at(out.view, i, j)];
                *value = scale * sum + if keep == 0.0 { 0.0 } else { keep * *value };
            }
        }
        Ok(())
    }

    fn map(
        &mut self,
        map: Map,
        out: Target<'_, Vec<f32>>,
        x: Operand<'_, Vec<f32>>,
        y: Operand<'_, Vec<f32>>,
    ) -> Result<(), Fault> {
        for j in 0..out.view.columns {
            for i in 0..out.view.rows {
                let value = &mut out.buffer[at(out.view, i, j)];
                let kept = |keep: f32, value: f32| if keep == 0.0 { 0.0 } else { keep * value };
                *value = match map {
                    Map::Sum { scale, keep } => kept(keep, *value) + scale * get(&x, i, j),
                    Map::Square { scale, keep } => kept(keep, *value) + scale * get(&x, i, j).powi(2),
                    Map::Quotient { scale, keep, add } => {
                        kept(keep, *value) + scale * (get(&x, i, j) / (get(&y, i, j) + add))
                    }
                    Map::Outer { rows, columns } => {
                        (get(&x, 0, i).max(0.0) + rows) * (get(&y, 0, j).max(0.0) + columns)
                    }
                    Map::Activate(activation) => Activation::value(activation, get(&x, i, j)),
                    Map::Derive(activation) => *value * activation.derivative(get(&x, i, j), get(&y, i, j)),
                    Map::Signs(seed) => sign(seed, (i + j * out.view.rows) as u32),
                };
            }
        }
        Ok(())
    }

    fn measure(&mut self, matrices: &[Operand<'_, Vec<f32>>]) -> Result<Vec<Measure>, Fault> {
        let measure = |x: &Operand<'_, Vec<f32>>| {
            let mut found = Measure::default();
            for (i, j) in (0..x.view.columns).flat_map(|j| (0..x.view.rows).map(move |i| (i, j))) {
                let value = get(x, i, j);
                found.sum += f64::from(value);
                found.squares += f64::from(value).powi(2);
                found.largest =
                    found.largest.max(if value.is_finite() { value.abs() } else { f32::INFINITY });
            }
            found
        };
        Ok(matrices.iter().map(measure).collect())
    }

    fn survey(&mut self, question: &Question<'_, Vec<f32>>) -> Result<Answer, Fault> {
        let (view, mut found) = (question.gradient.view, Answer::default());
        let larger = |most: &mut f32, value: f32| {
            *most = most.max(if value.is_finite() { value.abs() } else { f32::INFINITY });
        };
        for (i, j) in (0..view.columns).flat_map(|j| (0..view.rows).map(move |i| (i, j))) {
            let (k, v, a) =
                (get(&question.gradient, i, j), get(&question.velocity, i, j), get(&question.spectrum, 0, j));
            let below = get(&question.scalings, i, j) + question.damping;
            let d = k / below;
            found.length += f64::from(k) * f64::from(d);
            found.agreement += f64::from(k) * f64::from(v);
            found.velocity_length += f64::from(below) * f64::from(v).powi(2);
            found.spread += f64::from(a.max(0.0)) * f64::from(d).powi(2);
            larger(&mut found.largest_direction, d);
            larger(&mut found.largest_velocity, v);
            larger(&mut found.largest_weight, get(&question.weights, i, j));
        }
        Ok(found)
    }

    fn rotations(
        &mut self,
        rotations: &mut Vec<f32>,
        matrix: &Vec<f32>,
        turn: Turn,
        (threshold, floor): (f32, f32),
    ) -> Result<(), Fault> {
        for index in 0..turn.size.div_ceil(2) {
            let words = &mut rotations[turn.offset + index * ROTATION..][..ROTATION];
            words.fill(0.0);
            let Some((p, q)) = pair(turn.size, turn.round, index) else { continue };
            let c = |i: usize, j: usize| matrix[i + j * turn.size];
            let (pp, qq, pq) = (c(p, p), c(q, q), c(p, q));
            if pq.abs() > floor && pq.abs() > threshold * pp.max(0.0).sqrt() * qq.max(0.0).sqrt() {
                let theta = 0.5 * ((qq - pp) / pq);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                words.copy_from_slice(&[tangent * cosine, tangent * cosine / (1.0 + cosine), 1.0]);
            }
        }
        Ok(())
    }

    fn turn(&mut self, matrix: Target<'_, Vec<f32>>, rotations: &Vec<f32>, turn: Turn) -> Result<(), Fault> {
        let view = matrix.view;
        for (turn, index) in turn.each().flat_map(|turn| (0..turn.size.div_ceil(2)).map(move |i| (turn, i))) {
            let Some((p, q)) = pair(turn.size, turn.round, index) else { continue };
            let [sine, ratio, _] = rotations[turn.offset + index * ROTATION..][..ROTATION] else { continue };
            for other in 0..if turn.columns { view.rows } else { view.columns } {
                let place = |line| if turn.columns { at(view, other, line) } else { at(view, line, other) };
                let (x, y) = (matrix.buffer[place(p)], matrix.buffer[place(q)]);
                let turned = if turn.moments {
                    let moved = sine * sine * (x - y);
                    (x - moved, y + moved)
                } else {
                    (x - sine * (y + ratio * x), y + sine * (x - ratio * y))
                };
                (matrix.buffer[place(p)], matrix.buffer[place(q)]) = turned;
            }
        }
        Ok(())
    }
}
