//! What a failure means: [`ApiError`], [`ErrorKind`] and [`RetryHint`].

mod kind;
mod mask;
mod show;
mod text;
mod transport;

use std::{error::Error, fmt, sync::Arc};

use http::{Extensions, HeaderMap, Response, StatusCode};
use tower::BoxError;

pub use kind::{ErrorKind, RetryHint};
#[cfg(feature = "reqwest")]
pub(crate) use mask::shows_key;
#[cfg(feature = "fallback")]
pub(crate) use mask::tells_callers_apart;
pub(crate) use text::Field;
use text::Text;

/// A failed call: what the server or the transport said, in one vocabulary.
///
/// `ErrorClassify` puts it into the extensions of every failed response; [`from_error`](Self::from_error) makes one of
/// a transport error, [`from_head`](Self::from_head) of a response nobody classified. A clone is one reference count.
///
/// It never shows a key: what looks like one in the server's words is masked in all that can be got out of it,
/// [`message`](Self::message), `Display` and `Debug` alike.
///
/// ```
/// use std::time::Duration;
/// use http::StatusCode;
/// use tower_outbound::{ApiError, ErrorKind, RetryHint};
///
/// let error = ApiError::new(ErrorKind::RateLimit, RetryHint::After(Duration::from_millis(9816)))
///     .with_status(StatusCode::TOO_MANY_REQUESTS)
///     .with_error_type("tokens")
///     .with_request_id("req_abc");
/// assert_eq!(error.to_string(), "429 rate limit (tokens): wait 9.8 s · req_abc");
/// ```
#[derive(Clone)]
pub struct ApiError {
    status: Option<StatusCode>,
    kind: ErrorKind,
    retry: RetryHint,
    body_in_memory: bool,
    may_have_reached_server: bool,
    /// `None` where a status is all there is.
    words: Option<Arc<Words>>,
}

#[derive(Clone, Default)]
struct Words {
    text: Text,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// A failure of this kind, of which nothing else is known yet.
    #[must_use]
    pub fn new(kind: ErrorKind, retry: RetryHint) -> Self {
        let words = Some(Arc::default());
        Self { status: None, kind, retry, body_in_memory: false, may_have_reached_server: true, words }
    }

    /// What the head of a response says, judged as `Generic` judges it: for responses that no `ErrorClassify` has read.
    ///
    /// `None` where the status is no failure.
    #[must_use]
    pub fn from_head(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        crate::provider::judge_head(status, headers)
    }

    /// What a response carries, or else what its head says; `None` for a good one.
    #[must_use]
    #[inline]
    pub fn of<B>(response: &Response<B>) -> Option<Self> {
        // Asked of every answer, and mostly a good one of which nobody has said anything.
        if response.status().as_u16() < 400 && response.extensions().is_empty() {
            return None;
        }
        Self::of_head(response.status(), response.headers(), response.extensions())
    }

    #[inline(never)]
    fn of_head(status: StatusCode, headers: &HeaderMap, extensions: &Extensions) -> Option<Self> {
        match extensions.get::<Self>() {
            Some(error) => Some(error.clone()),
            None if status.as_u16() < 400 => None,
            None => Self::from_head(status, headers),
        }
    }

    /// With the status of the response.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// With the provider's own code, such as `rate_limit_exceeded`.
    #[must_use]
    pub fn with_code(self, code: &str) -> Self {
        self.with_text(Field::Code, code)
    }

    /// With the provider's own type, such as `tokens`.
    #[must_use]
    pub fn with_error_type(self, error_type: &str) -> Self {
        self.with_text(Field::Type, error_type)
    }

    /// With the parameter that the provider complains of.
    #[must_use]
    pub fn with_param(self, param: &str) -> Self {
        self.with_text(Field::Param, param)
    }

    /// With the provider's words. What looks like a key in them is masked.
    #[must_use]
    pub fn with_message(self, message: &str) -> Self {
        self.with_text(Field::Message, message)
    }

    /// With the provider's id of the request.
    #[must_use]
    pub fn with_request_id(self, id: &str) -> Self {
        self.with_text(Field::RequestId, id)
    }

