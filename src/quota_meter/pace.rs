//! A rate learned from refusals alone, for servers that send no limits, or enforce one that their headers do not show.
//!
//! Between two moments at which the server's bucket is empty, it admits exactly what it refills: so the calls admitted
//! between two 429s, by the time between them, are its rate. The pace starts a little below that, is at it after a
//! while, and then goes above it ever faster, until the next 429 measures it anew: a cubic, as TCP's CUBIC has it
//! (RFC 9438).

use std::time::Duration;

use super::moment::Moment;

/// How far the pace starts below the measured rate, and how far above it is after twice [`Pace::span`].
const SWING: f64 = 0.04;
/// The time in which the pace comes up to the measured rate, in seconds; so many times longer with each 429 that
/// confirms it, and no longer than that. A hidden limit holds but a second's worth: what was not used is gone whether
/// there is a 429 or not, so that they may be rarer.
const FIRST_SPAN: f64 = 50.0;
const LEARNED: Growth = Growth { by: 1.5, longest: 150.0 };
const HIDDEN: Growth = Growth { by: 4.0, longest: 400.0 };
/// The same while the rate is but a guess or assumed; where calls are rare, the time of so many: a span in which none
/// would leave tells nothing.
const GUESS_SPAN: f64 = 5.0;
const GUESS_CALLS: f64 = 8.0;
const ASSUMED_CALLS: f64 = 24.0;
/// Fewer admitted calls measure no rate.
const TELLING_CALLS: f64 = 16.0;
/// What a refusal takes from the bucket where 429s count: less than a call, of which there was not enough.
const REFUSAL: f64 = 0.7;
/// Seconds of the rate that may leave at once; of what came back while the gate was closed, that much is still there.
const MOST_AT_ONCE: f64 = 1.25;
const MOST_AT_ONCE_HIDDEN: f64 = 1.0;
/// A rate that comes out within this of the last one confirms it.
const CONFIRMED: f64 = 0.05;
/// So long after the last 429 it tells nothing of the rate any more: a client that was quiet measured only itself.
const FORGOTTEN: Duration = Duration::from_secs(600);

struct Growth {
    by: f64,
    longest: f64,
}

#[derive(Debug)]
pub(super) struct Pace {
    /// Calls a second; `None` until two refusals have measured it.
    rate: Option<f64>,
    /// Too few calls were admitted to measure it.
    is_guess: bool,
    /// The limit is a short one under one that is announced: its bucket holds a second's worth, so that what it did not
    /// admit in time is gone, and the pace at a refusal tells more than the mean since the last.
    is_hidden: bool,
    /// What may leave now.
    level: f64,
    at: Moment,
    /// The last moment at which the server's bucket was empty, and the calls admitted until then.
    empty: Empty,
    span: f64,
}

#[derive(Clone, Copy, Debug)]
struct Empty {
    /// Where the present measurement began.
    since: Moment,
    admitted: f64,
    /// Gates that closed since.
    refusals: f64,
    /// When the last 429 came.
    last: Moment,
    /// The gate's epoch that began then.
    epoch: u64,
}

/// The time that so many take, at this rate.
fn span_of(calls: f64, rate: f64) -> f64 {
    (calls / rate).clamp(GUESS_SPAN, LEARNED.longest)
}

impl Pace {
    /// The first 429, at a time at which so many calls had been admitted; `rate` if one is to be assumed.
    pub(super) fn new(now: Moment, admitted: f64, rate: Option<f64>, epoch: u64) -> Self {
        let empty = Empty { since: now, admitted, refusals: 0.0, last: now, epoch };
        let span = rate.map_or(GUESS_SPAN, |rate| span_of(ASSUMED_CALLS, rate));
        Self { is_hidden: rate.is_some(), is_guess: rate.is_none(), rate, level: 0.0, at: now, empty, span }
    }

