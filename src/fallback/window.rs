//! How many calls of late went well, and how many did not.

use std::time::Duration;

use tokio::time::Instant;

const SLOTS: u64 = 10;

/// Counts of the last so many seconds, in ten steps.
#[derive(Debug)]
pub(super) struct Window {
    start: Instant,
    step: Duration,
    /// The step that counts now.
    now: u64,
    /// Good and failed.
    slots: [(u32, u32); SLOTS as usize],
}

impl Window {
    pub(super) fn new(now: Instant, window: Duration) -> Self {
        let step = (window / SLOTS as u32).max(Duration::from_millis(1));
        Self { start: now, step, now: 0, slots: Default::default() }
    }

    /// Lets what is too old go.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.start).as_nanos() / self.step.as_nanos();
        let step = u64::try_from(passed).unwrap_or(u64::MAX);
        for old in (self.now.saturating_add(1)..=step).take(SLOTS as usize) {
            self.slots[(old % SLOTS) as usize] = (0, 0);
        }
        if step.saturating_sub(self.now) >= SLOTS {
            self.slots = Default::default();
        }
        self.now = self.now.max(step);
    }

    pub(super) fn add(&mut self, now: Instant, failed: bool) {
        self.turn(now);
        let slot = &mut self.slots[(self.now % SLOTS) as usize];
        let count = if failed { &mut slot.1 } else { &mut slot.0 };
        *count = count.saturating_add(1);
    }

    /// Good and failed.
    pub(super) fn counts(&mut self, now: Instant) -> (u64, u64) {
        self.turn(now);
        self.slots.iter().fold((0, 0), |(good, failed), slot| (good + u64::from(slot.0), failed + u64::from(slot.1)))
    }
}
