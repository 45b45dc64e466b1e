//! Calls that wait in line for the quota.

use serde_json::Value;

use crate::wire::{Bench, Wire};

/// A JSON call, with so many bytes of prompt.
pub(crate) fn ask(model: &str, prompt: usize) -> String {
    let prompt = "x".repeat(prompt);
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{prompt}"}}],"max_tokens":1}}"#);
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: Application/JSON; charset=utf-8\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// An answer that says that this was the last call for so many seconds.
pub(crate) fn last_for(seconds: f64) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nx-ratelimit-limit-requests: 1\r\nx-ratelimit-remaining-requests: 0\r\n\
         x-ratelimit-reset-requests: {seconds}s\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}

/// Uses up the quota of this model; the connection to the API.
pub(crate) async fn use_up(bench: &Bench, model: &str, seconds: f64) -> Wire {
    let mut client = bench.client().await;
    client.send(ask(model, 1)).await;
    let mut api = bench.accept().await;
    api.head().await;
    api.read_to("\"max_tokens\":1}").await;
    api.send(last_for(seconds)).await;
    client.read_to("{}").await;
    api
}

/// Asks the gateway until so many calls wait in line.
pub(crate) async fn until_waiting(bench: &Bench, calls: u64) {
    let mut client = bench.client().await;
    tokio::time::timeout(crate::wire::PATIENCE, async {
        loop {
            client.send("GET /status.json?since=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            client.head().await;
            let text = client.read_to("\"samples\":[]}").await;
            let status: Value = serde_json::from_str(&text).expect("JSON");
            if status["waiting"] == calls {
                return;
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("there were never {calls} in line"));
}

#[tokio::test]
async fn one_models_quota_keeps_no_other_model_waiting() {
    let bench = Bench::new(&[]).await;
    let mut api = use_up(&bench, "small", 60.0).await;
    let mut client = bench.client().await;
    client.send(ask("large", 1)).await;
    assert!(api.head().await.starts_with("POST /v1/chat/completions "));
    api.read_to("\"max_tokens\":1}").await;
    api.send("HTTP/1.1 200 OK\r\nx-ratelimit-limit-requests: 500\r\nContent-Length: 2\r\n\r\n{}").await;
    client.read_to("{}").await;

    // Of the first there is none left.
    let mut waits = bench.client().await;
    waits.send(ask("small", 1)).await;
    until_waiting(&bench, 1).await;
    let mut client = bench.client().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let text = client.rest().await;
    let host = bench.api.local_addr().unwrap();
    for (model, limit) in [("small", 1), ("large", 500)] {
        let scope = format!("quota_limit{{kind=\"requests\",counts=\"requests\",scope=\"{host} {model}\"}} {limit}\n");
        assert!(text.contains(&scope), "{scope} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_the_line() {
    let bench = Bench::new(&[]).await;
    let _api = use_up(&bench, "m", 60.0).await;
    let mut client = bench.client().await;
    client.send(ask("m", 20 << 10)).await;
    until_waiting(&bench, 1).await;
    drop(client);
    until_waiting(&bench, 0).await;
}

#[tokio::test]
async fn json_that_is_longer_than_is_kept_streams() {
    let bench = Bench::new(&["--replay-kib=1"]).await;
    let mut client = bench.client().await;
    let head = "POST /v1/x HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n";
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
    let piece = "x".repeat(1000);
    for _ in 0..2 {
        client.send(format!("3E8\r\n{piece}\r\n")).await;
    }
    // It is not at its end, and there already.
    let mut api = bench.accept().await;
    assert!(api.head().await.contains("transfer-encoding: chunked\n"));
    api.read_to(&piece).await;
    client.send("0\r\n\r\n").await;
    api.read_to("0\r\n\r\n").await;
    api.send("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn json_in_pieces_goes_on_whole_and_with_its_trailers() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    let head = "POST /v1/x HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    client.send(format!("{head}\r\n1\r\n{{\r\n")).await;
    client.send("1\r\n}\r\n0\r\n\r\n").await;
    let mut api = bench.accept().await;
    for _ in 0..2 {
        assert!(api.head().await.contains("content-length: 2\n"));
        assert_eq!(api.exactly(2).await, b"{}");
        api.send("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n").await;
    }
    api.head().await;
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));

    client.send(format!("{head}Trailer: x-sum\r\n\r\n2\r\n{{}}\r\n0\r\nx-sum: 1\r\n\r\n")).await;
    assert!(api.read_to("\r\n\r\n").await.to_lowercase().contains("transfer-encoding: chunked"));
    assert_eq!(api.read_to("x-sum: 1\r\n\r\n").await, "2\r\n{}\r\n0\r\nx-sum: 1\r\n\r\n");
}

/// All that is kept has one bound: what is beyond goes once.
#[tokio::test]
async fn a_body_that_finds_no_room_goes_once() {
    let bench = Bench::new(&["--replay-kib=1024", "--replay-total-mib=1"]).await;
    let upload = || {
        let head = "POST /v1/files HTTP/1.1\r\nHost: g\r\nContent-Type: text/plain\r\nContent-Length: 614400\r\n\r\n";
        [head.as_bytes(), &[b'x'; 600 << 10]].concat()
    };
    let (mut first, mut second) = (bench.client().await, bench.client().await);
    first.send(upload()).await;
    let mut api = bench.accept().await;
    api.head().await;
    api.exactly(600 << 10).await;
    // The first is kept for as long as it may have to go again.
    second.send(upload()).await;
    let mut other = bench.accept().await;
    other.head().await;
    other.exactly(600 << 10).await;
    other.send("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n").await;
    assert!(second.head().await.starts_with("HTTP/1.1 503"));

    // It is sent again, and then gives its room back.
    api.send("HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n").await;
    let mut pair = [api, other];
    for (client, is_sent) in [(&mut first, true), (&mut second, false)] {
        if !is_sent {
            client.send(upload()).await;
            answered(&mut pair, "503 Busy").await;
        }
        answered(&mut pair, "200 OK").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
    }
}

/// Takes an upload from whichever connection it comes on, and answers it.
async fn answered([one, other]: &mut [Wire; 2], status: &str) {
    let is_first = tokio::select! {
        () = one.readable() => true,
        () = other.readable() => false,
    };
    let api = if is_first { one } else { other };
    api.head().await;
    api.exactly(600 << 10).await;
    api.send(format!("HTTP/1.1 {status}\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")).await;
}
