//! "Come back later", as servers spell it.

use std::time::Duration;

use http::{HeaderMap, header::RETRY_AFTER};

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
