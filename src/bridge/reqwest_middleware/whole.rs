//! reqwest's requests taken apart for the layers, and put together again.

use std::mem;

use bytes::Bytes;
use http::{Request, Uri, uri::InvalidUri};
use reqwest::Url;

use crate::bridge::reqwest::{Body, client::incoming};

/// As the layers take it, and what is left of it: its URL, and its extensions, of which its time limit is one. Where that is
/// filled again, its URL need not be copied.
pub(super) fn apart(
    mut whole: reqwest::Request,
    max_replay: usize,
) -> Result<(Request<Body>, Option<reqwest::Request>), reqwest::Error> {
    let Ok(uri) = uri_of(whole.url()) else {
        // It has the error for it.
        return Ok((incoming(whole, max_replay, None)?, None));
    };
    let body = whole.body_mut().take().unwrap_or_default();
    let mut request = Request::new(Body::replayed(body, max_replay));
    *request.method_mut() = mem::take(whole.method_mut());
    *request.uri_mut() = uri;
    *request.version_mut() = whole.version();
    *request.headers_mut() = mem::take(whole.headers_mut());
    Ok((request, Some(whole)))
}

/// What is left of a request, filled with this one, which goes to the same place.
pub(super) fn refilled(mut shell: reqwest::Request, request: Request<reqwest::Body>) -> reqwest::Request {
    let (parts, body) = request.into_parts();
    *shell.method_mut() = parts.method;
    *shell.version_mut() = parts.version;
    *shell.headers_mut() = parts.headers;
    *shell.body_mut() = Some(body);
    shell
}

/// The longest that takes one allocation.
const SHORT: usize = 254;

/// A text beside the count of those who share it: a `Uri` cuts its own in pieces, and would allocate the count apart.
struct Short {
    text: [u8; SHORT],
    len: usize,
}

impl AsRef<[u8]> for Short {
    fn as_ref(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

fn uri_of(url: &Url) -> Result<Uri, InvalidUri> {
    let url = url.as_str().as_bytes();
    let mut short = Short { text: [0; SHORT], len: url.len() };
    match short.text.get_mut(..url.len()) {
        Some(text) => {
            text.copy_from_slice(url);
            Uri::from_maybe_shared(Bytes::from_owner(short))
        }
        None => Uri::try_from(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_is_the_url_s() {
        let fits = SHORT - "https://h.test/?q=".len();
        for len in [0, 1, fits - 1, fits, fits + 1, 3_000] {
            let url = format!("https://h.test/?q={}", "x".repeat(len));
            assert_eq!(uri_of(&url.parse().unwrap()).unwrap().to_string(), url);
        }
        // Longer than a `Uri` may be.
        assert!(uri_of(&format!("https://h.test/{}", "x".repeat(70_000)).parse().unwrap()).is_err());
    }
}
