//! [`Client`]: a stack that speaks reqwest.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use pin_project_lite::pin_project;
use reqwest::IntoUrl;
use tower::{BoxError, ServiceExt, util::Oneshot};
use tower_service::Service;

use super::{
    Body, RequestBuilder,
    body::{Maker, wrapped},
    future::with_url_of,
};
use crate::bridge::MAX_REPLAY;

/// The layers over reqwest, for its own requests and responses. See the [module](super).
///
/// It is cheap to clone, and a `Service<reqwest::Request>` too.
#[derive(Clone, Debug)]
pub struct Client<S> {
    /// Builds requests; what is sent goes through the service.
    http: reqwest::Client,
    service: S,
    max_replay: usize,
}

impl<S> Client<S> {
    pub(super) fn new(http: reqwest::Client, service: S) -> Self {
        Self { http, service, max_replay: MAX_REPLAY }
    }

    /// How much of a streamed request body is kept, so that it can go again. Default: 1 MiB; a longer one goes once.
    #[must_use]
    pub fn max_replay(mut self, bytes: usize) -> Self {
        self.max_replay = bytes;
        self
    }

    /// The stack as it is, for `http::Request`s.
    pub fn into_service(self) -> S {
        self.service
    }

    pub(in crate::bridge) fn parts_mut(&mut self) -> (&mut S, usize) {
        (&mut self.service, self.max_replay)
    }
}

macro_rules! methods {
    ($($name:ident $method:ident),*) => {$(
        #[doc = concat!("A ", stringify!($method), " request.")]
        pub fn $name(&self, url: impl IntoUrl) -> RequestBuilder<S> {
            self.request(Method::$method, url)
        }
    )*};
}

impl<S: Clone> Client<S> {
    methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE, head HEAD);

    /// A request with this method.
    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder<S> {
        RequestBuilder::new(self.clone(), self.http.request(method, url))
    }

    /// A request that is made anew for each sending, with all that reqwest's builder has: for forms and files.
    ///
    /// ```
    /// # fn example<S: Clone>(client: &tower_outbound::bridge::reqwest::Client<S>) {
    /// let upload = client.remake(|http| {
    ///     // http.post(url).multipart(Form::new().text("purpose", "batch").part("file", …))
    ///     http.post("https://api.openai.com/v1/files").body("…")
    /// });
    /// # }
    /// ```
    pub fn remake<F>(&self, make: F) -> RequestBuilder<S>
    where
        F: Fn(&reqwest::Client) -> reqwest::RequestBuilder + Send + Sync + 'static,
    {
        let first = make(&self.http);
        let http = self.http.clone();
        let maker: Maker = Arc::new(move || {
            let made = make(&http).build().map_err(Into::into);
            Box::pin(std::future::ready(made))
        });
        RequestBuilder::new(self.clone(), first).made_by(maker)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The stack's; a [`reqwest::Error`] for a request that cannot be sent.
    ///
    /// # Cancel safety
    /// Its future may be dropped at any point.
    pub fn execute<RB>(&self, request: reqwest::Request) -> Oneshot<Self, reqwest::Request>
    where
        S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>>,
        RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
    {
        self.clone().oneshot(request)
    }
}

/// As the layers take it. A stream is kept up to the limit, unless it can be made anew.
pub(in crate::bridge) fn incoming(
    request: reqwest::Request,
    max_replay: usize,
    maker: Option<Maker>,
) -> Result<Request<Body>, reqwest::Error> {
    let url = request.url().clone();
    let body = |body| match maker {
        Some(maker) => Body::made(body, maker),
        None => Body::replayed(body, max_replay),
    };
    Ok(Request::try_from(request)?.map(|content| body(content).to(url)))
}

impl<S, RB> Service<reqwest::Request> for Client<S>
where
    S: Service<Request<Body>, Response = Response<RB>, Error: Into<BoxError>>,
    RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    type Response = reqwest::Response;
    type Error = BoxError;
    type Future = ExecuteFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: reqwest::Request) -> Self::Future {
        match incoming(request, self.max_replay, None) {
            Ok(request) => ExecuteFuture::new(request.uri().clone(), self.service.call(request)),
            Err(error) => ExecuteFuture { state: State::Failed { error: Some(error) } },
        }
    }
}

pin_project! {
    /// The response of a [`Client`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ExecuteFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProj]
    enum State<F> {
        Called { #[pin] future: F, uri: Uri },
        Failed { error: Option<reqwest::Error> },
    }
}

impl<F> ExecuteFuture<F> {
    /// `uri`: as the request has it above all layers.
    pub(in crate::bridge) fn new(uri: Uri, future: F) -> Self {
        Self { state: State::Called { future, uri } }
    }
}

impl<F, RB, E> Future for ExecuteFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
    RB: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
    E: Into<BoxError>,
{
    type Output = Result<reqwest::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future, uri } => {
                let response = ready!(future.poll(cx)).map_err(Into::into)?;
                Poll::Ready(Ok(with_url_of(uri, response.map(wrapped).into())))
            }
            StateProj::Failed { error } => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error.into()))),
        }
    }
}
