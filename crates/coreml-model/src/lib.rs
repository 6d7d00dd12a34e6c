//! Reads Core ML model packages: bytes → [`Package`] → [`Program`] and [`Interface`].
//!
//! All untrusted input is checked here. Everything this crate returns follows the rules of the format: every index,
//! length and offset is within its file, every name is defined before it is used, every constant has the bytes its type
//! needs. The crate never executes anything.
//!
//! ```no_run
//! let package = coreml_model::Package::open("Classifier.mlpackage")?;
//! for input in &package.interface(None)?.inputs {
//!     println!("{}: {:?}", input.name, input.kind);
//! }
//! print!("{}", package.program());
//! # Ok::<(), coreml_model::ReadError>(())
//! ```
//!
//! How a file becomes a program: `package` finds the files and keeps paths inside the package, `budget` bounds what
//! decoding may cost, `proto` holds the messages, `decode` turns them into the program and its interfaces, and
//! `package::blob` reads the weights it refers to. [`Limits`] are the bounds.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod budget;
mod classic;
mod decode;
mod element;
mod error;
mod interface;
mod limits;
mod mil;
mod neural_network;
mod package;
mod program;
mod proto;
mod stage;
mod wire;
mod write;

/// The strings of programs. Short ones, which almost all are, are stored inline.
pub use smol_str::SmolStr;

pub use classic::ClassicModel;
pub use decode::kinds::{REFUSED_TYPES, RefusedType};
pub use error::{ReadError, ReadErrorKind, tame};
pub use interface::{
    ArrayFeature, ColorLayout, DictionaryKey, Feature, FeatureKind, ImageFeature, Interface, ShapeConstraint, SizeRange,
};
pub use limits::Limits;
pub use neural_network::{Layer, NetworkKind, NeuralNetwork};
pub use package::{Compiler, Fingerprint, Metadata, Package};
pub use program::{
    Argument, Arguments, Block, Constant, Dim, Function, Operation, Opset, PackedTensor, PackedType, Program, Results,
    TensorType, Value, ValueId, ValueType,
};
pub use stage::{Content, Stage};
pub use wire::{Fields, Held};
pub use write::{NewContent, NewModel};

#[cfg(test)]
mod tests;
