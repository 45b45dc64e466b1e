//! What a call takes from a quota.

use std::ops::{Add, AddAssign, Sub, SubAssign};

use crate::limits::Unit;

/// How many tokens a request will use, as its caller reckons: prompt and answer together.
///
/// A request extension. Without it the meter reckons as its [`Estimate`](super::Estimate) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenCost(pub u32);

/// Requests and tokens. Fractions appear when a bucket refills, and when a cost is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) requests: f64,
    pub(super) tokens: f64,
}

impl Cost {
    pub(super) const ZERO: Self = Self { requests: 0.0, tokens: 0.0 };
    #[cfg(test)]
    pub(super) const ONE: Self = Self { requests: 1.0, tokens: 0.0 };

    /// What it takes of a limit in this unit. How tokens will split into in and out nobody knows before: each is charged
    /// the whole, and the answers correct it.
    pub(super) fn in_unit(self, unit: Unit) -> f64 {
        match unit {
            Unit::Requests => self.requests,
            _ => self.tokens,
        }
    }
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, tokens: self.tokens + other.tokens }
    }
}

impl Sub for Cost {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { requests: self.requests - other.requests, tokens: self.tokens - other.tokens }
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
