//! What lies under the layers: hyper-util's client, counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::Instant;
use tower::{BoxError, util::BoxCloneService};

/// What sends a request and has the whole answer: with the layers on it or without.
pub(crate) type Caller = BoxCloneService<Request<Full<Bytes>>, Response<Answer>, BoxError>;

/// The body of an answer, under however many layers.
pub(crate) type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// The longest answer that is taken.
pub(crate) const MAX_ANSWER: usize = 64 << 20;

/// Sends a request and takes the whole answer: one that breaks off is an error, which the layers see and send again.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) calls: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    /// Answers other than 429, and the time they took together.
    admitted: AtomicU64,
    latency_us: AtomicU64,
}

impl Counts {
    pub(crate) fn admitted(&self) -> u64 {
        self.admitted.load(Relaxed)
    }

    pub(crate) fn mean_latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Relaxed) / self.admitted().max(1))
    }
}

/// A request extension: whether the request is out at this moment, and not waiting for anything here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Out(Arc<AtomicBool>);

impl Out {
    pub(crate) fn is_out(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A request that is out; it comes back however it ends.
struct Trip<'a> {
    counts: &'a Counts,
    out: Option<Out>,
}

impl<'a> Trip<'a> {
    fn begin(counts: &'a Counts, out: Option<Out>) -> Self {
        counts.calls.fetch_add(1, Relaxed);
        counts.in_flight.fetch_add(1, Relaxed);
        if let Some(out) = &out {
            out.0.store(true, Relaxed);
        }
        Self { counts, out }
    }
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        self.counts.in_flight.fetch_sub(1, Relaxed);
        if let Some(out) = &self.out {
            out.0.store(false, Relaxed);
        }
    }
}

impl Wire {
    pub(crate) fn new(connections: usize) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(10)));
        let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(connections)
            .build(tls);
        Self { client, counts: Arc::default() }
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    pub(crate) async fn send(self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, BoxError> {
        let trip = Trip::begin(&self.counts, request.extensions().get::<Out>().cloned());
        let start = Instant::now();
        let (head, body) = self.client.request(request).await?.into_parts();
        // Whether the server admitted it stands in the head, however the rest comes.
        let was_admitted = head.status != StatusCode::TOO_MANY_REQUESTS;
        let count = if was_admitted { &self.counts.admitted } else { &self.counts.rejected };
        count.fetch_add(1, Relaxed);
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        if was_admitted {
            let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counts.latency_us.fetch_add(us, Relaxed);
        }
        let body = body?.to_bytes();
        drop(trip);
        Ok(Response::from_parts(head, body))
    }
}
