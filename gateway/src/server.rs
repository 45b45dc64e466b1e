//! [`Gateway`]: the parts put together, and the connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, body::Body, extract::ConnectInfo, routing::get};
use bytes::Bytes;
use http::{Request, Response};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{ApiKey, Origin, QuotaMeterLayer};

use crate::{
    Options, Secrets,
    body::Upload,
    guard::Guard,
    history::History,
    metrics::Metrics,
    pages::{self, Facts, Pages},
    proxy::{Proxy, Rules, forward},
    stack::{meter, stack},
    target::Target,
};

/// A connection that says nothing for so long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// The proxy in front of one API.
#[derive(Debug)]
pub struct Gateway {
    router: Router,
    metrics: Arc<Metrics>,
    meter: QuotaMeterLayer,
    history: Arc<History>,
    max_connections: usize,
    grace: Duration,
}

impl Gateway {
    /// In front of the API at `upstream`.
    ///
    /// # Errors
    /// If that is no address of an API, or one that no key may be sent to.
    pub fn new(options: &Options, upstream: &str, secrets: &Secrets) -> Result<Self, BoxError> {
        let target = Target::parse(upstream)?;
        let origin = if options.allow_plain_http { Origin::parse_insecure } else { Origin::parse };
        let key = secrets.key.clone().map(|key| Ok::<_, BoxError>((key, origin(upstream)?))).transpose()?;

        let (metrics, meter, history) = (Arc::new(Metrics::default()), meter(options), Arc::new(History::default()));
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION"),
            upstream: target.to_string(),
            is_mock: options.upstream.is_none(),
            key: secrets.key.as_ref().map(ApiKey::fingerprint),
        };
        let guard = Guard::new(secrets);
        let rules = Rules {
            target,
            guard: guard.clone(),
            has_key: key.is_some(),
            accept_encoding: options.accept_encoding,
            replay_bytes: options.replay_kib.saturating_mul(1024),
        };
        let stack = stack(options, key, &meter, &metrics);
        let proxy = Proxy { stack, rules: Arc::new(rules), metrics: Arc::clone(&metrics) };
        let pages = Pages {
            facts: Arc::new(facts),
            guard,
            metrics: Arc::clone(&metrics),
            meter: meter.clone(),
            history: Arc::clone(&history),
        };
        Ok(Self {
            router: router(&pages, proxy),
            metrics,
            meter,
            history,
            max_connections: options.max_connections.get().min(Semaphore::MAX_PERMITS),
            grace: options.grace,
        })
    }

    /// Serves until `stop`; then takes nothing new, and gives what is in flight the time that the options allow.
    ///
    /// Whether all of it ended in that time.
    ///
    /// # Errors
    /// If the listener has no address.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<bool> {
        listener.local_addr()?;
        let recorder = tokio::spawn(Arc::clone(&self.history).record(Arc::clone(&self.metrics), self.meter.clone()));
        let connections = GracefulShutdown::new();
        tokio::select! {
            () = self.accept(listener, &connections) => {}
            () = stop => {}
        }
        let is_done = timeout(self.grace, connections.shutdown()).await.is_ok();
        recorder.abort();
        Ok(is_done)
    }

    async fn accept(&self, listener: TcpListener, connections: &GracefulShutdown) {
        let room = Arc::new(Semaphore::new(self.max_connections));
        // It is never closed.
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let (stream, peer) = loop {
                match listener.accept().await {
                    Ok(accepted) => break accepted,
                    // Out of sockets, most likely: it passes when some have closed.
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            };
            let conversation = converse(stream, peer, self.router.clone(), connections.watcher());
            tokio::spawn(async move {
                conversation.await;
                drop(permit);
            });
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, watcher: Watcher) {
    // Small answers at once; a socket that refuses this still works.
    let _ = stream.set_nodelay(true);
    let service = ServiceBuilder::new().layer(Extension(ConnectInfo(peer))).service(router);
    let service =
        TowerToHyperService::new(service.map_request(|request: Request<hyper::body::Incoming>| request.map(Body::new)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // An error is a connection that broke, mostly because the caller went.
    let _ = watcher.watch(connection).await;
}

/// The gateway's own pages, at these very paths and for GET and HEAD; all else is the API's.
fn router<S, B>(pages: &Pages, proxy: Proxy<S>) -> Router
where
    S: Service<Request<Upload>, Response = Response<B>, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Router::new()
        .route("/", get(pages::status_page).with_state(pages.clone()).fallback(forward))
        .route("/status.json", get(pages::status).with_state(pages.clone()).fallback(forward))
        .route("/metrics", get(pages::metrics).with_state(pages.clone()).fallback(forward))
        .route("/healthz", get(pages::health).fallback(forward))
        .fallback(forward)
        .with_state(proxy)
}
