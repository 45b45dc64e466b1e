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
//! # Errors
//! They come out as `Error::Middleware` with a [`StackError`] in it, through which [`find_cause`](crate::find_cause) reaches every cause:
//! the enum itself shows its own causes only from the second on.

use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Map};
use http::{Extensions, Request, Response};
use reqwest_middleware::{Error as MiddlewareError, Middleware, Next};
use tower::{BoxError, ServiceExt, util::Oneshot};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    MAX_REPLAY,
    reqwest::{
        Body,
        body::{Outgoing, wrapped},
        client::incoming,
        future::{put_in, to_reqwest, with_url, with_url_of, without_key},
    },
};
use crate::Call;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
        let mut request = incoming(request, self.max_replay, None)?;
        let (uri, has_own) = (request.uri().clone(), !request.extensions().is_empty());
        if !extensions.is_empty() {
            request.extensions_mut().extend(extensions.clone());
        }
        let lent = Lent::from(extensions);
        let next = NextService { next, extensions: &lent.shared, has_own };
        let response = self.layer.run_over(next, request).await.map_err(into_middleware)?;
        Ok(with_url_of(&uri, response.into()))
    }
}

/// The extensions while the layers have them: given back also where the call is dropped, and with the caller's own
/// [`Call`] or none. That of this call would switch off the retries of the next with the same extensions.
struct Lent<'a> {
    place: &'a mut Extensions,
    call: Option<Call>,
    shared: Mutex<Extensions>,
}

impl<'a> Lent<'a> {
    fn from(place: &'a mut Extensions) -> Self {
        let (call, shared) = (place.get().cloned(), Mutex::new(mem::take(place)));
        Self { place, call, shared }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.place = mem::take(self.shared.get_mut().unwrap_or_else(PoisonError::into_inner));
        match self.call.take() {
            Some(call) => drop(self.place.insert(call)),
            None => drop(self.place.remove::<Call>()),
        }
    }
}

/// Layers that can be put over the middlewares that follow, however long those are borrowed.
///
/// Every [`Layer`] is that makes of a [`NextService`] a service of requests and responses.
pub trait RunOver<'a>: sealed::Sealed<'a> {
    #[doc(hidden)]
    type Future: Future<Output = Result<Response<reqwest::Body>, BoxError>> + Send;

    #[doc(hidden)]
    fn run_over(&self, next: NextService<'a>, request: Request<Body>) -> Self::Future;
}

impl<'a, L, RB> RunOver<'a> for L
where
    L: Layer<NextService<'a>>,
    L::Service: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>, Future: Send> + Send + 'a,
    RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Future = Answer<L::Service, RB>;

    fn run_over(&self, next: NextService<'a>, request: Request<Body>) -> Self::Future {
        self.layer(next).oneshot(request).map(|answer| match answer {
            Ok(response) => Ok(response.map(wrapped)),
            Err(error) => Err(error.into()),
        })
    }
}

/// The layers' answer, with its body as reqwest's.
type Answer<S, RB> = Map<
    Oneshot<S, Request<Body>>,
    fn(Result<Response<RB>, <S as Service<Request<Body>>>::Error>) -> Result<Response<reqwest::Body>, BoxError>,
>;

mod sealed {
    use super::{Layer, NextService};

    pub trait Sealed<'a> {}
    impl<'a, L: Layer<NextService<'a>>> Sealed<'a> for L {}
}

/// The middlewares that follow, and the client, as a service.
#[derive(Clone)]
pub struct NextService<'a> {
    next: Next<'a>,
    /// What the middlewares hand on to each other. An attempt under way has it.
    extensions: &'a Mutex<Extensions>,
    /// Whether the request came with extensions of its own, as reqwest keeps its time limit there.
    has_own: bool,
}

/// The extensions while an attempt has them: given back also where it is dropped.
struct Taken<'a> {
    extensions: Extensions,
    place: &'a Mutex<Extensions>,
}

impl<'a> Taken<'a> {
    fn from(place: &'a Mutex<Extensions>) -> Self {
        let extensions = mem::take(&mut *lock(place));
        Self { extensions, place }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut place = lock(self.place);
        if place.is_empty() {
            *place = mem::take(&mut self.extensions);
        } else {
            place.extend(mem::take(&mut self.extensions));
        }
    }
}

fn lock(place: &Mutex<Extensions>) -> MutexGuard<'_, Extensions> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Service<Request<Body>> for NextService<'a> {
    type Response = Response<reqwest::Body>;
    type Error = BoxError;
    type Future = Boxed<'a, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { next, extensions, has_own } = self.clone();
        Box::pin(async move {
            let mut taken = Taken::from(extensions);
            let (parts, body) = request.into_parts();
            let (mut request, url) = match body.into_outgoing() {
                Outgoing::Now(body, url) => (Request::from_parts(parts, body), url),
                Outgoing::Later(making) => (put_in(parts, making.await?), None),
            };
            let known = if has_own { request.extensions().clone() } else { mem::take(request.extensions_mut()) };
            if taken.extensions.is_empty() {
                taken.extensions = known;
            } else {
                taken.extensions.extend(known);
            }
            let request = to_reqwest(request, url)?;
            next.run(request, &mut taken.extensions).await.map(with_url).map_err(from_middleware)
        })
    }
}

impl fmt::Debug for NextService<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextService").finish_non_exhaustive()
    }
}

/// What failed further in, without the enum around it, which hides it.
fn from_middleware(error: MiddlewareError) -> BoxError {
    match error {
        MiddlewareError::Reqwest(error) => without_key(error).into(),
        MiddlewareError::Middleware(error) => error.into(),
    }
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
