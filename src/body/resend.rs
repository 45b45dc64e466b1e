//! [`Resend`]: which request bodies can go again.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{
    Empty, Full,
    combinators::{BoxBody, UnsyncBoxBody},
};
use pin_project_lite::pin_project;

/// A request body that may be able to go again.
///
/// There is no blanket implementation over `Clone`: it would shut out bodies that only know at run time whether they
/// can, as reqwest's. Wrap a body that is cheap to clone in [`CloneBody`], and one that cannot go again in [`Once`].
pub trait Resend: Sized {
    /// The same body from its start; `None` if it can go only once.
    ///
    /// Called before the body is first polled, and cheap: no copy of the content.
    fn resend(&self) -> Option<Self>;

    /// Whether [`resend`](Self::resend) would give one now; asked after each failure, before the wait.
    fn can_resend(&self) -> bool {
        self.resend().is_some()
    }

    /// The whole content where it is in memory; without a copy, but of a `String`.
    fn in_memory(&self) -> Option<Bytes> {
        None
    }
}

impl<D: Buf + Clone + 'static> Resend for Full<D> {
    fn resend(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn can_resend(&self) -> bool {
        true
    }

    fn in_memory(&self) -> Option<Bytes> {
        let mut content = self.clone().into_inner();
        match (&mut content as &mut dyn std::any::Any).downcast_mut::<Option<Bytes>>() {
            Some(bytes) => Some(bytes.take().unwrap_or_default()),
            None => content.is_none().then(Bytes::new),
        }
    }
}

impl<D> Resend for Empty<D> {
    fn resend(&self) -> Option<Self> {
        Some(Self::new())
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(Bytes::new())
    }
}

/// What has no body goes again for nothing.
impl Resend for () {
    fn resend(&self) -> Option<Self> {
        Some(())
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(Bytes::new())
    }
}

impl Resend for Bytes {
    fn resend(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(self.clone())
    }
}

impl Resend for String {
    fn resend(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn can_resend(&self) -> bool {
        true
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(self.as_bytes()))
    }
}

macro_rules! only_once {
    ($($body:ty $(, for $param:ident)*;)*) => {$(
        /// What is within cannot be told: it goes once, and shows nothing.
        impl<$($param),*> Resend for $body {
            fn resend(&self) -> Option<Self> {
                None
            }
        }
    )*};
}

only_once! {
    BoxBody<D, E>, for D, for E;
    UnsyncBoxBody<D, E>, for D, for E;
}

#[cfg(feature = "hyper")]
only_once! {
    hyper::body::Incoming;
}

pin_project! {
    /// A body that goes again as its own clone.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct CloneBody<B> {
        #[pin]
        body: B,
    }
}

impl<B: Clone> CloneBody<B> {
    /// Wraps a body whose clone starts at the beginning and costs no copy of the content.
    pub fn new(body: B) -> Self {
        Self { body }
    }
}

impl<B: Clone + 'static> Resend for CloneBody<B> {
    fn resend(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn can_resend(&self) -> bool {
        true
    }

    /// Of the bodies that are known to be in memory: `Full` and `Empty` of `Bytes`, `Bytes`, `String`.
    fn in_memory(&self) -> Option<Bytes> {
        let body: &dyn std::any::Any = &self.body;
        body.downcast_ref::<Full<Bytes>>()
            .and_then(Resend::in_memory)
            .or_else(|| body.downcast_ref::<Bytes>().cloned())
            .or_else(|| body.downcast_ref::<String>().and_then(Resend::in_memory))
            .or_else(|| body.downcast_ref::<Empty<Bytes>>().and_then(Resend::in_memory))
    }
}

pin_project! {
    /// A body that goes only once, such as a stream read from elsewhere.
    #[derive(Debug, Default)]
    pub struct Once<B> {
        #[pin]
        body: B,
    }
}

impl<B> Once<B> {
    /// Wraps a body; a request with it is sent at most once.
    pub fn new(body: B) -> Self {
        Self { body }
    }
}

impl<B> Resend for Once<B> {
    fn resend(&self) -> Option<Self> {
        None
    }
}

macro_rules! forward_body {
    ($wrapper:ident) => {
        impl<B: Body> Body for $wrapper<B> {
            type Data = B::Data;
            type Error = B::Error;

            fn poll_frame(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
                self.project().body.poll_frame(cx)
            }

            fn is_end_stream(&self) -> bool {
                self.body.is_end_stream()
            }

            fn size_hint(&self) -> SizeHint {
                self.body.size_hint()
            }
        }
    };
}

forward_body!(CloneBody);
forward_body!(Once);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_it_can_go_again_is_told_without_another_body() {
        #[derive(Debug)]
        struct Counted(std::cell::Cell<u32>);
        impl Clone for Counted {
            fn clone(&self) -> Self {
                self.0.set(self.0.get() + 1);
                Self(self.0.clone())
            }
        }
        let body = CloneBody::new(Counted(0.into()));
        assert!(body.can_resend());
        assert_eq!(body.body.0.get(), 0);
        assert!(Full::new(Bytes::new()).can_resend() && String::new().can_resend() && Bytes::new().can_resend());
        assert!(!Once::new(()).can_resend());
    }

    #[test]
    fn a_body_in_memory_shows_its_content_without_a_copy() {
        let content = Bytes::from(vec![1, 2, 3]);
        let shown = Full::new(content.clone()).in_memory().expect("in memory");
        assert_eq!(shown.as_ptr(), content.as_ptr());
        assert_eq!(Full::<Bytes>::default().in_memory(), Some(Bytes::new()));
        assert_eq!(Full::new(std::io::Cursor::new([1])).in_memory(), None);
        let cloned = CloneBody::new(Full::new(content.clone())).in_memory().expect("in memory");
        assert_eq!(cloned.as_ptr(), content.as_ptr());
        assert_eq!(CloneBody::new(content.clone()).in_memory(), Some(content.clone()));
        assert_eq!(CloneBody::new(Empty::<Bytes>::new()).in_memory(), Some(Bytes::new()));
        assert_eq!(String::from("text").in_memory().as_deref(), Some(&b"text"[..]));
        assert_eq!(CloneBody::new(String::from("text")).in_memory().as_deref(), Some(&b"text"[..]));
        assert_eq!(CloneBody::new(Full::new(std::io::Cursor::new([1]))).in_memory(), None);
        assert!(Once::new(Full::new(content)).resend().is_none());
    }
}
