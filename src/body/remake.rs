//! [`Remake`]: a body that a function makes anew for each sending.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Resend;

pin_project! {
    /// A body that is made anew for each sending: a multipart form, a file opened again.
    ///
    /// The request's headers go again as they are. So each body has to be what they say: a form with the boundary of the
    /// `Content-Type`, and as long as a `Content-Length` that is given.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use tower_outbound::body::{Remake, Resend};
    ///
    /// let body = Remake::new(|| Full::new(bytes::Bytes::from("--form …")));
    /// assert!(body.resend().is_some());
    /// ```
    pub struct Remake<B, F> {
        #[pin]
        first: Option<B>,
        // Of a further sending: made once somebody asks for it.
        again: OnceLock<Pin<Box<B>>>,
        make: Arc<F>,
    }
}

impl<B, F: Fn() -> B> Remake<B, F> {
    /// Makes the first body now, and one more for each further sending, when that begins.
    pub fn new(make: F) -> Self {
        Self { first: Some(make()), again: OnceLock::new(), make: Arc::new(make) }
    }

    fn body(&self) -> &B {
        self.first.as_ref().unwrap_or_else(|| self.again.get_or_init(|| Box::pin((self.make)())))
    }
}

impl<B, F: Fn() -> B> Resend for Remake<B, F> {
    fn resend(&self) -> Option<Self> {
        Some(Self { first: None, again: OnceLock::new(), make: Arc::clone(&self.make) })
    }

    fn can_resend(&self) -> bool {
        true
    }
}

impl<B: Body, F: Fn() -> B> Body for Remake<B, F> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if let Some(first) = this.first.as_pin_mut() {
            return first.poll_frame(cx);
        }
        this.again.get_or_init(|| Box::pin((this.make)()));
        this.again.get_mut().map_or(Poll::Ready(None), |body| body.as_mut().poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

impl<B: fmt::Debug, F> fmt::Debug for Remake<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remake").field("first", &self.first).finish_non_exhaustive()
    }
}
