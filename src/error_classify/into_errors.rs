use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use crate::ApiError;

/// Gives failures as `Err(ApiError)`: for callers who want one type, and no response that failed.
///
/// Best above [`ErrorClassify`](super::ErrorClassify), whose [`into_errors`](super::ErrorClassify::into_errors) makes it; over a service
/// without it a failed response is judged by its head. The response is dropped, and what was not read of its body with it. A transport error
/// becomes what [`ApiError::from_error`] says, with the error itself as its source.
#[derive(Clone, Debug)]
pub struct IntoErrors<S> {
    inner: S,
}

impl<S> IntoErrors<S> {
    /// Over this service.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, R, B> Service<R> for IntoErrors<S>
where
    S: Service<R, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<B>;
    type Error = ApiError;
    type Future = IntoErrorsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        self.inner.poll_ready(cx).map_err(of_transport)
    }

    fn call(&mut self, request: R) -> Self::Future {
        IntoErrorsFuture { call: self.inner.call(request) }
    }
}

fn of_transport(error: impl Into<BoxError>) -> ApiError {
    match error.into().downcast::<ApiError>() {
        Ok(error) => *error,
        Err(error) => ApiError::from_error(&*error).with_source(error),
    }
}

pin_project! {
    /// The call, whose failure is an error.
    pub struct IntoErrorsFuture<F> {
        #[pin]
        call: F,
    }
}

impl<F, B, E> Future for IntoErrorsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, ApiError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().call.poll(cx)).map_err(of_transport)?;
        let known = response.extensions().get::<ApiError>().cloned();
        match known.or_else(|| ApiError::from_head(response.status(), response.headers())) {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(response)),
        }
    }
}

impl<F> fmt::Debug for IntoErrorsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoErrorsFuture").finish_non_exhaustive()
    }
}

/// Makes [`IntoErrors`], over what another layer makes.
#[derive(Clone, Debug, Default)]
pub struct IntoErrorsLayer<L = tower_layer::Identity> {
    below: L,
}

impl IntoErrorsLayer {
    /// Over the service as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<L> IntoErrorsLayer<L> {
    pub(super) fn over(below: L) -> Self {
        Self { below }
    }
}

impl<S, L: Layer<S>> Layer<S> for IntoErrorsLayer<L> {
    type Service = IntoErrors<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        IntoErrors::new(self.below.layer(inner))
    }
}
