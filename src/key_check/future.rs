//! The future of a call with a key.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep, sleep_until},
};
use tower::BoxError;
use tower_service::Service;

use super::{
    conceal,
    loan::Loan,
    pool::Pool,
    service::{Furnished, furnish},
    slot::Answer,
};
use crate::{Again, ApiError, Call, ErrorKind, Gate, Refused, find_cause};

pin_project! {
    /// The response of a [`KeyCheck`](super::KeyCheck).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S::Future, S, B>,
        // Beside the state, so that the inner future is moved but once on its way here. Without a loan the request
        // carries no key of ours.
        loan: Option<Loan>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, S, B> {
        Sent { #[pin] future: F },
        Waiting { wait: Pin<Box<Wait<S, B>>> },
        Refused { refused: Option<Refused> },
    }
}

pin_project! {
    /// A source is being asked for a key.
    struct Wait<S, B> {
        pool: Arc<Pool>,
        #[pin]
        fetched: OwnedNotified,
        #[pin]
        deadline: Option<Sleep>,
        // What goes next: the key, then the service made ready.
        loan: Option<Option<Loan>>,
        service: S,
        request: Option<Request<B>>,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline]
    pub(super) fn sent(future: S::Future, loan: Option<Loan>) -> Self {
        Self { state: State::Sent { future }, loan }
    }

    pub(super) fn waiting(pool: Arc<Pool>, fetched: OwnedNotified, service: S, request: Request<B>) -> Self {
        let deadline = request.extensions().get::<Call>().and_then(Call::deadline).map(sleep_until);
        let wait = Wait { pool, fetched, deadline, loan: None, service, request: Some(request) };
        Self { state: State::Waiting { wait: Box::pin(wait) }, loan: None }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        Self { state: State::Refused { refused: Some(refused) }, loan: None }
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<RB>, BoxError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        match this.state.as_mut().project() {
            StateProj::Sent { future } => poll_sent(future, this.loan, cx),
            _ => poll_unsent(this.state, this.loan, cx),
        }
    }
}

#[cold]
#[inline(never)]
fn poll_unsent<S, B, RB>(
    mut state: Pin<&mut State<S::Future, S, B>>,
    loan: &mut Option<Loan>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<RB>, BoxError>>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    loop {
        let (future, lent) = match state.as_mut().project() {
            StateProj::Sent { future } => return poll_sent(future, loan, cx),
            StateProj::Waiting { wait } => ready!(wait.as_mut().poll_key(cx))?,
            StateProj::Refused { refused } => {
                return refused.take().map_or(Poll::Pending, |refused| Poll::Ready(Err(refused.into())));
            }
        };
        state.set(State::Sent { future });
        *loan = lent;
    }
}

#[inline(always)]
fn poll_sent<F, RB, E>(
    future: Pin<&mut F>,
    loan: &mut Option<Loan>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<RB>, BoxError>>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
{
    // Spelled out, and looked at where it lies: `ready!` and `map_err` would each move the answer once more.
    let mut polled = match future.poll(cx) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Ok(response)) => Ok(response),
        Poll::Ready(Err(error)) => Err(error.into()),
    };
    if let Some(loan) = loan {
        learn(loan, &mut polled);
    }
    Poll::Ready(polled)
}

impl<S, B> Wait<S, B>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    /// Ready once the request has been handed to the inner service.
    #[expect(clippy::type_complexity, reason = "the future, and the loan that it goes with")]
    fn poll_key(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(S::Future, Option<Loan>), BoxError>> {
        let mut this = self.project();
        loop {
            let Some(request) = this.request.as_mut() else { return Poll::Pending };
            let is_alive = |loan: &Option<Loan>| loan.as_ref().is_none_or(|loan| loan.held.lease.is_alive());
            if this.loan.as_ref().is_some_and(is_alive) {
                ready!(this.service.poll_ready(cx)).map_err(Into::into)?;
                let (Some(request), Some(loan)) = (this.request.take(), this.loan.take()) else { return Poll::Pending };
                return Poll::Ready(Ok((this.service.call(request), loan)));
            }
            if this.loan.take().is_some() {
                // It died while the service was not ready.
                return Poll::Ready(Err(Again { by: Gate::Key, not_before: Instant::now() }.into()));
            }
            if this.fetched.as_mut().poll(cx).is_pending() {
                if let Some(deadline) = this.deadline.as_mut().as_pin_mut() {
                    ready!(deadline.poll(cx));
                    return Poll::Ready(Err(this.pool.refusal().into()));
                }
                return Poll::Pending;
            }
            match furnish(this.pool, request) {
                Furnished::Go(loan) => *this.loan = Some(loan),
                Furnished::Wait(fetched) => this.fetched.set(fetched),
                Furnished::Refused(refused) => return Poll::Ready(Err(refused.into())),
            }
        }
    }
}

/// Tells the loan what the answer says of its key.
#[inline]
fn learn<RB>(loan: &mut Loan, result: &mut Result<Response<RB>, BoxError>) {
    match result {
        Ok(response) if response.status().is_success() && response.extensions().get::<ApiError>().is_none() => {
            #[cfg(feature = "error-classify")]
            conceal::in_stream(response.extensions(), &loan.held.key);
            loan.accepted(true);
        }
        Ok(response) => learn_from(loan, response),
        Err(error) => turned_back(loan, error),
    }
}

