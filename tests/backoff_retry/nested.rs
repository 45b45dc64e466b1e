//! A retry within a retry passes through: 3 times 3 times 5 calls were seen in the wild.

use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_outbound::{
    Call,
    backoff_retry::{BackoffRetryLayer, RetryReport},
    mock::{Script, ok},
};

use super::{attempts, every_second, overloaded};
use crate::common::{Told, again, get, report, with};

#[tokio::test(start_paused = true)]
async fn the_outermost_alone_retries() {
    let script = Script::new().otherwise(overloaded());
    let stack =
        ServiceBuilder::new().layer(attempts(3)).layer(attempts(3)).layer(attempts(5)).service(Told(script.clone()));
    let response = stack.oneshot(get()).await.unwrap();
    assert_eq!(report(&response).attempts, 3);
    script.assert_sent(3);
}

#[tokio::test(start_paused = true)]
async fn resends_are_the_outermosts_too() {
    let script = Script::new().otherwise(again(0));
    let stack = ServiceBuilder::new()
        .layer(every_second().max_resends(4))
        .layer(every_second().max_resends(50))
        .service(Told(script.clone()));
    stack.oneshot(get()).await.unwrap();
    script.assert_sent(5);
}

#[tokio::test(start_paused = true)]
async fn the_inner_one_retries_again_for_calls_that_come_to_it_alone() {
    let script = Script::new().then(overloaded()).then(ok("done"));
    let inner = attempts(2).layer(Told(script.clone()));
    let _outer = every_second().layer(inner.clone());
    assert_eq!(inner.oneshot(get()).await.unwrap().status(), 200);
    script.assert_done();
}

/// A `Call` by itself, as one with a deadline, is no sign of a retry.
#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_retries_yet_is_retried() {
    let script = Script::new().then(overloaded()).then(ok("done"));
    let response = every_second().layer(Told(script)).oneshot(with(get(), Call::now())).await.unwrap();
    assert_eq!(response.extensions().get::<RetryReport>().map(|report| report.attempts), Some(2));
}

#[tokio::test(start_paused = true)]
async fn one_layer_applied_twice_is_one_retry() {
    let layer: BackoffRetryLayer = attempts(3);
    let script = Script::new().otherwise(overloaded());
    layer.layer(layer.layer(Told(script.clone()))).oneshot(get()).await.unwrap();
    script.assert_sent(3);
}

/// Without a mark of ours, what the caller said of the call goes on to the layers further in, on every attempt.
#[tokio::test(start_paused = true)]
async fn without_a_mark_the_callers_own_call_goes_along() {
    let script = Script::new().then(overloaded()).then(ok("done"));
    let call = Call::now().with_deadline(tokio::time::Instant::now() + crate::common::secs(60.0));
    let (seq, deadline) = (call.seq(), call.deadline());
    let looking =
        tower::util::MapRequest::new(Told(script.clone()), move |request: http::Request<crate::common::Text>| {
            let call = request.extensions().get::<Call>().expect("the caller's");
            assert_eq!((call.seq(), call.deadline(), call.is_retried()), (seq, deadline, false));
            request
        });
    every_second().without_mark().layer(looking).oneshot(with(get(), call)).await.unwrap();
    script.assert_sent(2);
}
