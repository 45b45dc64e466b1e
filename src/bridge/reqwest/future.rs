//! The future of a request that reqwest sends.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{
    Request, Response, Uri,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    request::Parts,
    uri::PathAndQuery,
};
use pin_project_lite::pin_project;
use reqwest::{ResponseBuilderExt, Url};
use tower::BoxError;
use tower_service::Service;

use super::{ReqwestService, body::Making};
use crate::{Call, error::shows_key};

/// What reqwest makes up for a response with no mark.
const UNKNOWN_HOST: &str = "no.url.provided.local";

type Sending = <reqwest::Client as Service<reqwest::Request>>::Future;

pin_project! {
    /// The response of a [`ReqwestService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Sending { #[pin] sending: Sending },
        Making { to_make: Option<Box<ToMake>> },
        Failed { error: Option<reqwest::Error> },
    }
}

/// A request whose body is still being made.
struct ToMake {
    service: ReqwestService,
    parts: Parts,
    making: Making,
}

impl ResponseFuture {
    pub(super) fn send(client: &mut reqwest::Client, request: Request<reqwest::Body>, url: Option<Url>) -> Self {
        Self { state: State::send(client, request, url) }
    }

    pub(super) fn make(service: ReqwestService, parts: Parts, making: Making) -> Self {
        Self { state: State::Making { to_make: Some(Box::new(ToMake { service, parts, making })) } }
    }
}

impl State {
    fn send(client: &mut reqwest::Client, request: Request<reqwest::Body>, url: Option<Url>) -> Self {
        match to_reqwest(request, url) {
            Ok(request) => Self::Sending { sending: client.call(request) },
            Err(error) => Self::Failed { error: Some(error) },
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<reqwest::Body>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project().state.project() {
                StateProj::Sending { sending } => {
                    return Poll::Ready(match ready!(sending.poll(cx)) {
                        Ok(response) => Ok(with_url(response)),
                        Err(error) => Err(without_key(error).into()),
                    });
                }
                StateProj::Making { to_make } => {
                    let Some(waiting) = to_make else { return Poll::Pending };
                    let made = ready!(waiting.making.as_mut().poll(cx))?;
                    let Some(ToMake { mut service, parts, .. }) = to_make.take().map(|made| *made) else {
                        return Poll::Pending;
                    };
                    State::send(service.client_mut(), put_in(parts, made), None)
                }
                StateProj::Failed { error } => {
                    let error = error.take().map(without_key);
                    return error.map_or(Poll::Pending, |error| Poll::Ready(Err(error.into())));
                }
            };
            self.as_mut().project().state.set(next);
        }
    }
}

/// The body just made, with the headers that belong to it: a form has another boundary each time.
pub(in crate::bridge) fn put_in(mut parts: Parts, mut made: reqwest::Request) -> Request<reqwest::Body> {
    for name in [CONTENT_TYPE, CONTENT_LENGTH] {
        match made.headers_mut().remove(&name) {
            Some(value) => drop(parts.headers.insert(name, value)),
            None => drop(parts.headers.remove(&name)),
        }
    }
    Request::from_parts(parts, made.body_mut().take().unwrap_or_default())
}

/// In reqwest's own type; to `known`, if it is still to go there. Its own conversion lets each URL grow as it writes it out,
/// and is needed only where there are extensions: the time limit is one.
pub(in crate::bridge) fn to_reqwest(
    mut request: Request<reqwest::Body>,
    known: Option<Url>,
) -> Result<reqwest::Request, reqwest::Error> {
    // That is for the layers alone.
    request.extensions_mut().remove::<Call>();
    if !request.extensions().is_empty() {
        return request.try_into();
    }
    let url = known.filter(|url| *request.uri() == *url.as_str()).or_else(|| url_of(request.uri()));
    let Some(url) = url else { return request.try_into() };
    let (parts, body) = request.into_parts();
    let mut request = reqwest::Request::new(parts.method, url);
    *request.version_mut() = parts.version;
    *request.headers_mut() = parts.headers;
    *request.body_mut() = Some(body);
    Ok(request)
}

/// `None` for what is no whole URL.
fn url_of(uri: &Uri) -> Option<Url> {
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?.as_str());
    let place = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let parts = [scheme, "://", authority, place];
    parts.concat().parse().ok()
}

/// With the URL that it came from, but for a key in it.
pub(in crate::bridge) fn with_url(response: reqwest::Response) -> Response<reqwest::Body> {
    let mut url = response.url().clone();
    if url.query().is_some_and(shows_key) {
        let kept = pairs_without_key(url.query()).collect::<Vec<_>>().join("&");
        url.set_query((!kept.is_empty()).then_some(&kept));
    }
    marked(response.into(), url)
}

fn pairs_without_key(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty() && !shows_key(pair))
}

/// A response in reqwest's own type, with the request's URL where a layer has added to that, as a key, or has answered
/// itself, or where a key of the caller's own was taken out of it; one that came by a redirect keeps where it came from.
pub(in crate::bridge) fn with_url_of(uri: &Uri, response: reqwest::Response) -> reqwest::Response {
    let url = response.url();
    let is_unknown = url.host_str() == Some(UNKNOWN_HOST);
    if !is_unknown && !has_other_query(url, uri) {
        return response;
    }
    match uri.to_string().parse() {
        Ok(url) => marked(response.into(), url).into(),
        Err(_) => response,
    }
}

/// Whether it is the same request's, but for keys: one more at the end, or those that can be told for such gone.
fn has_other_query(url: &Url, uri: &Uri) -> bool {
    if url.query() == uri.query() {
        return false;
    }
    let mut seen = pairs_without_key(url.query());
    let has_own = pairs_without_key(uri.query()).all(|pair| seen.next() == Some(pair));
    has_own && url.path() == uri.path() && url.host_str() == uri.host() && url.port() == uri.port_u16()
}

/// With the mark from which reqwest reads the URL when it takes the response back. Only its own builder can put it.
pub(in crate::bridge) fn marked(mut response: Response<reqwest::Body>, url: Url) -> Response<reqwest::Body> {
    let mut builder = Response::builder();
    swap_extensions(&mut builder, &mut response);
    builder = builder.url(url);
    swap_extensions(&mut builder, &mut response);
    response
}

fn swap_extensions(builder: &mut http::response::Builder, response: &mut Response<reqwest::Body>) {
    if let Some(extensions) = builder.extensions_mut() {
        mem::swap(extensions, response.extensions_mut());
    }
}

pub(in crate::bridge) fn without_key(error: reqwest::Error) -> reqwest::Error {
    if error.url().is_some_and(|url| shows_key(url.as_str())) { error.without_url() } else { error }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
