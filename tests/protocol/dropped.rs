//! A call that is given up, at whatever stage: it gives back what it held.

use tokio::time::sleep;
use tower::{Layer, Service, limit::ConcurrencyLimitLayer};

use super::{Stack, ended};
use crate::common::{Counted, later, ms, named, poll_once, ready, reply, secs, settled, told_limit};

#[tokio::test(start_paused = true)]
async fn queued_it_gives_back_its_place() {
    let stack = Stack::new().with_left(60, 0).await;
    let calls = stack.many(3);
    settled().await;
    calls[0].abort();
    calls[1].abort();
    settled().await;
    assert_eq!(stack.held(), (1, 0));
    sleep(ms(1_002)).await;
    assert_eq!(stack.desk.open(), ["2"], "it has moved up to the first place");
}

#[tokio::test(start_paused = true)]
async fn granted_and_not_sent_it_gives_back_its_quota() {
    let stack = Stack::new().with_left(60, 0).await;
    // The only permit is held elsewhere while its turn comes.
    let mut limited = ConcurrencyLimitLayer::new(1).layer(stack.desk.clone());
    let mut calls = stack.over(limited.clone());
    let permit = ready(&mut limited).await.clone();
    let mut call = calls.call(named("granted"));
    assert!(poll_once(&mut call).is_pending());
    sleep(secs(2.0)).await;
    assert!(poll_once(&mut call).is_pending());
    let granted = stack.meter.snapshot();
    assert_eq!((granted.waiting, granted.in_flight, granted.requests.unwrap().remaining.round()), (0, 1, 1.0));
    drop(call);
    let after = stack.meter.snapshot();
    assert_eq!((after.waiting, after.in_flight, after.requests.unwrap().remaining.round()), (0, 0, 2.0));
    assert_eq!(stack.desk.count(), 1);
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn sent_it_frees_its_slot_and_its_quota_stays_used() {
    let stack = Stack::new().with_left(60, 10).await;
    let call = stack.call("a");
    settled().await;
    assert_eq!(stack.held(), (0, 1));
    call.abort();
    settled().await;
    let now = stack.meter.snapshot();
    assert_eq!((now.waiting, now.in_flight, now.requests.unwrap().remaining.round()), (0, 0, 9.0));
}

#[tokio::test(start_paused = true)]
async fn in_its_backoff_it_holds_nothing() {
    let stack = Stack::new().with_left(60, 10).await;
    let call = stack.call("a");
    settled().await;
    stack.desk.answer("a", reply(500)).await;
    assert_eq!(stack.held(), (0, 0));
    call.abort();
    sleep(secs(60.0)).await;
    assert_eq!(stack.desk.count(), 2);
}

/// Between a 429 and its second sending: the first place in line is free for the next.
#[tokio::test(start_paused = true)]
async fn at_the_front_again_it_gives_back_that_place() {
    let stack = Stack::new().with_left(60, 1).await;
    let rejected = stack.call("rejected");
    settled().await;
    let _next = stack.call("next");
    settled().await;
    stack.desk.answer("rejected", told_limit(429, 60, 0)).await;
    assert_eq!(stack.held(), (2, 0));
    rejected.abort();
    settled().await;
    assert_eq!(stack.held(), (1, 0));
    sleep(secs(3.0)).await;
    assert_eq!(stack.sent_after(2), ["next"]);
}

/// The one probe after a gate: another takes its place.
#[tokio::test(start_paused = true)]
async fn as_the_probe_it_leaves_the_chance_to_the_next() {
    let stack = Stack::new();
    let mut calls = stack.many(5);
    settled().await;
    stack.desk.answer_all(|| later("1")).await;
    sleep(secs(2.0)).await;
    for name in ["0", "1", "2"] {
        assert_eq!(stack.desk.open(), [name]);
        calls.remove(0).abort();
        sleep(secs(1.0)).await;
    }
}

/// The look at a key that was refused: another may look.
#[tokio::test(start_paused = true)]
async fn as_the_look_at_a_dead_key_too() {
    let stack = Stack::new();
    let _refused = stack.call("refused");
    settled().await;
    stack.desk.answer("refused", reply(401)).await;
    sleep(secs(60.0)).await;
    let looks = stack.call("looks");
    settled().await;
    assert!(ended(stack.call("other")).await.is_err());
    looks.abort();
    settled().await;
    let _next = stack.call("next");
    settled().await;
    assert_eq!(stack.desk.open(), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn before_it_was_ever_polled() {
    let stack = Stack::new().with_left(60, 1).await;
    let mut calls = stack.over(stack.desk.clone());
    // One that may leave at once has left with the call; one that may not stands in line.
    drop(calls.call(named("a")));
    drop(calls.call(named("b")));
    assert_eq!(stack.held(), (0, 0));
}

/// A response that was read is no longer the meter's; nor is one that is held unread.
#[tokio::test(start_paused = true)]
async fn an_answered_call_holds_nothing_but_its_body() {
    let stack = Stack::new();
    let (counted, open) = Counted::new(stack.desk.clone());
    let call = tokio::spawn(stack.over(counted).call(named("a")));
    settled().await;
    stack.desk.answer("a", reply(200)).await;
    assert_eq!(stack.held(), (0, 0));
    assert_eq!(ended(call).await.unwrap().status(), 200);
    assert_eq!(open.now(), 0);
}
