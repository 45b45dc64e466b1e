//! A rate learned from refusals alone, for servers that send no limits, or enforce one that their headers do not show.
//!
//! Between two moments at which the server's bucket is empty, it admits exactly what it refills: so the calls admitted
//! between two 429s, by the time between them, are its rate. The pace starts a little below that, is at it after a
//! while, and then goes above it ever faster, until the next 429 measures it anew: a cubic, as TCP's CUBIC has it
//! (RFC 9438).

use std::time::Duration;

use super::moment::Moment;

/// How far the pace starts below the measured rate, and how far above it is after twice [`Pace::span`].
const SWING: f64 = 0.05;
/// The time in which the pace comes up to the measured rate; longer with each 429 that confirms it.
const SPANS: (f64, f64) = (50.0, 150.0);
/// The same while the rate is but a guess.
const FIRST_SPAN: f64 = 5.0;
/// Fewer admitted calls measure no rate.
const TELLING_CALLS: f64 = 16.0;
/// A rate that comes out within this of the last one confirms it.
const CONFIRMED: f64 = 0.05;
/// So long after the last 429 it tells nothing of the rate any more: a client that was quiet measured only itself.
const FORGOTTEN: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Pace {
    /// Calls a second; `None` until two refusals have measured it.
    rate: Option<f64>,
    /// The limit is a short one under one that is announced: its bucket holds a second's worth, so that what it did not
    /// admit in time is gone, and the pace at a refusal tells more than the mean since the last.
    is_hidden: bool,
    /// What may leave now, up to a second's worth.
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
    /// When the last 429 came.
    last: Moment,
    /// The gate's epoch that began then.
    epoch: u64,
}

impl Pace {
    /// The first 429, at a time at which so many calls had been admitted; `rate` if one is to be assumed.
    pub(super) fn new(now: Moment, admitted: f64, rate: Option<f64>, epoch: u64) -> Self {
        let empty = Empty { since: now, admitted, last: now, epoch };
        // Where calls are rare, a span in which none would leave tells nothing.
        let span = rate.map_or(FIRST_SPAN, |rate| FIRST_SPAN.max(1.5 * TELLING_CALLS / rate)).min(SPANS.1);
        Self { is_hidden: rate.is_some(), rate, level: 0.0, at: now, empty, span }
    }

    /// One more 429: the bucket is empty again. `opens` is when calls go on.
    pub(super) fn refused(&mut self, now: Moment, admitted: f64, opens: Moment, epoch: u64) {
        let elapsed = now.seconds_since(self.empty.since);
        let calls = admitted - self.empty.admitted;
        if elapsed > 0.0 && calls >= TELLING_CALLS {
            let measured = match self.rate(now).filter(|_| self.is_hidden) {
                Some(pace) => pace.min(self.rate.unwrap_or(pace) * (1.0 + SWING)),
                None => calls / elapsed,
            };
            let is_confirmed = self.rate.is_some_and(|rate| (measured / rate - 1.0).abs() < CONFIRMED);
            self.span = if is_confirmed { (self.span * 1.5).min(SPANS.1) } else { SPANS.0 };
            self.rate = Some(measured);
            self.empty = Empty { since: now, admitted, last: now, epoch };
        } else if let Some(rate) = self.rate.filter(|_| self.is_hidden && elapsed > 0.0) {
            // So soon again: it is too fast.
            self.rate = Some(rate * (1.0 - SWING));
            self.span = SPANS.0;
            self.empty = Empty { since: now, admitted, last: now, epoch };
        } else if self.rate.is_none() && elapsed > 0.0 && calls >= 1.0 {
            // A first guess; the measurement goes on.
            self.rate = Some(calls / elapsed);
        }
        self.empty.last = now;
        self.level = 0.0;
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
        (self.level + rate * elapsed).min(rate.max(1.0))
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
