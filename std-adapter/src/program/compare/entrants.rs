//! Who races: the optimisers, the grid of settings each was given, and the setting of it that is used.
//!
//! The grids are searched by `ekfac compare --grid`; the stated settings are the ones with the lowest median loss after 20
//! epochs of the digits autoencoder (`std-adapter/results/digits-autoencoder/grid.csv`). `ekfac` and `ekfac-periodic` have none:
//! the first is the library's default, the same on every preset.

use crate::baselines::{AdamWSettings, SgdMomentumSettings, SoapSettings};
use clap::ValueEnum;
use ekfac::{Averaging, Clip, Config, Estimator, Fisher, Refresh};

/// An optimiser; the order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Optimizer {
    /// EKFAC with the library's default setting.
    Ekfac,
    /// The same, its basis solved anew every 10 steps instead of rotated in every one.
    EkfacPeriodic,
    /// EKFAC-ra as in the authors' code, with momentum and a KL clip.
    EkfacRa,
    /// K-FAC with factored damping, momentum and a KL clip.
    Kfac,
    /// SOAP.
    Soap,
    /// AdamW without decay.
    Adam,
    /// Gradient descent with momentum.
    Sgd,
}

/// What makes the steps.
#[derive(Clone, Debug)]
pub(super) enum Method {
    /// Core's corridor with the library's own setting, which is told how many examples there are.
    Default(Config<f32>),
    /// Core's corridor with a published method's.
    Natural(Config<f32>),
    /// SOAP.
    Soap(SoapSettings),
    /// AdamW.
    AdamW(AdamWSettings),
    /// Gradient descent with momentum.
    Sgd(SgdMomentumSettings),
}

/// A method and the words that tell its setting from others.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The words.
    pub(super) words: String,
    /// The method.
    pub(super) method: Method,
}

// Each range was widened until the best setting lay within it.
const KFAC_CLIPS: [f32; 5] = [3e-5, 1e-4, 3e-4, 1e-3, 3e-3];
const RUNNING_CLIPS: [f32; 5] = [1e-6, 3e-6, 1e-5, 3e-5, 1e-4];
const KFAC_DAMPINGS: [f32; 5] = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2];
const RUNNING_DAMPINGS: [f32; 5] = [3e-5, 1e-4, 3e-4, 1e-3, 3e-3];
const ADAM_RATES: [f32; 9] = [1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 3e-2, 5e-2, 1e-1, 2e-1];
const SGD_RATES: [f32; 9] = [3e-3, 1e-2, 2e-2, 3e-2, 5e-2, 1e-1, 2e-1, 3e-1, 5e-1];
// With convolutions a run takes longer.
const ADAM_RATES_OF_CONVOLUTIONS: [f32; 5] = [1e-3, 2e-3, 5e-3, 1e-2, 2e-2];
const SGD_RATES_OF_CONVOLUTIONS: [f32; 5] = [1e-2, 2e-2, 5e-2, 1e-1, 2e-1];
const SOAP_RATES: [f32; 6] = [3e-4, 1e-3, 3e-3, 5e-3, 1e-2, 2e-2];

impl Optimizer {
    /// The name on the command line and in the results.
    #[must_use]
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// The setting that is raced.
    #[must_use]
    pub(super) fn stated(self) -> Setting {
        match self {
            Optimizer::Ekfac => {
                Setting { words: "default".into(), method: Method::Default(Config::default()) }
            }
            Optimizer::EkfacPeriodic => {
                let config = Config { refresh: Refresh::every(10), ..Config::default() };
                Setting { words: "default, basis every 10".into(), method: Method::Default(config) }
            }
            Optimizer::EkfacRa => ekfac_ra(3e-6, 1e-4, 0.95),
            Optimizer::Kfac => kfac(3e-4, 3e-3, Fisher::Sampled),
            Optimizer::Soap => soap(1e-2, 1),
            Optimizer::Adam => adam(1e-2),
            Optimizer::Sgd => sgd(3e-2),
        }
    }

    /// All settings of the grid.
    #[must_use]
    pub(super) fn grid(self) -> Vec<Setting> {
        let pairs = |clips: [f32; 5], dampings: [f32; 5]| {
            clips.into_iter().flat_map(move |clip| dampings.map(|damping| (clip, damping)))
        };
        match self {
            Optimizer::Ekfac | Optimizer::EkfacPeriodic => vec![self.stated()],
            Optimizer::EkfacRa => pairs(RUNNING_CLIPS, RUNNING_DAMPINGS)
                .flat_map(|(clip, damping)| [0.75, 0.95].map(|decay| ekfac_ra(clip, damping, decay)))
                .collect(),
            Optimizer::Kfac => pairs(KFAC_CLIPS, KFAC_DAMPINGS)
                .flat_map(|(clip, damping)| {
                    [Fisher::Empirical, Fisher::Sampled].map(|fisher| kfac(clip, damping, fisher))
                })
                .collect(),
            Optimizer::Soap => {
                SOAP_RATES.into_iter().flat_map(|rate| [soap(rate, 1), soap(rate, 10)]).collect()
            }
            Optimizer::Adam => ADAM_RATES.map(adam).to_vec(),
            Optimizer::Sgd => SGD_RATES.map(sgd).to_vec(),
        }
    }

    /// Those for networks with convolutions.
    #[must_use]
    pub(super) fn grid_of_convolutions(self) -> Vec<Setting> {
        match self {
            Optimizer::Adam => ADAM_RATES_OF_CONVOLUTIONS.map(adam).to_vec(),
            Optimizer::Sgd => SGD_RATES_OF_CONVOLUTIONS.map(sgd).to_vec(),
            _ => self.grid(),
        }
    }
}

/// The settings that the two published Kronecker methods share here: momentum and clip, since plain steps are far behind.
fn clipped(config: Config<f32>, clip: f32) -> Config<f32> {
    Config { momentum: 0.9, clip: Clip::Fixed(clip), ..config }
}

fn ekfac_ra(clip: f32, damping: f32, decay: f32) -> Setting {
    let config = clipped(Config::paper_running(0.1, damping, 10, decay), clip);
    Setting {
        words: format!("clip {clip:e}, damping {damping:e}, decay {decay}"),
        method: Method::Natural(config),
    }
}

fn kfac(clip: f32, damping: f32, fisher: Fisher) -> Setting {
    let config = Config {
        estimator: Estimator::Kronecker,
        fisher,
        statistics_period: 1,
        factors: Averaging::Memory(2000.0),
        ..clipped(Config::kfac(0.1, damping, 10), clip)
    };
    Setting {
        words: format!("clip {clip:e}, damping {damping:e}, {fisher:?}"),
        method: Method::Natural(config),
    }
}

fn soap(learning_rate: f32, precondition_frequency: u64) -> Setting {
    let settings = SoapSettings { learning_rate, precondition_frequency, ..SoapSettings::default() };
    Setting {
        words: format!("rate {learning_rate}, basis every {precondition_frequency}"),
        method: Method::Soap(settings),
    }
}

fn adam(learning_rate: f32) -> Setting {
    let settings = AdamWSettings { learning_rate, ..AdamWSettings::default() };
    Setting { words: format!("rate {learning_rate}"), method: Method::AdamW(settings) }
}

fn sgd(learning_rate: f32) -> Setting {
    let settings = SgdMomentumSettings { learning_rate, ..SgdMomentumSettings::default() };
    Setting { words: format!("rate {learning_rate}"), method: Method::Sgd(settings) }
}
