//! [`Sight`]: what a meter sees of a request's body.

use bytes::Bytes;
use http::{Request, header::CONTENT_LENGTH};
use http_body::Body;

use crate::body::Resend;

/// What a meter sees of a request's body.
///
/// There are two: [`Contents`], the default, and [`HeadOnly`]. A body of one's own shows its content to a meter by
/// [`Resend::in_memory`].
pub trait Sight<B> {
    /// The content, where it is in memory.
    fn content(request: &Request<B>) -> Option<Bytes>;

    /// How long the body is, in bytes, where that is known.
    fn length(request: &Request<B>) -> Option<u64>;
}

/// Sees the content of bodies that have it in memory, and the length of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Contents;

impl<B: Body + Resend> Sight<B> for Contents {
    fn content(request: &Request<B>) -> Option<Bytes> {
        request.body().in_memory()
    }

    fn length(request: &Request<B>) -> Option<u64> {
        request.body().size_hint().exact()
    }
}

/// Sees no body, whatever its type: the model of a request is that of its extension or path, its length that of
/// `Content-Length`. From [`QuotaMeterLayer::any_body`](super::QuotaMeterLayer::any_body).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeadOnly;

impl<B> Sight<B> for HeadOnly {
    fn content(_: &Request<B>) -> Option<Bytes> {
        None
    }

    fn length(request: &Request<B>) -> Option<u64> {
        request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}
