//! [`Remake`]: a body that a function makes anew for each sending.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Resend;

pin_project! {
    /// A body that is made anew for each sending: a multipart form, a file opened again.
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
        body: B,
        make: Arc<F>,
    }
}

impl<B, F: Fn() -> B> Remake<B, F> {
    /// Makes the first body now, and one more for each further sending.
    pub fn new(make: F) -> Self {
        Self { body: make(), make: Arc::new(make) }
    }
}

impl<B, F: Fn() -> B> Resend for Remake<B, F> {
    fn resend(&self) -> Option<Self> {
        Some(Self { body: (self.make)(), make: Arc::clone(&self.make) })
    }
}

impl<B: Body, F> Body for Remake<B, F> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: fmt::Debug, F> fmt::Debug for Remake<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remake").field("body", &self.body).finish_non_exhaustive()
    }
}