#[cold]
#[inline(never)]
fn learn_from<RB>(loan: &mut Loan, response: &mut Response<RB>) {
    #[cfg(feature = "error-classify")]
    conceal::in_stream(response.extensions(), &loan.held.key);
    let status = response.status();
    let Some(told) = ApiError::of(response) else {
        // A redirect is a login's as well as the API's.
        if status == StatusCode::SWITCHING_PROTOCOLS {
            loan.accepted(true);
        }
        return;
    };
    let mut error = told.clone();
    if let Some(concealed) = conceal::in_failure(&error, &loan.known()) {
        error = concealed.clone();
        response.extensions_mut().insert(concealed);
    }
    let answer = || Answer::new(told.clone(), error.clone());
    let can_go_again = match error.kind() {
        // A proxy on the way, or a network that wants a login, knows nothing of the key.
        _ if matches!(status.as_u16(), 407 | 511) => false,
        // The caller's own organization or project, which the key need not be of.
        ErrorKind::Authentication if loan.has_own_organization && is_of_organization(&error) => false,
        ErrorKind::Authentication => loan.rejected(answer()),
        ErrorKind::QuotaExhausted if is_of_a_model(&error) => {
            loan.accepted(false);
            loan.partly_spent(&error)
        }
        ErrorKind::QuotaExhausted => {
            loan.is_own(&answer());
            loan.spent(answer())
        }
        ErrorKind::RateLimit => {
            if is_of_the_api(status, &error) {
                loan.accepted(false);
            }
            loan.limited(&error)
        }
        _ => {
            if is_of_the_api(status, &error) {
                loan.accepted(false);
            }
            false
        }
    };
    if can_go_again {
        response.extensions_mut().insert(Again { by: Gate::Key, not_before: Instant::now() });
    }
}

/// Whether a failure that is not the key's shows that the API has taken the key, as far as its head tells.
///
/// What stands before an API redirects, forbids and breaks down as well, and does not look at the key.
fn is_of_the_api(status: StatusCode, error: &ApiError) -> bool {
    let kind = error.kind();
    match status.as_u16() {
        200..300 => {
            !matches!(kind, ErrorKind::Server | ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Timeout)
        }
        // What is told of the request itself.
        400 | 402 | 404 | 409 | 410 | 422 | 429 => true,
        400..500 => kind == ErrorKind::RateLimit || error.code().or(error.error_type()).is_some(),
        _ => false,
    }
}

/// Whether the key and the organization do not go together.
fn is_of_organization(error: &ApiError) -> bool {
    matches!(
        error.code(),
        Some("mismatched_organization" | "invalid_organization" | "no_organization" | "mismatched_project")
    )
}

#[cold]
#[inline(never)]
fn turned_back(loan: &mut Loan, error: &mut BoxError) {
    if let Some(again) = find_cause::<Again>(&**error) {
        // Because its key died: with no other at hand there is no use in sending it again.
        if again.by == Gate::Key
            && let Some(refusal) = loan.refusal()
        {
            *error = refusal.into();
        }
        return;
    }
    let owned = std::mem::replace(error, "".into());
    let told = spent(&owned);
    *error = conceal::in_error(owned, &loan.known());
    if find_cause::<Refused>(&**error).is_some_and(|refused| refused.by() == Gate::Quota) {
        let is_turned = match told.zip(spent(error)) {
            Some((_, error)) if is_of_a_model(&error) => loan.partly_spent(&error),
            // On another thread a call in line may hear of it from the meter before the key's own answer is here.
            Some((told, error)) if loan.held.lease.is_alive() => {
                let answer = Answer::new(told, error);
                // Where it was another key's answer, the quota is one for all, and no other key is of use.
                !loan.is_anothers(&answer) && loan.has_another() && loan.spent(answer)
            }
            // The quota was this key's; another has one of its own.
            _ => !loan.held.lease.is_alive() && loan.refusal().is_none(),
        };
        if is_turned {
            *error = Again { by: Gate::Key, not_before: Instant::now() }.into();
        }
    }
}

/// The answer that said that the quota is used up, if that is why the call was refused.
fn spent(error: &BoxError) -> Option<ApiError> {
    find_cause::<ApiError>(&**error).filter(|error| error.kind() == ErrorKind::QuotaExhausted).cloned()
}

/// Whether the quota that is used up is not the account's, but a model's or that of one sort of request, so that the key
/// serves others.
///
/// Google counts by project *and model*, its quotas by the day among them; ChatGPT's plans leave out some models; Anthropic
/// sells long contexts apart; AWS has a quota for each thing.
fn is_of_a_model(error: &ApiError) -> bool {
    const CODES: [&str; 3] = ["RESOURCE_EXHAUSTED", "usage_not_included", "ServiceQuotaExceededException"];
    const LONG_CONTEXT: &str = "Extra usage is required for long context requests";
    let is_one = |text: Option<&str>| text.is_some_and(|text| CODES.contains(&text));
    is_one(error.code())
        || is_one(error.error_type())
        || error.message().is_some_and(|message| message.starts_with(LONG_CONTEXT))
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::Sent { .. } => "key_check::ResponseFuture(sent)",
            State::Waiting { .. } => "key_check::ResponseFuture(waiting)",
            State::Refused { .. } => "key_check::ResponseFuture(refused)",
        })
    }
}
