//! The retries of OpenAI's SDK for Python.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Request, Response};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Sleep, sleep};
use tower::{
    BoxError,
    retry::{Policy, RetryLayer},
};

const INITIAL_WAIT: f64 = 0.5;
const MAX_WAIT: f64 = 8.0;
/// A hint past this ends the call.
const MAX_HINT: f64 = 120.0;

/// So many retries, 0.5 s doubling to 8 s less up to a quarter, or when the server says, exactly. Two is its default.
#[must_use]
pub fn openai_sdk(max_retries: u32, seed: u64) -> RetryLayer<OpenAiSdk> {
    let rng = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
    RetryLayer::new(OpenAiSdk { max_retries, retry: 0, rng })
}

/// The policy of [`openai_sdk`].
#[derive(Clone, Debug)]
pub struct OpenAiSdk {
    max_retries: u32,
    retry: u32,
    rng: Arc<Mutex<SmallRng>>,
}

impl OpenAiSdk {
    fn backoff(&self) -> f64 {
        let jitter: f64 = self.rng.lock().unwrap_or_else(PoisonError::into_inner).random();
        (INITIAL_WAIT * 2f64.powi(self.retry.min(16) as i32)).min(MAX_WAIT) * (1.0 - 0.25 * jitter)
    }
}

impl<B: Clone, RB> Policy<Request<B>, Response<RB>, BoxError> for OpenAiSdk {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<B>, result: &mut Result<Response<RB>, BoxError>) -> Option<Self::Future> {
        let hint = match result {
            Ok(response) if !is_retried(response) => return None,
            Ok(response) => hint(response),
            Err(_) => None,
        };
        if self.retry == self.max_retries || hint.is_some_and(|hint| hint > MAX_HINT) {
            return None;
        }
        let wait = hint.filter(|hint| *hint > 0.0).unwrap_or_else(|| self.backoff());
        self.retry += 1;
        request.headers_mut().insert("x-stainless-retry-count", self.retry.into());
        Some(sleep(Duration::try_from_secs_f64(wait).unwrap_or_default()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        let mut request = request.clone();
        request.headers_mut().insert("x-stainless-retry-count", self.retry.into());
        Some(request)
    }
}

fn is_retried<RB>(response: &Response<RB>) -> bool {
    match response.headers().get("x-should-retry").map(HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => matches!(response.status().as_u16(), 408 | 409 | 429 | 500..),
    }
}

/// In seconds. A date, which it reads too, no server of ours sends.
fn hint<RB>(response: &Response<RB>) -> Option<f64> {
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<f64>().ok();
    number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after"))
}
