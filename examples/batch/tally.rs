//! What is known of a run while it goes on, and what ends it early.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use crate::ledger::Survey;

/// What is known of a run while it goes on, and after it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Items that have a result, those of earlier runs included. Counted when it is written.
    pub(crate) ok: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Items whose result was there already.
    pub(crate) skipped: u64,
    /// Items answered well in this run, and the tokens of those that have a number.
    pub(crate) answered: AtomicU64,
    pub(crate) tokens: AtomicU64,
    kinds: Mutex<BTreeMap<&'static str, u64>>,
    left: Mutex<BTreeMap<&'static str, Left>>,
}

/// Items that were left without a result.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) items: u64,
    /// What the first of them met.
    pub(crate) why: String,
}

impl Tally {
    pub(crate) fn new(survey: &Survey) -> Self {
        let Survey { ok, failed, .. } = *survey;
        Self { ok: ok.into(), failed: failed.into(), skipped: ok + failed, ..Self::default() }
    }

    /// A result is written: a good one, or one of a kind of failure.
    pub(crate) fn written(&self, failed: Option<&'static str>) {
        match failed {
            None => _ = self.ok.fetch_add(1, Relaxed),
            Some(kind) => {
                self.failed.fetch_add(1, Relaxed);
                *lock(&self.kinds).entry(kind).or_default() += 1;
            }
        }
    }

    /// An item stays without a result, for the next run to send.
    pub(crate) fn leave(&self, kind: &'static str, why: String) {
        lock(&self.left).entry(kind).or_insert(Left { items: 0, why }).items += 1;
    }

    pub(crate) fn done(&self) -> u64 {
        self.ok.load(Relaxed) + self.failed.load(Relaxed)
    }

    /// The items that failed in this run, by kind.
    pub(crate) fn kinds(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.kinds).clone()
    }

    /// The items that were left, by the kind of what they met.
    pub(crate) fn left(&self) -> BTreeMap<&'static str, Left> {
        lock(&self.left).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a run before its end: nothing new is sent, and what is out may come back.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    why: Arc<OnceLock<Why>>,
    told: watch::Sender<bool>,
}

/// Why a run ended early.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    Interrupted,
    /// No further call can succeed, or no further result can be written.
    Hopeless(String),
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self { why: Arc::default(), told: watch::Sender::new(false) }
    }

    pub(crate) fn stop(&self, why: Why) {
        // The first reason is the one that counts.
        let _ = self.why.set(why);
        self.told.send_replace(true);
    }

    pub(crate) fn why(&self) -> Option<&Why> {
        self.why.get()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.told.borrow()
    }

    pub(crate) async fn stopped(&self) {
        // It cannot be closed: the sender is here.
        let _ = self.told.subscribe().wait_for(|told| *told).await;
    }
}
