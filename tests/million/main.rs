//! The example `million` in small: requests through BackoffRetry, over a service that fails at random in every way.

#[path = "../../examples/million/bodies.rs"]
mod bodies;
#[path = "../../examples/million/memory.rs"]
mod memory;
#[path = "../../examples/million/run.rs"]
mod run;
#[path = "../../examples/million/server.rs"]
mod server;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Mutex;

/// What is held is counted for all threads: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(start_paused = true)]
async fn each_is_answered_exactly_once() {
    let _alone = ALONE.lock().await;
    let watch = memory::Watch::begin();
    let tenths = watch.clone();
    let shown = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&shown);
    let totals = run::run(10_000, 300, 3, move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        tenths.look();
    })
    .await;
    assert_eq!(totals.wrongs, Vec::<String>::new());
    assert_eq!((totals.answered, totals.dropped), (10_000, 100));
    assert_eq!((totals.open, totals.in_flight), (0, 0));
    assert_eq!(totals.endings.values().sum::<u64>(), 10_000);
    assert_eq!(shown.load(Ordering::Relaxed), 10);
    assert_eq!(watch.fault(), None);
    // Each way to end was met.
    for ending in ["200 at once", "200 after retries", "failed response: all attempts are used", "error: never ready"] {
        assert!(totals.endings.get(ending).is_some_and(|count| *count > 20), "{ending}: {:?}", totals.endings);
    }
    assert!(totals.sent > 12_000 && totals.took.as_secs() > 10);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_run() {
    let _alone = ALONE.lock().await;
    let run = || run::run(500, 50, 9, |_| {});
    let (one, other) = (run().await, run().await);
    assert_eq!((one.sent, one.endings), (other.sent, other.endings));
}
