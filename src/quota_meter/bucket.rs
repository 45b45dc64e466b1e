//! One limit: its level is what may be sent now, as far as this process knows. A bucket refills evenly; a window is
//! whole again at once.

use std::time::Duration;

use super::{
    moment::Moment,
    shape::{Shape, Window, period},
};
use crate::limits::{Kind, Limit};

/// How much of the distance a level rises when the server reports more than is reckoned.
/// Lower is taken at once: a raise may be a stale snapshot, and then costs 429s (quota tables: 6 % without this).
const RAISE: f64 = 0.05;
/// Weight of a new observation of what others take.
const OTHERS_WEIGHT: f64 = 0.3;
/// Less than this share of the refill is taken for noise.
const OTHERS_NOISE: f64 = 0.03;
/// More than this share of it is somebody.
const OTHERS_CLEAR: f64 = 0.3;
/// Looks, of a second and more each, for which somebody is remembered who takes nothing now: their calls may be waiting
/// for a gate to open, and find nothing then if all was taken.
const COMPANY: u8 = 60;
/// Seconds of the refill that are left lying for them.
const ROOM: f64 = 1.0;
/// The part of the others' use that is taken for theirs.
const YIELD: f64 = 0.8;
/// Seconds of the others' use that are left alone.
const HOLD_BACK: f64 = 2.5;
/// Most APIs count by the minute; held until an answer says otherwise.
const ASSUMED_PERIOD: f64 = 60.0;
/// A period that no answer has confirmed for so long is not believed any more.
const UNCONFIRMED: Duration = Duration::from_secs(60);

/// The lesser one; of two numbers it is one instruction, where `min` has to think of what is no number.
#[inline]
fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

#[derive(Debug)]
pub(super) struct Bucket {
    /// `None` until an answer has named it.
    known: Option<Known>,
    /// All that was ever reserved, less what was given back.
    reserved: f64,
}

#[derive(Debug)]
struct Known {
    limit: f64,
    /// Seconds in which an empty bucket fills.
    period: f64,
    /// What comes back in a second to this process; 0 in a window.
    refill: f64,
    /// What is left alone, because others may have taken it since the server last said.
    held: f64,
    level: f64,
    /// When `level` was right.
    at: Moment,
    /// When the server last named the limit.
    told: Moment,
    /// When an answer last agreed with `period`.
    confirmed: Moment,
    others: Others,
    window: Option<Window>,
    shape: Shape,
}

impl Known {
    fn new(limit: f64, period: f64, now: Moment) -> Self {
        let mut known = Self {
            limit,
            period,
            refill: 0.0,
            held: 0.0,
            level: f64::INFINITY,
            at: now,
            told: now,
            confirmed: now,
            others: Others::default(),
            window: None,
            shape: Shape::default(),
        };
        known.reckon();
        known
    }

    /// What comes back in a second, to all who share the quota.
    fn whole_refill(&self) -> f64 {
        self.limit / self.period
    }

    /// Brings up to date what follows from limit, period and others.
    fn reckon(&mut self) {
        let (whole, is_window) = (self.whole_refill(), self.window.is_some());
        let others = if is_window { Others::default() } else { self.others };
        let share = others.share(whole);
        // Who left them all that they take would never get back what they once took: a split is fair only if both press a bit.
        self.refill = if is_window { 0.0 } else { whole - share * YIELD };
        let room = if others.company > 0 { (whole * ROOM).min(self.limit * 0.05).max(1.0) } else { 0.0 };
        self.held = if share > 0.0 { (share * HOLD_BACK).max(1.0).max(room) } else { room };
    }

    /// What is missing of `amount`; 0 or less if it is free.
    #[inline]
    fn missing(&self, amount: f64, now: Moment) -> f64 {
        least(amount + self.held, self.limit.max(amount)) - self.level_at(now)
    }

    #[inline]
    fn level_at(&self, now: Moment) -> f64 {
        match &self.window {
            None => least(self.level + self.refill * now.seconds_since(self.at), self.limit),
            Some(window) if now < window.resets => self.level,
            Some(_) => self.limit,
        }
    }

