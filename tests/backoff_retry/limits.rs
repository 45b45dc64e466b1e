//! When it stops: attempts, the deadline, the policy's own word.

use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use tower_outbound::{
    Call, ErrorKind, RetryHint,
    backoff_retry::{Attempt, Decision, Outcome, StopReason},
    mock::{Script, dropped, ok},
};

use super::{attempts, every_second, limited, overloaded, send};
use crate::common::{Told, get, ms, report, secs, told, with};

#[tokio::test(start_paused = true)]
async fn as_many_attempts_as_allowed_and_no_more() {
    for allowed in [1, 2, 3, 7] {
        let script = Script::new().otherwise(overloaded());
        let response = send(&attempts(allowed), &script, get()).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(script.count(), allowed as usize);
        assert_eq!(report(&response).attempts, allowed);
        assert_eq!(report(&response).stopped, Some(StopReason::AttemptsUsed));
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_never_succeed_is_sent_once() {
    for (code, kind) in [(400, ErrorKind::InvalidRequest), (429, ErrorKind::QuotaExhausted)] {
        let script = Script::new().then(told(code, kind, RetryHint::Never));
        let response = send(&every_second(), &script, get()).await.unwrap();
        assert_eq!(report(&response).stopped, Some(StopReason::NotRetryable));
        script.assert_done();
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_is_begun_that_would_end_after_the_deadline() {
    let script = Script::new().otherwise(overloaded());
    let start = Instant::now();
    let response = send(&attempts(100).max_elapsed(ms(3500)), &script, get()).await.unwrap();
    script.assert_times([0, 1, 2, 3].map(|s| secs(f64::from(s))));
    assert_eq!(start.elapsed(), secs(3.0), "the answer is given when it came, not at the deadline");
    assert_eq!(report(&response).stopped, Some(StopReason::PastDeadline));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_may_begin_at_the_deadline_itself() {
    let script = Script::new().then_times(2, overloaded()).then(ok("just in time"));
    let response = send(&every_second().max_elapsed(secs(2.0)), &script, get()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_may_come_with_the_request() {
    let script = Script::new().otherwise(overloaded());
    let call = Call::now().with_deadline(Instant::now() + ms(1500));
    send(&attempts(100), &script, with(get(), call)).await.unwrap();
    script.assert_times([secs(0.0), secs(1.0)]);
}

#[tokio::test(start_paused = true)]
async fn of_two_deadlines_the_earlier_counts() {
    for (of_call, of_layer) in [(1500, 4000), (4000, 1500)] {
        let script = Script::new().otherwise(overloaded());
        let call = Call::now().with_deadline(Instant::now() + ms(of_call));
        send(&attempts(100).max_elapsed(ms(of_layer)), &script, with(get(), call)).await.unwrap();
        script.assert_sent(2);
    }
}

/// A call that waited elsewhere first: its time runs from its arrival.
#[tokio::test(start_paused = true)]
async fn time_is_counted_from_the_arrival() {
    let call = Call::now();
    tokio::time::advance(secs(9.0)).await;
    let script = Script::new().otherwise(overloaded());
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let elapsed = seen.clone();
    let layer =
        attempts(100).max_elapsed(secs(10.5)).on_retry(move |attempt, _| elapsed.lock().unwrap().push(attempt.elapsed));
    send(&layer, &script, with(get(), call)).await.unwrap();
    script.assert_sent(2);
    assert_eq!(*seen.lock().unwrap(), [secs(9.0)]);
}

/// "After which no further attempt begins": not even where the service takes its time to be ready.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline_because_the_service_was_late() {
    let script = Script::new().ready_after(secs(5.0)).otherwise(overloaded());
    let start = Instant::now();
    let response = send(&every_second().max_elapsed(secs(4.0)), &script, get()).await;
    script.assert_sent(1);
    assert_eq!(start.elapsed(), secs(5.0 + 4.0), "ready, sent, and given up at the deadline");
    let error = response.expect_err("its answer had been let go");
    let error = tower_outbound::find_cause::<tower_outbound::backoff_retry::RetryError>(&*error).expect("a RetryError");
    assert_eq!(error.error().kind(), ErrorKind::Overloaded);
    assert_eq!(error.report().stopped, Some(StopReason::PastDeadline));
}

#[tokio::test(start_paused = true)]
async fn a_closure_is_a_policy_and_sees_all_there_is() {
    let policy = |attempt: &Attempt<'_>| {
        let ended_in_error = matches!(attempt.outcome, Outcome::Error(_));
        match (attempt.number, attempt.kind, ended_in_error) {
            (1, ErrorKind::Overloaded, false) => Decision::Retry(secs(2.0)),
            (2, _, true) if attempt.last_wait == secs(2.0) && attempt.elapsed == secs(2.0) => {
                Decision::Retry(secs(4.0))
            }
            (3, ErrorKind::RateLimit, false) if attempt.hint == RetryHint::After(secs(9.0)) => {
                Decision::Stop(StopReason::Policy)
            }
            _ => Decision::Stop(StopReason::AttemptsUsed),
        }
    };
    let script = Script::new().then(overloaded()).then(dropped()).then(limited(secs(9.0)));
    let response = send(&every_second().policy(policy), &script, get()).await.unwrap();
    assert_eq!(report(&response).stopped, Some(StopReason::Policy));
    script.assert_waits([secs(2.0), secs(4.0)]);
    script.assert_done();
}

/// Two failures at once: each waits its own time, and neither waits for the other.
#[tokio::test(start_paused = true)]
async fn calls_do_not_wait_for_each_other() {
    let script = Script::new().then(limited(secs(60.0))).then(overloaded()).otherwise(ok("at last"));
    let service = every_second().layer(Told(script.clone()));
    let start = Instant::now();
    let slow = tokio::spawn(service.clone().oneshot(get()));
    tokio::task::yield_now().await;
    assert_eq!(service.oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(start.elapsed(), secs(1.0));
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    assert!(start.elapsed() >= secs(60.0));
}

/// Whoever polls late finds the time gone.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline_because_its_caller_was_late() {
    let script = Script::new().otherwise(overloaded());
    let layer = every_second().max_elapsed(secs(2.0));
    let mut call = Box::pin(send(&layer, &script, get()));
    assert!(tokio::time::timeout(ms(500), &mut call).await.is_err(), "it waits for its second attempt");
    tokio::time::advance(secs(5.0)).await;
    let error = call.await.expect_err("its answer had been let go");
    script.assert_sent(1);
    let error = tower_outbound::find_cause::<tower_outbound::backoff_retry::RetryError>(&*error).expect("a RetryError");
    assert_eq!((error.error().kind(), error.report().attempts), (ErrorKind::Overloaded, 1));
    assert_eq!(error.report().stopped, Some(StopReason::PastDeadline));
}

/// A policy without waits and without an end, over a service that never lets go of the thread: others have their turn.
#[tokio::test]
async fn retries_without_a_wait_let_others_have_their_turn() {
    let calls = std::sync::atomic::AtomicU32::new(0);
    let failing = tower::service_fn(|_: http::Request<crate::common::Text>| {
        assert!(calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 1000, "it holds the thread");
        let mut response = http::Response::new(String::new());
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        std::future::ready(Ok::<_, tower::BoxError>(response))
    });
    let at_once = |_: &Attempt<'_>| Decision::Retry(std::time::Duration::ZERO);
    let call = std::pin::pin!(every_second().policy(at_once).layer(failing).oneshot(get()));
    let others = std::pin::pin!(async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    });
    let ended = futures_util::future::select(call, others).await;
    assert!(matches!(ended, futures_util::future::Either::Right(_)));
    assert!(calls.load(std::sync::atomic::Ordering::Relaxed) > 10);
}

/// The documented place of a limit for each attempt: under the meter, so that the wait in its line does not count.
#[tokio::test(start_paused = true)]
async fn a_limit_for_each_attempt_goes_under_the_meter() {
    let script = Script::new().then(tower_outbound::mock::never()).then(ok("slow").delay(secs(1.5))).then(ok("done"));
    let stack = tower::ServiceBuilder::new()
        .layer(attempts(3))
        .layer(
            tower_outbound::QuotaMeterLayer::new()
                .quota(tower_outbound::quota_meter::Quota::per_minute(tower_outbound::nz!(2))),
        )
        .layer(tower::timeout::TimeoutLayer::new(secs(2.0)))
        .map_err(tower::BoxError::from)
        .service(script.clone());
    // The first attempt runs into its limit, the second is in time; the other call waits far longer than the limit.
    let first = tokio::spawn(stack.clone().oneshot(get()));
    assert_eq!(report(&first.await.unwrap().unwrap()).attempts, 2);
    assert_eq!(stack.oneshot(get()).await.unwrap().status(), 200);
    script.assert_sent(3);
    let times = script.times();
    assert!((secs(3.0)..secs(40.0)).contains(&times[1]) && times[2] - times[1] > secs(2.0), "{times:?}");
}
