//! [`Gateway`]: the parts put together, and the connections.

use std::{convert::Infallible, future::poll_fn, io, mem, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::Either;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{BoxError, Service, ServiceExt};
use tower_outbound::{ApiKey, KeyCheckLayer, Origin, QuotaMeterLayer, key_check::Placement};

use crate::{
    Options, Secrets,
    body::Upload,
    guard::Guard,
    history::History,
    intake::Intake,
    limit::{Limit, Timers},
    metrics::Metrics,
    pages::{self, Facts, Pages},
    proxy::{Lane, Proxy, Rules},
    stack::{meter, stacks},
    stop::{Entered, Stage, Stop},
    target::Target,
    workers::{self, Worker},
};

/// A connection that says nothing for so long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long it takes at most to tell callers that there is no more time.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The proxy in front of one API.
#[derive(Debug)]
pub struct Gateway {
    options: Options,
    rules: Rules,
    key: Option<KeyCheckLayer>,
    facts: Facts,
}

impl Gateway {
    /// In front of the API at `upstream`.
    ///
    /// # Errors
    /// If that is no address of an API, or one that no key may be sent to.
    pub fn new(options: &Options, upstream: &str, secrets: &Secrets) -> Result<Self, BoxError> {
        let target = Target::parse(upstream)?;
        let origin = if options.allow_plain_http { Origin::parse_insecure } else { Origin::parse };
        let key_header = options.key_header.clone().filter(|name| *name != AUTHORIZATION);
        let key = match secrets.keys.split_first() {
            Some((first, others)) => {
                let one = KeyCheckLayer::new(first.clone(), origin(upstream)?);
                let one = one.placement(key_header.clone().map_or(Placement::bearer(), Placement::header));
                Some(others.iter().cloned().fold(one, KeyCheckLayer::with_key))
            }
            None => None,
        };
        let fingerprints: Vec<_> = secrets.keys.iter().map(ApiKey::fingerprint).collect();
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION"),
            upstream: target.to_string(),
            is_mock: options.upstream.is_none(),
            key: (!fingerprints.is_empty()).then(|| fingerprints.join(", ")),
        };
        let rules = Rules {
            target,
            guard: Guard::new(secrets),
            has_key: key.is_some(),
            key_header,
            keep_query_keys: options.keep_query_keys,
            accept_encoding: options.accept_encoding,
            intake: Intake::new(
                options.replay_kib.saturating_mul(1 << 10),
                options.replay_total_mib.saturating_mul(1 << 20),
            ),
        };
        Ok(Self { options: options.clone(), rules, key, facts })
    }

    /// What clients put behind the gateway's address for their `base_url`.
    #[must_use]
    pub fn base_path(&self) -> &str {
        self.rules.target.base_path()
    }

    /// Serves until `stop`; then takes nothing new, and gives what is in flight or waits in line the time that the options
    /// allow. What has no answer by then gets a 503, with `Retry-After`.
    ///
    /// Whether all of it ended in that time.
    ///
    /// # Errors
    /// If the listener is none.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<bool> {
        listener.local_addr()?;
        let Self { options, rules, key, facts } = self;
        let (metrics, history) = (Arc::new(Metrics::default()), Arc::new(History::default()));
        let meter: QuotaMeterLayer = meter(&options);
        // It ends with this call, however that does.
        let mut recorder = JoinSet::new();
        recorder.spawn(Arc::clone(&history).record(Arc::clone(&metrics), meter.clone()));
        let pages = Pages {
            facts: Arc::new(facts),
            guard: rules.guard.clone(),
            metrics: Arc::clone(&metrics),
            meter: meter.clone(),
            history,
        };
        // As many as the caller's runtime would serve with.
        let number = Handle::current().metrics().num_workers();
        let stacks = stacks(number, &options, rules.target.host(), key, &meter, &metrics);
        let (rules, pages) = (Arc::new(rules), pages::router(pages));
        let on_connections = Arc::new(Stop::default());
        let workers = stacks.into_iter().map(|stack| {
            let (rules, metrics, stop) = (Arc::clone(&rules), Arc::clone(&metrics), Arc::clone(&on_connections));
            Worker::start(Front { proxy: Proxy { stack, rules, metrics, stop }, pages: pages.clone() })
        });
        let workers = workers.collect::<io::Result<Vec<_>>>()?;

        tokio::select! {
            () = accept(listener, &workers, options.max_connections.get(), &on_connections) => {}
            () = stop => {}
        }
        on_connections.go_to(Stage::Ending);
        let mut ended = Box::pin(on_connections.all_left());
        let is_done = match options.grace {
            Some(grace) => timeout(grace, &mut ended).await.is_ok(),
            None => {
                ended.as_mut().await;
                true
            }
        };
        if !is_done {
            on_connections.go_to(Stage::Over);
            let _ = timeout(LAST_WORDS, ended).await;
        }
        Ok(is_done)
    }
}

/// What all connections share: the way through, and the gateway's own pages.
struct Front<S> {
    proxy: Proxy<S>,
    pages: Router,
}

impl<S> Front<S> {
    async fn show(&self, peer: SocketAddr, request: Request<Incoming>) -> Response {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        self.pages.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }
}

async fn accept<S, B>(listener: TcpListener, workers: &[Worker<Front<S>>], max_connections: usize, stop: &Arc<Stop>)
where
    S: Service<Request<Upload>, Response = http::Response<B>, Error = BoxError, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    // It is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let (stream, peer) = loop {
            match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok(accepted) => break accepted,
                // Out of sockets, most likely: it passes when some have closed.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        let entered = stop.enter();
        let Some(worker) = workers::idlest(workers) else { return };
        worker.spawn(|front| async move {
            // On the thread that it is for.
            if let Ok(stream) = TcpStream::from_std(stream) {
                converse(stream, peer, front, entered).await;
            }
            drop(permit);
        });
    }
}

async fn converse<S, B>(stream: TcpStream, peer: SocketAddr, front: Arc<Front<S>>, mut entered: Entered)
where
    S: Service<Request<Upload>, Response = http::Response<B>, Error = BoxError> + Clone,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    // Small answers at once; a socket that refuses this still works.
    let _ = stream.set_nodelay(true);
    let lane = Lane::new(&front.proxy, peer);
    let way = Arc::new((front, lane));
    let service = service_fn(move |request| {
        let way = Arc::clone(&way);
        async move {
            let (front, lane) = &*way;
            Ok::<_, Infallible>(match pages::is_page(&request) {
                true => Box::pin(front.show(lane.peer(), request)).await.map(Either::Right),
                false => front.proxy.forward(lane, request).await,
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(Timers(Limit::new(HEAD_TIMEOUT)))
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let (mut connection, mut is_ending) = (pin!(connection), false);
    // An error is a connection that broke, mostly because the caller went.
    let _ = poll_fn(|cx| {
        if entered.poll_stage(cx) >= Stage::Ending && !mem::replace(&mut is_ending, true) {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    })
    .await;
}
