//! One limit as a bucket that refills: its level is what may be sent now, as far as this process knows.

use std::time::Duration;

use super::moment::Moment;
use crate::limits::Limit;

/// How much of the distance a level rises when the server reports more than is reckoned.
/// Lower is taken at once: a raise may be a stale snapshot, and then costs 429s (quota tables: 6 % without this).
const RAISE: f64 = 0.05;
/// The periods that APIs count by, in seconds.
const USUAL_PERIODS: [f64; 4] = [1.0, 60.0, 3600.0, 86400.0];
/// Below this use, rounding in `reset` hides the refill rate.
const TELLING_USE: f64 = 0.02;
/// Weight of a new observation of what others take.
const OTHERS_WEIGHT: f64 = 0.3;
/// Less than this share of the refill is taken for noise.
const OTHERS_NOISE: f64 = 0.03;
/// Seconds of the others' use that are left alone.
const HOLD_BACK: f64 = 1.5;
/// Most APIs count by the minute; held until an answer says otherwise.
const ASSUMED_PERIOD: f64 = 60.0;

#[derive(Debug)]
pub(super) struct Bucket {
    /// `None` until an answer has named it.
    known: Option<Known>,
    /// All that was ever reserved, less what was given back.
    reserved: f64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    limit: f64,
    /// Seconds in which an empty bucket fills.
    period: f64,
    level: f64,
    /// When `level` was right.
    at: Moment,
    /// When the server last named the limit.
    told: Moment,
    others: Others,
}

impl Known {
    /// What comes back in a second, to all who share the quota.
    fn whole_refill(&self) -> f64 {
        self.limit / self.period
    }

    /// What comes back in a second to this process.
    fn refill(&self) -> f64 {
        self.whole_refill() - self.others.share(self.whole_refill())
    }

    /// What is left alone, because others may have taken it since the server last said.
    fn held_back(&self) -> f64 {
        let share = self.others.share(self.whole_refill());
        if share > 0.0 { (share * HOLD_BACK).max(1.0) } else { 0.0 }
    }

    fn level_at(&self, now: Moment) -> f64 {
        (self.level + self.refill() * now.seconds_since(self.at)).min(self.limit)
    }
}

/// What other processes take from the same quota, a second: what is missing from the server's count when this
/// process's own calls are taken off.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    last: Option<Sample>,
    rate: f64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    seen: Moment,
    remaining: f64,
    mark: f64,
}

impl Others {
    fn observe(&mut self, sample: Sample, limit: f64, refill: f64) {
        let Some(last) = self.last else {
            self.last = Some(sample);
            return;
        };
        let elapsed = sample.seen.seconds_since(last.seen);
        if elapsed < (8.0 / refill).max(1.0) {
            return;
        }
        self.last = Some(sample);
        // A full bucket loses its refill: nothing can be read from it.
        if last.remaining.max(sample.remaining) < limit * 0.98 {
            let taken = refill * elapsed - (sample.mark - last.mark) - (sample.remaining - last.remaining);
            self.rate += OTHERS_WEIGHT * (taken / elapsed - self.rate);
        }
    }

    fn share(&self, refill: f64) -> f64 {
        if self.rate < refill * OTHERS_NOISE { 0.0 } else { self.rate.min(refill * 0.95) }
    }
}

/// A level as [`Snapshot`](super::Snapshot) shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Level {
    /// The whole quota of a period.
    pub limit: f64,
    /// What may be sent now; below zero while the refill pays off what left too early.
    pub remaining: f64,
    /// What comes back in a second.
    pub refill_per_second: f64,
}

impl Bucket {
    pub(super) const fn new() -> Self {
        Self { known: None, reserved: 0.0 }
    }

    pub(super) fn limit(&self) -> Option<f64> {
        self.known.map(|known| known.limit)
    }

    pub(super) fn level(&self, now: Moment) -> Option<Level> {
        self.known.map(|known| Level {
            limit: known.limit,
            remaining: known.level_at(now),
            refill_per_second: known.refill(),
        })
    }

    pub(super) fn refill(&self) -> Option<f64> {
        self.known.map(|known| known.refill())
    }

