//! One call through all its attempts: what follows each outcome.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::BoxError;
use tower_service::Service;

use super::{
    RetryError, RetryReport, StopReason,
    budget::{Unsent, Withdrawn},
    service::Shared,
    settings::{Failed, Next, Settings, outcome},
    wait::{Missed, Plan, Wait},
};
use crate::{
    Again, ApiError, Call, Refused,
    body::Resend,
    call::next_seq,
    failure, find_cause,
    kept::{HeaderList, Kept},
};

/// A call on its way.
pub(super) struct Trip<S, RB> {
    shared: Arc<Shared<S>>,
    arrival: Arrival,
    /// Only once something went wrong; then one allocation for all that has to be known and waited for.
    setback: Option<Pin<Box<Setback<S, RB>>>>,
}

pin_project! {
    struct Setback<S, RB> {
        past: Past<RB>,
        #[pin]
        wait: Wait<S, RB>,
    }
}

/// What lies behind a call that failed at least once.
struct Past<RB> {
    report: RetryReport,
    /// Attempts and resends before the one under way: what is not sent after all does not count.
    made: (u32, u32),
    /// When the attempt under way was first sent.
    began: Instant,
    last_wait: Duration,
    /// What the last retry took from the budget.
    withdrawn: Option<Withdrawn>,
    /// What the next one did.
    unsent: Unsent,
    /// The last failed response, where it is whole in memory.
    response: Option<Response<RB>>,
    /// The last failure.
    error: ApiError,
    /// It is among the kinds of the report. "Again" is only where it does not go again.
    is_told: bool,
}

/// The sending under way.
#[derive(Clone, Copy)]
pub(super) struct Made {
    attempt: u32,
    resends: u32,
    began: Option<Instant>,
}

impl Made {
    pub(super) const FIRST: Self = Self { attempt: 1, resends: 0, began: None };
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
    #[inline(always)]
    pub(super) fn of<B>(request: &mut Request<B>, settings: &Settings) -> Option<Self> {
        let (seq, start, deadline) = match request.extensions().get::<Call>() {
            Some(call) if call.is_retried() => return None,
            Some(call) => (call.seq, call.start, call.deadline.map(Box::new)),
            // Nobody asks for the place in line of a call that is not marked.
            None => (if settings.marks { next_seq() } else { 0 }, Instant::now(), None),
        };
        if settings.marks && !request.extensions().is_empty() {
            // It is put in anew for each attempt, and need not be kept. Without a mark the caller's own goes along.
            request.extensions_mut().remove::<Call>();
        }
        settings.budget.call(start);
        settings.put_key(request);
        Some(Self { seq, start, deadline })
    }

    /// Tells the layers further in, and the server if asked to, which attempt this is: so many attempts, this one
    /// included, and so many resends, since when, if it is not the first; and whether the request is kept, to go again.
    #[inline(always)]
    pub(super) fn mark<B>(&self, request: &mut Request<B>, settings: &Settings, made: Made, kept: bool) {
        let Made { attempt, resends, began } = made;
        if let Some(name) = &settings.count_header {
            // Left out of a map that is full.
            let _ = request.headers_mut().try_insert(name, count(attempt - 1));
        }
        if settings.marks {
            let (seq, start) = (self.seq, self.start);
            let deadline = self.deadline(settings);
            request.extensions_mut().insert(Call {
                seq,
                start,
                began,
                deadline,
                attempt,
                resends,
                retried: true,
                kept,
                lease: None,
            });
        }
    }

    fn deadline(&self, settings: &Settings) -> Option<Instant> {
        match (self.deadline.as_deref(), settings.deadline(self.start)) {
            (Some(given), Some(set)) => Some(set.min(*given)),
            (given, set) => given.copied().or(set),
        }
    }
}

/// As a header's value; hardly any call needs one that is not there already.
fn count(again: u32) -> HeaderValue {
    match again {
        0 => HeaderValue::from_static("0"),
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        more => more.into(),
    }
}

impl<S, RB: Body> Trip<S, RB> {
    #[inline]
    pub(super) fn new(shared: Arc<Shared<S>>, arrival: Arrival) -> Self {
        Self { shared, arrival, setback: None }
    }

    /// Marks the attempt that is sent now.
    pub(super) fn send<B>(&mut self, request: &mut Request<B>) {
        let past = self.setback.as_mut().map(|setback| setback.as_mut().project().past);
        let made = past.map_or(Made::FIRST, |past| {
            past.withdrawn = past.unsent.sent().or(past.withdrawn);
            // Nobody asks since when an attempt that is not marked is under way.
            if self.shared.settings.marks && past.report.attempts > past.made.0 {
                past.began = Instant::now();
            }
            Made { attempt: past.report.attempts, resends: past.report.resends, began: Some(past.began) }
        });
        self.arrival.mark(request, &self.shared.settings, made, true);
    }

