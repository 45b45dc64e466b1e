//! The program as a whole, as its operator has it.

use std::{net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    task::yield_now,
};

use crate::wire::Wire;

/// Starts it in a shell that does this `before`; with its address.
async fn start(before: &str, upstream: &str) -> (Child, SocketAddr) {
    let mut program = Command::new("sh")
        .args(["-c", &format!("{before} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_gateway"), upstream])
        .arg("--listen=127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    let mut lines = BufReader::new(program.stdout.take().expect("a pipe")).lines();
    let line = lines.next_line().await.expect("text").expect("a line");
    let addr = line.strip_prefix("listening on http://").and_then(|rest| rest.split(',').next()).expect(&line);
    (program, addr.parse().expect("an address"))
}

async fn terminate(program: &Child) {
    let pid = program.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("a kill").success());
}

/// Once told to stop, it ends with the call that is in flight, whether or not anybody reads what it prints.
#[tokio::test]
async fn a_signal_stops_it_with_its_calls_done() {
    for is_read in [true, false] {
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut program, addr) = start("", &format!("http://{}", api.local_addr().unwrap())).await;
        if !is_read {
            drop(program.stderr.take());
        }
        let mut client = Wire::connect(addr).await;
        client.send("GET /v1/slow HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let mut wire = Wire::from(api.accept().await.unwrap().0);
        wire.head().await;

        terminate(&program).await;
        // It has heard when it takes no more.
        while TcpStream::connect(addr).await.is_ok() {
            yield_now().await;
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await;
        client.read_to("last").await;
        assert!(program.wait().await.unwrap().success());
    }
}

/// Whoever started it read the first line, and went.
#[tokio::test]
async fn it_serves_when_nobody_reads_what_it_prints() {
    let (gone, stdout) = std::io::pipe().unwrap();
    drop(gone);
    let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg(format!("--listen={addr}"))
        .stdout(stdout)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    while TcpStream::connect(addr).await.is_err() {
        assert_eq!(program.try_wait().unwrap(), None);
        yield_now().await;
    }
    let mut client = Wire::connect(addr).await;
    client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    client.read_to("ok").await;
}

/// Each needs a file for its caller, and one for the API.
#[tokio::test]
async fn connections_are_as_many_as_the_system_allows() {
    let (_program, addr) = start("ulimit -Sn 64;", "http://127.0.0.1:9").await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(Wire::connect(addr).await);
    }
    for client in &mut clients {
        client.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        client.read_to("ok").await;
    }
}
