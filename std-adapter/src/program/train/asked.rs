//! The network that the arguments ask for, of either kind, before it exists.

use super::{
    Arguments,
    arguments::LayersPart,
    description::{Defaults, Description},
    prepare::Prepared,
};
use crate::{
    AnyNetwork, ConvolutionNetwork, Network, NetworkMemory,
    program::{ProgramError, text},
};
use ekfac::{
    Config, Dense, Error, Loss, Net,
    convolution::{Block, ConvolutionLayer, ConvolutionNet},
    net::dense_layers,
};
use std::{fs, path::Path};

/// Layers that fit the data.
pub(super) enum Asked {
    /// Sizes alone, the two ends included.
    Dense { layers: Vec<Dense>, sizes: Vec<usize> },
    /// A file's.
    Described { description: Description, file: String },
}

impl Asked {
    pub(super) fn new(arguments: &Arguments, prepared: &Prepared) -> Result<Self, ProgramError> {
        match &*arguments.layers {
            [LayersPart::File(path)] => described(path, arguments, prepared),
            parts => {
                let size = |part: &LayersPart| match part {
                    LayersPart::Size(size) => Ok(*size),
                    LayersPart::File(path) => {
                        Err(format!("--layers takes sizes or one file, not {} among others", path.display()))
                    }
                };
                let given: Vec<usize> = parts.iter().map(size).collect::<Result<_, _>>()?;
                dense(&given, arguments, prepared)
            }
        }
    }

    pub(super) fn network(
        &self,
        loss: Loss,
        config: Config<f32>,
        seed: u64,
        batch: usize,
    ) -> Result<AnyNetwork<f32>, Error> {
        Ok(match self {
            Asked::Dense { layers, .. } => Network::new(layers.clone(), loss, config, seed, batch)?.into(),
            Asked::Described { description, .. } => {
                ConvolutionNetwork::new(description.layers.clone(), loss, config, seed, batch)?.into()
            }
        })
    }

    pub(super) fn memory(&self, loss: Loss, batch: usize) -> Result<NetworkMemory, Error> {
        match self {
            Asked::Dense { layers, .. } => Network::<f32>::memory(&Net::new(layers, loss), batch),
            Asked::Described { description, .. } => {
                ConvolutionNetwork::<f32>::memory(&ConvolutionNet::new(&description.layers, loss), batch)
            }
        }
    }

    /// Words of all memory, or the largest number where there are more.
    pub(super) fn words(&self, loss: Loss, batch: usize) -> usize {
        match self {
            Asked::Dense { layers, .. } => Net::new(layers, loss).words(batch),
            Asked::Described { .. } => {
                let memory = self.memory(loss, batch);
                memory.map_or(usize::MAX, |memory| memory.total() / size_of::<f32>())
            }
        }
    }

    pub(super) fn parameters(&self) -> usize {
        match self {
            Asked::Dense { layers, .. } => layers.iter().map(|layer| layer.shape().parameters()).sum(),
            Asked::Described { description, .. } => {
                description.layers.iter().map(ConvolutionLayer::parameters).sum()
            }
        }
    }

    /// What each layer makes of what.
    pub(super) fn shapes(&self) -> Vec<String> {
        match self {
            Asked::Dense { layers, .. } => text::shapes(layers),
            Asked::Described { description, .. } => description.shapes.clone(),
        }
    }

    /// The sizes, or the file, for a title.
    pub(super) fn title(&self) -> String {
        match self {
            Asked::Dense { sizes, .. } => list(sizes).replace(',', "-"),
            Asked::Described { file, .. } => file.clone(),
        }
    }

    /// What a resumed run must agree with: the layers, whatever their file is called.
    pub(super) fn setting(&self) -> Result<String, ProgramError> {
        Ok(match self {
            Asked::Dense { sizes, .. } => list(sizes),
            Asked::Described { description, .. } => {
                let layers = serde_json::to_string(&description.layers)?;
                let checksum = crc32fast::hash(layers.as_bytes());
                format!("{} layers of checksum {checksum:08x}", description.layers.len())
            }
        })
    }
}

fn dense(given: &[usize], arguments: &Arguments, prepared: &Prepared) -> Result<Asked, ProgramError> {
    let sizes = sizes(given, arguments, prepared)?;
    let layers = dense_layers(&sizes, arguments.activation, arguments.output_activation);
    let layers = layers.map_err(|error| {
        let most = ekfac::net::MAX_LAYERS;
        format!("--layers {}: {error}; give 2 to {} sizes, none of them 0", list(&sizes), most + 1)
    })?;
    Ok(Asked::Dense { layers: layers.to_vec(), sizes })
}

/// All sizes; those at the two ends must be the data's.
fn sizes(given: &[usize], arguments: &Arguments, prepared: &Prepared) -> Result<Vec<usize>, ProgramError> {
    let (inputs, outputs) = (prepared.training.input_width, prepared.outputs());
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

/// The layers of a file; their two ends must be the data's, too.
fn described(path: &Path, arguments: &Arguments, prepared: &Prepared) -> Result<Asked, ProgramError> {
    let place = path.display();
    let text =
        fs::read_to_string(path).map_err(|cause| format!("--layers {place}: cannot be read: {cause}"))?;
    let defaults = Defaults { hidden: arguments.activation, output: arguments.output_activation };
    let description =
        Description::new(&text, defaults).map_err(|problem| format!("--layers {place}: {problem}"))?;
    let Description { input, output, last, .. } = &description;
    let (name, inputs, outputs) =
        (&prepared.training.name, prepared.training.input_width, prepared.outputs());
    if input.words() != inputs {
        return Err(format!(
            "--layers {place}: [input] is {input} = {} values, but {name} has {inputs} an example: correct its sizes",
            input.words()
        )
        .into());
    }
    if output.words() != outputs {
        return Err(format!(
            "--layers {place}: {last} gives {} values, but {name} asks for {outputs}: end with a layer of \
             kind = \"dense\", outputs = {outputs}",
            output.words()
        )
        .into());
    }
    expect_tokens(&description, prepared).map_err(|problem| format!("--layers {place}: {problem}"))?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Asked::Described { description, file })
}

/// An embedding takes whole numbers below its vocabulary, as they are in the file.
fn expect_tokens(description: &Description, prepared: &Prepared) -> Result<(), String> {
    let Some(first) = description.layers.first() else { return Ok(()) };
    if first.block() != Some(Block::DiagonalInput) {
        return Ok(());
    }
    let (name, vocabulary) = (&prepared.training.name, first.convolution().shape().inputs());
    if prepared.inputs_changed() {
        return Err("layer 1 (embedding): it takes tokens as they are: give --standardise no".into());
    }
    let mut tokens = prepared.training.inputs.iter().chain(&prepared.validation.inputs);
    match tokens.find(|token| !(**token >= 0.0 && token.fract() == 0.0 && (**token as usize) < vocabulary)) {
        None => Ok(()),
        Some(token) if *token >= 0.0 && token.fract() == 0.0 => Err(format!(
            "layer 1 (embedding): {name} has the token {token}: write vocabulary = {} or more",
            *token as usize + 1
        )),
        Some(token) => Err(format!(
            "layer 1 (embedding): {name} has {token}, which is no token: they are whole numbers from 0"
        )),
    }
}