    /// Brings the level up to now. What is held back until later than now stays so.
    #[inline]
    fn advance(&mut self, now: Moment) {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
        if let Some(window) = &mut self.window {
            window.roll(now);
        }
    }

    fn wait_for(&self, amount: f64, now: Moment) -> Duration {
        let missing = self.missing(amount, now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        if let Some(window) = &self.window {
            return window.wait_for(missing, self.limit, now);
        }
        // Timers tick in milliseconds; the nanosecond keeps a due wait from being found a hair short.
        Duration::try_from_secs_f64(missing / self.refill)
            .unwrap_or(Duration::MAX)
            .saturating_add(self.at.since(now))
            .saturating_add(Duration::from_nanos(1))
    }
}

/// What other processes take from the same quota, a second: what is missing from the server's count when this
/// process's own calls are taken off.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    last: Option<Sample>,
    rate: f64,
    /// For so many more looks it counts that there was somebody.
    company: u8,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    seen: Moment,
    remaining: f64,
    mark: f64,
}

impl Others {
    /// Whether the rate is another than before.
    fn observe(&mut self, sample: Sample, limit: f64, refill: f64) -> bool {
        let Some(last) = self.last else {
            self.last = Some(sample);
            return false;
        };
        let elapsed = sample.seen.seconds_since(last.seen);
        if elapsed < 1.0 || elapsed * refill < 8.0 {
            return false;
        }
        self.last = Some(sample);
        // A full bucket loses its refill: nothing can be read from it.
        if last.remaining.max(sample.remaining) < limit * 0.98 {
            let taken = refill * elapsed - (sample.mark - last.mark) - (sample.remaining - last.remaining);
            let taken = (taken / elapsed).min(refill);
            self.rate += OTHERS_WEIGHT * (taken - self.rate);
            let is_clear = taken > refill * OTHERS_CLEAR && taken * elapsed > 4.0;
            if is_clear && self.company == 0 {
                self.rate = taken;
            }
            self.company = if is_clear { COMPANY } else { self.company.saturating_sub(1) };
        }
        true
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
}

impl Bucket {
    pub(super) const fn new() -> Self {
        Self { known: None, reserved: 0.0 }
    }

    /// A limit that is named only after so much was reserved.
    pub(super) const fn after(reserved: f64) -> Self {
        Self { known: None, reserved }
    }

    /// A full bucket that holds so much and refills in so many seconds.
    pub(super) fn full(limit: f64, period: f64, now: Moment) -> Self {
        let known = Known { level: limit, ..Known::new(limit, period, now) };
        Self { known: Some(known), reserved: 0.0 }
    }

    /// What one that follows this one has to know of it.
    pub(super) fn outline(&self, now: Moment) -> Option<Outline> {
        self.known.as_ref().map(|known| Outline {
            limit: known.limit,
            level: known.level_at(now),
            period: known.period,
            told: known.told,
            window: known.window.clone(),
        })
    }

    /// Follows another one at this share of it.
    pub(super) fn follow(&mut self, whole: Outline, share: f64, now: Moment) {
        let limit = whole.limit * share;
        let known = self
            .known
            .get_or_insert_with(|| Known { level: limit.min(whole.level), ..Known::new(limit, whole.period, now) });
        known.advance(now);
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
        self.refill().filter(|_| self.known.as_ref().is_some_and(|known| known.period <= seconds))
    }

    /// What comes back in a second, on the whole.
    pub(super) fn refill(&self) -> Option<f64> {
        self.known.as_ref().map(|known| if known.window.is_some() { known.whole_refill() } else { known.refill })
    }

    /// Whether `amount` is free now.
    #[inline]
    pub(super) fn holds(&self, amount: f64, now: Moment) -> bool {
        self.known.as_ref().is_none_or(|known| known.missing(amount, now) <= 0.0)
    }

    /// What was told is no more so.
    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    /// How long until `amount` is free; zero where no limit is known.
    pub(super) fn wait_for(&self, amount: f64, now: Moment) -> Duration {
        self.known.as_ref().map_or(Duration::ZERO, |known| known.wait_for(amount, now))
    }

