//! What all providers share: identifiers, messages, statuses. Where they come from is in `docs/classification.md`.

use http::StatusCode;

use super::rules::{Code, Phrase};
use crate::ErrorKind::{
    self, Authentication, Conflict, ContentPolicy, ContextLength, InvalidRequest, NotFound, Overloaded, Permission,
    QuotaExhausted, RateLimit, RequestTooLarge, Server, Timeout, Unavailable, Unknown, Unprocessable,
};

const fn is(id: &'static str, kind: ErrorKind) -> Code {
    Code::new(id, kind)
}

/// Identifiers by name. Sorted, which a test holds it to: it is searched by halves.
pub(super) static CODES: &[Code] = &[
    is("ABORTED", Conflict),
    is("ACCESS_TOKEN_EXPIRED", Authentication),
    is("API_KEY_INVALID", Authentication),
    is("AccessDeniedException", Permission),
    is("ConflictException", Conflict),
    is("DEADLINE_EXCEEDED", Timeout),
    is("DeploymentNotFound", NotFound),
    is("ExpiredTokenException", Authentication),
    is("FAILED_PRECONDITION", InvalidRequest),
    is("INTERNAL", Server),
    is("INVALID_ARGUMENT", InvalidRequest),
    is("IncompleteSignature", Authentication),
    is("IncompleteSignatureException", Authentication),
    is("InternalServerException", Server),
    is("InvalidClientTokenId", Authentication),
    is("InvalidSignatureException", Authentication),
    is("LimitExceededException", RateLimit),
    is("MissingAuthenticationTokenException", Authentication),
    is("ModelErrorException", Server),
    is("ModelNotReadyException", Overloaded),
    is("ModelTimeoutException", Timeout),
    is("NOT_FOUND", NotFound),
    is("NoCapacity", Overloaded),
    is("OUT_OF_RANGE", InvalidRequest),
    is("PERMISSION_DENIED", Permission),
    is("ProvisionedThroughputExceededException", RateLimit),
    is("RATE_LIMIT_EXCEEDED", RateLimit),
    is("RESOURCE_EXHAUSTED", RateLimit),
    is("RateLimitReached", RateLimit),
    is("RequestLimitExceeded", RateLimit),
    is("RequestThrottled", RateLimit),
    is("RequestThrottledException", RateLimit),
    is("ResourceNotFoundException", NotFound),
    is("ResponsibleAIPolicyViolation", ContentPolicy),
    is("ServiceQuotaExceededException", QuotaExhausted),
    is("ServiceUnavailableException", Unavailable),
    is("SignatureDoesNotMatch", Authentication),
    is("SlowDown", RateLimit),
    is("ThrottledException", RateLimit),
    is("Throttling", RateLimit),
    is("ThrottlingException", RateLimit),
    is("TooManyRequests", RateLimit),
    is("TooManyRequestsException", RateLimit),
    is("UNAUTHENTICATED", Authentication),
    is("UNAVAILABLE", Unavailable),
    is("UnrecognizedClientException", Authentication),
    is("ValidationException", InvalidRequest),
    is("account_deactivated", Authentication),
    is("api_error", Server),
    is("authentication_error", Authentication),
    is("batch_cancelled", Unknown).never(),
    is("batch_expired", Timeout).never(),
    is("billing_error", QuotaExhausted),
    is("billing_hard_limit_reached", QuotaExhausted),
    is("billing_not_active", QuotaExhausted),
    is("bio_policy", ContentPolicy),
    is("blocked_api_access", QuotaExhausted),
    is("capacity_exceeded", Overloaded),
    is("conflict_error", Conflict),
    is("connection_failed", Unavailable),
    is("content_filter", ContentPolicy),
    is("content_policy_violation", ContentPolicy),
    is("context_length_exceeded", ContextLength),
    is("context_window_exceeded", ContextLength),
    is("contract_spend_limit_reached", QuotaExhausted),
    is("credit_balance_exhausted", QuotaExhausted),
    is("credit_limit", QuotaExhausted),
    is("cyber_policy", ContentPolicy),
    is("data_residency_mismatch", InvalidRequest),
    is("decimal_above_max_value", InvalidRequest).always().on(400),
    is("decimal_below_min_value", InvalidRequest).always().on(400),
    is("empty_image_file", InvalidRequest),
    is("enforced_spend_limit_reached", QuotaExhausted),
    is("engine_overloaded", Overloaded),
    is("engine_overloaded_error", Overloaded),
    is("exceed_context_size_error", ContextLength),
    is("expired_api_key", Authentication),
    is("failed_to_download_image", InvalidRequest),
    is("flex_unavailable", Overloaded),
    is("https://iana.org/assignments/http-problem-types#abnormal-usage-detected", RateLimit),
    is("https://iana.org/assignments/http-problem-types#quota-exceeded", RateLimit),
    is("https://iana.org/assignments/http-problem-types#temporary-reduced-capacity", Overloaded),
    is("idempotency_error", Conflict),
    is("image_content_policy_violation", ContentPolicy),
    is("image_file_not_found", InvalidRequest),
    is("image_file_too_large", InvalidRequest),
    is("image_parse_error", InvalidRequest),
    is("image_too_large", InvalidRequest),
    is("image_too_small", InvalidRequest),
    is("insufficient_balance", QuotaExhausted),
    is("insufficient_credits", QuotaExhausted),
    is("insufficient_quota", QuotaExhausted),
    is("integer_above_max_value", InvalidRequest).always().on(400),
    is("integer_below_min_value", InvalidRequest).always().on(400),
    is("internal_error", Server),
    is("internal_server_error", Server),
    is("invalid_api_key", Authentication),
    is("invalid_authentication", Authentication),
    is("invalid_base64_image", InvalidRequest),
    is("invalid_image", InvalidRequest),
    is("invalid_image_format", InvalidRequest),
    is("invalid_image_mode", InvalidRequest),
    is("invalid_image_url", InvalidRequest),
    is("invalid_organization", Authentication),
    is("invalid_prompt", ContentPolicy),
    is("invalid_request", InvalidRequest),
    is("invalid_request_error", InvalidRequest),
    is("invalid_type", InvalidRequest).always().on(400),
    is("invalid_value", InvalidRequest).always().on(400),
    is("ip_not_authorized", Authentication),
    is("max_completion_tokens", InvalidRequest),
    is("max_output_tokens", InvalidRequest),
    is("max_prompt_tokens", ContextLength),
    is("misalignment_policy_violation", ContentPolicy),
    is("mismatched_organization", Authentication),
    is("missing_required_parameter", InvalidRequest).always().on(400),
    is("model_max_prompt_tokens_exceeded", ContextLength),
    is("model_not_found", NotFound),
    is("moderation_blocked", ContentPolicy),
    is("no_organization", Authentication),
    is("not_found_error", NotFound),
    is("openrouter_in_flight_budget", RateLimit).always(),
    is("organization_restricted", Permission),
    is("organization_spend_limit_exceeded", QuotaExhausted),
    is("organization_usage_limit_exceeded", QuotaExhausted),
    is("overloaded_error", Overloaded),
    is("payment_required", QuotaExhausted),
    is("permission_error", Permission),
    is("project_spend_limit_exceeded", QuotaExhausted),
    is("project_usage_limit_exceeded", QuotaExhausted),
    is("quota_exceeded", QuotaExhausted),
    is("ramp_limit_exceeded", RateLimit),
    is("rate_limit", RateLimit),
    is("rate_limit_error", RateLimit),
    is("rate_limit_exceeded", RateLimit),
    is("rate_limited", RateLimit),
    is("request_forbidden", Permission),
    is("request_timeout", Timeout),
    is("request_too_large", RequestTooLarge),
    is("resource_not_found", NotFound),
    is("resource_unavailable", Overloaded),
    is("server_error", Server),
    is("server_is_overloaded", Overloaded),
    is("server_overloaded", Overloaded),
    is("service_unavailable_error", Unavailable),
    is("session_budget_exceeded", QuotaExhausted),
    is("slow_down", Overloaded).on(503),
    is("slow_down", RateLimit),
    is("string_above_max_length", InvalidRequest).always().on(400),
    is("timeout_error", Timeout),
    is("token_limit_exceeded", RateLimit),
    is("too_many_requests", RateLimit),
    is("unknown_parameter", InvalidRequest).always().on(400),
    is("unsupported_country_region_territory", Permission),
    is("unsupported_image_media_type", InvalidRequest),
    is("unsupported_parameter", InvalidRequest).always().on(400),
    is("unsupported_value", InvalidRequest).always().on(400),
    is("usage_limit_exceeded", QuotaExhausted),
    is("usage_limit_reached", QuotaExhausted),
    is("usage_not_included", QuotaExhausted),
    is("vector_store_timeout", Timeout),
];

