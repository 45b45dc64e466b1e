//! One limit: its level is what may be sent now, as far as this process knows. A bucket refills evenly; a window is
//! whole again at once.

use std::time::Duration;

use super::{
    known::{Known, least, seconds},
    moment::Moment,
    others::{Others, Sample},
    shape::Window,
};
use crate::limits::Limit;

/// How much of the distance a level rises when the server reports more than is reckoned.
/// Lower is taken at once: a raise may be a stale snapshot, and then costs 429s (quota tables: 6 % without this).
const RAISE: f64 = 0.05;
#[derive(Debug)]
pub(super) struct Bucket {
    /// `None` until an answer has named it.
    known: Option<Known>,
}

/// The call of which an answer speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// When the server probably counted it.
    pub(super) seen: Moment,
    /// What had been sent in all by then.
    pub(super) mark: f64,
    /// What is reserved beyond that: the server has not counted it yet.
    pub(super) unseen: f64,
    /// The most of this process's own that the server can have counted by then, if nothing was known when it left.
    pub(super) own: f64,
    /// What was reckoned counts nothing.
    pub(super) anew: bool,
}

/// A level as [`Snapshot`](super::Snapshot) shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Level {
    /// The whole quota of a period; where the server names none, the most that it ever said was left.
    pub limit: f64,
    /// What may be sent now; below zero while the refill pays off what left too early.
    pub remaining: f64,
    /// What comes back in a second; 0 where all comes back at once.
    pub refill_per_second: f64,
    /// When all comes back at once; `None` where it refills evenly.
    pub resets_in: Option<Duration>,
}

/// What is to be known of a bucket by another that follows it.
#[derive(Debug)]
pub(super) struct Outline {
    limit: f64,
    level: f64,
    period: f64,
    told: Moment,
    window: Option<Window>,
    is_guess: bool,
}

impl Bucket {
    pub(super) const fn new() -> Self {
        Self { known: None }
    }

    /// A full bucket that holds so much and refills in so many seconds.
    pub(super) fn full(limit: f64, period: f64, now: Moment) -> Self {
        Self { known: Some(Known::new(limit, period, now)) }
    }

    /// What one that follows this one has to know of it.
    pub(super) fn outline(&self, now: Moment) -> Option<Outline> {
        self.known.as_ref().map(|known| Outline {
            limit: known.limit,
            level: known.level_at(now),
            period: known.period,
            told: known.told,
            window: known.window.clone(),
            is_guess: known.is_guess,
        })
    }

    /// Follows another one at this share of it.
    pub(super) fn follow(&mut self, whole: Outline, share: f64, now: Moment) {
        let limit = whole.limit * share;
        let known = self
            .known
            .get_or_insert_with(|| Known { level: limit.min(whole.level), ..Known::new(limit, whole.period, now) });
        known.advance(now);
        if whole.is_guess {
            // More came to light than was thought to be there.
            known.level += (limit - known.limit).max(0.0);
        }
        known.is_guess = whole.is_guess;
        known.limit = limit;
        known.period = whole.period;
        known.told = whole.told;
        known.window = whole.window;
        known.level = known.level.min(limit);
        known.reckon();
    }

    #[inline]
    pub(super) fn limit(&self) -> Option<f64> {
        self.known.as_ref().map(|known| known.limit)
    }

    pub(super) fn level(&self, now: Moment) -> Option<Level> {
        self.known.as_ref().map(|known| Level {
            limit: known.limit,
            remaining: known.level_at(now),
            refill_per_second: known.refill,
            resets_in: known.window.as_ref().map(|window| window.resets.since(now)),
        })
    }

