//! The gateway stops, and what is in flight does not break.

use tokio::{task::yield_now, time::timeout};

use crate::{
    line::{ask, last_for, until_waiting, use_up},
    wire::{Bench, PATIENCE},
};

#[tokio::test]
async fn calls_in_flight_end_and_new_ones_are_not_taken() {
    let bench = Bench::new(&[]).await;
    let (mut idle, mut client) = (bench.client().await, bench.client().await);
    client.send("GET /v1/slow HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut api = bench.accept().await;
    api.head().await;
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    client.read_to("half\r\n").await;

    bench.stop.send(()).unwrap();
    // Who has no call in flight is let go.
    assert_eq!(idle.rest().await, "");
    assert!(tokio::net::TcpStream::connect(bench.addr).await.is_err());
    api.send("5\r\nwhole\r\n0\r\n\r\n").await;
    assert_eq!(client.rest().await, "5\r\nwhole\r\n0\r\n\r\n");
    assert!(bench.served.await.unwrap());
}

#[tokio::test]
async fn calls_that_do_not_end_are_left_after_a_while() {
    let bench = Bench::new(&["--grace=0.1"]).await;
    let (mut client, mut api) = bench.call("GET /v1/slow HTTP/1.1\r\nHost: g\r\n\r\n").await;
    api.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    client.read_to("half\r\n").await;
    bench.stop.send(()).unwrap();
    assert!(!bench.served.await.unwrap());
}

#[tokio::test]
async fn calls_in_line_have_their_turn() {
    let bench = Bench::new(&[]).await;
    let mut api = use_up(&bench, "m", 1.5).await;
    let mut client = bench.client().await;
    client.send(ask("m", 1)).await;
    until_waiting(&bench, 1).await;
    bench.stop.send(()).unwrap();
    api.head().await;
    api.send(last_for(1.5)).await;
    client.read_to("{}").await;
    assert!(bench.served.await.unwrap());
}

#[tokio::test]
async fn calls_still_in_line_after_a_while_are_told_to_come_again() {
    let bench = Bench::new(&["--grace=0.1"]).await;
    let _api = use_up(&bench, "m", 60.0).await;
    let mut client = bench.client().await;
    client.send(ask("m", 1)).await;
    until_waiting(&bench, 1).await;
    bench.stop.send(()).unwrap();
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after: "), "{head}");
    client.read_to("\"code\":\"stopping\"}}").await;
    assert!(!bench.served.await.unwrap());
}

/// Whoever drops it keeps no task and no thread of it: each would hold what all of them share.
#[tokio::test]
async fn nothing_runs_on_when_it_is_dropped() {
    let bench = Bench::new(&[]).await;
    let mut client = bench.client().await;
    client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    client.read_to("ok\n").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    bench.served.abort();
    assert!(bench.served.await.unwrap_err().is_cancelled());
    assert_eq!(client.rest().await, "");
    timeout(PATIENCE, async {
        while tasks() > 0 {
            yield_now().await;
        }
    })
    .await
    .expect("no task is left");
}
