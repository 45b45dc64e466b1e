//! Plain retries, as OpenAI's SDK for Python does them: what the layers are compared with.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, service_fn};
use tower_outbound::BackoffRetryLayer;

use crate::{
    stack::{TIMEOUT, boxed},
    wire::{Caller, Wire},
};

/// A client with the retries of the SDK and nothing else: two of them, 0.5 s doubling to 8 s less up to a quarter, or as
/// the server says.
pub(crate) fn sdk(wire: Wire, key: HeaderValue) -> Caller {
    ServiceBuilder::new()
        .boxed_clone()
        .map_response(boxed)
        .map_request(move |mut request: Request<Full<Bytes>>| {
            request.headers_mut().insert("authorization", key.clone());
            request
        })
        .layer(BackoffRetryLayer::openai_sdk())
        .timeout(TIMEOUT)
        .map_response(|response: Response<Bytes>| response.map(Full::new))
        .service(service_fn(move |request: Request<Full<Bytes>>| wire.clone().send(request)))
}
