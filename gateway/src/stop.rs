//! How the connections hear that the gateway stops.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Waker},
};

use tokio::sync::Notify;

/// Asked by every connection whenever it is woken, and so without a lock: who stops the gateway wakes them.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stage: AtomicU8,
    connections: Mutex<Connections>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Option<Waker>>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It serves.
    Serving,
    /// What is in flight may end; nothing new is taken.
    Ending,
    /// The time for that is over.
    Over,
}

impl Stop {
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Serving,
            1 => Stage::Ending,
            _ => Stage::Over,
        }
    }

    /// Goes on to this stage, and lets all connections know.
    pub(crate) fn go_to(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        self.lock().open.values().flatten().for_each(Waker::wake_by_ref);
    }

    /// One more connection, until what this returns is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        let mut connections = self.lock();
        let id = connections.next;
        connections.next += 1;
        connections.open.insert(id, None);
        Entered { stop: Arc::clone(self), id, waker: None }
    }

    /// When no connection is left.
    pub(crate) async fn all_left(&self) {
        loop {
            let mut left = Pin::from(Box::new(self.left.notified()));
            left.as_mut().enable();
            if self.lock().open.is_empty() {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Entered {
    stop: Arc<Stop>,
    id: u64,
    waker: Option<Waker>,
}

impl Entered {
    /// The stage now; a later one wakes this task.
    pub(crate) fn poll_stage(&mut self, cx: &Context<'_>) -> Stage {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.stop.lock().open.insert(self.id, self.waker.clone());
        }
        // After the waker is known: a stage that came before is seen here, and one that comes later wakes.
        self.stop.stage()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.stop.lock().open.remove(&self.id);
        self.stop.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        task::{Poll, ready},
    };

    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn who_waits_hears_of_each_stage_and_is_waited_for() {
        let stop = Arc::new(Stop::default());
        let mut entered = stop.enter();
        let heard = tokio::spawn(async move {
            let mut heard = Vec::new();
            for stage in [Stage::Ending, Stage::Over] {
                let next = poll_fn(|cx| match entered.poll_stage(cx) {
                    now if now >= stage => Poll::Ready(now),
                    _ => Poll::Pending,
                });
                heard.push(next.await);
            }
            heard
        });
        yield_now().await;
        stop.go_to(Stage::Ending);
        yield_now().await;
        assert!(!heard.is_finished());
        stop.go_to(Stage::Over);
        stop.all_left().await;
        assert_eq!(heard.await.expect("no panic"), [Stage::Ending, Stage::Over]);
    }

    #[tokio::test]
    async fn who_comes_late_hears_at_once() {
        let stop = Arc::new(Stop::default());
        stop.go_to(Stage::Ending);
        let mut entered = stop.enter();
        let stage = poll_fn(|cx| Poll::Ready(entered.poll_stage(cx))).await;
        assert_eq!(stage, Stage::Ending);
        let mut left = Box::pin(stop.all_left());
        assert!(poll_fn(|cx| Poll::Ready(left.as_mut().poll(cx).is_pending())).await);
        drop(entered);
        poll_fn(|cx| {
            ready!(left.as_mut().poll(cx));
            Poll::Ready(())
        })
        .await;
    }
}
