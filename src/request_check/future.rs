//! The future of a call that was checked.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;
use tower::BoxError;

use crate::Refused;

pin_project! {
    /// The response of a [`RequestCheck`](super::RequestCheck), or of all layers as one.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F> {
        Sent { #[pin] future: F },
        Refused { refused: Option<Refused> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn sent(future: F) -> Self {
        Self { state: State::Sent { future } }
    }

    #[cold]
    pub(crate) fn refused(refused: Refused) -> Self {
        Self { state: State::Refused { refused: Some(refused) } }
    }
}

impl<F, RB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Sent { future } => future.poll(cx).map_err(Into::into),
            StateProj::Refused { refused } => {
                refused.take().map_or(Poll::Pending, |refused| Poll::Ready(Err(refused.into())))
            }
        }
    }
}
