//! What is looked at outside the body, and what a check of the caller's own gets to see.

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Uri,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    uri::Scheme,
};
use http_body::{Body, SizeHint};

use super::fault::{Fault, Place};
use crate::ErrorKind;

/// A request, as a check of one's own sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Checked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its URI.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its extensions.
    pub extensions: &'a Extensions,
    /// Its whole body, where that is in memory.
    pub body: Option<&'a Bytes>,
}

/// What the headers say of the body, and how large they are: one walk over them.
#[derive(Debug, Default)]
pub(super) struct Headers<'a> {
    pub(super) bytes: usize,
    pub(super) content_type: Option<&'a HeaderValue>,
    content_length: Option<&'a HeaderValue>,
    pub(super) is_encoded: bool,
}

impl<'a> Headers<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            // On the wire `: ` and a line end are with them.
            let length = name.as_str().len();
            found.bytes += length + value.len() + 4;
            // The lengths of the three below: most others need no look.
            if !matches!(length, 12 | 14 | 16) {
                continue;
            }
            if name == CONTENT_TYPE {
                found.content_type = Some(value);
            } else if name == CONTENT_LENGTH {
                found.content_length = Some(value);
            } else if name == CONTENT_ENCODING {
                found.is_encoded = !value.as_bytes().eq_ignore_ascii_case(b"identity");
            }
        }
        found
    }

    /// Whether the body is said to be JSON, and readable as it is.
    pub(super) fn is_json(&self) -> bool {
        self.content_type.is_some_and(|value| is_json(value.as_bytes())) && !self.is_encoded
    }

    /// The length that is told to the server, held against the body's and against the most that is allowed.
    pub(super) fn check_length(&self, hint: &SizeHint, max_body: u64, faults: &mut Vec<Fault>) {
        let told = self.content_length.map(|value| {
            let digits =
                std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u64>().ok())
        });
        match told {
            Some(None) => {
                faults.push(Fault::new(Place::Header(CONTENT_LENGTH), "no number", "the body's length in bytes"));
            }
            Some(Some(told)) if told < hint.lower() || hint.upper().is_some_and(|upper| told > upper) => {
                let allowed = match hint.exact() {
                    Some(exact) => format!("the body's own length, {exact}"),
                    None => format!("the body's own length, at least {}", hint.lower()),
                };
                faults.push(Fault::new(Place::Header(CONTENT_LENGTH), told.to_string(), allowed));
            }
            _ => {}
        }
        let length = told.flatten().unwrap_or(0).max(hint.lower());
        if length > max_body {
            faults.push(too_large(format!("{length} bytes"), max_body));
        }
    }
}

pub(super) fn too_large(found: String, max_body: u64) -> Fault {
    Fault::new(Place::Body, found, format!("{max_body} bytes at most")).with_kind(ErrorKind::RequestTooLarge)
}

/// `application/json`, or anything that ends in `+json`, whatever its parameters.
fn is_json(value: &[u8]) -> bool {
    // As most spell it.
    if value == b"application/json" {
        return true;
    }
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let ends = |end: &[u8]| {
        let tail = essence.len().checked_sub(end.len()).and_then(|start| essence.get(start..));
        tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    essence.eq_ignore_ascii_case(b"application/json") || ends(b"+json")
}

pub(super) fn check_uri(uri: &Uri, faults: &mut Vec<Fault>) {
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS || *scheme == Scheme::HTTP => {}
        Some(scheme) => {
            faults.push(Fault::new(Place::Uri, format!("the scheme {}", start(scheme.as_str())), "http or https"))
        }
        None => faults.push(Fault::new(Place::Uri, "no scheme", "http or https")),
    }
    if !has_host(uri) {
        faults.push(Fault::new(Place::Uri, "no host", "a host"));
    }
}

fn has_host(uri: &Uri) -> bool {
    let Some(authority) = uri.authority() else { return false };
    // To ask for the host is to look for an `@` and a port. Most authorities have no user, and begin with the host.
    let text = authority.as_str().as_bytes();
    let begins_with_host = text.first().is_some_and(u8::is_ascii_alphanumeric) && !text.contains(&b'@');
    begins_with_host || !authority.host().is_empty()
}

/// A header that no server takes: one alone, or all together.
pub(super) fn check_headers(all: &HeaderMap, bytes: usize, max: usize, faults: &mut Vec<Fault>) {
    if bytes <= max {
        return;
    }
    let largest =
        all.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4, name)).max_by_key(|(size, _)| *size);
    let allowed = format!("{max} bytes at most for all headers");
    let fault = match largest {
        Some((size, name)) if size > max => Fault::new(Place::Header(name.clone()), format!("{size} bytes"), allowed),
        _ => Fault::new(Place::Headers, format!("{bytes} bytes"), allowed),
    };
    faults.push(fault.with_kind(ErrorKind::RequestTooLarge));
}

fn start(text: &str) -> String {
    text.chars().take(32).collect()
}

impl<'a> Checked<'a> {
    pub(super) fn of<B: Body>(request: &'a Request<B>, body: Option<&'a Bytes>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
            body,
        }
    }
}