    /// With the cause that [`Error::source`] then gives.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.words().source = Some(Arc::from(source.into()));
        self
    }

    /// With whether the response's body is whole in memory.
    #[must_use]
    pub fn with_body_in_memory(mut self, in_memory: bool) -> Self {
        self.body_in_memory = in_memory;
        self
    }

    /// With whether the request can have reached the server; it is taken to, if nothing else is said.
    #[must_use]
    pub fn with_may_have_reached_server(mut self, reached: bool) -> Self {
        self.may_have_reached_server = reached;
        self
    }

    fn with_text(mut self, field: Field, text: &str) -> Self {
        self.words().text.set(field, text);
        self
    }

    /// Of a response that was not read: without an allocation.
    #[inline]
    pub(crate) fn of_status(status: StatusCode, kind: ErrorKind, retry: RetryHint) -> Self {
        let status = Some(status);
        Self { status, kind, retry, body_in_memory: false, may_have_reached_server: true, words: None }
    }

    /// Of a response that was read, all at once: two allocations.
    pub(crate) fn of_response(
        status: StatusCode,
        kind: ErrorKind,
        retry: RetryHint,
        body_in_memory: bool,
        texts: &[(Field, Option<&str>)],
    ) -> Self {
        let words = Arc::new(Words { text: Text::of(texts), source: None });
        Self { body_in_memory, words: Some(words), ..Self::of_status(status, kind, retry) }
    }

    /// Whether the one is a clone of the other, and no other failure of the same kind. Not known of those that are a status alone.
    #[cfg(feature = "key-check")]
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.words.as_ref().zip(other.words.as_ref()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Without the cause, and what it says.
    #[cfg(feature = "key-check")]
    pub(crate) fn without_source(mut self) -> Self {
        if self.words.is_some() {
            self.words().source = None;
        }
        self
    }

    fn words(&mut self) -> &mut Words {
        Arc::make_mut(self.words.get_or_insert_default())
    }

    fn text(&self, field: Field) -> Option<&str> {
        self.words.as_ref()?.text.get(field)
    }

    /// The status of the response; `None` for a transport error.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.status
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether and when the same request may succeed.
    #[must_use]
    pub fn retry(&self) -> RetryHint {
        self.retry
    }

    /// The provider's own code: `rate_limit_exceeded`, `RESOURCE_EXHAUSTED`, `ThrottlingException`, `402`.
    ///
    /// Where its errors have no `code`, the `type` is given: that is where Anthropic and Stripe put it.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.text(Field::Code)
    }

    /// The provider's own type: `insufficient_quota`, `tokens`, `invalid_request_error`.
    #[must_use]
    pub fn error_type(&self) -> Option<&str> {
        self.text(Field::Type)
    }

    /// The parameter that the provider complains of: `messages`, `temperature`.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.text(Field::Param)
    }

    /// The provider's words, at most 2 KiB of them, with what looks like a key masked. They may echo the request.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.text(Field::Message)
    }

    /// The provider's id of the request, for its support.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.text(Field::RequestId)
    }

    /// Whether the response's body is whole in memory, so that keeping the response keeps no connection.
    #[must_use]
    pub fn body_in_memory(&self) -> bool {
        self.body_in_memory
    }

    /// Whether the request can have reached the server, which then may have acted on it and counted it.
    ///
    /// `false` only where that is certain: the connection was never made, or the server says that it did not look.
    #[must_use]
    pub fn may_have_reached_server(&self) -> bool {
        self.may_have_reached_server
    }
}

impl ApiError {
    /// Whether the request may have been acted on, so that sending it again may act twice.
    ///
    /// `false` where it cannot have reached the server, and where the answer says that the server turned it away: over a
    /// limit, without a sound key, malformed, at the wrong moment (408, 409, 425).
    #[must_use]
    pub fn may_have_been_processed(&self) -> bool {
        let is_turned_away = match self.kind() {
            ErrorKind::Server | ErrorKind::Unavailable | ErrorKind::Unknown => false,
            ErrorKind::Timeout => self.status() == Some(StatusCode::REQUEST_TIMEOUT),
            _ => true,
        };
        // Too Early: the server would not look at it yet (RFC 8470).
        let is_too_early = self.status() == Some(StatusCode::TOO_EARLY);
        self.may_have_reached_server() && !is_turned_away && !is_too_early
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("status", &self.status)
            .field("kind", &self.kind)
            .field("retry", &self.retry)
            .field("code", &self.code())
            .field("error_type", &self.error_type())
            .field("param", &self.param())
            .field("message", &self.message())
            .field("request_id", &self.request_id())
            .field("body_in_memory", &self.body_in_memory)
            .field("may_have_reached_server", &self.may_have_reached_server)
            .finish_non_exhaustive()
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.words.as_ref()?.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// How many causes are looked at; a chain that is longer, or that closes on itself, ends here.
const MAX_CAUSES: usize = 64;

/// The outermost cause of type `T` in an error's chain of sources, the error itself included.
///
/// What an `std::io::Error` was made of is looked at as well, which its `source` would skip.
#[must_use]
pub fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref::<T>())
}

/// An error and its causes, outermost first.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
    .take(MAX_CAUSES)
}

/// The failure of a call, read alike from both arms: a failed response's [`ApiError`], or the error as one.
///
/// A response that nobody classified is judged by its head; `None` is a success.
///
/// ```
/// use http::Response;
/// use tower::BoxError;
/// use tower_outbound::{ErrorKind, failure};
///
/// let response: Result<_, BoxError> = Ok(Response::builder().status(503).body(()).unwrap());
/// assert_eq!(failure(&response).unwrap().kind(), ErrorKind::Unavailable);
/// ```
#[must_use]
#[inline]
pub fn failure<B>(result: &Result<Response<B>, BoxError>) -> Option<ApiError> {
    match result {
        Ok(response) => ApiError::of(response),
        Err(error) => Some(ApiError::from_error(&**error)),
    }
}

#[cfg(test)]
mod tests;
