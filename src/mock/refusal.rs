//! What OpenAI answers to a call that it does not serve, in its own words.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;

use super::headers::go_duration;

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) allow: Option<Method>,
}

/// `{"error": {…}}`, fields in OpenAI's order.
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

const INVALID: &str = "invalid_request_error";

impl Refusal {
    pub(crate) fn json(
        status: StatusCode,
        message: &str,
        r#type: &str,
        param: Option<&str>,
        code: Option<&str>,
    ) -> Self {
        let envelope = Envelope { error: Inner { message, r#type, param, code } };
        // Strings and nulls always serialize; were it otherwise, the body would be empty.
        let body = serde_json::to_vec_pretty(&envelope).unwrap_or_default();
        Self { status, content_type: "application/json", body: body.into(), allow: None }
    }

    fn html(status: StatusCode) -> Self {
        let body = format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
             <hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
        );
        Self { status, content_type: "text/html", body: body.into(), allow: None }
    }

    fn invalid(message: &str, param: Option<&str>, code: Option<&str>) -> Self {
        Self::json(StatusCode::BAD_REQUEST, message, INVALID, param, code)
    }

    pub(crate) fn no_such_place(method: &Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::json(StatusCode::NOT_FOUND, &message, INVALID, None, None)
    }

    pub(crate) fn wrong_method(allowed: &Method) -> Self {
        let message = format!("Only {allowed} requests are accepted.");
        let code = Some("method_not_supported");
        let refusal = Self::json(StatusCode::METHOD_NOT_ALLOWED, &message, INVALID, None, code);
        Self { allow: Some(allowed.clone()), ..refusal }
    }

    pub(crate) fn too_large_body(cap: usize) -> Self {
        let message = format!("Maximum content size limit ({cap}) exceeded.");
        Self::json(StatusCode::PAYLOAD_TOO_LARGE, &message, INVALID, None, None)
    }

    pub(crate) fn bad_json() -> Self {
        Self::invalid(
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP \
             library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you \
             have trouble figuring out how to fix this, please contact us through our help center at \
             help.openai.com.)",
            None,
            None,
        )
    }

