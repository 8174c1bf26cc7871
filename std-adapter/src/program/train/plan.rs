//! What will be trained: the network that the data and the arguments ask for.

use super::{Arguments, asked::Asked, prepare::Prepared, state::Settings};
use crate::{
    AnyNetwork,
    program::{ProgramError, text},
};
use ekfac::{Annealing, Config, Error};

/// A network before it exists.
pub(super) struct Plan {
    asked: Asked,
    loss: ekfac::Loss,
    config: Config<f32>,
    seed: u64,
    /// Examples in a batch: no more than there are.
    pub(super) batch: usize,
    /// What a resumed run must agree with.
    pub(super) settings: Settings,
}

impl Plan {
    pub(super) fn new(arguments: &Arguments, prepared: &Prepared) -> Result<Self, ProgramError> {
        let annealing = Annealing::Epochs(prepared.training.examples as u32);
        let config = Config { annealing, ..arguments.config()? };
        let asked = Asked::new(arguments, prepared)?;
        let (loss, seed) = (prepared.loss, arguments.seed);
        let batch = (arguments.batch as usize).min(prepared.training.examples);
        let settings = settings(arguments, prepared, asked.setting()?);
        Ok(Self { asked, loss, config, seed, batch, settings })
    }

    /// The fresh network.
    pub(super) fn network(&self) -> Result<AnyNetwork<f32>, ProgramError> {
        let network = self.asked.network(self.loss, self.config, self.seed, self.batch);
        network.map_err(|error| self.explain(error))
    }

    /// What will be trained, and a table of the memory that it will take, before it takes it.
    pub(super) fn announcement(&self, prepared: &Prepared) -> Result<String, ProgramError> {
        let memory = self.asked.memory(self.loss, self.batch).map_err(|error| self.explain(error))?;
        Ok(format!("{}\n{}", self.summary(prepared), text::memory::<f32>(&self.asked.shapes(), &memory)))
    }

    fn explain(&self, error: Error) -> ProgramError {
        match error {
            Error::SizeOverflow { .. } => format!(
                "there is no room for {} of memory: choose smaller layers or a smaller --batch",
                self.ram()
            )
            .into(),
            other => other.into(),
        }
    }

    fn ram(&self) -> String {
        text::bytes(self.asked.words(self.loss, self.batch).saturating_mul(size_of::<f32>()))
    }

    /// One line.
    fn summary(&self, prepared: &Prepared) -> String {
        let (training, validation) = (&prepared.training, &prepared.validation);
        format!(
            "{}: {} training and {} validation examples, inputs {}; {} parameters; {} of RAM for weights, state and \
             batches of {}",
            training.name,
            training.examples,
            validation.examples,
            prepared.scaling,
            self.asked.parameters(),
            self.ram(),
            self.batch
        )
    }

    /// The title of the plot.
    pub(super) fn title(&self, prepared: &Prepared) -> String {
        format!("{}, {}", prepared.training.name, self.asked.title())
    }
}

/// Defaults of the step are not among them: they come from the checkpoint, whatever a later version chooses.
fn settings(arguments: &Arguments, prepared: &Prepared, layers: String) -> Settings {
    let step =
        |value: Option<f32>| value.map_or_else(|| "the default".to_string(), |value| value.to_string());
    let settings = [
        ("the checksum of the data", format!("{:08x}", prepared.checksum)),
        ("--task", format!("{:?}", arguments.task)),
        ("--layers", layers),
        ("--activation", format!("{:?}", arguments.activation)),
        ("--output-activation", format!("{:?}", arguments.output_activation)),
        ("--loss", format!("{:?}", prepared.loss)),
        ("--validation", arguments.validation.to_string()),
        ("--standardise", format!("{:?}", arguments.standardise)),
        ("--batch", arguments.batch.to_string()),
        ("--seed", arguments.seed.to_string()),
        ("--learning-rate", step(arguments.learning_rate)),
        ("--momentum", step(arguments.momentum)),
        ("--weight-decay", step(arguments.weight_decay)),
        ("--damping", step(arguments.damping)),
        ("--clip", step(arguments.clip)),
    ];
    settings.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
