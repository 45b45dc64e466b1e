//! Calls that are given up: each gives back what it held, and leaves no hole.

use tokio::time::{Instant, sleep};
use tower::{Layer, Service, limit::ConcurrencyLimitLayer};

use super::{Office, costing, limits, meter, told};
use crate::common::{Desk, ms, named, poll_once, reply, secs, settled};

#[tokio::test(start_paused = true)]
async fn in_line_it_gives_up_its_place() {
    let office = Office::with_left(meter(), 60, 0).await;
    let calls = office.calls(["a", "b", "c"]);
    settled().await;
    calls[0].abort();
    calls[1].abort();
    settled().await;
    let now = office.meter.snapshot();
    assert_eq!((now.waiting, now.in_flight), (1, 0));
    assert!(now.expected_wait.unwrap() <= secs(2.001), "{now:?}");
}

/// The next one's turn comes as much earlier as those before it would have taken, and it knows.
#[tokio::test(start_paused = true)]
async fn those_behind_move_up_and_leave_no_hole() {
    let office = Office::with_left(meter(), 60, 0).await;
    let start = Instant::now();
    let mut calls = office.many(31);
    settled().await;
    let last = calls.pop();
    calls.iter().for_each(|call| call.abort());
    sleep(secs(60.0)).await;
    let times = office.desk.times(start);
    assert_eq!(times.len(), 2);
    assert!(times[1] <= ms(1_002), "it left at {:?}, and one a second may", times[1]);
    drop(last);
}

#[tokio::test(start_paused = true)]
async fn a_large_one_that_goes_lets_the_small_ones_past() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 6_000, 500, "55s")).await;
    let large = office.send(costing("large", 6_000));
    settled().await;
    let (_small, _next) = (office.send(costing("small", 100)), office.send(costing("next", 1_000)));
    settled().await;
    let start = Instant::now();
    large.abort();
    settled().await;
    assert_eq!(office.desk.open(), ["small"]);
    sleep(secs(60.0)).await;
    assert!(office.desk.times(start)[2] <= secs(7.1), "{:?}", office.desk.times(start));
}

#[tokio::test(start_paused = true)]
async fn let_go_and_not_sent_it_gives_back_its_quota() {
    let layer = meter();
    let desk = Desk::default();
    let office = Office { meter: layer.clone(), desk: desk.clone() };
    let first = office.call("first");
    settled().await;
    desk.answer("first", told(200, 60, 0)).await;
    first.await.unwrap().unwrap();
    // It is let go while its service is not ready: the one permit is held elsewhere.
    let mut limited = ConcurrencyLimitLayer::new(1).layer(desk.clone());
    let mut stack = layer.layer(limited.clone());
    let held = crate::common::ready(&mut limited).await.clone();
    let mut call = Box::pin(stack.call(named("granted")));
    assert!(poll_once(&mut call).is_pending());
    sleep(secs(2.0)).await;
    assert!(poll_once(&mut call).is_pending());
    let granted = layer.snapshot();
    assert_eq!((granted.in_flight, granted.waiting, granted.requests.unwrap().remaining.round()), (1, 0, 1.0));
    drop(call);
    let after = layer.snapshot();
    assert_eq!((after.in_flight, after.waiting, after.requests.unwrap().remaining.round()), (0, 0, 2.0));
    assert_eq!((after.counts.sent, desk.count()), (1, 1));
    drop(held);
}

/// Its turn came, and it was dropped before it was polled to see.
#[tokio::test(start_paused = true)]
async fn let_go_and_never_polled_its_turn_goes_to_the_next() {
    let office = Office::with_left(meter(), 60, 1).await;
    let mut service = office.meter.layer(office.desk.clone());
    let _first = office.call("a");
    settled().await;
    let mut unpolled = Box::pin(service.call(named("unpolled")));
    assert!(poll_once(&mut unpolled).is_pending());
    let _next = office.call("next");
    sleep(ms(1_200)).await;
    office.desk.answer("a", reply(200)).await;
    let granted = office.meter.snapshot();
    assert_eq!((granted.in_flight, granted.waiting), (1, 2), "its turn has come, and it does not know: {granted:?}");
    drop(unpolled);
    settled().await;
    assert_eq!(office.sent_after(2), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn in_flight_it_frees_its_slot_and_its_quota_stays_used() {
    let office = Office::new(meter());
    let calls = office.many(6);
    settled().await;
    assert_eq!(office.desk.open().len(), 4);
    calls[0].abort();
    settled().await;
    assert_eq!(office.desk.open(), ["1", "2", "3", "4"]);
    let office = Office::with_left(meter(), 60, 10).await;
    let call = office.call("sent");
    settled().await;
    call.abort();
    settled().await;
    let now = office.meter.snapshot();
    assert_eq!((now.in_flight, now.requests.unwrap().remaining.round()), (0, 9.0));
}

#[tokio::test(start_paused = true)]
async fn before_it_was_ever_polled() {
    let office = Office::with_left(meter(), 60, 1).await;
    let mut service = office.meter.layer(office.desk.clone());
    // One that may leave at once has left with the call, one that may not stands in line.
    drop(service.call(named("a")));
    drop(service.call(named("b")));
    let now = office.meter.snapshot();
    assert_eq!((now.in_flight, now.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn all_at_once_leave_nothing_behind() {
    let office = Office::with_left(meter(), 6_000, 10).await;
    let calls = office.many(5_000);
    sleep(ms(500)).await;
    for call in calls {
        call.abort();
        assert!(call.await.is_err());
    }
    let now = office.meter.snapshot();
    assert_eq!((now.in_flight, now.waiting), (0, 0));
    let _next = office.call("next");
    sleep(secs(1.0)).await;
    assert_eq!(office.desk.open(), ["next"]);
}
