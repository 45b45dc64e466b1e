//! What a call asks for.

use super::TokenCost;

/// A call that comes: its place in the order, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    pub(super) class: u8,
    pub(super) seq: u64,
    pub(super) had_its_turn: bool,
    pub(super) demand: Demand,
}

/// What a request asks for: the tokens that are known, and the bytes of which the others are reckoned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) tokens: Tokens,
    /// 0 where nobody knows the length.
    pub(super) bytes: u32,
}

/// What is known of the tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tokens {
    /// Prompt and answer together.
    Together(u32),
    /// The prompt, and the most that the answer may be.
    #[cfg_attr(not(feature = "tiktoken"), expect(dead_code, reason = "only a tokenizer knows"))]
    Apart(u32, u32),
    /// The most that the answer may be.
    Output(u32),
}

/// How much of a cost is certain. For a guess nobody is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sure {
    /// All of it: a tokenizer has counted.
    Whole,
    /// The sum, as the caller gave it; how it splits is reckoned.
    Sum,
    /// What the answer may take; the prompt is reckoned by its length, and a picture in it is long and costs little.
    Output,
}

impl Tokens {
    pub(super) const fn sure(self) -> Sure {
        match self {
            Self::Together(_) => Sure::Sum,
            Self::Apart(..) => Sure::Whole,
            Self::Output(_) => Sure::Output,
        }
    }
}

impl Demand {
    pub(super) fn given(cost: TokenCost, length: Option<u64>) -> Self {
        Self { tokens: Tokens::Together(cost.0), bytes: Self::bytes(length) }
    }

    /// As the length of the body tells.
    #[inline]
    pub(super) fn by_length(length: Option<u64>) -> Self {
        Self { tokens: Tokens::Output(0), bytes: Self::bytes(length) }
    }

    pub(super) fn bytes(length: Option<u64>) -> u32 {
        u32::try_from(length.unwrap_or(0)).unwrap_or(u32::MAX)
    }
}
