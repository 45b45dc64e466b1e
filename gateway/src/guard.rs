//! Who is let in.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{
    HeaderMap, HeaderName, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN},
    uri::PathAndQuery,
};
use tower::BoxError;
use tower_outbound::ApiKey;

use crate::{Options, errors::Problem};

/// What the environment holds for the gateway.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Put on the calls, each on some.
    pub keys: Vec<ApiKey>,
    /// What callers must send in its place.
    pub token: Option<String>,
}

/// Neither is shown.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("keys", &self.keys).field("token", &self.token.is_some()).finish()
    }
}

impl Secrets {
    /// Reads the variables that the options name.
    ///
    /// # Errors
    /// If one is not set, or what is in it cannot be a key. The error does not show it.
    pub fn from_env(options: &Options) -> Result<Self, BoxError> {
        let keys = options.key_from_env.iter().map(|variable| ApiKey::from_env(variable)).collect::<Result<_, _>>()?;
        let token = options.token_from_env.as_deref().map(|variable| {
            let token = std::env::var(variable).map_err(|_| format!("the token in {variable} is missing"))?;
            let is_sound = token.len() >= 8 && token.bytes().all(|byte| byte.is_ascii_graphic());
            is_sound
                .then_some(token)
                .ok_or(format!("the token in {variable} is not 8 or more characters without spaces"))
        });
        Ok(Self { keys, token: token.transpose()? })
    }
}

/// Where APIs take their keys, and clients put them.
const KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
/// And where they take them in the query: Gemini's, and what others call it.
const KEY_PARAMETERS: [&str; 5] = ["key", "api_key", "api-key", "apikey", "access_token"];
/// What a browser says of who made it ask.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Takes off whatever the caller sent as a key: it is for the gateway, or for nobody.
pub(crate) fn strip_keys(headers: &mut HeaderMap, key_header: Option<&HeaderName>) {
    for name in KEY_HEADERS.iter().chain([&AUTHORIZATION]).chain(key_header) {
        headers.remove(name);
    }
}

/// The same place, without what is a key in its query.
pub(crate) fn without_keys(place: Uri) -> Uri {
    let is_key = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        KEY_PARAMETERS.iter().any(|key| name.eq_ignore_ascii_case(key))
    };
    let query = place.query().unwrap_or_default();
    if !query.split('&').any(|pair| is_key(&pair)) {
        return place;
    }
    let kept: Vec<_> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let kept = if kept.is_empty() { place.path().to_owned() } else { format!("{}?{}", place.path(), kept.join("&")) };
    let mut parts = place.into_parts();
    // What was one before is one without a part of it; else no query goes on at all.
    parts.path_and_query = Some(kept.parse().unwrap_or(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).unwrap_or_default()
}

#[derive(Clone)]
pub(crate) enum Guard {
    /// No key is given away: whoever can connect may pass.
    Open,
    /// Programs on this machine.
    Loopback,
    /// Whoever has this.
    Token(String),
}

/// A token is not shown.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Loopback => "Loopback",
            Self::Token(_) => "Token",
        })
    }
}

impl Guard {
    pub(crate) fn new(secrets: &Secrets) -> Self {
        match &secrets.token {
            Some(token) => Self::Token(token.clone()),
            None if secrets.keys.is_empty() => Self::Open,
            None => Self::Loopback,
        }
    }

    /// May this call be sent?
    pub(crate) fn admit(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Open => Ok(()),
            Self::Loopback if is_local(peer, headers) && !is_for_another_site(headers) => Ok(()),
            Self::Loopback => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "invalid_request_error",
                Some("not_local"),
                "The gateway adds its own API key to calls, and so lets in only programs on its machine. Start it with \
                 --token-from-env to let in others.",
            )),
            Self::Token(token) if given_keys(headers).any(|given| is_same(given, token.as_bytes())) => Ok(()),
            Self::Token(_) => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "invalid_request_error",
                Some("invalid_api_key"),
                "The gateway expects its token as the API key.",
            )),
        }
    }

    /// May this caller see the gateway's own pages? No key can be spent on them.
    pub(crate) fn admit_to_pages(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Problem> {
        if is_local(peer, headers) { Ok(()) } else { self.admit(peer, headers) }
    }
}

/// From this machine, and not because a page from elsewhere made a browser on it ask: that page can have any name
/// resolve to this machine, and can post without being asked whether it may.
fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let is_local_name = |name: &[u8]| str::from_utf8(name).is_ok_and(is_loopback_name);
    let is_ours = |origin: &[u8]| {
        let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        host.is_some_and(is_local_name)
    };
    peer.ip().to_canonical().is_loopback()
        && headers.get_all(HOST).iter().all(|host| is_local_name(host.as_bytes()))
        && headers.get_all(ORIGIN).iter().all(|origin| is_ours(origin.as_bytes()))
}

