//! [`RequestBuilder`]: reqwest's, with the stack behind `send`.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{CONTENT_TYPE, Entry},
};
use serde::Serialize;
use tower::{BoxError, ServiceExt};
use tower_service::Service;

use super::{Body, Client, ExecuteFuture, body::Maker, client::incoming};

/// Builds a request as reqwest's builder does, and sends it through the stack.
///
/// What is not here is reached by [`with`](Self::with).
#[must_use = "it is sent by `send`"]
pub struct RequestBuilder<S> {
    client: Client<S>,
    builder: reqwest::RequestBuilder,
    extensions: Extensions,
    maker: Option<Maker>,
    /// Whether it is of JSON, or what was wrong with that.
    json: Result<bool, serde_json::Error>,
}

impl<S> RequestBuilder<S> {
    pub(super) fn new(client: Client<S>, builder: reqwest::RequestBuilder) -> Self {
        Self { client, builder, extensions: Extensions::new(), maker: None, json: Ok(false) }
    }

    pub(super) fn made_by(mut self, maker: Maker) -> Self {
        self.maker = Some(maker);
        self
    }

    /// Whatever else reqwest's own builder can: `query`, `form`, `multipart` (which goes again up to [`Client::max_replay`]; what is
    /// longer does with [`Client::remake`]) …
    pub fn with(mut self, change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder) -> Self {
        self.builder = change(self.builder);
        self
    }

    /// With one more header.
    pub fn header<K, V>(self, name: K, value: V) -> Self
    where
        HeaderName: TryFrom<K, Error: Into<http::Error>>,
        HeaderValue: TryFrom<V, Error: Into<http::Error>>,
    {
        self.with(|builder| builder.header(name, value))
    }

    /// With these headers; they take the place of those of the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.with(|builder| builder.headers(headers))
    }

    /// With `Authorization: Bearer …`, marked sensitive.
    pub fn bearer_auth(self, token: impl fmt::Display) -> Self {
        self.with(|builder| builder.bearer_auth(token))
    }

    /// With `Authorization: Basic …`, marked sensitive.
    pub fn basic_auth(self, user: impl fmt::Display, password: Option<impl fmt::Display>) -> Self {
        self.with(|builder| builder.basic_auth(user, password))
    }

    /// With this body, in place of any before it.
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        self.with(|builder| builder.body(body))
    }

    /// With this as its body, in place of any before it, and with `Content-Type: application/json` if it has none.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => {
                self.json = self.json.map(|_| true);
                self.body(json)
            }
            Err(error) => {
                self.json = Err(error);
                self
            }
        }
    }

    /// The time for each sending until its body is read. A limit for the whole call is the retry's `max_elapsed`.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|builder| builder.timeout(timeout))
    }

    /// With an extension for the layers: [`TokenCost`](crate::quota_meter::TokenCost), a [`Call`](crate::Call) with a deadline …
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.extensions.insert(extension);
        self
    }

    /// The client, and the request as the layers take it.
    ///
    /// # Errors
    /// What was wrong with anything given so far.
    pub fn build(self) -> Result<(Client<S>, Request<Body>), BoxError> {
        let Self { mut client, builder, extensions, maker, json } = self;
        let mut request = incoming(builder.build()?, client.parts_mut().1, maker)?;
        if !extensions.is_empty() {
            request.extensions_mut().extend(extensions);
        }
        if json? && let Entry::Vacant(place) = request.headers_mut().entry(CONTENT_TYPE) {
            place.insert(HeaderValue::from_static("application/json"));
        }
        Ok((client, request))
    }

    /// Sends it.
    ///
    /// # Errors
    /// What was wrong with the request, and the stack's.
    ///
    /// # Cancel safety
    /// Its future may be dropped at any point.
    pub async fn send<RB>(self) -> Result<reqwest::Response, BoxError>
    where
        S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>>,
        RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        let (client, request) = self.build()?;
        ExecuteFuture::new(request.uri().clone(), client.into_service().oneshot(request)).await
    }
}

impl<S> fmt::Debug for RequestBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder").field("builder", &self.builder).finish_non_exhaustive()
    }
}
