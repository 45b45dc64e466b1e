//! The rules, in their order.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, StatusCode};

use super::{
    Code, Failure, Generic, Provider, Verdict,
    facts::Facts,
    failure::Present,
    rules::{Phrase, Rank},
    tables,
};
use crate::{ApiError, ErrorKind, RetryHint, error::Field, hint, wall_clock::WallClock};

/// A response as far as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) in_memory: bool,
    pub(crate) clock: &'a WallClock,
}

/// What an event of a stream is.
#[derive(Debug)]
pub(crate) enum Success {
    /// Nothing yet: the stream is open, the answer has not begun.
    Preamble,
    /// Something of an answer.
    Content,
    /// A failure.
    Failed(ApiError),
}

pub(crate) fn judge_head(status: StatusCode, headers: &HeaderMap) -> Option<ApiError> {
    if status.as_u16() < 400 {
        return None;
    }
    if Present::of(headers).is_empty() {
        // The status alone decides, which takes a tenth of the rules' time.
        let kind = tables::by_status(status);
        let passes = tables::passes(status).unwrap_or_else(|| kind.passes());
        let retry = if passes { RetryHint::Backoff } else { RetryHint::Never };
        return Some(ApiError::of_status(status, kind, retry));
    }
    Some(judge(&Generic, Reply { status, headers, body: &[], in_memory: false, clock: &WallClock::default() }))
}

/// A failed response.
pub(crate) fn judge(provider: &dyn Provider, reply: Reply<'_>) -> ApiError {
    let Reply { status, headers, body, .. } = reply;
    report(provider, reply, Failure::new(status, headers, body, Facts::of(body)))
}

/// A response of status 200, in which a failure may be. `incomplete`: half an answer is one, too.
pub(crate) fn judge_success(provider: &dyn Provider, reply: Reply<'_>, incomplete: bool) -> Option<ApiError> {
    let facts = Facts::of(reply.body);
    let known = facts.object.as_deref().is_some_and(|object| matches!(object, "response" | "thread.run" | "batch"));
    let ended = match facts.state.as_deref() {
        Some("failed" | "expired") => known,
        Some("incomplete") => known && incomplete,
        _ => false,
    };
    let nested = facts.nested_status.is_some_and(|status| status >= 400);
    // A list of errors may stand beside a result, as in GraphQL.
    let failed = ended || nested || (facts.has_error() && !facts.from_list);
    failed.then(|| inside(provider, reply, facts))
}

/// An event of a stream, by its name and its data.
pub(crate) fn judge_event(provider: &dyn Provider, reply: Reply<'_>, name: &str) -> Success {
    let facts = Facts::of(reply.body);
    let named = facts.top.error_type.as_deref().unwrap_or(name);
    let failed = [named, name].iter().any(|name| matches!(*name, "error" | "response.failed"));
    if failed || (facts.has_error() && !facts.from_list) {
        return Success::Failed(inside(provider, reply, facts));
    }
    match named {
        "response.created" | "response.queued" | "response.in_progress" | "message_start" | "ping" => Success::Preamble,
        _ => Success::Content,
    }
}

/// A failure inside a success: its status is the one it names itself.
fn inside(provider: &dyn Provider, reply: Reply<'_>, facts: Facts<'_>) -> ApiError {
    let number = facts.error.number.or(facts.top.number).and_then(|number| u16::try_from(number).ok());
    let expired = (facts.state.as_deref() == Some("expired")).then_some(504);
    let own = facts.nested_status.or(number).filter(|status| (400..600).contains(status));
    let status = own.or(expired).and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(reply.status);
    report(provider, reply, Failure::new(status, reply.headers, reply.body, facts))
}

fn report(provider: &dyn Provider, reply: Reply<'_>, failure: Failure<'_>) -> ApiError {
    let Decision { verdict, by } = decide(provider, &failure);
    let facts = &failure.facts;
    let passes =
        should_retry(&failure).or(verdict.may_succeed).or_else(|| tables::passes(failure.status)).unwrap_or_else(
            || verdict.kind.passes() || (verdict.kind == ErrorKind::Unknown && failure.status.is_success()),
        );
    let retry = if passes {
        let wait = verdict.wait.or_else(|| wait(&failure, verdict.kind, reply.clock)).or(verdict.otherwise);
        wait.map_or(RetryHint::Backoff, RetryHint::After)
    } else {
        RetryHint::Never
    };
    // Google's reason is the code where it is what decided; else its status word says as much.
    let reason = by.filter(|by| facts.reason.as_deref() == Some(by)).map(Cow::Borrowed);
    let aws = || failure.aws_header().map(Cow::Borrowed);
    let code = verdict.code.as_deref().map(Cow::Borrowed).or(reason).or_else(aws).or_else(|| facts.code());
    ApiError::of_response(
        reply.status,
        verdict.kind,
        retry,
        reply.in_memory,
        &[
            (Field::Code, code.as_deref()),
            (Field::Type, facts.error_type()),
            (Field::Param, facts.param()),
            (Field::Message, verdict.message.as_deref().or(facts.message())),
            (Field::RequestId, request_id(&failure)),
        ],
    )
}

struct Decision<'a> {
    verdict: Verdict,
    /// The identifier that decided, whatever the status.
    by: Option<&'a str>,
}

impl From<Verdict> for Decision<'_> {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, by: None }
    }
}