    /// So much is reserved while no limit is known.
    #[inline]
    pub(super) fn note(&mut self, amount: f64) {
        self.reserved += amount;
    }

    #[inline]
    pub(super) fn reserve(&mut self, amount: f64, now: Moment) {
        self.note(amount);
        if let Some(known) = &mut self.known {
            known.advance(now);
            known.level -= amount;
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

    /// Takes in what an answer says. `seen` is when the server probably counted its request, `mark` what had been sent in
    /// all by then: what is reserved beyond that, the server has not counted yet. `anew`: what was reckoned counts nothing.
    pub(super) fn reconcile(&mut self, told: &Limit, seen: Moment, mark: f64, now: Moment, anew: bool) {
        // Some say only what is left, and until when: that is what may be counted on.
        let at_least = || told.remaining.filter(|left| *left > 0.0 && told.reset.is_some() && self.known.is_none());
        if let Some(limit) = told.limit.or_else(at_least) {
            self.set_limit(limit, now);
        }
        let Some(known) = &mut self.known else { return };
        let Some(remaining) = told.remaining.filter(|remaining| *remaining <= known.limit) else { return };
        let is_first = known.level == f64::INFINITY;
        // One of which nobody says when it ends is paced as a bucket.
        if is_first && told.kind == Kind::Window && (told.reset.is_some() || told.period.is_some()) {
            known.window = Some(Window::new(told.period, now));
            known.reckon();
        }
        known.advance(now);
        if anew {
            known.at = now;
            known.others = Others::default();
            known.window = known.window.take().map(|_| Window::new(told.period, now));
        }
        let unseen = self.reserved - mark;
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
        } else if known.others.observe(Sample { seen, remaining, mark }, known.limit, known.limit / known.period) {
            known.reckon();
        }
        let since = if known.window.is_some() { 0.0 } else { known.refill * now.seconds_since(seen) };
        let estimate = least(remaining + since - unseen, known.limit);
        known.level =
            if anew || estimate < known.level { estimate } else { known.level + RAISE * (estimate - known.level) };
    }

    /// The limit, if the server named it within the last `age`: an older word is worth another look.
    pub(super) fn limit_told_within(&self, age: Duration, now: Moment) -> Option<f64> {
        self.known.as_ref().filter(|known| now.since(known.told) < age).map(|known| known.limit)
    }

    fn set_limit(&mut self, limit: f64, now: Moment) {
        let Some(known) = &mut self.known else {
            self.known = Some(Known::new(limit, ASSUMED_PERIOD, now));
            return;
        };
        known.told = known.told.max(now);
        if known.limit != limit {
            known.advance(now);
            known.level = known.level.min(limit);
            known.limit = limit;
            // What was there under the other limit tells nothing of what others take under this one.
            known.others = Others::default();
            known.reckon();
        }
    }
}

impl Known {
    /// What the time until the reset tells of the period, and of bucket or window.
    #[inline]
    fn look_at_shape(&mut self, reset: Duration, remaining: f64, seen: Moment, now: Moment) {
        let used = self.limit - remaining;
        // Mostly it says what is known.
        let expected = used * self.period;
        let said = reset.as_secs_f64() * self.limit;
        if self.window.is_none() && (said - expected).abs() <= 0.001 * said {
            self.confirmed = now;
            return;
        }
        self.look_closely(used, reset, seen, now);
    }

    #[cold]
    fn look_closely(&mut self, used: f64, reset: Duration, seen: Moment, now: Moment) {
        let is_window = self.window.is_some();
        if self.shape.is_other(is_window, used, reset, seen, now) {
            self.window = if is_window { None } else { Some(Window::new(None, now)) };
            self.reckon();
        }
        if self.window.is_some() {
            return;
        }
        match period(self.limit, used, reset) {
            Some(period) if (period.seconds / self.period - 1.0).abs() <= period.doubt => self.confirmed = now,
            Some(period) if period.is_telling => {
                self.period = period.seconds;
                self.confirmed = now;
                self.reckon();
            }
            _ if now.since(self.confirmed) > UNCONFIRMED => {
                self.period = ASSUMED_PERIOD;
                self.confirmed = now;
                self.reckon();
            }
            _ => {}
        }
    }
}
