//! The numbers of a checkpoint.

use crate::program::text;
use crate::{
    AnyNetwork,
    checkpoint::{Extra, Stored},
};
use ekfac::{Config, Error, LayerMut, Progress, Scalar, damping::LayerDamping};

/// Eigenvalues of one layer's Fisher, those of its groups one after another.
#[derive(Default)]
pub(super) struct Spectra {
    /// S.
    pub(super) scalings: Vec<f64>,
    /// diag(C_B) diag(C_A)^T.
    pub(super) kronecker: Vec<f64>,
}

/// What a checkpoint holds, for the terminal and for the plot.
pub(super) struct Findings {
    pub(super) text: String,
    pub(super) spectra: Vec<Spectra>,
}

impl Findings {
    /// The first of the layers with the most weights.
    pub(super) fn largest(&self) -> usize {
        let sizes = self.spectra.iter().map(|spectra| spectra.scalings.len()).enumerate();
        sizes.fold((0, 0), |best, next| if next.1 > best.1 { next } else { best }).0
    }
}

/// Looks at everything.
pub(super) fn examine<T: Stored>(network: &mut AnyNetwork<T>, extra: &Extra) -> Result<Findings, Error> {
    let (config, progress) = (*network.config(), *network.progress());
    let (mut curvatures, mut spectra) = (vec![], vec![]);
    let mut look = |name: String, layer: &LayerMut<'_, T>, spectra: &mut Spectra| {
        curvatures.push(curvature(name, layer, &config, &progress));
        spectra.add(layer);
    };
    let shapes = match network {
        AnyNetwork::Dense(network) => {
            let layers = network.net().layers().to_vec();
            for index in 0..layers.len() {
                let mut own = Spectra::default();
                network.with(|learner| {
                    look(index.to_string(), &learner.layer(index)?, &mut own);
                    Ok(())
                })?;
                spectra.push(own);
            }
            text::layers::<T>(&layers)
        }
        AnyNetwork::Convolutions(network) => {
            let layers = network.net().layers().to_vec();
            for (index, layer) in layers.iter().enumerate() {
                let mut own = Spectra::default();
                let count = layer.groups();
                for group in 0..count {
                    let name = if count == 1 { index.to_string() } else { format!("{index}, group {group}") };
                    network.with(|learner| {
                        look(name, &learner.layer(index, group)?, &mut own);
                        Ok(())
                    })?;
                }
                spectra.push(own);
            }
            text::convolutions::<T>(&layers)
        }
    };
    let header = [
        "layer",
        "condition A",
        "condition B",
        "off-diagonal A",
        "off-diagonal B",
        "orthogonality",
        "mean S",
        "damping",
        "failed refreshes",
    ];
    let curvatures = text::table(&header, curvatures);
    let text = format!("{shapes}\n{curvatures}\n{}", facts(network, extra));
    Ok(Findings { text, spectra })
}

/// The row of one layer, or of one of its groups.
fn curvature<T: Scalar>(
    name: String,
    layer: &LayerMut<'_, T>,
    config: &Config<T>,
    progress: &Progress<T>,
) -> Vec<String> {
    let (a, b) = (layer.input_factor(), layer.output_factor());
    let number = |value: T| text::number(value.to_f64());
    vec![
        name,
        number(a.condition()),
        number(b.condition()),
        number(a.off_diagonal()),
        number(b.off_diagonal()),
        number(a.orthogonality().maximum(b.orthogonality())),
        number(layer.mean_scaling()),
        damping(layer, config, progress),
        layer.failed_refreshes().to_string(),
    ]
}

/// The damping in effect: see [`ekfac::damping`].
fn damping<T: Scalar>(layer: &LayerMut<'_, T>, config: &Config<T>, progress: &Progress<T>) -> String {
    match config.damping_of(layer, progress) {
        LayerDamping::Sum(lambda) => text::number(lambda.to_f64()),
        LayerDamping::Factored { a, b } => {
            format!("A {}, B {}", text::number(a.to_f64()), text::number(b.to_f64()))
        }
    }
}

impl Spectra {
    fn add<T: Scalar>(&mut self, layer: &LayerMut<'_, T>) {
        let outputs: Vec<f64> = layer.output_factor().values().map(Scalar::to_f64).collect();
        let shared = layer.input_factor().values().map(Scalar::to_f64);
        // A line of a factor that points share stands for each of them.
        let shared = shared.flat_map(|a| std::iter::repeat_n(a, layer.shape().points()));
        let inputs = shared.chain(layer.input_moments().iter().map(|a| a.to_f64()));
        self.kronecker.extend(inputs.flat_map(|a| outputs.iter().map(move |b| a * b)));
        self.scalings.extend(layer.scalings().iter_columns().flatten().map(|s| s.to_f64()));
    }
}

/// Progress, settings, and what the program that wrote the checkpoint kept with it: one line each, since the texts may be
/// long.
fn facts<T: Stored>(network: &AnyNetwork<T>, extra: &Extra) -> String {
    let progress = network.progress();
    let mut facts = vec![
        ("scalar".to_string(), format!("{:?}", T::DTYPE)),
        ("loss".into(), format!("{:?}", network.loss())),
        ("seed".into(), progress.seed.to_string()),
        ("steps".into(), progress.steps.to_string()),
        ("refused batches".into(), progress.skipped.to_string()),
        ("degraded steps".into(), progress.degraded.to_string()),
        ("rotations".into(), progress.rotations.to_string()),
        ("operations".into(), text::number(progress.operations as f64)),
        ("running mean of the loss".into(), text::number(progress.mean_loss.to_f64())),
        ("shortened by annealing to".into(), text::number(progress.annealing.to_f64())),
        ("damping multiplier".into(), text::number(progress.damping_multiplier.to_f64())),
    ];
    facts.extend(settings(network.config()));
    facts.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    facts.iter().map(|(name, value)| format!("{name:26}{value}\n")).collect()
}

/// The settings by the names that they have in the file.
fn settings<T: Stored>(config: &Config<T>) -> Vec<(String, String)> {
    // By way of text, in which 0.1 is 0.1 in 32 bits too.
    let fields = serde_json::to_string(config).and_then(|text| serde_json::from_str(&text));
    let fields: serde_json::Map<String, serde_json::Value> = fields.unwrap_or_default();
    fields.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}
