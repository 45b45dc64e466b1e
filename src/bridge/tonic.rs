//! The layers between a generated gRPC client and its channel.
//!
//! ```no_run
//! use tower::ServiceBuilder;
//! use tower_outbound::{
//!     BackoffRetryLayer, ErrorClassifyLayer, backoff_retry::Repeat, bridge::tonic::GrpcService, provider::Grpc,
//! };
//!
//! # fn example<C: Clone>(channel: C) { // tonic::transport::Channel
//! let layers = ServiceBuilder::new()
//!     .layer(BackoffRetryLayer::new().repeat(Repeat::All))
//!     .layer(ErrorClassifyLayer::new(Grpc).failures_in_grpc_heads(true));
//! let service = GrpcService::new(channel, layers);
//! // let client = GreeterClient::new(service);
//! # }
//! ```
//!
//! Every gRPC call is a POST: without [`Repeat::All`](crate::backoff_retry::Repeat::All), or an
//! [`Idempotent`](crate::backoff_retry::Idempotent) among the request's extensions, only what was certainly not
//! processed is sent again.
//!
//! A failure is seen where the answer is trailers only, as it is when a server refuses a call; one that comes after a
//! message is the caller's. A request is kept while it is sent, so a stream goes again as far as it is kept.

use std::task::{Context, Poll};

use http::Request;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::MAX_REPLAY;
use crate::body::ReplayBody;

/// The layers over a channel, for a generated client.
#[derive(Clone, Debug)]
pub struct GrpcService<S> {
    inner: S,
    max_replay: usize,
}

impl<S> GrpcService<S> {
    /// These layers over a `tonic::transport::Channel`, or whatever else takes gRPC requests.
    pub fn new<C, L>(channel: C, layer: L) -> Self
    where
        L: Layer<ChannelService<C>, Service = S>,
    {
        Self { inner: layer.layer(ChannelService { channel }), max_replay: MAX_REPLAY }
    }

    /// How much of a request is kept, so that it can go again. Default: 1 MiB; a longer one goes once.
    #[must_use]
    pub fn max_replay(mut self, bytes: usize) -> Self {
        self.max_replay = bytes;
        self
    }
}

impl<S> Service<Request<Body>> for GrpcService<S>
where
    S: Service<Request<ReplayBody<Body>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.inner.call(request.map(|body| ReplayBody::new(body, self.max_replay)))
    }
}

/// A channel under the layers.
#[derive(Clone, Debug)]
pub struct ChannelService<C> {
    channel: C,
}

impl<C> Service<Request<ReplayBody<Body>>> for ChannelService<C>
where
    C: Service<Request<Body>>,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = C::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReplayBody<Body>>) -> Self::Future {
        self.channel.call(request.map(Body::new))
    }
}
