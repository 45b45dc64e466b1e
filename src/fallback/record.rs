//! [`Recorder`]: the copy of one good answer, on its way to the caller.

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::last_good::{Head, Key, LastGood};
use crate::body::media::{Media, is_compressed};
#[cfg(feature = "error-classify")]
use crate::error_classify::StreamErrors;

/// The copy of one response, on its way.
pub(super) struct Recorder {
    key: Key,
    head: Head,
    /// Copied, and not held: a chunk may be a corner of a connection's large buffer.
    body: Vec<u8>,
    to: LastGood,
    #[cfg(feature = "error-classify")]
    errors: Option<StreamErrors>,
}

impl Recorder {
    pub(super) fn new<RB>(key: Key, head: Head, response: &Response<RB>, to: LastGood) -> Self {
        #[cfg(feature = "error-classify")]
        let errors = response.extensions().get().cloned();
        #[cfg(not(feature = "error-classify"))]
        let _ = response;
        Self {
            key,
            head,
            body: Vec::new(),
            to,
            #[cfg(feature = "error-classify")]
            errors,
        }
    }

    /// Whether there was room for it.
    pub(super) fn push(&mut self, chunk: &Bytes) -> bool {
        if self.body.len().saturating_add(chunk.len()) > self.to.most() {
            return false;
        }
        self.body.extend_from_slice(chunk);
        true
    }

    pub(super) fn store(self) {
        if !self.told_of_an_error() {
            self.to.keep(self.key, self.head, self.body);
        }
    }

    /// Whether it is an event stream in which the server gave up.
    fn told_of_an_error(&self) -> bool {
        #[cfg(feature = "error-classify")]
        if self.errors.as_ref().is_some_and(|errors| errors.count() > 0) {
            return true;
        }
        let headers = &self.head.headers;
        Media::of(headers) == Some(Media::Events) && !is_compressed(headers) && has_error(&self.body)
    }
}

/// Whether an event of the stream is an error. Those that say so have it on one line.
fn has_error(stream: &[u8]) -> bool {
    let is_failed = |name: &str| matches!(name, "error" | "response.failed");
    stream.split(|byte| matches!(byte, b'\n' | b'\r')).any(|line| {
        let Ok(line) = std::str::from_utf8(line) else { return false };
        if let Some(name) = line.strip_prefix("event:") {
            return is_failed(name.trim());
        }
        let Some(data) = line.strip_prefix("data:").filter(|data| data.contains("error") || data.contains("failed"))
        else {
            return false;
        };
        let Ok(data) = serde_json::from_str::<Value>(data) else { return false };
        data.get("error").is_some_and(|error| !error.is_null())
            || data.get("type").and_then(Value::as_str).is_some_and(is_failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_a_stream_is_found_and_the_word_in_an_answer_is_none() {
        for (stream, expected) in [
            ("data: {\"error\":{\"message\":\"overloaded\"}}\n\n", true),
            ("data: {\"a\":1}\n\nevent: error\ndata: no more\n\n", true),
            ("event: response.failed\r\ndata: {}\r\n\r\n", true),
            ("data: {\"type\":\"error\",\"code\":\"x\"}\n\n", true),
            ("data: {\"error\":null,\"text\":\"fine\"}\n\ndata: [DONE]\n\n", false),
            ("data: {\"text\":\"an \\\"error\\\" of mine\"}\n\n", false),
            ("event: done\ndata: {\"text\":\"response.failed\"}\n\n", false),
        ] {
            assert_eq!(has_error(stream.as_bytes()), expected, "{stream}");
        }
    }
}
