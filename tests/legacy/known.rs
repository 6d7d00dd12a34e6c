//! Known results and failures of the collections.

/// Cases that do not answer rightly, by the beginning of their name, each with its cause.
pub(crate) const KNOWN: &[(&str, &str)] = &[];

/// Single layers that answer rightly, at least.
pub(crate) const SINGLE_LAYERS: usize = 807;

/// Networks that answer rightly, at least.
pub(crate) const NETWORKS: usize = 25;

/// Classic models that answer rightly, at least.
pub(crate) const CLASSIC: usize = 120;
