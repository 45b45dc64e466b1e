//! The peers that `tower-outbound` is compared with, each set up as one would for an HTTP API.

mod aws;
mod cookbook;
mod openai_sdk;

pub use aws::{AwsAdaptive, Wire};
pub use cookbook::Cookbook;
pub use openai_sdk::{OpenAiSdk, openai_sdk};

use std::{
    hash::{BuildHasher, DefaultHasher, Hasher},
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{Request, Response};
use tower::{
    BoxError, Layer, Service,
    retry::{
        Policy, RetryLayer,
        backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    util::rng::HasherRng,
};
use tower_resilience_ratelimiter::{RateLimiterConfigError, RateLimiterLayer};

/// Backoff of all peers, and of ours beside them: from half a second to 8 s, three attempts.
const MIN_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(8);
const ATTEMPTS: usize = 3;

/// tower's retry as its documentation builds it: [`ExponentialBackoff`] with jitter, and a [`TpsBudget`]. The jitter comes
/// from the seed; every call has the same, since each begins with a clone of one generator.
///
/// # Panics
/// Never: the backoff is a valid one.
#[must_use]
pub fn tower_retry(seed: u64) -> RetryLayer<TowerPolicy> {
    let backoff = ExponentialBackoffMaker::new(MIN_WAIT, MAX_WAIT, 0.99, HasherRng::with_hasher(Seeded(seed)));
    RetryLayer::new(TowerPolicy {
        backoff: backoff.expect("a valid backoff").make_backoff(),
        budget: Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.1)),
        left: ATTEMPTS - 1,
    })
}

/// The policy of [`tower_retry`].
#[derive(Clone, Debug)]
pub struct TowerPolicy {
    backoff: ExponentialBackoff<HasherRng<Seeded>>,
    budget: Arc<TpsBudget>,
    left: usize,
}

#[derive(Clone, Debug)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> Self::Hasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

impl<B: Clone, RB> Policy<Request<B>, Response<RB>, BoxError> for TowerPolicy {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, _: &mut Request<B>, result: &mut Result<Response<RB>, BoxError>) -> Option<Self::Future> {
        let is_failure = result.as_ref().map_or(true, is_failure);
        if !is_failure {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(self.backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

/// tower-resilience's retry, with the same attempts and backoff.
#[must_use]
pub fn resilience_retry<B, RB>() -> tower_resilience_retry::RetryLayer<Request<B>, Response<RB>, BoxError>
where
    B: 'static,
    RB: 'static,
{
    tower_resilience_retry::RetryLayer::builder()
        .max_attempts(ATTEMPTS)
        .exponential_backoff(MIN_WAIT)
        .retry_on_response(is_failure)
        .build()
}

/// tower-resilience's rate limiter, given the exact limit: a bucket as the server's is, and calls wait for it however
/// long it takes, as its documentation would have it for calls to another's API.
///
/// # Errors
/// If the limit is 0.
pub fn resilience_limiter(per_minute: usize) -> Result<RateLimiterLayer, RateLimiterConfigError> {
    RateLimiterLayer::per_minute(per_minute).burst_size(0).backpressure().build()
}

/// governor, given the exact limit: a cell is asked for when the service is made ready.
#[derive(Clone, Debug)]
pub struct GovernorLayer(Arc<DefaultDirectRateLimiter>);

impl GovernorLayer {
    /// So many calls a second.
    #[must_use]
    pub fn per_second(limit: NonZeroU32) -> Self {
        Self(Arc::new(RateLimiter::direct(Quota::per_second(limit))))
    }
}

impl<S> Layer<S> for GovernorLayer {
    type Service = Governor<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Governor { inner, limiter: Arc::clone(&self.0) }
    }
}

/// The service of [`GovernorLayer`]. Without a free cell it asks again at once: it is for calls that find one.
#[derive(Clone, Debug)]
pub struct Governor<S> {
    inner: S,
    limiter: Arc<DefaultDirectRateLimiter>,
}

impl<S, R> Service<R> for Governor<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.limiter.check().is_err() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.inner.call(request)
    }
}

fn is_failure<RB>(response: &Response<RB>) -> bool {
    response.status().is_server_error() || response.status() == http::StatusCode::TOO_MANY_REQUESTS
}
