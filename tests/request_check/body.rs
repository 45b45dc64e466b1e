//! Bodies that stream.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_outbound::{
    ErrorKind,
    body::{Once, Resend},
    failure, find_cause,
    mock::{Script, ok},
    request_check::{BadRequest, CheckedBody, RequestCheckLayer},
};

use crate::CHAT;

/// A body whose length nobody knows before its end.
pub(super) fn streamed(chunks: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Resend + Unpin {
    let chunk = || Ok(Frame::data(Bytes::from_static(b"0123456789")));
    Once::new(StreamBody::new(stream::iter((0..chunks).map(move |_| chunk()))))
}

#[tokio::test]
async fn a_stream_passes_unread() {
    let layer = RequestCheckLayer::new().openai();
    let service = layer.layer(service_fn(|request: Request<CheckedBody<_>>| async move {
        let body = BodyExt::collect(request.into_body()).await?.to_bytes();
        Ok::<_, tower::BoxError>(http::Response::new(body))
    }));
    let request = Request::post(CHAT).header("content-type", "application/json").body(streamed(3)).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().into_body().len(), 30);
}

#[tokio::test]
async fn a_stream_over_the_limit_fails_while_it_is_sent() {
    let layer = RequestCheckLayer::new().max_body(30);
    let script = Script::new().otherwise(ok("{}"));
    let send = |chunks| layer.layer(script.clone()).oneshot(Request::post(CHAT).body(streamed(chunks)).unwrap());
    assert!(send(3).await.is_ok());
    let read = CheckedBodyOf(4).read(&layer).await;
    assert_eq!(read.0, 30);
    let bad: &BadRequest = find_cause(&*read.1).expect("what is wrong");
    assert_eq!(bad.to_string(), "body: found more, allowed is 30 bytes at most");
}

/// Reads a stream of so many chunks through the layer: how much came, and how it ended.
struct CheckedBodyOf(usize);

impl CheckedBodyOf {
    async fn read(self, layer: &RequestCheckLayer) -> (usize, tower::BoxError) {
        let service = layer.layer(service_fn(|request: Request<CheckedBody<_>>| async move {
            let (mut body, mut read) = (request.into_body(), 0);
            loop {
                match BodyExt::frame(&mut body).await.expect("no end before the error") {
                    Ok(frame) => read += frame.into_data().map_or(0, |data: Bytes| data.len()),
                    Err(error) => return Ok::<_, tower::BoxError>(http::Response::new((read, error))),
                }
            }
        }));
        service.oneshot(Request::post(CHAT).body(streamed(self.0)).unwrap()).await.unwrap().into_body()
    }
}

#[tokio::test]
async fn over_tcp_the_error_of_a_stream_is_told_by_its_kind() {
    let server = Script::new().otherwise(ok("{}")).serve().await.unwrap();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let service = RequestCheckLayer::new().max_body(30).layer(client);
    let request = Request::post(server.url()).body(streamed(10)).unwrap();
    let result = service.oneshot(request).await;
    let error = failure(&result).expect("a failure");
    assert_eq!(error.kind(), ErrorKind::RequestTooLarge);
    assert!(!error.retry().may_succeed() && error.may_have_reached_server());
    server.shutdown().await;
}

#[test]
fn a_checked_body_goes_again_from_its_start() {
    let layer = RequestCheckLayer::new().max_body(5);
    let service = layer.layer(service_fn(|request: Request<CheckedBody<Full<Bytes>>>| async move {
        let again = request.body().resend().expect("it can go again");
        assert_eq!(request.body().in_memory().unwrap(), "12345");
        assert_eq!(BodyExt::collect(request.into_body()).await?.to_bytes(), "12345");
        assert_eq!(BodyExt::collect(again).await?.to_bytes(), "12345");
        Ok::<_, tower::BoxError>(http::Response::new(()))
    }));
    let request = Request::post(CHAT).body(Full::from("12345")).unwrap();
    futures_util::FutureExt::now_or_never(service.oneshot(request)).unwrap().unwrap();
}
