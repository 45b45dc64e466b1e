//! [`Sent`]: a request as the script saw it.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

/// A request as the script saw it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Sent {
    /// When it was sent, counted from the first one.
    pub at: Duration,
    /// When it was answered, or the connection dropped; `None` where it was not, or not yet.
    pub answered: Option<Duration>,
    /// Its method.
    pub method: Method,
    /// Its URI.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; of one larger than 1 MiB nothing is kept, and the call fails.
    pub body: Bytes,
}

impl Sent {
    /// A request that is sent at once, before its body is read.
    pub(in crate::mock) fn of<B>(request: &http::Request<B>) -> Self {
        Self {
            at: Duration::ZERO,
            answered: None,
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            body: Bytes::new(),
        }
    }

    /// The first value of this header, where it is readable text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body as JSON, if it is that.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Without the values of headers: one may be a key.
impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("at", &self.at)
            .field("answered", &self.answered)
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body", &Shown(&self.body))
            .finish()
    }
}

/// The beginning of a body, for people.
#[derive(PartialEq)]
pub(super) struct Shown<'a>(pub(super) &'a [u8]);

/// As much of a body is shown.
const MAX_SHOWN: usize = 500;

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(start) = self.0.get(..MAX_SHOWN).filter(|start| start.len() < self.0.len()) else {
            return String::from_utf8_lossy(self.0).fmt(f);
        };
        // Cut in the middle of a letter, it ends before it.
        let whole = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let start = if whole.len() + 4 > start.len() { whole.into() } else { String::from_utf8_lossy(start) };
        write!(f, "\"{}…\" ({} bytes)", start.escape_debug(), self.0.len())
    }
}
