//! A call whose turn would come too late is refused on its way in; what is known of it by then is not lost.

use tokio::time::{Instant, sleep};
use tower::{Service, ServiceBuilder};
use tower_outbound::{
    ApiError, Call, ErrorKind, Refused,
    backoff_retry::{RetryError, StopReason},
    find_cause,
    quota_meter::Refusal,
};

use super::{Stack, ended, refusal, report};
use crate::common::{later, ms, named, reply, secs, settled, told_limit, with};

fn due_in(seconds: f64) -> Call {
    Call::now().with_deadline(Instant::now() + secs(seconds))
}

/// Nothing had been sent: there is nothing to tell but the refusal.
#[tokio::test(start_paused = true)]
async fn on_the_first_attempt_the_refusal_comes_out_as_it_is() {
    let stack = Stack::new().with_left(60, 0).await;
    let _line = stack.many(5);
    settled().await;
    let start = Instant::now();
    let answer = ended(stack.send(with(named("late"), due_in(3.0)))).await;
    assert_eq!(start.elapsed().as_nanos(), 0);
    let Refusal::TooLong { expected, limit, .. } = refusal(&answer) else { panic!("{answer:?}") };
    assert!(*expected >= secs(6.0) && *limit == secs(3.0), "{expected:?} {limit:?}");
    let error = answer.unwrap_err();
    assert!(error.downcast_ref::<Refused>().is_some(), "in nothing else: {error:?}");
    assert_eq!(stack.desk.count(), 1);
}

/// The 500 is whole in memory, thanks to the classifier: it says more than that there was no time for another attempt.
#[tokio::test(start_paused = true)]
async fn on_a_later_one_the_last_response_comes_back_where_it_is_held() {
    let stack = Stack::new().with_left(60, 2).await;
    let (call, _closer) = (stack.send(with(named("a"), due_in(5.0))), stack.call("closer"));
    settled().await;
    let mut failed = reply(500);
    *failed.body_mut() = r#"{"error":{"message":"oh no","type":"server_error"}}"#.into();
    stack.desk.answer("a", failed).await;
    stack.desk.answer("closer", later("60")).await;
    sleep(secs(2.0)).await;
    let answer = ended(call).await;
    let response = answer.as_ref().unwrap();
    assert_eq!((response.status().as_u16(), ApiError::of(response).unwrap().message()), (500, Some("oh no")));
    let report = report(&answer);
    assert_eq!((report.attempts, report.resends, report.stopped), (1, 0, Some(StopReason::Refused)));
    assert_eq!(stack.desk.calls("a").len(), 1);
}

/// Nobody has read the body, so it could not be kept: then the refusal comes, with what the failure was.
#[tokio::test(start_paused = true)]
async fn where_it_is_not_held_the_error_tells_of_it() {
    let Stack { retry, meter, desk, .. } = Stack::new();
    let mut bare = ServiceBuilder::new().layer(retry).layer(&meter).service(desk.clone());
    let stack = Stack { meter, desk, ..Stack::new() }.with_left(60, 2).await;
    let call = tokio::spawn(bare.call(with(named("a"), due_in(5.0))));
    let _closer = stack.call("closer");
    settled().await;
    stack.desk.answer("a", reply(503)).await;
    stack.desk.answer("closer", later("60")).await;
    sleep(secs(2.0)).await;
    assert!(call.is_finished());
    let error = call.await.unwrap().unwrap_err();
    let retried: &RetryError = find_cause(&*error).unwrap();
    assert_eq!((retried.report().attempts, retried.report().stopped), (1, Some(StopReason::Refused)));
    assert_eq!(retried.error().kind(), ErrorKind::Unavailable);
    assert!(matches!(find_cause(&*error), Some(Refusal::TooLong { .. })), "{error:?}");
    assert_eq!(stack.desk.calls("a").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_meters_own_longest_wait_is_such_a_deadline_too() {
    let mut stack = Stack::new();
    stack.meter = stack.meter.max_wait(secs(10.0));
    let stack = stack.with_left(60, 2).await;
    let (call, _closer) = (stack.call("a"), stack.call("closer"));
    settled().await;
    stack.desk.answer("a", reply(500)).await;
    stack.desk.answer("closer", later("60")).await;
    sleep(secs(2.0)).await;
    let answer = ended(call).await;
    assert_eq!((answer.as_ref().unwrap().status().as_u16(), report(&answer).stopped), (500, Some(StopReason::Refused)));
    assert!(matches!(refusal(&ended(stack.call("newcomer")).await), Refusal::TooLong { .. }));
}

/// However often it is sent back, it waits no longer in all; another attempt has all of the time anew.
#[tokio::test(start_paused = true)]
async fn what_a_call_waited_before_its_429s_counts() {
    let mut stack = Stack::new();
    stack.meter = stack.meter.max_wait(secs(18.0));
    let (call, start) = (stack.call("a"), Instant::now());
    settled().await;
    stack.desk.answer("a", reply(500)).await;
    let mut sent = 1;
    while !call.is_finished() {
        assert!(start.elapsed() < secs(60.0), "it has waited for a minute");
        sleep(ms(100)).await;
        if stack.desk.count() > sent {
            sent = stack.desk.count();
            stack.desk.answer("a", later("3")).await;
        }
    }
    let answer = ended(call).await;
    assert_eq!((answer.as_ref().unwrap().status().as_u16(), report(&answer).stopped), (429, Some(StopReason::Refused)));
    let calls = stack.desk.calls("a");
    let waited = start.elapsed() - (calls[1].began() - start);
    assert!(calls[1].began() > start && calls.iter().skip(1).all(|call| call.began() == calls[1].began()));
    assert!(report(&answer).resends >= 2 && waited <= secs(18.1), "{waited:?}: {:?}", report(&answer));
}

/// A batch may take hours: no call dies in line of old age.
#[tokio::test(start_paused = true)]
async fn by_default_there_is_no_deadline() {
    let stack = Stack::new().with_left(6, 0).await;
    let mut calls = stack.many(720);
    let last = calls.pop().unwrap();
    for _ in 0..721 {
        sleep(secs(10.0)).await;
        stack.desk.answer_all(|| told_limit(200, 6, 0)).await;
    }
    assert_eq!(ended(last).await.unwrap().status(), 200);
}
