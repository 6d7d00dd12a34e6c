//! Models that are neither programs nor neural networks nor pipelines: trees, linear models, encoders and the like.
//!
//! Their parameters stay in the wire format, as [`Fields`]; the code that evaluates a type decodes them.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use bytes::Bytes;

use crate::error::ReadError;
use crate::wire::Fields;

/// A model of a classic type as the file has it.
#[derive(Debug)]
pub struct ClassicModel {
    tag: u32,
    kind: &'static str,
    bytes: Bytes,
}

impl ClassicModel {
    pub(crate) fn new(tag: u32, kind: &'static str, bytes: Bytes) -> Result<Self, ReadError> {
        Fields::new(&bytes).numbers()?;
        Ok(Self { tag, kind, bytes })
    }

    /// The number of its type in the format.
    pub fn tag(&self) -> u32 {
        self.tag
    }

    /// The name of its type in the format.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its parameters.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.bytes)
    }
}
