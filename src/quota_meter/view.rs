//! [`RequestView`]: what the user's own functions see of a request.

use std::fmt;

use http::{Extensions, HeaderMap, Method, Request, Uri};

/// A request as the functions see it that choose its scope or reckon its cost.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
    body: Option<&'a [u8]>,
}

impl<'a> RequestView<'a> {
    pub(super) fn new<B>(request: &'a Request<B>, body: Option<&'a [u8]>) -> Self {
        let (method, uri) = (request.method(), request.uri());
        Self { method, uri, headers: request.headers(), extensions: request.extensions(), body }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// Where it goes.
    #[must_use]
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// Its headers, with the key that a `KeyCheck` further out put in.
    #[must_use]
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// What the caller and the layers further out say of it.
    #[must_use]
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// Its body, where that is in memory; see [`Resend::in_memory`](crate::body::Resend::in_memory).
    #[must_use]
    pub fn body(&self) -> Option<&'a [u8]> {
        self.body
    }
}

/// Without headers, path and query: a key may be among them.
impl fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestView")
            .field("method", self.method)
            .field("host", &self.uri.host())
            .field("body", &self.body.map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}
