//! The future of a call that has a fallback.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::{
    Failure, LastGood, ResponseBody,
    breaker::{Pass, Said},
    chain::Fallen,
    layer::Settings,
};
use crate::{ApiError, body::Resend, failure, kept::Kept};

type Answer<RB> = Result<Response<ResponseBody<RB>>, BoxError>;

pin_project! {
    /// The response of a [`Fallback`](super::Fallback).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B, RB> {
        #[pin]
        state: State<F, B, RB>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B, RB> {
        // Without anything held there is nobody else to ask.
        First { #[pin] future: F, held: Option<Held<B, RB>>, pass: Option<Pass> },
        Others { others: Pin<Box<dyn Future<Output = Answer<RB>> + Send>> },
        Refused { error: Option<BoxError> },
    }
}

/// What is needed to ask others.
pub(super) struct Held<B, RB> {
    settings: Arc<Settings<B, RB>>,
    kept: Kept<Option<B>>,
}

impl<B: Resend, RB> Held<B, RB> {
    #[inline]
    pub(super) fn of(settings: &Arc<Settings<B, RB>>, request: &Request<B>) -> Self {
        Self { settings: Arc::clone(settings), kept: Kept::with(request, request.body().resend()) }
    }

    fn is_for(&self, error: &ApiError, result: &Result<Response<RB>, BoxError>) -> bool {
        self.settings.covers(&Failure::of(error, result))
    }

    /// The good answer, copied on its way where that is asked for.
    fn pass_on(self, response: Response<RB>) -> Response<ResponseBody<RB>>
    where
        RB: Body,
    {
        let last_good = self.settings.last_good.as_ref();
        let recorder =
            last_good.and_then(|answers| answers.recorder(LastGood::key(&self.kept)?, &self.kept.headers, &response));
        response.map(|body| match recorder {
            Some(recorder) => ResponseBody::recorded(body, recorder),
            None => ResponseBody::own(body),
        })
    }
}

impl<F, B, RB> ResponseFuture<F, B, RB>
where
    B: Resend + Send + 'static,
    RB: Send + 'static,
{
    pub(super) fn first(future: F, held: Option<Held<B, RB>>, pass: Option<Pass>) -> Self {
        Self { state: State::First { future, held, pass } }
    }

    /// Of a call that the first service was not asked for.
    #[cold]
    pub(super) fn not_asked(error: BoxError, held: Option<Held<B, RB>>) -> Self {
        Self {
            state: match held {
                Some(held) => State::others(held, ApiError::from_error(&*error), Err(error)),
                None => State::Refused { error: Some(error) },
            },
        }
    }
}

impl<F, B, RB> State<F, B, RB>
where
    B: Resend + Send + 'static,
    RB: Send + 'static,
{
    fn others(held: Held<B, RB>, error: ApiError, first: Result<Response<RB>, BoxError>) -> Self {
        let Held { settings, kept } = held;
        Self::Others { others: Box::pin(Fallen { settings, kept, first, error }.ask()) }
    }
}

impl<F, B, RB, E> Future for ResponseFuture<F, B, RB>
where
    F: Future<Output = Result<Response<RB>, E>>,
    E: Into<BoxError>,
    B: Resend + Send + 'static,
    RB: Body<Data = Bytes> + Send + 'static,
{
    type Output = Answer<RB>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::First { future, held, pass } => {
                    let result = ready!(future.poll(cx)).map_err(Into::into);
                    let error = failure(&result);
                    if let Some(pass) = pass.take() {
                        pass.report(Said::of(error.as_ref()));
                    }
                    match (error, held.take()) {
                        (Some(error), Some(held)) if held.is_for(&error, &result) => State::others(held, error, result),
                        (None, Some(held)) => return Poll::Ready(result.map(|response| held.pass_on(response))),
                        _ => return Poll::Ready(result.map(|response| response.map(ResponseBody::own))),
                    }
                }
                StateProj::Others { others } => return others.as_mut().poll(cx),
                StateProj::Refused { error } => {
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            };
            this.state.set(next);
        }
    }
}

impl<F, B, RB> fmt::Debug for ResponseFuture<F, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.state {
            State::First { .. } => "fallback::ResponseFuture(first)",
            State::Others { .. } => "fallback::ResponseFuture(others)",
            State::Refused { .. } => "fallback::ResponseFuture(refused)",
        })
    }
}
