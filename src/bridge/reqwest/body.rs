//! [`Body`]: reqwest's bodies as the layers need them, to go again.

use std::{
    any::Any,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use reqwest::Url;
use tower::BoxError;

use crate::body::{ReplayBody, Resend};

/// A whole request made anew.
pub(in crate::bridge) type Making = Pin<Box<dyn Future<Output = Result<reqwest::Request, BoxError>> + Send>>;
/// Makes a whole request anew: a form's body goes with its own `Content-Type`.
pub(in crate::bridge) type Maker = Arc<dyn Fn() -> Making + Send + Sync>;

/// The body of a request that goes through the layers: a [`reqwest::Body`] that can go again where that is possible.
///
/// From what is in memory it is made without a copy; from a stream, one that goes once.
/// [`Body::replayed`] keeps a stream while it is sent.
pub struct Body {
    content: Content,
    /// Where the request with it goes, as reqwest has it: so it need not be read out of the [`Uri`](http::Uri) again.
    url: Option<Url>,
}

enum Content {
    Whole(Bytes),
    Once(reqwest::Body),
    Replay(ReplayBody<reqwest::Body>),
    Made { body: reqwest::Body, maker: Maker },
    ToMake(Maker),
    // Nobody locks it: it makes the body `Sync`, as reqwest wants its bodies.
    Making { making: Mutex<Making>, maker: Maker },
}

/// What a body is to reqwest, and where it was to go if it came with a request.
pub(in crate::bridge) enum Outgoing {
    Now(reqwest::Body, Option<Url>),
    Later(Making),
}

impl Body {
    /// A stream that is kept while it is sent, up to `max_bytes`, and can go again as long as it is.
    pub fn replayed(body: impl Into<reqwest::Body>, max_bytes: usize) -> Self {
        match Content::from(body.into()) {
            Content::Once(stream) => Content::Replay(ReplayBody::new(stream, max_bytes)).into(),
            whole => whole.into(),
        }
    }

    /// The body of a request that `maker` has made, and makes anew for each further sending.
    pub(in crate::bridge) fn made(body: reqwest::Body, maker: Maker) -> Self {
        match Content::from(body) {
            Content::Once(body) => Content::Made { body, maker }.into(),
            whole => whole.into(),
        }
    }

    /// That of a request to this place.
    pub(in crate::bridge) fn to(self, url: Url) -> Self {
        Self { url: Some(url), ..self }
    }

    pub(in crate::bridge) fn into_outgoing(self) -> Outgoing {
        let body = match self.content {
            Content::Whole(bytes) => bytes.into(),
            Content::Once(body) | Content::Made { body, .. } => body,
            Content::Replay(replay) => reqwest::Body::wrap(replay),
            Content::ToMake(maker) => return Outgoing::Later(maker()),
            Content::Making { making, .. } => {
                return Outgoing::Later(making.into_inner().unwrap_or_else(PoisonError::into_inner));
            }
        };
        Outgoing::Now(body, self.url)
    }
}

impl Default for Body {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Content::Whole(bytes).into()
    }
}

impl From<reqwest::Body> for Body {
    fn from(body: reqwest::Body) -> Self {
        Content::from(body).into()
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Self { content, url: None }
    }
}

impl From<reqwest::Body> for Content {
    fn from(mut body: reqwest::Body) -> Self {
        if body.as_bytes().is_none() {
            return Self::Once(body);
        }
        // In memory, its one frame is all of it, and handed out without a copy.
        Self::Whole(match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            _ => Bytes::new(),
        })
    }
}

/// Any body as reqwest's: its own, ours, and what is in memory without a box around it.
pub(super) fn outgoing<B>(body: B) -> Outgoing
where
    B: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    let is_empty = body.is_end_stream();
    let body = &mut Some(body);
    if let Some(body) = take::<Body, _>(body) {
        return if is_empty { Outgoing::Now(reqwest::Body::default(), body.url) } else { body.into_outgoing() };
    }
    let body = if is_empty {
        reqwest::Body::default()
    } else if let Some(body) = take::<reqwest::Body, _>(body) {
        body
    } else if let Some(full) = take::<Full<Bytes>, _>(body) {
        full.in_memory().unwrap_or_default().into()
    } else {
        body.take().map(reqwest::Body::wrap).unwrap_or_default()
    };
    Outgoing::Now(body, None)
}

/// The body of an answer as reqwest's: a box around it only where it is of another type.
pub(in crate::bridge) fn wrapped<B>(body: B) -> reqwest::Body
where
    B: http_body::Body<Data: Into<Bytes>, Error: Into<BoxError>> + Send + Sync + 'static,
{
    let body = &mut Some(body);
    take(body).or_else(|| body.take().map(reqwest::Body::wrap)).unwrap_or_default()
}

/// What is in the option, if it is a `T`.
fn take<T: 'static, B: 'static>(body: &mut Option<B>) -> Option<T> {
    (body as &mut dyn Any).downcast_mut::<Option<T>>()?.take()
}

impl Resend for Body {
    fn resend(&self) -> Option<Self> {
        // Its URL is for the first: hardly any goes again.
        let content = match &self.content {
            Content::Whole(bytes) => Content::Whole(bytes.clone()),
            Content::Once(_) => return None,
            Content::Replay(replay) => Content::Replay(replay.resend()?),
            Content::Made { maker, .. } | Content::ToMake(maker) | Content::Making { maker, .. } => {
                Content::ToMake(Arc::clone(maker))
            }
        };
        Some(content.into())
    }

    fn can_resend(&self) -> bool {
        match &self.content {
            Content::Once(_) => false,
            Content::Replay(replay) => replay.can_resend(),
            _ => true,
        }
    }

    fn in_memory(&self) -> Option<Bytes> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match &mut self.content {
                Content::Whole(bytes) => {
                    let bytes = mem::take(bytes);
                    return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
                }
                Content::Once(body) | Content::Made { body, .. } => {
                    return Pin::new(body).poll_frame(cx).map(|frame| Some(frame?.map_err(Into::into)));
                }
                Content::Replay(replay) => {
                    return Pin::new(replay).poll_frame(cx).map(|frame| Some(frame?.map_err(Into::into)));
                }
                Content::ToMake(maker) => {
                    let (making, maker) = (Mutex::new(maker()), Arc::clone(maker));
                    self.content = Content::Making { making, maker };
                }
                Content::Making { making, .. } => {
                    let making = making.get_mut().unwrap_or_else(PoisonError::into_inner);
                    let made = ready!(making.as_mut().poll(cx));
                    let body = match made {
                        Ok(mut request) => request.body_mut().take().unwrap_or_default(),
                        Err(error) => {
                            self.content = Content::Whole(Bytes::new());
                            return Poll::Ready(Some(Err(error)));
                        }
                    };
                    self.content = Content::Once(body);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Once(body) | Content::Made { body, .. } => body.is_end_stream(),
            Content::Replay(replay) => replay.is_end_stream(),
            Content::ToMake(_) | Content::Making { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Once(body) | Content::Made { body, .. } => body.size_hint(),
            Content::Replay(replay) => replay.size_hint(),
            Content::ToMake(_) | Content::Making { .. } => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.content {
            Content::Whole(_) => "Body(in memory)",
            Content::Once(_) => "Body(goes once)",
            Content::Replay(_) => "Body(kept while it is sent)",
            Content::Made { .. } | Content::ToMake(_) | Content::Making { .. } => "Body(made anew)",
        })
    }
}
