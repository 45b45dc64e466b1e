//! The gateway stops, and what is in flight does not break.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    line::{ask, last_for, until_waiting, use_up},
    wire::{Bench, Wire},
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
    let mut client = bench.client().await;
    client.send("GET /v1/slow HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut api = bench.accept().await;
    api.head().await;
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

#[cfg(unix)]
#[tokio::test]
async fn a_signal_stops_the_program_with_its_calls_done() {
    let api = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", api.local_addr().unwrap());
    let mut program = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .args([&upstream, "--listen=127.0.0.1:0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let addr = line.strip_prefix("listening on http://").and_then(|rest| rest.split(',').next()).expect(&line);
    let mut client = Wire::connect(addr.parse().unwrap()).await;
    client.send("GET /v1/slow HTTP/1.1\r\nHost: g\r\n\r\n").await;
    let mut wire = Wire::from(api.accept().await.unwrap().0);
    wire.head().await;

    let pid = program.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    // It has heard when it takes no more.
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await;
    client.read_to("last").await;
    assert!(program.wait().await.unwrap().success());
}
