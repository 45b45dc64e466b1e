//! Stores that do not answer: because they are away for a while, or because whatever was to answer is gone.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::{
    runtime::Builder,
    time::{sleep, timeout},
};
use tower::{Layer, ServiceExt};
use tower_outbound::{
    mock::{Script, ok},
    quota_meter::{Ask, Batch, Leased, Leasing, QuotaStore, ScopeName},
};

use super::{Office, meter, settled};
use crate::common::{get, secs};

/// What becomes of the first question; the others are answered.
#[derive(Clone, Copy, Debug)]
enum First {
    PanicsAtOnce,
    PanicsLater,
    NeverAnswers,
}

#[derive(Clone, Debug)]
struct Lost {
    first: First,
    asked: Arc<AtomicUsize>,
}

impl Lost {
    fn new(first: First) -> Self {
        Self { first, asked: Arc::default() }
    }
}

impl QuotaStore for Lost {
    fn lease(&self, _: Ask) -> Leasing {
        let is_first = self.asked.fetch_add(1, Ordering::Relaxed) == 0;
        match self.first {
            First::PanicsAtOnce if is_first => panic!("a mistake in the store"),
            First::PanicsLater if is_first => Box::pin(async { panic!("a mistake in the store") }),
            First::NeverAnswers if is_first => Box::pin(pending()),
            _ => Box::pin(async { Ok(Leased::Now(Batch::new(10.0, 1_000.0), secs(10.0))) }),
        }
    }

    fn give_back(&self, _: &ScopeName, _: Batch) {}
}

/// As one that fails: the meter goes by what the server says, and asks again.
#[tokio::test(start_paused = true)]
async fn a_store_that_panics_stalls_nobody() {
    for first in [First::PanicsAtOnce, First::PanicsLater] {
        let store = Lost::new(first);
        let office = Office::new(meter().store(store.clone()));
        let call = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| office.call("first")));
        assert_eq!(call.is_err(), matches!(first, First::PanicsAtOnce), "the panic is its caller's");
        let _second = office.call("second");
        settled().await;
        assert!(office.desk.open().contains(&"second".into()), "{first:?}: {:?}", office.desk.open());
        sleep(secs(2.0)).await;
        let _third = office.call("third");
        settled().await;
        assert_eq!(store.asked.load(Ordering::Relaxed), 2, "{first:?}");
    }
}

/// The store is asked in a task of the runtime that happened to call: others may outlive that.
#[test]
fn a_runtime_that_ends_while_it_asks_stalls_no_other() {
    let runtime = || Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let store = Lost::new(First::NeverAnswers);
    let metered = meter().store(store.clone()).layer(Script::new().otherwise(ok("")));
    let first = runtime();
    let waiting = first.block_on(async { timeout(secs(1.0), metered.clone().oneshot(get())).await });
    assert!(waiting.is_err(), "nothing was lent yet");
    drop(first);
    let answer = runtime().block_on(async { timeout(secs(60.0), metered.oneshot(get())).await });
    assert_eq!(answer.expect("no stall").unwrap().status(), 200);
}

/// Away from the first question on, or for longer than the last batch was lent for: it is asked after 1, 2, 4 … 60 s.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_is_used_again() {
    for good_at_first in [0, 1] {
        let store = Away { good_at_first, ..Away::default() };
        let metered = meter().store(store.clone()).layer(Script::new().otherwise(ok("")));
        let calls = async |seconds| {
            for _ in 0..seconds {
                assert_eq!(metered.clone().oneshot(get()).await.unwrap().status(), 200);
                sleep(secs(1.0)).await;
            }
            store.asked.load(Ordering::Relaxed)
        };
        let asked = calls(100).await;
        assert!((6..=10).contains(&asked), "{good_at_first}: asked {asked} times while it was away");
        store.is_back.store(true, Ordering::Relaxed);
        let again = calls(100).await;
        assert!(again > asked + 10, "{good_at_first}: asked {asked} times, and then {again}");
    }
}

/// Lends 3 calls for 2 s, but for a while fails.
#[derive(Clone, Debug, Default)]
struct Away {
    good_at_first: usize,
    asked: Arc<AtomicUsize>,
    is_back: Arc<AtomicBool>,
}

impl QuotaStore for Away {
    fn lease(&self, _: Ask) -> Leasing {
        let is_good = self.asked.fetch_add(1, Ordering::Relaxed) < self.good_at_first;
        let answer = match is_good || self.is_back.load(Ordering::Relaxed) {
            true => Ok(Leased::Now(Batch::new(3.0, 1_000.0), secs(2.0))),
            false => Err("it is away".into()),
        };
        Box::pin(async { answer })
    }

    fn give_back(&self, _: &ScopeName, _: Batch) {}
}
