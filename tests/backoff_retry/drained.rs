//! What becomes of the body of a failed response: it is read and let go, so that its connection lives on; within bounds.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tokio::time::{Duration, Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_outbound::{
    Call,
    backoff_retry::{Backoff, BackoffRetryLayer, Jitter, Standard},
    mock::{Script, ok},
};

use super::{attempts, every_second, overloaded};
use crate::common::{Counted, Endless, Open, Text, Told, again, get, ms, secs};

#[tokio::test(start_paused = true)]
async fn failed_bodies_are_read_to_the_end_and_never_held_through_a_wait() {
    let script =
        Script::new().then_times(3, overloaded().body("sorry")).then_times(3, again(0).body("wait")).then(ok("done"));
    let (service, open) = Counted::new(Told(script));
    let most = open.clone();
    let watch = tokio::spawn(async move {
        for _ in 0..25 {
            tokio::time::sleep(ms(100)).await;
            assert!(most.now() <= 1, "{} bodies held at {:?}", most.now(), Instant::now());
        }
    });
    let response = attempts(9).layer(service).oneshot(get()).await.unwrap();
    assert_eq!((open.now(), open.ended()), (1, 6), "the last answer's alone is held");
    assert_eq!(open.most(), 1);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "done");
    assert_eq!(open.now(), 0);
    watch.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_given_to_the_caller_is_not_touched() {
    let script = Script::new().then(overloaded().body("sorry"));
    let (service, open) = Counted::new(Told(script));
    let response = attempts(1).layer(service).oneshot(get()).await.unwrap();
    assert_eq!((open.now(), open.bytes()), (1, 0));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "sorry");
}

type Hostile = UnsyncBoxBody<Bytes, Infallible>;

/// Fails first, with this body, and then succeeds.
fn first_fails_with<B>(
    open: &Open,
    body: fn() -> B,
) -> impl Service<Request<Text>, Response = Response<Hostile>, Error = Infallible, Future: Send> + Clone
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let open = open.clone();
    service_fn(move |request: Request<Text>| {
        let is_first = request.extensions().get::<Call>().is_some_and(|call| call.attempt() == 1);
        let response = if is_first {
            let mut response = Response::new(open.body(body()).boxed_unsync());
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            response
        } else {
            Response::new(open.body(http_body_util::Full::from("done")).boxed_unsync())
        };
        std::future::ready(Ok(response))
    })
}

async fn survives<B>(open: &Open, body: fn() -> B) -> Duration
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let start = Instant::now();
    let call = every_second().layer(first_fails_with(open, body)).oneshot(get());
    let response = timeout(secs(3600.0), call).await.expect("it ends").unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(open.now(), 1, "the hostile body was let go");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_cut_off() {
    let open = Open::default();
    let elapsed = survives(&open, || Endless::new(&[b'x'; 1000], Duration::ZERO)).await;
    assert_eq!(elapsed, secs(1.0), "the wait between the attempts, and no more");
    assert!(open.bytes() <= 66_000, "{} bytes were read", open.bytes());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_not_waited_for() {
    let open = Open::default();
    let elapsed = survives(&open, || Endless::new(b"x", ms(100))).await;
    assert_eq!(elapsed, secs(1.0));
}

/// What is left of it is worth a new connection, and no more.
#[tokio::test(start_paused = true)]
async fn a_short_wait_is_not_made_long_by_a_body_that_trickles() {
    let backoff = Backoff::constant(ms(10)).jitter(Jitter::None);
    let layer = BackoffRetryLayer::new().policy(Standard::new().backoff(backoff));
    let (open, start) = (Open::default(), Instant::now());
    let service = first_fails_with(&open, || Endless::new(b"x", ms(30)));
    assert_eq!(layer.layer(service).oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(start.elapsed(), ms(100));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_says_anything_is_not_waited_for() {
    let elapsed = survives(&Open::default(), || Endless::new(b"", secs(1e6))).await;
    assert_eq!(elapsed, secs(1.0));
}

/// Frames without bytes never reach a bound on bytes; the thread must not spin on them.
#[tokio::test(start_paused = true)]
async fn a_body_of_empty_frames_is_cut_off() {
    let elapsed = survives(&Open::default(), || Endless::new(b"", Duration::ZERO)).await;
    assert_eq!(elapsed, secs(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_let_go() {
    for step in [overloaded().body("half of it").cut(), overloaded().body("half of it").truncated()] {
        let script = Script::new().then(step).then(ok("done"));
        let (service, open) = Counted::new(Told(script));
        assert_eq!(every_second().layer(service).oneshot(get()).await.unwrap().status(), 200);
        assert_eq!((open.now(), open.ended()), (0, 0));
    }
}
