//! A key that dies: whoever waits with it turns back, having spent nothing.

use tokio::time::{Instant, sleep};
use tower_outbound::{
    ErrorKind, Gate, Refused,
    backoff_retry::{Backoff, Jitter, Standard, StopReason},
    find_cause,
    key_check::NoSoundKey,
    nz,
};

use super::{Answer, Stack, ended, report};
use crate::common::{later, reply, secs, settled};

#[track_caller]
fn is_refused_for_its_key(answer: &Answer) {
    let error = answer.as_ref().expect_err("a refusal");
    let refused: &Refused = find_cause(&**error).unwrap_or_else(|| panic!("no refusal: {error:?}"));
    assert_eq!(refused.by(), Gate::Key);
    let rejected: &NoSoundKey = find_cause(&**error).expect("the reason");
    assert_eq!(rejected.keys()[0].error.as_ref().map(|error| error.kind()), Some(ErrorKind::Authentication));
}

#[tokio::test(start_paused = true)]
async fn those_in_line_are_refused_at_once() {
    let stack = Stack::new().with_left(60, 2).await;
    let mut calls = stack.many(50);
    settled().await;
    let (left, start) = (stack.meter.snapshot().requests.unwrap().remaining, Instant::now());
    stack.desk.answer("0", reply(401)).await;
    for call in calls.split_off(2) {
        is_refused_for_its_key(&ended(call).await);
    }
    assert_eq!(start.elapsed().as_nanos(), 0);
    assert_eq!((stack.desk.count(), stack.held()), (3, (0, 1)));
    assert_eq!(stack.meter.snapshot().requests.unwrap().remaining, left, "they have spent nothing");
    let answer = ended(calls.remove(0)).await;
    assert_eq!((answer.as_ref().unwrap().status().as_u16(), report(&answer).attempts), (401, 1));
}

/// They were waiting outside, where no lease ends: they find out when they come in.
#[tokio::test(start_paused = true)]
async fn those_that_wait_for_their_next_attempt_do_not_make_it() {
    let backoff = Backoff::constant(secs(5.0)).jitter(Jitter::None);
    let stack = Stack::new().retry(|retry| retry.policy(Standard::new().max_attempts(nz!(5)).backoff(backoff)));
    let stack = stack.with_left(6_000, 5_000).await;
    let (failed, broken, refused) = (stack.call("failed"), stack.call("broken"), stack.call("refused"));
    settled().await;
    stack.desk.answer("failed", reply(500)).await;
    stack.desk.break_off("broken").await;
    stack.desk.answer("refused", reply(401)).await;
    assert_eq!(ended(refused).await.unwrap().status(), 401);
    sleep(secs(5.1)).await;
    let answer = ended(failed).await;
    assert_eq!((answer.as_ref().unwrap().status().as_u16(), report(&answer).stopped), (500, Some(StopReason::Refused)));
    is_refused_for_its_key(&ended(broken).await);
    assert_eq!(stack.desk.count(), 4);
}

/// Sent back by a 429 and in line again, as any other in line.
#[tokio::test(start_paused = true)]
async fn those_behind_a_closed_gate_are_refused_at_once_too() {
    let stack = Stack::new().with_left(6_000, 5_000).await;
    let (limited, refused) = (stack.call("limited"), stack.call("refused"));
    settled().await;
    stack.desk.answer("limited", later("60")).await;
    assert_eq!(stack.held(), (1, 1));
    stack.desk.answer("refused", reply(401)).await;
    let answer = ended(limited).await;
    let Ok(response) = &answer else { return is_refused_for_its_key(&answer) };
    // Or its own 429, which it still held: that is an answer too, and nothing was sent for it.
    assert_eq!((response.status().as_u16(), report(&answer).stopped), (429, Some(StopReason::Refused)));
    assert_eq!((stack.desk.count(), ended(refused).await.unwrap().status().as_u16()), (3, 401));
    assert_eq!(stack.held(), (0, 0));
}

/// A single key must survive its own 429s.
#[tokio::test(start_paused = true)]
async fn no_429_kills_a_key() {
    let stack = Stack::new();
    let call = stack.call("a");
    settled().await;
    for _ in 0..20 {
        stack.desk.answer("a", later("1")).await;
        sleep(secs(121.0)).await;
    }
    stack.desk.answer("a", reply(200)).await;
    assert_eq!(ended(call).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn found_well_again_all_go_on() {
    let stack = Stack::new().with_left(6_000, 5_000).await;
    let _refused = stack.call("refused");
    settled().await;
    stack.desk.answer("refused", reply(401)).await;
    is_refused_for_its_key(&ended(stack.call("too early")).await);
    sleep(secs(60.0)).await;
    let (looks, other) = (stack.call("looks"), stack.call("other"));
    is_refused_for_its_key(&ended(other).await);
    // A look that meets a 429 waits in line as any call, and is a look still.
    stack.desk.answer("looks", later("2")).await;
    sleep(secs(5.0)).await;
    assert_eq!(stack.desk.open(), ["looks"]);
    stack.desk.answer("looks", reply(200)).await;
    assert_eq!(ended(looks).await.unwrap().status(), 200);
    let _calls = stack.many(6);
    sleep(secs(1.0)).await;
    assert_eq!(stack.desk.open().len(), 6);
}
