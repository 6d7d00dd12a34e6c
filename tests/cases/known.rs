//! Cases that are known not to pass, by the beginning of their name, each with its cause.

/// A case and why it does not pass.
pub(crate) type Known = (&'static str, &'static str);

pub(crate) const GOLDEN: &[Known] = &[];

pub(crate) const ZOO: &[Known] = &[];

pub(crate) const SINGLE_OPERATIONS: &[Known] = &[];
