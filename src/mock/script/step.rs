//! One answer of a script.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
};

use super::{
    super::body::{MockBody, MockError, MockErrorKind},
    Sent,
};

/// One answer of a [`Script`](super::Script): made by [`status`], [`ok`], [`dropped`], [`never()`] or [`answer`], and
/// refined by its methods.
#[derive(Clone, Debug)]
#[must_use = "a step does nothing until a script has it"]
pub struct Step {
    kind: Kind,
    delay: Duration,
}

#[derive(Clone)]
enum Kind {
    Respond(Box<Plan>),
    Dropped,
    Never,
    Answer(Arc<dyn Fn(&Sent) -> Step + Send + Sync>),
}

#[derive(Clone, Debug)]
struct Plan {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    broken: Option<MockErrorKind>,
    /// What was asked for and cannot be.
    problem: Option<String>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Respond(plan) => plan.fmt(f),
            Self::Dropped => f.write_str("Dropped"),
            Self::Never => f.write_str("Never"),
            Self::Answer(_) => f.write_str("Answer(..)"),
        }
    }
}

/// Answers with this status and an empty body.
///
/// A number that is no status makes the call fail with [`MockErrorKind::BadScript`].
pub fn status(status: u16) -> Step {
    let (status, problem) = match StatusCode::from_u16(status) {
        Ok(status) => (status, None),
        Err(_) => (StatusCode::OK, Some(format!("{status} is no status"))),
    };
    let plan = Plan { status, headers: HeaderMap::new(), body: Bytes::new(), broken: None, problem };
    Step { kind: Kind::Respond(Box::new(plan)), delay: Duration::ZERO }
}

/// Answers 200 with this body.
pub fn ok(body: impl Into<Bytes>) -> Step {
    status(200).body(body)
}

/// Drops the connection before the head of the response.
pub fn dropped() -> Step {
    Step { kind: Kind::Dropped, delay: Duration::ZERO }
}

/// Never answers.
pub fn never() -> Step {
    Step { kind: Kind::Never, delay: Duration::ZERO }
}

/// Answers as the function says, which is shown the request, body included.
///
/// ```
/// use tower_outbound::mock::{Script, answer, ok, status};
///
/// let script = Script::new().otherwise(answer(|sent| match sent.header("authorization") {
///     Some("Bearer sk-good") => ok("welcome"),
///     _ => status(401),
/// }));
/// ```
pub fn answer(with: impl Fn(&Sent) -> Step + Send + Sync + 'static) -> Step {
    Step { kind: Kind::Answer(Arc::new(with)), delay: Duration::ZERO }
}

impl Step {
    /// Changes the response, if it is one: a dropped connection has neither head nor body.
    fn plan(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        if let Kind::Respond(plan) = &mut self.kind {
            change(plan);
        }
        self
    }

    /// With this header, added to those of the same name.
    pub fn header(self, name: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        self.plan(|plan| match (HeaderName::try_from(name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(value)) => {
                plan.headers.append(name, value);
            }
            _ => plan.problem = Some(format!("{name}: {value} is no header")),
        })
    }

    /// With `Retry-After`: seconds, or anything else to be found out.
    pub fn retry_after(self, value: impl fmt::Display) -> Self {
        self.header(RETRY_AFTER.as_str(), value)
    }

    /// With `retry-after-ms`.
    pub fn retry_after_ms(self, value: impl fmt::Display) -> Self {
        self.header("retry-after-ms", value)
    }

    /// With this body.
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        self.plan(|plan| plan.body = body)
    }

    /// With this body and `Content-Type: application/json`.
    pub fn json(self, body: &serde_json::Value) -> Self {
        self.body(body.to_string()).plan(|plan| {
            plan.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        })
    }

    /// The connection is reset in the middle of the body.
    pub fn cut(self) -> Self {
        self.plan(|plan| plan.broken = Some(MockErrorKind::Reset))
    }

    /// The body ends half way to its `Content-Length`.
    pub fn truncated(self) -> Self {
        self.plan(|plan| plan.broken = Some(MockErrorKind::Truncated))
    }

    /// Not before this time has passed since the call.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Settles what a function decides, and what all of it waits.
    pub(in crate::mock) fn settle(self, sent: &Sent) -> Self {
        let mut step = self;
        // A function may answer with another function; it is not followed forever.
        for _ in 0..16 {
            let Kind::Answer(with) = &step.kind else { return step };
            let next = with(sent);
            step = Self { delay: step.delay.saturating_add(next.delay), ..next };
        }
        step.kind = status(500).kind;
        step.plan(|plan| plan.problem = Some("functions that answer with functions, without end".into()))
    }

    pub(in crate::mock) fn wait(&self) -> Duration {
        self.delay
    }

    /// What comes back; `None` for an answer that never comes.
    pub(in crate::mock) fn result(self) -> Option<Result<Response<MockBody>, MockError>> {
        match self.kind {
            Kind::Respond(plan) => Some(plan.response()),
            Kind::Dropped => Some(Err(MockErrorKind::Reset.into())),
            // Answers are settled before this.
            Kind::Never | Kind::Answer(_) => None,
        }
    }
}

impl Plan {
    fn response(self) -> Result<Response<MockBody>, MockError> {
        if let Some(problem) = self.problem {
            return Err(MockError::new(MockErrorKind::BadScript, problem));
        }
        let mut body = MockBody::whole(self.body);
        let mut length = body.length();
        if let Some(how) = self.broken {
            let (half, whole) = body.broken(how);
            body = half;
            // At least one byte is missing.
            length = Some(whole.max(1));
        }
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let bodiless = self.status.is_informational() || self.status == StatusCode::NO_CONTENT;
        if let (Some(length), false) = (length, bodiless) {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        Ok(response)
    }
}
