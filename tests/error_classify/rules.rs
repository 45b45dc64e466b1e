//! The rules, beyond the recorded responses: what each provider says differently, and the texts that must not deceive.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use http_body_util::Full;
use tower_outbound::{
    ApiError, ErrorClassifyLayer,
    ErrorKind::{self, *},
    provider,
};

use crate::support::call;

const NEVER: Option<u64> = Some(u64::MAX);
const BACKOFF: Option<u64> = None;

async fn classified(name: &str, status: u16, headers: &[(&'static str, &str)], body: &str) -> ApiError {
    let layer = ErrorClassifyLayer::new(provider::by_name(name).unwrap())
        .wall_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_360_416));
    let mut response = Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    for (name, value) in headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    call(layer, response).await.extensions().get::<ApiError>().cloned().unwrap()
}

type Case<'a> = (&'a str, u16, &'a [(&'static str, &'a str)], &'a str, ErrorKind, Option<u64>, Option<&'a str>);

async fn hold(cases: &[Case<'_>]) {
    for (name, status, headers, body, kind, millis, code) in cases {
        let error = classified(name, *status, headers, body).await;
        let retry = error.retry();
        let hint = if retry.may_succeed() {
            retry.wait().map(|wait| wait.as_nanos().div_ceil(1_000_000) as u64)
        } else {
            NEVER
        };
        assert_eq!((error.kind(), hint, error.code()), (*kind, *millis, *code), "{name} {status} {headers:?} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_alone() {
    let cases = [
        (400, InvalidRequest, NEVER),
        (401, Authentication, NEVER),
        (402, QuotaExhausted, NEVER),
        (403, Permission, NEVER),
        (404, NotFound, NEVER),
        (405, InvalidRequest, NEVER),
        (408, Timeout, BACKOFF),
        (409, Conflict, BACKOFF),
        (410, NotFound, NEVER),
        (413, RequestTooLarge, NEVER),
        (418, Unknown, NEVER),
        (422, Unprocessable, NEVER),
        (423, Conflict, BACKOFF),
        (425, Unknown, BACKOFF),
        (428, InvalidRequest, NEVER),
        (429, RateLimit, BACKOFF),
        (431, RequestTooLarge, NEVER),
        (451, Permission, NEVER),
        (500, Server, BACKOFF),
        (501, Server, NEVER),
        (502, Unavailable, BACKOFF),
        (503, Unavailable, BACKOFF),
        (504, Timeout, BACKOFF),
        (505, Server, NEVER),
        (511, Authentication, NEVER),
        (521, Unavailable, BACKOFF),
        (524, Timeout, BACKOFF),
        (529, Overloaded, BACKOFF),
        (530, Unavailable, BACKOFF),
        (599, Timeout, BACKOFF),
        (700, Unknown, NEVER),
        (999, Unknown, NEVER),
    ];
    for (status, kind, hint) in cases {
        hold(&[("generic", status, &[], "", kind, hint, None)]).await;
        hold(&[("openai", status, &[], "<html>insufficient_quota</html>", kind, hint, None)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn texts_do_not_deceive() {
    hold(&[
        // Prompts that are echoed.
        ("openai", 400, &[], r#"{"error":{"message":"Invalid value: 'Request too large for gpt-4. Rate limit reached, try again in 5s'","type":"invalid_request_error","param":"x","code":"invalid_value"}}"#, InvalidRequest, NEVER, Some("invalid_value")),
        ("openai", 500, &[], r#"{"error":{"message":"Could not parse 'insufficient_quota'","type":"server_error","code":null}}"#, Server, BACKOFF, None),
        ("openai", 422, &[], r#"{"error":{"message":"Bad: You exceeded your current quota, please check your plan and billing details","type":"invalid_request_error","code":null}}"#, Unprocessable, NEVER, None),
        ("openai", 400, &[], r#"{"prompt":{"error":{"code":"insufficient_quota"}},"error":{"code":"unknown_parameter","message":"no"}}"#, InvalidRequest, NEVER, Some("unknown_parameter")),
        // A rate limit that mentions billing; and one that mentions a time which is none to wait.
        ("openai", 429, &[], r#"{"error":{"message":"Rate limit reached for m on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s. Visit the billing page: You exceeded your current quota","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#, RateLimit, Some(20_000), Some("rate_limit_exceeded")),
        ("openai", 400, &[], r#"{"error":{"message":"Please try again in 20s","type":"invalid_request_error","code":null}}"#, InvalidRequest, NEVER, None),
        // HTML in the place of JSON.
        ("openai", 429, &[("content-type", "application/json")], "<html>Too Many Requests, try again in 5s</html>", RateLimit, BACKOFF, None),
        // An identifier of rate limits under a status that says otherwise.
        ("openai", 401, &[], r#"{"error":{"code":"rate_limit_exceeded"}}"#, Authentication, NEVER, Some("rate_limit_exceeded")),
        ("groq", 413, &[], r#"{"error":{"type":"tokens","code":"rate_limit_exceeded"}}"#, RequestTooLarge, NEVER, Some("rate_limit_exceeded")),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_shapes_of_the_apis() {
    hold(&[
        ("openai", 429, &[], r#"{"error":{"message":"x","type":"usage_limit_reached","plan_type":"plus","resets_at":1795370000}}"#, QuotaExhausted, NEVER, Some("usage_limit_reached")),
        ("openai", 429, &[], r#"{"error":{"message":"x","type":"insufficient_quota","code":"project_spend_limit_exceeded"}}"#, QuotaExhausted, NEVER, Some("project_spend_limit_exceeded")),
        ("openai", 404, &[], r#"{"error":{"message":"Invalid URL (POST /v1/v1/x)","type":"invalid_request_error","param":null,"code":""}}"#, NotFound, NEVER, None),
        ("openai", 400, &[], r#"{"error":{"message":"Your request was rejected by the safety system.","type":"image_generation_user_error","code":"moderation_blocked"}}"#, ContentPolicy, NEVER, Some("moderation_blocked")),
        ("openai", 429, &[], r#"{"error":{"message":"Resource unavailable","type":"x","code":"flex_unavailable"}}"#, Overloaded, BACKOFF, Some("flex_unavailable")),
        ("anthropic", 429, &[], r#"{"type":"error","error":{"type":"rate_limit_error","message":"x","details":{"error_code":"contract_spend_limit_reached"}}}"#, QuotaExhausted, NEVER, Some("contract_spend_limit_reached")),
        ("anthropic", 429, &[("retry-after", "5")], r#"{"type":"error","error":{"type":"rate_limit_error","message":"x","details":{"error_code":"ramp_limit_exceeded"}}}"#, RateLimit, Some(5000), Some("ramp_limit_exceeded")),
        ("anthropic", 529, &[], r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded, BACKOFF, Some("overloaded_error")),
        ("anthropic", 504, &[], r#"{"type":"error","error":{"type":"timeout_error","message":"x"}}"#, Timeout, BACKOFF, Some("timeout_error")),
        ("anthropic", 429, &[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", "2026-11-22T15:13:53Z"), ("anthropic-ratelimit-requests-remaining", "5"), ("anthropic-ratelimit-requests-reset", "2026-11-22T16:13:53Z")], r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#, RateLimit, Some(17_000), Some("rate_limit_error")),
        ("gemini", 429, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota, please check your plan and billing details.","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier","quotaValue":"50"}]},{"retryDelay":"28s"}]}}"#, QuotaExhausted, NEVER, Some("RESOURCE_EXHAUSTED")),
        ("gemini", 429, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota, please check your plan and billing details.","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaValue":"10"}]},{"retryDelay":"28s"}]}}"#, RateLimit, Some(28_000), Some("RESOURCE_EXHAUSTED")),
        ("gemini", 429, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota.\n* Quota exceeded for metric: x/free_tier_requests, limit: 0, model: m\nPlease retry in 58.9s."}}"#, QuotaExhausted, NEVER, Some("RESOURCE_EXHAUSTED")),
        ("gemini", 429, &[], r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota.\n* Quota exceeded for metric: x/free_tier_requests, limit: 10, model: m\nPlease retry in 58.9s."}}"#, RateLimit, Some(58_900), Some("RESOURCE_EXHAUSTED")),
        ("gemini", 503, &[], r#"{"error":{"code":503,"status":"UNAVAILABLE","message":"The service is currently unavailable."}}"#, Unavailable, BACKOFF, Some("UNAVAILABLE")),
        ("gemini", 403, &[], r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"x"}}"#, Permission, NEVER, Some("PERMISSION_DENIED")),
        ("gemini", 404, &[], r#"{"error":{"code":404,"status":"NOT_FOUND","message":"x"}}"#, NotFound, NEVER, Some("NOT_FOUND")),
        ("azure", 404, &[], r#"{"error":{"code":"DeploymentNotFound","message":"x"}}"#, NotFound, NEVER, Some("DeploymentNotFound")),
        ("azure", 401, &[], r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key"}}"#, Authentication, NEVER, Some("401")),
        ("mistral", 503, &[], r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"invalid_request_error","code":null}"#, Overloaded, BACKOFF, None),
        ("mistral", 401, &[], r#"{"message":"Unauthorized","request_id":"x"}"#, Authentication, NEVER, None),
        ("cohere", 429, &[], r#"{"message":"You are using a Trial key, which is limited to 10 API calls / minute."}"#, RateLimit, BACKOFF, None),
        ("openrouter", 402, &[], r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, QuotaExhausted, NEVER, Some("402")),
        ("openrouter", 403, &[], r#"{"error":{"code":403,"message":"Key limit exceeded","metadata":{"reasons":[]}}}"#, Permission, NEVER, Some("403")),
        ("openrouter", 429, &[], r#"{"error":{"code":429,"message":"Rate limit exceeded","metadata":{"headers":{"X-RateLimit-Remaining":"0","X-RateLimit-Reset":"1795360446000"}}}}"#, RateLimit, Some(30_000), Some("429")),
        ("together", 403, &[], r#"{"error":{"message":"x","type":"invalid_request_error","param":null,"code":null}}"#, ContextLength, NEVER, None),
        ("xai", 400, &[], r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***"}"#, Authentication, NEVER, Some("Client specified an invalid argument")),
        ("aws", 400, &[("x-amzn-errortype", "ThrottlingException:http://x/")], r#"{"message":"Too many requests"}"#, RateLimit, BACKOFF, Some("ThrottlingException")),
        ("aws", 400, &[], r#"{"__type":"com.amazon.coral#ValidationException","message":"Input is too long for requested model."}"#, ContextLength, NEVER, Some("ValidationException")),
        ("aws", 429, &[("x-amzn-errortype", "ModelNotReadyException")], "{}", Overloaded, BACKOFF, Some("ModelNotReadyException")),
        ("aws", 403, &[("x-amzn-errortype", "ExpiredTokenException")], "{}", Authentication, NEVER, Some("ExpiredTokenException")),
        ("github", 403, &[], r#"{"message":"Resource not accessible by integration","status":"403"}"#, Permission, NEVER, None),
        ("github", 403, &[("x-ratelimit-remaining", "40"), ("x-ratelimit-reset", "1795370000")], r#"{"message":"You have exceeded a secondary rate limit. Please wait."}"#, RateLimit, Some(60_000), None),
        ("github", 403, &[("retry-after", "30")], r#"{"message":"You have exceeded a secondary rate limit."}"#, RateLimit, Some(30_000), None),
        ("stripe", 402, &[], r#"{"error":{"type":"card_error","code":"card_declined","message":"x"}}"#, Unprocessable, NEVER, Some("card_declined")),
        ("generic", 403, &[], r#"{"type":"about:blank","title":"Forbidden","status":403}"#, Permission, NEVER, None),
        ("generic", 503, &[("ratelimit", "\"a\";r=0;t=40")], r#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","title":"x"}"#, Overloaded, Some(40_000), Some("https://iana.org/assignments/http-problem-types#temporary-reduced-capacity")),
        ("generic", 422, &[], r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required"}]}"#, Unprocessable, NEVER, None),
        ("generic", 429, &[], r#"{"message":"You are being rate limited.","retry_after":0.35,"global":false}"#, RateLimit, Some(350), None),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_used_up_and_those_that_are_not() {
    let limited = |headers| async move { hold(headers).await };
    limited(&[
        (
            "openai",
            429,
            &[("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "6m0s")],
            "",
            RateLimit,
            BACKOFF,
            None,
        ),
        (
            "openai",
            429,
            &[
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "12ms"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "1h2m3s"),
            ],
            "",
            RateLimit,
            Some(3_723_000),
            None,
        ),
        (
            "groq",
            429,
            &[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "7.66s")],
            "",
            RateLimit,
            Some(7660),
            None,
        ),
        // Two that say nothing of what is left: nobody knows which it was.
        (
            "openai",
            429,
            &[("x-ratelimit-reset-tokens", "6m0s"), ("x-ratelimit-reset-requests", "1s")],
            "",
            RateLimit,
            BACKOFF,
            None,
        ),
        ("generic", 429, &[("ratelimit", "\"a\";r=5;t=30, \"b\";r=0;t=7")], "", RateLimit, Some(7000), None),
        (
            "generic",
            429,
            &[("ratelimit", "\"day\";r=0"), ("ratelimit-policy", "\"burst\";q=9;w=60,\"day\";q=100;w=3600")],
            "",
            RateLimit,
            Some(3_600_000),
            None,
        ),
        ("generic", 429, &[("ratelimit", "limit=100, remaining=0, reset=50")], "", RateLimit, Some(50_000), None),
        ("generic", 429, &[("ratelimit", "\"a\";r=50;t=30")], "", RateLimit, BACKOFF, None),
        (
            "generic",
            429,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795360446000")],
            "",
            RateLimit,
            Some(30_000),
            None,
        ),
        (
            "generic",
            429,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795360400")],
            "",
            RateLimit,
            BACKOFF,
            None,
        ),
        // A failure that is none of the limit's does not wait for it.
        (
            "openai",
            500,
            &[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")],
            "",
            Server,
            BACKOFF,
            None,
        ),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_word_on_sending_again() {
    hold(&[
        ("openai", 404, &[("x-should-retry", "true"), ("retry-after", "2")], "", NotFound, Some(2000), None),
        ("openai", 503, &[("x-should-retry", "false"), ("retry-after", "2")], "", Unavailable, NEVER, None),
        ("openai", 503, &[("x-should-retry", "maybe")], "", Unavailable, BACKOFF, None),
        ("stripe", 500, &[("stripe-should-retry", "false")], "", Server, NEVER, None),
    ])
    .await;
}

/// What openai-python expects of `retry-after` at Fri, 29 Sep 2023 16:26:37 GMT; a hint past its limit of 120 s it gives
/// up on, where we keep it and leave that to the caller's limit.
#[tokio::test(start_paused = true)]
async fn the_table_of_openai_python() {
    for (value, seconds) in [
        ("20", Some(20)),
        ("60", Some(60)),
        ("61", Some(61)),
        ("120", Some(120)),
        ("121", Some(121)),
        ("0", None),
        ("-10", None),
        ("99999999999999999999999999999999999", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("Fri, 29 Sep 2023 16:26:57 GMT", Some(20)),
        ("Friday, 29-Sep-23 16:26:57 GMT", Some(20)),
        ("Fri Sep 29 16:26:57 2023", Some(20)),
        ("Fri, 29 Sep 2023 16:26:37 GMT", None),
        ("Fri, 29 Sep 2023 16:26:27 GMT", None),
        ("Fri, 29 Sep 2023 16:27:37 GMT", Some(60)),
        ("Fri, 29 Sep 2023 16:28:37 GMT", Some(120)),
        ("Fri, 29 Sep 2023 16:28:38 GMT", Some(121)),
        ("Zun, 29 Sep 2023 16:26:27 GMT", None),
        ("Fri, 29 Sep 100000 16:26:57 GMT", None),
    ] {
        let layer =
            ErrorClassifyLayer::default().wall_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_696_004_797));
        let response =
            Response::builder().status(429).header("retry-after", value).body(Full::<Bytes>::default()).unwrap();
        let response = call(layer, response).await;
        let retry = response.extensions().get::<ApiError>().unwrap().retry();
        assert!(retry.may_succeed());
        assert_eq!(retry.wait(), seconds.map(Duration::from_secs), "{value}");
    }
}
