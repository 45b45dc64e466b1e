//! What the gateway itself has to say: in OpenAI's words and shape, so that its clients raise what they would without it.

use std::{error::Error, time::Duration};

use axum::{body::Body, response::Response};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;
use tower_outbound::{
    ApiError, ErrorKind, Gate, Refused, backoff_retry::RetryError, body::ReplayError, find_cause, quota_meter::Refusal,
};

use crate::proxy::is_final;

/// OpenAI's clients obey it. What was sent again as often as it may be is not to be sent again by them too: three times
/// three is nine.
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// When another gateway may be there in the place of one that stops.
const RESTART: Duration = Duration::from_secs(5);
/// Tells the gateway's own errors from the API's.
const SOURCE: HeaderName = HeaderName::from_static("x-error-source");

/// An answer of the gateway's own.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
    retry_after: Option<Duration>,
    /// Whether to send it again is the caller's own decision: nobody has done so here.
    is_callers: bool,
}

/// `{"error": {…}}`.
#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind, code, message: message.into(), retry_after: None, is_callers: false }
    }

    pub(crate) fn invalid(status: StatusCode, message: &str) -> Self {
        Self::new(status, "invalid_request_error", None, message)
    }

    /// The caller sent less than a whole request.
    pub(crate) fn broken_off() -> Self {
        Self::invalid(StatusCode::BAD_REQUEST, "The request's body broke off.")
    }

    /// The gateway stops before the call has an answer.
    pub(crate) fn stopping() -> Self {
        let (status, kind) = (StatusCode::SERVICE_UNAVAILABLE, "server_error");
        let message = "The gateway stops, and this call had no answer yet.";
        Self { retry_after: Some(RESTART), is_callers: true, ..Self::new(status, kind, Some("stopping"), message) }
    }

    /// Of a call that ended without a response.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(refused) = find_cause::<Refused>(error) {
            return Self { retry_after: refused.wait(), ..Self::of_refused(refused) };
        }
        if let Some(ReplayError::Source(_)) = find_cause::<ReplayError<hyper::Error>>(error) {
            return Self::broken_off();
        }
        let failure = ApiError::from_error(error);
        let message = format!("The gateway had no answer from the API: {failure}");
        let (status, code) = match failure.kind() {
            ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            _ => (StatusCode::BAD_GATEWAY, "no_connection"),
        };
        let is_callers = find_cause::<RetryError>(error).is_some_and(|error| !is_final(error.report()));
        Self { is_callers, ..Self::new(status, "server_error", Some(code), message) }
    }

    fn of_refused(refused: &Refused) -> Self {
        let said = find_cause::<ApiError>(refused.cause());
        let message = match said.and_then(ApiError::message) {
            Some(message) => format!("{message} ({refused})"),
            None => format!("The gateway did not send this call: {refused}"),
        };
        let limited = |kind, code| Self::new(StatusCode::TOO_MANY_REQUESTS, kind, Some(code), message.as_str());
        match said.map(ApiError::kind) {
            Some(ErrorKind::Authentication) => {
                let (kind, code) = ("invalid_request_error", Some("invalid_api_key"));
                return Self::new(StatusCode::UNAUTHORIZED, kind, code, message);
            }
            Some(ErrorKind::QuotaExhausted) => return limited("insufficient_quota", "insufficient_quota"),
            _ => {}
        }
        match (find_cause::<Refusal>(refused.cause()), refused.by()) {
            (Some(Refusal::TooLarge { .. }), _) => limited("tokens", "rate_limit_exceeded"),
            (_, Gate::Request) => Self::invalid(StatusCode::BAD_REQUEST, &message),
            _ => limited("requests", "rate_limit_exceeded"),
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let inner = Inner { message: &self.message, r#type: self.kind, param: None, code: self.code };
        let body = serde_json::to_vec(&Envelope { error: inner }).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(SOURCE, HeaderValue::from_static("gateway"));
        if !self.is_callers {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if let Some(wait) = self.retry_after {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, ms.div_ceil(1000).max(1).into());
            headers.insert(HeaderName::from_static("retry-after-ms"), ms.max(1).into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use tower_outbound::RetryHint;

    use super::*;

    fn shown(error: &(dyn Error + 'static)) -> (u16, Option<HeaderValue>, Problem) {
        let problem = Problem::of(error);
        let response = Problem::of(error).into_response();
        (response.status().as_u16(), response.headers().get(RETRY_AFTER).cloned(), problem)
    }

    #[test]
    fn a_refusal_reads_as_the_api_would_have_said_it() {
        let spent = ApiError::new(ErrorKind::QuotaExhausted, RetryHint::Never).with_message("You exceeded it.");
        let wait = Duration::from_millis(41_001);
        let refused = Refused::from(Refusal::Spent { error: spent, wait });
        let (status, after, problem) = shown(&refused);
        assert_eq!((status, after, problem.kind), (429, Some(42.into()), "insufficient_quota"));
        assert!(problem.message.starts_with("You exceeded it."), "{}", problem.message);

        let dead = ApiError::new(ErrorKind::Authentication, RetryHint::Never);
        let (status, after, problem) = shown(&Refused::new(Gate::Key, None, dead));
        assert_eq!((status, after, problem.code), (401, None, Some("invalid_api_key")));

        let late = Refusal::TooLong { expected: Duration::from_secs(9), limit: Duration::from_secs(1) };
        let (status, after, problem) = shown(&Refused::from(late));
        assert_eq!((status, after, problem.code), (429, Some(9.into()), Some("rate_limit_exceeded")));

        let full = Refusal::QueueFull { waiting: 3, expected: None };
        let (status, after, _) = shown(&Refused::from(full));
        assert_eq!((status, after), (429, None));
    }

    #[test]
    fn a_call_without_an_answer_is_a_gateways_error() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(shown(&refused).0, 502);
        assert_eq!(shown(&tower::timeout::error::Elapsed::new()).0, 504);
    }
}
