//! Limits of time that hardly ever run out.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use hyper::rt;
use tokio::time::{Instant, Sleep, sleep_until};

/// So many timers are kept for the next: more calls at once than that set theirs anew.
const KEPT: usize = 1024;
/// Thirty years: what is longer is never over, and no clock can count it.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A limit of the same length for many. A timer that is set is handed on to the next who needs one: it goes off before that
/// one's time is over, and is set anew then. Setting and taking back one for each call would take the runtime's only lock on
/// its timers twice.
#[derive(Debug)]
pub(crate) struct Limit {
    length: Duration,
    set: Mutex<Vec<Pin<Box<Sleep>>>>,
}

impl Limit {
    pub(crate) fn new(length: Duration) -> Arc<Self> {
        Arc::new(Self { length: length.min(NEVER), set: Mutex::default() })
    }

    /// The same limit, with timers of its own.
    pub(crate) fn apart(&self) -> Arc<Self> {
        Self::new(self.length)
    }

    /// Begins now. The future is over when the time is.
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.until(Instant::now() + self.length)
    }

    fn until(self: &Arc<Self>, end: Instant) -> Running {
        Running { limit: Arc::clone(self), end, timer: None }
    }

    fn timer(&self, end: Instant) -> Pin<Box<Sleep>> {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match set {
            Some(mut timer) => {
                // Of one who began later, or had longer.
                if timer.deadline() > end {
                    timer.as_mut().reset(end);
                }
                timer
            }
            None => Box::pin(sleep_until(end)),
        }
    }
}

/// Until the end of a [`Limit`].
#[derive(Debug)]
pub(crate) struct Running {
    limit: Arc<Limit>,
    end: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { limit, end, timer } = &mut *self;
        let timer = timer.get_or_insert_with(|| limit.timer(*end));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= *end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(*end);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(timer) = mem::take(&mut self.timer) {
            let mut set = self.limit.set.lock().unwrap_or_else(PoisonError::into_inner);
            if set.len() < KEPT {
                set.push(timer);
            }
        }
    }
}

impl rt::Sleep for Running {}

/// hyper's timers, by a limit.
#[derive(Clone, Debug)]
pub(crate) struct Timers(pub(crate) Arc<Limit>);

impl rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(self.0.until(Instant::now() + duration))
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(self.0.until(deadline.into()))
    }

    fn now(&self) -> StdInstant {
        Instant::now().into()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::from_secs(4);

    fn is_over(running: &mut Running) -> bool {
        Pin::new(running).poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[tokio::test(start_paused = true)]
    async fn each_ends_in_its_own_time_whosever_timer_it_has() {
        let limit = Limit::new(LENGTH);
        let mut first = limit.begin();
        assert!(!is_over(&mut first));
        advance(STEP).await;
        drop(first);
        let begin = Instant::now();
        let second = limit.begin();
        second.await;
        assert_eq!(begin.elapsed(), LENGTH);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_of_one_who_began_later_is_not_too_late() {
        let limit = Limit::new(LENGTH);
        let begin = Instant::now();
        let early = limit.begin();
        advance(STEP).await;
        assert!(!is_over(&mut limit.begin()));
        early.await;
        assert_eq!(begin.elapsed(), LENGTH);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_went_off_unused_is_set_anew() {
        let limit = Limit::new(LENGTH);
        assert!(!is_over(&mut limit.begin()));
        advance(2 * LENGTH).await;
        let begin = Instant::now();
        limit.begin().await;
        assert_eq!(begin.elapsed(), LENGTH);
    }

    #[tokio::test(start_paused = true)]
    async fn timers_are_shared() {
        let limit = Limit::new(LENGTH);
        for _ in 0..3 {
            assert!(!is_over(&mut limit.begin()));
        }
        assert_eq!(limit.set.lock().expect("no panic").len(), 1);
    }
}
