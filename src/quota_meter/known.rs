//! What is known of a limit once an answer has named it.

use std::time::Duration;

use super::{
    moment::Moment,
    others::Others,
    shape::{Shape, Window, period},
};
use crate::limits::{Kind, Limit};

/// Most APIs count by the minute; held until an answer says otherwise.
pub(super) const ASSUMED_PERIOD: f64 = 60.0;
/// A period that no answer has confirmed for so long is not believed any more.
const UNCONFIRMED: Duration = Duration::from_secs(60);

/// The longest window that is kept to by its length alone, where nobody says when it ends: the end of a longer one may be
/// hours from where it is thought to be.
const LONGEST_UNENDED: Duration = Duration::from_secs(60);

/// The seconds of a period, as far as it is told.
pub(super) fn seconds(told: Option<Duration>) -> f64 {
    told.filter(|period| !period.is_zero()).map_or(ASSUMED_PERIOD, |period| period.as_secs_f64())
}

/// The lesser one; of two numbers it is one instruction, where `min` has to think of what is no number.
#[inline]
pub(super) fn least(a: f64, b: f64) -> f64 {
    if a < b { a } else { b }
}

/// The greater one, likewise.
#[inline]
pub(super) fn most(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) limit: f64,
    /// Seconds in which an empty bucket fills.
    pub(super) period: f64,
    /// What comes back in a second to this process; 0 in a window.
    pub(super) refill: f64,
    /// What is left alone, because others may have taken it since the server last said.
    pub(super) held: f64,
    pub(super) level: f64,
    /// When the first answer came.
    pub(super) since: Moment,
    /// When `level` was right.
    pub(super) at: Moment,
    /// When the server last named the limit.
    pub(super) told: Moment,
    /// When an answer last agreed with `period`.
    pub(super) confirmed: Moment,
    pub(super) others: Others,
    pub(super) window: Option<Window>,
    pub(super) shape: Shape,
    /// No answer has told yet what is left, or, of a window, when it ends.
    pub(super) is_new: bool,
    /// An answer has told what is left.
    pub(super) is_heard: bool,
    /// Nobody named the limit: it is the most that was ever left.
    pub(super) is_guess: bool,
}

impl Known {
    pub(super) fn new(limit: f64, period: f64, now: Moment) -> Self {
        let mut known = Self {
            limit,
            period,
            refill: 0.0,
            held: 0.0,
            level: limit,
            since: now,
            at: now,
            told: now,
            confirmed: now,
            others: Others::default(),
            window: None,
            shape: Shape::default(),
            is_new: true,
            is_heard: false,
            is_guess: false,
        };
        known.reckon();
        known
    }

    /// What comes back in a second, to all who share the quota.
    pub(super) fn whole_refill(&self) -> f64 {
        self.limit / self.period
    }

    /// Brings up to date what follows from limit, period and others.
    pub(super) fn reckon(&mut self) {
        let (whole, is_window) = (self.whole_refill(), self.window.is_some());
        if is_window {
            self.others = Others::default();
        }
        self.refill = if is_window { 0.0 } else { self.others.leave_of(whole) };
        self.held = self.others.held(whole);
    }

    /// What is missing of `amount`, whoever else may want it; 0 or less if it is there.
    #[inline]
    pub(super) fn missing(&self, amount: f64, now: Moment) -> f64 {
        least(amount + self.held, most(self.limit, amount)) - self.level_at(now)
    }

    #[inline]
    pub(super) fn level_at(&self, now: Moment) -> f64 {
        match &self.window {
            None => least(self.level + self.refill * now.seconds_since(self.at), self.limit),
            Some(window) if now < window.resets => self.level,
            Some(_) => self.limit,
        }
    }

    /// Brings the level up to now. What is held back until later than now stays so.
    #[inline]
    pub(super) fn advance(&mut self, now: Moment) {
        self.level = self.level_at(now);
        self.at = self.at.max(now);
        if let Some(window) = &mut self.window {
            window.roll(now);
        }
    }

    #[inline]
    pub(super) fn holds(&self, amount: f64, now: Moment) -> bool {
        self.missing(amount, now) <= 0.0 && self.others.leave(amount, now)
    }

    pub(super) fn wait_for(&self, amount: f64, now: Moment) -> Duration {
        self.wait_for_level(amount, now).max(self.others.wait_for(amount, now))
    }

    fn wait_for_level(&self, amount: f64, now: Moment) -> Duration {
        let mut missing = self.missing(amount, now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        if self.is_guess {
            // More than is reckoned may come back at once: who waited for several periods would find that out too late.
            missing = missing.min(self.limit);
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

    /// The server has changed it.
    #[cold]
    pub(super) fn change_limit(&mut self, limit: f64, now: Moment) {
        self.advance(now);
        self.level = self.level.min(limit);
        self.limit = limit;
        // What was there under the other limit tells nothing of what others take under this one.
        self.others = Others::default();
        self.reckon();
    }

    /// Takes in what the first answers say of its shape. Whether this is the first that tells what is left.
    #[cold]
    pub(super) fn begin(&mut self, told: &Limit, seen: Moment, now: Moment) -> bool {
        self.take_shape(told, seen, now);
        self.is_guess &= told.limit.is_none();
        let is_first = told.remaining.is_some() && !self.is_heard;
        self.is_heard |= is_first;
        self.is_new = !self.is_heard || told.kind == Kind::Window && told.reset.is_none();
        is_first
    }

    fn take_shape(&mut self, told: &Limit, seen: Moment, now: Moment) {
        if told.kind == Kind::Window && self.window.is_none() {
            let is_short = |period| told.remaining.is_some() || period <= LONGEST_UNENDED;
            if told.reset.is_some() || told.period.is_some_and(is_short) {
                self.window = Some(Window::told_by(told, seen, now));
            }
            // One of which nobody says when it ends is paced as a bucket.
            self.period = seconds(told.period);
            self.reckon();
        }
    }

    /// Takes in how much is left of a limit that nobody names, and how much of that no answer can have counted yet.
    ///
    /// It is taken at once, more than was thought as well: what others take, of which little is known, the next says.
    pub(super) fn guess(&mut self, told: &Limit, remaining: f64, unseen: f64, seen: Moment, now: Moment) {
        self.advance(now);
        if remaining > self.limit {
            self.limit = remaining;
            self.reckon();
        }
        self.take_shape(told, seen, now);
        let mut since = self.refill * now.seconds_since(seen);
        if let Some(window) = &mut self.window {
            if window.hear(told.reset, told.period, seen, now).is_none() {
                return;
            }
            self.period = window.seconds().unwrap_or(self.period);
            since = 0.0;
        }
        self.level = least(remaining + since - unseen, self.limit);
    }

    /// Takes in an answer that does not say what is left, but may say until when.
    #[cold]
    pub(super) fn hear_end(&mut self, told: &Limit, seen: Moment, now: Moment) {
        if let Some(window) = &mut self.window
            && window.hear(told.reset, told.period, seen, now).is_some()
        {
            self.period = window.seconds().unwrap_or(self.period);
        }
    }

    /// What the time until the reset tells of the period, and of bucket or window.
    #[inline(always)]
    pub(super) fn look_at_shape(&mut self, reset: Duration, remaining: f64, seen: Moment, now: Moment) {
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
                // What did not come back after another time was not taken by anybody.
                self.others = Others::default();
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
