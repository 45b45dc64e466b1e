//! [`Placement`]: where in a request the key goes.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{AUTHORIZATION, Entry},
    uri::PathAndQuery,
};
use zeroize::Zeroizing;

use super::{
    ApiKey,
    key::{ORGANIZATION, PROJECT, wiped},
};

/// Where in a request the key goes. Default: [`bearer`](Self::bearer).
///
/// | API | place |
/// |---|---|
/// | OpenAI, Mistral, Groq, DeepSeek, xAI, OpenRouter, GitHub, Stripe | [`bearer`](Self::bearer) |
/// | Anthropic | `header("x-api-key")` |
/// | Azure OpenAI | `header("api-key")` |
/// | Gemini | `header("x-goog-api-key")`, or `query("key")` |
///
/// ```
/// use http::HeaderName;
/// use tower_outbound::{ApiKey, KeyCheckLayer, Origin, key_check::Placement};
///
/// let key = ApiKey::new("sk-ant-api03-0123456789")?;
/// let layer = KeyCheckLayer::new(key, Origin::parse("https://api.anthropic.com")?)
///     .placement(Placement::header(HeaderName::from_static("x-api-key")));
/// # Ok::<_, tower::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement(Spot);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Spot {
    Bearer,
    Header(HeaderName),
    /// The parameter's name, percent-encoded.
    Query(Box<str>),
}

impl Placement {
    /// `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer() -> Self {
        Self(Spot::Bearer)
    }

    /// The key alone, in this header.
    #[must_use]
    pub fn header(name: HeaderName) -> Self {
        Self(Spot::Header(name))
    }

    /// The key in this parameter of the query, percent-encoded.
    ///
    /// Only where the API takes no header: URLs are written to logs, and clients put them into their errors. Those that
    /// pass a `KeyCheck` are masked; what layers further in and the client itself log is out of its reach.
    #[must_use]
    pub fn query(parameter: &str) -> Self {
        Self(Spot::Query(encoded(parameter).as_str().into()))
    }

    /// The key as it stands there.
    pub(super) fn credential(&self, key: &ApiKey) -> Credential {
        let (name, value) = match &self.0 {
            Spot::Bearer => (AUTHORIZATION, key.bearer()),
            Spot::Header(name) => (name.clone(), key.alone()),
            Spot::Query(name) => {
                let mut pair = Zeroizing::new(String::with_capacity(name.len() + 1 + 3 * key.expose().len()));
                pair.push_str(name);
                pair.push('=');
                encode_into(&mut pair, key.expose());
                return Credential { name: None, value: sensitive_pair(&pair), beside: key.beside().to_vec() };
            }
        };
        Credential { name: Some(name), value, beside: key.beside().to_vec() }
    }

    /// Whether the caller has put a key of its own there.
    pub(super) fn is_taken(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        match &self.0 {
            Spot::Bearer => headers.contains_key(AUTHORIZATION),
            Spot::Header(name) => headers.contains_key(name),
            Spot::Query(name) => pairs(uri).any(|pair| is_named(pair, name)),
        }
    }

    /// Takes the caller's own key out.
    pub(super) fn clear<B>(&self, request: &mut Request<B>) {
        match &self.0 {
            Spot::Bearer => drop(request.headers_mut().remove(AUTHORIZATION)),
            Spot::Header(name) => drop(request.headers_mut().remove(name)),
            Spot::Query(name) if self.is_taken(request.headers(), request.uri()) => {
                let kept: Vec<_> = pairs(request.uri()).filter(|pair| !is_named(pair, name)).collect();
                let query = Zeroizing::new(kept.join("&"));
                set_query(request.uri_mut(), &query);
            }
            Spot::Query(_) => {}
        }
    }
}

/// A key as it is put into requests.
pub(super) struct Credential {
    /// `None` for the query, of which `value` is then a part.
    name: Option<HeaderName>,
    value: HeaderValue,
    beside: Vec<(HeaderName, HeaderValue)>,
}

impl Credential {
    /// Puts it in, and says whether the caller has named an organization or a project; `None`, and nothing is changed, if
    /// there is something in its place already, or no room.
    pub(super) fn put<B>(&self, request: &mut Request<B>, placement: &Placement) -> Option<bool> {
        // One walk for both: to ask the map costs a hash each time, and most requests have few headers.
        let (mut is_taken, mut has_organization) = (false, false);
        for known in request.headers().keys() {
            is_taken |= self.name.as_ref() == Some(known);
            has_organization |= *known == ORGANIZATION || *known == PROJECT;
        }
        match &self.name {
            _ if is_taken => return None,
            Some(name) => drop(request.headers_mut().try_insert(name, self.value.clone()).ok()?),
            None if placement.is_taken(request.headers(), request.uri()) => return None,
            None => {
                let query = self.query(request.uri())?;
                set_query(request.uri_mut(), &query);
            }
        }
        for (name, value) in &self.beside {
            if let Ok(Entry::Vacant(place)) = request.headers_mut().try_entry(name) {
                place.insert(value.clone());
            }
        }
        Some(has_organization)
    }

    fn query(&self, uri: &Uri) -> Option<Zeroizing<String>> {
        let pair = self.value.to_str().ok()?;
        Some(match uri.query() {
            None | Some("") => Zeroizing::new(pair.to_owned()),
            Some(query) => Zeroizing::new([query, "&", pair].concat()),
        })
    }
}

fn sensitive_pair(pair: &str) -> HeaderValue {
    let bytes = wiped(Zeroizing::new(pair.as_bytes().to_vec()));
    // Percent-encoded: visible ASCII throughout.
    let mut value = HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn pairs(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query().into_iter().flat_map(|query| query.split('&'))
}

/// Names are compared as they are written; another spelling of the same name is another name to most servers, too.
fn is_named(pair: &str, name: &str) -> bool {
    pair.split('=').next() == Some(name)
}

/// The same URI with this query, in a buffer that is wiped. One that does not go stays as it is.
fn set_query(uri: &mut Uri, query: &str) {
    let path = uri.path();
    let mut text = Zeroizing::new(Vec::with_capacity(path.len() + 1 + query.len()));
    text.extend_from_slice(path.as_bytes());
    if !query.is_empty() {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    let mut parts = std::mem::take(uri).into_parts();
    let old = parts.path_and_query.take();
    let (scheme, authority) = (parts.scheme.clone(), parts.authority.clone());
    parts.path_and_query = PathAndQuery::from_maybe_shared(wiped(text)).ok().or_else(|| old.clone());
    *uri = Uri::from_parts(parts).unwrap_or_else(|_| {
        let mut parts = http::uri::Parts::default();
        (parts.scheme, parts.authority, parts.path_and_query) = (scheme, authority, old);
        Uri::from_parts(parts).unwrap_or_default()
    });
}

pub(super) fn encoded(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(3 * text.len()));
    encode_into(&mut out, text);
    out
}

/// All but the unreserved characters of [RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-2.3).
fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}
