//! What bodies are made of, by their heads.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};

/// What a body is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Events,
}

impl Media {
    /// By `content-type`; `None` for all else.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::named(content_type(headers)?)
    }

    fn named(kind: &HeaderValue) -> Option<Self> {
        let kind = kind.to_str().ok()?;
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let ends = |end: &str| {
            let start = kind.len().checked_sub(end.len());
            start.and_then(|start| kind.get(start..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
        };
        if kind.eq_ignore_ascii_case("text/event-stream") {
            Some(Self::Events)
        } else {
            (ends("/json") || ends("+json")).then_some(Self::Json)
        }
    }
}

/// Whether it is said to be something else than JSON: a file, a form.
#[cfg(feature = "quota-meter")]
pub(crate) fn is_no_json(headers: &HeaderMap) -> bool {
    let is_json = |kind: &HeaderValue| kind == "application/json" || Media::named(kind) == Some(Media::Json);
    content_type(headers).is_some_and(|kind| !is_json(kind))
}

/// A walk past a few headers is a third of the cost of a look-up by hash, and this one mostly comes early.
fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.iter().find(|(name, _)| **name == CONTENT_TYPE).map(|(_, value)| value)
}

pub(crate) fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
