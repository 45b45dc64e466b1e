//! What one layer's calls are retried by, and the decision over one failed attempt.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response};
use rand::{RngExt, rngs::SmallRng};
use tokio::time::Instant;
use tower::BoxError;

use super::{
    Attempt, Budget, Decision, Outcome, Policy, StopReason,
    budget::Unsent,
    course::{IDEMPOTENCY_KEY, Traits},
};
use crate::{ApiError, RetryHint};

/// Which requests may be sent again when the first sending may have been processed.
///
/// One that was certainly not processed (429, no connection) may always be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repeat {
    /// Those with an idempotent method (RFC 9110, 9.2.2) or an `Idempotency-Key` header, and those that their caller
    /// marks with [`Idempotent`].
    #[default]
    Idempotent,
    /// All, as the OpenAI SDKs do. A POST sent twice is billed twice: one that was processed, and whose answer got lost.
    All,
}

/// A request extension: this request may be processed twice, or, with `false`, may not, whatever its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotent(pub bool);

pub(super) type OnRetry = Arc<dyn Fn(&Attempt<'_>, Duration) + Send + Sync>;

pub(super) struct Settings {
    pub(super) policy: Arc<dyn Policy>,
    pub(super) budget: Arc<Budget>,
    pub(super) repeat: Repeat,
    pub(super) max_elapsed: Option<Duration>,
    pub(super) max_wait: Duration,
    pub(super) max_resends: u32,
    pub(super) idempotency_keys: bool,
    pub(super) count_header: Option<HeaderName>,
    pub(super) marks: bool,
    pub(super) on_retry: Option<OnRetry>,
    pub(super) rng: Mutex<SmallRng>,
    /// Of idempotency keys: never seeded.
    pub(super) keys: Mutex<SmallRng>,
    pub(super) held_jitter: Option<f64>,
}

/// One failed attempt, with all that the decision needs.
pub(super) struct Failed<'a> {
    pub(super) number: u32,
    pub(super) start: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) last_wait: Duration,
    pub(super) error: &'a ApiError,
    /// The request that would go again; `None` if its body cannot.
    pub(super) request: Option<Traits<'a>>,
    pub(super) outcome: Outcome<'a>,
    pub(super) now: Instant,
}

/// Another attempt: after this wait, at this time, for what was taken from the budget.
pub(super) struct Next {
    pub(super) wait: Duration,
    pub(super) at: Instant,
    pub(super) unsent: Unsent,
}

impl<'a> Failed<'a> {
    /// As a policy sees it, with this random number, where no longer wait is accepted.
    pub(super) fn attempt(&self, random: f64, longest_wait: Duration) -> Attempt<'a> {
        Attempt {
            number: self.number,
            elapsed: self.now.saturating_duration_since(self.start),
            kind: self.error.kind(),
            hint: self.error.retry(),
            error: self.error,
            last_wait: self.last_wait,
            longest_wait,
            random,
            outcome: self.outcome,
        }
    }
}

impl Settings {
    /// The next attempt, or why there is none.
    pub(super) fn decide(&self, failed: &Failed<'_>) -> Result<Next, StopReason> {
        let error = failed.error;
        if error.retry() == RetryHint::Never {
            return Err(StopReason::NotRetryable);
        }
        let request = failed.request.ok_or(StopReason::BodySpent)?;
        if error.may_have_been_processed() && !self.may_repeat(request) {
            return Err(StopReason::NotIdempotent);
        }
        let left = failed.deadline.map(|deadline| deadline.saturating_duration_since(failed.now));
        let longest_wait = left.unwrap_or(Duration::MAX).min(self.max_wait);
        let attempt = failed.attempt(self.held_jitter.unwrap_or_else(|| self.rng().random()), longest_wait);
        let wait = match self.policy.decide(&attempt) {
            Decision::Retry(wait) => wait,
            Decision::Stop(reason) => return Err(reason),
        };
        let wait = match error.retry() {
            // Whatever the policy: the server's own time is a floor.
            RetryHint::After(hint) => wait.max(hint),
            _ => wait,
        };
        let at = self.fits(wait, failed.now, failed.deadline)?;
        let withdrawn = self.budget.withdraw(error.kind(), failed.now).ok_or(StopReason::BudgetUsed)?;
        let unsent = Unsent::new(&self.budget, withdrawn);
        #[cfg(feature = "tracing")]
        tracing::info!(
            attempt = attempt.number,
            kind = attempt.kind.as_str(),
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            %error,
            "to be sent again"
        );
        if let Some(on_retry) = &self.on_retry {
            on_retry(&attempt, wait);
        }
        Ok(Next { wait, at, unsent })
    }

    /// When a call that came at `start` is to be given up, by the setting.
    pub(super) fn deadline(&self, start: Instant) -> Option<Instant> {
        start.checked_add(self.max_elapsed?)
    }

    /// When a wait would end, if it may be begun.
    pub(super) fn fits(&self, wait: Duration, now: Instant, deadline: Option<Instant>) -> Result<Instant, StopReason> {
        if wait > self.max_wait {
            return Err(StopReason::WaitTooLong);
        }
        let end = now.checked_add(wait).ok_or(StopReason::WaitTooLong)?;
        if deadline.is_some_and(|deadline| end > deadline) {
            return Err(StopReason::PastDeadline);
        }
        Ok(end)
    }

    fn may_repeat(&self, request: Traits<'_>) -> bool {
        match request.extensions.get::<Idempotent>() {
            Some(Idempotent(marked)) => *marked,
            None => self.repeat == Repeat::All || request.method.is_idempotent() || request.has_key,
        }
    }

    /// The `Idempotency-Key` of a request that is to have one and has none.
    #[inline]
    pub(super) fn put_key<B>(&self, request: &mut Request<B>) {
        if self.idempotency_keys && !request.method().is_idempotent() {
            let headers = request.headers_mut();
            if !headers.contains_key(IDEMPOTENCY_KEY) {
                // Left out of a map that is full: then it is not repeated either.
                let _ = headers.try_insert(IDEMPOTENCY_KEY, self.new_key());
            }
        }
    }

    /// A new `Idempotency-Key`: 128 random bits in hex.
    fn new_key(&self) -> HeaderValue {
        let random: u128 = self.keys.lock().unwrap_or_else(PoisonError::into_inner).random();
        let key = format!("{random:032x}");
        HeaderValue::try_from(key).unwrap_or(HeaderValue::from_static("0"))
    }

    /// One generator for the layer: no two calls share a sequence.
    pub(super) fn rng(&self) -> MutexGuard<'_, SmallRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("budget", &self.budget)
            .field("repeat", &self.repeat)
            .field("max_elapsed", &self.max_elapsed)
            .field("max_wait", &self.max_wait)
            .field("max_resends", &self.max_resends)
            .finish_non_exhaustive()
    }
}

pub(super) fn outcome<RB>(result: &Result<Response<RB>, BoxError>) -> Outcome<'_> {
    match result {
        Ok(response) => Outcome::Response { status: response.status(), headers: response.headers() },
        Err(error) => Outcome::Error(&**error),
    }
}
