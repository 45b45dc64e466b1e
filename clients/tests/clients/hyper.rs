//! hyper-util's client: nothing between it and the layers.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_outbound::{
    ErrorKind,
    body::ReplayBody,
    find_cause,
    mock::MockApi,
    stack::{self, StackService},
};

use crate::passage::{Stream, passes};

#[tokio::test]
async fn http1_with_a_stream_and_trailers() {
    passes(Client::builder(TokioExecutor::new()).build_http::<ReplayBody<Stream>>(), Version::HTTP_11).await;
}

#[tokio::test]
async fn http2_with_a_stream_and_trailers() {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<ReplayBody<Stream>>();
    passes(client, Version::HTTP_2).await;
}

/// The type can be written down, and holds no box.
#[tokio::test]
async fn the_stack_has_a_name() {
    let endpoint = clients::mock(MockApi::builder().keys([clients::MOCK_KEY]).build()).await.unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let layer = stack::openai().base_url(&endpoint.base_url).api_key(&endpoint.key);
    let stack: StackService<Client<HttpConnector, Full<Bytes>>> = layer.layer(client);
    let body = r#"{"model":"m","messages":[{"role":"user","content":"Hello"}]}"#;
    let request = Request::post("/chat/completions").header("content-type", "application/json");
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response = stack.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.unwrap().to_bytes().starts_with(b"{"));
}

#[tokio::test]
async fn who_is_not_there_is_told_of_as_such() {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let request = Request::get(format!("http://{closed}/")).body(Full::default()).unwrap();
    let error = crate::passage::layers().service(client).oneshot(request).await.unwrap_err();
    let error = find_cause::<tower_outbound::ApiError>(&*error).unwrap();
    assert_eq!((error.kind(), error.may_have_reached_server()), (ErrorKind::Unavailable, false));
}