fn decide<'a>(provider: &dyn Provider, failure: &'a Failure<'_>) -> Decision<'a> {
    if let Some(verdict) = provider.judge(failure) {
        return verdict.into();
    }
    let (status, facts) = (failure.status, &failure.facts);
    let own_status = || provider.statuses().iter().find(|rule| rule.status == status.as_u16()).map(|rule| rule.kind);
    if facts.per_day || facts.zero_quota {
        return Verdict::new(ErrorKind::QuotaExhausted).into();
    }
    if facts.flagged && status == StatusCode::FORBIDDEN {
        return Verdict::new(ErrorKind::ContentPolicy).into();
    }
    let found = best_code(provider, failure);
    if let Some((code, by)) = found
        && code.rank == Rank::Exact
    {
        return Decision { verdict: verdict_of(code), by: Some(by) };
    }
    if status == StatusCode::PAYMENT_REQUIRED {
        return Verdict::new(own_status().unwrap_or(ErrorKind::QuotaExhausted)).into();
    }
    if let Some(message) = facts.message().map(str::trim_start) {
        let fits = |phrase: &&Phrase| phrase.fits(message);
        if let Some(phrase) = provider.phrases().iter().find(fits).or_else(|| tables::PHRASES.iter().find(fits)) {
            return Verdict::new(phrase.kind).into();
        }
    }
    match found {
        Some((code, _)) if code.rank == Rank::Overload => return verdict_of(code).into(),
        // "Too large" and "who are you" are not made a matter of time by an identifier of rate limits.
        Some((code, _)) if code.rank == Rank::Rate && !matches!(status.as_u16(), 401 | 404 | 413) => {
            return verdict_of(code).into();
        }
        _ => {}
    }
    if let Some(kind) = own_status() {
        return Verdict::new(kind).into();
    }
    match found {
        Some((code, _)) if code.rank == Rank::Vague && (status == 400 || status.is_success()) => {
            verdict_of(code).into()
        }
        _ => Verdict::new(tables::by_status(status)).into(),
    }
}

fn verdict_of(code: Code) -> Verdict {
    let verdict = Verdict::new(code.kind);
    if code.never { verdict.never() } else { verdict }
}

/// The identifier that is asked first; of two the same, the more telling.
fn best_code<'a>(provider: &dyn Provider, failure: &'a Failure<'_>) -> Option<(Code, &'a str)> {
    let facts = &failure.facts;
    let mut best: Option<(Code, &str)> = None;
    for id in failure.ids() {
        let own = provider.codes().iter().filter(|code| code.id == id);
        let Some(code) = own.chain(tables::codes(id)).find(|code| code.holds(failure.status)) else { continue };
        // A run's "invalid_prompt" says only that it is invalid; its message may say more.
        let code = if facts.from_run && code.id == "invalid_prompt" {
            Code::new(code.id, ErrorKind::InvalidRequest)
        } else {
            *code
        };
        if best.is_none_or(|(best, _)| code.rank < best.rank) {
            best = Some((code, id));
        }
    }
    best
}

/// The server's own word on whether to send again: it overrules every rule, but not what the failure is.
fn should_retry(failure: &Failure<'_>) -> Option<bool> {
    if !failure.present.has(Present::SHOULD_RETRY) {
        return None;
    }
    ["x-should-retry", "stripe-should-retry"].iter().find_map(|name| match failure.header(name)? {
        word if word.eq_ignore_ascii_case("true") => Some(true),
        word if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    })
}

/// How long to wait, the most certain source first.
fn wait(failure: &Failure<'_>, kind: ErrorKind, clock: &WallClock) -> Option<Duration> {
    let (headers, facts) = (failure.headers, &failure.facts);
    let now = || clock.now();
    let present = failure.present;
    let header = present.has(Present::RETRY_AFTER).then(|| hint::retry_after(headers, now)).flatten();
    let said = header
        .or(facts.retry_delay)
        .or(facts.reset_delay)
        .or_else(|| hint::when(facts.reset.as_deref()?, || hint::server_now(headers, now)));
    if said.is_some() {
        return said;
    }
    let limited = kind == ErrorKind::RateLimit;
    let prose = limited || matches!(kind, ErrorKind::Overloaded | ErrorKind::Unavailable);
    let told = facts.message().filter(|_| prose).and_then(hint::in_message);
    // The draft has `RateLimit` on a 503 too; of the others only a rate limit says that it was the limit.
    let draft =
        || hint::ietf_rate_limit(headers).filter(|_| limited || failure.status == StatusCode::SERVICE_UNAVAILABLE);
    if told.is_some() || !present.has(Present::LIMITS) {
        return told;
    }
    draft().or_else(|| hint::exhausted_reset(headers, now).filter(|_| limited))
}

/// Where APIs put the id of a request.
const REQUEST_IDS: [&str; 7] = [
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-github-request-id",
    "x-oai-request-id",
    "cf-ray",
];

fn request_id<'a>(failure: &'a Failure<'_>) -> Option<&'a str> {
    // The body's own is the API's; a header may be a proxy's.
    if let Some(id) = failure.facts.request_id.as_deref() {
        return Some(id);
    }
    if !failure.present.has(Present::REQUEST_ID) {
        return None;
    }
    // One walk costs less than a look-up for each name.
    let place = |name: &str| REQUEST_IDS.iter().position(|id| *id == name);
    let ids = failure.headers.iter().filter_map(|(name, value)| Some((place(name.as_str())?, value)));
    let (_, id) = ids.min_by_key(|(place, _)| *place)?;
    id.to_str().ok().map(str::trim).filter(|id| !id.is_empty())
}
