//! Who is let in, and which key goes on.

use crate::wire::{Bench, secrets};

#[tokio::test]
async fn the_gateways_key_takes_the_place_of_the_callers() {
    let bench = Bench::with(&[], secrets(None)).await;
    let mut client = bench.client().await;
    client.send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-placeholder\r\n\r\n").await;
    let head = bench.accept().await.head().await;
    assert!(head.contains("authorization: Bearer sk-upstream-0123456789\n"), "{head}");
    assert!(!head.contains("placeholder"), "{head}");
}

#[tokio::test]
async fn the_key_goes_where_the_api_takes_it_and_no_other_goes_along() {
    let bench = Bench::with(&["--key-from-env=K", "--key-header=x-api-key"], secrets(Some("token-of-ours"))).await;
    let mut client = bench.client().await;
    client
        .send(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-one\r\nX-Api-Key: token-of-ours\r\n\
             Api-Key: sk-two\r\nX-Goog-Api-Key: sk-three\r\n\r\n",
        )
        .await;
    let head = bench.accept().await.head().await;
    assert!(head.contains("x-api-key: sk-upstream-0123456789\n"), "{head}");
    for absent in ["authorization", "sk-one", "sk-two", "sk-three", "token-of-ours"] {
        assert!(!head.contains(absent), "{absent}: {head}");
    }
}

#[tokio::test]
async fn a_callers_key_in_the_query_goes_no_further_unless_told_so() {
    for (flags, place) in [
        (&["--key-from-env=K"][..], "/v1beta/models/m:generateContent?alt=sse"),
        (&["--key-from-env=K", "--keep-query-keys"], "/v1beta/models/m:generateContent?key=AIza-theirs&alt=sse"),
    ] {
        let bench = Bench::with(flags, secrets(None)).await;
        let mut client = bench.client().await;
        client
            .send("GET /v1beta/models/m:generateContent?key=AIza-theirs&alt=sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let head = bench.accept().await.head().await;
        assert!(head.starts_with(&format!("GET {place} HTTP/1.1\n")), "{head}");
        assert!(head.contains("authorization: Bearer sk-upstream-0123456789\n"), "{head}");
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_cannot_spend_the_key() {
    let bench = Bench::with(&[], secrets(None)).await;
    for site in ["cross-site", "same-site"] {
        let mut client = bench.client().await;
        client.send(format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: {site}\r\n\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 403"), "{site}");
    }
    for header in ["Host: evil.example", "Host: localhost\r\nOrigin: https://evil.example"] {
        let mut client = bench.client().await;
        client.send(format!("POST /v1/chat/completions HTTP/1.1\r\n{header}\r\nContent-Length: 2\r\n\r\n{{}}")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 403"), "{header}: {head}");
        let mut client = bench.client().await;
        client.send(format!("GET /status.json HTTP/1.1\r\n{header}\r\n\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 403"), "{header}");
    }
}

#[tokio::test]
async fn a_token_lets_in_and_goes_no_further() {
    let bench = Bench::with(&[], secrets(Some("token-of-ours"))).await;
    for wrong in ["", "Authorization: Bearer token-of-theirs\r\n", "Authorization: Basic token-of-ours\r\n"] {
        let mut client = bench.client().await;
        client.send(format!("GET /v1/models HTTP/1.1\r\nHost: gateway.example\r\n{wrong}\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 401") && head.contains("x-should-retry: false\n"), "{head}");
        client.read_to("\"code\":\"invalid_api_key\"}}").await;
    }
    let mut client = bench.client().await;
    client
        .send("GET /v1/models HTTP/1.1\r\nHost: gateway.example\r\nAuthorization: Bearer token-of-ours\r\n\r\n")
        .await;
    let head = bench.accept().await.head().await;
    assert!(head.contains("authorization: Bearer sk-upstream-0123456789\n"), "{head}");
    assert!(!head.contains("token-of-ours"), "{head}");
}

/// An API that answers it shows what it was sent.
#[tokio::test]
async fn a_key_is_not_put_on_what_comes_back_as_it_was() {
    let bench = Bench::with(&[], secrets(None)).await;
    let mut client = bench.client().await;
    client.send("TRACE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 405"));

    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client.send("TRACE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(bench.accept().await.head().await.starts_with("TRACE /v1/models "));
}
