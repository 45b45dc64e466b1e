//! What the times of a reset tell: the period of a bucket, and whether it is a bucket at all.

use std::time::Duration;

use super::moment::Moment;
use crate::limits::Limit;

/// The periods that APIs count by, in seconds.
const USUAL_PERIODS: [f64; 4] = [1.0, 60.0, 3600.0, 86400.0];
/// Below this use, rounding in `reset` hides the refill rate.
const TELLING_USE: f64 = 0.02;
/// So many answers in a row that speak for the other shape decide.
const DECIDING: u8 = 3;
/// Servers that name a reset by the second may be this far off, in seconds.
const ROUNDING: f64 = 1.0;

/// What one answer says of a bucket's period.
pub(super) struct Period {
    pub(super) seconds: f64,
    /// By what share it may be off.
    pub(super) doubt: f64,
    /// Whether it is sure enough to overrule what was known.
    pub(super) is_telling: bool,
}

/// The period of a bucket that lacks `used` and is full again after `reset`.
pub(super) fn period(limit: f64, used: f64, reset: Duration) -> Option<Period> {
    let reset = reset.as_secs_f64();
    if used <= 0.0 || reset <= 0.0 {
        return None;
    }
    let seconds = reset * limit / used;
    // Whole seconds are rounded ones; the rest comes in milliseconds.
    let step = if reset.fract() == 0.0 { 1.0 } else { 0.001 };
    let doubt = step / reset + 0.02;
    let usual = USUAL_PERIODS.into_iter().find(|usual| doubt < 0.5 && (seconds / usual - 1.0).abs() <= doubt);
    match usual {
        Some(seconds) => Some(Period { seconds, doubt, is_telling: true }),
        None => Some(Period { seconds, doubt, is_telling: used / limit >= TELLING_USE && doubt < 0.1 }),
    }
}

/// A limit that is whole again all at once.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// When the present one began, as far as is known.
    since: Moment,
    pub(super) resets: Moment,
    /// The longest time until a reset that was seen, or the one that is told.
    length: Duration,
    is_told: bool,
}

impl Window {
    pub(super) fn new(length: Option<Duration>, now: Moment) -> Self {
        let known = length.unwrap_or(Duration::ZERO);
        // The first answer sets it.
        Self { since: now, resets: now, length: known, is_told: length.is_some() }
    }

    /// One of which a first answer says this. Where that is not when it ends, it began when the answer was given.
    pub(super) fn told_by(told: &Limit, seen: Moment, now: Moment) -> Self {
        let mut window = Self::new(told.period, now);
        if told.reset.is_none() {
            window.resets = seen;
            window.roll(now);
        }
        window
    }

    /// Seconds from one reset to the next, where they are known.
    pub(super) fn seconds(&self) -> Option<f64> {
        (!self.length.is_zero()).then_some(self.length.as_secs_f64())
    }

    /// If it has ended, the next begins.
    #[inline]
    pub(super) fn roll(&mut self, now: Moment) {
        if now >= self.resets && !self.length.is_zero() {
            let next = self.resets + self.length;
            self.since = self.resets;
            self.resets = if next > now { next } else { now + self.length };
        }
    }

    /// Takes in what an answer says of its end. `None` if it speaks of an earlier window; else whether it speaks of
    /// another one than was thought.
    ///
    /// How old the answer's word is nobody knows, so the earliest end of all that are told is the right one.
    #[inline(never)]
    pub(super) fn hear(
        &mut self,
        reset: Option<Duration>,
        length: Option<Duration>,
        seen: Moment,
        now: Moment,
    ) -> Option<bool> {
        if seen < self.since && self.resets > self.since {
            return None;
        }
        if let Some(length) = length {
            (self.length, self.is_told) = (length, true);
        }
        let Some(reset) = reset else { return Some(false) };
        if !self.is_told {
            self.length = self.length.max(reset);
        }
        let resets = now + reset;
        let tolerance = Duration::from_secs(1).saturating_add(now.since(seen));
        if self.resets <= self.since || resets > self.resets + tolerance {
            self.since = self.since.max(seen);
            self.resets = resets;
            return Some(true);
        }
        self.resets = self.resets.min(resets);
        Some(false)
    }

    /// How long until so much more is there than is left now.
    pub(super) fn wait_for(&self, missing: f64, limit: f64, now: Moment) -> Duration {
        let more = (missing / limit).ceil() - 1.0;
        let more = Duration::try_from_secs_f64(more.max(0.0) * self.length.as_secs_f64()).unwrap_or(Duration::MAX);
        self.resets.since(now).saturating_add(more).saturating_add(Duration::from_nanos(1))
    }
}

/// Looks whether a bucket is a window, or a window a bucket.
#[derive(Debug, Default)]
pub(super) struct Shape {
    last: Option<Word>,
    /// Answers in a row that speak for the other shape.
    doubts: u8,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    used: f64,
    reset: f64,
    seen: Moment,
}

impl Shape {
    /// Whether it has become clear that it is the other one.
    ///
    /// A bucket's reset grows with what is used; a window's stands at the same point in time whatever is used.
    pub(super) fn is_other(&mut self, is_window: bool, used: f64, reset: Duration, seen: Moment, now: Moment) -> bool {
        let word = Word { used, reset: reset.as_secs_f64(), seen };
        let Some(last) = self.last.replace(word) else { return false };
        let elapsed = seen.seconds_since(last.seen);
        let as_bucket = (last.reset * used / last.used - word.reset).abs();
        let as_window = (last.reset - elapsed - word.reset).abs();
        let blur = ROUNDING + 0.02 * word.reset;
        let (fits, fits_other) = if is_window { (as_window, as_bucket) } else { (as_bucket, as_window) };
        // An answer that took long may be told late: then it fits neither.
        let is_fresh = now.seconds_since(seen) < 0.25 * word.reset;
        if is_fresh && last.used > 0.0 && used != last.used && fits > 3.0 * blur && fits_other <= blur {
            self.doubts += 1;
        } else if fits <= blur {
            self.doubts = 0;
        }
        let is_other = self.doubts >= DECIDING;
        if is_other {
            *self = Self::default();
        }
        is_other
    }
}
