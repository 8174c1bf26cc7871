//! Networks with convolutions as a user describes them, in a TOML file.
//!
//! ```toml
//! [input]                  # what the values of one example are
//! channels = 1             # default 1
//! rows = 8                 # and columns; or `length` alone, for a line of samples
//! columns = 8
//! layout = "channels-first"  # the default; or "channels-last": all channels of a location together
//!
//! [[layer]]                # input first; any layer can have a `name`, by which a later one finds it
//! kind = "conv"
//! outputs = 8              # filters
//! kernel = 3               # or [rows, columns], as for the four below
//! stride = 1               # defaults: 1, no padding, 1, one group, a bias
//! padding = 1
//! dilation = 1
//! groups = 1               # as many as there are channels: a filter of its own for each
//! bias = true
//! uncorrelated = false     # true: one factor for the channels, which all points of the kernel share
//! activation = "tanh"      # default: --activation, and --output-activation in the last layer
//!
//! [[layer]]
//! kind = "max-pool"        # or "average-pool"; `padding` too
//! kernel = 2
//! stride = 2               # default: the kernel, for windows that do not overlap
//!
//! [[layer]]
//! kind = "sequence"        # a dense layer at every location; `bias`, `activation`
//! outputs = 8
//!
//! [[layer]]
//! kind = "affine"          # a scale and a shift for each channel; `bias = false` for scales alone; `activation`, none by default
//!
//! [[layer]]
//! kind = "embedding"       # first of all, on a line of tokens, 0 to vocabulary - 1: a vector for each; `activation`, none by default
//! vocabulary = 100
//! outputs = 8
//!
//! [[layer]]
//! kind = "add"             # a residual addition: the outputs of an earlier layer, not the one below; `activation`
//! from = "stem"            # its name
//!
//! [[layer]]
//! kind = "global-pool"     # the mean of each channel
//!
//! [[layer]]
//! kind = "dense"           # over all values; `bias`, `activation`
//! outputs = 10
//! ```
//!
//! *Invariant*: every layer's sizes follow from the input's, so nothing is written twice. *Failure*: one line that names the file, the
//! layer and what to do.

