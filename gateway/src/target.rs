//! Where calls go.

use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use tower::BoxError;

/// The API's address: scheme, host, port, and what comes before every path.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; empty where there is none.
    prefix: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, BoxError> {
        let parts = url.trim().parse::<Uri>().map_err(|error| format!("{url:?} is no URL: {error}"))?.into_parts();
        let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let (Some(scheme), Some(authority)) = (scheme, parts.authority) else {
            return Err(format!("{url:?} is no address of an API: it begins with https:// or http://").into());
        };
        let path = parts.path_and_query.unwrap_or(PathAndQuery::from_static("/"));
        if path.query().is_some() || authority.as_str().contains('@') {
            return Err("the address of the API has a query or a user name in it".into());
        }
        Ok(Self { scheme, authority, prefix: path.path().trim_end_matches('/').to_owned() })
    }

    pub(crate) fn host(&self) -> &str {
        self.authority.host()
    }

    /// What clients put behind the gateway's address for their `base_url`: as they would have it at the API. Without a path
    /// of its own, an API is taken to have OpenAI's.
    pub(crate) fn base_path(&self) -> &str {
        if self.prefix.is_empty() { "/v1" } else { &self.prefix }
    }

    /// The place of a call at the API; `None` for what names no place, such as `OPTIONS *`.
    pub(crate) fn locate(&self, called: &Uri) -> Option<Uri> {
        let place = called.path_and_query().filter(|place| place.as_str().starts_with('/'))?;
        let place = if self.has_prefix(place.path()) {
            place.clone()
        } else {
            format!("{}{place}", self.prefix).parse().ok()?
        };
        Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(place).build().ok()
    }

    /// With `https://host/v1` as the API's address and `http://gateway/v1` as the client's `base_url`, both have it.
    fn has_prefix(&self, path: &str) -> bool {
        path.strip_prefix(&*self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_after_the_targets() {
        for (target, called, expected) in [
            ("https://api.example", "/v1/chat?a=b%20c", "https://api.example/v1/chat?a=b%20c"),
            ("https://api.example/", "/v1//x/../y", "https://api.example/v1//x/../y"),
            ("http://api.example:81/v1/", "/v1/models", "http://api.example:81/v1/models"),
            ("http://api.example:81/v1", "/models", "http://api.example:81/v1/models"),
            ("http://api.example/v1", "/v1beta", "http://api.example/v1/v1beta"),
            ("https://api.example", "http://gateway:8080/v1/x", "https://api.example/v1/x"),
        ] {
            let located = Target::parse(target).unwrap().locate(&called.parse().unwrap());
            assert_eq!(located, Some(expected.parse().unwrap()), "{target} {called}");
        }
        assert_eq!(Target::parse("https://a").unwrap().locate(&"*".parse().unwrap()), None);
    }

    #[test]
    fn what_clients_are_told_leads_to_the_api() {
        for (api, at_the_api) in [
            ("https://api.openai.com", "https://api.openai.com/v1/models"),
            ("https://api.openai.com/", "https://api.openai.com/v1/models"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/models"),
            ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1/models"),
            ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/models"),
            ("https://g.example/v1beta/openai/", "https://g.example/v1beta/openai/models"),
        ] {
            let target = Target::parse(api).unwrap();
            let called = format!("{}/models", target.base_path()).parse().unwrap();
            assert_eq!(target.locate(&called), Some(at_the_api.parse().unwrap()), "{api}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["", "api.openai.com", "ftp://x", "/v1", "https://user@x/", "https://x/?y"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
