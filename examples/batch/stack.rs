//! The layers, stacked over the client.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tower_outbound::{
    backoff_retry::{BackoffRetryLayer, Repeat, Standard},
    key_check::{ApiKey, KeyCheckLayer, Origin},
    nz,
    quota_meter::QuotaMeterLayer,
};

use crate::wire::Wire;

/// A limit for each attempt, from its sending: as the OpenAI SDKs have it. The wait for quota is not in it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);

/// A client that calls `origin` with `key`, as often and as fast as the server wants.
pub(crate) fn stack(
    wire: Wire,
    key: ApiKey,
    origin: Origin,
    meter: &QuotaMeterLayer,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl Body<Data = Bytes, Error: Into<BoxError>> + Send + use<>>,
    Error = BoxError,
    Future: Send,
>
+ Clone
+ Send
+ 'static
+ use<> {
    ServiceBuilder::new()
        // A batch is worth some patience, and its answers are worth the risk of paying for one twice.
        .layer(BackoffRetryLayer::new().policy(Standard::new().max_attempts(nz!(6))).repeat(Repeat::All))
        .layer(KeyCheckLayer::new(key, origin))
        .layer(meter)
        .timeout(TIMEOUT)
        .service(service_fn(move |request| wire.clone().send(request)))
}
