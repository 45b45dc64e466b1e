//! A spent quota: nobody waits for it, wherever they wait.

use tokio::time::sleep;
use tower_outbound::{
    ApiError, ErrorKind, Refused,
    backoff_retry::{Backoff, Jitter, Standard, StopReason},
    find_cause, nz,
};

use super::{Stack, ended, report, used_up};
use crate::common::{reply, secs, settled};

/// By the meter or by the key check, whichever hears of it first.
#[track_caller]
fn is_refused_as_spent(error: &tower::BoxError) {
    let refused: &Refused = find_cause(&**error).unwrap_or_else(|| panic!("no refusal: {error:?}"));
    let said: &ApiError = find_cause(refused.cause()).expect("the server's words");
    assert_eq!(said.kind(), ErrorKind::QuotaExhausted);
}

/// A retry that waits 5 s each time.
fn every_five_seconds() -> Stack {
    let backoff = Backoff::constant(secs(5.0)).jitter(Jitter::None);
    Stack::new().retry(|retry| retry.policy(Standard::new().max_attempts(nz!(5)).backoff(backoff)))
}

#[tokio::test(start_paused = true)]
async fn all_in_line_hear_of_it_now_and_nothing_more_is_sent() {
    let stack = Stack::new().with_left(60, 2).await;
    let mut calls = stack.many(52);
    settled().await;
    assert_eq!(stack.held(), (50, 2));
    stack.desk.answer("0", used_up()).await;
    let first = ended(calls.remove(0)).await;
    assert_eq!(report(&first).stopped, Some(StopReason::NotRetryable));
    assert_eq!(ApiError::of(&first.unwrap()).unwrap().kind(), ErrorKind::QuotaExhausted);
    for call in calls.split_off(1) {
        let answer = ended(call).await;
        let error = answer.unwrap_err();
        is_refused_as_spent(&error);
        assert_eq!(ApiError::from_error(&*error).kind(), ErrorKind::QuotaExhausted, "who asks for the kind is told");
    }
    // The one in flight is answered as if nothing had been.
    stack.desk.answer("1", reply(200)).await;
    assert_eq!(ended(calls.remove(0)).await.unwrap().status(), 200);
    sleep(secs(59.0)).await;
    assert_eq!((stack.desk.count(), stack.held()), (3, (0, 0)));
}

/// They come back to a meter that refuses: their last answer is a better one than that.
#[tokio::test(start_paused = true)]
async fn those_that_wait_for_their_next_attempt_do_not_make_it() {
    let stack = every_five_seconds().with_left(6_000, 5_000).await;
    let (failed, broken, unlucky) = (stack.call("failed"), stack.call("broken"), stack.call("unlucky"));
    settled().await;
    stack.desk.answer("failed", reply(500)).await;
    stack.desk.break_off("broken").await;
    stack.desk.answer("unlucky", used_up()).await;
    drop(unlucky);
    sleep(secs(5.1)).await;
    let answer = ended(failed).await;
    assert_eq!((answer.as_ref().unwrap().status().as_u16(), report(&answer).stopped), (500, Some(StopReason::Refused)));
    assert_eq!(report(&answer).attempts, 1);
    let error = ended(broken).await.unwrap_err();
    is_refused_as_spent(&error);
    assert_eq!(stack.desk.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_call_looks_after_a_while_and_then_all_go_on() {
    let stack = Stack::new().with_left(6_000, 5_000).await;
    let _unlucky = stack.call("unlucky");
    settled().await;
    stack.desk.answer("unlucky", used_up()).await;
    sleep(secs(60.0)).await;
    let (looks, other) = (stack.call("looks"), stack.call("other"));
    is_refused_as_spent(&ended(other).await.unwrap_err());
    stack.desk.answer("looks", reply(200)).await;
    assert_eq!(ended(looks).await.unwrap().status(), 200);
    let _calls = stack.many(6);
    settled().await;
    assert_eq!(stack.desk.open().len(), 6);
}
