//! The answer to a call, once the gate has decided.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{
    body::{MockBody, MockError, MockErrorKind},
    faults::{Fate, Fault},
    headers,
    refusal::Refusal,
    reply::{self, Reply},
    routes::Ask,
};

/// What became of a call at the gate, and all that its answer is made of: making it needs the gate no more.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(super) ask: Option<Ask>,
    pub(super) refusal: Option<Refusal>,
    pub(super) fault: Option<Fault>,
    pub(super) headers: HeaderMap,
    pub(super) at: Duration,
    /// Where the answer lists them.
    pub(super) models: Vec<String>,
    pub(super) needs_date: bool,
}

/// What happens to the call, and how long after it reached the gate.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) wait: Duration,
    pub(crate) result: Result<Response<MockBody>, MockError>,
}

/// The time that an answer bears: seconds since a fixed day, so that equal runs give equal answers.
fn created(at: Duration) -> u64 {
    headers::EPOCH.saturating_add(at).as_secs()
}

const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Judged {
    /// The answer, which may be large: 2,048 embeddings of 4,096 numbers.
    pub(crate) fn decision(self, fate: &Fate) -> Decision {
        let reply = match (&self.ask, &self.refusal) {
            (Some(ask), None) => Some(reply::answer(&self.models, ask, fate, created(self.at))),
            _ => None,
        };
        let mut decision = finish(fate, self.fault, reply, self.refusal, self.headers);
        if let (true, Ok(response)) = (self.needs_date, &mut decision.result) {
            // A date has four digits for its year, and a latency may be anything.
            headers::date(response.headers_mut(), self.at.saturating_add(decision.wait).min(CENTURY));
        }
        decision
    }
}

impl Fault {
    /// What it makes of an answer, where that is another answer.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::ServerError => Some(Refusal::server_error()),
            Self::BadGateway => Some(Refusal::bad_gateway()),
            Self::Unavailable => Some(Refusal::overloaded()),
            Self::Dropped | Self::Cut | Self::Truncated => None,
        }
    }
}

/// Puts the response together, or breaks it as the fault has it.
fn finish(
    fate: &Fate,
    fault: Option<Fault>,
    reply: Option<Reply>,
    refusal: Option<Refusal>,
    limits: HeaderMap,
) -> Decision {
    let worked = fate.service.saturating_add(fate.down);
    if fault == Some(Fault::Dropped) {
        return Decision { wait: worked, result: Err(MockErrorKind::Reset.into()) };
    }
    let refusal = fault.and_then(Fault::refusal).or(refusal);
    let (status, content_type, mut body, wait, allow) = match (refusal, reply) {
        (Some(refusal), _) => {
            let wait = if fault.is_some() { worked } else { fate.down };
            (refusal.status, refusal.content_type, MockBody::whole(refusal.body), wait, refusal.allow)
        }
        (None, Some(reply)) => {
            (StatusCode::OK, reply.content_type, reply.body, reply.wait.saturating_add(fate.down), None)
        }
        (None, None) => (StatusCode::OK, "application/json", MockBody::default(), fate.down, None),
    };
    let mut length = body.length();
    let broken = match fault {
        Some(Fault::Cut) => Some(MockErrorKind::Reset),
        Some(Fault::Truncated) => Some(MockErrorKind::Truncated),
        _ => None,
    };
    if let Some(how) = broken {
        let announced = length;
        let (half, whole) = body.broken(how);
        body = half;
        length = announced.map(|_| whole);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    *headers = limits;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Some(method) = allow {
        headers::insert(headers, ALLOW, method.as_str());
    }
    headers::insert(headers, HeaderName::from_static("x-request-id"), &format!("req_{:032x}", fate.id));
    let ms = u64::try_from(fate.service.as_millis()).unwrap_or(u64::MAX);
    headers.insert(HeaderName::from_static("openai-processing-ms"), ms.into());
    headers.insert(HeaderName::from_static("openai-version"), HeaderValue::from_static("2020-10-01"));
    Decision { wait, result: Ok(response) }
}
