//! The same decisions under tower's own retry: [`TowerPolicy`].

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::time::{Instant, Sleep, sleep};
use tower::{BoxError, retry::Policy};

use super::{
    BackoffRetryLayer,
    settings::{Failed, Settings, outcome},
};
use crate::{body::Resend, failure};

/// The decisions of a [`BackoffRetryLayer`] as a [`tower::retry::Policy`], for stacks that have a `RetryLayer` already.
///
/// It decides the same and keeps to the same budget. What tower's retry leaves no room for is missing: the report, the
/// protocol with a `QuotaMeter` and a `KeyCheck`, and the rest of a failed response is not read, so that its connection is lost.
///
/// ```
/// use tower::{ServiceBuilder, retry::RetryLayer};
/// use tower_outbound::backoff_retry::BackoffRetryLayer;
///
/// let layer = RetryLayer::new(BackoffRetryLayer::openai_sdk().tower_policy());
/// # let _ = ServiceBuilder::new().layer(layer);
/// ```
#[derive(Clone, Debug)]
pub struct TowerPolicy {
    settings: Arc<Settings>,
    /// Of the call it was cloned for: the number of attempts made.
    attempts: u32,
    start: Option<Instant>,
    last_wait: Duration,
    withdrawn: Option<u64>,
}

impl BackoffRetryLayer {
    /// The same decisions for tower's own retry.
    #[must_use]
    pub fn tower_policy(&self) -> TowerPolicy {
        let settings = Arc::clone(&self.settings);
        TowerPolicy { settings, attempts: 0, start: None, last_wait: Duration::ZERO, withdrawn: None }
    }
}

impl<B: Resend, RB> Policy<Request<B>, Response<RB>, BoxError> for TowerPolicy {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<B>, result: &mut Result<Response<RB>, BoxError>) -> Option<Self::Future> {
        self.attempts += 1;
        let Some(error) = failure(result) else {
            self.settings.budget.succeeded(self.withdrawn);
            return None;
        };
        let now = Instant::now();
        let start = self.start.unwrap_or(now);
        let failed = Failed {
            number: self.attempts,
            start,
            deadline: self.settings.max_elapsed.and_then(|elapsed| start.checked_add(elapsed)),
            last_wait: self.last_wait,
            error: &error,
            request: Some((request.method(), request.headers(), request.extensions())),
            outcome: outcome(result),
            now,
        };
        let (wait, withdrawn) = self.settings.decide(&failed).ok()?;
        self.last_wait = wait;
        self.withdrawn = Some(withdrawn);
        Some(sleep(wait))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        // The service's own policy sees the first sending of every call; each call then goes on with a clone of it.
        if self.attempts == 0 {
            let now = Instant::now();
            self.start = Some(now);
            self.settings.budget.call(now);
        }
        super::trip::copy(request)
    }
}
