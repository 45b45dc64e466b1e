//! Scripted answers with what other layers would have added: extensions of responses, errors of gates.

use std::task::{Context, Poll};

use futures_util::{FutureExt, future::Map};
use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tower::{BoxError, Service};
use tower_outbound::{
    Again, ApiError, ErrorKind, Gate, Refused, RetryHint,
    mock::{MockBody, MockError, Script, Step, status},
};

use super::ms;

const KIND: &str = "told-kind";
const HINT: &str = "told-hint";
const AGAIN: &str = "told-again";
const AGAIN_ERROR: &str = "told-again-error";
const REFUSED: &str = "told-refused";

/// A failure that a classifier has looked at.
pub(crate) fn told(code: u16, kind: ErrorKind, hint: RetryHint) -> Step {
    let hint = match hint {
        RetryHint::Never => "never".into(),
        RetryHint::Backoff => "backoff".into(),
        RetryHint::After(wait) => wait.as_millis().to_string(),
    };
    status(code).header(KIND, kind).header(HINT, hint)
}

/// A 429 that a meter sees to: the request would leave in so many milliseconds at the earliest.
pub(crate) fn again(wait: u64) -> Step {
    told(429, ErrorKind::RateLimit, RetryHint::Backoff).header(AGAIN, wait)
}

/// A gate sends the call back without an answer, as when its key has died.
pub(crate) fn again_error(wait: u64) -> Step {
    status(200).header(AGAIN_ERROR, wait)
}

/// A gate says no.
pub(crate) fn refused() -> Step {
    status(200).header(REFUSED, "yes")
}

/// A script whose answers carry what they were told to.
#[derive(Clone, Debug)]
pub(crate) struct Told(pub(crate) Script);

type Answer<E> = Result<Response<MockBody>, E>;

impl<B> Service<Request<B>> for Told
where
    Script: Service<Request<B>, Response = Response<MockBody>, Error = MockError>,
{
    type Response = Response<MockBody>;
    type Error = BoxError;
    type Future = Map<<Script as Service<Request<B>>>::Future, fn(Answer<MockError>) -> Answer<BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request).map(dress)
    }
}

fn dress(answer: Answer<MockError>) -> Answer<BoxError> {
    let mut response = answer?;
    let headers = response.headers();
    if headers.contains_key(REFUSED) {
        return Err(Refused::new(Gate::Quota, None, "no").into());
    }
    if let Some(wait) = number(headers, AGAIN_ERROR) {
        return Err(Again { by: Gate::Key, not_before: Instant::now() + ms(wait) }.into());
    }
    let again = number(headers, AGAIN).map(|wait| Again { by: Gate::Quota, not_before: Instant::now() + ms(wait) });
    let error = text(headers, KIND).map(|kind| {
        let hint = match text(headers, HINT) {
            Some("never") => RetryHint::Never,
            _ => number(headers, HINT).map_or(RetryHint::Backoff, |wait| RetryHint::After(ms(wait))),
        };
        ApiError::new(named(kind), hint)
    });
    if let Some(again) = again {
        response.extensions_mut().insert(again);
    }
    if let Some(error) = error {
        response.extensions_mut().insert(error);
    }
    Ok(response)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn named(name: &str) -> ErrorKind {
    use ErrorKind::*;
    [RateLimit, QuotaExhausted, Overloaded, Authentication, InvalidRequest, Timeout, Server, Unavailable]
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .unwrap_or(Unknown)
}
