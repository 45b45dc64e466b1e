//! Streamed request bodies: replayed as far as they are kept, and never half.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_outbound::{
    ApiError, Call, ErrorKind, RetryHint,
    backoff_retry::{RetryError, StopReason},
    body::ReplayBody,
    find_cause,
    mock::{Script, ok},
};

use super::{every_second, overloaded};
use crate::common::{Told, again, ms, report};

/// A put of a stream in chunks of four bytes, of which so many are kept.
fn put(text: &'static str, kept: usize) -> Request<ReplayBody<impl Body<Data = Bytes, Error = std::io::Error>>> {
    let chunks = text.as_bytes().chunks(4).map(|chunk| Ok(Frame::data(Bytes::from_static(chunk))));
    let body = ReplayBody::new(StreamBody::new(stream::iter(chunks)), kept);
    Request::put("https://api.example/").body(body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_kept_goes_again_whole() {
    let script = Script::new().then_times(2, overloaded()).then(again(0)).then(ok("done"));
    every_second().layer(Told(script.clone())).oneshot(put("a stream of text", 16)).await.unwrap();
    script.assert_bodies(["a stream of text"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_longer_than_is_kept_goes_once_and_whole() {
    let script = Script::new().then(overloaded()).otherwise(ok("done"));
    let response = every_second().layer(Told(script.clone())).oneshot(put("a stream of text", 15)).await.unwrap();
    assert_eq!(report(&response).stopped, Some(StopReason::BodySpent));
    script.assert_bodies(["a stream of text"]);
}

/// A 429 that came before the upload had ended: the rest is still in the source, and nothing of it is lost.
#[tokio::test(start_paused = true)]
async fn an_answer_before_the_upload_ended_loses_nothing() {
    let script = Script::new().otherwise(ok("done"));
    let early = {
        let script = script.clone();
        tower::service_fn(move |request: Request<ReplayBody<_>>| {
            let script = script.clone();
            async move {
                let is_first = request.extensions().get::<Call>().is_some_and(|call| call.attempt() == 1);
                if !is_first {
                    return Told(script).oneshot(request).await;
                }
                let mut body = request.into_body();
                body.frame().await.expect("a frame").expect("data");
                let mut response = Response::new(Default::default());
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                Ok(response)
            }
        })
    };
    every_second().layer(early).oneshot(put("a stream of text", 1000)).await.unwrap();
    script.assert_bodies(["a stream of text"]);
}

#[tokio::test(start_paused = true)]
async fn the_source_is_read_once_however_often_the_body_goes() {
    let pulled = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = pulled.clone();
    let chunks = stream::iter(0..8).map(move |_| {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"chunk")))
    });
    let body = ReplayBody::new(StreamBody::new(chunks), 1000);
    let script = Script::new().then_times(2, overloaded()).then(ok("done"));
    let request = Request::put("https://api.example/").body(body).unwrap();
    every_second().layer(Told(script.clone())).oneshot(request).await.unwrap();
    script.assert_sent(3);
    assert_eq!(pulled.load(std::sync::atomic::Ordering::Relaxed), 8);
}

/// Answers each attempt at once, the first ones with these failures, while a task of its own reads on what comes.
fn answers_early(
    failures: u32,
    in_memory: bool,
    read: Arc<Mutex<Vec<Option<Bytes>>>>,
) -> impl Service<Piped, Response = Response<Full<Bytes>>, Error = BoxError> + Clone {
    tower::service_fn(move |request: Piped| {
        let attempt = request.extensions().get::<Call>().map_or(1, Call::attempt);
        let read = read.clone();
        let upload = tokio::spawn(async move {
            let whole = request.into_body().collect().await.ok().map(Collected::to_bytes);
            read.lock().unwrap().push(whole);
        });
        async move {
            let mut response = Response::new(Full::default());
            if attempt <= failures {
                let error = ApiError::new(ErrorKind::Overloaded, RetryHint::Backoff);
                response.extensions_mut().insert(error.with_body_in_memory(in_memory));
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            } else {
                upload.await?;
            }
            Ok(response)
        }
    })
}

type Piped = Request<ReplayBody<Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>>>;

/// Four bytes every so many milliseconds, of which eight are kept.
fn slow_put(chunks: usize, pause: u64) -> Piped {
    let chunks = stream::unfold(0, move |sent| async move {
        tokio::time::sleep(ms(pause)).await;
        (sent < chunks).then(|| (Ok(Frame::data(Bytes::from_static(b"four"))), sent + 1))
    });
    let source: Pin<Box<dyn Body<Data = Bytes, Error = _> + Send>> = Box::pin(StreamBody::new(chunks));
    Request::put("https://api.example/").body(ReplayBody::new(source, 8)).unwrap()
}

/// The upload went on through the wait, past what is kept: nothing is sent without its body, and the caller is told.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_used_up_while_its_retry_waits_is_not_sent_again() {
    for in_memory in [true, false] {
        let read = Arc::default();
        let service = every_second().layer(answers_early(1, in_memory, Arc::clone(&read)));
        let result = service.oneshot(slow_put(5, 100)).await;
        let told = match &result {
            Ok(response) => (true, response.status().as_u16(), report(response).clone()),
            Err(error) => {
                let error = find_cause::<RetryError>(&**error);
                let error = error.expect("a RetryError");
                assert_eq!(error.error().kind(), ErrorKind::Overloaded);
                (false, 503, error.report().clone())
            }
        };
        assert_eq!((told.0, told.1, told.2.attempts, told.2.stopped), (in_memory, 503, 1, Some(StopReason::BodySpent)));
        assert_eq!(*read.lock().unwrap(), [Some(Bytes::from_static(b"fourfourfourfourfour"))]);
    }
}

/// As long as it is kept it goes again; and then the upload that nobody waits for cannot take the rest of it away.
#[tokio::test(start_paused = true)]
async fn the_upload_of_the_failed_attempt_does_not_use_up_the_body_of_the_next() {
    let read = Arc::default();
    let service = every_second().layer(answers_early(1, false, Arc::clone(&read)));
    let response = service.oneshot(slow_put(5, 700)).await.unwrap();
    assert_eq!(response.status(), 200);
    let read = read.lock().unwrap();
    assert_eq!(read.iter().flatten().collect::<Vec<_>>(), ["fourfourfourfourfour"]);
    assert_eq!(read.len(), 2, "and the first broke off");
}
