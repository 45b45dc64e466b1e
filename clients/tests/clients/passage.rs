//! Nothing is dropped on the way: what goes out and comes back through a stack, whatever client is under it.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clients::Server;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, layer::util};
use tower_outbound::{
    BackoffRetry, BackoffRetryLayer, ErrorClassify, ErrorClassifyLayer,
    backoff_retry::{Backoff, RetryReport, Standard},
    body::ReplayBody,
};

pub(crate) const MANY: HeaderName = HeaderName::from_static("x-many");
pub(crate) const BYTES: HeaderName = HeaderName::from_static("x-bytes");
pub(crate) const TRAILER: HeaderName = HeaderName::from_static("x-trailer");

pub(crate) type Stream = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// A stream of three pieces, and trailers.
pub(crate) fn stream() -> Stream {
    let mut trailers = HeaderMap::new();
    trailers.insert(TRAILER, HeaderValue::from_bytes(b"last\xff").unwrap());
    let pieces = ["one ", "two ", "three"].map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
    let frames: Vec<_> = pieces.into_iter().chain([Ok(Frame::trailers(trailers))]).collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

pub(crate) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.append(MANY, HeaderValue::from_static("first"));
    headers.append(MANY, HeaderValue::from_static("second"));
    headers.insert(BYTES, HeaderValue::from_bytes(b"caf\xe9 \x80").unwrap());
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("trailer", HeaderValue::from_static("x-trailer"));
    headers
}

/// Says no once, then gives everything back as it came.
pub(crate) async fn echo() -> (Server, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = Server::start(move |request: Request<hyper::body::Incoming>| {
        let is_first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap();
            let mut response = Response::builder().status(if is_first { 503 } else { 200 });
            let headers = response.headers_mut().unwrap();
            for (name, value) in &parts.headers {
                if [MANY, BYTES, "trailer".parse().unwrap()].contains(name) {
                    headers.append(name, value.clone());
                }
            }
            let trailers = body.trailers().cloned().map(|trailers| Ok::<_, Infallible>(Frame::trailers(trailers)));
            let frames = [Ok(Frame::data(body.to_bytes()))].into_iter().chain(trailers).collect::<Vec<_>>();
            response.body(StreamBody::new(futures_util::stream::iter(frames))).unwrap()
        }
    });
    (server.await.unwrap(), calls)
}

/// Classified, and sent again at once as OpenAI's SDKs would later.
pub(crate) type Layers =
    ServiceBuilder<util::Stack<ErrorClassifyLayer, util::Stack<BackoffRetryLayer, util::Identity>>>;

pub(crate) type Stacked<S> = BackoffRetry<ErrorClassify<S>>;

pub(crate) fn layers() -> Layers {
    let at_once = Standard::new().backoff(Backoff::constant(Duration::ZERO));
    let retry = BackoffRetryLayer::openai_sdk().policy(at_once);
    ServiceBuilder::new().layer(retry).layer(ErrorClassifyLayer::default())
}

/// What must have come back.
pub(crate) async fn check<B>(response: Response<B>, version: Version)
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    assert_eq!((response.status().as_u16(), response.version()), (200, version));
    assert_eq!(response.extensions().get::<RetryReport>().map(|report| report.attempts), Some(2));
    let many: Vec<_> = response.headers().get_all(MANY).iter().collect();
    assert_eq!(many, ["first", "second"]);
    assert_eq!(response.headers()[BYTES].as_bytes(), b"caf\xe9 \x80");
    let body = response.into_body().collect().await.map_err(Into::into).unwrap();
    assert_eq!(body.trailers().map(|trailers| trailers[TRAILER].as_bytes()), Some(&b"last\xff"[..]));
    assert_eq!(body.to_bytes(), "one two three");
}

/// A stream with trailers goes out twice, and comes back as it was, over this client.
pub(crate) async fn passes<S, RB>(client: S, version: Version)
where
    S: Service<Request<ReplayBody<Stream>>, Response = Response<RB>, Error: Into<BoxError>> + Clone,
    RB: Body<Data = Bytes, Error: Into<BoxError>>,
{
    let (server, calls) = echo().await;
    let body = ReplayBody::new(stream(), 1024);
    let mut request = Request::post(server.url("/echo?x=%20")).version(version).body(body).unwrap();
    *request.headers_mut() = headers();
    let response = layers().service(client).oneshot(request).await.unwrap();
    check(response, version).await;
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}
