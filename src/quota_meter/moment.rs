//! Points in time as plain numbers: the core reckons with them many times a call, and instants are dear.

use std::ops::Add;

use tokio::time::{Duration, Instant};

/// Nanoseconds since the meter's first event; enough for 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

/// Turns instants into moments and back. It starts with the first one it sees: making it touches no clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    origin: Option<Instant>,
}

impl Clock {
    /// Earlier ones than the first count as that.
    pub(super) fn moment(&mut self, at: Instant) -> Moment {
        let origin = *self.origin.get_or_insert(at);
        let since = at.saturating_duration_since(origin);
        Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// `None` past what the system's clock can say.
    pub(super) fn instant(&self, moment: Moment) -> Option<Instant> {
        self.origin?.checked_add(Duration::from_nanos(moment.0))
    }
}

impl Moment {
    /// The meter's first event.
    pub(super) const START: Self = Self(0);

    /// 0 where `earlier` is later.
    #[inline]
    pub(super) fn seconds_since(self, earlier: Self) -> f64 {
        // Signed: that is one instruction, and after 292 years still right.
        self.0.saturating_sub(earlier.0) as i64 as f64 * 1e-9
    }

    /// 0 where `earlier` is later.
    #[inline]
    pub(super) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    #[inline]
    pub(super) fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    #[inline]
    pub(super) fn minus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_sub(nanos))
    }

    /// Zero where `earlier` is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}
