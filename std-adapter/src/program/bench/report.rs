//! What is left of a bench: the numbers of `bench.json`, tables and pictures.

use super::race::{Pair, Timed, Times};
use crate::{
    plot::{PlotError, bar_chart},
    profile::{Stage, StageTimes},
    program::text,
};
use serde::Serialize;
use std::time::Duration;

/// What was run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// The preset's name on the command line.
    pub(super) preset: String,
    /// Where the examples come from: `digits`, `MNIST` or `synthetic`.
    pub(super) data: &'static str,
    /// Examples in a batch.
    pub(super) batch: usize,
    /// Steps of each optimiser that were timed.
    pub(super) steps: usize,
    /// Steps before, which were not.
    pub(super) warm_up: usize,
    /// Threads that shared the products.
    pub(super) threads: usize,
}

/// `bench.json`: times in milliseconds, medians but for the worst; memory in 10^6 bytes.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    #[serde(flatten)]
    run: Run,
    sgd_step_ms: f64,
    ekfac_step_ms: f64,
    /// EKFAC's median over gradient descent's.
    ratio: f64,
    /// The same steps on one thread, in the same run, and how many times faster the threads are; `null` on one thread.
    sgd_one_thread_ms: Option<f64>,
    ekfac_one_thread_ms: Option<f64>,
    sgd_speedup: Option<f64>,
    ekfac_speedup: Option<f64>,
    /// The longest of EKFAC's steps.
    worst_step_ms: f64,
    /// The matrix products of a step of gradient descent at faer's rate on one thread, divided by the threads.
    arithmetic_ms: f64,
    /// Billions of operations a second in these products, on one thread.
    arithmetic_gflops: f64,
    /// Gradient descent's median over `arithmetic_ms`.
    sgd_over_arithmetic: f64,
    /// Means of what the thread had of a processor, which other work on the machine does not change; `null` on several threads
    /// and where the system does not say.
    sgd_processor_ms: Option<f64>,
    ekfac_processor_ms: Option<f64>,
    arithmetic_processor_ms: Option<f64>,
    /// What EKFAC's network takes by [`Network::memory`](crate::Network::memory).
    predicted_memory_mb: f64,
    /// The process's peak: all networks, the data and the program; `null` where the system does not say.
    peak_rss_mb: Option<f64>,
    /// Mean time of an EKFAC step by stages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) profile_ms: Option<Vec<Part>>,
}

/// One stage of a profile.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    stage: &'static str,
    ms: f64,
}

fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

/// The middle one, or the mean of the two in the middle.
fn median(times: &[Duration]) -> f64 {
    let mut times: Vec<f64> = times.iter().copied().map(milliseconds).collect();
    times.sort_by(f64::total_cmp);
    let middle = times.get(times.len().saturating_sub(1) / 2..=times.len() / 2).unwrap_or_default();
    middle.iter().sum::<f64>() / middle.len() as f64
}

impl Findings {
    /// From the times of a run.
    pub(super) fn new(
        run: Run,
        times: &Timed,
        predicted_bytes: usize,
        peak_rss_mb: Option<f64>,
        stages: Option<StageTimes>,
    ) -> Self {
        let Pair { descent, natural } = &times.shared;
        let [sgd_step_ms, ekfac_step_ms] = [descent, natural].map(|times| median(&times.wall));
        let [sgd_one_thread_ms, ekfac_one_thread_ms] = [&times.alone.descent, &times.alone.natural]
            .map(|times| (!times.wall.is_empty()).then(|| median(&times.wall)));
        let arithmetic_ms = median(&times.arithmetic.wall) / run.threads as f64;
        let processor = |times: &Times| {
            let busy = times.busy.filter(|_| run.threads == 1)?;
            Some(milliseconds(busy) / times.wall.len() as f64)
        };
        Self {
            sgd_processor_ms: processor(descent),
            ekfac_processor_ms: processor(natural),
            arithmetic_processor_ms: processor(&times.arithmetic),
            run,
            sgd_step_ms,
            ekfac_step_ms,
            ratio: ekfac_step_ms / sgd_step_ms,
            sgd_one_thread_ms,
            ekfac_one_thread_ms,
            sgd_speedup: sgd_one_thread_ms.map(|alone| alone / sgd_step_ms),
            ekfac_speedup: ekfac_one_thread_ms.map(|alone| alone / ekfac_step_ms),
            worst_step_ms: natural.wall.iter().copied().map(milliseconds).fold(0.0, f64::max),
            arithmetic_ms,
            arithmetic_gflops: times.operations as f64 / (1e6 * median(&times.arithmetic.wall)),
            sgd_over_arithmetic: sgd_step_ms / arithmetic_ms,
            predicted_memory_mb: predicted_bytes as f64 / 1e6,
            peak_rss_mb,
            profile_ms: stages.map(|stages| parts(&stages)),
        }
    }

    /// Name, time, and time on the processor.
    fn rows(&self) -> Vec<(&'static str, f64, Option<f64>)> {
        let alone = [
            ("SGD with momentum, on one thread", self.sgd_one_thread_ms),
            ("EKFAC, on one thread", self.ekfac_one_thread_ms),
        ];
        let shared = [
            ("products of SGD alone, by faer", self.arithmetic_ms, self.arithmetic_processor_ms),
            ("SGD with momentum", self.sgd_step_ms, self.sgd_processor_ms),
            ("EKFAC", self.ekfac_step_ms, self.ekfac_processor_ms),
            ("EKFAC, worst step", self.worst_step_ms, None),
        ];
        let alone = alone.into_iter().filter_map(|(name, time)| Some((name, time?, None)));
        shared.into_iter().chain(alone).collect()
    }

