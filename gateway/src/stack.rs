//! The layers, over a client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::{BoxError, Service, ServiceBuilder};
use tower_outbound::{
    BackoffRetryLayer, ErrorClassifyLayer, KeyCheckLayer, Providers, QuotaMeterLayer,
    backoff_retry::{Repeat, Standard},
    provider::OpenAi,
};

use crate::{Options, attempt::Attempts, body::Upload, limit::Limit, metrics::Metrics};

/// A connection that is not made by then is not made at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// OpenAI closes idle connections later than that.
const IDLE: Duration = Duration::from_secs(60);

/// The meter by the options: made first, for the status page looks at it too.
pub(crate) fn meter(options: &Options) -> QuotaMeterLayer {
    QuotaMeterLayer::new().max_wait(options.max_wait).max_queue(options.max_queue)
}

/// Each sends calls to the API at `host`, with a key on them if there is one, over connections of its own. All else is shared.
pub(crate) fn stacks(
    number: usize,
    options: &Options,
    host: &str,
    key: Option<KeyCheckLayer>,
    meter: &QuotaMeterLayer,
    metrics: &Arc<Metrics>,
) -> Vec<
    impl Service<
        Request<Upload>,
        Response = Response<impl Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static>,
        Error = BoxError,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static,
> {
    let on_retry = Arc::clone(metrics);
    // As OpenAI's own clients, it repeats what may have been processed.
    let retry = BackoffRetryLayer::new()
        .policy(Standard::new().max_attempts(options.attempts))
        .repeat(Repeat::All)
        .on_retry(move |_, _| on_retry.retried());
    let layers = ServiceBuilder::new()
        .layer(retry)
        .option_layer(key)
        .layer(meter)
        .layer(ErrorClassifyLayer::new(Providers::by_host().otherwise(OpenAi).only(host)));
    let connector = connector();
    let limit = Limit::new(options.attempt_timeout);
    let stack = || layers.service(Attempts::new(client(connector.clone()), limit.apart(), Arc::clone(metrics)));
    std::iter::repeat_with(stack).take(number).collect()
}

fn connector() -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(http)
}

fn client(connector: HttpsConnector<HttpConnector>) -> Client<HttpsConnector<HttpConnector>, Upload> {
    // HTTP/1.1 alone: over HTTP/2 all calls would share one connection, and wait for each other when it has no stream left.
    Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).build(connector)
}
