//! A client and an API, byte by byte, with the gateway between them.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use gateway::{Gateway, Options, Secrets};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tower_outbound::ApiKey;

/// Long enough for any machine; who waits so long has lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a connection, and what it has read ahead.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        TcpStream::connect(addr).await.expect("a connection").into()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref()))
            .await
            .expect("room to send")
            .expect("an open connection");
    }

    /// Everything up to and with `end`, as text with each byte a character.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        let end: Vec<u8> = end.chars().map(|c| c as u8).collect();
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return self.read.drain(..at + end.len()).map(char::from).collect();
            }
            assert!(self.read_more().await > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The head of a message, with its names in lower case.
    pub(crate) async fn head(&mut self) -> String {
        let head = self.read_to("\r\n\r\n").await;
        let lines = head.lines().map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}\n", name.to_lowercase()),
            None => format!("{line}\n"),
        });
        lines.collect()
    }

    /// So many bytes.
    pub(crate) async fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        while self.read.len() < bytes {
            assert!(self.read_more().await > 0, "closed after {} bytes", self.read.len());
        }
        self.read.drain(..bytes).collect()
    }

    /// What comes until the connection ends, however it does.
    pub(crate) async fn rest(&mut self) -> String {
        while self.read_more().await > 0 {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) {
        timeout(PATIENCE, self.stream.readable()).await.expect("something to read").expect("an open connection");
    }

    async fn read_more(&mut self) -> usize {
        timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.expect("something to read").unwrap_or(0)
    }
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        Self { stream, read: Vec::new() }
    }
}

/// A gateway under test, and the listener of the API behind it.
pub(crate) struct Bench {
    pub(crate) api: TcpListener,
    pub(crate) addr: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) served: JoinHandle<bool>,
}

impl Bench {
    pub(crate) async fn new(flags: &[&str]) -> Self {
        Self::with(flags, Secrets::default()).await
    }

    pub(crate) async fn with(flags: &[&str], secrets: Secrets) -> Self {
        let api = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = format!("http://{}", api.local_addr().expect("an address"));
        let (addr, stop, served) = gateway(flags, &upstream, secrets).await;
        Self { api, addr, stop, served }
    }

    pub(crate) async fn client(&self) -> Wire {
        Wire::connect(self.addr).await
    }

    /// A call on its way: its caller, and the API that has read its head.
    pub(crate) async fn call(&self, head: &str) -> (Wire, Wire) {
        let mut client = self.client().await;
        client.send(head).await;
        let mut api = self.accept().await;
        api.head().await;
        (client, api)
    }

    /// The gateway's next connection to the API.
    pub(crate) async fn accept(&self) -> Wire {
        timeout(PATIENCE, self.api.accept()).await.expect("a call").expect("a connection").0.into()
    }
}

/// Starts one in front of `upstream`.
pub(crate) async fn gateway(
    flags: &[&str],
    upstream: &str,
    secrets: Secrets,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<bool>) {
    let options = Options::parse_from(["gateway", upstream].iter().chain(flags));
    let gateway = Gateway::new(&options, upstream, &secrets).expect("sound options");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(async move {
        let stopped = async move { drop(stopped.await) };
        gateway.serve(listener, stopped).await.expect("a listener")
    });
    (addr, stop, served)
}

pub(crate) fn key(key: &str) -> ApiKey {
    ApiKey::new(key).expect("a sound key")
}

/// With a key, and perhaps a token.
pub(crate) fn secrets(token: Option<&str>) -> Secrets {
    Secrets { keys: vec![key("sk-upstream-0123456789")], token: token.map(str::to_owned) }
}
