//! Fingerprints, which tell models apart by their contents.

use std::fmt;

use xxhash_rust::xxh3::Xxh3Default;

/// Identifies everything that was read of a model: its specification, or program and description, and the weights that the
/// program refers to. Equal for equal contents, wherever they are stored. It differs for different contents unless they were
/// made to collide on purpose: it is not a cryptographic hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

/// Thirty-two hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Takes the fingerprint of what it is given, in this order.
#[derive(Default)]
pub(crate) struct Contents(Xxh3Default);

impl Contents {
    pub(crate) fn add(&mut self, part: &[u8]) {
        // Lengths keep the ends of parts apart.
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.0.update(&length.to_le_bytes());
        self.0.update(part);
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.0.digest128())
    }
}
