//! All quotas as one: each key has its own.

use tower_outbound::{
    QuotaMeterLayer,
    quota_meter::{Level, Snapshot},
};

/// The scope with the least left, with the calls of all of them, and what keeps any of them from going on.
pub(crate) fn overall(meter: &QuotaMeterLayer) -> Snapshot {
    of_all(&meter.handle().scopes()).unwrap_or_else(|| meter.snapshot())
}

/// `None` where there is no scope.
pub(crate) fn of_all(scopes: &[Snapshot]) -> Option<Snapshot> {
    let tightest = scopes.iter().min_by(|a, b| least(a).total_cmp(&least(b))).cloned();
    let mut whole = tightest?;
    whole.waiting = scopes.iter().map(|scope| scope.waiting).sum();
    whole.in_flight = scopes.iter().map(|scope| scope.in_flight).sum();
    whole.expected_wait = scopes.iter().filter_map(|scope| scope.expected_wait).max();
    whole.gate_opens_in = scopes.iter().filter_map(|scope| scope.gate_opens_in).max();
    whole.spent = scopes.iter().find_map(|scope| scope.spent.clone());
    Some(whole)
}

/// The share that is left of what is nearest to its end; 1 where nothing is known.
fn least(scope: &Snapshot) -> f64 {
    [&scope.requests, &scope.tokens].into_iter().flatten().map(share).fold(1.0, f64::min)
}

/// What is left, from 0 to 1.
pub(crate) fn share(level: &Level) -> f64 {
    (level.remaining / level.limit).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_outbound::{ApiError, ErrorKind, RetryHint};

    use super::*;

    #[test]
    fn what_holds_one_scope_is_seen_beside_another() {
        let none = QuotaMeterLayer::new().snapshot();
        let mut one = none.clone();
        (one.gate_opens_in, one.waiting) = (Some(Duration::from_secs(1)), 2);
        let mut held = none;
        (held.gate_opens_in, held.waiting) = (Some(Duration::from_secs(5)), 1);
        held.spent = Some(ApiError::new(ErrorKind::QuotaExhausted, RetryHint::Never));
        for scopes in [[one.clone(), held.clone()], [held, one]] {
            let whole = of_all(&scopes).unwrap();
            assert_eq!((whole.waiting, whole.gate_opens_in), (3, Some(Duration::from_secs(5))));
            assert!(whole.spent.is_some());
        }
        assert!(of_all(&[]).is_none());
    }
}
