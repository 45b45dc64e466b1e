//! Over TCP: a server is killed under its calls and comes back, while a second one stands.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    BackoffRetryLayer, ErrorClassifyLayer,
    backoff_retry::{Backoff, Repeat, Standard},
    fallback::{Breaker, FallbackLayer, FallbackReport},
    mock::{MockApi, MockServer},
    nz,
    provider::OpenAi,
};

use crate::common::ms;

const CALLS: usize = 10_000;
const HELLO: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}"#;

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

/// To the same path at another server.
fn to(server: &MockServer) -> impl Fn(Request<Full<Bytes>>) -> Request<Full<Bytes>> + Send + Sync + 'static {
    let uri: Uri = format!("{}/v1/chat/completions", server.url()).parse().unwrap();
    move |mut request| {
        *request.uri_mut() = uri.clone();
        request
    }
}

/// One call, read to its end; whether the second answered.
async fn call<S, RB>(service: S, url: String) -> bool
where
    S: Service<Request<Full<Bytes>>, Response = Response<RB>, Error = BoxError>,
    RB: Body<Error: Debug>,
{
    let request = Request::post(url)
        .header("content-type", "application/json")
        .header("authorization", "Bearer sk-test-0123456789")
        .body(Full::from(HELLO))
        .unwrap();
    let response = service.oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let is_second = response.extensions().get::<FallbackReport>().is_some();
    assert!(!response.into_body().collect().await.expect("a whole body").to_bytes().is_empty());
    is_second
}

/// 10,000 calls, 32 at once. After a third the first server is killed; after two thirds it is there again.
async fn ten_thousand<S, RB>(service: S, api: MockApi, server: MockServer)
where
    S: Service<Request<Full<Bytes>>, Response = Response<RB>, Error = BoxError> + Clone,
    RB: Body<Error: Debug>,
{
    let (addr, url) = (server.addr(), format!("{}/v1/chat/completions", server.url()));
    let mut server = Some(server);
    let mut calls = stream::iter(0..CALLS).map(|_| call(service.clone(), url.clone())).buffer_unordered(32);
    let (mut answered, mut by_second) = (0, 0);
    while let Some(is_second) = calls.next().await {
        answered += 1;
        by_second += usize::from(is_second);
        if answered == CALLS / 3 {
            assert_eq!(by_second, 0);
            server.take().expect("up").shutdown().await;
        } else if answered == CALLS * 2 / 3 {
            server = Some(api.serve_on(addr).await.expect("the same port"));
        }
    }
    assert_eq!(answered, CALLS);
    assert!(by_second >= CALLS / 4, "{by_second}");
    let again = async { while call(service.clone(), url.clone()).await {} };
    tokio::time::timeout(ms(20_000), again).await.expect("the first is asked again");
    drop(server);
}

fn fallback<RB>() -> FallbackLayer<Full<Bytes>, RB> {
    FallbackLayer::new().breaker(Breaker::new().open_for(ms(50)))
}

#[tokio::test]
async fn alone_no_call_is_lost_while_a_server_dies_and_comes_back() {
    let (api, standby) = (MockApi::default(), MockApi::default());
    let (first, second) = (api.serve().await.unwrap(), standby.serve().await.unwrap());
    let layer = fallback().rewritten("standby", client(), to(&second));
    ten_thousand(layer.layer(client()), api, first).await;
}

#[tokio::test]
async fn in_the_stack_no_call_is_lost_while_a_server_dies_and_comes_back() {
    let (api, standby) = (MockApi::default(), MockApi::default());
    let (first, second) = (api.serve().await.unwrap(), standby.serve().await.unwrap());
    let policy = Standard::new().max_attempts(nz!(2)).backoff(Backoff::constant(ms(1)));
    let retry = BackoffRetryLayer::new().repeat(Repeat::All).policy(policy);
    let stack = || ServiceBuilder::new().layer(retry.clone()).layer(ErrorClassifyLayer::new(OpenAi)).service(client());
    let layer = fallback().rewritten("standby", stack(), to(&second));
    ten_thousand(layer.layer(stack()), api, first).await;
}
