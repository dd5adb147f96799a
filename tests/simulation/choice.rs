//! Where a simulated run gets its choices from: a seed, or the bytes of a fuzzer.

/// Choices, the same ones each time.
#[derive(Debug)]
pub(crate) enum Choice<'a> {
    Seed(u64),
    /// Exhausted bytes choose the first of everything, which always leads on to an end.
    Bytes(&'a [u8]),
}

impl Choice<'_> {
    /// One of `0..count`; 0 where `count` is 0.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        let value = match self {
            // SplitMix64: good in every bit, and any seed will do.
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                mixed ^ (mixed >> 31)
            }
            Self::Bytes(bytes) => {
                let Some((first, rest)) = bytes.split_first() else { return 0 };
                *bytes = rest;
                u64::from(*first)
            }
        };
        value.checked_rem(count).unwrap_or(0)
    }

    /// True in about `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) >= 100 - percent
    }

    /// Some of `count`, at least one of them where there is one.
    pub(crate) fn part(&mut self, count: u64) -> u64 {
        if count == 0 || self.chance(50) { count } else { 1 + self.below(count) }
    }
}
