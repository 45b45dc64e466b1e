//! One call through all its attempts: what is kept of it, and what follows each outcome.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, Response};
use tokio::time::Instant;
use tower::BoxError;

use super::{Attempt, Decision, Outcome, Repeat, RetryError, RetryReport, StopReason, service::Shared};
use crate::{Again, ApiError, Call, Refused, RetryHint, body::Resend, find_cause};

/// A call on its way.
pub(super) struct Trip<S, B, RB> {
    shared: Arc<Shared<S>>,
    /// The request as it came; `None` if its body can go only once.
    kept: Option<Request<B>>,
    seq: u64,
    start: Instant,
    deadline: Option<Instant>,
    /// Only once something went wrong.
    past: Option<Box<Past<RB>>>,
}

/// What lies behind a call that failed at least once.
struct Past<RB> {
    report: RetryReport,
    last_wait: Duration,
    /// The last failed response, where it is whole in memory.
    response: Option<Response<RB>>,
    /// The last failure.
    error: ApiError,
}

/// What follows an attempt.
pub(super) enum Next<RB> {
    Done(Result<Response<RB>, BoxError>),
    /// Another attempt at this time; until then the rest of the failed response is read and dropped.
    Wait {
        until: Instant,
        rest: Option<RB>,
    },
}

impl<S, B: Resend, RB> Trip<S, B, RB> {
    /// Keeps what another attempt needs, and marks the request as one that is retried. `None` if a retry further out
    /// owns the call already.
    pub(super) fn begin(request: &mut Request<B>, shared: &Arc<Shared<S>>) -> Option<Self> {
        let call = match request.extensions_mut().remove::<Call>() {
            Some(call) if call.retried => {
                request.extensions_mut().insert(call);
                return None;
            }
            Some(call) => call,
            None => Call::now(),
        };
        let trip = Self {
            shared: Arc::clone(shared),
            kept: copy(request),
            seq: call.seq,
            start: call.start,
            deadline: call.deadline,
            past: None,
        };
        request.extensions_mut().insert(Call { retried: true, deadline: trip.deadline(), ..call });
        Some(trip)
    }

    /// What follows this outcome.
    pub(super) fn judge(&mut self, result: Result<Response<RB>, BoxError>) -> Next<RB> {
        let (again, error) = match &result {
            Ok(response) => match failure(response) {
                Some(failure) => failure,
                None => return Next::Done(self.finish(result, None)),
            },
            Err(error) => (find_cause::<Again>(&**error).copied(), ApiError::from_error(&**error)),
        };
        let result = match result {
            Err(refusal) if find_cause::<Refused>(&*refusal).is_some() => return Next::Done(self.refused(refusal)),
            result => result,
        };
        let past = self.past.get_or_insert_with(|| Box::new(Past::new(error.clone())));
        past.error = error;
        match again {
            Some(again) => self.defer(again, result),
            None => {
                past.report.push_kind(past.error.kind());
                self.retry(result)
            }
        }
    }

    /// A layer further in asks for the request once more, and sees to the waiting.
    fn defer(&mut self, again: Again, result: Result<Response<RB>, BoxError>) -> Next<RB> {
        let now = Instant::now();
        let resends = self.past.as_ref().map_or(0, |past| past.report.resends);
        let settings = &self.shared.settings;
        let stop = if self.kept.is_none() {
            Some(StopReason::BodySpent)
        } else if resends >= settings.max_resends {
            Some(StopReason::ResendsUsed)
        } else {
            self.misfit(again.not_before.saturating_duration_since(now), now)
        };
        if let Some(reason) = stop {
            return Next::Done(self.finish(result, Some(reason)));
        }
        if let Some(past) = &mut self.past {
            past.report.resends += 1;
        }
        Next::Wait { until: now, rest: self.put_aside(result) }
    }

    /// Another attempt, if the policy wants one and it fits the limits.
    fn retry(&mut self, result: Result<Response<RB>, BoxError>) -> Next<RB> {
        let now = Instant::now();
        match self.decide(&result, now) {
            Decision::Stop(reason) => Next::Done(self.finish(result, Some(reason))),
            Decision::Retry(wait) => {
                if let Some(past) = &mut self.past {
                    past.report.attempts += 1;
                    past.report.waited = past.report.waited.saturating_add(wait);
                    past.last_wait = wait;
                }
                let until = now.checked_add(wait).unwrap_or(now);
                Next::Wait { until, rest: self.put_aside(result) }
            }
        }
    }