use super::{
    arguments::parse_activation,
    map::{Map, Sides, Window},
};
use crate::program::text;
use ekfac::{
    Activation,
    convolution::{Axis, Convolution, ConvolutionLayer, Layout, Pooling},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::collections::HashMap;
use toml::{Table, Value};

/// All kinds of layers, for a message.
const KINDS: &str = "conv, dense, sequence, affine, embedding, add, max-pool, average-pool or global-pool";

/// A described network.
pub(super) struct Description {
    pub(super) layers: Vec<ConvolutionLayer>,
    /// What each of them is, for a table.
    pub(super) shapes: Vec<String>,
    pub(super) input: Map,
    pub(super) output: Map,
    /// The last layer by its place and kind, for a message.
    pub(super) last: String,
}

/// What layers do that do not say so.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub(super) hidden: Activation,
    pub(super) output: Activation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    input: Table,
    #[serde(default)]
    layer: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Input {
    channels: Option<usize>,
    rows: Option<usize>,
    columns: Option<usize>,
    length: Option<usize>,
    layout: Option<Order>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Order {
    ChannelsFirst,
    ChannelsLast,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conv {
    outputs: usize,
    kernel: Sides,
    stride: Option<Sides>,
    padding: Option<Sides>,
    dilation: Option<Sides>,
    groups: Option<usize>,
    bias: Option<bool>,
    uncorrelated: Option<bool>,
    activation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Affine {
    bias: Option<bool>,
    activation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Embedding {
    vocabulary: usize,
    outputs: usize,
    activation: Option<String>,
}

/// `dense` and `sequence`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dense {
    outputs: usize,
    bias: Option<bool>,
    activation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pool {
    kernel: Sides,
    stride: Option<Sides>,
    padding: Option<Sides>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    from: String,
    activation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What is known below a layer.
struct Below {
    map: Map,
    /// Names, and the outputs of the layers that have them, by their place from 0.
    named: HashMap<String, (usize, Map)>,
    /// Layers so far.
    count: usize,
}

impl Description {
    /// The network of a text.
    ///
    /// # Errors
    /// What is wrong with which layer.
    pub(super) fn new(text: &str, defaults: Defaults) -> Result<Self, String> {
        let File { input, layer: tables } = toml::from_str(text).map_err(|error| located(text, &error))?;
        let input = read::<Input>(input).and_then(start).map_err(|problem| format!("[input]: {problem}"))?;
        if tables.is_empty() {
            return Err("there are no layers: add a [[layer]] for each".into());
        }
        let (mut layers, mut shapes, mut place) = (vec![], vec![], String::new());
        let mut below = Below { map: input, named: HashMap::new(), count: 0 };
        let last = tables.len() - 1;
        for (index, mut table) in tables.into_iter().enumerate() {
            let Some(Value::String(kind)) = table.remove("kind") else {
                return Err(format!("layer {} has no kind: write kind = \"...\", one of {KINDS}", index + 1));
            };
            place = format!("layer {} ({kind})", index + 1);
            let name = table.remove("name");
            // What has no default of its own.
            let plain = matches!(kind.as_str(), "affine" | "embedding");
            let hidden = if plain { Activation::Identity } else { defaults.hidden };
            let default = if index == last { defaults.output } else { hidden };
            let layer = layer(&kind, table, &below, default).and_then(checked);
            let layer = layer.map_err(|problem| format!("{place}: {problem}"))?;
            // An addition's own geometry is one channel, whatever it adds.
            let above = if kind == "add" { below.map } else { below.map.after(layer.convolution()) };
            shapes.push(format!("{kind}: {} -> {above}{}", below.map, text::block(&layer)));
            layers.push(layer);
            below.go_on(name, above).map_err(|problem| format!("{place}: {problem}"))?;
        }
        let output = below.map;
        if layers.iter().all(|layer: &ConvolutionLayer| layer.parameters() == 0) {
            return Err("there is no layer with weights: add a [[layer]] of kind = \"dense\"".into());
        }
        Ok(Self { layers, shapes, input, output, last: place })
    }
}

impl Below {
    /// The same above one layer more.
    fn go_on(&mut self, name: Option<Value>, above: Map) -> Result<(), String> {
        match name {
            None => {}
            Some(Value::String(name)) => {
                if let Some((index, _)) = self.named.insert(name.clone(), (self.count, above)) {
                    return Err(format!(
                        "name = \"{name}\" is that of layer {}, too: choose another",
                        index + 1
                    ));
                }
            }
            Some(_) => return Err("name is a text: write name = \"...\"".into()),
        }
        self.map = above;
        self.count += 1;
        Ok(())
    }

    fn addition(&self, given: Add, default: Activation) -> Result<ConvolutionLayer, String> {
        let Add { from, activation } = given;
        let Some((index, found)) = self.named.get(&from) else {
            return Err(format!(
                "no layer before it has the name \"{from}\": write name = \"{from}\" in one"
            ));
        };
        if index + 1 == self.count {
            return Err(format!("\"{from}\" is the layer below, which is added anyway: name an earlier one"));
        }
        if (found.channels, found.sides) != (self.map.channels, self.map.sides) {
            return Err(format!(
                "\"{from}\" gives {found} and the layer below {}: only equal sizes can be added",
                self.map
            ));
        }
        Ok(ConvolutionLayer::add(*index, found.words(), chosen(activation, default)?))
    }
}

/// The place and the problem of a text that is no TOML, or has other tables.
fn located(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{}{}", line.unwrap_or_default(), error.message())
}

fn read<V: DeserializeOwned>(table: Table) -> Result<V, String> {
    table.try_into().map_err(|error: toml::de::Error| error.message().trim_end().to_string())
}

fn start(input: Input) -> Result<Map, String> {
    let (sides, is_line) = match (input.rows, input.columns, input.length) {
        (Some(rows), Some(columns), None) => ([rows, columns], false),
        (None, None, Some(length)) => ([1, length], true),
        _ => return Err("give rows and columns, or length alone".into()),
    };
    let channels = input.channels.unwrap_or(1);
    if channels == 0 || sides.contains(&0) {
        return Err("0 is no size: write 1 or more".into());
    }
    let layout = match input.layout {
        None | Some(Order::ChannelsFirst) => Layout::ChannelsFirst,
        Some(Order::ChannelsLast) => Layout::ChannelsLast,
    };
    Ok(Map { channels, sides, is_line, layout })
}

/// The layer of this kind on a map.
fn layer(kind: &str, table: Table, below: &Below, default: Activation) -> Result<ConvolutionLayer, String> {
    let map = &below.map;
    match kind {
        "conv" => convolution(read(table)?, map, default),
        "dense" => {
            let flat = Map { channels: map.words(), sides: [1, 1], ..*map };
            flat.dense(read(table)?, default)
        }
        "sequence" => map.dense(read(table)?, default),
        "affine" => affine(read(table)?, map, default),
        "embedding" => embedding(read(table)?, below, default),
        "add" => below.addition(read(table)?, default),
        "max-pool" => pool(Pooling::Max, read(table)?, map),
        "average-pool" => pool(Pooling::Average, read(table)?, map),
        "global-pool" => {
            let Nothing {} = read(table)?;
            Ok(windows(Pooling::Average, map, map.whole()))
        }
        _ => Err(format!("no such kind: write one of {KINDS}")),
    }
}

fn convolution(given: Conv, map: &Map, default: Activation) -> Result<ConvolutionLayer, String> {
    let Conv { outputs, kernel, stride, padding, dilation, groups, bias, uncorrelated, activation } = given;
    let axes = map.axes(&Window { kernel, stride, padding, dilation })?;
    let groups = groups.unwrap_or(1);
    for (count, name) in [(map.channels, "channels"), (outputs, "outputs")] {
        if groups == 0 || !count.is_multiple_of(groups) {
            return Err(format!("{groups} groups do not divide {count} {name}: choose a divisor of both"));
        }
    }
    let convolution = Convolution::new_2d(map.channels, axes, outputs).groups(groups).layout(map.layout);
    let convolution = if uncorrelated == Some(true) { convolution.uncorrelated() } else { convolution };
    with_weights(convolution, outputs, bias, activation, default)
}

fn affine(given: Affine, map: &Map, default: Activation) -> Result<ConvolutionLayer, String> {
    let Affine { bias, activation } = given;
    let convolution = Convolution::affine(map.channels, map.sides).layout(map.layout);
    with_weights(convolution, map.channels, bias, activation, default)
}

fn embedding(given: Embedding, below: &Below, default: Activation) -> Result<ConvolutionLayer, String> {
    let Embedding { vocabulary, outputs, activation } = given;
    if below.count > 0 {
        return Err("only the first layer can be one, since no gradient comes through it".into());
    }
    let Map { channels: 1, sides: [1, length], is_line: true, .. } = below.map else {
        return Err(format!("it takes a line of tokens and not {}: give [input] a length alone", below.map));
    };
    if vocabulary == 0 {
        return Err("vocabulary 0: write 1 or more".into());
    }
    with_weights(Convolution::embedding(vocabulary, length, outputs), outputs, None, activation, default)
}

impl Map {
    /// A dense layer at each location.
    fn dense(&self, given: Dense, default: Activation) -> Result<ConvolutionLayer, String> {
        let Dense { outputs, bias, activation } = given;
        let axes = self.sides.map(|side| Axis::new(side, 1));
        let convolution = Convolution::new_2d(self.channels, axes, outputs).layout(self.layout);
        with_weights(convolution, outputs, bias, activation, default)
    }
}

fn with_weights(
    convolution: Convolution,
    outputs: usize,
    bias: Option<bool>,
    activation: Option<String>,
    default: Activation,
) -> Result<ConvolutionLayer, String> {
    if outputs == 0 {
        return Err("outputs 0: write 1 or more".into());
    }
    let convolution = if bias.unwrap_or(true) { convolution } else { convolution.without_bias() };
    Ok(ConvolutionLayer::new(convolution, chosen(activation, default)?))
}

fn chosen(activation: Option<String>, default: Activation) -> Result<Activation, String> {
    activation.map_or(Ok(default), |name| {
        parse_activation(&name).map_err(|advice| format!("activation = \"{name}\" is unknown: {advice}"))
    })
}

fn pool(pooling: Pooling, given: Pool, map: &Map) -> Result<ConvolutionLayer, String> {
    let Pool { kernel, stride, padding } = given;
    let window = Window { kernel, stride: Some(stride.unwrap_or(kernel)), padding, dilation: None };
    Ok(windows(pooling, map, map.axes(&window)?))
}

fn windows(pooling: Pooling, map: &Map, axes: [Axis; 2]) -> ConvolutionLayer {
    ConvolutionLayer::pool(pooling, Convolution::depthwise(map.channels, axes).layout(map.layout))
}

/// What is left to be wrong are sizes beyond the machine's.
fn checked(layer: ConvolutionLayer) -> Result<ConvolutionLayer, String> {
    let refused = |error| format!("{error}: choose smaller sizes");
    layer.convolution().check().map(|()| layer).map_err(refused)
}
