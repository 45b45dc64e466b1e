//! Bodies pass as they come, in both directions.

use crate::wire::Bench;

#[tokio::test]
async fn the_first_event_is_there_before_the_second_is_sent() {
    let bench = Bench::new(&[]).await;
    let (mut client, mut api) =
        bench.call("POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}").await;
    api.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    // Even the head does not wait for the first event.
    assert!(client.head().await.contains("content-type: text/event-stream\n"));
    for event in ["one", "two", "three"] {
        let chunk = format!("{:X}\r\ndata: {event}\n\n\r\n", 8 + event.len());
        api.send(&chunk).await;
        // The API sends no more before this has arrived.
        assert_eq!(client.read_to("\n\n\r\n").await, chunk);
    }
    api.send("0\r\n\r\n").await;
    client.read_to("0\r\n\r\n").await;
}

#[tokio::test]
async fn an_upload_passes_as_it_comes() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client
        .send("POST /v1/files HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 100"));
    client.send("5\r\nfirst\r\n").await;
    let mut api = bench.accept().await;
    assert!(!api.head().await.contains("expect"));
    api.read_to("5\r\nfirst\r\n").await;
    // Only now does the caller send the rest.
    client.send("4\r\nlast\r\n0\r\n\r\n").await;
    api.read_to("4\r\nlast\r\n0\r\n\r\n").await;
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
    client.read_to("done").await;
}

#[tokio::test]
async fn a_kept_upload_goes_again() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 7\r\n\r\n{\"a\":1}").await;
    let mut api = bench.accept().await;
    for status in ["503 Busy", "200 OK"] {
        let head = api.head().await;
        assert!(head.contains("content-length: 7\n"), "{head}");
        assert_eq!(api.exactly(7).await, b"{\"a\":1}");
        api.send(format!("HTTP/1.1 {status}\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nok")).await;
    }
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_large_upload_goes_once() {
    let bench = Bench::new(&["--replay-kib=1"]).await;
    let mut client = bench.client().await;
    let body = vec![b'x'; 4096];
    client.send("POST /v1/files HTTP/1.1\r\nHost: g\r\nContent-Length: 4096\r\n\r\n").await;
    client.send(&body).await;
    let mut api = bench.accept().await;
    api.head().await;
    assert_eq!(api.exactly(4096).await, body);
    api.send("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy").await;
    let head = client.head().await;
    // The API's own answer: nobody has sent it again, and the caller may.
    assert!(head.starts_with("HTTP/1.1 503") && !head.contains("x-should-retry"), "{head}");
    client.read_to("busy").await;
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_the_call_along() {
    let bench = Bench::new(&[]).await;
    let (client, mut api) =
        bench.call("POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}").await;
    drop(client);
    assert_eq!(api.rest().await, "{}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_so_for_the_caller() {
    let bench = Bench::new(&[]).await;
    let (mut client, mut api) = bench.call("GET /v1/x HTTP/1.1\r\nHost: g\r\n\r\n").await;
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    client.read_to("half\r\n").await;
    drop(api);
    // Without the last chunk: nobody takes it for whole.
    assert_eq!(client.rest().await, "");
}

/// The status is not lost with the end of the body.
#[tokio::test]
async fn a_failure_that_breaks_off_is_still_told() {
    let bench = Bench::new(&["--attempts=1"]).await;
    let (mut client, mut api) = bench.call("GET /v1/x HTTP/1.1\r\nHost: g\r\n\r\n").await;
    api.send("HTTP/1.1 500 Broken\r\nContent-Length: 100\r\n\r\nhalf").await;
    drop(api);
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 500") && head.contains("content-length: 100\n"), "{head}");
    assert_eq!(client.rest().await, "half");
}
