//! The layers, stacked over the client.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{BoxError, ServiceBuilder, service_fn};
use tower_outbound::{
    ApiKey, BackoffRetryLayer, ErrorClassifyLayer, KeyCheckLayer, Origin, Providers, QuotaMeterLayer,
    backoff_retry::{Budget, Repeat, Standard},
    nz,
    provider::OpenAi,
};

use crate::{
    flaw,
    wire::{Answer, Caller, Wire},
};

/// A limit for each attempt, from its sending: as the OpenAI SDKs have it. The wait for quota is not in it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);

/// The longest single wait, be it for quota or because the server asks for it: a batch has time.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// A client that calls `origin` with `key`, as often and as fast as the server wants.
pub(crate) fn stack(wire: Wire, key: ApiKey, origin: Origin, meter: &QuotaMeterLayer) -> Caller {
    // A batch is worth some patience, and its answers are worth the risk of paying for one twice. The number of workers
    // is budget enough: an item that fails is sent again by hand otherwise.
    let retry = BackoffRetryLayer::new()
        .policy(Standard::new().max_attempts(nz!(6)))
        .repeat(Repeat::All)
        .max_wait(LONGEST_WAIT)
        .budget(Budget::unlimited());
    // Whatever is at another host, copies OpenAI.
    let apis = Providers::by_host().otherwise(OpenAi);
    ServiceBuilder::new()
        .boxed_clone()
        .map_response(boxed)
        .layer(retry)
        .layer(KeyCheckLayer::new(key, origin))
        .layer(meter)
        .layer(ErrorClassifyLayer::new(apis).failures_in_successes(true))
        .timeout(TIMEOUT)
        .map_response(|response: Response<Bytes>| flaw::marked(response).map(Full::new))
        .service(service_fn(move |request: Request<Full<Bytes>>| wire.clone().send(request)))
}

/// Hides the layers that a body has around it.
pub(crate) fn boxed<B>(response: Response<B>) -> Response<Answer>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    response.map(|body| body.map_err(Into::into).boxed_unsync())
}
