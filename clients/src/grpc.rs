//! gRPC without generated code: messages that are bytes, and a server that speaks the wire format itself.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, Collected, Either, Full, StreamBody};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::Server;

/// Messages that are bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `google.rpc.Status` with a `RetryInfo` of 10 ms.
const WAIT_10_MS: &str = "CAgaMwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIHCgUQgK3iBA==";

/// Refuses so many calls with this status, trailers only; then gives each message back. With the number of calls so far.
///
/// # Errors
/// If there is no port.
pub async fn server(refused: u32, status: &'static str) -> io::Result<(Server, Arc<AtomicU32>)> {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = Server::start(move |request: http::Request<hyper::body::Incoming>| {
        let is_refused = counted.fetch_add(1, Ordering::Relaxed) < refused;
        async move {
            // A message that breaks off is an empty one: its caller is gone.
            let message = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
            let mut head = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))]);
            if is_refused {
                head.insert(GRPC_STATUS, HeaderValue::from_static(status));
                head.insert("grpc-status-details-bin", HeaderValue::from_static(WAIT_10_MS));
                head.insert("grpc-message", HeaderValue::from_static("not%20now"));
            }
            let trailers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))]);
            let frames = [Ok::<_, Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
            let mut response = Response::new(match is_refused {
                true => Either::Left(Full::<Bytes>::default()),
                false => Either::Right(StreamBody::new(futures_util::stream::iter(frames))),
            });
            *response.headers_mut() = head;
            response
        }
    });
    Ok((server.await?, calls))
}
