//! What an answered call used, as its answer says, and as it was reckoned where that does not.

use super::{core::Told, cost::Cost};

/// A call that was answered, and whose answer has not been read yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) bytes: u32,
    /// What was reserved for it.
    pub(super) cost: Cost,
    /// What is held of the day's money.
    pub(super) money: f32,
    pub(super) told: Told,
}

/// What of the input a cache had, or took in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// Read from it, and counted in the input.
    pub(super) within: u64,
    /// Read from it, and counted beside the input, as Anthropic does.
    pub(super) beside: u64,
    /// Written to it, and counted in the input.
    pub(super) written: u64,
}

/// What an answer said that it used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cache: Cache,
    /// Nothing was to come that would have said more.
    pub(super) is_whole: bool,
}

impl Usage {
    pub(super) fn is_said(&self) -> bool {
        self.input.is_some() || self.output.is_some()
    }

    /// Input and output, with the estimate for what was not said.
    pub(super) fn with_estimate(&self, cost: Cost) -> (u64, u64) {
        let (input, output) = cost.split();
        let (input, output) = (input as u64, output as u64);
        if !self.is_said() {
            return (input, output);
        }
        if self.is_whole {
            return (self.input.unwrap_or(0), self.output.unwrap_or(0));
        }
        // A stream begins with how little there is so far.
        (self.input.unwrap_or(input), self.output.unwrap_or(0).max(output))
    }
}
