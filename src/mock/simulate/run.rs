//! What a simulation came to: [`Run`], and the [`Mean`] of several.

use std::{fmt, time::Duration};

/// What one simulation came to.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// Calls begun.
    pub calls: u64,
    /// Attempts made: what the server got.
    pub attempts: u64,
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that were given up.
    pub failed: u64,
    /// Attempts that the server worked on in vain, since their client had given up waiting.
    pub wasted: u64,
    /// When the last call ended that did.
    pub finished: Duration,
    /// How long after the end of the outage the server was well again: from then on, for five slots at the least, 99 of
    /// 100 attempts were served in time. `None` without an outage, and where it never was.
    pub recovered: Option<Duration>,
    /// The length of a slot.
    pub slot: Duration,
    /// The run in slots of time.
    pub slots: Vec<Slot>,
}

/// What happened in one slot of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// Calls begun.
    pub calls: u64,
    /// Attempts that reached the server.
    pub attempts: u64,
    /// Attempts that were served in time, as their clients learned.
    pub served: u64,
    /// Attempts that were refused, as their clients learned.
    pub refused: u64,
    /// Attempts that their clients gave up.
    pub timed_out: u64,
}

impl Run {
    pub(super) fn new(slot: Duration) -> Self {
        Self { slot, ..Self::default() }
    }

    /// The slot of this time.
    pub(super) fn at(&mut self, at: Duration) -> &mut Slot {
        let place = (at.as_secs_f64() / self.slot.as_secs_f64()) as usize;
        if place >= self.slots.len() {
            self.slots.resize(place.saturating_add(1), Slot::default());
        }
        &mut self.slots[place]
    }

    /// Attempts to a call: 1 is a run without a retry.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.attempts as f64 / self.calls.max(1) as f64
    }

    /// Load amplification over time: for the middle of each slot in seconds, the attempts in it as a multiple of the
    /// calls that begin in a slot on average.
    #[must_use]
    pub fn load_over_time(&self) -> Vec<(f64, f64)> {
        let usual = self.calls as f64 / self.slots.len().max(1) as f64;
        self.over_time(|slot| slot.attempts as f64 / usual.max(f64::MIN_POSITIVE))
    }

    /// Calls that succeeded, a second, over time.
    #[must_use]
    pub fn served_over_time(&self) -> Vec<(f64, f64)> {
        let length = self.slot.as_secs_f64();
        self.over_time(|slot| slot.served as f64 / length)
    }

    /// Attempts that reached the server, a second, over time.
    #[must_use]
    pub fn attempts_over_time(&self) -> Vec<(f64, f64)> {
        let length = self.slot.as_secs_f64();
        self.over_time(|slot| slot.attempts as f64 / length)
    }

    fn over_time(&self, value: impl Fn(&Slot) -> f64) -> Vec<(f64, f64)> {
        let length = self.slot.as_secs_f64();
        self.slots.iter().enumerate().map(|(place, slot)| ((place as f64 + 0.5) * length, value(slot))).collect()
    }

    /// The highest load amplification of any slot.
    #[must_use]
    pub fn peak_load(&self) -> f64 {
        self.load_over_time().into_iter().map(|(_, load)| load).fold(0.0, f64::max)
    }

    /// When, after an outage that ended then, the server was well again.
    pub(super) fn recovery(&self, end: Duration) -> Option<Duration> {
        let first = (end.as_secs_f64() / self.slot.as_secs_f64()).ceil() as usize;
        let is_well = |slot: &Slot| {
            let bad = slot.refused + slot.timed_out;
            bad * 100 <= slot.served + bad
        };
        let slots = self.slots.get(first..)?;
        let place = slots.windows(5).position(|five| five.iter().all(is_well))?;
        Some((self.slot * u32::try_from(first + place).ok()?).saturating_sub(end))
    }
}

/// The mean of several runs, which differ in their seeds: made by `collect`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Mean {
    /// How many runs.
    pub runs: u32,
    /// Calls begun.
    pub calls: f64,
    /// Attempts made.
    pub attempts: f64,
    /// Calls that succeeded.
    pub succeeded: f64,
    /// Attempts that the server worked on in vain.
    pub wasted: f64,
    /// The highest load amplification of any slot.
    pub peak_load: f64,
    /// When the last call ended.
    pub finished: Duration,
    /// How long after the end of the outage the server was well again; `None` if it was not in one of the runs.
    pub recovered: Option<Duration>,
}

impl Mean {
    /// Attempts to a call.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.attempts / self.calls.max(1.0)
    }

    /// The share of the calls that succeeded.
    #[must_use]
    pub fn success(&self) -> f64 {
        self.succeeded / self.calls.max(1.0)
    }
}

impl<'a> FromIterator<&'a Run> for Mean {
    fn from_iter<I: IntoIterator<Item = &'a Run>>(runs: I) -> Self {
        let mut sum = Self { recovered: Some(Duration::ZERO), ..Self::default() };
        for run in runs {
            sum.runs += 1;
            sum.calls += run.calls as f64;
            sum.attempts += run.attempts as f64;
            sum.succeeded += run.succeeded as f64;
            sum.wasted += run.wasted as f64;
            sum.peak_load += run.peak_load();
            sum.finished = sum.finished.saturating_add(run.finished);
            sum.recovered = sum.recovered.zip(run.recovered).map(|(sum, one)| sum.saturating_add(one));
        }
        let count = sum.runs.max(1);
        for part in [&mut sum.calls, &mut sum.attempts, &mut sum.succeeded, &mut sum.wasted, &mut sum.peak_load] {
            *part /= f64::from(count);
        }
        Self { finished: sum.finished / count, recovered: sum.recovered.map(|all| all / count), ..sum }
    }
}

impl FromIterator<Run> for Mean {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> Self {
        runs.into_iter().collect::<Vec<_>>().iter().collect()
    }
}

/// As the AWS study has it: calls made, and the time it took.
impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.0} / {:.1} s", self.attempts, self.finished.as_secs_f64()))
    }
}
