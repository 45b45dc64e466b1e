//! Which host a request is for, in one spelling and without what is nobody's business.

use std::borrow::Cow;

use http::{HeaderMap, Uri, header::HOST, uri::Scheme};

/// Of requests that name none: a client further in knows where they go, and it is one place.
const UNNAMED: &str = "(unnamed)";

/// Name, and port where it is not the scheme's own; never a user's name and password. A URI that is but a path leaves it to
/// the `Host` header.
pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Cow<'a, str> {
    let header = || headers.get(HOST)?.to_str().ok();
    let name = uri.authority().map(|authority| authority.as_str()).or_else(header).unwrap_or_default();
    match spelled(name, uri.scheme()) {
        name if name.is_empty() => Cow::Borrowed(UNNAMED),
        name => name,
    }
}

/// Nearly always as it is, for nothing.
fn spelled<'a>(name: &'a str, scheme: Option<&Scheme>) -> Cow<'a, str> {
    let name = name.rsplit_once('@').map_or(name, |(_, name)| name);
    let own_port = if scheme == Some(&Scheme::HTTP) { ":80" } else { ":443" };
    let name = name.strip_suffix(own_port).or_else(|| name.strip_suffix(':')).unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The URI's own host as a report shows it; nothing for a path alone.
pub(super) fn shown(uri: &Uri) -> Cow<'_, str> {
    uri.authority().map_or(Cow::Borrowed(""), |authority| spelled(authority.as_str(), uri.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_name() {
        for (uri, header, expected) in [
            ("https://API.example/v1", None, "api.example"),
            ("https://api.example:443/v1", None, "api.example"),
            ("http://api.example:80/v1", None, "api.example"),
            ("http://api.example:443/v1", None, "api.example:443"),
            ("https://user:secret@api.example:8443/", None, "api.example:8443"),
            ("https://[::1]:443/", None, "[::1]"),
            ("/v1", Some("Api.Example"), "api.example"),
            ("/v1", Some("a:secret@api.example"), "api.example"),
            ("/v1", None, UNNAMED),
            ("/v1", Some(""), UNNAMED),
            ("https://api.example/", Some("other.example"), "api.example"),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(HOST, http::HeaderValue::from_static(header));
            }
            let uri: Uri = uri.parse().expect("a URI");
            assert_eq!(host(&uri, &headers), expected, "{uri}");
        }
    }
}
