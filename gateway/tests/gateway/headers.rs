//! What passes of a message's head, and what stays on its hop.

use crate::wire::Bench;

#[tokio::test]
async fn heads_pass_but_for_what_is_for_the_hop() {
    let bench = Bench::new(&["--accept-encoding"]).await;
    let mut client = bench.client().await;
    client
        .send(
            b"PATCH /v1/a%20b//c?x=1&x=2 HTTP/1.1\r\nHost: gateway.local\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
              Keep-Alive: timeout=5\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\nTE: trailers\r\n\
              Authorization: Bearer sk-mine\r\nX-Twice: one\r\nX-Twice: two\r\nX-Latin: caf\xe9\r\nAccept-Encoding: br\r\n\
              X-Empty:\r\nContent-Length: 2\r\n\r\nhi",
        )
        .await;
    let mut api = bench.accept().await;
    let head = api.head().await;
    assert_eq!(api.exactly(2).await, b"hi");
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "PATCH /v1/a%20b//c?x=1&x=2 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", bench.api.local_addr().unwrap());
    assert_eq!(
        lines,
        [
            "accept-encoding: br",
            "authorization: Bearer sk-mine",
            "connection: te",
            "content-length: 2",
            &host,
            "te: trailers",
            "x-empty: ",
            "x-latin: caf\u{e9}",
            "x-twice: one",
            "x-twice: two",
        ]
    );

    api.send(
        b"HTTP/1.1 299 Odd\r\nConnection: X-Back\r\nX-Back: 1\r\nKeep-Alive: timeout=9\r\nSet-Cookie: a=1\r\n\
          Set-Cookie: b=2\r\nX-Latin: \xfc\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 3\r\n\r\nyes",
    )
    .await;
    let head = client.head().await;
    assert_eq!(client.exactly(3).await, b"yes");
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    assert!(lines.remove(0).starts_with("HTTP/1.1 299"), "{head}");
    lines.sort_unstable();
    let date = "date: Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(lines, ["content-length: 3", date, "set-cookie: a=1", "set-cookie: b=2", "x-latin: \u{fc}"]);
}

#[tokio::test]
async fn answers_are_asked_for_as_they_can_be_read() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client.send("GET /v1/x HTTP/1.1\r\nHost: g\r\nAccept-Encoding: gzip, br\r\n\r\n").await;
    let head = bench.accept().await.head().await;
    assert!(head.contains("accept-encoding: identity\n"), "{head}");
}

#[tokio::test]
async fn of_two_lengths_only_the_true_one_goes_on() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client
        .send(
            "POST /v1/x HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await;
    let mut api = bench.accept().await;
    let head = api.head().await;
    assert!(head.contains("transfer-encoding: chunked\n") && !head.contains("content-length"), "{head}");
    assert_eq!(api.read_to("0\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_head_alone_keeps_its_length() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client.send("HEAD /v1/file HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut api = bench.accept().await;
    assert!(api.head().await.starts_with("HEAD /v1/file "));
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 1234567\r\n\r\n").await;
    assert!(client.head().await.contains("content-length: 1234567\n"));
    // The connection can be used for the next.
    client.send("GET /v1/next HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert!(api.head().await.starts_with("GET /v1/next "));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client
        .send(
            "POST /v1/x HTTP/1.1\r\nHost: g\r\nTE: trailers\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nup\r\n0\r\nx-sum: 1\r\n\r\n",
        )
        .await;
    let mut api = bench.accept().await;
    assert!(api.head().await.contains("trailer: x-sum\n"));
    assert_eq!(api.read_to("\r\n\r\n").await, "2\r\nup\r\n0\r\nx-sum: 1\r\n\r\n");
    api.send(
        "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndown\r\n0\r\nx-sum: 2\r\n\r\n",
    )
    .await;
    assert!(client.head().await.contains("trailer: x-sum\n"));
    assert_eq!(client.read_to("\r\n\r\n").await, "4\r\ndown\r\n0\r\nx-sum: 2\r\n\r\n");
}

#[tokio::test]
async fn of_an_answers_two_lengths_only_the_true_one_goes_on() {
    let bench = Bench::new(&[]).await;
    let (mut client, mut api) = bench.call("GET /v1/x HTTP/1.1\r\nHost: g\r\n\r\n").await;
    api.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.contains("transfer-encoding: chunked\n") && !head.contains("content-length"), "{head}");
    assert_eq!(client.read_to("0\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n");
}

#[tokio::test]
async fn an_old_servers_answers_leave_the_callers_connection_open() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    for _ in 0..2 {
        client.send("GET /v1/x HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let mut api = bench.accept().await;
        api.head().await;
        api.send("HTTP/1.0 200 OK\r\n\r\nold").await;
        drop(api);
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("transfer-encoding: chunked\n"), "{head}");
        assert_eq!(client.read_to("0\r\n\r\n").await, "3\r\nold\r\n0\r\n\r\n");
    }
}