    pub(super) fn is_window(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.window.is_some())
    }

    /// What comes back in a second, on the whole, if it all does within so many seconds.
    pub(super) fn refill_within(&self, seconds: f64) -> Option<f64> {
        self.refill().filter(|_| self.known.as_ref().is_some_and(|known| known.period <= seconds && !known.is_guess))
    }

    /// What comes back in a second, on the whole.
    pub(super) fn refill(&self) -> Option<f64> {
        self.known.as_ref().map(|known| if known.window.is_some() { known.whole_refill() } else { known.refill })
    }

    /// Whether `amount` is free now.
    #[inline]
    pub(super) fn holds(&self, amount: f64, now: Moment) -> bool {
        self.known.as_ref().is_none_or(|known| known.holds(amount, now))
    }

    /// What was told is no more so.
    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    /// How long until `amount` is there if nobody else takes it.
    pub(super) fn wait_at_least(&self, amount: f64, now: Moment) -> Duration {
        let Some(known) = &self.known else { return Duration::ZERO };
        if !known.others.are_met() {
            return known.wait_for(amount, now);
        }
        let missing = known.missing(amount, now).max(0.0);
        Duration::try_from_secs_f64(missing / known.whole_refill()).unwrap_or(Duration::MAX)
    }

    /// How long until `amount` is free; zero where no limit is known.
    pub(super) fn wait_for(&self, amount: f64, now: Moment) -> Duration {
        self.known.as_ref().map_or(Duration::ZERO, |known| known.wait_for(amount, now))
    }

    #[inline]
    pub(super) fn reserve(&mut self, amount: f64, now: Moment) {
        if let Some(known) = &mut self.known {
            known.advance(now);
            known.level -= amount;
            known.others.reserve(amount, now);
        }
    }

    /// Gives back what was reserved and never sent.
    pub(super) fn refund(&mut self, amount: f64) {
        if let Some(known) = &mut self.known {
            known.level = (known.level + amount).min(known.limit);
            known.others.refund(amount);
        }
    }

    /// So much more was taken than had been reserved; less where it is negative.
    pub(super) fn correct(&mut self, amount: f64, now: Moment) {
        if let Some(known) = &mut self.known {
            known.advance(now);
            // A count that is absurd costs one period.
            known.level = (known.level - amount).clamp(-known.limit, known.limit);
        }
    }

    /// Nothing may be left before `until`, and one `amount` then: what follows leaves at the refill rate.
    pub(super) fn hold(&mut self, amount: f64, until: Moment) {
        let Some(known) = &mut self.known else { return };
        if let Some(window) = &mut known.window {
            known.level = known.level.min(0.0);
            window.resets = window.resets.max(until);
        } else {
            known.level = known.level_at(until).min(amount);
            known.at = known.at.max(until);
        }
    }

    /// Takes in what an answer says.
    #[inline(always)]
    pub(super) fn reconcile(&mut self, told: &Limit, heard: Heard, now: Moment) {
        let Heard { seen, mark, unseen, own, anew } = heard;
        match told.limit {
            Some(limit) => self.set_limit(limit, told, mark + unseen, now),
            None if self.guess(told, heard, now) => return,
            None => {}
        }
        let Some(known) = &mut self.known else { return };
        known.advance(now);
        let is_first = known.is_new && known.begin(told, seen, now);
        let Some(remaining) = told.remaining.filter(|remaining| *remaining <= known.limit) else {
            return known.hear_end(told, seen, now);
        };
        if anew {
            known.at = now;
            known.others = Others::default();
            known.window = known.window.take().map(|_| Window::told_by(told, seen, now));
        }
        let mut anew = anew || is_first;
        if let Some(reset) = told.reset {
            known.look_at_shape(reset, remaining, seen, now);
        }
        if let Some(window) = &mut known.window {
            match window.hear(told.reset, told.period, seen, now) {
                None => return,
                Some(is_other) => anew |= is_other,
            }
            known.period = window.seconds().unwrap_or(known.period);
        } else if known.others.observe(Sample { seen, remaining, mark }, known.limit, known.period) {
            known.reckon();
        }
        let age = now.seconds_since(seen);
        let since = if known.window.is_some() { 0.0 } else { known.refill * age };
        let estimate = least(remaining + since - unseen, known.limit);
        if known.window.is_none() {
            let whole = known.whole_refill();
            // Where most is left yet, they have only just begun; else it may have been used at any time.
            let is_early = seen <= known.since && remaining >= 0.5 * known.limit;
            if is_early && known.limit - remaining > own + 1.5 {
                known.others.suspect(whole, now);
            }
            known.others.steer(remaining - unseen, age, whole, known.limit, now);
        }
        // Among others the level is but a floor under what they leave each other.
        let raise = if known.others.are_met() { 1.0 } else { RAISE };
        known.level =
            if anew || estimate < known.level { estimate } else { known.level + raise * (estimate - known.level) };
    }

    /// Takes in an answer that names no limit, where none is known: what it says is left, there is at the least, and no
    /// more is counted on. Whether that is all it says.
    #[cold]
    fn guess(&mut self, told: &Limit, heard: Heard, now: Moment) -> bool {
        let Heard { seen, unseen, .. } = heard;
        let Some(remaining) = told.remaining else { return false };
        if self.known.is_none() && remaining <= 0.0 && told.reset.is_none() {
            return true;
        }
        // One call was let in.
        let guess = || Known { is_guess: true, ..Known::new(remaining.max(1.0), seconds(told.period), now) };
        let known = self.known.get_or_insert_with(guess);
        if known.is_guess {
            known.guess(told, remaining, unseen, seen, now);
        }
        known.is_guess
    }

    /// The limit, if the server named it within the last `age`: an older word is worth another look.
    pub(super) fn limit_told_within(&self, age: Duration, now: Moment) -> Option<f64> {
        self.known.as_ref().filter(|known| !known.is_guess && now.since(known.told) < age).map(|known| known.limit)
    }

    /// The limit, if one was named.
    pub(super) fn named_limit(&self) -> Option<f64> {
        self.known.as_ref().filter(|known| !known.is_guess).map(|known| known.limit)
    }

    /// Whether neither the limit is known nor when there is more: what is left was told, and nothing else.
    pub(super) fn is_vague(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.is_guess && known.window.is_none())
    }

    /// `taken`: all that was reserved so far.
    #[inline]
    fn set_limit(&mut self, limit: f64, told: &Limit, taken: f64, now: Moment) {
        let Some(known) = &mut self.known else {
            return self.begin(limit, told, taken, now);
        };
        known.told = known.told.max(now);
        if known.limit != limit {
            known.change_limit(limit, now);
        }
    }

    #[cold]
    fn begin(&mut self, limit: f64, told: &Limit, taken: f64, now: Moment) {
        // What was sent may all have been of this period, if it is no more than one holds.
        let level = if taken <= limit { limit - taken } else { limit };
        self.known = Some(Known { level, ..Known::new(limit, seconds(told.period), now) });
    }
}