    /// How long until `amount` is free; zero where no limit is known.
    pub(super) fn wait_for(&self, amount: f64, now: Moment) -> Duration {
        let Some(known) = self.known else { return Duration::ZERO };
        let needed = (amount + known.held_back()).min(known.limit.max(amount));
        let missing = needed - known.level_at(now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        // Timers tick in milliseconds; the nanosecond keeps a due wait from being found a hair short.
        Duration::try_from_secs_f64(missing / known.refill())
            .unwrap_or(Duration::MAX)
            .saturating_add(Duration::from_nanos(1))
    }

    pub(super) fn reserve(&mut self, amount: f64, now: Moment) {
        self.reserved += amount;
        if let Some(known) = &mut self.known {
            known.level = known.level_at(now) - amount;
            known.at = known.at.max(now);
        }
    }

    /// Gives back what was reserved and never sent.
    pub(super) fn refund(&mut self, amount: f64) {
        self.reserved -= amount;
        if let Some(known) = &mut self.known {
            known.level = (known.level + amount).min(known.limit);
        }
    }

    /// So much more was taken than had been reserved; less where it is negative.
    pub(super) fn correct(&mut self, amount: f64, now: Moment) {
        if let Some(known) = &mut self.known {
            known.level = (known.level_at(now) - amount).min(known.limit);
            known.at = known.at.max(now);
        }
    }

    /// Nothing may be left before `until`, and one `amount` then: what follows leaves at the refill rate.
    pub(super) fn hold(&mut self, amount: f64, until: Moment) {
        if let Some(known) = &mut self.known {
            known.level = known.level.min(amount);
            known.at = known.at.max(until);
        }
    }

    /// Takes in what an answer says. `seen` is when the server probably counted its request, `mark` what had been sent in
    /// all by then: what is reserved beyond that, the server has not counted yet.
    pub(super) fn reconcile(&mut self, told: &Limit, seen: Moment, mark: f64, now: Moment) {
        if let Some(limit) = told.limit {
            self.set_limit(limit, now);
        }
        let Some(known) = &mut self.known else { return };
        let Some(remaining) = told.remaining.filter(|remaining| *remaining <= known.limit) else { return };
        let was_told_nothing_yet = known.level == f64::INFINITY;
        if let Some(period) = told.reset.and_then(|reset| period(known.limit, remaining, reset)) {
            known.level = known.level_at(now);
            // What is held back until later than now stays so.
            known.at = known.at.max(now);
            known.period = period;
        }
        known.others.observe(Sample { seen, remaining, mark }, known.limit, known.whole_refill());
        let estimate = (remaining + known.refill() * now.seconds_since(seen) - (self.reserved - mark)).min(known.limit);
        let level = known.level_at(now);
        known.level =
            if was_told_nothing_yet || estimate < level { estimate } else { level + RAISE * (estimate - level) };
        known.at = known.at.max(now);
    }

    /// The limit, if the server named it within the last `age`: an older word is worth another look.
    pub(super) fn limit_told_within(&self, age: Duration, now: Moment) -> Option<f64> {
        self.known.filter(|known| now.since(known.told) < age).map(|known| known.limit)
    }

    fn set_limit(&mut self, limit: f64, now: Moment) {
        if let Some(known) = &mut self.known {
            known.told = known.told.max(now);
        }
        match &mut self.known {
            None => {
                let level = f64::INFINITY;
                self.known =
                    Some(Known { limit, period: ASSUMED_PERIOD, level, at: now, told: now, others: Others::default() });
            }
            Some(known) if known.limit != limit => {
                known.level = known.level_at(now).min(limit);
                known.at = known.at.max(now);
                known.limit = limit;
                // What was there under the other limit tells nothing of what others take under this one.
                known.others = Others::default();
            }
            Some(_) => {}
        }
    }
}

/// The period of a bucket that lacks `limit - remaining` and is full again after `reset`, where that can be told.
fn period(limit: f64, remaining: f64, reset: Duration) -> Option<f64> {
    let used = limit - remaining;
    let reset = reset.as_secs_f64();
    if used <= 0.0 || reset <= 0.0 {
        return None;
    }
    let period = reset * limit / used;
    // Whole seconds are rounded ones; the rest comes in milliseconds.
    let step = if reset.fract() == 0.0 { 1.0 } else { 0.001 };
    let doubt = step / reset + 0.02;
    let usual = USUAL_PERIODS.into_iter().find(|usual| doubt < 0.5 && (period / usual - 1.0).abs() <= doubt);
    usual.or_else(|| (used / limit >= TELLING_USE && doubt < 0.1).then_some(period))
}
