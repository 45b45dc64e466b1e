//! The look at an event stream, before it is handed on and as it passes.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, StatusCode, response::Parts};

use super::{layer::Settings, sse::Events};
use crate::{
    ApiError,
    body::peek::Look,
    provider::{Choice, Reply, Success, judge_event},
};

/// The failures that an event stream told of after it had begun, in the extensions of its response.
///
/// Keep a clone, read the stream to its end, and ask. A stream that ends without its last event and with an error here was not whole.
#[derive(Clone, Default)]
pub struct StreamErrors(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    first: Option<ApiError>,
    count: usize,
    /// What takes the key out of an error that shows it.
    #[cfg(feature = "key-check")]
    conceal: Option<Box<Conceal>>,
}

/// The same error without the key; `None` if it shows none.
#[cfg(feature = "key-check")]
type Conceal = dyn Fn(&ApiError) -> Option<ApiError> + Send + Sync;

impl Seen {
    fn concealed(&self, error: ApiError) -> ApiError {
        #[cfg(feature = "key-check")]
        if let Some(concealed) = self.conceal.as_ref().and_then(|conceal| conceal(&error)) {
            return concealed;
        }
        error
    }
}

impl StreamErrors {
    fn report(&self, error: ApiError) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.count = seen.count.saturating_add(1);
        // The first is why it broke; what follows is mostly the same again.
        if seen.first.is_none() {
            seen.first = Some(seen.concealed(error));
        }
    }

    /// Takes the key out of what has been told, and of what will be.
    #[cfg(feature = "key-check")]
    pub(crate) fn conceal(&self, conceal: impl Fn(&ApiError) -> Option<ApiError> + Send + Sync + 'static) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.conceal = Some(Box::new(conceal));
        if let Some(first) = seen.first.take() {
            seen.first = Some(seen.concealed(first));
        }
    }

    /// The first of them, if any has passed so far.
    #[must_use]
    pub fn first(&self) -> Option<ApiError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first.clone()
    }

    /// How many have passed so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}

impl fmt::Debug for StreamErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamErrors").field("count", &self.count()).field("first", &self.first()).finish()
    }
}

/// What rides along with a body that is read: its head until it is handed on, and the look at a stream.
///
/// It lives in the body's box, so that the future of a call that succeeds has room for neither.
pub(super) struct Watch {
    pub(super) parts: Option<Parts>,
    pub(super) stream: Option<Box<Stream>>,
}

impl Look for Watch {
    fn data(&mut self, data: &[u8]) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let mut events = std::mem::take(&mut stream.events);
        events.feed(data, |name, data| stream.event(name, data));
        stream.events = events;
        stream.begun
    }

    fn end(&mut self) {
        if let Some(stream) = &mut self.stream {
            let mut events = std::mem::take(&mut stream.events);
            events.end(|name, data| stream.event(name, data));
        }
    }
}

pub(super) struct Stream {
    events: Events,
    settings: Arc<Settings>,
    choice: Choice,
    status: StatusCode,
    errors: StreamErrors,
    /// Whether the answer has begun, or its failure is known.
    begun: bool,
    /// Whether the response has been handed on.
    passing: bool,
    failure: Option<ApiError>,
}

impl Stream {
    pub(super) fn new(settings: Arc<Settings>, choice: Choice, status: StatusCode, errors: StreamErrors) -> Self {
        let events = Events::default();
        Self { events, settings, choice, status, errors, begun: false, passing: false, failure: None }
    }

    /// Ends the look before the response is handed on, with the failure that it found.
    pub(super) fn hand_on(&mut self) -> Option<ApiError> {
        self.passing = true;
        self.failure.take()
    }

    fn event(&mut self, name: &[u8], data: &[u8]) {
        // Once the answer flows, events are many and errors rare: most are told by a glance.
        if self.begun && !may_be_error(name, data) {
            return;
        }
        let name = std::str::from_utf8(name).unwrap_or_default();
        let headers = HeaderMap::new();
        let reply =
            Reply { status: self.status, headers: &headers, body: data, in_memory: false, clock: &self.settings.clock };
        match judge_event(self.settings.providers.get(self.choice), reply, name) {
            Success::Preamble => {}
            Success::Content => self.begun = true,
            // A failure after the answer has begun, in one piece with its beginning, is as late as any other.
            Success::Failed(error) if self.begun || self.passing => self.errors.report(error),
            Success::Failed(error) => {
                self.begun = true;
                self.failure = Some(error);
            }
        }
    }
}

fn may_be_error(name: &[u8], data: &[u8]) -> bool {
    const SIGNS: [&[u8]; 2] = [b"\"error\"", b"response.failed"];
    matches!(name, b"error" | b"response.failed")
        || SIGNS.iter().any(|sign| data.windows(sign.len()).any(|window| window == *sign))
}
