//! [`Snapshot`]: what a scope is like at one moment.

use std::time::Duration;

use super::{Counts, Level, ScopeName, Used};
use crate::{ApiError, limits::Unit};

/// What the meter knows of one scope at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the quota belongs to.
    pub scope: ScopeName,
    /// The request quota, as the server says; until an answer has named it, the one that was given, of several the one for the
    /// shortest time, or `None`.
    pub requests: Option<Level>,
    /// The token quota, likewise.
    pub tokens: Option<Level>,
    /// Every other limit that is kept: tokens in and out apart, a project's, a second period's; and those that were given, which
    /// stay here when the server names its own.
    pub more: Vec<Also>,
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

/// A limit beside the usual two, as [`Snapshot::more`] shows it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Also {
    /// The server's own name for it (`input-tokens`, `project-tokens`, a policy's); `given` for one that was given, and
    /// `given-per-minute`, `given-per-day` where there are several of its kind.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// Who set it.
    pub set_by: SetBy,
    /// How much of it is left.
    pub level: Level,
}

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetBy {
    /// The server: its answers are the truth.
    Server,
    /// The caller, by [`Quota`](super::Quota): the meter's own count is.
    Given,
    /// The caller, as a [share](super::Quota::share) of what the server says.
    Share,
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