/// Identifiers under which this one is known.
pub(super) fn codes(id: &str) -> &'static [Code] {
    let start = CODES.partition_point(|code| code.id < id);
    let rest = CODES.get(start..).unwrap_or_default();
    let end = rest.iter().take_while(|code| code.id == id).count();
    rest.get(..end).unwrap_or_default()
}

/// Messages that tell what no identifier does.
pub(super) static PHRASES: &[Phrase] = &[
    // One request above the whole limit has the type and the code of one that has only to wait.
    Phrase::new("Request too large for ", RequestTooLarge),
    // Context, where compatible servers leave out the code.
    Phrase::new("This model's maximum context length is ", ContextLength),
    Phrase::new("This model's maximum prompt length is ", ContextLength),
    Phrase::new("This endpoint's maximum context length is ", ContextLength),
    Phrase::new("Your input exceeds the context window of this model", ContextLength),
    Phrase::new("prompt is too long", ContextLength),
    Phrase::new("input length and `max_tokens` exceed context limit", ContextLength),
    Phrase::new("The decoder prompt (length ", ContextLength).and("longer than the maximum model length"),
    Phrase::new("Input validation error: `inputs`", ContextLength).and("tokens"),
    // Money.
    Phrase::new("Billing hard limit has been reached", QuotaExhausted),
    Phrase::new("Your account is not active, please check your billing details", QuotaExhausted),
    Phrase::new("Insufficient Balance", QuotaExhausted),
    // Keys, where the status is 400.
    Phrase::new("API key not valid", Authentication),
    Phrase::new("API key expired", Authentication),
    Phrase::new("Incorrect API key provided", Authentication),
    // Policy.
    Phrase::new("Your request was rejected as a result of our safety system", ContentPolicy),
    Phrase::new("Your request was rejected by the safety system", ContentPolicy),
    Phrase::new("Invalid prompt: your prompt was flagged", ContentPolicy),
    // Overload, where there is no identifier of it.
    Phrase::new("The engine is currently overloaded", Overloaded),
    Phrase::new("Our servers are currently overloaded", Overloaded),
    Phrase::new("The server is currently overloaded", Overloaded),
    Phrase::new("The server is overloaded", Overloaded),
    Phrase::new("The model is overloaded", Overloaded),
    Phrase::new("The model is currently overloaded", Overloaded),
    Phrase::new("This model is currently overloaded", Overloaded),
    Phrase::new("That model is currently overloaded", Overloaded),
    Phrase::new("This model is currently experiencing high demand", Overloaded),
];

/// What a status means by itself.
pub(super) fn by_status(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        400 | 405 | 406 | 411 | 412 | 415 | 416 | 417 | 426 | 428 => InvalidRequest,
        401 | 407 | 511 => Authentication,
        402 => QuotaExhausted,
        403 | 451 => Permission,
        404 | 410 => NotFound,
        408 | 504 | 524 | 598 | 599 => Timeout,
        409 | 423 => Conflict,
        413 | 414 | 431 => RequestTooLarge,
        422 => Unprocessable,
        429 => RateLimit,
        529 => Overloaded,
        // 520 to 530 are Cloudflare's, which cannot reach the server behind it.
        502 | 503 | 520..=523 | 525..=527 | 530 => Unavailable,
        500..=599 => Server,
        _ => Unknown,
    }
}

/// Statuses whose failure passes or stays, other than their kind says.
pub(super) fn passes(status: StatusCode) -> Option<bool> {
    match status.as_u16() {
        // Too Early: to be sent again without early data (RFC 8470).
        425 => Some(true),
        // Not implemented, no such version, a loop, an extension missing, a login page: the same tomorrow.
        501 | 505 | 508 | 510 | 511 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted() {
        assert!(CODES.is_sorted_by_key(|code| code.id));
    }
}
