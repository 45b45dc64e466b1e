//! [`ReqwestService`]: reqwest at the bottom of a stack.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Client, ResponseFuture,
    body::{Outgoing, outgoing},
    same_origin,
};

/// A [`reqwest::Client`] as a service over `http::Request`s with any body. See the [module](super).
///
/// # Errors
/// A [`reqwest::Error`], without its URL where a key can be seen in it.
///
/// # Cancel safety
/// Its future may be dropped at any point; the request is then given up.
#[derive(Clone, Debug)]
pub struct ReqwestService {
    client: reqwest::Client,
}

impl ReqwestService {
    /// A client set up like this, but for its redirect policy: it follows no redirect to [another origin](same_origin). For a
    /// policy of one's own, make the client oneself and take `ReqwestService::from(client)`.
    ///
    /// # Errors
    /// As [`reqwest::ClientBuilder::build`].
    pub fn build(builder: reqwest::ClientBuilder) -> Result<Self, reqwest::Error> {
        Ok(Self { client: builder.redirect(same_origin()).build()? })
    }

    /// These layers over it, for reqwest's own requests and responses.
    pub fn layered<L: Layer<Self>>(self, layer: L) -> Client<L::Service> {
        let http = self.client.clone();
        Client::new(http, layer.layer(self))
    }

    pub(super) fn client_mut(&mut self) -> &mut reqwest::Client {
        &mut self.client
    }
}

/// A client as it is, with the redirect policy it has: where it goes on to another host, keys in other headers than
/// `Authorization` go with it. Give it [`same_origin`], or use [`ReqwestService::build`].
impl From<reqwest::Client> for ReqwestService {
    fn from(client: reqwest::Client) -> Self {
        Self { client }
    }
}

impl<B> Service<Request<B>> for ReqwestService
where
    B: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Response = Response<reqwest::Body>;
    type Error = BoxError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        match outgoing(body) {
            Outgoing::Now(body, url) => ResponseFuture::send(&mut self.client, Request::from_parts(parts, body), url),
            Outgoing::Later(making) => ResponseFuture::make(self.clone(), parts, making),
        }
    }
}
