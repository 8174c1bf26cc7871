//! Axes: the range that the data ask for, ticks at round numbers, and their labels.
//!
//! ```text
//! linear       u(v) = (v − a) / (b − a),           ticks k · {1, 2, 5} · 10ʲ
//! logarithmic  u(v) = (ln v − ln a) / (ln b − ln a), ticks {1, 2, 3, 5, 7} · 10ʲ or fewer
//! ```
//!
//! The round steps are those of Heckbert 1990 ("Nice numbers for graph labels", Graphics Gems).
//!
//! *Invariant.* `a < b`, both finite, and `a > 0` on a logarithmic axis, whatever the data; every
//! tick lies within `[a, b]`.
//!
//! *Cost.* One pass over the data; at most a few dozen ticks.
//!
//! *How it fails.* It does not: values outside [`drawable`] never reach an axis.

use super::Scale;

/// Whether a value has a place on an axis.
pub(super) fn drawable(scale: Scale, value: f64) -> bool {
    // Beyond 1e150 the differences and products of the layout would overflow.
    value.abs() <= 1e150 && (scale == Scale::Linear || value >= 1e-150)
}

/// The range shown on one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) scale: Scale,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Range {
    /// The range of drawable `values`; none when there is no value.
    pub(super) fn covering(scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let extremes = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), extremes);
        (low <= high).then(|| Self { scale, low, high }.widened())
    }

    /// A range of no width grows to both sides of its value.
    fn widened(self) -> Self {
        let Self { scale, low, high } = self;
        let close = high - low <= 1e-9 * low.abs().max(high.abs());
        match scale {
            Scale::Linear if low.abs().max(high.abs()) <= 1e-150 => Self { low: -1.0, high: 1.0, ..self },
            Scale::Linear if close => {
                let margin = 0.1 * low.abs().max(high.abs());
                Self { low: low - margin, high: high + margin, ..self }
            }
            Scale::Logarithmic if close => Self { low: low / 1.6, high: high * 1.6, ..self },
            _ => self,
        }
    }

    /// Room above and below the data; a linear range that nearly reaches zero starts there.
    pub(super) fn padded(self, share: f64) -> Self {
        match self.scale {
            Scale::Linear => {
                let margin = share * (self.high - self.low);
                let near_zero = self.low >= 0.0 && self.low <= 0.35 * self.high;
                let low = if near_zero { 0.0 } else { self.low - margin };
                Self { low, high: self.high + margin, ..self }
            }
            Scale::Logarithmic => {
                let factor = (share * (self.high.ln() - self.low.ln())).exp();
                Self { low: self.low / factor, high: self.high * factor, ..self }
            }
        }
    }

    /// The place of a value: 0 at the low end, 1 at the high end.
    pub(super) fn place(self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => {
                let low = self.low.ln();
                (value.max(f64::MIN_POSITIVE).ln() - low) / (self.high.ln() - low)
            }
        }
    }

    /// Labelled ticks, about `wanted` of them.
    pub(super) fn ticks(self, wanted: usize) -> Vec<Tick> {
        let decades = (self.high / self.low).log10();
        match self.scale {
            Scale::Logarithmic if decades >= 0.6 => self.logarithmic_ticks(decades, wanted),
            _ => self.linear_ticks(wanted),
        }
    }

    fn linear_ticks(self, wanted: usize) -> Vec<Tick> {
        let step = round_step((self.high - self.low) / wanted.max(1) as f64);
        let (first, last) = ((self.low / step - 1e-9).ceil(), (self.high / step + 1e-9).floor());
        let count = (last - first).clamp(0.0, 100.0) as usize;
        let values = (0..=count).map(|index| (first + index as f64) * step);
        values.map(|value| Tick { value, label: decimal_label(value, step) }).collect()
    }

    fn logarithmic_ticks(self, decades: f64, wanted: usize) -> Vec<Tick> {
        let wanted = wanted.max(2) as f64;
        let mantissas: &[f64] = match decades {
            d if 5.0 * d <= wanted => &[1.0, 2.0, 3.0, 5.0, 7.0],
            d if 3.0 * d <= wanted => &[1.0, 2.0, 5.0],
            d if 2.0 * d <= wanted => &[1.0, 3.0],
            _ => &[1.0],
        };
        let stride = if mantissas.len() > 1 { 1 } else { (decades / wanted).ceil().max(1.0) as i32 };
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let exponents = (first..=last).filter(|exponent| exponent.rem_euclid(stride) == 0);
        let all = exponents.flat_map(|exponent| mantissas.iter().map(move |&m| (m, exponent)));
        let plain = first >= -4 && last <= 5;
        let ticks = all.map(|(mantissa, exponent)| Tick {
            value: power_of_ten(mantissa, exponent),
            label: if plain { plain_label(mantissa, exponent) } else { power_label(mantissa, exponent) },
        });
        ticks.filter(|tick| (-1e-9..=1.0 + 1e-9).contains(&self.place(tick.value))).collect()
    }

    /// Unlabelled grid positions between the ticks of a logarithmic axis of few decades.
    pub(super) fn minor_ticks(self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        if self.scale == Scale::Linear || !(0.6..=5.0).contains(&decades) {
            return Vec::new();
        }
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let all =
            (first..=last).flat_map(|exponent| (1..10).map(move |m| power_of_ten(f64::from(m), exponent)));
        all.filter(|&value| (0.0..=1.0).contains(&self.place(value))).collect()
    }
}

