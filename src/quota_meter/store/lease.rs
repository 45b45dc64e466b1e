//! What a store has lent to one scope.

use std::time::Duration;

use super::{Batch, Leased};
use crate::quota_meter::{cost::Cost, moment::Moment};

/// When less than this part of a batch is left, the next is asked for.
const LOW: f64 = 0.5;
/// How soon a store that failed is asked again; twice as long each time.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How soon one is asked again that lent less than was asked for, or said "later" and named no time; twice as long each time.
const USELESS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));
/// What is lent for less is of no use.
const SHORTEST: Duration = Duration::from_millis(1);
/// Sums of fractions are this far off.
const HAIR: f64 = 1e-6;
/// What calls took beyond their estimates is paid back up to so many batches: a count that is absurd costs no more.
const MOST_OWED: f64 = 10.0;

/// A question that the store should be asked now.
#[derive(Clone, Copy, Debug)]
pub(in crate::quota_meter) struct Asking {
    pub(in crate::quota_meter) least: Batch,
    pub(in crate::quota_meter) wanted: Batch,
    /// What was lent and not used in its time, or is more than will be.
    pub(in crate::quota_meter) unused: Batch,
}

#[derive(Debug)]
pub(in crate::quota_meter) struct Leases {
    /// Tokens may be owed: calls took more than was reckoned.
    left: Batch,
    last: Batch,
    ends: Moment,
    /// To be handed back.
    spare: Batch,
    /// The least that is asked for, while it is.
    asked: Option<Batch>,
    /// Not asked again before.
    after: Moment,
    failures: u32,
    /// Answers in a row that were of no use.
    useless: u32,
    is_watched: bool,
}

impl Default for Leases {
    fn default() -> Self {
        let (none, start) = (Batch::default(), Moment::START);
        Self {
            left: none,
            last: none,
            ends: start,
            spare: none,
            asked: None,
            after: start,
            failures: 0,
            useless: 0,
            is_watched: false,
        }
    }
}

impl Leases {
    /// Whether a call may leave. While the store fails, others decide alone.
    pub(in crate::quota_meter) fn holds(&self, cost: Cost, now: Moment) -> bool {
        self.failures > 0
            || now < self.ends && self.left.requests + HAIR >= cost.requests && self.left.tokens + HAIR >= cost.tokens
    }

    /// How long at the least until this is there; zero where nobody knows.
    pub(in crate::quota_meter) fn wait_for(&self, cost: Cost, now: Moment) -> Duration {
        if self.holds(cost, now) { Duration::ZERO } else { self.after.since(now) }
    }

    pub(in crate::quota_meter) fn take(&mut self, cost: Cost) {
        // What left without a lease, while the store failed, is no debt: the store knows nothing of it.
        let fails = self.failures > 0;
        let less = |left: f64, cost: f64| if fails { (left - cost).max(left.min(0.0)) } else { left - cost };
        self.left = self.left.zip(Batch::of(cost), less);
    }

    /// So much was taken and not used, or more was used where it is negative. What is more than the last batch was goes back to
    /// the store, for others.
    pub(in crate::quota_meter) fn put(&mut self, unused: Cost) {
        let left = self.left.zip(Batch::of(unused), |left, unused| left + unused);
        let most = self.last.zip(self.left, f64::max);
        self.left = left.zip(most, |left, most| left.clamp(-MOST_OWED * most.max(1.0), most.max(0.0)));
        // While the store fails, calls leave of which it knows nothing.
        if self.failures == 0 {
            let more = left.zip(self.left, |all, kept| (all - kept).max(0.0));
            self.spare = self.spare.zip(more, |spare, more| spare + more);
        }
    }

    /// If its time is over, what is left is to be handed back; what is owed stays so.
    fn lapse(&mut self, now: Moment) {
        if now >= self.ends {
            self.spare = self.spare.zip(self.left, |spare, left| spare + left.max(0.0));
            self.left = self.left.zip(Batch::default(), f64::min);
        }
    }

    /// What is to be handed back now, and when to look next, if that is to be seen to.
    pub(in crate::quota_meter) fn lapsed(&mut self, now: Moment) -> (Batch, Option<Moment>) {
        self.lapse(now);
        self.is_watched = now < self.ends;
        match self.is_watched {
            true => (Batch::default(), Some(self.ends)),
            false => (std::mem::take(&mut self.spare), None),
        }
    }

