//! [`Snapshot`]: what a scope is like at one moment.

use std::time::Duration;

use super::{Counts, Level, ScopeName, Used};
use crate::ApiError;

/// What the meter knows of one scope at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the quota belongs to.
    pub scope: ScopeName,
    /// The request quota; `None` until an answer has named it.
    pub requests: Option<Level>,
    /// The token quota; `None` until an answer has named it.
    pub tokens: Option<Level>,
    /// Calls that were let go and have not been answered.
    pub in_flight: usize,
    /// The most that may be in flight.
    pub window: u32,
    /// Calls that wait.
    pub waiting: usize,
    /// How long a call that came now would wait; `None` while no limit is known.
    pub expected_wait: Option<Duration>,
    /// When the gate that a 429 closed opens again; `None` if it is open.
    pub gate_opens_in: Option<Duration>,
    /// The answer that said the quota is used up, until a call succeeds again.
    pub spent: Option<ApiError>,
    /// Counts since the scope came into use.
    pub counts: Counts,
    /// What the calls have used since then.
    pub used: Used,
}

impl Level {
    /// How long until the whole of it is there again, if no call is made; `None` if it never comes back.
    #[must_use]
    pub fn full_in(&self) -> Option<Duration> {
        if self.resets_in.is_some() {
            return self.resets_in;
        }
        let missing = (self.limit - self.remaining).max(0.0);
        Duration::try_from_secs_f64(if missing > 0.0 { missing / self.refill_per_second } else { 0.0 }).ok()
    }
}
