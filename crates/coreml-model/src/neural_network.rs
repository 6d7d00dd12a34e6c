//! Neural networks: layers in execution order, over named blobs.
//!
//! A layer's parameters stay in the wire format, as [`Fields`]; the code that lowers the layer decodes them. Checked here
//! is only what does not depend on a layer's type: the wire format of layers, their number and their nesting.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use bytes::Bytes;

use crate::error::{ReadError, ReadErrorKind, Within, quote};
use crate::limits::Limits;
use crate::wire::Fields;

/// Which of the three types of network a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkKind {
    /// `neuralNetwork`.
    Plain,
    /// `neuralNetworkClassifier`.
    Classifier,
    /// `neuralNetworkRegressor`.
    Regressor,
}

/// A neural network as the file has it.
#[derive(Debug)]
pub struct NeuralNetwork {
    kind: NetworkKind,
    bytes: Bytes,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Layer<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// The blobs it reads.
    pub inputs: Vec<&'a str>,
    /// The blobs it writes.
    pub outputs: Vec<&'a str>,
    /// The number of its type in the format; `None` for one that is not set.
    pub tag: Option<u32>,
    /// Its parameters.
    pub fields: Fields<'a>,
    /// The rank of the first output according to the converter; may be missing or wrong.
    pub noted_rank: Option<u64>,
}

impl NeuralNetwork {
    pub(crate) fn new(kind: NetworkKind, bytes: Bytes, limits: &Limits) -> Result<Self, ReadError> {
        let network = Self { kind, bytes };
        let mut left = limits.operations;
        check(network.fields(), limits, 0, &mut left)?;
        Ok(network)
    }

    /// Which type of network it is.
    pub fn kind(&self) -> NetworkKind {
        self.kind
    }

    /// The fields of the whole network.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.bytes)
    }

    /// Whether its arrays have the five axes sequence, batch, channels, height and width, whatever their features say:
    /// the mapping of all networks before the one that keeps shapes exact.
    ///
    /// # Errors
    /// A mapping that is not in the wire format.
    pub fn is_five_axes(&self) -> Result<bool, ReadError> {
        Ok(self.fields().uint(5)? != 1)
    }

    /// Its layers.
    ///
    /// # Errors
    /// A layer that is not in the wire format.
    pub fn layers(&self) -> Result<Vec<Layer<'_>>, ReadError> {
        Layer::all(self.fields())
    }
}

impl<'a> Layer<'a> {
    /// The layers of a network, which may be one nested in a layer.
    ///
    /// # Errors
    /// As [`NeuralNetwork::layers`].
    pub fn all(network: Fields<'a>) -> Result<Vec<Self>, ReadError> {
        network.messages(1)?.into_iter().map(Self::read).collect()
    }

    fn read(layer: Fields<'a>) -> Result<Self, ReadError> {
        let name = layer.text(1)?;
        let read = || {
            let tag = layer.numbers()?.into_iter().rfind(|&number| number >= 100);
            let fields = tag.map(|tag| layer.message(tag)).transpose()?.flatten().unwrap_or_default();
            let noted = layer.messages(5)?.first().copied();
            let noted_rank = noted.map(|tensor| tensor.uint(1)).transpose()?;
            Ok(Self { name, inputs: layer.texts(2)?, outputs: layer.texts(3)?, tag, fields, noted_rank })
        };
        read().within(|| format!("layer {}", quote(name)))
    }
}

/// The networks nested in a layer: those of `branch` and of `loop`.
fn nested<'a>(layer: &Layer<'a>) -> Result<Vec<Fields<'a>>, ReadError> {
    let numbers: &[u32] = match layer.tag {
        Some(605) => &[1, 2],
        Some(615) => &[3, 4],
        _ => &[],
    };
    numbers.iter().filter_map(|&number| layer.fields.message(number).transpose()).collect()
}

fn check(network: Fields<'_>, limits: &Limits, depth: usize, left: &mut usize) -> Result<(), ReadError> {
    let exceeded = |what: String| ReadError::new(ReadErrorKind::Limit, format!("the network has more than {what}"));
    if depth > limits.block_depth {
        return Err(exceeded(format!("{} levels of nested networks", limits.block_depth)));
    }
    for message in network.messages(1)? {
        *left = left.checked_sub(1).ok_or_else(|| exceeded(format!("the limit of {} layers", limits.operations)))?;
        let layer = Layer::read(message)?;
        for inner in nested(&layer)? {
            check(inner, limits, depth + 1, left)?;
        }
    }
    Ok(())
}