/// A labelled position of an axis.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// `m · 10ᵉ` as the number that a reader would type.
fn power_of_ten(mantissa: f64, exponent: i32) -> f64 {
    format!("{mantissa}e{exponent}").parse().unwrap_or(mantissa * 10_f64.powi(exponent))
}

/// The smallest of `{1, 2, 5} · 10ʲ` that is at least `raw`.
fn round_step(raw: f64) -> f64 {
    let exponent = raw.log10().floor() as i32;
    let candidates = [(1.0, exponent), (2.0, exponent), (5.0, exponent), (1.0, exponent + 1)];
    let steps = candidates.map(|(mantissa, exponent)| power_of_ten(mantissa, exponent));
    steps.into_iter().find(|&step| step >= raw * 0.999).unwrap_or(steps[3])
}

/// A number of a linear axis with the decimals that its step needs.
fn decimal_label(value: f64, step: f64) -> String {
    let largest = value.abs().max(step);
    if value == 0.0 || value.abs() < 1e-9 * step {
        return "0".to_owned();
    }
    if largest >= 1e7 || step < 1e-5 {
        return short_number(value);
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    group_thousands(&format!("{value:.decimals$}").replace('-', "−"))
}

fn plain_label(mantissa: f64, exponent: i32) -> String {
    group_thousands(&format!("{}", power_of_ten(mantissa, exponent)))
}

fn power_label(mantissa: f64, exponent: i32) -> String {
    let power = format!("10{}", superscript(exponent));
    if mantissa == 1.0 { power } else { format!("{mantissa}×{power}") }
}

fn superscript(exponent: i32) -> String {
    let raise = |letter: char| match letter {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    };
    exponent.to_string().chars().map(raise).collect()
}

fn group_thousands(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let digits = number.chars().take_while(|letter| *letter != '.').filter(char::is_ascii_digit).count();
    if digits < 5 {
        return number.to_owned();
    }
    let mut grouped = String::new();
    let mut left = digits;
    for letter in number[..whole].chars() {
        grouped.push(letter);
        if letter.is_ascii_digit() {
            left -= 1;
            if left > 0 && left % 3 == 0 {
                grouped.push(',');
            }
        }
    }
    grouped + &number[whole..]
}

/// A number in at most four significant digits, for the end of a bar.
pub(super) fn short_number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if (1e-3..1e7).contains(&magnitude) {
        let decimals = (2.0 - magnitude.log10().floor()).clamp(0.0, 6.0) as usize;
        let text = format!("{value:.decimals$}");
        let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        return group_thousands(&text.replace('-', "−"));
    }
    let text = format!("{value:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.').replace('-', "−");
    format!("{mantissa}×10{}", superscript(exponent.parse().unwrap_or(0)))
}
