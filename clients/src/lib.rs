//! What the examples and tests of the clients share: an API to call, and a server that echoes.

pub mod grpc;

use std::{convert::Infallible, future::Future, io, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::JoinSet};
use tower::BoxError;
use tower_outbound::mock::{Limits, MockApi, MockServer};

/// The key that the mock takes.
pub const MOCK_KEY: &str = "sk-mock-0123456789abcdef";

/// An API to call: the real one where `OPENAI_API_KEY` is set, else a mock on a loopback port.
#[derive(Debug)]
pub struct Endpoint {
    /// With `/v1`, and no slash at its end.
    pub base_url: String,
    /// Sound, at least in its form.
    pub key: String,
    /// Kept while it is called.
    pub mock: Option<(MockApi, MockServer)>,
}

/// The API that the examples call.
///
/// # Errors
/// If there is no port for the mock.
pub async fn endpoint() -> io::Result<Endpoint> {
    match std::env::var("OPENAI_API_KEY") {
        Ok(key) => {
            let base_url = std::env::var("OPENAI_BASE_URL");
            let base_url = base_url.unwrap_or_else(|_| "https://api.openai.com/v1".to_owned());
            Ok(Endpoint { base_url: base_url.trim_end_matches('/').to_owned(), key, mock: None })
        }
        Err(_) => mock(MockApi::builder().limits(Limits::per_minute(6_000, 10_000_000)).build()).await,
    }
}

/// This mock on a loopback port.
///
/// # Errors
/// If there is none.
pub async fn mock(api: MockApi) -> io::Result<Endpoint> {
    let server = api.serve().await?;
    Ok(Endpoint { base_url: format!("{}/v1", server.url()), key: MOCK_KEY.to_owned(), mock: Some((api, server)) })
}

/// Makes *ring* the TLS of all clients here: reqwest is built without one of its own.
pub fn use_ring() {
    // It fails only where one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A server on a loopback port, HTTP/1 and HTTP/2, until it is dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    _connections: JoinSet<()>,
}

impl Server {
    /// One that answers like this.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start<F, R, B>(answer: F) -> io::Result<Self>
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
        R: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                connections.spawn(async move {
                    // It ends with an error where the client goes away.
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { addr, _connections: tasks })
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}
