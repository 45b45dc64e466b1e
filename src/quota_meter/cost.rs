//! What a call takes from a quota.

use std::ops::{Add, AddAssign, Sub, SubAssign};

use crate::limits::Unit;

/// How many tokens a request will use, as its caller reckons: prompt and answer together.
///
/// A request extension. Without it the meter reckons as its [`Estimate`](super::Estimate) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenCost(pub u32);

/// Requests and tokens: together, and, as far as is known before, apart. Fractions appear when a bucket refills, and when a cost is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) requests: f64,
    pub(super) tokens: f64,
    pub(super) input: f64,
    pub(super) output: f64,
}

impl Cost {
    pub(super) const ZERO: Self = Self { requests: 0.0, tokens: 0.0, input: 0.0, output: 0.0 };
    #[cfg(test)]
    pub(super) const ONE: Self = Self::of_tokens(0.0, 0.0);

    /// One request with these tokens.
    pub(super) const fn of_tokens(input: f64, output: f64) -> Self {
        Self { requests: 1.0, tokens: input + output, input, output }
    }

    /// One request of which nobody knows how its tokens will split: each limit is charged the whole.
    pub(super) const fn of_either(tokens: f64) -> Self {
        Self { requests: 1.0, tokens, input: tokens, output: tokens }
    }

    /// In and out, so that they sum up to the whole.
    pub(super) fn split(self) -> (f64, f64) {
        (self.tokens - self.output, self.output)
    }

    /// What it takes of a limit in this unit.
    pub(super) fn in_unit(self, unit: Unit) -> f64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
            Unit::InputTokens => self.input,
            Unit::OutputTokens => self.output,
        }
    }
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            tokens: self.tokens + other.tokens,
            input: self.input + other.input,
            output: self.output + other.output,
        }
    }
}

impl Sub for Cost {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            requests: self.requests - other.requests,
            tokens: self.tokens - other.tokens,
            input: self.input - other.input,
            output: self.output - other.output,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Cost {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
