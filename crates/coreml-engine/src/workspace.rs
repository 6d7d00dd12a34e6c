//! The memory that one run of a plan works in.

use crate::value::{Buffer, Type};

/// All memory that a run of a plan changes. Made once, used for one run at a time.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) slots: Vec<Buffer>,
    pub(crate) types: Vec<Type>,
    pub(crate) scratch: Buffer,
    /// Inputs on their way into another layout.
    pub(crate) staging: Buffer,
    pub(crate) taken: Vec<Buffer>,
    pub(crate) taken_types: Vec<Type>,
    /// Those of nested blocks.
    pub(crate) nested: Vec<Self>,
    /// Bytes of all buffers, nested blocks' included.
    pub(crate) held: usize,
}
