use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{ErrorClassifyLayer, IntoErrors, ResponseBody, ResponseFuture, layer::Settings};
use crate::provider::Providers;

/// Says what failed responses mean. See the [module](super).
#[derive(Clone, Debug)]
pub struct ErrorClassify<S> {
    pub(super) inner: S,
    pub(super) settings: Arc<Settings>,
}

impl<S> ErrorClassify<S> {
    /// Over this service, with the defaults of [`ErrorClassifyLayer::new`].
    #[must_use]
    pub fn new(inner: S, providers: impl Into<Providers>) -> Self {
        ErrorClassifyLayer::new(providers).layer(inner)
    }

    /// Failures as `Err(ApiError)`, those of the transport too.
    #[must_use]
    pub fn into_errors(self) -> IntoErrors<Self> {
        IntoErrors::new(self)
    }

    /// The service below.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service below.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB> Service<Request<B>> for ErrorClassify<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body,
{
    type Response = Response<ResponseBody<RB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // A request is large: each call that is not inlined moves it once more.
    #[inline(always)]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let choice = self.settings.providers.choose(&request);
        // Before the call, so that its future is made where it stays.
        let settings = self.settings.clone();
        ResponseFuture { call: self.inner.call(request), peeking: None, settings, choice }
    }
}
