//! What the gateway shows of itself.

use serde_json::Value;

use crate::wire::{Bench, Wire, secrets};

async fn get(bench: &Bench, path: &str) -> (String, String) {
    let mut client = bench.client().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
    (client.head().await, client.rest().await)
}

async fn answered(bench: &Bench, api: &mut Option<Wire>, status: &str) {
    let mut client = bench.client().await;
    client.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut wire = match api.take() {
        Some(wire) => wire,
        None => bench.accept().await,
    };
    wire.head().await;
    wire.send(format!(
        "HTTP/1.1 {status}\r\nx-ratelimit-limit-requests: 500\r\nx-ratelimit-remaining-requests: 400\r\n\
         x-ratelimit-reset-requests: 12s\r\nContent-Length: 2\r\n\r\n{{}}"
    ))
    .await;
    client.read_to("{}").await;
    *api = Some(wire);
}

#[tokio::test]
async fn the_numbers_are_those_of_the_calls() {
    let bench = Bench::with(&[], secrets(None)).await;
    let mut api = None;
    for status in ["200 OK", "200 OK", "404 Not Found"] {
        answered(&bench, &mut api, status).await;
    }
    let (head, text) = get(&bench, "/metrics").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "gateway_calls_total{status=\"200\"} 2",
        "gateway_calls_total{status=\"404\"} 1",
        "gateway_upstream_responses_total{status=\"200\"} 2",
        "gateway_response_seconds_count 3",
        "gateway_response_seconds_bucket{le=\"+Inf\"} 3",
        "gateway_retries_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let scope = "gateway_quota_limit{kind=\"requests\",counts=\"requests\",scope=\"127.0.0.1:";
    assert!(text.lines().any(|line| line.starts_with(scope) && line.ends_with("\"} 500")), "{text}");
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    for name in &names {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
    }

    let (_, text) = get(&bench, "/status.json?since=0").await;
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&status["good"], &status["failed"]), (&2.into(), &1.into()));
    assert_eq!(status["requests"]["limit"], 500.0);
    assert!(!text.contains("sk-upstream"), "{text}");
}

#[tokio::test]
async fn the_page_needs_nobody_else() {
    let bench = Bench::new(&[]).await;
    let (head, page) = get(&bench, "/").await;
    assert!(head.contains("content-type: text/html") && head.contains("content-security-policy: default-src 'none'"));
    for outside in ["src=", "@import", "href=\"http", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let (head, body) = get(&bench, "/healthz").await;
    assert!(head.starts_with("HTTP/1.1 200") && body == "ok\n");
}

#[tokio::test]
async fn only_the_very_paths_are_the_gateways() {
    let bench = Bench::new(&[]).await;
    for request in ["POST / HTTP/1.1", "GET /v1/metrics HTTP/1.1", "GET /metrics/ HTTP/1.1", "DELETE /healthz HTTP/1.1"]
    {
        let mut client = bench.client().await;
        client.send(format!("{request}\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        let mut api = bench.accept().await;
        assert!(api.head().await.starts_with(request), "{request}");
    }
}