    /// When to look whether it has lapsed, if nobody does yet.
    pub(in crate::quota_meter) fn watch(&mut self, now: Moment) -> Option<Moment> {
        (now < self.ends && !std::mem::replace(&mut self.is_watched, true)).then_some(self.ends)
    }

    /// All that is owed to the store once the scope is gone.
    pub(in crate::quota_meter) fn kept(&self) -> Batch {
        self.spare.zip(self.left, |spare, left| spare + left.max(0.0))
    }

    /// What to ask for now, if anything: `next` is the call whose turn it is, `line` what all who wait take together.
    pub(in crate::quota_meter) fn ask(&mut self, now: Moment, next: Option<Cost>, line: Cost) -> Option<Asking> {
        let is_low = self.left.requests < LOW * self.last.requests || self.left.tokens < LOW * self.last.tokens;
        let is_short = next.is_some_and(|next| !self.holds(next, now));
        // Ahead of need only while it is used: an idle meter keeps nothing. While the store fails nobody is short, and a call asks
        // whether it is back.
        let is_wanted = is_short || self.failures > 0 || is_low && now < self.ends;
        if self.asked.is_some() || now < self.after || !is_wanted {
            return None;
        }
        self.lapse(now);
        let left = self.left;
        let one = next.unwrap_or(Cost::of_tokens(self.last.tokens / self.last.requests.max(1.0), 0.0));
        let one = Batch::of(one);
        // What is owed is paid out of what is wanted: a debt may be more than the store holds at once.
        let missing = one.zip(left, |one, left| (one - left.max(0.0)).max(0.0));
        let least = if is_short { missing } else { one };
        // What waits, and as much again as went since the last: more would lie here while the server's bucket runs over.
        let gone = self.last.zip(left, |last, left| (last - left).max(0.0));
        let wanted = Batch::of(line).zip(gone, |line, gone| line + gone).zip(one, f64::max);
        self.asked = Some(least);
        Some(Asking { least, wanted, unused: std::mem::take(&mut self.spare) })
    }

    /// The store's answer.
    pub(in crate::quota_meter) fn answered(&mut self, now: Moment, answer: Option<Leased>) {
        let least = self.asked.take().unwrap_or_default();
        let Some(answer) = answer else {
            self.after = now + doubled(RETRY, self.failures);
            self.failures = self.failures.saturating_add(1);
            return;
        };
        self.failures = 0;
        match answer {
            Leased::Now(batch, time) => {
                let sound = |amount: f64| if amount.is_finite() { amount.max(0.0) } else { 0.0 };
                let batch = Batch { requests: sound(batch.requests), tokens: sound(batch.tokens) };
                self.lapse(now);
                let is_empty = self.left.requests <= 0.0 && self.left.tokens <= 0.0;
                self.left = self.left.zip(batch, |left, batch| left + batch);
                // What is left of the last is kept no longer than it was lent for.
                self.ends = if is_empty { now + time } else { self.ends.min(now + time) };
                self.last = self.left.zip(Batch::default(), f64::max);
                let is_enough = batch.requests + HAIR >= least.requests && batch.tokens + HAIR >= least.tokens;
                if is_enough && batch != Batch::default() && time >= SHORTEST {
                    (self.useless, self.after) = (0, now);
                } else {
                    self.pause(now);
                }
            }
            Leased::Later(wait) if wait.is_zero() => self.pause(now),
            Leased::Later(wait) => self.after = now + wait.max(SHORTEST),
        }
    }

    fn pause(&mut self, now: Moment) {
        self.after = now + doubled(USELESS, self.useless);
        self.useless = self.useless.saturating_add(1);
    }
}

/// The first pause, doubled so often, up to the longest.
fn doubled((first, longest): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}

impl Batch {
    pub(in crate::quota_meter) fn of(cost: Cost) -> Self {
        Self { requests: cost.requests, tokens: cost.tokens }
    }

    fn zip(self, other: Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self { requests: with(self.requests, other.requests), tokens: with(self.tokens, other.tokens) }
    }
}
