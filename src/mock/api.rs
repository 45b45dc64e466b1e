//! [`MockApi`] as a service.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::BoxError;
use tower_service::Service;

use super::{
    body::{MockBody, MockError},
    bucket::Limits,
    core::{Arrival, Core},
    faults::{Fate, Faults},
    intake::Intake,
    record::{CallRecord, Counters},
    settings::{MockApiBuilder, Settings},
};

/// An API that behaves like OpenAI's, in this process: for tests of whole systems, and for trying them out.
///
/// It is a [`Service`] by itself, for tests in paused time, and a server on a loopback port with [`serve`](Self::serve).
/// Clones share everything. It answers `POST /v1/chat/completions` and `/v1/responses` (plain, and as a stream of
/// events with `stream: true`), `POST /v1/embeddings`, `POST /v1/files` and `GET /v1/models`; what it cannot answer, it refuses with
/// OpenAI's statuses and bodies, and requests and tokens are counted in exact buckets, told of in OpenAI's headers. What
/// is refused with a 4xx other than 429, the list of models, and an upload cost no quota.
///
/// By default it has no limits, no latency and no faults; see [`MockApiBuilder`] for all there is. Chance comes from one
/// seed: the n-th call begun meets the same fate in every run.
///
/// ```
/// use std::time::Duration;
///
/// use http::{Request, StatusCode};
/// use tower::{Service, ServiceExt};
/// use tower_outbound::mock::{Limits, MockApi};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let api = MockApi::builder().limits(Limits::per_minute(2, 10_000)).build();
/// let ask = || {
///     Request::post("http://mock/v1/chat/completions")
///         .header("authorization", "Bearer sk-any")
///         .body(r#"{"model": "m", "messages": [{"role": "user", "content": "Hello"}]}"#.to_owned())
///         .unwrap()
/// };
/// let response = api.clone().oneshot(ask()).await.unwrap();
/// assert_eq!(response.status(), StatusCode::OK);
/// assert_eq!(response.headers()["x-ratelimit-remaining-requests"], "1");
/// assert_eq!(response.headers()["x-ratelimit-reset-requests"], "30s");
///
/// api.clone().oneshot(ask()).await.unwrap();
/// let response = api.clone().oneshot(ask()).await.unwrap();
/// assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
/// assert_eq!(response.headers()["retry-after"], "30");
///
/// tokio::time::sleep(Duration::from_secs(30)).await;
/// assert_eq!(api.clone().oneshot(ask()).await.unwrap().status(), StatusCode::OK);
/// assert_eq!(api.counters().rejected, 1);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MockApi {
    core: Arc<Mutex<Core>>,
    body_cap: usize,
}

impl Default for MockApi {
    fn default() -> Self {
        Self::builder().build()
    }
}

impl MockApi {
    /// Sets one up.
    pub fn builder() -> MockApiBuilder {
        MockApiBuilder::default()
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self { body_cap: settings.body_cap, core: Arc::new(Mutex::new(Core::new(settings))) }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other limits from now on. What is left in the buckets stays, as far as the new ones hold it.
    pub fn set_limits(&self, limits: Limits) {
        self.core().set_limits(Instant::now(), limits);
    }

    /// Other faults, for the calls begun from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.core().set_faults(faults);
    }

    /// So many calls until the money is spent; `None` for no end.
    pub fn set_credit(&self, calls: Option<u64>) {
        self.core().set_credit(calls);
    }

    /// Refuses this key with a 401 from now on.
    pub fn revoke_key(&self, key: &str) {
        self.core().set_revoked(key, true);
    }

    /// Takes a revoked key again.
    pub fn restore_key(&self, key: &str) {
        self.core().set_revoked(key, false);
    }

    /// Answers this key with 429 `insufficient_quota` from now on, and no other.
    pub fn spend_key(&self, key: &str) {
        self.core().set_spent(key, true);
    }

