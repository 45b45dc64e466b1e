//! What a store has lent to one scope.

use std::time::Duration;

use super::{Batch, Leased};
use crate::quota_meter::{cost::Cost, moment::Moment};

/// When less than this part of a batch is left, the next is asked for.
const LOW: f64 = 0.5;
/// How soon a store that failed is asked again; twice as long each time.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A question that the store should be asked now.
#[derive(Clone, Copy, Debug)]
pub(in crate::quota_meter) struct Asking {
    pub(in crate::quota_meter) least: Batch,
    pub(in crate::quota_meter) wanted: Batch,
    /// What was lent and not used in its time.
    pub(in crate::quota_meter) lapsed: Batch,
}

#[derive(Debug)]
pub(in crate::quota_meter) struct Leases {
    left: Batch,
    last: Batch,
    ends: Moment,
    is_asked: bool,
    /// Not asked again before.
    after: Moment,
    failures: u32,
}

impl Default for Leases {
    fn default() -> Self {
        let (none, start) = (Batch::default(), Moment::START);
        Self { left: none, last: none, ends: start, is_asked: false, after: start, failures: 0 }
    }
}

impl Leases {
    /// Whether a call may leave. While the store fails, others decide alone.
    pub(in crate::quota_meter) fn holds(&self, cost: Cost, now: Moment) -> bool {
        let is_lent = || now < self.ends && self.left.requests >= cost.requests && self.left.tokens >= cost.tokens;
        self.failures > 0 || is_lent()
    }

    pub(in crate::quota_meter) fn take(&mut self, cost: Cost) {
        // What left without a lease, while the store failed, is no debt: the store knows nothing of it.
        self.left.requests = (self.left.requests - cost.requests).max(0.0);
        self.left.tokens = (self.left.tokens - cost.tokens).max(0.0);
    }

    pub(in crate::quota_meter) fn put(&mut self, cost: Cost) {
        self.left.requests = (self.left.requests + cost.requests).min(self.last.requests);
        self.left.tokens = (self.left.tokens + cost.tokens).min(self.last.tokens);
    }

    /// What is left, and owed to the store once the scope is gone.
    pub(in crate::quota_meter) fn kept(&self) -> Batch {
        self.left
    }

    /// What of it may still be used.
    fn unused(&self, now: Moment) -> Batch {
        if now < self.ends { self.left } else { Batch::default() }
    }

    /// When it may be asked again, if that is later than now.
    pub(in crate::quota_meter) fn asks_after(&self) -> Moment {
        self.after
    }

    /// What to ask for now, if anything: `next` is the call whose turn it is, `line` what all who wait take together.
    pub(in crate::quota_meter) fn ask(&mut self, now: Moment, next: Option<Cost>, line: Cost) -> Option<Asking> {
        let left = self.unused(now);
        let is_low = left.requests < LOW * self.last.requests || left.tokens < LOW * self.last.tokens;
        let is_short = next.is_some_and(|next| left.requests < next.requests || left.tokens < next.tokens);
        // Ahead of need only while it is used: an idle meter keeps nothing.
        let is_wanted = is_short || is_low && now < self.ends;
        if self.is_asked || now < self.after || !is_wanted {
            return None;
        }
        self.is_asked = true;
        let one = next.unwrap_or(Cost::of_tokens(self.last.tokens / self.last.requests.max(1.0), 0.0));
        let least = Batch { requests: one.requests, tokens: one.tokens };
        // What waits, and as much again as went since the last: more would lie here while the server's bucket runs over.
        let wanted = |line: f64, last: f64, left: f64, one: f64| (line + (last - left).max(0.0)).max(one);
        let wanted = Batch {
            requests: wanted(line.requests, self.last.requests, left.requests, least.requests),
            tokens: wanted(line.tokens, self.last.tokens, left.tokens, least.tokens),
        };
        let lapsed = if now < self.ends { Batch::default() } else { std::mem::take(&mut self.left) };
        Some(Asking { least, wanted, lapsed })
    }

    /// The store's answer.
    pub(in crate::quota_meter) fn answered(&mut self, now: Moment, answer: Option<Leased>) {
        self.is_asked = false;
        let Some(answer) = answer else {
            let pause = RETRY.0.saturating_mul(1 << self.failures.min(6)).min(RETRY.1);
            self.after = now + pause;
            self.failures = self.failures.saturating_add(1);
            return;
        };
        self.failures = 0;
        match answer {
            Leased::Now(batch, time) => {
                let sound = |amount: f64| if amount.is_finite() { amount.max(0.0) } else { 0.0 };
                let unused = self.unused(now);
                self.left = Batch {
                    requests: unused.requests + sound(batch.requests),
                    tokens: unused.tokens + sound(batch.tokens),
                };
                // What is left of the last is kept no longer than it was lent for.
                self.ends = if unused == Batch::default() { now + time } else { self.ends.min(now + time) };
                (self.last, self.after) = (self.left, now);
            }
            Leased::Later(wait) => self.after = now + wait.max(Duration::from_millis(1)),
        }
    }
}