    /// What the caller gets after this outcome; `None` if another attempt follows.
    #[cold]
    #[inline(never)]
    pub(super) fn judge<B: Resend>(
        &mut self,
        kept: Option<&Kept<B, HeaderList>>,
        result: Result<Response<RB>, BoxError>,
    ) -> Option<Result<Response<RB>, BoxError>>
    where
        S: Clone,
    {
        let Some(error) = failure(&result) else { return Some(result) };
        let again = match &result {
            Ok(response) => response.extensions().get::<Again>().copied(),
            Err(error) if find_cause::<Refused>(&**error).is_some() => {
                let Err(refusal) = result else { return Some(result) };
                self.take_back();
                return Some(self.give_up(Missed { error: refusal, reason: StopReason::Refused }));
            }
            Err(error) => find_cause::<Again>(&**error).copied(),
        };
        let setback = match &mut self.setback {
            Some(setback) => {
                setback.as_mut().project().past.error = error;
                setback
            }
            None => self
                .setback
                .insert(Box::pin(Setback { past: Past::new(error, self.arrival.start), wait: Wait::idle() })),
        };
        let setback = setback.as_mut().project();
        let (past, settings) = (setback.past, &*self.shared.settings);
        let (now, deadline) = (Instant::now(), self.arrival.deadline(settings));
        // Whether it can go; it is taken when it goes, for what is left of the last sending may still be read.
        let kept = kept.filter(|kept| kept.body.can_resend());
        let next = match again {
            Some(again) => past.defer(settings, again, now, deadline),
            None => past.retry(settings, &self.arrival, kept, &result, now, deadline),
        };
        let next = next.and_then(|at| kept.map(|_| at).ok_or(StopReason::BodySpent));
        past.is_told = again.is_none() || next.is_err();
        if past.is_told {
            past.report.kinds.push(past.error.kind());
        }
        match next {
            Ok(at) => {
                past.made = (past.report.attempts, past.report.resends);
                match again {
                    Some(_) => past.report.resends += 1,
                    None => past.report.attempts += 1,
                }
                let plan = Plan { due: Some(at).filter(|at| *at > now), rest: past.put_aside(result) };
                setback.wait.begin(self.shared.fresh_service(), plan);
                None
            }
            Err(reason) => Some(self.finish(result, reason)),
        }
    }

    /// Ready with the service for the next attempt.
    pub(super) fn poll_next<B>(&mut self, cx: &mut Context<'_>) -> Poll<Result<S, Missed>>
    where
        S: Service<Request<B>>,
        S::Error: Into<BoxError>,
    {
        let deadline = self.arrival.deadline(&self.shared.settings);
        let Some(setback) = &mut self.setback else { return Poll::Pending };
        setback.as_mut().project().wait.poll_next(cx, deadline)
    }

    /// An attempt went well.
    #[inline]
    pub(super) fn succeed(&mut self, response: &mut Response<RB>) {
        let settings = &self.shared.settings;
        let Some(setback) = &mut self.setback else { return settings.budget.succeeded(None) };
        let past = setback.as_mut().project().past;
        settings.budget.succeeded(past.withdrawn.take());
        response.extensions_mut().insert(past.report.clone());
    }

    /// What the caller gets, with the report if there is anything to report.
    fn finish(
        &mut self,
        mut result: Result<Response<RB>, BoxError>,
        stopped: StopReason,
    ) -> Result<Response<RB>, BoxError> {
        let Some(setback) = &mut self.setback else { return result };
        let past = setback.as_mut().project().past;
        past.report.stopped = Some(stopped);
        let report = past.report.clone();
        if let Ok(response) = &mut result {
            response.extensions_mut().insert(report);
            return result;
        }
        result.map_err(|source| RetryError::new(report, past.error.clone(), source).into())
    }

    /// The retry under way was refused by a gate: it was not sent, and costs nothing.
    fn take_back(&mut self) {
        let Some(setback) = &mut self.setback else { return };
        let past = setback.as_mut().project().past;
        if past.report.attempts > past.made.0
            && let Some(withdrawn) = past.withdrawn.take()
        {
            self.shared.settings.budget.give_back(withdrawn);
        }
    }

    /// Another attempt was to follow and was not sent, because the service was not ready or a gate said no: the last
    /// response, if it is still at hand, tells the caller more.
    pub(super) fn give_up(&mut self, missed: Missed) -> Result<Response<RB>, BoxError> {
        let Missed { error, reason } = missed;
        let Some(setback) = &mut self.setback else { return Err(error) };
        let past = setback.as_mut().project().past;
        past.unsent = Unsent::default();
        if !past.is_told {
            past.report.kinds.push(past.error.kind());
        }
        (past.report.attempts, past.report.resends) = past.made;
        let response = past.response.take();
        self.finish(response.ok_or(error), reason)
    }
}

impl<RB> Past<RB> {
    fn new(error: ApiError, began: Instant) -> Self {
        let report = RetryReport { attempts: 1, ..RetryReport::default() };
        Self {
            report,
            made: (1, 0),
            began,
            last_wait: Duration::ZERO,
            withdrawn: None,
            unsent: Unsent::default(),
            response: None,
            error,
            is_told: false,
        }
    }

    /// A layer further in asks for the request once more, and sees to the waiting: so it goes now.
    fn defer(
        &mut self,
        settings: &Settings,
        again: Again,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Instant, StopReason> {
        if self.report.resends >= settings.max_resends {
            return Err(StopReason::ResendsUsed);
        }
        settings.fits(again.not_before.saturating_duration_since(now), now, deadline).map(|_| now)
    }

    /// Another attempt, if the policy wants one and it fits the limits: when.
    fn retry<B>(
        &mut self,
        settings: &Settings,
        arrival: &Arrival,
        request: Option<&Kept<B, HeaderList>>,
        result: &Result<Response<RB>, BoxError>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Instant, StopReason> {
        let Next { wait, at, unsent } = settings.decide(&Failed {
            number: self.report.attempts,
            start: arrival.start,
            deadline,
            last_wait: self.last_wait,
            error: &self.error,
            request: request.map(Kept::traits),
            outcome: outcome(result),
            now,
        })?;
        self.unsent = unsent;
        self.last_wait = wait;
        self.report.waited = self.report.waited.saturating_add(wait);
        Ok(at)
    }

    /// Keeps a failed response that is whole in memory; of another, hands out the body, to be read and dropped.
    #[inline]
    fn put_aside(&mut self, result: Result<Response<RB>, BoxError>) -> Option<RB> {
        if self.error.body_in_memory() {
            self.response = result.ok();
            return None;
        }
        self.response = None;
        result.ok().map(Response::into_body)
    }
}
