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
