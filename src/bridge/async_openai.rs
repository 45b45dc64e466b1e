//! The layers in async-openai's `with_http_service`.
//!
//! A [`reqwest::Client`](super::reqwest::Client) of ours is such a service:
//!
//! ```no_run
//! use tower_outbound::{bridge::reqwest::ReqwestService, stack};
//!
//! # fn example() -> Result<(), tower::BoxError> {
//! let layers = ReqwestService::build(reqwest::Client::builder())?.layered(stack::openai());
//! let client = async_openai::Client::new().with_http_service(layers);
//! # Ok(()) }
//! ```
//!
//! async-openai's own retry is not in the way: it is part of the service that this one takes the place of.
//! Chat, streams, embeddings and uploads all go through it, and each sending of an upload reads its source anew.
//!
//! Without `OPENAI_API_KEY` async-openai sends an empty key, which counts as none here: the stack puts its own on. A key that
//! async-openai has is the caller's, and goes before the stack's; where it shall not, give the stack a
//! [`key_check`](crate::stack::Stack::key_check) with
//! [`replace_callers_key`](crate::KeyCheckLayer::replace_callers_key).
//!
//! Failed responses come out as the crate's own `OpenAIError::ApiError`. What fails without a response comes as
//! `OpenAIError::Boxed`, in which [`find_cause`](crate::find_cause) finds the [`ApiError`](crate::ApiError), a
//! [`Refused`](crate::Refused) or reqwest's error.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_openai::{error::OpenAIError, middleware::HttpRequestFactory};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, header::AUTHORIZATION};
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::reqwest::{Body, Client, ExecuteFuture, body::Maker, client::incoming};

type Building = Pin<Box<dyn Future<Output = Result<reqwest::Request, OpenAIError>> + Send>>;

impl<S, RB> Service<HttpRequestFactory> for Client<S>
where
    S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>> + Clone,
    RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Response = reqwest::Response;
    type Error = OpenAIError;
    type Future = ResponseFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        self.parts_mut().0.poll_ready(cx).map_err(|error| into_openai(error.into()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let (service, max_replay) = self.parts_mut();
        let fresh = service.clone();
        // The one that was made ready is the one that is called.
        let service = mem::replace(service, fresh);
        let first = factory.clone();
        let building: Building = Box::pin(async move { first.build().await });
        ResponseFuture { state: State::Building { building, parts: Some((service, factory, max_replay)) } }
    }
}

pin_project! {
    /// The response to a request of async-openai.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S>
    where
        S: Service<Request<Body>>,
    {
        #[pin]
        state: State<S>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S>
    where
        S: Service<Request<Body>>,
    {
        Building { building: Building, parts: Option<(S, HttpRequestFactory, usize)> },
        Called { #[pin] future: ExecuteFuture<S::Future> },
    }
}

impl<S, RB> Future for ResponseFuture<S>
where
    S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>>,
    RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Output = Result<reqwest::Response, OpenAIError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project().state.project() {
                StateProj::Building { building, parts } => {
                    let request = ready!(building.as_mut().poll(cx))?;
                    let Some((mut service, factory, max_replay)) = parts.take() else { return Poll::Pending };
                    let mut request = incoming(request, max_replay, Some(maker(factory)))?;
                    strip_empty_keys(request.headers_mut());
                    State::Called { future: ExecuteFuture::new(request.uri().clone(), service.call(request)) }
                }
                StateProj::Called { future } => return future.poll(cx).map_err(into_openai),
            };
            self.as_mut().project().state.set(next);
        }
    }
}

/// Takes off what is put where a key would be if there were one.
fn strip_empty_keys(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, HeaderName::from_static("api-key")] {
        let value = headers.get(&name).map(|value| value.as_bytes().trim_ascii());
        if value.is_some_and(|value| value.is_empty() || value.eq_ignore_ascii_case(b"bearer")) {
            headers.remove(name);
        }
    }
}

fn maker(factory: HttpRequestFactory) -> Maker {
    Arc::new(move || {
        let factory = factory.clone();
        Box::pin(async move { factory.build().await.map_err(Into::into) })
    })
}

/// An error of its own, or of reqwest, as such.
fn into_openai(error: BoxError) -> OpenAIError {
    let error = match error.downcast::<OpenAIError>() {
        Ok(own) => return *own,
        Err(error) => error,
    };
    match error.downcast::<reqwest::Error>() {
        Ok(error) => OpenAIError::Reqwest(*error),
        Err(error) => OpenAIError::Boxed(error),
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
