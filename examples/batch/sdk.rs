//! Plain retries, as OpenAI's SDK for Python does them: what the layers are compared with.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::Full;
use tokio::time::{sleep, timeout};
use tower::{BoxError, ServiceExt, service_fn};

use crate::{
    stack::{TIMEOUT, boxed},
    wire::{Caller, Wire},
};

const MAX_RETRIES: u32 = 2;
/// Past this, a hint from the server ends the call.
const MAX_HINT: Duration = Duration::from_secs(120);

/// A client with the retries of the SDK: two of them, 0.5 s doubling to 8 s less up to a quarter, or as the server says.
pub(crate) fn sdk(wire: Wire, key: HeaderValue) -> Caller {
    let calls = service_fn(move |request| call(wire.clone(), key.clone(), request));
    calls.map_response(boxed).boxed_clone()
}

async fn call(
    wire: Wire,
    key: HeaderValue,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Full<Bytes>>, BoxError> {
    request.headers_mut().insert("authorization", key);
    let mut retry = 0;
    loop {
        request.headers_mut().insert("x-stainless-retry-count", retry.into());
        let result = match timeout(TIMEOUT, wire.clone().send(request.clone())).await {
            Ok(result) => result,
            Err(elapsed) => Err(elapsed.into()),
        };
        let hint = match &result {
            Ok(response) if !is_retried(response.status()) => return result,
            Ok(response) => hint(response),
            Err(_) => None,
        };
        if retry == MAX_RETRIES || hint.is_some_and(|hint| hint > MAX_HINT) {
            return result;
        }
        sleep(hint.unwrap_or_else(|| backoff(retry))).await;
        retry += 1;
    }
}

fn is_retried(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 429 | 500..)
}

fn hint(response: &Response<Full<Bytes>>) -> Option<Duration> {
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds).ok().filter(|hint| !hint.is_zero())
}

fn backoff(retry: u32) -> Duration {
    let jitter = 1.0 - 0.25 * rand::random::<f64>();
    Duration::from_secs_f64((0.5 * f64::from(1_u32 << retry.min(4))).min(8.0) * jitter)
}