    /// Lets a spent key have quota again.
    pub fn refund_key(&self, key: &str) {
        self.core().set_spent(key, false);
    }

    /// All calls so far, counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.core().counters.clone()
    }

    /// The newest calls, oldest first, as many as [`MockApiBuilder::record_cap`] allows.
    #[must_use]
    pub fn records(&self) -> Vec<CallRecord> {
        self.core().records.to_vec()
    }

    /// The limits as they are now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.core().settings().limits
    }

    /// The least time in which the calls admitted so far could have been made by so many workers; the formula is at
    /// [`Counters::physical_limit`].
    #[must_use]
    pub fn physical_limit(&self, workers: usize) -> Duration {
        let core = self.core();
        core.counters.physical_limit(&core.settings().limits, workers)
    }
}

impl<B> Service<Request<B>> for MockApi
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Response = Response<MockBody>;
    type Error = MockError;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let now = Instant::now();
        let (number, fate) = self.core().begin(now);
        let (parts, body) = request.into_parts();
        ResponseFuture {
            call: Under { api: self.clone(), number, parts, arrives: later(now, fate.up), fate },
            state: State::Reading { body: Intake::new(body, self.body_cap) },
        }
    }
}

pin_project! {
    /// The answer of a [`MockApi`], on its way.
    ///
    /// # Cancel safety
    /// A call dropped before it reached the gate costs nothing; afterwards it has cost its quota.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<B> {
        call: Under,
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B> {
        Reading { #[pin] body: Intake<B> },
        Arriving { #[pin] sleep: Sleep, body: Option<Bytes> },
        Leaving { #[pin] sleep: Sleep, result: Option<Result<Response<MockBody>, MockError>> },
        Done,
    }
}

/// A call under way; it counts as such until dropped.
#[derive(Debug)]
struct Under {
    api: MockApi,
    number: u64,
    parts: request::Parts,
    arrives: Instant,
    fate: Fate,
}

impl Drop for Under {
    fn drop(&mut self) {
        self.api.core().end();
    }
}

impl<B> std::fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").field("number", &self.call.number).finish_non_exhaustive()
    }
}

impl<B> Future for ResponseFuture<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<MockBody>, MockError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Reading { body } => match ready!(body.poll(cx)) {
                    Ok(body) => this.state.set(State::Arriving { sleep: sleep_until(this.call.arrives), body }),
                    Err(error) => {
                        this.state.set(State::Done);
                        return Poll::Ready(Err(error));
                    }
                },
                StateProj::Arriving { sleep, body } => {
                    ready!(until(sleep, cx));
                    let call = &this.call;
                    let arrival =
                        Arrival { number: call.number, fate: &call.fate, parts: &call.parts, body: body.as_deref() };
                    let now = Instant::now();
                    let judged = call.api.core().judge(now, &arrival);
                    // Not under the lock, where it would hold up all other calls.
                    let decision = judged.decision(&call.fate);
                    let sleep = sleep_until(later(now, decision.wait));
                    this.state.set(State::Leaving { sleep, result: Some(decision.result) });
                }
                StateProj::Leaving { sleep, result } => {
                    ready!(until(sleep, cx));
                    let result = result.take();
                    this.state.set(State::Done);
                    if let Some(result) = result {
                        return Poll::Ready(result);
                    }
                }
                // As a fused future: there is nothing more to come.
                StateProj::Done => return Poll::Pending,
            }
        }
    }
}

/// After this time, or what is as good as never: a latency may be as long as a [`Duration`] can be.
fn later(now: Instant, wait: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    now.checked_add(wait).or_else(|| now.checked_add(NEVER)).unwrap_or(now)
}

/// Waits, where there is something to wait for: a timer alone would round up to the next millisecond.
pub(crate) fn until(sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    if sleep.deadline() <= Instant::now() { Poll::Ready(()) } else { sleep.poll(cx) }
}
