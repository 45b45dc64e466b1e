//! What the gateway says where the API says nothing.

use gateway::Secrets;
use tokio::net::TcpListener;
use tower_outbound::mock::{Limits, MockApi};

use crate::wire::{Bench, Wire, gateway, key, secrets};

const ASK: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":1}"#;

async fn ask(addr: std::net::SocketAddr) -> (String, String) {
    let mut client = Wire::connect(addr).await;
    let length = ASK.len();
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-any\r\n\
             Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{ASK}"
        ))
        .await;
    (client.head().await, client.rest().await)
}

#[tokio::test]
async fn a_dead_key_is_a_401_that_is_sent_only_once() {
    let api = MockApi::builder().keys(["sk-another"]).build();
    let server = api.serve().await.unwrap();
    let (addr, _stop, _served) = gateway(&[], &server.url(), secrets(None)).await;
    let (head, body) = ask(addr).await;
    assert!(head.starts_with("HTTP/1.1 401") && !head.contains("x-error-source"), "{head}");
    assert!(body.contains("Incorrect API key provided"), "{body}");
    let (head, body) = ask(addr).await;
    assert!(head.starts_with("HTTP/1.1 401") && head.contains("x-error-source: gateway\n"), "{head}");
    assert!(head.contains("retry-after: "), "{head}");
    assert!(body.contains(r#""type":"invalid_request_error","param":null,"code":"invalid_api_key"}"#), "{body}");
    assert!(!body.contains("sk-upstream-0123456789"), "{body}");
    assert_eq!(api.counters().calls, 1);
}

#[tokio::test]
async fn of_two_keys_the_sound_one_answers() {
    let api = MockApi::builder().keys(["sk-the-sound-one-0123"]).build();
    let server = api.serve().await.unwrap();
    let keys = ["sk-the-dead-one-01234", "sk-the-sound-one-0123"].map(key).to_vec();
    let (addr, _stop, _served) = gateway(&[], &server.url(), Secrets { keys, token: None }).await;
    for _ in 0..8 {
        let (head, _) = ask(addr).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    // The dead one was tried once, and then no more.
    assert!(api.counters().calls <= 9, "{:?}", api.counters());
}

#[tokio::test]
async fn a_spent_quota_is_a_429_that_is_sent_only_once() {
    let api = MockApi::builder().credit(0).build();
    let server = api.serve().await.unwrap();
    let (addr, _stop, _served) = gateway(&[], &server.url(), secrets(None)).await;
    let (head, _) = ask(addr).await;
    assert!(head.starts_with("HTTP/1.1 429") && head.contains("x-should-retry: false\n"), "{head}");
    let (head, body) = ask(addr).await;
    assert!(head.starts_with("HTTP/1.1 429") && head.contains("x-error-source: gateway\n"), "{head}");
    assert!(body.contains(r#""type":"insufficient_quota","param":null,"code":"insufficient_quota"}"#), "{body}");
    assert_eq!(api.counters().calls, 1);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_refused_with_its_time() {
    let api = MockApi::builder().limits(Limits::per_minute(1, 100_000)).build();
    let server = api.serve().await.unwrap();
    let (addr, _stop, _served) = gateway(&["--max-wait=1"], &server.url(), secrets(None)).await;
    assert!(ask(addr).await.0.starts_with("HTTP/1.1 200"));
    let (head, body) = ask(addr).await;
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    assert!(head.contains("retry-after: 60\n") || head.contains("retry-after: 59\n"), "{head}");
    assert!(body.contains(r#""code":"rate_limit_exceeded""#), "{body}");
    assert_eq!(api.counters().calls, 1);
}

#[tokio::test]
async fn an_api_that_is_not_there_is_a_502() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (addr, _stop, _served) = gateway(&["--attempts=1"], &format!("http://{gone}"), secrets(None)).await;
    let (head, body) = ask(addr).await;
    assert!(head.starts_with("HTTP/1.1 502") && head.contains("content-type: application/json\n"), "{head}");
    assert!(body.starts_with(r#"{"error":{"message":"The gateway had no answer from the API"#), "{body}");
}

#[tokio::test]
async fn an_api_that_says_nothing_is_a_504() {
    let bench = Bench::new(&["--attempts=1", "--attempt-timeout=0.05"]).await;
    let (head, body) = ask(bench.addr).await;
    assert!(head.starts_with("HTTP/1.1 504"), "{head}");
    assert!(body.contains(r#""code":"timeout""#), "{body}");
}

#[tokio::test]
async fn what_was_sent_again_counts_where_nothing_came_of_it() {
    let bench = Bench::new(&["--attempts=1"]).await;
    let (mut client, mut api) = bench.call("GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await;
    api.send("HTTP/1.1 429 Slow down\r\nRetry-After-Ms: 1\r\nContent-Length: 0\r\n\r\n").await;
    api.head().await;
    drop(api);
    assert!(client.head().await.starts_with("HTTP/1.1 502"));
    let mut client = bench.client().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let text = client.rest().await;
    assert!(text.contains("gateway_resends_total 1\n"), "{text}");
}

#[tokio::test]
async fn what_is_no_call_is_refused() {
    let bench = Bench::new(&[]).await;
    for (request, status) in [
        ("OPTIONS * HTTP/1.1\r\nHost: g\r\n\r\n", "400"),
        ("CONNECT evil.example:443 HTTP/1.1\r\nHost: g\r\n\r\n", "405"),
        ("GET /v1/realtime HTTP/1.1\r\nHost: g\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "501"),
    ] {
        let mut client = bench.client().await;
        client.send(request).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
    }
}

/// Who has tried often enough says so; who tried once leaves it to the caller.
#[tokio::test]
async fn only_what_was_sent_again_in_vain_is_not_to_be_sent_again() {
    for (attempts, is_told) in [("--attempts=1", false), ("--attempts=2", true)] {
        let bench = Bench::new(&[attempts]).await;
        let mut client = bench.client().await;
        client.send("GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let mut api = bench.accept().await;
        for _ in 0..if is_told { 2 } else { 1 } {
            api.head().await;
            api.send("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nno").await;
        }
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert_eq!(head.contains("x-should-retry: false\n"), is_told, "{attempts}: {head}");
    }
}

/// It is no failure of the API's.
#[tokio::test]
async fn an_upload_that_breaks_off_is_a_400() {
    for media in ["application/json", "application/octet-stream"] {
        let bench = Bench::new(&[]).await;
        let mut client = bench.client().await;
        client
            .send(format!(
                "POST /v1/files HTTP/1.1\r\nHost: g\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nup\r\n"
            ))
            .await;
        client.send("no chunk\r\n").await;
        let (head, body) = (client.head().await, client.rest().await);
        assert!(head.starts_with("HTTP/1.1 400"), "{media}: {head}");
        assert!(body.contains("The request's body broke off."), "{media}: {body}");
    }
}

#[tokio::test]
async fn a_limit_of_time_may_be_as_long_as_one_likes() {
    let flags = ["--attempt-timeout=1.8e19", "--max-wait=1.8e19", "--grace=1.8e19"];
    let bench = Bench::new(&flags).await;
    let (mut client, mut api) = bench.call("GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await;
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    client.read_to("ok").await;
    bench.stop.send(()).unwrap();
    assert!(bench.served.await.unwrap());
}
