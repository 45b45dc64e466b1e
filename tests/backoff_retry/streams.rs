//! Streamed request bodies: replayed as far as they are kept, and never half.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, ServiceExt};
use tower_outbound::{
    backoff_retry::StopReason,
    body::ReplayBody,
    mock::{Script, ok},
};

use super::{every_second, overloaded};
use crate::common::{Told, again, report};

/// A put of a stream in chunks of four bytes, of which so many are kept.
fn put(
    text: &'static str,
    kept: usize,
) -> Request<ReplayBody<impl http_body::Body<Data = Bytes, Error = std::io::Error>>> {
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
                let is_first =
                    request.extensions().get::<tower_outbound::Call>().is_some_and(|call| call.attempt() == 1);
                if !is_first {
                    return Told(script).oneshot(request).await;
                }
                let mut body = request.into_body();
                body.frame().await.expect("a frame").expect("data");
                let mut response = http::Response::new(Default::default());
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
