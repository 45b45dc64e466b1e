//! All quotas as one: each key has its own.

use tower_outbound::{
    QuotaMeterLayer,
    quota_meter::{Level, Snapshot},
};

/// The scope with the least left, and the calls of all of them.
pub(crate) fn overall(meter: &QuotaMeterLayer) -> Snapshot {
    let scopes = meter.handle().scopes();
    let tightest = scopes.iter().min_by(|a, b| least(a).total_cmp(&least(b))).cloned();
    let mut whole = tightest.unwrap_or_else(|| meter.snapshot());
    whole.waiting = scopes.iter().map(|scope| scope.waiting).sum();
    whole.in_flight = scopes.iter().map(|scope| scope.in_flight).sum();
    whole.expected_wait = scopes.iter().filter_map(|scope| scope.expected_wait).max();
    whole
}

/// The share that is left of what is nearest to its end; 1 where nothing is known.
fn least(scope: &Snapshot) -> f64 {
    [&scope.requests, &scope.tokens].into_iter().flatten().map(share).fold(1.0, f64::min)
}

/// What is left, from 0 to 1.
pub(crate) fn share(level: &Level) -> f64 {
    (level.remaining / level.limit).clamp(0.0, 1.0)
}
