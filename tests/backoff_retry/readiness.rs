//! Services that are not always ready: every attempt is made on a service that said it is, and none is kept from others.

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, buffer::BufferLayer, limit::ConcurrencyLimitLayer};
use tower_outbound::{
    ErrorKind,
    backoff_retry::{RetryError, StopReason},
    find_cause,
    mock::{Script, ok},
};

use super::{attempts, every_second, limited, overloaded, send};
use crate::common::{Told, again, get, ms, post, ready, report, secs};

#[tokio::test(start_paused = true)]
async fn every_attempt_is_made_on_a_clone_that_said_it_is_ready() {
    let script = Script::new()
        .strict()
        .ready_after(ms(10))
        .then(overloaded())
        .then_times(3, again(0))
        .then(overloaded())
        .then(ok("at last"));
    send(&every_second(), &script, get()).await.unwrap();
    script.assert_done();
}

#[tokio::test(start_paused = true)]
async fn a_service_used_again_and_again_is_made_ready_each_time() {
    let script = Script::new().strict().then(overloaded()).then(ok("1")).then(overloaded()).then(ok("2"));
    let mut service = every_second().layer(Told(script.clone()));
    for _ in 0..2 {
        let response = ready(&mut service).await.call(get()).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    script.assert_done();
}

/// tower's own mock panics when it is called without having been polled ready.
#[tokio::test(start_paused = true)]
async fn towers_mock_agrees() {
    let (mock, mut handle) = tower_test::mock::pair::<http::Request<crate::common::Text>, http::Response<String>>();
    handle.allow(1);
    let call = tokio::spawn(every_second().layer(mock).oneshot(get()));
    let (_, respond) = handle.next_request().await.unwrap();
    let unavailable = http::Response::builder().status(503).body(String::new()).unwrap();
    respond.send_response(unavailable);
    assert!(timeout(secs(60.0), handle.next_request()).await.is_err(), "not ready: nothing is sent");
    handle.allow(1);
    let (_, respond) = handle.next_request().await.unwrap();
    respond.send_response(http::Response::new("at last".into()));
    assert_eq!(call.await.unwrap().unwrap().into_body(), "at last");
}

/// The permit is given up through the wait: a call that waits must not keep another out, nor itself.
#[tokio::test(start_paused = true)]
async fn over_a_limit_of_one_a_waiting_call_lets_the_other_pass() {
    let script = Script::new().strict().then(limited(secs(30.0))).otherwise(ok("done"));
    let stack =
        ServiceBuilder::new().layer(every_second()).layer(ConcurrencyLimitLayer::new(1)).service(Told(script.clone()));
    let start = Instant::now();
    let first = tokio::spawn(stack.clone().oneshot(get()));
    tokio::time::sleep(secs(1.0)).await;
    timeout(secs(1.0), stack.clone().oneshot(get())).await.expect("the permit is free").unwrap();
    assert_eq!(start.elapsed(), secs(1.0));
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    script.assert_sent(3);
}

#[tokio::test(start_paused = true)]
async fn over_a_limit_of_one_many_failing_calls_all_end() {
    let script = Script::new().strict().then_times(40, overloaded()).otherwise(ok("done"));
    let stack =
        ServiceBuilder::new().layer(attempts(50)).layer(ConcurrencyLimitLayer::new(1)).service(Told(script.clone()));
    let calls = join_all((0..20).map(|_| stack.clone().oneshot(get())));
    for answer in timeout(secs(600.0), calls).await.expect("no deadlock") {
        assert_eq!(answer.unwrap().status(), 200);
    }
    script.assert_sent(60);
}

/// One service value, made ready and called by turns, as a `tower::Service` may be.
#[tokio::test(start_paused = true)]
async fn over_a_limit_of_one_the_next_can_be_made_ready_while_one_waits() {
    let script = Script::new().strict().then(limited(secs(30.0))).otherwise(ok("done"));
    let mut stack =
        ServiceBuilder::new().layer(every_second()).layer(ConcurrencyLimitLayer::new(1)).service(Told(script));
    let first = tokio::spawn(ready(&mut stack).await.call(get()));
    tokio::task::yield_now().await;
    let second = timeout(secs(1.0), ready(&mut stack)).await.expect("ready").call(get());
    assert_eq!(second.await.unwrap().status(), 200);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn over_a_buffer() {
    let script = Script::new().strict().then_times(5, overloaded()).then_times(5, again(0)).otherwise(ok("done"));
    let stack = ServiceBuilder::new().layer(attempts(9)).layer(BufferLayer::new(1)).service(Told(script.clone()));
    let calls = join_all((0..10).map(|_| stack.clone().oneshot(get())));
    for answer in timeout(secs(60.0), calls).await.expect("no deadlock") {
        assert_eq!(answer.unwrap().status(), 200);
    }
    script.assert_sent(20);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_closed_before_the_first_attempt_says_so_itself() {
    let script = Script::new().closed_after(0);
    let mut service = every_second().layer(Told(script));
    let error = ServiceExt::<http::Request<crate::common::Text>>::ready(&mut service).await.unwrap_err();
    assert_eq!(error.to_string(), "ready no more");
}

/// Its answer had to be let go, as its body was not whole in memory: what it meant is in the error.
#[tokio::test(start_paused = true)]
async fn a_service_that_closes_after_a_failure_never_leaves_a_bare_readiness_error() {
    let script = Script::new().closed_after(1).then(overloaded());
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    let error = find_cause::<RetryError>(&*error).expect("a RetryError");
    assert_eq!(error.error().kind(), ErrorKind::Overloaded);
    assert_eq!(error.report().stopped, Some(StopReason::NotReady));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_again_is_waited_for_until_the_deadline() {
    let script = Script::new().never_ready_after(1).then(overloaded());
    let start = Instant::now();
    let layer = every_second().max_elapsed(secs(10.0));
    let call = timeout(secs(3600.0), send(&layer, &script, get()));
    let error = call.await.expect("it ends by its deadline").unwrap_err();
    assert_eq!(start.elapsed(), secs(10.0));
    let error = find_cause::<RetryError>(&*error).expect("a RetryError");
    assert_eq!((error.error().kind(), error.report().attempts), (ErrorKind::Overloaded, 1));
    assert_eq!(error.report().stopped, Some(StopReason::PastDeadline));
}

/// What tower sheds was never sent: it says so itself, and any request may go again.
#[tokio::test(start_paused = true)]
async fn what_was_shed_goes_again_even_a_post() {
    let script = Script::new().strict().then(ok("first").delay(ms(1500))).then(ok("second"));
    let stack = ServiceBuilder::new()
        .layer(every_second())
        .layer(tower::load_shed::LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .service(Told(script.clone()));
    let first = tokio::spawn(stack.clone().oneshot(post()));
    tokio::task::yield_now().await;
    let second = stack.oneshot(post()).await.unwrap();
    assert_eq!((second.status().as_u16(), report(&second).attempts), (200, 3));
    assert_eq!(report(&second).kinds, [ErrorKind::Overloaded; 2]);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    script.assert_times([secs(0.0), secs(2.0)]);
}

/// The buffer takes the second attempt, and only then finds its service closed; from then on it is never ready.
#[tokio::test(start_paused = true)]
async fn over_a_buffer_whose_service_closes() {
    let script = Script::new().closed_after(1).then(overloaded());
    let stack = ServiceBuilder::new().layer(attempts(9)).layer(BufferLayer::new(4)).service(Told(script.clone()));
    let error = timeout(secs(60.0), stack.oneshot(get())).await.expect("it ends").unwrap_err();
    let error = find_cause::<RetryError>(&*error).expect("a RetryError");
    assert_eq!(error.report().kinds, [ErrorKind::Overloaded, ErrorKind::Unknown]);
    assert_eq!((error.report().attempts, error.report().stopped), (2, Some(StopReason::NotReady)));
    script.assert_sent(1);
}

/// Retries stand in the line of a rate limit like everybody else.
#[tokio::test(start_paused = true)]
async fn over_a_rate_limit() {
    let script = Script::new().strict().then_times(3, overloaded()).otherwise(ok("done"));
    let stack = ServiceBuilder::new()
        .layer(attempts(9))
        .layer(BufferLayer::new(9))
        .layer(tower::limit::RateLimitLayer::new(1, secs(5.0)))
        .service(Told(script.clone()));
    let calls = join_all((0..3).map(|_| stack.clone().oneshot(get())));
    for answer in timeout(secs(600.0), calls).await.expect("no deadlock") {
        assert_eq!(answer.unwrap().status(), 200);
    }
    script.assert_sent(6);
    let times = script.times();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= secs(5.0)), "{times:?}");
}
