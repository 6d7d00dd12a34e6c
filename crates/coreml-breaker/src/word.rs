//! State, reason and generation in one word, so that the question "may I call?" is one load.

use crate::report::{Reason, State};

const STATE_BITS: u32 = 3;
const REASON_BITS: u32 = 5;

/// A state, the reason for which it rejects (if it does), and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: State,
    pub(crate) reason: Reason,
    pub(crate) generation: u64,
}

impl Word {
    pub(crate) fn pack(self) -> u64 {
        (((self.generation << REASON_BITS) + self.reason as u64) << STATE_BITS) + self.state as u64
    }

    #[inline]
    pub(crate) fn unpack(word: u64) -> Self {
        let state = word & ((1 << STATE_BITS) - 1);
        let reason = word >> STATE_BITS & ((1 << REASON_BITS) - 1);
        Self {
            state: State::ALL[state as usize],
            reason: Reason::ALL[reason as usize],
            generation: word >> (STATE_BITS + REASON_BITS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_reason_survives_packing() {
        for state in State::ALL {
            for reason in Reason::ALL {
                for generation in [0, 1, 255, (1 << 56) - 1] {
                    let word = Word { state, reason, generation };
                    assert_eq!(Word::unpack(word.pack()), word);
                }
            }
        }
    }
}
