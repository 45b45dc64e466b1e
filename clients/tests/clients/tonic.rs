//! gRPC over tonic's channel, against a server that speaks the wire format itself.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use clients::Server;
use http::{HeaderMap, HeaderValue, Response, uri::PathAndQuery};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tower::{BoxError, ServiceBuilder};
use tower_outbound::{
    ApiError, BackoffRetry, BackoffRetryLayer, ErrorClassify, ErrorClassifyLayer, ErrorKind, RetryHint,
    backoff_retry::{Attempt, Budget, Repeat},
    bridge::tonic::{ChannelService, GrpcService},
    find_cause, provider,
};

/// Messages that are bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Plain;

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

/// `google.rpc.Status` with a `RetryInfo` of 10 ms.
const WAIT_10_MS: &str = "CAgaMwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIHCgUQgK3iBA==";

/// Refuses so many calls with this status, trailers only; then gives the message back.
async fn server(refused: u32, status: &'static str) -> (Server, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let server = Server::start(move |request: http::Request<hyper::body::Incoming>| {
        let is_refused = counted.fetch_add(1, Ordering::Relaxed) < refused;
        async move {
            let message = request.into_body().collect().await.unwrap().to_bytes();
            let response = Response::builder().header("content-type", "application/grpc");
            if is_refused {
                let response = response.header("grpc-status", status).header("grpc-status-details-bin", WAIT_10_MS);
                return response.header("grpc-message", "not%20now").body(boxed(Full::default())).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let frames = [Ok::<_, Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
            response.body(boxed(StreamBody::new(futures_util::stream::iter(frames)))).unwrap()
        }
    });
    (server.await.unwrap(), calls)
}

fn boxed<B>(body: B) -> UnsyncBoxBody<Bytes, BoxError>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

type Service = GrpcService<BackoffRetry<ErrorClassify<ChannelService<Channel>>>>;

fn client(server: &Server, retry: BackoffRetryLayer) -> Grpc<Service> {
    over(server.url(""), retry)
}

fn over(url: String, retry: BackoffRetryLayer) -> Grpc<Service> {
    let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
    let classify = ErrorClassifyLayer::new(provider::Grpc).failures_in_grpc_heads(true);
    Grpc::new(GrpcService::new(channel, ServiceBuilder::new().layer(retry).layer(classify)))
}

async fn call(client: &mut Grpc<Service>) -> Result<Bytes, Status> {
    client.ready().await.map_err(Status::from_error)?;
    let path = PathAndQuery::from_static("/test.Echo/Say");
    let request = tonic::Request::new(Bytes::from_static(b"hello"));
    Ok(client.unary(request, path, Plain).await?.into_inner())
}

#[tokio::test]
async fn a_unary_call_that_was_refused_goes_again_when_the_server_says() {
    for (status, kind) in [("8", ErrorKind::RateLimit), ("14", ErrorKind::Unavailable)] {
        let (server, calls) = server(2, status).await;
        let retries = Arc::new(AtomicU32::new(0));
        let seen = retries.clone();
        let retry = BackoffRetryLayer::new().repeat(Repeat::All).hold_jitter(0.0).on_retry(
            move |attempt: &Attempt<'_>, wait| {
                seen.fetch_add(1, Ordering::Relaxed);
                assert_eq!(attempt.kind, kind);
                assert_eq!(attempt.hint, RetryHint::After(Duration::from_millis(10)));
                assert!(wait >= Duration::from_millis(10));
                assert_eq!(attempt.error.message(), Some("not now"));
            },
        );
        assert_eq!(call(&mut client(&server, retry)).await.unwrap(), "hello");
        assert_eq!((calls.load(Ordering::Relaxed), retries.load(Ordering::Relaxed)), (3, 2));
    }
}

#[tokio::test]
async fn what_cannot_pass_comes_out_as_tonics_own_status() {
    let (server, calls) = server(1, "3").await;
    let error = call(&mut client(&server, BackoffRetryLayer::new().repeat(Repeat::All))).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "not now"));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// UNAVAILABLE may have been processed; what was over a limit was not.
#[tokio::test]
async fn without_leave_only_what_was_not_processed_goes_again() {
    for (status, code) in [("14", Some(Code::Unavailable)), ("8", None)] {
        let (server, _) = server(1, status).await;
        let result = call(&mut client(&server, BackoffRetryLayer::new())).await;
        assert_eq!(result.err().map(|error| error.code()), code);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_of() {
    let (server, _) = server(0, "0").await;
    let url = server.url("");
    drop(server);
    let error = call(&mut over(url, BackoffRetryLayer::new().budget(Budget::retry_tokens(0)))).await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(find_cause::<ApiError>);
    assert!(cause.is_some_and(|cause| !cause.may_have_reached_server()), "{error:?}");
}
