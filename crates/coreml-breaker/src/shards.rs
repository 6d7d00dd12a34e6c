//! Successes that have not entered the window yet, counted without a lock.
//!
//! Once the window holds enough calls, a success trips nothing that was not due: it raises the success rate, ends a row of
//! failures and is neither slow nor a deadline miss. So it needs no processing of its own; when the next event comes, it is
//! enough to know how many successes came before it. Each shard counts them in one word together with their generation, so that a
//! success of an earlier generation cannot slip in. A thread that takes the lock first seals the shards and takes their counts,
//! and opens them again when done; a success that meets a sealed shard takes the lock as well.
//!
//! Sealing reads one shard after the other, but the result is as good as reading all at one moment: the total grows
//! only by ones while it is read, so at some moment it had the value that was read, and one success is like another.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{SHARDS, shard_of_thread};

const COUNT_BITS: u32 = 32;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// The bits of a generation that are kept. It would take two thousand million changes of state during one call for one
/// to be mistaken for another.
const GENERATION: u64 = (1 << 31) - 1;
const SEALED: u64 = 1 << 63;

/// Two lines, since processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(AtomicU64);

#[derive(Debug)]
pub(crate) struct Shards([Shard; SHARDS]);

impl Shards {
    pub(crate) fn sealed() -> Self {
        Self(std::array::from_fn(|_| Shard(AtomicU64::new(SEALED))))
    }

    /// Counts a success, unless the shard is sealed or of another generation.
    #[inline]
    pub(crate) fn add(&self, generation: u64, still_valid: impl Fn() -> bool) -> bool {
        let shard = &self.0[shard_of_thread()].0;
        let mut seen = shard.load(Ordering::Acquire);
        while seen >> COUNT_BITS == generation & GENERATION && seen & COUNT != COUNT && still_valid() {
            match shard.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Seals all shards and returns the successes counted since they were opened.
    pub(crate) fn seal(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.swap(SEALED, Ordering::AcqRel) & COUNT).sum()
    }

    /// Opens sealed shards for successes of a generation.
    pub(crate) fn open(&self, generation: u64) {
        self.0.iter().for_each(|shard| shard.0.store((generation & GENERATION) << COUNT_BITS, Ordering::Release));
    }
}
