//! What tells requests apart: host, model and key.

use std::{borrow::Cow, hash::Hasher};

use http::{
    HeaderMap,
    header::AUTHORIZATION,
    uri::{Authority, Scheme},
};

use super::{Model, RequestView, content::model_in_path};
use crate::{Call, Lease, fingerprint::fingerprint};

/// A longer host or model is none: names are kept, and a body may say anything.
pub(super) const LONGEST: usize = 256;
/// Where a key may be, after `Authorization`.
const KEY_HEADERS: [&str; 3] = ["api-key", "x-api-key", "x-goog-api-key"];
const BEARER: &[u8] = b"Bearer ";

/// The model, where it is known without the body.
pub(super) fn named_outside<'a>(request: &RequestView<'a>) -> Option<&'a str> {
    let extension = request.extensions().get::<Model>().map(Model::as_str);
    extension.or_else(|| model_in_path(request.uri().path()))
}

/// What GitHub limits apart, by its own names, with the last parts of the paths that take from it; `*` is any part.
/// Source: <https://docs.github.com/en/rest/rate-limit/rate-limit>.
const GITHUB_ENDPOINTS: [(&str, &[&str]); 6] = [
    ("integration_manifest", &["app-manifests", "*", "conversions"]),
    ("dependency_snapshots", &["dependency-graph", "snapshots"]),
    ("code_scanning_upload", &["code-scanning", "sarifs"]),
    ("actions_runner_registration", &["actions", "runners", "registration-token"]),
    ("audit_log", &["orgs", "*", "audit-log"]),
    ("audit_log", &["enterprises", "*", "audit-log"]),
];

/// The resource of GitHub's that a request takes from. An Enterprise server has a prefix, `/api/v3`
/// or, for GraphQL, `/api`.
pub(super) fn github_resource(path: &str) -> &'static str {
    let rest = path.strip_prefix("/api/v3").unwrap_or(path);
    if matches!(path, "/graphql" | "/api/graphql") {
        return "graphql";
    }
    if rest.starts_with("/search/code") {
        return "code_search";
    }
    if rest.starts_with("/search/") {
        return "search";
    }
    if rest.starts_with("/scim/") {
        return "scim";
    }
    let ends_so = |parts: &[&str]| {
        let mut ends = path.trim_end_matches('/').rsplit('/');
        parts.iter().rev().all(|part| ends.next().is_some_and(|end| *part == "*" || end == *part))
    };
    GITHUB_ENDPOINTS.iter().find(|(_, parts)| ends_so(parts)).map_or("core", |(resource, _)| *resource)
}

/// As every spelling of it is: in lower case, and without the port that goes without saying.
pub(super) fn host<'a>(request: &RequestView<'a>) -> Cow<'a, str> {
    let header = || request.headers().get(http::header::HOST)?.to_str().ok();
    let uri = request.uri();
    let host = uri.authority().map(Authority::as_str).or_else(header).unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if is_usual(port, uri.scheme()) => name,
        _ => host,
    };
    match host {
        long if long.len() > LONGEST => "".into(),
        upper if upper.bytes().any(|byte| byte.is_ascii_uppercase()) => upper.to_ascii_lowercase().into(),
        lower => lower.into(),
    }
}

fn is_usual(port: &str, scheme: Option<&Scheme>) -> bool {
    let is_for = |usual| scheme.is_none_or(|scheme| *scheme == usual);
    match port {
        "" => true,
        "443" => is_for(Scheme::HTTPS),
        "80" => is_for(Scheme::HTTP),
        _ => false,
    }
}

/// What tells a key apart from others.
pub(super) enum Key<'a> {
    /// The number of its lease, where a `KeyCheck` has lent it: wherever it stands in the request, and whatever its source
    /// gives.
    Lent(u32),
    Own(&'a [u8]),
}

impl<'a> Key<'a> {
    pub(super) fn of(request: &RequestView<'a>) -> Option<Self> {
        let lent = request.extensions().get::<Call>().and_then(Call::lease).map(Lease::id);
        lent.map(Self::Lent).or_else(|| key_header(request.headers()).map(Self::Own))
    }

    /// Tells it apart from others on every machine, and says nothing else of it: one key has one, lent or the caller's own.
    pub(super) fn fingerprint(&self) -> u32 {
        match self {
            Self::Lent(id) => *id,
            Self::Own(key) => fingerprint(without_scheme(key)),
        }
    }

    pub(super) fn hash(&self, hasher: &mut impl Hasher) {
        match self {
            Self::Lent(id) => {
                hasher.write_u8(0xfe);
                hasher.write_u32(*id);
            }
            Self::Own(key) => {
                hasher.write_u8(0xff);
                hasher.write(key);
            }
        }
    }
}

fn without_scheme(key: &[u8]) -> &[u8] {
    match key.split_at_checked(BEARER.len()) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(BEARER) => key,
        _ => key,
    }
}

fn key_header(headers: &HeaderMap) -> Option<&[u8]> {
    let key = headers.get(AUTHORIZATION).or_else(|| KEY_HEADERS.iter().find_map(|name| headers.get(*name)));
    key.map(http::HeaderValue::as_bytes)
}