    /// One more 429: the bucket is empty again. `opens` is when calls go on.
    pub(super) fn refused(&mut self, now: Moment, admitted: f64, opens: Moment, epoch: u64) {
        let elapsed = now.seconds_since(self.empty.since);
        let calls = admitted - self.empty.admitted;
        let was_known = self.rate.is_some();
        let mut came_back = 0.0;
        self.empty.refusals += 1.0;
        if elapsed > 0.0 && calls >= TELLING_CALLS {
            let measured = match self.rate(now).filter(|_| self.is_hidden) {
                Some(pace) => pace.min(self.rate.unwrap_or(pace) * (1.0 + SWING)),
                None => (calls + REFUSAL * self.empty.refusals) / elapsed,
            };
            let before = self.rate.filter(|_| !self.is_guess);
            let is_confirmed = before.is_some_and(|rate| (measured / rate - 1.0).abs() < CONFIRMED);
            let growth = if self.is_hidden { HIDDEN } else { LEARNED };
            self.span = if is_confirmed { (self.span * growth.by).min(growth.longest) } else { FIRST_SPAN };
            self.rate = Some(measured);
            self.is_guess = false;
            self.empty = Empty { since: now, admitted, refusals: 0.0, last: now, epoch };
            if was_known {
                came_back = measured * opens.seconds_since(now).min(self.most_at_once());
            }
        } else if let Some(rate) = self.rate.filter(|_| self.is_hidden && elapsed > 0.0) {
            // So soon again: it is too fast.
            self.rate = Some(rate * (1.0 - SWING));
            self.span = FIRST_SPAN;
            self.empty = Empty { since: now, admitted, refusals: 0.0, last: now, epoch };
        } else if self.is_guess && elapsed > 0.0 && calls >= 1.0 {
            // A better guess each time; the measurement goes on.
            let rate = (calls + REFUSAL * self.empty.refusals) / elapsed;
            self.rate = Some(rate);
            self.span = span_of(GUESS_CALLS, rate);
        }
        self.empty.last = now;
        self.level = came_back;
        self.at = opens.max(now);
    }

    /// A 429 of a call that left in an earlier epoch: it had been taken for admitted.
    pub(super) fn refused_late(&mut self, epoch: u64) {
        if epoch < self.empty.epoch {
            self.empty.admitted -= 1.0;
        }
    }

    /// Whether it tells nothing any more.
    pub(super) fn is_forgotten(&self, now: Moment) -> bool {
        now.since(self.empty.last) >= FORGOTTEN
    }

    pub(super) fn rate(&self, now: Moment) -> Option<f64> {
        let x = (now.seconds_since(self.empty.last) - self.span) / self.span;
        let rate = self.rate.filter(|_| !self.is_forgotten(now));
        // Past some spans above the measured rate nothing was refused: then it is hardly a measure any more.
        rate.map(|rate| rate * (1.0 + SWING * x.powi(3)).clamp(0.5, 4.0))
    }

    fn level_at(&self, now: Moment) -> f64 {
        let Some(rate) = self.rate(now) else { return f64::INFINITY };
        let elapsed = now.seconds_since(self.at);
        (self.level + rate * elapsed).min((rate * self.most_at_once()).max(1.0))
    }

    fn most_at_once(&self) -> f64 {
        if self.is_hidden { MOST_AT_ONCE_HIDDEN } else { MOST_AT_ONCE }
    }

    pub(super) fn reserve(&mut self, now: Moment, calls: f64) {
        if self.rate(now).is_some() {
            self.level = self.level_at(now) - calls;
            self.at = self.at.max(now);
        }
    }

    pub(super) fn refund(&mut self, calls: f64) {
        self.level += calls;
    }

    /// How long until so many calls may leave.
    pub(super) fn wait_for(&self, now: Moment, calls: f64) -> Duration {
        let Some(rate) = self.rate(now) else { return Duration::ZERO };
        let missing = calls - self.level_at(now);
        if missing <= 0.0 {
            return self.at.since(now);
        }
        Duration::try_from_secs_f64(missing / rate)
            .unwrap_or(Duration::MAX)
            .saturating_add(Duration::from_nanos(1))
            .saturating_add(self.at.since(now))
            .min((self.empty.last + FORGOTTEN).since(now))
    }
}
