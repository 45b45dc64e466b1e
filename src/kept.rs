//! What is kept of a request, so that it can go again.

#[cfg(feature = "backoff-retry")]
use crate::body::Resend;
use http::{Extensions, HeaderMap, Method, Request, Uri, Version};

/// A request as it came: written in place, which a [`Request`] cannot be.
pub(crate) struct Kept<B> {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) extensions: Extensions,
    pub(crate) body: B,
}

impl<B> Kept<B> {
    /// This request's head, with this body.
    #[inline]
    pub(crate) fn with<O>(request: &Request<O>, body: B) -> Self {
        Self {
            body,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
        }
    }

    /// The request once more, with this body.
    pub(crate) fn again<O>(&self, body: O) -> Request<O> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

#[cfg(feature = "backoff-retry")]
impl<B> Kept<B> {
    pub(crate) fn traits(&self) -> crate::backoff_retry::course::Traits<'_> {
        (&self.method, &self.headers, &self.extensions)
    }

    pub(crate) fn into_request(self) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}

#[cfg(feature = "backoff-retry")]
impl<B: Resend> Kept<B> {
    /// `None` if its body can go only once.
    pub(crate) fn of(request: &Request<B>) -> Option<Self> {
        Some(Self::with(request, request.body().resend()?))
    }

    /// The body once more, if it still can go.
    pub(crate) fn body(&self) -> Option<B> {
        self.body.resend()
    }
}
