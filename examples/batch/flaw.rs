//! What is no answer although its status says that it is: a redirect, a page instead of JSON, JSON that breaks off.

use bytes::Bytes;
use http::{Response, StatusCode, header::LOCATION};
use serde::de::IgnoredAny;
use tower_outbound::{ApiError, ErrorKind, RetryHint};

/// So many characters of a body are quoted.
const QUOTED: usize = 60;

/// With its flaw, if it has one, as an [`ApiError`] for the layers: they send again what may come whole the next time.
pub(crate) fn marked(mut response: Response<Bytes>) -> Response<Bytes> {
    if let Some(flaw) = of(&response) {
        response.extensions_mut().insert(flaw);
    }
    response
}

/// Why this is no answer; `None` for a good one, and for what the status itself calls a failure.
pub(crate) fn of(response: &Response<Bytes>) -> Option<ApiError> {
    let status = response.status();
    if status >= StatusCode::BAD_REQUEST {
        return None;
    }
    if status.is_redirection() {
        let place = response.headers().get(LOCATION).map(|place| String::from_utf8_lossy(place.as_bytes()));
        let message = match place {
            Some(place) => format!("the base URL redirects to {place}; --base-url takes the place itself"),
            None => "the base URL redirects, and the answer does not say where to".into(),
        };
        return Some(ApiError::new(ErrorKind::Unknown, RetryHint::Never).with_status(status).with_message(&message));
    }
    // A body that ends with its connection, and has no length, breaks off unseen by the client.
    let error = serde_json::from_slice::<IgnoredAny>(response.body()).err()?;
    let text = String::from_utf8_lossy(response.body());
    let beginning: String = text.chars().take(QUOTED).collect();
    let message = format!("the answer is no whole JSON ({error}), and begins with {beginning:?}");
    Some(ApiError::new(ErrorKind::Server, RetryHint::Backoff).with_status(status).with_message(&message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(status: u16, body: &'static str) -> Option<ApiError> {
        let response = Response::builder().status(status).header("location", "/v2/");
        of(&response.body(Bytes::from(body)).unwrap())
    }

    #[test]
    fn only_a_success_with_whole_json_is_an_answer() {
        for body in ["{}", "[1, 2]\n", r#"{"a": {"b": "c"}}"#] {
            assert!(flaw(200, body).is_none() && flaw(201, body).is_none(), "{body}");
        }
        for body in ["", "<html>login</html>", r#"{"id":"x","choi"#, "{} {}", "data: {}\n\n"] {
            let flaw = flaw(200, body).unwrap();
            assert_eq!((flaw.kind(), flaw.retry()), (ErrorKind::Server, RetryHint::Backoff), "{body}");
        }
        for status in [301, 302, 304, 307, 308] {
            let flaw = flaw(status, "{}").unwrap();
            assert_eq!(flaw.retry(), RetryHint::Never);
            assert!(flaw.message().unwrap().contains("redirects to /v2/"), "{flaw}");
        }
        assert!(flaw(400, "").is_none() && flaw(503, "<html>").is_none(), "the status says it");
    }
}
