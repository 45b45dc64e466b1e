//! A call's attempts so far, for those who decide without the service: tower's own retry, and the test kit.

use std::time::Duration;

use http::{Extensions, HeaderName, Method, Request, Response};
use tokio::time::Instant;
use tower::BoxError;

use super::{
    BackoffRetryLayer, Decision, StopReason,
    budget::{Unsent, Withdrawn},
    settings::{Failed, outcome},
};
use crate::{Call, failure};

/// One call, attempt by attempt.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    start: Instant,
    deadline: Option<Instant>,
    attempts: u32,
    last_wait: Duration,
    /// What the last retry took from the budget.
    withdrawn: Option<Withdrawn>,
    /// What the next one did.
    unsent: Unsent,
}

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Of a request, what a decision may rest on.
#[derive(Clone, Copy)]
pub(crate) struct Traits<'a> {
    pub(crate) method: &'a Method,
    pub(crate) extensions: &'a Extensions,
    /// It carries an `Idempotency-Key`.
    pub(crate) has_key: bool,
}

impl<'a> Traits<'a> {
    pub(crate) fn of<B>(request: &'a Request<B>) -> Self {
        let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
        Self { method: request.method(), extensions: request.extensions(), has_key }
    }
}

impl Course {
    /// A call that comes now.
    pub(crate) fn at(now: Instant) -> Self {
        Self {
            start: now,
            deadline: None,
            attempts: 0,
            last_wait: Duration::ZERO,
            withdrawn: None,
            unsent: Unsent::default(),
        }
    }

    /// A call that `layer` is to retry; it came when its [`Call`] says, or now.
    pub(crate) fn begin(layer: &BackoffRetryLayer, call: Option<&Call>, now: Instant) -> Self {
        let settings = &layer.settings;
        let start = call.map_or(now, Call::start);
        settings.budget.call(start);
        let own = settings.deadline(start);
        Self { deadline: call.and_then(Call::deadline).into_iter().chain(own).min(), ..Self::at(start) }
    }

    /// As [`begin`](Self::begin), with all that the layer itself adds to a request.
    #[cfg(feature = "mock")]
    pub(crate) fn begin_with(layer: &BackoffRetryLayer, request: &mut http::Request<()>, now: Instant) -> Self {
        layer.settings.put_key(request);
        Self::begin(layer, request.extensions().get(), now)
    }

    /// Attempts that have ended.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The retry that was decided on is sent now: what it took is not given back.
    pub(crate) fn sent(&mut self) {
        self.withdrawn = self.unsent.sent().or(self.withdrawn);
    }

    /// What follows this outcome by all that the layer says; `None` after a success. Without a request, its body cannot
    /// go again.
    pub(crate) fn judge<RB>(
        &mut self,
        layer: &BackoffRetryLayer,
        request: Option<Traits<'_>>,
        result: &Result<Response<RB>, BoxError>,
        now: Instant,
    ) -> Option<Decision> {
        let decide = |failed: &Failed<'_>| layer.settings.decide(failed).map(|next| (next.wait, next.unsent));
        let decision = self.judge_by(decide, request, result, now);
        if decision.is_none() {
            layer.settings.budget.succeeded(self.withdrawn);
        }
        decision
    }

    /// What follows by a policy alone, and the rule that is no policy's: not before the server's time.
    #[cfg(feature = "mock")]
    pub(crate) fn judge_alone<RB>(
        &mut self,
        policy: &dyn super::Policy,
        random: f64,
        result: &Result<Response<RB>, BoxError>,
        now: Instant,
    ) -> Option<Decision> {
        use crate::RetryHint;
        let decide = |failed: &Failed<'_>| {
            let floor = match failed.error.retry() {
                RetryHint::Never => return Err(StopReason::NotRetryable),
                RetryHint::Backoff => Duration::ZERO,
                RetryHint::After(hint) => hint,
            };
            match policy.decide(&failed.attempt(random, Duration::MAX)) {
                Decision::Retry(wait) => Ok((wait.max(floor), Unsent::default())),
                Decision::Stop(reason) => Err(reason),
            }
        };
        self.judge_by(decide, None, result, now)
    }

    fn judge_by<RB>(
        &mut self,
        decide: impl FnOnce(&Failed<'_>) -> Result<(Duration, Unsent), StopReason>,
        request: Option<Traits<'_>>,
        result: &Result<Response<RB>, BoxError>,
        now: Instant,
    ) -> Option<Decision> {
        self.attempts = self.attempts.saturating_add(1);
        let error = failure(result)?;
        let decision = decide(&Failed {
            number: self.attempts,
            start: self.start,
            deadline: self.deadline,
            last_wait: self.last_wait,
            error: &error,
            request,
            outcome: outcome(result),
            now,
        });
        Some(match decision {
            Ok((wait, unsent)) => {
                self.last_wait = wait;
                self.unsent = unsent;
                Decision::Retry(wait)
            }
            Err(reason) => Decision::Stop(reason),
        })
    }
}
