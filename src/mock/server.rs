//! The mocks behind a real socket.

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tower_service::Service;

use super::{
    MockApi, Script,
    body::{MockBody, MockError, MockErrorKind},
};

/// Connections served at once; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 10_000;

/// A mock that listens on a port, until this is dropped.
///
/// It speaks HTTP/1.1. A dropped connection is one: the socket is reset, before the head or in the middle of the body.
///
/// ```
/// use tower_outbound::mock::MockApi;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let server = MockApi::default().serve().await?;
/// println!("an API at {}", server.url());
/// server.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MockServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl MockServer {
    async fn start<S>(service: S, addr: SocketAddr) -> io::Result<Self>
    where
        S: Service<Request<Incoming>, Response = Response<MockBody>, Error = MockError>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { addr, task: tokio::spawn(accept(listener, service)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same as a URL, without a slash at its end: `http://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Ends it, and every connection with it. Returns when the port is free again.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the server ends all the same.
    pub async fn shutdown(mut self) {
        self.task.abort();
        // An error says that it was aborted, as it was.
        let _ = (&mut self.task).await;
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MockApi {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn serve(&self) -> io::Result<MockServer> {
        self.serve_on((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Listens on this address.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn serve_on(&self, addr: SocketAddr) -> io::Result<MockServer> {
        MockServer::start(self.clone(), addr).await
    }
}

impl Script {
    /// Listens on a free port of 127.0.0.1, so that the script is told to a real client.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn serve(&self) -> io::Result<MockServer> {
        MockServer::start(self.clone(), (Ipv4Addr::LOCALHOST, 0).into()).await
    }
}

async fn accept<S>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<MockBody>, Error = MockError> + Clone + Send + 'static,
    S::Future: Send,
{
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, service.clone()));
                }
                // Out of sockets, most likely: it passes when some have closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse<S>(stream: TcpStream, service: S)
where
    S: Service<Request<Incoming>, Response = Response<MockBody>, Error = MockError> + Clone + Send + 'static,
    S::Future: Send,
{
    // Small responses at once; a socket that refuses this still works.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let stream = Resettable { stream, reset: reset.clone() };
    let answer = service_fn(move |request| {
        let (mut service, reset) = (service.clone(), reset.clone());
        async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            match service.call(request).await {
                Ok(response) => Ok(response.map(|body| body.on_reset(reset))),
                Err(error) => {
                    reset.store(error.kind() == MockErrorKind::Reset, Ordering::Release);
                    Err(error)
                }
            }
        }
    });
    // An error is a connection that broke, by script or because the client went.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// A socket that, when the flag is up, is closed by a reset instead of a farewell.
struct Resettable {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Acquire) {
            // Without it the connection is cut all the same, only more politely.
            let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
