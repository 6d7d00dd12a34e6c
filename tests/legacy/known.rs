//! What is known of the collections.

/// Cases that do not answer rightly, by the beginning of their name, each with its cause.
pub(crate) const KNOWN: &[(&str, &str)] = &[
    ("00690 ", "refused at load: the old shape mapping declares an output of another size than the convolution gives"),
    ("01131 ", "refused at load: the sizes of a split are not read yet"),
];

/// Single layers that answer rightly, at least.
pub(crate) const SINGLE_LAYERS: usize = 607;

/// Networks that answer rightly, at least.
pub(crate) const NETWORKS: usize = 22;

/// Classic models that answer rightly, at least.
pub(crate) const CLASSIC: usize = 120;