    fn decide(&self, result: &Result<Response<RB>, BoxError>, now: Instant) -> Decision {
        let Some(past) = &self.past else { return Decision::Stop(StopReason::NotRetryable) };
        let settings = &self.shared.settings;
        if past.error.retry() == RetryHint::Never {
            return Decision::Stop(StopReason::NotRetryable);
        }
        let Some(kept) = &self.kept else { return Decision::Stop(StopReason::BodySpent) };
        if !may_repeat(settings.repeat, kept.method(), kept.headers(), &past.error) {
            return Decision::Stop(StopReason::NotIdempotent);
        }
        let decision = settings.policy.decide(&Attempt {
            number: past.report.attempts,
            elapsed: now.saturating_duration_since(self.start),
            kind: past.error.kind(),
            hint: past.error.retry(),
            error: &past.error,
            last_wait: past.last_wait,
            random: settings.random(),
            outcome: match result {
                Ok(response) => Outcome::Response { status: response.status(), headers: response.headers() },
                Err(error) => Outcome::Error(&**error),
            },
        });
        let Decision::Retry(wait) = decision else { return decision };
        // Whatever the policy: the server's own time is a floor.
        let wait = match past.error.retry() {
            RetryHint::After(hint) => wait.max(hint),
            _ => wait,
        };
        self.misfit(wait, now).map_or(Decision::Retry(wait), Decision::Stop)
    }

    /// Why a wait is not begun, if so.
    fn misfit(&self, wait: Duration, now: Instant) -> Option<StopReason> {
        if wait > self.shared.settings.max_wait {
            return Some(StopReason::WaitTooLong);
        }
        let end = now.checked_add(wait);
        let is_late = self.deadline().is_some_and(|deadline| end.is_none_or(|end| end > deadline));
        is_late.then_some(StopReason::PastDeadline)
    }

    fn deadline(&self) -> Option<Instant> {
        let own = self.shared.settings.max_elapsed.and_then(|elapsed| self.start.checked_add(elapsed));
        self.deadline.into_iter().chain(own).min()
    }

    /// Keeps a failed response that is whole in memory; of another, hands out the body, to be read and dropped.
    fn put_aside(&mut self, result: Result<Response<RB>, BoxError>) -> Option<RB> {
        let past = self.past.as_mut()?;
        let response = result.ok()?;
        if past.error.body_in_memory() {
            past.response = Some(response);
            return None;
        }
        past.response = None;
        Some(response.into_body())
    }

    /// The request for the next attempt.
    pub(super) fn next_request(&self) -> Option<Request<B>> {
        let mut request = copy(self.kept.as_ref()?)?;
        let report = self.past.as_ref().map(|past| &past.report);
        request.extensions_mut().insert(Call {
            seq: self.seq,
            start: self.start,
            deadline: self.deadline(),
            attempt: report.map_or(1, |report| report.attempts),
            resends: report.map_or(0, |report| report.resends),
            retried: true,
            lease: None,
        });
        Some(request)
    }

    /// What the caller gets, with the report if there is anything to report.
    fn finish(
        &mut self,
        result: Result<Response<RB>, BoxError>,
        stopped: Option<StopReason>,
    ) -> Result<Response<RB>, BoxError> {
        let Some(past) = self.past.take() else { return result };
        let Past { mut report, error, .. } = *past;
        report.stopped = stopped;
        match result {
            Ok(mut response) => {
                response.extensions_mut().insert(report);
                Ok(response)
            }
            Err(source) => Err(RetryError::new(report, error, source).into()),
        }
    }

    /// A gate further in said no: the last response, if it is still at hand, tells the caller more.
    fn refused(&mut self, refusal: BoxError) -> Result<Response<RB>, BoxError> {
        match self.past.as_mut().and_then(|past| past.response.take()) {
            Some(response) => self.finish(Ok(response), Some(StopReason::Refused)),
            None => Err(refusal),
        }
    }

    /// Another attempt was to follow and could not be made.
    pub(super) fn give_up(&mut self, error: BoxError, reason: StopReason) -> Result<Response<RB>, BoxError> {
        let response = self.past.as_mut().and_then(|past| past.response.take());
        self.finish(response.ok_or(error), Some(reason))
    }
}

impl<S: Clone, B, RB> Trip<S, B, RB> {
    pub(super) fn fresh_service(&self) -> S {
        self.shared.fresh_service()
    }
}

impl<RB> Past<RB> {
    fn new(error: ApiError) -> Self {
        let report = RetryReport { attempts: 1, ..RetryReport::default() };
        Self { report, last_wait: Duration::ZERO, response: None, error }
    }
}

/// The same request again; `None` if its body can go only once.
fn copy<B: Resend>(request: &Request<B>) -> Option<Request<B>> {
    let mut copy = Request::new(request.body().resend()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// What a failed response means, and whether a layer further in asks for it again; `None` for a good one.
fn failure<RB>(response: &Response<RB>) -> Option<(Option<Again>, ApiError)> {
    let error = match response.extensions().get::<ApiError>() {
        Some(error) => error.clone(),
        None if response.status().as_u16() >= 400 => ApiError::from_head(response.status(), response.headers()),
        None => return None,
    };
    Some((response.extensions().get::<Again>().copied(), error))
}

/// Whether a second sending does no harm.
fn may_repeat(repeat: Repeat, method: &Method, headers: &HeaderMap, error: &ApiError) -> bool {
    repeat == Repeat::All
        || method.is_idempotent()
        || headers.contains_key("idempotency-key")
        || !error.may_have_been_processed()
}
