//! Permits: quota taken ahead of a call, by those who would rather do something else than wait.

use tokio::time::sleep;

use super::{Office, costing, is_over, meter, told};
use crate::common::{Reply, named, reply, secs, settled, with};

#[tokio::test(start_paused = true)]
async fn a_permit_takes_and_gives_back() {
    let office = Office::with_left(meter(), 60, 1).await;
    let handle = office.meter.handle();
    let permit = handle.try_acquire(&named("x")).unwrap();
    let refused = handle.try_acquire(&named("y")).unwrap_err();
    let wait = refused.wait().unwrap();
    assert!(wait > secs(0.9) && wait <= secs(1.001), "{wait:?}");
    let waits = office.call("waits");
    assert!(!is_over(&waits).await);
    assert_eq!(office.desk.count(), 1);
    drop(permit);
    settled().await;
    assert_eq!(office.desk.open(), ["waits"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_permit_leaves_before_all_who_wait_and_takes_no_more() {
    let office = Office::with_left(meter(), 60, 1).await;
    let permit = office.meter.handle().try_acquire(&costing("x", 0)).unwrap();
    let _waits = office.many(2);
    let _goes = office.send(with(costing("x", 0), permit.clone()));
    settled().await;
    assert_eq!(office.sent_after(1), ["x"]);
    // It is one permit: what goes with it again waits like all.
    let _again = office.send(with(named("again"), permit));
    sleep(secs(3.5)).await;
    assert_eq!(office.sent_after(2), ["0", "1", "again"]);
}

/// A 429 came in between: it waits with the others, and what it had taken is given back.
#[tokio::test(start_paused = true)]
async fn a_permit_does_not_open_a_closed_gate() {
    let office = Office::with_left(meter(), 60, 5).await;
    let permit = office.meter.handle().try_acquire(&named("x")).unwrap();
    let limited = office.call("limited");
    settled().await;
    office.desk.answer("limited", told(429, 60, 0)).await;
    limited.await.unwrap().unwrap();
    let _waits = office.send(with(named("x"), permit));
    settled().await;
    assert_eq!(office.desk.open().len(), 0);
    assert_eq!((office.meter.snapshot().in_flight, office.meter.snapshot().waiting), (0, 1));
    sleep(secs(60.0)).await;
    assert_eq!(office.desk.open(), ["x"]);
}

/// Nobody went with it: what it took goes to others, and it is worth nothing.
#[tokio::test(start_paused = true)]
async fn a_permit_that_is_kept_for_too_long_is_taken_back() {
    // A window of an hour, of which nothing comes back before.
    let hour = |mut answer: Reply| {
        for (name, value) in [("ratelimit-limit", "60"), ("ratelimit-remaining", "1"), ("ratelimit-reset", "3600")] {
            answer.headers_mut().insert(name, http::HeaderValue::from_static(value));
        }
        answer
    };
    let office = Office::new(meter());
    let first = office.call("first");
    settled().await;
    office.desk.answer("first", hour(reply(200))).await;
    first.await.unwrap().unwrap();
    let permit = office.meter.handle().try_acquire(&named("x")).unwrap();
    let _waits = office.call("waits");
    sleep(secs(59.9)).await;
    assert_eq!(office.desk.count(), 1);
    sleep(secs(0.2)).await;
    assert_eq!(office.sent_after(1), ["waits"]);
    let _late = office.send(with(named("late"), permit));
    settled().await;
    assert_eq!((office.desk.count(), office.meter.snapshot().waiting), (2, 1));

    let short = Office::with_left(meter().permit_time(secs(1.0)), 60, 5).await;
    let _permit = short.meter.handle().try_acquire(&named("x")).unwrap();
    assert_eq!(short.meter.snapshot().in_flight, 1);
    sleep(secs(1.0)).await;
    assert_eq!(short.meter.snapshot().in_flight, 0);
}
