//! Over real sockets, in real time: little of it, and short.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tower_outbound::mock::{Faults, Limit, Limits, MockApi, Script, dropped, ok, status};

use super::chat;

type Http = Client<HttpConnector, Full<Bytes>>;

fn client() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn send(client: &Http, url: &str, body: &Value) -> Result<Response<Incoming>, Error> {
    let request = Request::post(format!("{url}/v1/chat/completions"))
        .header("authorization", "Bearer sk-test")
        .body(Full::from(body.to_string()))
        .unwrap();
    client.request(request).await
}

/// Every io error among the causes.
fn io_error(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind)
}

#[tokio::test]
async fn answers_over_a_socket() {
    let api = MockApi::builder().limits(Limits::none().requests(Limit::per_minute(2))).build();
    let server = api.serve().await.unwrap();
    let client = client();
    for left in ["1", "0"] {
        let response = send(&client, &server.url(), &chat("Hello", 10)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-ratelimit-remaining-requests"], left);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], "You said: Hello");
    }
    let response = send(&client, &server.url(), &chat("Hello", 10)).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"30".parse().unwrap()));

    let addr = server.addr();
    server.shutdown().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn streams_over_a_socket() {
    let server = MockApi::default().serve().await.unwrap();
    let mut ask = chat("a b", 10);
    ask["stream"] = true.into();
    let response = send(&client(), &server.url(), &ask).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"data: {") && body.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn cut_connections_are_errors() {
    let cases = [
        (Faults::none().dropped(1.0), false, None),
        (Faults::none().cut(1.0), true, Some(std::io::ErrorKind::ConnectionReset)),
        (Faults::none().truncated(1.0), true, None),
    ];
    for (faults, head, io) in cases {
        for stream in [false, true] {
            let server = MockApi::builder().faults(faults).build().serve().await.unwrap();
            let mut ask = chat("a b c d", 10);
            ask["stream"] = stream.into();
            let response = send(&client(), &server.url(), &ask).await;
            assert_eq!(response.is_ok(), head, "{faults:?}: {response:?}");
            if let Ok(response) = response {
                let mut body = response.into_body();
                let first = body.frame().await.unwrap().unwrap();
                assert!(first.data_ref().is_some_and(|data| !data.is_empty()), "half of the body goes out");
                let error = body.collect().await.unwrap_err();
                if io.is_some() {
                    assert_eq!(io_error(&error), io, "{error:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_script_over_a_socket() {
    let script = Script::new().strict().then(status(503)).then(dropped()).then(ok("fine"));
    let server = script.serve().await.unwrap();
    let client = client();
    assert_eq!(send(&client, &server.url(), &chat("1", 1)).await.unwrap().status(), 503);
    assert!(send(&client, &server.url(), &chat("2", 1)).await.is_err());
    let response = send(&client, &server.url(), &chat("3", 1)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "fine");
    script.assert_done();
    script.assert_sent(3);
}

#[tokio::test]
async fn many_connections_with_every_fault_at_once() {
    let api = MockApi::builder()
        .seed(3)
        .faults(Faults::each(0.1))
        .limits(Limits::none().requests(Limit::per(300, std::time::Duration::from_secs(3600))))
        .build();
    let server = api.serve().await.unwrap();
    let client = client();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let (client, url) = (client.clone(), server.url());
        calls.spawn(async move {
            let response = send(&client, &url, &chat("x", 1)).await?;
            let status = response.status().as_u16();
            Ok::<_, tower::BoxError>((status, response.into_body().collect().await.is_ok()))
        });
    }
    let mut good = 0;
    for call in calls.join_all().await {
        good += u64::from(matches!(call, Ok((200, true))));
    }
    let counters = api.counters();
    let served = counters.by_status.get(&200).copied().unwrap_or(0);
    assert_eq!(good, served - counters.broken, "{counters:?}");
    // A pooled connection that breaks before anything came may be tried again by the client itself.
    assert!(counters.calls >= 400, "{counters:?}");
    assert!(counters.dropped > 0 && counters.broken > 0 && counters.rejected > 0, "{counters:?}");
}