    fn title(&self) -> String {
        let Run { preset, batch, threads, .. } = &self.run;
        format!("{preset}, batch {batch}, {threads} {}", if *threads == 1 { "thread" } else { "threads" })
    }
}

fn parts(stages: &StageTimes) -> Vec<Part> {
    let mean = |stage| milliseconds(stages.of(stage)) / f64::from(stages.steps.max(1));
    Stage::ALL.map(|stage| Part { stage: stage.name(), ms: mean(stage) }).into()
}

/// The times for the terminal.
pub(super) fn table(findings: &Findings) -> String {
    let row = |(name, time, busy): (&str, f64, Option<f64>)| {
        let quotient = |time: Option<f64>, by: Option<f64>| {
            time.zip(by).map_or_else(|| "-".into(), |(time, by)| format!("{:.2}", time / by))
        };
        vec![
            name.to_string(),
            text::number(time),
            quotient(Some(time), Some(findings.sgd_step_ms)),
            busy.map_or_else(|| "-".into(), text::number),
            quotient(busy, findings.sgd_processor_ms),
        ]
    };
    let title = findings.title();
    let header = [title.as_str(), "ms a step", "SGD = 1", "on the processor", "SGD = 1"];
    text::table(&header, findings.rows().into_iter().map(row))
}

/// Where the time goes, for the terminal.
pub(super) fn profile_table(profile: &[Part]) -> String {
    let total: f64 = profile.iter().map(|part| part.ms).sum();
    let row = |name: &str, time: f64| {
        vec![name.to_string(), text::number(time), format!("{:.1} %", 100.0 * time / total)]
    };
    let rows = profile.iter().map(|part| row(part.stage, part.ms)).chain([row("all", total)]);
    text::table(&["stage of an EKFAC step", "ms, mean", "share"], rows)
}

/// What the numbers are of.
pub(super) fn notes(findings: &Findings) -> String {
    let Run { data, steps, warm_up, .. } = &findings.run;
    let peak = findings.peak_rss_mb.map_or_else(|| "not known here".into(), |peak| format!("{peak:.1} MB"));
    let speedup =
        findings.sgd_speedup.zip(findings.ekfac_speedup).map_or_else(String::new, |(sgd, ekfac)| {
            format!("; the threads make EKFAC {ekfac:.2} times faster, SGD {sgd:.2} times")
        });
    format!(
        "medians of {steps} steps of each by turns after {warm_up} to warm up (means on the processor, which other work does not \
         change), {data} examples{speedup}; peak of the process with all \
         networks {peak}, EKFAC's network {:.1} MB",
        findings.predicted_memory_mb
    )
}

/// The times as bars.
pub(super) fn picture(findings: &Findings) -> Result<String, PlotError> {
    let bars: Vec<(String, f64)> =
        findings.rows().into_iter().map(|(name, time, _)| (name.to_string(), time)).collect();
    bar_chart(&findings.title(), "milliseconds a step", &bars)
}

/// The stages as bars; none without a profile.
pub(super) fn profile_picture(findings: &Findings) -> Result<String, PlotError> {
    let parts = findings.profile_ms.iter().flatten();
    let bars: Vec<(String, f64)> = parts.map(|part| (part.stage.to_string(), part.ms)).collect();
    bar_chart(&format!("A step of EKFAC: {}", findings.title()), "milliseconds, mean", &bars)
}

#[cfg(test)]
mod tests {
    use super::{Findings, Run, median};
    use crate::program::bench::race::{Pair, Timed, Times};
    use std::time::Duration;

    fn times(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    // Mutant: the mean in the place of the median, the upper of the two in the middle.
    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&times(&[9, 1, 2])), 2.0);
        assert_eq!(median(&times(&[9, 1, 2, 3])), 2.5);
        assert!(median(&[]).is_nan());
    }

    // Mutant: a ratio or a speedup upside down, the worst of the wrong optimiser, arithmetic not shared by the threads.
    #[test]
    fn the_quotients_are_of_the_medians() {
        let of = |values: &[u64], busy: u64| Times {
            wall: times(values),
            busy: Some(Duration::from_millis(busy)),
        };
        let timed = Timed {
            shared: Pair { descent: of(&[2, 40, 2], 6), natural: of(&[6, 30, 5], 15) },
            alone: Pair { descent: of(&[3, 3, 40], 0), natural: of(&[1, 15, 15], 0) },
            arithmetic: of(&[1, 1], 2),
            operations: 4_000_000,
        };
        let preset = "digits-autoencoder".to_string();
        let run =
            |threads| Run { preset: preset.clone(), data: "digits", batch: 1, steps: 3, warm_up: 3, threads };
        let findings = Findings::new(run(2), &timed, 3_000_000, None, None);
        assert_eq!((findings.ratio, findings.worst_step_ms, findings.arithmetic_ms), (3.0, 30.0, 0.5));
        assert_eq!((findings.sgd_over_arithmetic, findings.predicted_memory_mb), (4.0, 3.0));
        assert_eq!((findings.arithmetic_gflops, findings.ekfac_processor_ms), (4.0, None));
        assert_eq!((findings.sgd_speedup, findings.ekfac_speedup), (Some(1.5), Some(2.5)));
        let alone = Findings::new(run(1), &Timed { alone: Pair::default(), ..timed }, 0, None, None);
        assert_eq!((alone.ekfac_one_thread_ms, alone.ekfac_speedup), (None, None));
        assert_eq!((alone.sgd_processor_ms, alone.ekfac_processor_ms), (Some(2.0), Some(5.0)));
    }
}
