//! Whether a failed attempt is followed by another: [`Policy`], and [`Standard`], which most want.

use std::{error::Error, fmt, num::NonZeroU32, time::Duration};

use http::{HeaderMap, StatusCode};

use super::backoff::{Backoff, scale};
use crate::{ApiError, ErrorKind, RetryHint};

/// Default for [`Standard::hint_spread`]: a hint that is the same for all would bring all back at once.
const HINT_SPREAD: f64 = 0.1;

/// One failed attempt, as a [`Policy`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Which attempt it was, from 1.
    pub number: u32,
    /// Time since the call came.
    pub elapsed: Duration,
    /// What went wrong.
    pub kind: ErrorKind,
    /// Whether and when the server would have it again.
    pub hint: RetryHint,
    /// All that is known of the failure.
    pub error: &'a ApiError,
    /// What was waited before this attempt.
    pub last_wait: Duration,
    /// The longest wait that is accepted now: by the layer's longest and the time left to the deadline. A decision for a
    /// longer one ends the call.
    pub longest_wait: Duration,
    /// A fresh random number in 0..1, so that a policy is a plain function, and repeatable.
    pub random: f64,
    /// How the attempt ended.
    pub outcome: Outcome<'a>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// With a response; its body is not read.
    Response {
        /// The response's status.
        status: StatusCode,
        /// The response's headers.
        headers: &'a HeaderMap,
    },
    /// Without one.
    Error(&'a (dyn Error + Send + Sync + 'static)),
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another, after this time. A longer hint of the server's is waited for all the same.
    Retry(Duration),
    /// None; the caller gets the outcome, and the reason in the [`RetryReport`](super::RetryReport).
    Stop(StopReason),
}

/// Why a call was not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The same request cannot succeed later.
    NotRetryable,
    /// Neither its method nor its headers say that it may be processed twice, and it may have been once.
    NotIdempotent,
    /// Its body can go only once.
    BodySpent,
    /// All attempts are used.
    AttemptsUsed,
    /// The retries of all calls together are as many as the [`Budget`](super::Budget) allows.
    BudgetUsed,
    /// The wait would be longer than the longest accepted.
    WaitTooLong,
    /// The wait would end after the deadline.
    PastDeadline,
    /// It was sent again for free as often as is allowed.
    ResendsUsed,
    /// A layer further in refused to send it.
    Refused,
    /// The inner service did not become ready again.
    NotReady,
    /// The caller's own policy said so.
    Policy,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "it cannot succeed later",
            Self::NotIdempotent => "it may have been processed, and is not known to be idempotent",
            Self::BodySpent => "its body can be sent only once",
            Self::AttemptsUsed => "all attempts are used",
            Self::BudgetUsed => "the retry budget is used up",
            Self::WaitTooLong => "the wait is longer than accepted",
            Self::PastDeadline => "the wait would end after the deadline",
            Self::ResendsUsed => "it was deferred too often",
            Self::Refused => "it was refused",
            Self::NotReady => "the service did not become ready again",
            Self::Policy => "the policy says so",
        })
    }
}

/// Decides what follows a failed attempt.
///
/// Asked only for requests that may be repeated and whose body can go again, and not where the hint is
/// [`Never`](RetryHint::Never): what an API's answers mean is its [`Provider`](crate::provider::Provider)'s to say. The
/// layer's own limits are applied to the answer: the server's hint is a floor, and a wait that is longer than accepted, or
/// would end after the deadline, is not begun. A closure `Fn(&Attempt) -> Decision` is one.
///
/// ```
/// use tower_outbound::{ErrorKind, backoff_retry::{Attempt, BackoffRetryLayer, Decision, Policy, Standard, StopReason}};
///
/// // As usual, but a time limit is never tried again.
/// let usual = Standard::new();
/// let layer = BackoffRetryLayer::new().policy(move |attempt: &Attempt<'_>| match attempt.kind {
///     ErrorKind::Timeout => Decision::Stop(StopReason::Policy),
///     _ => usual.decide(attempt),
/// });
/// ```
pub trait Policy: Send + Sync {
    /// What follows this attempt.
    fn decide(&self, attempt: &Attempt<'_>) -> Decision;
}

impl<F: Fn(&Attempt<'_>) -> Decision + Send + Sync> Policy for F {
    fn decide(&self, attempt: &Attempt<'_>) -> Decision {
        self(attempt)
    }
}

/// So many attempts, a backoff between them, and the server's hint as a floor.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::{backoff_retry::{Backoff, Standard}, nz};
///
/// let policy = Standard::new()
///     .max_attempts(nz!(5))
///     .backoff(Backoff::exponential(Duration::from_millis(200)));
/// ```
#[derive(Clone, Debug)]
pub struct Standard {
    max_attempts: NonZeroU32,
    backoff: Backoff,
    hint_spread: f64,
}

impl Standard {
    /// Three attempts, 0.5 s doubling to 8 s between them, with full jitter.
    #[must_use]
    pub fn new() -> Self {
        Self {
            max_attempts: crate::nz!(3),
            backoff: Backoff::exponential(Duration::from_millis(500)),
            hint_spread: HINT_SPREAD,
        }
    }

    /// How often a call is tried in all, the first attempt included. Default: 3.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: NonZeroU32) -> Self {
        self.max_attempts = max_attempts;
        self
    }

    /// How long it waits where the server does not say.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How far over a server's hint a wait may be, at random, as a share of it. Default: 0.1. It gives way to the
    /// layer's limits, so that whether a hint fits them is not left to chance.
    #[must_use]
    pub fn hint_spread(mut self, share: f64) -> Self {
        self.hint_spread = share;
        self
    }
}

impl Default for Standard {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Standard {
    fn decide(&self, attempt: &Attempt<'_>) -> Decision {
        let hint = match attempt.hint {
            RetryHint::Never => return Decision::Stop(StopReason::NotRetryable),
            RetryHint::Backoff => Duration::ZERO,
            RetryHint::After(hint) => hint,
        };
        if attempt.number >= self.max_attempts.get() {
            return Decision::Stop(StopReason::AttemptsUsed);
        }
        if hint.is_zero() {
            return Decision::Retry(self.backoff.wait(attempt.number, attempt.last_wait, attempt.random));
        }
        // The server's word replaces the backoff. Jitter only adds to it, and may not end the call.
        let spread = hint.saturating_add(scale(hint, self.hint_spread * attempt.random));
        Decision::Retry(spread.min(attempt.longest_wait).max(hint))
    }
}
