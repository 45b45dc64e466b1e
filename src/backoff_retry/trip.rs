//! One call through all its attempts: what is kept of it, and what follows each outcome.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use tokio::time::Instant;
use tower::BoxError;

use super::{
    RetryError, RetryReport, StopReason,
    service::Shared,
    settings::{Failed, IDEMPOTENCY_KEY, Settings, outcome},
};
use crate::{Again, ApiError, Call, Refused, body::Resend, call::next_seq, find_cause};

/// A call on its way.
pub(super) struct Trip<S, B, RB> {
    shared: Arc<Shared<S>>,
    /// `None` if the request's body can go only once.
    kept: Option<Kept<B>>,
    arrival: Arrival,
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

/// A call as it comes to this layer.
pub(super) struct Arrival {
    seq: u64,
    start: Instant,
    /// Given with the request, which is rare: boxed, for every call's future has room for it.
    deadline: Option<Box<Instant>>,
}

impl Arrival {
    /// `None` if a retry further out owns the call already.
    pub(super) fn of<B>(request: &mut Request<B>, settings: &Settings) -> Option<Self> {
        let (seq, start, deadline) = match request.extensions().get::<Call>() {
            Some(call) if call.is_retried() => return None,
            Some(call) => (call.seq, call.start, call.deadline.map(Box::new)),
            None => (next_seq(), Instant::now(), None),
        };
        if !request.extensions().is_empty() {
            // It is put in anew for each attempt, and need not be kept.
            request.extensions_mut().remove::<Call>();
        }
        settings.budget.call(start);
        if settings.idempotency_keys && !request.method().is_idempotent() {
            request.headers_mut().entry(IDEMPOTENCY_KEY).or_insert_with(|| settings.new_key());
        }
        Some(Self { seq, start, deadline })
    }

    /// Tells the layers further in, and the server if asked to, which attempt this is: so many attempts, this one
    /// included, and so many resends.
    pub(super) fn mark<B>(&self, request: &mut Request<B>, settings: &Settings, (attempt, resends): (u32, u32)) {
        if let Some(name) = &settings.count_header {
            request.headers_mut().insert(name, HeaderValue::from(attempt - 1));
        }
        if settings.marks {
            let (seq, start) = (self.seq, self.start);
            let deadline = self.deadline(settings);
            request.extensions_mut().insert(Call {
                seq,
                start,
                deadline,
                attempt,
                resends,
                retried: true,
                lease: None,
            });
        }
    }

    fn deadline(&self, settings: &Settings) -> Option<Instant> {
        self.deadline.as_deref().copied().into_iter().chain(settings.deadline(self.start)).min()
    }
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
    #[inline]
    pub(super) fn new(shared: Arc<Shared<S>>, kept: Option<Kept<B>>, arrival: Arrival) -> Self {
        Self { shared, kept, arrival, past: None }
    }

    fn mark(&self, request: &mut Request<B>) {
        let report = self.past.as_ref().map(|past| &past.report);
        let made = report.map_or((1, 0), |report| (report.attempts, report.resends));
        self.arrival.mark(request, &self.shared.settings, made);
    }

    /// What follows this outcome.
    #[cold]
    #[inline(never)]
    pub(super) fn judge(&mut self, error: ApiError, result: Result<Response<RB>, BoxError>) -> Next<B, RB> {
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
            Err(reason) => Next::Done(self.finish(result, reason)),
        }
    }

    /// A layer further in asks for the request once more, and sees to the waiting.
    fn defer(&mut self, again: Again, now: Instant) -> Result<(Request<B>, Instant), StopReason> {
        let settings = &self.shared.settings;
        if self.past.as_ref().is_some_and(|past| past.report.resends >= settings.max_resends) {
            return Err(StopReason::ResendsUsed);
        }
        settings.fits(again.not_before.saturating_duration_since(now), now, self.deadline())?;
        let mut request = self.kept.as_ref().and_then(Kept::again).ok_or(StopReason::BodySpent)?;
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
        let mut request = self.kept.as_ref().and_then(Kept::again);
        let settings = &self.shared.settings;
        let decision = settings.decide(&Failed {
            number: past.report.attempts,
            start: self.arrival.start,
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
        self.arrival.deadline(&self.shared.settings)
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

    /// An attempt went well.
    pub(super) fn succeed(&mut self, response: &mut Response<RB>) {
        let past = self.past.take();
        self.shared.settings.budget.succeeded(past.as_ref().and_then(|past| past.withdrawn));
        if let Some(past) = past {
            response.extensions_mut().insert(past.report);
        }
    }

    /// What the caller gets, with the report if there is anything to report.
    fn finish(
        &mut self,
        result: Result<Response<RB>, BoxError>,
        stopped: StopReason,
    ) -> Result<Response<RB>, BoxError> {
        let Some(past) = self.past.take() else { return result };
        let Past { mut report, error, .. } = *past;
        report.stopped = Some(stopped);
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
        self.finish(response.ok_or(error), reason)
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

/// A request as it came: written in place, which a [`Request`] cannot be.
pub(super) struct Kept<B> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
    body: B,
}

impl<B: Resend> Kept<B> {
    /// `None` if its body can go only once.
    pub(super) fn of(request: &Request<B>) -> Option<Self> {
        Some(Self {
            body: request.body().resend()?,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
        })
    }

    /// The same once more.
    fn again(&self) -> Option<Request<B>> {
        let Self { method, uri, version, headers, extensions, body } = self;
        let (method, uri, headers) = (method.clone(), uri.clone(), headers.clone());
        let (version, extensions, body) = (*version, extensions.clone(), body.resend()?);
        Some(Self { method, uri, version, headers, extensions, body }.into_request())
    }

    pub(super) fn into_request(self) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}
