//! What the gateway shows of itself.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, State},
    response::Response,
    routing::get,
};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use serde::Serialize;
use tower_outbound::{QuotaMeterLayer, quota_meter::Level};

use crate::{
    guard::Guard,
    history::{History, Sample},
    metrics::Metrics,
    quota::{counts, of_all, overall},
};

const PAGE: &str = include_str!("status.html");
/// The page is one file, and asks nobody but the gateway.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; frame-ancestors 'none'";

/// What the pages tell of.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) facts: Arc<Facts>,
    pub(crate) guard: Guard,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) meter: QuotaMeterLayer,
    pub(crate) history: Arc<History>,
}

/// What does not change.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) version: &'static str,
    pub(crate) upstream: String,
    pub(crate) is_mock: bool,
    /// Which keys are added: their fingerprints.
    pub(crate) key: Option<String>,
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    uptime: f64,
    in_flight: u64,
    waiting: usize,
    good: u64,
    failed: u64,
    refused: u64,
    limited: u64,
    retries: u64,
    resends: u64,
    requests: Option<Quota>,
    tokens: Option<Quota>,
    more: Vec<Also>,
    expected_wait: Option<f64>,
    gate_opens_in: Option<f64>,
    spent: Option<String>,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Quota {
    limit: f64,
    remaining: f64,
    per_minute: f64,
}

/// A limit beside the usual two.
#[derive(Serialize)]
struct Also {
    name: String,
    counts: &'static str,
    #[serde(flatten)]
    quota: Quota,
}

impl From<Level> for Quota {
    fn from(level: Level) -> Self {
        Self { limit: level.limit, remaining: level.remaining, per_minute: level.refill_per_second * 60.0 }
    }
}

type Asked = (State<Pages>, ConnectInfo<SocketAddr>, HeaderMap);

/// Whether a request is for one of these pages: at its very path, and only to look at it. All else is the API's.
pub(crate) fn is_page<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && matches!(request.uri().path(), "/" | "/status.json" | "/metrics" | "/healthz")
}

pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(status_page))
        .route("/status.json", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .with_state(pages)
}

async fn status_page(asked: Asked) -> Response {
    asked.show(|_| ("text/html; charset=utf-8", PAGE.into()))
}

/// What the status page asks for each second; `?since=n` gives only the samples after the n-th.
async fn status(State(pages): State<Pages>, peer: ConnectInfo<SocketAddr>, headers: HeaderMap, uri: Uri) -> Response {
    let since = uri.query().and_then(|query| query.strip_prefix("since=")?.parse().ok()).unwrap_or(0);
    (State(pages), peer, headers).show(|pages| ("application/json", pages.status(since).into()))
}

/// Whether the gateway runs. Whether the API does, it says on each call.
async fn health() -> &'static str {
    "ok\n"
}

/// For Prometheus.
async fn metrics(asked: Asked) -> Response {
    asked.show(|pages| {
        let scopes = pages.meter.handle().scopes();
        let whole = of_all(&scopes).unwrap_or_else(|| pages.meter.snapshot());
        ("text/plain; version=0.0.4; charset=utf-8", pages.metrics.render(&whole, &scopes).into())
    })
}

impl Pages {
    fn status(&self, since: u64) -> String {
        let (totals, quota) = (self.metrics.totals(), overall(&self.meter));
        let status = Status {
            facts: &self.facts,
            uptime: self.metrics.uptime().as_secs_f64(),
            in_flight: totals.in_flight.saturating_sub(quota.waiting as u64),
            waiting: quota.waiting,
            good: totals.good,
            failed: totals.failed,
            refused: totals.own,
            limited: totals.limited,
            retries: totals.retries,
            resends: totals.resends,
            requests: quota.requests.map(Quota::from),
            tokens: quota.tokens.map(Quota::from),
            more: quota
                .more
                .into_iter()
                .map(|also| Also { name: also.name, counts: counts(also.unit), quota: also.level.into() })
                .collect(),
            expected_wait: quota.expected_wait.map(|wait| wait.as_secs_f64()),
            gate_opens_in: quota.gate_opens_in.map(|wait| wait.as_secs_f64()),
            spent: quota.spent.map(|error| error.to_string()),
            samples: self.history.since(since),
        };
        serde_json::to_string(&status).unwrap_or_default()
    }
}

trait Show {
    fn show(self, page: impl FnOnce(&Pages) -> (&'static str, Body)) -> Response;
}

impl Show for Asked {
    /// The page, for whom it may be shown to.
    fn show(self, page: impl FnOnce(&Pages) -> (&'static str, Body)) -> Response {
        let (State(pages), ConnectInfo(peer), headers) = self;
        if let Err(problem) = pages.guard.admit_to_pages(peer, &headers) {
            return problem.into_response();
        }
        let (media, body) = page(&pages);
        let mut response = Response::new(body);
        for (name, value) in [
            (header::CONTENT_TYPE, media),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