    pub(crate) fn no_model() -> Self {
        Self::invalid("you must provide a model parameter", None, None)
    }

    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::invalid(&message, Some(param), Some("missing_required_parameter"))
    }

    pub(crate) fn wrong_type(param: &str, expected: &str) -> Self {
        let message = format!("Invalid type for '{param}': expected {expected}.");
        Self::invalid(&message, Some(param), Some("invalid_type"))
    }

    pub(crate) fn too_short(param: &str) -> Self {
        let message = format!(
            "Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead."
        );
        Self::invalid(&message, Some(param), Some("empty_array"))
    }

    pub(crate) fn too_long(param: &str, max: usize) -> Self {
        let message = format!("Invalid '{param}': array too long. Expected an array with maximum length {max}.");
        Self::invalid(&message, Some(param), Some("array_above_max_length"))
    }

    pub(crate) fn too_small(param: &str, given: u64) -> Self {
        let message = format!(
            "Invalid '{param}': integer out of range. Expected a value >= 1 within the model's limit, but got {given} \
             instead."
        );
        Self::invalid(&message, Some(param), Some("integer_out_of_range"))
    }

    pub(crate) fn too_big(param: &str, given: f64) -> Self {
        let message =
            format!("Invalid '{param}': decimal above maximum value. Expected a value <= 2, but got {given} instead.");
        Self::invalid(&message, Some(param), Some("decimal_above_max_value"))
    }

    pub(crate) fn context_length(limit: u64, tokens: u64) -> Self {
        let message = format!(
            "This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} \
             tokens. Please reduce the length of the messages."
        );
        Self::invalid(&message, Some("messages"), Some("context_length_exceeded"))
    }

    pub(crate) fn unknown_model(model: &str) -> Self {
        let model: String = model.chars().take(100).collect();
        let message = format!("The model `{model}` does not exist or you do not have access to it.");
        Self::json(StatusCode::NOT_FOUND, &message, INVALID, None, Some("model_not_found"))
    }

    pub(crate) fn no_key() -> Self {
        Self::json(
            StatusCode::UNAUTHORIZED,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
             auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're \
             accessing the API from your browser and are prompted for a username and password. You can obtain an API \
             key from https://platform.openai.com/account/api-keys.",
            INVALID,
            None,
            None,
        )
    }

    pub(crate) fn wrong_key(key: &str) -> Self {
        let message = format!(
            "Incorrect API key provided: {}. You can find your API key at \
             https://platform.openai.com/account/api-keys.",
            masked(key)
        );
        Self::json(StatusCode::UNAUTHORIZED, &message, INVALID, None, Some("invalid_api_key"))
    }

    pub(crate) fn no_quota() -> Self {
        Self::json(
            StatusCode::TOO_MANY_REQUESTS,
            "You exceeded your current quota, please check your plan and billing details. For more information on \
             this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
            "insufficient_quota",
            None,
            Some("insufficient_quota"),
        )
    }

    /// A 429 that passes: `what` is "requests" or "tokens", `unit` "min" or "day".
    pub(crate) fn rate(subject: &Subject<'_>, used: u64, requested: u64, wait: Option<Duration>) -> Self {
        let again = wait.map_or(String::new(), |wait| format!(" Please try again in {}.", go_duration(ceil_ms(wait))));
        let message = format!(
            "Rate limit reached for {subject}: Limit {}, Used {used}, Requested {requested}.{again} Visit \
             https://platform.openai.com/account/rate-limits to learn more.",
            subject.limit,
        );
        Self::json(StatusCode::TOO_MANY_REQUESTS, &message, subject.what, None, Some("rate_limit_exceeded"))
    }

    /// A 429 that never passes: more at once than the limit ever allows.
    pub(crate) fn never_fits(subject: &Subject<'_>, requested: u64) -> Self {
        let message = format!(
            "Request too large for {subject}: Limit {}, Requested {requested}. The input or output tokens must be \
             reduced in order to run successfully. Visit https://platform.openai.com/account/rate-limits to learn more.",
            subject.limit,
        );
        Self::json(StatusCode::TOO_MANY_REQUESTS, &message, subject.what, None, Some("rate_limit_exceeded"))
    }

    pub(crate) fn html_429() -> Self {
        Self::html(StatusCode::TOO_MANY_REQUESTS)
    }

    pub(crate) fn server_error() -> Self {
        Self::json(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The server experienced an error while processing your request. Sorry about that! You can retry your \
             request, or contact us through our help center at help.openai.com if the error persists.",
            "server_error",
            None,
            None,
        )
    }

    pub(crate) fn bad_gateway() -> Self {
        Self::html(StatusCode::BAD_GATEWAY)
    }

    pub(crate) fn overloaded() -> Self {
        Self::json(
            StatusCode::SERVICE_UNAVAILABLE,
            "Our servers are currently overloaded. Please try again later.",
            "service_unavailable_error",
            None,
            Some("server_is_overloaded"),
        )
    }
}

/// What a 429 is about: "gpt-4o in organization org-mock on tokens per min (TPM)".
pub(crate) struct Subject<'a> {
    pub(crate) model: &'a str,
    pub(crate) organization: &'a str,
    /// "requests" or "tokens".
    pub(crate) what: &'a str,
    /// "min" or "day".
    pub(crate) unit: &'a str,
    pub(crate) limit: u64,
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, organization, what, unit, .. } = self;
        let short = |word: &str| word.chars().next().unwrap_or('?').to_ascii_uppercase();
        write!(f, "{model} in organization {organization} on {what} per {unit} ({}P{})", short(what), short(unit))
    }
}

/// A key as OpenAI shows it: the start, stars, and the last four characters. A short one is all stars.
fn masked(key: &str) -> String {
    let chars: Vec<char> = key.chars().take(200).collect();
    if chars.len() < 16 {
        return "*".repeat(chars.len());
    }
    let (start, end) = (&chars[..3], &chars[chars.len() - 4..]);
    start.iter().copied().chain(std::iter::repeat_n('*', chars.len() - 7)).chain(end.iter().copied()).collect()
}

fn ceil_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
