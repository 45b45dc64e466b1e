//! What the retry presets keep to, held against the constants and cases of those they are named after; and what chance,
//! the budget and tower's own retry make of them.

mod aws;
mod chance;
mod openai;
mod tower_retry;

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use tower::{BoxError, Service, ServiceExt};
use tower_outbound::mock::{MockBody, Script};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// One call as a user makes it: a POST with a body.
fn post() -> Request<String> {
    request(Method::POST)
}

fn request(method: Method) -> Request<String> {
    let mut request = Request::new("please".to_owned());
    *request.method_mut() = method;
    request
}

/// The status of the answer; `None` for an error.
async fn status_of<S>(service: S, request: Request<String>) -> Option<StatusCode>
where
    S: Service<Request<String>, Response = Response<MockBody>, Error = BoxError>,
{
    service.oneshot(request).await.ok().map(|response| response.status())
}

/// When each request was sent, and what came of it.
async fn played<S>(service: S, request: Request<String>, script: &Script) -> (Vec<Duration>, Option<StatusCode>)
where
    S: Service<Request<String>, Response = Response<MockBody>, Error = BoxError>,
{
    let status = status_of(service, request).await;
    (script.times(), status)
}
