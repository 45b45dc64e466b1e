//! What is kept of a request, so that it can go again.

use http::{Extensions, HeaderMap, Method, Request, Uri, Version};

use super::course::Traits;
use crate::body::Resend;

/// A request as it came: written in place, which a [`Request`] cannot be.
pub(super) struct Kept<B> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
    body: B,
}

impl<B: Resend> Kept<B> {
    /// `None` if its body can go only once.
    pub(super) fn of(request: &Request<B>) -> Option<Self> {
        Some(Self {
            body: request.body().resend()?,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
        })
    }

    /// The body once more, if it still can go.
    pub(super) fn body(&self) -> Option<B> {
        self.body.resend()
    }
}

impl<B> Kept<B> {
    pub(super) fn traits(&self) -> Traits<'_> {
        (&self.method, &self.headers, &self.extensions)
    }

    /// The request once more, with this body.
    pub(super) fn again(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        request
    }

    pub(super) fn into_request(self) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}
