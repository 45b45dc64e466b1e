//! The layers as a middleware of reqwest-middleware.
//!
//! ```no_run
//! use reqwest_middleware::ClientBuilder;
//! use tower_outbound::{bridge::{reqwest::same_origin, reqwest_middleware::TowerMiddleware}, stack};
//!
//! # fn example() -> Result<(), tower::BoxError> {
//! let http = reqwest::Client::builder().redirect(same_origin()).build()?;
//! let client = ClientBuilder::new(http).with(TowerMiddleware::new(stack::openai())).build();
//! # Ok(()) }
//! ```
//!
//! Middlewares before it see one call, those after it each attempt. Extensions go both ways: what a middleware before it
//! put in, the layers and those after it see; what those after it put in, the ones before it. What the layers have to
//! say of a response is among the response's own extensions.
//!
//! Those of a `reqwest::Request` itself, which only one made of an `http::Request` has, are for reqwest: they go with it the first
//! time, and the layers do not see them. What these shall see goes in by `with_extension` or `execute_with_extensions`. A
//! request's time limit holds for each attempt.
//!
//! Another middleware that sends again, as reqwest-retry, multiplies with the layers' own retries: one of them is enough.
//!
//! Where layers send several at once, as a hedge, all but the first have extensions of their own, and leave them when answered.
//!
//! # Errors
//! They come out as `Error::Middleware` with a [`StackError`] in it, through which [`find_cause`](crate::find_cause) reaches every cause:
//! the enum itself shows its own causes only from the second on.

mod desk;
mod whole;

use std::{error::Error, fmt, pin::pin};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{Either, Map, select},
};
use http::{Extensions, Request, Response};
use reqwest_middleware::{Error as MiddlewareError, Middleware, Next};
use tower::{BoxError, ServiceExt, util::Oneshot};
use tower_layer::Layer;
use tower_service::Service;

pub use self::desk::{Attempt, NextService};
use self::{
    desk::{Answer, Desk, send},
    whole::apart,
};
use super::{
    MAX_REPLAY,
    reqwest::{Body, body::wrapped, future::with_url_of},
};
use crate::Call;

/// Layers as a [`Middleware`]. See the [module](self).
///
/// What they know (limits, keys, budgets) is in the layers, and so shared by all calls.
#[derive(Clone, Debug)]
pub struct TowerMiddleware<L> {
    layer: L,
    max_replay: usize,
}

impl<L> TowerMiddleware<L> {
    /// These layers.
    #[must_use]
    pub fn new(layer: L) -> Self {
        Self { layer, max_replay: MAX_REPLAY }
    }

    /// How much of a streamed request body is kept, so that it can go again. Default: 1 MiB; a longer one goes once.
    #[must_use]
    pub fn max_replay(mut self, bytes: usize) -> Self {
        self.max_replay = bytes;
        self
    }
}

#[async_trait::async_trait]
impl<L> Middleware for TowerMiddleware<L>
where
    L: for<'a> RunOver<'a> + Send + Sync + 'static,
{
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<reqwest::Response, MiddlewareError> {
        let timeout = request.timeout().copied();
        let (mut request, mut shell) = apart(request, self.max_replay)?;
        let uri = request.uri().clone();
        if !extensions.is_empty() {
            request.extensions_mut().extend(extensions.clone());
        }
        let desk = Desk::default();
        let lent = Lent::from(extensions);
        let service = NextService { desk: &desk, next: next.clone(), timeout };
        let mut layers = pin!(self.layer.run_over(service, request));
        let answer = loop {
            // The layers always go first: they hand in what is to be sent, and give it up.
            let request = match select(&mut layers, desk.asked()).await {
                Either::Left((answer, _)) => break answer,
                Either::Right((request, _)) => request,
            };
            let sending = pin!(send(next.clone(), request, shell.take(), timeout, lent.extensions));
            match select(&mut layers, select(desk.given_up(), sending)).await {
                Either::Left((answer, _)) => break answer,
                Either::Right((Either::Left(_), _)) => {}
                Either::Right((Either::Right((answer, _)), _)) => desk.answer(answer),
            }
        };
        lent.extensions.extend(desk.take_left());
        answer.map(|response| with_url_of(&uri, response.into())).map_err(into_middleware)
    }
}

/// The extensions while the layers have them: given back, also where the call is dropped, with the caller's own [`Call`] or
/// none. That of this call would switch off the retries of the next with the same extensions.
struct Lent<'a> {
    extensions: &'a mut Extensions,
    call: Option<Call>,
}

impl<'a> Lent<'a> {
    fn from(extensions: &'a mut Extensions) -> Self {
        let call = extensions.get().cloned();
        Self { extensions, call }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        match self.call.take() {
            Some(call) => drop(self.extensions.insert(call)),
            None => drop(self.extensions.remove::<Call>()),
        }
    }
}

/// Layers that can be put over the middlewares that follow, however long those are borrowed.
///
/// Every [`Layer`] is that makes of a [`NextService`] a service of requests and responses.
pub trait RunOver<'a>: sealed::Sealed<'a> {
    #[doc(hidden)]
    type Future: Future<Output = Answer> + Send;

    #[doc(hidden)]
    fn run_over(&self, next: NextService<'a>, request: Request<Body>) -> Self::Future;
}

impl<'a, L, RB> RunOver<'a> for L
where
    L: Layer<NextService<'a>>,
    L::Service: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>, Future: Send> + Send + 'a,
    RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Future = Layered<L::Service, RB>;

    fn run_over(&self, next: NextService<'a>, request: Request<Body>) -> Self::Future {
        self.layer(next).oneshot(request).map(|answer| match answer {
            Ok(response) => Ok(response.map(wrapped)),
            Err(error) => Err(error.into()),
        })
    }
}

/// The layers' answer, with its body as reqwest's.
type Layered<S, RB> =
    Map<Oneshot<S, Request<Body>>, fn(Result<Response<RB>, <S as Service<Request<Body>>>::Error>) -> Answer>;

mod sealed {
    use super::{Layer, NextService};

    pub trait Sealed<'a> {}
    impl<'a, L: Layer<NextService<'a>>> Sealed<'a> for L {}
}

fn into_middleware(error: BoxError) -> MiddlewareError {
    match error.downcast::<reqwest::Error>() {
        Ok(error) => MiddlewareError::Reqwest(*error),
        Err(error) => MiddlewareError::middleware(StackError(error)),
    }
}

/// What the layers ended a call with. Its cause, and all of theirs, are reached by [`find_cause`](crate::find_cause).
#[derive(Debug)]
pub struct StackError(BoxError);

impl StackError {
    /// The error itself.
    #[must_use]
    pub fn into_inner(self) -> BoxError {
        self.0
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for StackError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
