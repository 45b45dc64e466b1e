//! One call, on its way through.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use axum::body::Body;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ACCEPT_ENCODING, EXPECT, HOST, UPGRADE},
};
use http_body_util::Either;
use hyper::body::Incoming;
use tower::{BoxError, Service};
use tower_outbound::{
    backoff_retry::{RetryError, RetryReport, StopReason},
    find_cause,
};

use crate::{
    body::{Keeping, Upload},
    errors::{Problem, SHOULD_RETRY},
    guard::{Guard, strip_keys, without_keys},
    headers,
    intake::{Intake, PATIENCE, is_json},
    limit::Limit,
    metrics::{InFlight, Metrics},
    stop::{Stage, Stop},
    target::Target,
};

/// What every call needs.
pub(crate) struct Proxy<S> {
    pub(crate) stack: S,
    pub(crate) rules: Arc<Rules>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: Arc<Stop>,
}

#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) target: Target,
    pub(crate) guard: Guard,
    /// The callers' own keys are taken off.
    pub(crate) has_key: bool,
    /// Where the gateway's goes, if not in `Authorization`.
    pub(crate) key_header: Option<HeaderName>,
    /// Those in the query are not.
    pub(crate) keep_query_keys: bool,
    pub(crate) accept_encoding: bool,
    pub(crate) intake: Intake,
}

/// The API's answer, in flight until its end, or one of the gateway's own.
pub(crate) type Answer<B> = Either<Keeping<B, InFlight>, Body>;

/// One connection's way through. Its calls come one after another: what it has of its own no other core has touched.
pub(crate) struct Lane<S> {
    peer: SocketAddr,
    stack: Mutex<S>,
    patience: Arc<Limit>,
}

impl<S: Clone> Lane<S> {
    pub(crate) fn new(proxy: &Proxy<S>, peer: SocketAddr) -> Self {
        Self { peer, stack: Mutex::new(proxy.stack.clone()), patience: Limit::new(PATIENCE) }
    }
}

impl<S> Lane<S> {
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn stack(&self) -> MutexGuard<'_, S> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, B> Proxy<S>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = BoxError>,
{
    /// Forwards a call, and its answer as it comes.
    pub(crate) async fn forward(&self, lane: &Lane<S>, request: Request<Incoming>) -> Response<Answer<B>> {
        let mut call = self.metrics.begin();
        let mut exchange = pin!(self.exchange(lane, request));
        // The connection is woken when the time is over, and asks this then.
        let result = poll_fn(|cx| match exchange.as_mut().poll(cx) {
            Poll::Pending if self.stop.stage() == Stage::Over => Poll::Ready(Err(Problem::stopping())),
            result => result,
        })
        .await;
        match result {
            Ok(mut response) => {
                inbound(&mut response, &self.metrics);
                call.answered(response.status());
                response.map(|body| Either::Left(Keeping::new(body, call)))
            }
            Err(problem) => {
                let response = problem.into_response();
                call.refused(response.status());
                response.map(Either::Right)
            }
        }
    }

    async fn exchange(&self, lane: &Lane<S>, request: Request<Incoming>) -> Result<Response<B>, Problem> {
        let request = self.rules.outbound(lane.peer, request, &lane.patience).await?;
        send(lane, request).await.map_err(|error| {
            if let Some(error) = find_cause::<RetryError>(&*error) {
                self.metrics.resent(error.report().resends);
            }
            Problem::of(&*error)
        })
    }
}

async fn send<S, B>(lane: &Lane<S>, request: Request<Upload>) -> Result<Response<B>, BoxError>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = BoxError>,
{
    poll_fn(|cx| lane.stack().poll_ready(cx)).await?;
    let answer = lane.stack().call(request);
    answer.await
}

impl Rules {
    /// The call as it goes to the API.
    async fn outbound(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
        patience: &Arc<Limit>,
    ) -> Result<Request<Upload>, Problem> {
        let (parts, body) = request.into_parts();
        self.guard.admit(peer, &parts.headers)?;
        if parts.method == Method::CONNECT {
            return Err(Problem::invalid(StatusCode::METHOD_NOT_ALLOWED, "The gateway makes no tunnels."));
        }
        // What the gateway puts on a call would come back to the caller.
        if parts.method == Method::TRACE && self.has_key {
            return Err(Problem::invalid(StatusCode::METHOD_NOT_ALLOWED, "The gateway shows nobody its key."));
        }
        if parts.headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Err(Problem::invalid(StatusCode::NOT_IMPLEMENTED, "The gateway carries no WebSockets."));
        }
        let uri = self.target.locate(&parts.uri).ok_or_else(|| {
            Problem::invalid(StatusCode::BAD_REQUEST, "The gateway forwards only requests for a path.")
        })?;

        let uri = if self.has_key && !self.keep_query_keys { without_keys(uri) } else { uri };

        let mut headers = parts.headers;
        self.prepare(&mut headers);
        let is_json = is_json(&headers);
        let body = self.intake.take(body, is_json, patience).await;
        let body = body.map_err(|_| Problem::broken_off())?;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        Ok(request)
    }

    fn prepare(&self, headers: &mut HeaderMap) {
        let takes_trailers = headers::takes_trailers(headers);
        headers::strip_hop_by_hop(headers);
        if takes_trailers {
            headers::take_trailers(headers);
        }
        // The client names the host that it calls. Who expects a "continue" has had it from this side.
        headers.remove(HOST);
        headers.remove(EXPECT);
        if self.has_key {
            strip_keys(headers, self.key_header.as_ref());
        }
        if !self.accept_encoding {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
    }
}

/// The answer as it goes to the caller.
fn inbound<B>(response: &mut Response<B>, metrics: &Metrics) {
    if let Some(report) = response.extensions().get::<RetryReport>() {
        metrics.resent(report.resends);
        if is_final(report) && !response.headers().contains_key(SHOULD_RETRY) {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }
    // The API's own is of its connection.
    *response.version_mut() = Version::HTTP_11;
    headers::strip_hop_by_hop(response.headers_mut());
}

/// Whether it makes no sense to send it again. Where the gateway alone could not or was not to do so, the caller may.
pub(crate) fn is_final(report: &RetryReport) -> bool {
    use StopReason::{AttemptsUsed, BodySpent, NotIdempotent};
    let was_sent_again = report.attempts > 1 || report.resends > 0;
    report.stopped.is_some_and(|why| was_sent_again || !matches!(why, AttemptsUsed | BodySpent | NotIdempotent))
}
