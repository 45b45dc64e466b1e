//! What the limits that were learned say of the time a batch takes: at the least, and from now on.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use tower_outbound::quota_meter::{Level, MeterHandle, Snapshot};

use crate::{tally::Tally, wire::Counts};

/// The quotas of all models, and what part of the batch each has carried so far.
fn parts(meter: &MeterHandle) -> Vec<(Snapshot, f64, f64)> {
    let scopes = meter.scopes();
    let calls = |scope: &Snapshot| scope.counts.sent.saturating_sub(scope.counts.limited) as f64;
    let all: (f64, f64) = scopes
        .iter()
        .fold((0.0, 0.0), |(requests, tokens), scope| (requests + calls(scope), tokens + scope.used.tokens() as f64));
    let part = |one: f64, all: f64| if all > 0.0 { one / all } else { 0.0 };
    let parts = scopes.into_iter().map(|scope| {
        let requests = part(calls(&scope), all.0);
        let tokens = if all.1 > 0.0 { part(scope.used.tokens() as f64, all.1) } else { requests };
        (scope, requests, tokens)
    });
    parts.collect()
}

/// How long this much takes over what is there; `None` where the limit is not known, or comes back all at once.
fn wait(level: Option<Level>, needed: f64, there: impl Fn(&Level) -> f64) -> Option<f64> {
    let level = level?;
    let seconds = (needed - there(&level)).max(0.0) / level.refill_per_second;
    seconds.is_finite().then_some(seconds)
}

/// The least time for the calls that were admitted: of all quotas, the one that takes longest.
pub(crate) fn least_time(meter: &MeterHandle, counts: &Counts, tally: &Tally) -> Option<Duration> {
    let (calls, tokens) = (counts.admitted() as f64, tally.tokens.load(Relaxed) as f64);
    let waits = parts(meter).into_iter().flat_map(|(scope, of_requests, of_tokens)| {
        let full = |level: &Level| level.limit;
        [wait(scope.requests, calls * of_requests, full), wait(scope.tokens, tokens * of_tokens, full)]
    });
    let longest = waits.flatten().reduce(f64::max)?;
    Some(Duration::try_from_secs_f64(longest).ok()?.saturating_add(counts.mean_latency()))
}

/// How many seconds so many more items wait for quota.
pub(crate) fn time_for(items: f64, meter: &MeterHandle, tally: &Tally) -> Option<f64> {
    let each = tally.tokens.load(Relaxed) as f64 / tally.answered.load(Relaxed).max(1) as f64;
    let waits = parts(meter).into_iter().flat_map(|(scope, of_requests, of_tokens)| {
        let there = |level: &Level| level.remaining;
        [wait(scope.requests, items * of_requests, there), wait(scope.tokens, items * each * of_tokens, there)]
    });
    waits.flatten().reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
    use tower_outbound::quota_meter::QuotaMeterLayer;

    use super::*;

    /// A meter that has heard of the limits of these models: requests and tokens a minute, of which none are left.
    async fn heard(models: &[(&str, u32, u32)]) -> MeterHandle {
        let layer = QuotaMeterLayer::new();
        let handle = layer.handle();
        let mut limits: Vec<(u32, u32)> =
            models.iter().rev().map(|(_, requests, tokens)| (*requests, *tokens)).collect();
        let mut service = ServiceBuilder::new().layer(layer).service(service_fn(move |_: Request<Full<Bytes>>| {
            let (requests, tokens) = limits.pop().unwrap();
            let answer = Response::builder()
                .header("x-ratelimit-limit-requests", requests)
                .header("x-ratelimit-remaining-requests", 0)
                .header("x-ratelimit-reset-requests", "1m0s")
                .header("x-ratelimit-limit-tokens", tokens)
                .header("x-ratelimit-remaining-tokens", 0)
                .header("x-ratelimit-reset-tokens", "1m0s");
            std::future::ready(Ok::<_, BoxError>(answer.body(Full::<Bytes>::default()).unwrap()))
        }));
        for (model, ..) in models {
            let body = format!(r#"{{"model":"{model}","messages":[],"max_tokens":5}}"#);
            let request = Request::post("https://api.example/v1/chat/completions").body(Full::from(body)).unwrap();
            service.ready().await.unwrap().call(request).await.unwrap();
        }
        handle
    }

    /// Ten items answered, of a hundred tokens each.
    fn tally() -> Tally {
        let tally = Tally::default();
        tally.answered.store(10, Relaxed);
        tally.tokens.store(1_000, Relaxed);
        tally
    }

    #[tokio::test(start_paused = true)]
    async fn the_quota_that_takes_longest_says_when_the_rest_is_through() {
        // 60 items: a minute for the requests, or ten for the tokens.
        for (requests, tokens, seconds) in [(60, 600_000, 60.0), (6_000, 600, 600.0), (60, 600, 600.0)] {
            let left = time_for(60.0, &heard(&[("m", requests, tokens)]).await, &tally()).unwrap();
            assert!((left - seconds).abs() < seconds * 0.1, "{left} for {seconds}");
        }
        assert_eq!(time_for(60.0, &QuotaMeterLayer::new().handle(), &tally()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_model_carries_its_part() {
        let meter = heard(&[("slow", 6, 1_000_000), ("quick", 6_000, 1_000_000)]).await;
        assert_eq!(meter.scopes().len(), 2);
        // Half of the items at six a minute, though the other was used last.
        let left = time_for(60.0, &meter, &tally()).unwrap();
        assert!((left - 300.0).abs() < 30.0, "{left}");
    }
}
