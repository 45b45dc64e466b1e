//! gRPC over tonic's channel, against a server that speaks the wire format itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clients::{
    Server,
    grpc::{self, Plain},
};
use http::uri::PathAndQuery;
use tonic::{
    Code, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tower::ServiceBuilder;
use tower_outbound::{
    ApiError, BackoffRetry, BackoffRetryLayer, ErrorClassify, ErrorClassifyLayer, ErrorKind, RetryHint,
    backoff_retry::{Attempt, Budget, Repeat},
    bridge::tonic::{ChannelService, GrpcService},
    find_cause, provider,
};

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
        let (server, calls) = grpc::server(2, status).await.unwrap();
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
    let (server, calls) = grpc::server(1, "3").await.unwrap();
    let error = call(&mut client(&server, BackoffRetryLayer::new().repeat(Repeat::All))).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "not now"));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// UNAVAILABLE may have been processed; what was over a limit was not.
#[tokio::test]
async fn without_leave_only_what_was_not_processed_goes_again() {
    for (status, code) in [("14", Some(Code::Unavailable)), ("8", None)] {
        let (server, _) = grpc::server(1, status).await.unwrap();
        let result = call(&mut client(&server, BackoffRetryLayer::new())).await;
        assert_eq!(result.err().map(|error| error.code()), code);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_of() {
    let (server, _) = grpc::server(0, "0").await.unwrap();
    let url = server.url("");
    drop(server);
    let error = call(&mut over(url, BackoffRetryLayer::new().budget(Budget::retry_tokens(0)))).await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(find_cause::<ApiError>);
    assert!(cause.is_some_and(|cause| !cause.may_have_reached_server()), "{error:?}");
}
