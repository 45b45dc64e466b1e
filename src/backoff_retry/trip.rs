//! One call through all its attempts: what is kept of it, and what follows each outcome.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response};
use tokio::time::Instant;
use tower::BoxError;

use super::{
    RetryError, RetryReport, StopReason,
    service::Shared,
    settings::{Failed, IDEMPOTENCY_KEY, outcome},
};
use crate::{Again, ApiError, Call, Refused, body::Resend, failure, find_cause};

/// A call on its way.
pub(super) struct Trip<S, B, RB> {
    shared: Arc<Shared<S>>,
    /// The request as it came; `None` if its body can go only once.
    kept: Option<Request<B>>,
    seq: u64,
    start: Instant,
    /// Given with the request, which is rare: boxed, for every call's future has room for it.
    deadline: Option<Box<Instant>>,
    /// Only once something went wrong.
    past: Option<Box<Past<RB>>>,
}

/// What lies behind a call that failed at least once.
struct Past<RB> {
    report: RetryReport,
    /// Attempts and resends before the one under way: what is not sent after all does not count.
    made: (u32, u32),
    last_wait: Duration,
    /// What the last retry took from the budget.
    withdrawn: Option<u64>,
    /// The last failed response, where it is whole in memory.
    response: Option<Response<RB>>,
    /// The last failure.
    error: ApiError,
}

/// What follows an attempt.
pub(super) enum Next<B, RB> {
    Done(Result<Response<RB>, BoxError>),
    /// This request, then; until then the rest of the failed response is read and dropped.
    Send {
        request: Request<B>,
        until: Instant,
        rest: Option<RB>,
    },
}

impl<S, B: Resend, RB> Trip<S, B, RB> {
    /// Keeps what another attempt needs, and marks the request as one that is retried. `None` if a retry further out
    /// owns the call already.
    pub(super) fn begin(request: &mut Request<B>, shared: &Arc<Shared<S>>) -> Option<Self> {
        if request.extensions().get::<Call>().is_some_and(Call::is_retried) {
            return None;
        }
        let settings = &shared.settings;
        let call = request.extensions_mut().remove::<Call>().unwrap_or_else(Call::now);
        settings.budget.call(call.start);
        if settings.idempotency_keys && !request.method().is_idempotent() {
            request.headers_mut().entry(IDEMPOTENCY_KEY).or_insert_with(|| settings.new_key());
        }
        let mut trip = Self {
            shared: Arc::clone(shared),
            kept: copy(request),
            seq: call.seq,
            start: call.start,
            deadline: call.deadline.map(Box::new),
            past: None,
        };
        trip.mark(request);
        Some(trip)
    }

    /// Tells the layers further in, and the server if asked to, which attempt this is.
    fn mark(&mut self, request: &mut Request<B>) {
        let report = self.past.as_ref().map(|past| &past.report);
        let (attempt, resends) = report.map_or((1, 0), |report| (report.attempts, report.resends));
        let settings = &self.shared.settings;
        if let Some(name) = &settings.count_header {
            request.headers_mut().insert(name, HeaderValue::from(attempt - 1));
        }
        if settings.marks {
            request.extensions_mut().insert(Call {
                seq: self.seq,
                start: self.start,
                deadline: self.deadline(),
                attempt,
                resends,
                retried: true,
                lease: None,
            });
        }
    }

    /// What follows this outcome.
    pub(super) fn judge(&mut self, result: Result<Response<RB>, BoxError>) -> Next<B, RB> {
        let Some(error) = failure(&result) else { return Next::Done(self.succeed(result)) };
        let again = match &result {
            Ok(response) => response.extensions().get::<Again>().copied(),
            Err(error) => find_cause::<Again>(&**error).copied(),
        };
        let result = match result {
            Err(refusal) if find_cause::<Refused>(&*refusal).is_some() => {
                return Next::Done(self.give_up(refusal, StopReason::Refused));
            }
            result => result,
        };
        match &mut self.past {
            Some(past) => past.error = error,
            None => self.past = Some(Box::new(Past::new(error))),
        }
        let now = Instant::now();
        let next = match again {
            Some(again) => self.defer(again, now),
            None => self.retry(&result, now),
        };
        if let (Some(past), true) = (&mut self.past, again.is_none() || next.is_err()) {
            past.report.push_kind(past.error.kind());
        }
        match next {
            Ok((request, until)) => Next::Send { request, until, rest: self.put_aside(result) },
            Err(reason) => Next::Done(self.finish(result, Some(reason))),
        }
    }

