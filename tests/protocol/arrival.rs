//! The number of arrival: drawn once for a call, and the same on every attempt.

use tokio::time::{Instant, sleep};
use tower::{Layer, Service};
use tower_outbound::Call;

use super::{Stack, ended};
use crate::common::{named, reply, secs, settled, told_limit};

#[tokio::test(start_paused = true)]
async fn it_is_the_same_on_each_attempt_and_each_resend() {
    let stack = Stack::new().with_left(60, 5).await;
    let start = Instant::now();
    let call = stack.call("a");
    settled().await;
    let limited = || told_limit(429, 60, 0);
    for answer in [reply(500), limited(), reply(503), limited(), limited()] {
        stack.desk.answer("a", answer).await;
        sleep(secs(30.0)).await;
    }
    stack.desk.answer("a", reply(200)).await;
    assert_eq!(ended(call).await.unwrap().status(), 200);

    let sent = stack.desk.calls("a");
    let counts: Vec<_> = sent.iter().map(|call| (call.attempt(), call.resends())).collect();
    assert_eq!(counts, [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (3, 3)]);
    for call in &sent {
        assert_eq!((call.seq(), call.start(), call.is_retried()), (sent[0].seq(), start, true));
        assert!(call.lease().is_some_and(|lease| lease.is_alive()));
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_up_from_call_to_call_whichever_stack_they_take() {
    let stacks = [Stack::new(), Stack::new(), Stack::new()];
    let _calls: Vec<_> = (0..12).map(|n| stacks[n % 3].call(&n.to_string())).collect();
    settled().await;
    let numbers: Vec<_> = (0..12).map(|n| stacks[n % 3].desk.calls(&n.to_string())[0].seq()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

/// One counter for all: those who come through a retry and those who come without stand in one line.
#[tokio::test(start_paused = true)]
async fn without_a_retry_the_meter_draws_from_the_same_counter() {
    let stack = Stack::new().with_left(60, 0).await;
    let mut bare = stack.meter.layer(stack.desk.clone());
    let mut calls = Vec::new();
    for pair in 0..3 {
        calls.push(tokio::spawn({
            let call = stack.call(&format!("{pair} retried"));
            async move { drop(call.await) }
        }));
        calls.push(tokio::spawn({
            let call = bare.call(named(&format!("{pair} bare")));
            async move { drop(call.await) }
        }));
    }
    sleep(secs(10.0)).await;
    let expected = ["0 retried", "0 bare", "1 retried", "1 bare", "2 retried", "2 bare"];
    assert_eq!(stack.sent_after(1), expected);
}

/// What a caller gives with the request holds: a call that waited elsewhere has not lost its place.
#[tokio::test(start_paused = true)]
async fn a_call_that_has_one_keeps_it_through_all_layers() {
    let stack = Stack::new().with_left(60, 0).await;
    let early = Call::now();
    let seq = early.seq();
    let _later = stack.call("later");
    settled().await;
    let _early = stack.send(crate::common::with(named("early"), early));
    sleep(secs(1.5)).await;
    assert_eq!(stack.sent_after(1), ["early"]);
    stack.desk.answer("early", told_limit(500, 60, 0)).await;
    sleep(secs(5.0)).await;
    assert!(stack.desk.calls("early").len() == 2 && stack.desk.calls("early").iter().all(|call| call.seq() == seq));
}
