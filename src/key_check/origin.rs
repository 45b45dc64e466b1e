//! [`Origin`]: whom a key is for.

use std::{error::Error, fmt, net::IpAddr};

use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// Scheme, host and port of the server that a key is for; no other gets it.
///
/// The origin of [RFC 6454](https://www.rfc-editor.org/rfc/rfc6454).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    is_https: bool,
    host: Box<str>,
    port: u16,
    /// As most requests spell it: compared first, and with one comparison.
    authority: Box<str>,
}

impl Origin {
    /// The origin of a URL, whose path does not matter.
    ///
    /// # Errors
    /// [`OriginError`] if it is no http(s) URL with a host, or plain `http` to anything but a loopback address: a key
    /// would cross the network readable by all. [`Origin::parse_insecure`] allows that.
    pub fn parse(url: &str) -> Result<Self, OriginError> {
        let origin = Self::parse_insecure(url)?;
        if !origin.is_https && !origin.is_loopback() {
            return Err(OriginError::PlainHttp);
        }
        Ok(origin)
    }

    /// The origin of a URL, plain `http` included.
    ///
    /// # Errors
    /// [`OriginError`] if it is no http(s) URL with a host.
    pub fn parse_insecure(url: &str) -> Result<Self, OriginError> {
        let uri: Uri = url.trim().parse().map_err(|_| OriginError::NotAUrl)?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(OriginError::NotHttp),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(OriginError::NoHost)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(OriginError::UserInfo);
        }
        // `http` takes any digits for a port, and then reports none.
        if uri.port_u16().is_none() && uri.authority().is_some_and(|authority| ends_in_port(authority.as_str())) {
            return Err(OriginError::NotAUrl);
        }
        let port = uri.port_u16().unwrap_or(default_port(is_https));
        let host = host.to_ascii_lowercase();
        let authority = if port == default_port(is_https) { host.clone() } else { format!("{host}:{port}") };
        Ok(Self { is_https, host: host.into(), port, authority: authority.into() })
    }

    /// Whether a request to `uri` goes there. A URI that is but a path says neither scheme nor host: it does not.
    #[must_use]
    #[inline(always)]
    pub fn is_of(&self, uri: &Uri) -> bool {
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return false,
        };
        let Some(authority) = uri.authority() else { return false };
        if is_https != self.is_https {
            return false;
        }
        if authority.as_str() == &*self.authority {
            return true;
        }
        self.is_spelled(authority)
    }

    #[cold]
    fn is_spelled(&self, authority: &Authority) -> bool {
        authority.port_u16().unwrap_or(default_port(self.is_https)) == self.port
            && authority.host().eq_ignore_ascii_case(&self.host)
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        &*self.host == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

/// Whether there is something after a colon that is no part of an address in brackets.
fn ends_in_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'))
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_https { "https" } else { "http" }, self.host)?;
        if self.port != default_port(self.is_https) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

/// Why a text names no origin that a key may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginError {
    /// It is no URL.
    NotAUrl,
    /// Its scheme is neither `http` nor `https`, or missing.
    NotHttp,
    /// It has no host.
    NoHost,
    /// It has a user name or password before the host.
    UserInfo,
    /// It is plain `http` to another machine.
    PlainHttp,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAUrl => "the base URL is no URL",
            Self::NotHttp => "the base URL must begin with https:// or http://",
            Self::NoHost => "the base URL has no host",
            Self::UserInfo => "the base URL has a user name in it: give the key by itself",
            Self::PlainHttp => "a key over plain http to another machine could be read by all on the way: use https",
        })
    }
}

impl Error for OriginError {}

/// The request goes elsewhere than the key may; the cause of a [`Refused`](crate::Refused).
///
/// See [`Elsewhere::Refuse`](super::Elsewhere::Refuse).
#[derive(Clone, Debug)]
pub struct WrongOrigin {
    expected: Origin,
    /// `None` if the request's URI names no host.
    found: Option<String>,
}

impl WrongOrigin {
    pub(super) fn new(expected: &Origin, uri: &Uri) -> Self {
        let scheme = uri.scheme_str().unwrap_or("?");
        // Without what stands before an `@`.
        let port = uri.port().map_or_else(String::new, |port| format!(":{port}"));
        Self { expected: expected.clone(), found: uri.host().map(|host| format!("{scheme}://{host}{port}")) }
    }

    /// Whom the key is for.
    #[must_use]
    pub fn expected(&self) -> &Origin {
        &self.expected
    }
}

impl fmt::Display for WrongOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = &self.expected;
        match &self.found {
            Some(found) => write!(f, "the request is for {found}, the key for {expected} only"),
            None => write!(
                f,
                "the request's URI names no host, and the key is for {expected} only: give it whole, a `Host` header does \
                 not count"
            ),
        }
    }
}

impl Error for WrongOrigin {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_its_own_origin_only() {
        let origin = Origin::parse("https://API.openai.com/v1/").unwrap();
        for (uri, expected) in [
            ("https://api.openai.com/v1/models", true),
            ("https://api.openai.com:443/v1/models", true),
            ("https://Api.OpenAI.com/", true),
            ("http://api.openai.com/v1/models", false),
            ("https://api.openai.com:444/", false),
            ("https://api.openai.com.evil.example/", false),
            ("https://evil.example/api.openai.com", false),
            ("https://api.openai.com@evil.example/", false),
            ("/v1/models", false),
        ] {
            assert_eq!(origin.is_of(&uri.parse().unwrap()), expected, "{uri}");
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for url in ["http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:80/", "http://127.9.9.9/"] {
            assert!(Origin::parse(url).is_ok(), "{url}");
        }
        for url in ["http://api.openai.com", "http://10.0.0.1/", "http://localhost.evil.example/"] {
            assert_eq!(Origin::parse(url), Err(OriginError::PlainHttp), "{url}");
        }
        assert!(Origin::parse_insecure("http://10.0.0.1/").is_ok());
    }

    #[test]
    fn what_is_no_origin_says_why() {
        for (url, expected) in [
            ("api.openai.com", OriginError::NotHttp),
            ("ftp://api.openai.com", OriginError::NotHttp),
            ("https://key@api.openai.com", OriginError::UserInfo),
            ("https://", OriginError::NotAUrl),
            ("", OriginError::NotAUrl),
        ] {
            assert_eq!(Origin::parse(url), Err(expected), "{url}");
        }
    }
}
