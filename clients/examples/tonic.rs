//! A unary gRPC call that is refused once, and goes again when the server says.

use bytes::Bytes;
use clients::grpc::{Plain, server};
use http::uri::PathAndQuery;
use tonic::{Request, client::Grpc, transport::Endpoint};
use tower::{BoxError, ServiceBuilder};
use tower_outbound::{
    BackoffRetryLayer, ErrorClassifyLayer, QuotaMeterLayer, backoff_retry::Repeat, bridge::tonic::GrpcService, provider,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // UNAVAILABLE, with the time after which to come again.
    let (server, calls) = server(1, "14").await?;
    let channel = Endpoint::from_shared(server.url(""))?.connect_lazy();
    // This one may be repeated: gRPC itself does not tell.
    let layers = ServiceBuilder::new()
        .layer(BackoffRetryLayer::new().repeat(Repeat::All))
        .layer(QuotaMeterLayer::new())
        .layer(ErrorClassifyLayer::new(provider::Grpc).failures_in_grpc_heads(true));
    // A generated client takes the service as it is: `GreeterClient::new(service)`.
    let mut client = Grpc::new(GrpcService::new(channel, layers));

    client.ready().await?;
    let question = Request::new(Bytes::from_static(b"Hello"));
    let answer = client.unary(question, PathAndQuery::from_static("/test.Echo/Say"), Plain).await?.into_inner();
    println!("{} after {} calls", String::from_utf8_lossy(&answer), calls.load(std::sync::atomic::Ordering::Relaxed));
    Ok(())
}
