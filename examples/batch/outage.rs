//! An API that gives no answer for a while: what that means for the run, and for the items that met it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How often an item is taken up again while others are answered: then it is not the API that is down.
const ROUNDS: u32 = 4;
/// Between an item's rounds; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What all workers together know of the API.
#[derive(Debug)]
pub(crate) struct Outage {
    /// How long the API may give no answer before the run ends.
    patience: Duration,
    since: Mutex<Option<Instant>>,
    answers: AtomicU64,
    reached: AtomicBool,
}

/// What one item has met.
#[derive(Debug, Default)]
pub(crate) struct Course {
    rounds: u32,
    fruitless: u32,
    /// The answers of others when it was sent.
    answers: u64,
}

/// What follows for an item that got no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it again after this time.
    Pause(Duration),
    /// Others are answered, it is not, time and again.
    Leave,
    /// Nobody has been answered for so long.
    End(Duration),
}

impl Outage {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: Mutex::default(), answers: AtomicU64::new(0), reached: AtomicBool::new(false) }
    }

    /// Something came back, of whatever kind.
    pub(crate) fn reached(&self) {
        self.reached.store(true, Relaxed);
    }

    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Relaxed)
    }

    /// An answer came that says something of the item.
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An item is about to be sent.
    pub(crate) fn sent(&self, course: &mut Course) {
        course.answers = self.answers.load(Relaxed);
    }

    /// An item got no answer, with all its attempts.
    pub(crate) fn failed(&self, course: &mut Course) -> Next {
        let now = Instant::now();
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        course.rounds = course.rounds.saturating_add(1);
        if self.answers.load(Relaxed) > course.answers {
            course.fruitless += 1;
        }
        if course.fruitless >= ROUNDS {
            return Next::Leave;
        }
        let left = self.patience.saturating_sub(lasted);
        if left.is_zero() {
            return Next::End(lasted);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (course.rounds - 1).min(8)).min(LONGEST_PAUSE);
        Next::Pause(pause.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_api_that_answers_nobody_is_waited_for_as_long_as_set() {
        let (outage, mut course, mut waited) = (Outage::new(60 * SECOND), Course::default(), Vec::new());
        loop {
            outage.sent(&mut course);
            match outage.failed(&mut course) {
                Next::Pause(pause) => {
                    waited.push(pause.as_secs());
                    tokio::time::advance(pause).await;
                }
                next => break assert_eq!(next, Next::End(60 * SECOND)),
            }
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 29]);
        // One answer, and the time begins anew.
        outage.answered();
        assert_eq!(outage.failed(&mut Course { answers: 1, ..Course::default() }), Next::Pause(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_alone_is_not_answered_is_left_after_some_rounds() {
        let (outage, mut course) = (Outage::new(60 * SECOND), Course::default());
        for round in 1..=ROUNDS {
            outage.sent(&mut course);
            outage.answered();
            assert_eq!(outage.failed(&mut course) == Next::Leave, round == ROUNDS);
        }
        assert_eq!(Outage::new(Duration::ZERO).failed(&mut Course::default()), Next::End(Duration::ZERO));
    }
}