    /// A layer further in asks for the request once more, and sees to the waiting.
    fn defer(&mut self, again: Again, now: Instant) -> Result<(Request<B>, Instant), StopReason> {
        let settings = &self.shared.settings;
        if self.past.as_ref().is_some_and(|past| past.report.resends >= settings.max_resends) {
            return Err(StopReason::ResendsUsed);
        }
        settings.fits(again.not_before.saturating_duration_since(now), now, self.deadline())?;
        let mut request = self.kept.as_ref().and_then(copy).ok_or(StopReason::BodySpent)?;
        if let Some(past) = &mut self.past {
            past.made = (past.report.attempts, past.report.resends);
            past.report.resends += 1;
        }
        self.mark(&mut request);
        Ok((request, now))
    }

    /// Another attempt, if the policy wants one and it fits the limits.
    fn retry(
        &mut self,
        result: &Result<Response<RB>, BoxError>,
        now: Instant,
    ) -> Result<(Request<B>, Instant), StopReason> {
        let deadline = self.deadline();
        let Some(past) = &mut self.past else { return Err(StopReason::NotRetryable) };
        let mut request = self.kept.as_ref().and_then(copy);
        let settings = &self.shared.settings;
        let decision = settings.decide(&Failed {
            number: past.report.attempts,
            start: self.start,
            deadline,
            last_wait: past.last_wait,
            error: &past.error,
            request: request.as_ref().map(|request| (request.method(), request.headers(), request.extensions())),
            outcome: outcome(result),
            now,
        });
        let (wait, withdrawn) = decision?;
        past.withdrawn = Some(withdrawn);
        past.last_wait = wait;
        past.made = (past.report.attempts, past.report.resends);
        past.report.attempts += 1;
        past.report.waited = past.report.waited.saturating_add(wait);
        let mut request = request.take().ok_or(StopReason::BodySpent)?;
        self.mark(&mut request);
        Ok((request, now.checked_add(wait).ok_or(StopReason::WaitTooLong)?))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let own = self.shared.settings.max_elapsed.and_then(|elapsed| self.start.checked_add(elapsed));
        self.deadline.as_deref().copied().into_iter().chain(own).min()
    }

    /// Keeps a failed response that is whole in memory; of another, hands out the body, to be read and dropped.
    fn put_aside(&mut self, result: Result<Response<RB>, BoxError>) -> Option<RB> {
        let past = self.past.as_mut()?;
        past.response = None;
        let response = result.ok()?;
        if past.error.body_in_memory() {
            past.response = Some(response);
            return None;
        }
        Some(response.into_body())
    }

    fn succeed(&mut self, result: Result<Response<RB>, BoxError>) -> Result<Response<RB>, BoxError> {
        let withdrawn = self.past.as_ref().and_then(|past| past.withdrawn);
        self.shared.settings.budget.succeeded(withdrawn);
        self.finish(result, None)
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

    /// Another attempt was to follow and was not sent, because the service was not ready or a gate said no: the last
    /// response, if it is still at hand, tells the caller more.
    pub(super) fn give_up(&mut self, error: BoxError, reason: StopReason) -> Result<Response<RB>, BoxError> {
        let Some(past) = &mut self.past else { return Err(error) };
        (past.report.attempts, past.report.resends) = past.made;
        let response = past.response.take();
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
        Self { report, made: (1, 0), last_wait: Duration::ZERO, withdrawn: None, response: None, error }
    }
}

/// The same request again; `None` if its body can go only once.
pub(super) fn copy<B: Resend>(request: &Request<B>) -> Option<Request<B>> {
    let mut copy = Request::new(request.body().resend()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}
