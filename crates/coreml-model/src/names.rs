//! A fast hash for names.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers whose results nobody can foresee who writes a file, so that no file can have all its names collide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameHash {
    seed: u64,
}

impl Default for NameHash {
    fn default() -> Self {
        Self { seed: RandomState::new().hash_one(0) }
    }
}

impl BuildHasher for NameHash {
    type Hasher = NameHasher;
    fn build_hasher(&self) -> NameHasher {
        NameHasher { state: self.seed }
    }
}

/// Eight bytes at a time: both halves of a product, whose factors depend on the seed.
pub(crate) struct NameHasher {
    state: u64,
}

impl NameHasher {
    fn mix(&mut self, bytes: u64) {
        // The golden ratio: an odd number without a pattern in its bits.
        let product = u128::from(self.state ^ bytes) * u128::from(self.state.rotate_left(29) ^ 0x9e37_79b9_7f4a_7c15);
        let [low, high] = [product, product >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
        self.state = low ^ high ^ bytes.rotate_left(32);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for &eight in eights {
            self.mix(u64::from_le_bytes(eight));
        }
        let last = rest.iter().fold(0, |last, &byte| last << 8 | u64::from(byte));
        // The length tells names apart that differ in zeros.
        self.mix(last << 8 | u64::try_from(rest.len()).unwrap_or(0));
    }

    // Every string ends with this byte, which tells nothing new.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_look_alike_have_hashes_that_do_not() {
        let hash = NameHash::default();
        let names = (0..100_000).map(|i| format!("input_{i}_cast_fp16")).chain((0..50).map(|i| "\0".repeat(i)));
        let hashes: Vec<u64> = names.map(|name| hash.hash_one(name)).collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        // Tables use the lowest and the highest bits: each of 1024 groups has some hundred names.
        for shift in [0, 54] {
            let mut groups = [0; 1024];
            hashes.iter().for_each(|hash| groups[(hash >> shift & 1023) as usize] += 1);
            assert!(groups.iter().all(|count| (30..200).contains(count)), "{groups:?}");
        }
        assert_ne!(hash.hash_one("a"), NameHash::default().hash_one("a"));
    }
}