/// Asked by a browser for a page of another site: an image or a link needs no leave, and says nothing of its origin. A page
/// of this machine says that, and [`is_local`] has looked at it.
fn is_for_another_site(headers: &HeaderMap) -> bool {
    let is_other = |site: &[u8]| !matches!(site, b"same-origin" | b"none");
    headers.get_all(FETCH_SITE).iter().any(|site| is_other(site.as_bytes())) && !headers.contains_key(ORIGIN)
}

/// `localhost`, `127.0.0.1:8080`, `[::1]:8080` …
fn is_loopback_name(name: &str) -> bool {
    let Ok(uri) = name.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// What the caller sent as a key, wherever its API takes it.
fn given_keys(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let alone = KEY_HEADERS.into_iter().filter_map(|name| headers.get(name)).map(|value| value.as_bytes());
    bearer(headers).into_iter().chain(alone)
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Takes as long whatever is different.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    given.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(given: &[(HeaderName, &'static str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_programs_on_this_machine_are_local() {
        for (peer, host, origin, expected) in [
            ("127.0.0.1:1", "localhost:8080", None, true),
            ("[::1]:1", "[::1]:8080", None, true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1", None, true),
            ("10.0.0.2:1", "localhost:8080", None, false),
            ("127.0.0.1:1", "evil.example:8080", None, false),
            ("127.0.0.1:1", "localhost.evil.example", None, false),
            ("127.0.0.1:1", "localhost:8080", Some("http://localhost:3000"), true),
            ("127.0.0.1:1", "localhost:8080", Some("https://evil.example"), false),
            ("127.0.0.1:1", "localhost:8080", Some("null"), false),
        ] {
            let mut given = headers(&[(HOST, host)]);
            given.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            assert_eq!(is_local(peer.parse().unwrap(), &given), expected, "{peer} {host} {origin:?}");
        }
    }

    #[test]
    fn a_browser_asks_only_for_pages_of_this_machine() {
        for (site, origin, expected) in [
            ("cross-site", None, false),
            ("same-site", None, false),
            ("same-origin", None, true),
            ("none", None, true),
            ("same-site", Some("http://localhost:3000"), true),
            ("cross-site", Some("https://evil.example"), false),
            ("cross-site", Some("null"), false),
        ] {
            let mut given = headers(&[(HOST, "localhost:8080"), (FETCH_SITE, site)]);
            given.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            let admitted = Guard::Loopback.admit("127.0.0.1:1".parse().unwrap(), &given);
            assert_eq!(admitted.is_ok(), expected, "{site} {origin:?}");
        }
    }

    #[test]
    fn no_key_is_left_in_a_query() {
        for (place, expected) in [
            ("https://a/v1/x?key=AIza-1", "https://a/v1/x"),
            ("https://a/v1/x?alt=sse&key=AIza-1&a=b%20c", "https://a/v1/x?alt=sse&a=b%20c"),
            ("https://a/v1/x?KEY=1&key=2&api_key=3&Api-Key=4&apikey&access_token=5", "https://a/v1/x"),
            ("https://a/v1/x?monkey=1&keys=2&a=key", "https://a/v1/x?monkey=1&keys=2&a=key"),
            ("https://a/v1/x", "https://a/v1/x"),
        ] {
            assert_eq!(without_keys(place.parse().unwrap()), expected, "{place}");
        }
    }

    #[test]
    fn a_token_is_needed_whole() {
        let guard = Guard::Token("tok-12345".into());
        let peer = "127.0.0.1:1".parse().unwrap();
        for (value, expected) in [
            ("Bearer tok-12345", true),
            ("bearer tok-12345", true),
            ("Bearer tok-1234", false),
            ("Bearer tok-123456", false),
            ("Bearer", false),
            ("Basic tok-12345", false),
        ] {
            assert_eq!(guard.admit(peer, &headers(&[(AUTHORIZATION, value)])).is_ok(), expected, "{value}");
        }
        for name in KEY_HEADERS {
            assert!(guard.admit(peer, &headers(&[(name.clone(), "tok-12345")])).is_ok(), "{name}");
            assert!(guard.admit(peer, &headers(&[(name.clone(), "tok-1234")])).is_err(), "{name}");
        }
        assert!(guard.admit(peer, &HeaderMap::new()).is_err());
    }
}
