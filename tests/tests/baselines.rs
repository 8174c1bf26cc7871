//! The baselines against closed forms and a slow `f64` SOAP written from the paper.
//!
//! Each test names the mutants that it catches.

use ekfac_std::baselines::{
    AdamW, AdamWSettings, Baseline, BaselineError, SgdMomentum, SgdMomentumSettings, Soap, SoapSettings,
};
use nalgebra::DMatrix;

/// Uniform numbers in `[-1, 1)` from the SplitMix64 sequence.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn list(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.next() as f32).collect()
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> DMatrix<f64> {
        DMatrix::from_fn(rows, columns, |_, _| self.next())
    }
}

fn one_step(optimiser: &mut dyn Baseline, weight: &mut [f32], gradient: &[f32]) {
    optimiser.step(&mut [weight], &[gradient]).expect("accepted arguments");
}

fn assert_close(got: &[f32], expected: &[f64], limit: f64) {
    assert_eq!(got.len(), expected.len());
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let difference = (f64::from(got) - expected).abs();
        assert!(difference <= limit * expected.abs().max(1.0), "entry {index}: {got} against {expected}");
    }
}

/// Mutants: momentum on the decayed velocity only, decay outside the velocity, sign of the step.
#[test]
fn sgd_follows_the_heavy_ball_recurrence() {
    let settings = SgdMomentumSettings { learning_rate: 0.1, momentum: 0.8, weight_decay: 0.25 };
    let mut optimiser = SgdMomentum::new(&[(2, 1)], settings).expect("settings");
    let mut weight = [1.0_f32, -2.0];
    // By hand: v1 = g + w/4, w1 = w - v1/10, v2 = 0.8 v1 + g + w1/4, w2 = w1 - v2/10.
    one_step(&mut optimiser, &mut weight, &[0.5, 1.0]);
    assert_close(&weight, &[0.925, -2.05], 1e-6);
    one_step(&mut optimiser, &mut weight, &[0.5, 1.0]);
    assert_close(&weight, &[0.791_875, -2.138_75], 1e-6);
    assert_eq!(optimiser.operations(), 2 * 2 * 6);
    assert_eq!(optimiser.state_words(), 2);
}

/// The closed form of Adam's moments, `m_t = (1 − β) Σ β^(t−s) g_s`, in `f64`.
fn adam_closed_form(settings: AdamWSettings, start: f64, gradients: &[f64]) -> f64 {
    let moment = |beta: f64, step: usize, power: i32| {
        let terms = gradients[..step].iter().enumerate();
        let sum: f64 = terms.map(|(s, g)| beta.powi((step - 1 - s) as i32) * g.powi(power)).sum();
        (1.0 - beta) * sum / (1.0 - beta.powi(step as i32))
    };
    let (rate, decay) = (f64::from(settings.learning_rate), f64::from(settings.weight_decay));
    let (beta1, beta2) = (f64::from(settings.beta1), f64::from(settings.beta2));
    (1..=gradients.len()).fold(start, |w, step| {
        let direction =
            moment(beta1, step, 1) / (moment(beta2, step, 2).sqrt() + f64::from(settings.epsilon));
        w - rate * (direction + decay * w)
    })
}

/// Mutants: a bias correction missing or swapped, ε inside the root, decay coupled to the moments.
#[test]
fn adamw_follows_its_closed_form() {
    let settings = AdamWSettings {
        learning_rate: 0.05,
        weight_decay: 0.1,
        epsilon: 0.01,
        beta2: 0.99,
        ..AdamWSettings::default()
    };
    let mut optimiser = AdamW::new(&[(1, 2)], settings).expect("settings");
    let mut numbers = Uniform(7);
    let mut weight = [0.5_f32, -1.5];
    let mut history = [Vec::new(), Vec::new()];
    for _ in 0..12 {
        let gradient = [numbers.next() as f32, 1e-2 * numbers.next() as f32];
        history.iter_mut().zip(gradient).for_each(|(list, g)| list.push(f64::from(g)));
        one_step(&mut optimiser, &mut weight, &gradient);
        let expected =
            [adam_closed_form(settings, 0.5, &history[0]), adam_closed_form(settings, -1.5, &history[1])];
        assert_close(&weight, &expected, 5e-6);
    }
    assert_eq!(optimiser.operations(), 12 * 2 * 15);
}

/// SOAP in `f64`, straight from algorithm 3: the first moment stays in parameter coordinates.
struct SlowSoap {
    settings: SoapSettings,
    factors: [DMatrix<f64>; 2],
    bases: [DMatrix<f64>; 2],
    first: DMatrix<f64>,
    second: DMatrix<f64>,
    step: i32,
}

fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

impl SlowSoap {
    fn start(settings: SoapSettings, gradient: &DMatrix<f64>) -> Self {
        let share = 1.0 - f64::from(settings.shampoo_beta);
        let factors = [gradient * gradient.transpose() * share, gradient.transpose() * gradient * share];
        let bases = factors.clone().map(|factor| {
            let eigen = factor.symmetric_eigen();
            let order = descending(eigen.eigenvalues.as_slice());
            eigen.eigenvectors.select_columns(&order)
        });
        let zero = DMatrix::zeros(gradient.nrows(), gradient.ncols());
        Self { settings, factors, bases, first: zero.clone(), second: zero, step: 0 }
    }

    fn step(&mut self, weight: &mut DMatrix<f64>, gradient: &DMatrix<f64>) {
        self.step += 1;
        let [beta1, beta2, share] =
            [self.settings.beta1, self.settings.beta2, self.settings.shampoo_beta].map(f64::from);
        let [left, right] = &self.bases;
        let projected = left.transpose() * gradient * right;
        self.first = &self.first * beta1 + gradient * (1.0 - beta1);
        self.second = &self.second * beta2 + projected.component_mul(&projected) * (1.0 - beta2);
        let first = left.transpose() * &self.first * right / (1.0 - beta1.powi(self.step));
        let second = &self.second / (1.0 - beta2.powi(self.step));
        let direction = first.zip_map(&second, |m, v| m / (v.sqrt() + f64::from(self.settings.epsilon)));
        *weight -= left * direction * right.transpose() * f64::from(self.settings.learning_rate);
        let grams = [gradient * gradient.transpose(), gradient.transpose() * gradient];
        for (factor, gram) in self.factors.iter_mut().zip(grams) {
            *factor = &*factor * share + gram * (1.0 - share);
        }
        if (self.step as u64).is_multiple_of(self.settings.precondition_frequency) {
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        let orders = [0, 1].map(|side| {
            let (factor, basis) = (&self.factors[side], &self.bases[side]);
            let estimates = (basis.transpose() * factor * basis).diagonal();
            let order = descending(estimates.as_slice());
            self.bases[side] = (factor * basis.select_columns(&order)).qr().q();
            order
        });
        self.second = self.second.select_rows(&orders[0]).select_columns(&orders[1]);
    }
}

/// Mutants: left and right bases swapped, a transpose lost, no permutation of the second moment, the
/// first moment left in the old basis, factors averaged before the step, refresh one step early.
#[test]
fn soap_follows_the_slow_soap() {
    let settings = SoapSettings { precondition_frequency: 3, learning_rate: 0.05, ..Default::default() };
    let mut numbers = Uniform(11);
    let order = 5;
    let scales = DMatrix::from_fn(order, order, |i, j| 1.0 / ((1 + i) * (1 + 2 * j)) as f64);
    let mut draw = || {
        let drawn = numbers.matrix(order, order).component_mul(&scales);
        drawn.map(|value| f64::from(value as f32))
    };
    let narrow = |matrix: &DMatrix<f64>| matrix.iter().map(|&value| value as f32).collect::<Vec<_>>();
    let (mut expected, first) = (draw(), draw());
    let mut weight = narrow(&expected);
    let mut optimiser = Soap::new(&[(order, order)], settings).expect("settings");
    one_step(&mut optimiser, &mut weight, &narrow(&first));
    assert_eq!(weight, narrow(&expected), "the first step moves no weight");
    let mut slow = SlowSoap::start(settings, &first);
    for _ in 0..20 {
        let gradient = draw();
        slow.step(&mut expected, &gradient);
        one_step(&mut optimiser, &mut weight, &narrow(&gradient));
        assert_close(&weight, expected.as_slice(), 2e-4);
    }
}

fn orthogonal(numbers: &mut Uniform, order: usize) -> DMatrix<f64> {
    numbers.matrix(order, order).qr().q()
}

/// `U diag(1 … 1/condition) Uᵀ`, log-spaced.
fn curvature(numbers: &mut Uniform, order: usize, condition: f64) -> DMatrix<f64> {
    let basis = orthogonal(numbers, order);
    let exponent = |i: usize| -(i as f64) / (order - 1) as f64;
    let values =
        DMatrix::from_fn(order, order, |i, j| if i == j { condition.powf(exponent(i)) } else { 0.0 });
    &basis * values * basis.transpose()
}

/// Loss `½ ⟨W, A W B⟩` after `steps` steps with a rate that falls linearly to zero.
fn quadratic_loss(
    mut optimiser: impl Baseline,
    a: &DMatrix<f64>,
    b: &DMatrix<f64>,
    start: &DMatrix<f64>,
    steps: usize,
) -> f64 {
    let rate = optimiser.learning_rate();
    let mut weight: Vec<f32> = start.iter().map(|&value| value as f32).collect();
    let widen = |weight: &[f32]| {
        let values = weight.iter().map(|&value| f64::from(value));
        DMatrix::from_iterator(start.nrows(), start.ncols(), values)
    };
    for step in 0..steps {
        let gradient: Vec<f32> = (a * widen(&weight) * b).iter().map(|&value| value as f32).collect();
        let left = 1.0 - step as f32 / steps as f32;
        optimiser.set_learning_rate(rate * left).expect("a finite rate");
        one_step(&mut optimiser, &mut weight, &gradient);
    }
    let weight = widen(&weight);
    0.5 * weight.dot(&(a * &weight * b))
}

/// Mutants: the direction not projected back, the power step applied to the wrong basis.
#[test]
fn soap_beats_adamw_on_a_rotated_quadratic() {
    let mut numbers = Uniform(3);
    let (a, b) = (curvature(&mut numbers, 12, 300.0), curvature(&mut numbers, 8, 300.0));
    let start = numbers.matrix(12, 8);
    let shapes = [(12, 8)];
    let best = |losses: [f64; 4]| losses.into_iter().fold(f64::INFINITY, f64::min);
    let rates = [0.003, 0.01, 0.03, 0.1];
    let adamw = best(rates.map(|learning_rate| {
        let settings = AdamWSettings { learning_rate, beta1: 0.95, beta2: 0.95, ..Default::default() };
        quadratic_loss(AdamW::new(&shapes, settings).expect("settings"), &a, &b, &start, 300)
    }));
    let soap = best(rates.map(|learning_rate| {
        let settings = SoapSettings { learning_rate, ..Default::default() };
        quadratic_loss(Soap::new(&shapes, settings).expect("settings"), &a, &b, &start, 300)
    }));
    assert!(soap <= 0.1 * adamw, "SOAP {soap:e}, AdamW {adamw:e}");
}

/// Mutants: the product `F Q` taken as the basis without QR; QR on a basis that lost columns.
#[test]
fn soap_bases_stay_orthogonal() {
    let settings = SoapSettings { precondition_frequency: 1, ..Default::default() };
    let mut optimiser = Soap::new(&[(40, 3), (1, 17)], settings).expect("settings");
    let mut numbers = Uniform(5);
    let (mut tall, mut wide) = (numbers.list(120), numbers.list(17));
    for step in 0..100 {
        // Every fourth gradient is zero, and every one is of low rank.
        let scale = if step % 4 == 0 { 0.0 } else { 10.0_f32.powi(step % 7 - 9) };
        let gradient: Vec<f32> = numbers.list(120).iter().map(|value| value * scale).collect();
        let other = numbers.list(17);
        optimiser.step(&mut [&mut tall, &mut wide], &[&gradient, &other]).expect("accepted");
    }
    let defect = optimiser.orthogonality_defect();
    assert!(defect <= 1e-5, "defect {defect:e}");
    assert!(tall.iter().chain(&wide).all(|value| value.is_finite()));
}

/// Mutants: no scaling before the eigendecomposition, an absolute threshold anywhere.
#[test]
fn soap_is_blind_to_the_scale_of_the_loss() {
    let order = 130;
    let settings = SoapSettings { precondition_frequency: 2, epsilon: 1e-30, ..Default::default() };
    let run = |scale: f32| {
        let mut optimiser = Soap::new(&[(order, order)], settings).expect("settings");
        let mut numbers = Uniform(9);
        let mut weight = vec![0.0; order * order];
        for _ in 0..6 {
            let gradient: Vec<f32> = numbers.list(order * order).iter().map(|g| g * scale).collect();
            one_step(&mut optimiser, &mut weight, &gradient);
        }
        let defect = optimiser.orthogonality_defect();
        assert!(defect <= 1e-5, "defect {defect:e} at scale {scale:e}");
        weight
    };
    let plain = run(1.0);
    let largest = plain.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    assert!(largest >= 1e-3);
    for exponent in [-40, 30] {
        assert!(run(2.0_f32.powi(exponent)) == plain, "scale 2^{exponent}");
    }
}

/// Mutants: a basis on a side that `max_dimension` excludes, a bias correction counted from the
/// skipped step, decay or rate used differently from `AdamW`.
#[test]
fn soap_without_bases_is_adamw_one_step_later() {
    let settings = SoapSettings { max_dimension: 2, weight_decay: 0.1, ..Default::default() };
    let adamw = AdamWSettings {
        learning_rate: settings.learning_rate,
        beta1: settings.beta1,
        beta2: settings.beta2,
        epsilon: settings.epsilon,
        weight_decay: settings.weight_decay,
    };
    let mut numbers = Uniform(13);
    let mut soap = Soap::new(&[(4, 3)], settings).expect("settings");
    let mut adamw = AdamW::new(&[(4, 3)], adamw).expect("settings");
    let start = numbers.list(12);
    let (mut left, mut right) = (start.clone(), start);
    one_step(&mut soap, &mut left, &numbers.list(12));
    for _ in 0..25 {
        let gradient = numbers.list(12);
        one_step(&mut soap, &mut left, &gradient);
        one_step(&mut adamw, &mut right, &gradient);
    }
    assert_eq!(left, right);
    assert_eq!(soap.operations(), adamw.operations());
}

/// Mutants: the second moment mixed by a change of basis that is only a signed permutation.
#[test]
fn soap_on_an_axis_aligned_column_is_adamw() {
    let settings = SoapSettings { precondition_frequency: 1, ..Default::default() };
    let mut soap = Soap::new(&[(3, 1)], settings).expect("settings");
    let adamw = AdamWSettings {
        learning_rate: settings.learning_rate,
        beta1: settings.beta1,
        beta2: settings.beta2,
        ..Default::default()
    };
    let mut adamw = AdamW::new(&[(3, 1)], adamw).expect("settings");
    let (mut left, mut right) = (vec![0.0_f32; 3], vec![0.0_f32; 3]);
    one_step(&mut soap, &mut left, &[0.0, 2.0, 0.0]);
    for step in 0..30 {
        let mut gradient = [0.0; 3];
        gradient[step % 3] = 1.0 + step as f32;
        one_step(&mut soap, &mut left, &gradient);
        one_step(&mut adamw, &mut right, &gradient);
    }
    let expected: Vec<f64> = right.iter().map(|&value| f64::from(value)).collect();
    assert_close(&left, &expected, 1e-6);
}

/// The three optimisers for two layers, with warm state so that a stray write would show.
fn warm_optimisers() -> [Box<dyn Baseline>; 3] {
    let shapes = [(2, 3), (3, 1)];
    let mut all: [Box<dyn Baseline>; 3] = [
        Box::new(SgdMomentum::new(&shapes, SgdMomentumSettings::default()).expect("settings")),
        Box::new(AdamW::new(&shapes, AdamWSettings::default()).expect("settings")),
        Box::new(Soap::new(&shapes, SoapSettings::default()).expect("settings")),
    ];
    for optimiser in &mut all {
        for _ in 0..2 {
            let step = optimiser.step(&mut [&mut [1.0; 6], &mut [1.0; 3]], &[&[0.5; 6], &[0.25; 3]]);
            step.expect("accepted");
        }
    }
    all
}

/// Mutants: any check dropped or moved after the first layer's write.
#[test]
fn refused_arguments_leave_weights_and_state_alone() {
    let mut bad = [0.5_f32; 6];
    bad[4] = f32::NAN;
    let mut infinite = [0.5_f32; 3];
    infinite[2] = f32::NEG_INFINITY;
    for (index, mut optimiser) in warm_optimisers().into_iter().enumerate() {
        let (mut first, mut second) = ([1.5_f32; 6], [-0.5_f32; 3]);
        let mut refuse = |gradients: &[&[f32]]| {
            let error = optimiser.step(&mut [&mut first, &mut second], gradients).expect_err("refused");
            assert_eq!((first, second), ([1.5; 6], [-0.5; 3]), "{}", optimiser.name());
            error
        };
        let nan = refuse(&[&bad, &[0.5; 3]]);
        assert_eq!(nan, BaselineError::NotFinite { argument: "gradients", layer: 0, index: 4 });
        let late = refuse(&[&[0.5; 6], &infinite]);
        assert_eq!(late, BaselineError::NotFinite { argument: "gradients", layer: 1, index: 2 });
        let short = refuse(&[&[0.5; 6], &[0.5; 2]]);
        let expected = BaselineError::LayerLength { argument: "gradients", layer: 1, expected: 3, got: 2 };
        assert_eq!(short, expected);
        assert_eq!(short.to_string(), "`gradients[1]` holds 2 entries, but its shape has 3");
        let list = refuse(&[&[0.5; 6]]);
        assert_eq!(list, BaselineError::ListLength { argument: "gradients", expected: 2, got: 1 });
        let large = refuse(&[&[0.5; 6], &[2e19; 3]]);
        assert!(matches!(large, BaselineError::TooLarge { argument: "gradients", layer: 1, .. }));
        // The state is that of an optimiser that never saw the refused calls.
        optimiser.step(&mut [&mut first, &mut second], &[&[0.1; 6], &[0.2; 3]]).expect("accepted");
        let (mut other, mut rest) = ([1.5_f32; 6], [-0.5_f32; 3]);
        let mut untouched = warm_optimisers().into_iter().nth(index).expect("same list");
        untouched.step(&mut [&mut other, &mut rest], &[&[0.1; 6], &[0.2; 3]]).expect("accepted");
        assert_eq!((first, second), (other, rest), "{}", optimiser.name());
        assert_eq!(optimiser.operations(), untouched.operations());
    }
}

/// Mutants: weights not checked.
#[test]
fn weights_are_checked_too() {
    for mut optimiser in warm_optimisers() {
        let error = optimiser.step(&mut [&mut [f32::NAN; 6], &mut [0.0; 3]], &[&[0.5; 6], &[0.5; 3]]);
        let expected = BaselineError::NotFinite { argument: "weights", layer: 0, index: 0 };
        assert_eq!(error, Err(expected));
        let error = optimiser.step(&mut [&mut [0.0; 5], &mut [0.0; 3]], &[&[0.5; 6], &[0.5; 3]]);
        let expected = BaselineError::LayerLength { argument: "weights", layer: 0, expected: 6, got: 5 };
        assert_eq!(error, Err(expected));
    }
}

/// Mutants: a range check dropped, a NaN setting let through, a zero side or frequency accepted.
#[test]
fn settings_and_shapes_are_checked() {
    let name = |outcome: Option<BaselineError>| match outcome {
        Some(BaselineError::Setting { name, .. }) => name,
        other => panic!("not a setting: {other:?}"),
    };
    let sgd = |settings| SgdMomentum::new(&[(1, 1)], settings).err();
    let momentum = SgdMomentumSettings { momentum: 1.0, ..Default::default() };
    assert_eq!(name(sgd(momentum)), "momentum");
    let adamw = |settings| AdamW::new(&[(1, 1)], settings).err();
    let defaults = AdamWSettings::default();
    assert_eq!(name(adamw(AdamWSettings { learning_rate: f32::NAN, ..defaults })), "learning_rate");
    assert_eq!(name(adamw(AdamWSettings { epsilon: 0.0, ..defaults })), "epsilon");
    let soap = |settings| Soap::new(&[(1, 1)], settings).err();
    let defaults = SoapSettings::default();
    assert_eq!(name(soap(SoapSettings { shampoo_beta: -0.1, ..defaults })), "shampoo_beta");
    let frequency = SoapSettings { precondition_frequency: 0, ..defaults };
    assert_eq!(name(soap(frequency)), "precondition_frequency");
    for shape in [(0, 3), (3, 0), (usize::MAX, 2), (1 << 31, 1 << 31)] {
        let error = Soap::new(&[(2, 2), shape], defaults).err();
        let expected = BaselineError::Shape { layer: 1, rows: shape.0, columns: shape.1 };
        assert_eq!(error, Some(expected));
    }
    let mut optimiser = AdamW::new(&[(1, 1)], AdamWSettings::default()).expect("settings");
    assert_eq!(name(optimiser.set_learning_rate(f32::INFINITY).err()), "learning_rate");
    assert!(optimiser.learning_rate() == 1e-3);
}

/// Mutants: a phase left out of the count or counted at every step.
#[test]
fn soap_counts_the_documented_operations() {
    let (m, n, steps, frequency) = (6_u64, 4_u64, 7_u64, 3_u64);
    let settings = SoapSettings { precondition_frequency: frequency, ..Default::default() };
    let mut optimiser = Soap::new(&[(6, 4)], settings).expect("settings");
    let mut numbers = Uniform(17);
    let mut weight = numbers.list(24);
    for _ in 0..=steps {
        one_step(&mut optimiser, &mut weight, &numbers.list(24));
    }
    let averages = 2 * m * n * (m + n) + 2 * (m * m + n * n);
    let start = averages + 9 * (m.pow(3) + n.pow(3));
    let step = averages + 4 * m * n * (m + n) + 14 * m * n;
    let power = (14 * m.pow(3)).div_ceil(3) + (14 * n.pow(3)).div_ceil(3) + 2 * (m * m + n * n);
    let refresh = 4 * m * n * (m + n) + power;
    assert_eq!(optimiser.operations(), start + steps * step + (steps / frequency) * refresh);
    assert_eq!(optimiser.state_words() as u64, 2 * (m * n + m * m + n * n));
}
