//! What is kept of a request, so that it can go again.

#[cfg(feature = "backoff-retry")]
use crate::{
    backoff_retry::course::{IDEMPOTENCY_KEY, Traits},
    body::Resend,
};
use http::{Extensions, HeaderMap, Method, Request, Uri, Version};
#[cfg(feature = "backoff-retry")]
use http::{HeaderName, HeaderValue};

/// A request as it came: written in place, which a [`Request`] cannot be.
pub(crate) struct Kept<B, H = HeaderMap> {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    version: Version,
    pub(crate) headers: H,
    pub(crate) extensions: Extensions,
    pub(crate) body: B,
}

/// Headers that are kept for the rare case that they are needed again.
pub(crate) trait KeepHeaders {
    fn keep(headers: &HeaderMap) -> Self;
    fn map(&self) -> HeaderMap;
}

impl KeepHeaders for HeaderMap {
    #[inline]
    fn keep(headers: &HeaderMap) -> Self {
        headers.clone()
    }

    fn map(&self) -> HeaderMap {
        self.clone()
    }
}

/// Without the map's index: half the allocations of its clone, and a third of the work. None of them is `None`: as many are
/// made as the map says that it has.
#[cfg(feature = "backoff-retry")]
pub(crate) struct HeaderList(Vec<Option<(HeaderName, HeaderValue)>>);

#[cfg(feature = "backoff-retry")]
impl HeaderList {
    fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter().flatten()
    }
}

#[cfg(feature = "backoff-retry")]
impl KeepHeaders for HeaderList {
    #[inline]
    fn keep(headers: &HeaderMap) -> Self {
        let mut pairs = headers.iter();
        let next = |_| pairs.next().map(|(name, value)| (name.clone(), value.clone()));
        // Of a known number each is made in its place: what may need more room is made elsewhere and moved, which takes a third
        // longer.
        Self((0..headers.len()).map(next).collect())
    }

    fn map(&self) -> HeaderMap {
        // Values may be more than a map has room for names.
        let mut map = HeaderMap::try_with_capacity(self.0.len()).unwrap_or_default();
        for (name, value) in self.iter() {
            // As many fit as did before.
            let _ = map.try_append(name, value.clone());
        }
        map
    }
}

impl<B, H: KeepHeaders> Kept<B, H> {
    /// This request's head, with this body.
    #[inline]
    pub(crate) fn with<O>(request: &Request<O>, body: B) -> Self {
        Self {
            body,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: H::keep(request.headers()),
            extensions: request.extensions().clone(),
        }
    }

    /// The request once more, with this body.
    pub(crate) fn again<O>(&self, body: O) -> Request<O> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.map();
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

#[cfg(feature = "backoff-retry")]
impl<B> Kept<B, HeaderList> {
    pub(crate) fn traits(&self) -> Traits<'_> {
        Traits {
            method: &self.method,
            has_key: self.headers.iter().any(|(name, _)| name == IDEMPOTENCY_KEY),
            extensions: &self.extensions,
        }
    }

    pub(crate) fn into_request(self) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.map();
        *request.extensions_mut() = self.extensions;
        request
    }
}

#[cfg(feature = "backoff-retry")]
impl<B: Resend> Kept<B, HeaderList> {
    /// `None` if its body can go only once.
    pub(crate) fn of(request: &Request<B>) -> Option<Self> {
        Some(Self::with(request, request.body().resend()?))
    }

    /// The body once more, if it still can go.
    pub(crate) fn body(&self) -> Option<B> {
        self.body.resend()
    }
}
