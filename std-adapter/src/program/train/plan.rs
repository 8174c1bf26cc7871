//! What will be trained: the network that the data and the arguments ask for.

use super::{Arguments, prepare::Prepared, state::Settings};
use crate::{
    Network,
    program::{ProgramError, text},
};
use ekfac::{Config, Dense, Error, Net, net::dense_layers};

/// A network before it exists.
pub(super) struct Plan {
    layers: Vec<Dense>,
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
        let config = arguments.config()?;
        let sizes = sizes(arguments, prepared)?;
        let layers =
            dense_layers(&sizes, arguments.activation, arguments.output_activation).map_err(|error| {
                let most = ekfac::net::MAX_LAYERS;
                format!("--layers {}: {error}; give 2 to {} sizes, none of them 0", list(&sizes), most + 1)
            })?;
        let (layers, loss, seed) = (layers.to_vec(), prepared.loss, arguments.seed);
        let batch = (arguments.batch as usize).min(prepared.training.examples);
        let settings = settings(arguments, prepared, &sizes);
        Ok(Self { layers, loss, config, seed, batch, settings })
    }

    /// The fresh network.
    pub(super) fn network(&self) -> Result<Network<f32>, ProgramError> {
        let network = Network::new(self.layers.clone(), self.loss, self.config, self.seed, self.batch);
        network.map_err(|error| self.explain(error))
    }

    /// A table of the memory that the network will take, before it takes it.
    pub(super) fn memory(&self) -> Result<String, ProgramError> {
        let memory = Network::<f32>::memory(&Net::new(&self.layers, self.loss), self.batch);
        memory.map(|memory| text::memory(&self.layers, &memory)).map_err(|error| self.explain(error))
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
        text::bytes(Net::new(&self.layers, self.loss).words(self.batch).saturating_mul(size_of::<f32>()))
    }

    /// One line, before training.
    pub(super) fn summary(&self, prepared: &Prepared) -> String {
        let (training, validation) = (&prepared.training, &prepared.validation);
        let net = Net::new(&self.layers, self.loss);
        format!(
            "{}: {} training and {} validation examples, inputs {}; {} parameters; {} of RAM for weights, state and \
             batches of {}",
            training.name,
            training.examples,
            validation.examples,
            prepared.scaling,
            net.parameters(),
            self.ram(),
            self.batch
        )
    }

    /// The title of the plot.
    pub(super) fn title(&self, prepared: &Prepared) -> String {
        let outputs = self.layers.iter().map(|layer| layer.shape().outputs());
        let sizes: Vec<usize> =
            self.layers.iter().take(1).map(|layer| layer.shape().inputs()).chain(outputs).collect();
        format!("{}, {}", prepared.training.name, list(&sizes).replace(',', "-"))
    }
}

/// All sizes; those at the two ends must be the data's.
fn sizes(arguments: &Arguments, prepared: &Prepared) -> Result<Vec<usize>, ProgramError> {
    let (inputs, outputs) = (prepared.training.input_width, prepared.outputs());
    let given = &arguments.layers;
    let hidden = given.get(1..given.len().saturating_sub(1)).unwrap_or(&arguments.hidden);
    let fitting: Vec<usize> = [inputs].iter().chain(hidden).chain(&[outputs]).copied().collect();
    if given.is_empty() || *given == fitting {
        return Ok(fitting);
    }
    Err(format!(
        "--layers {} does not fit {}, which has {inputs} inputs and asks for {outputs} {}: write --layers {}",
        list(given),
        prepared.training.name,
        if outputs == 1 { "output" } else { "outputs" },
        list(&fitting)
    )
    .into())
}

fn list(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Defaults of the step are not among them: they come from the checkpoint, whatever a later version chooses.
fn settings(arguments: &Arguments, prepared: &Prepared, sizes: &[usize]) -> Settings {
    let step =
        |value: Option<f32>| value.map_or_else(|| "the default".to_string(), |value| value.to_string());
    let settings = [
        ("the checksum of the data", format!("{:08x}", prepared.checksum)),
        ("--task", format!("{:?}", arguments.task)),
        ("--layers", list(sizes)),
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
