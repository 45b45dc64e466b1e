//! All quotas as one: each key has its own.

use tower_outbound::{
    QuotaMeterLayer,
    limits::Unit,
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
    levels(scope).map(|limit| share(&limit.level)).fold(1.0, f64::min)
}

/// Of all limits on requests, or of all on tokens, the share that is left of the one nearest to its end.
pub(crate) fn least_of(scope: &Snapshot, of_requests: bool) -> Option<f64> {
    let shares = levels(scope).filter(|limit| (limit.unit == Unit::Requests) == of_requests);
    shares.map(|limit| share(&limit.level)).min_by(f64::total_cmp)
}

/// One limit.
pub(crate) struct Known<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: Unit,
    pub(crate) level: Level,
}

/// All that is known of the limits of one scope: the usual two first.
pub(crate) fn levels(scope: &Snapshot) -> impl Iterator<Item = Known<'_>> {
    let usual = [("requests", Unit::Requests, scope.requests), ("tokens", Unit::Tokens, scope.tokens)];
    let usual = usual.into_iter().filter_map(|(name, unit, level)| Some(Known { name, unit, level: level? }));
    let more = scope.more.iter().map(|also| Known { name: &also.name, unit: also.unit, level: also.level });
    usual.chain(more)
}

/// What a limit counts, in a word.
pub(crate) fn counts(unit: Unit) -> &'static str {
    match unit {
        Unit::Requests => "requests",
        Unit::InputTokens => "input tokens",
        Unit::OutputTokens => "output tokens",
        _ => "tokens",
    }
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

    /// Anthropic's input and output apart: neither is among the usual two.
    #[tokio::test(start_paused = true)]
    async fn a_limit_beside_the_usual_two_is_the_tightest_too() {
        use tower::{ServiceExt, service_fn};

        let meter = QuotaMeterLayer::new();
        let answer = http::Response::builder()
            .header("anthropic-ratelimit-requests-limit", "100")
            .header("anthropic-ratelimit-requests-remaining", "90")
            .header("anthropic-ratelimit-requests-reset", "2100-01-01T00:00:00Z")
            .header("anthropic-ratelimit-output-tokens-limit", "1000")
            .header("anthropic-ratelimit-output-tokens-remaining", "250")
            .header("anthropic-ratelimit-output-tokens-reset", "2100-01-01T00:00:00Z")
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let service = service_fn(move |_: http::Request<axum::body::Body>| {
            std::future::ready(Ok::<_, tower::BoxError>(answer.clone()))
        });
        let meter_over = meter.clone().any_body();
        let request = http::Request::get("http://api.example/").body(axum::body::Body::empty()).unwrap();
        drop(tower::Layer::layer(&meter_over, service).oneshot(request).await.unwrap());

        let whole = of_all(&meter.handle().scopes()).unwrap();
        assert_eq!(whole.tokens.map(|level| level.limit), None);
        assert_eq!((least_of(&whole, true), least_of(&whole, false)), (Some(0.9), Some(0.25)));
        assert_eq!(least(&whole), 0.25);
        let named: Vec<_> = levels(&whole).map(|limit| (limit.name, counts(limit.unit))).collect();
        assert!(named.contains(&("output-tokens", "output tokens")), "{named:?}");
    }

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
