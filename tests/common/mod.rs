//! What the tests of all parts share.
#![allow(dead_code, unused_imports, reason = "each part uses its own share of it")]

mod counted;
mod desk;
mod told;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use tower::Service;
use tower_outbound::backoff_retry::RetryReport;

pub(crate) use self::{
    counted::{Counted, Endless, Open},
    desk::{Desk, Reply, later, limits, named, reply, settled, told_limit},
    told::{Told, again, again_error, refused, told},
};

/// The body of a request in these tests.
pub(crate) type Text = Full<Bytes>;

pub(crate) fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn request(method: Method, body: &'static str) -> Request<Text> {
    let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = "https://api.example/v1/things".parse().expect("a URI");
    request
}

/// A request that may be repeated.
pub(crate) fn get() -> Request<Text> {
    request(Method::GET, "")
}

/// A request that may not, unless it is known not to have been processed.
pub(crate) fn post() -> Request<Text> {
    request(Method::POST, "body")
}

/// The same request with an extension.
pub(crate) fn with<B, E: Clone + Send + Sync + 'static>(mut request: Request<B>, extension: E) -> Request<B> {
    request.extensions_mut().insert(extension);
    request
}

/// What the retry says of its work.
#[track_caller]
pub(crate) fn report<B>(response: &Response<B>) -> &RetryReport {
    response.extensions().get().expect("a report")
}

/// The service, once it has said that it is ready.
pub(crate) async fn ready<S>(service: &mut S) -> &mut S
where
    S: Service<Request<Text>, Error: fmt::Debug>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.expect("a service that gets ready");
    service
}

/// Polls once, with nobody to wake.
pub(crate) fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}
