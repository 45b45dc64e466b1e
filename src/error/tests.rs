use std::{io, time::Duration};

use tokio::time::Instant;

use super::{mask::mask_into, *};
use crate::{Again, Gate, Refused};

fn masked(text: &str) -> String {
    let mut out = String::new();
    mask_into(&mut out, text, true);
    out
}

#[test]
fn keys_are_masked() {
    for (text, expected) in [
        ("Incorrect API key provided: sk-proj-abcDEF123456.", "Incorrect API key provided: sk-***"),
        ("Incorrect API key provided: sk-abcd*****wxyz. See", "Incorrect API key provided: sk-*** See"),
        ("key 'sk-ant-api03-XYZ_abc-123'", "key 'sk-***'"),
        ("AIzaSyA1234567890abcdefghij is bad", "AIza*** is bad"),
        ("gsk_1234567890 xai-1234567890 ghp_1234567890", "gsk_*** xai-*** ghp_***"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIA***"),
        ("Authorization: Bearer abc.DEF-123456", "Authorization: Bearer ***"),
        ("authorization: deadbeef", "authorization: ***"),
        ("Cookie: session=deadbeef; csrf=cafe\nhost: a", "Cookie: ***\nhost: a"),
        (r#"{"set-cookie": "a=deadbeef; Path=/", "b": 1}"#, r#"{"set-cookie": "***", "b": 1}"#),
        ("x-csrf-token: deadbeef x-xsrf-token: cafecafe", "x-csrf-token: *** x-xsrf-token: ***"),
        ("x-session-token=deadbeef, x-access-token=cafecafe", "x-session-token=***, x-access-token=***"),
        ("error for url (https://h/v1?key=secret&alt=sse)", "error for url (https://h/v1?key=***&alt=sse)"),
        ("{\"api_key\": \"hunter2\"}", "{\"api_key\": \"***\"}"),
        ("secret = hunter2, token : abc", "secret = ***, token : abc"),
        ("x-api-key: 0123abcd", "x-api-key: ***"),
        ("Incorrect API key provided: 0123456789", "Incorrect API key provided: ***"),
        ("bad key 0123456789abcdef0123456789abcdef!", "bad key ***!"),
        ("prefix_sk-proj-abcDEF123456", "prefix_sk-***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln", "eyJ***"),
    ] {
        assert_eq!(masked(text), expected);
    }
}

#[test]
fn other_words_stay() {
    for text in [
        "You need to provide your key using Bearer auth (i.e. a header)",
        "Rate limit reached for gpt-4o in organization org-abc on tokens per min (TPM): Limit 10000, Used 8554.",
        "organization (a22cf6e6-a940-4fff-8c4c-1580816ac7be) of 1,000,000 input tokens per minute",
        "see req_f287898caa6364cd42bc01355f74dd2a, a risk-assessment of scikit, task-force-one",
        "the token: limit is 5; model llama-3.3-70b-versatile",
        "décélération – naïve ключ 鍵",
    ] {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn one_line_that_one_can_act_on() {
    let error =
        |status: u16, kind, retry| ApiError::new(kind, retry).with_status(StatusCode::from_u16(status).unwrap());
    let wait = |millis| RetryHint::After(Duration::from_millis(millis));
    for (error, expected) in [
        (
            error(429, ErrorKind::RateLimit, wait(9816))
                .with_error_type("tokens")
                .with_code("rate_limit_exceeded")
                .with_request_id("req_abc"),
            "429 rate limit (tokens): wait 9.8 s · req_abc",
        ),
        (error(429, ErrorKind::RateLimit, wait(28)), "429 rate limit: wait 28 ms"),
        (error(429, ErrorKind::RateLimit, wait(578_016)), "429 rate limit: wait 9 min 38 s"),
        (error(429, ErrorKind::RateLimit, wait(86_400_000)), "429 rate limit: wait 24.0 h"),
        (error(429, ErrorKind::RateLimit, RetryHint::Backoff), "429 rate limit: send more slowly"),
        (
            error(429, ErrorKind::QuotaExhausted, RetryHint::Never)
                .with_code("insufficient_quota")
                .with_message("You exceeded"),
            "429 quota exhausted (insufficient_quota): credit or spending limit is used up, see the provider's billing page",
        ),
        (
            error(401, ErrorKind::Authentication, RetryHint::Never)
                .with_message("Incorrect API key provided:\nsk-proj-abcDEF123456"),
            "401 authentication: check the key: Incorrect API key provided: sk-***",
        ),
        (error(503, ErrorKind::Unavailable, RetryHint::Backoff), "503 unavailable: may succeed later"),
    ] {
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn no_way_in_shows_a_key() {
    let key = "sk-proj-abcDEF1234567890";
    let error = ApiError::new(ErrorKind::Authentication, RetryHint::Never)
        .with_code(key)
        .with_error_type(key)
        .with_param(key)
        .with_message(key)
        .with_request_id(key);
    assert!(!format!("{error} {error:?} {error:#?}").contains("abcDEF"));
    assert_eq!(error.message(), Some("sk-***"));
}

#[test]
fn texts_have_a_bound() {
    let error = ApiError::new(ErrorKind::Server, RetryHint::Backoff)
        .with_message(&"ä".repeat(5000))
        .with_code(&"x".repeat(500));
    assert_eq!(error.message().map(str::len), Some(2048));
    assert_eq!(error.code().map(str::len), Some(256));
    assert!(error.to_string().len() < 600);
}

fn meaning(error: &(dyn Error + 'static)) -> (ErrorKind, RetryHint, bool) {
    let error = ApiError::from_error(error);
    (error.kind(), error.retry(), error.may_have_reached_server())
}

#[test]
fn kinds_of_io_errors() {
    use io::ErrorKind as Io;
    for (kind, expected, reached) in [
        (Io::TimedOut, ErrorKind::Timeout, true),
        (Io::ConnectionRefused, ErrorKind::Unavailable, false),
        (Io::HostUnreachable, ErrorKind::Unavailable, false),
        (Io::ConnectionReset, ErrorKind::Unavailable, true),
        (Io::BrokenPipe, ErrorKind::Unavailable, true),
        (Io::UnexpectedEof, ErrorKind::Unavailable, true),
        (Io::InvalidData, ErrorKind::Unknown, true),
    ] {
        assert_eq!(meaning(&io::Error::from(kind)), (expected, RetryHint::Backoff, reached), "{kind:?}");
        // Wrapped, and in an `io::Error` whose `source` would skip it.
        let wrapped = io::Error::other(io::Error::from(kind));
        assert_eq!(meaning(&wrapped), (expected, RetryHint::Backoff, reached), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn time_limits() {
    let elapsed = tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(meaning(&elapsed), (ErrorKind::Timeout, RetryHint::Backoff, true));
    let elapsed = tower::timeout::error::Elapsed::new();
    assert_eq!(meaning(&elapsed), (ErrorKind::Timeout, RetryHint::Backoff, true));
}

#[tokio::test(start_paused = true)]
async fn what_the_gates_say() {
    let refused = Refused::new(Gate::Quota, None, "too long a queue");
    assert_eq!(meaning(&refused), (ErrorKind::RateLimit, RetryHint::Never, false));
    let dead = ApiError::new(ErrorKind::Authentication, RetryHint::Never).with_status(StatusCode::UNAUTHORIZED);
    let refused = io::Error::other(Refused::new(Gate::Key, None, dead));
    assert_eq!(meaning(&refused), (ErrorKind::Authentication, RetryHint::Never, false));
    let again = Again { by: Gate::Quota, not_before: Instant::now() + Duration::from_secs(3) };
    assert_eq!(meaning(&again), (ErrorKind::RateLimit, RetryHint::After(Duration::from_secs(3)), true));
}

#[test]
fn an_error_of_ours_is_found() {
    let error = ApiError::new(ErrorKind::ContentPolicy, RetryHint::Never);
    assert_eq!(meaning(&io::Error::other(error)), (ErrorKind::ContentPolicy, RetryHint::Never, true));
}

/// An error that is its own cause.
#[derive(Debug)]
struct Circle;

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("round")
    }
}

impl Error for Circle {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&Circle)
    }
}

#[test]
fn a_chain_that_closes_on_itself_ends() {
    assert_eq!(meaning(&Circle), (ErrorKind::Unknown, RetryHint::Backoff, true));
    assert!(find_cause::<io::Error>(&Circle).is_none());
}

#[test]
fn keys_in_the_words_of_a_transport_error_are_masked() {
    let error = io::Error::other("error sending request for url (https://h/v1?key=hunter2secret)");
    let error = ApiError::from_error(&error);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}
