//! A bucket of retry tokens.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Withdrawn;
use crate::ErrorKind;

/// A retry, and one after a timeout, in retry tokens. Source: aws-smithy-runtime, standard mode.
const RETRY_COST: u64 = 5;
const TIMEOUT_COST: u64 = 10;

#[derive(Debug)]
pub(super) struct Tokens {
    capacity: u64,
    left: AtomicU64,
}

impl Tokens {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, left: AtomicU64::new(capacity) }
    }

    /// As full as it was at first.
    #[cfg(feature = "mock")]
    pub(super) fn afresh(&self) -> Self {
        Self::new(self.capacity)
    }

    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, kind: ErrorKind) -> Option<Withdrawn> {
        let cost = if kind == ErrorKind::Timeout { TIMEOUT_COST } else { RETRY_COST };
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost))
            .is_ok()
            .then_some(Withdrawn::Tokens(cost))
    }

    pub(super) fn give(&self, amount: u64) {
        // Full is the usual case, and then nothing is written.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left < self.capacity).then(|| left.saturating_add(amount).min(self.capacity))
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{super::Budget, *};

    #[test]
    fn retry_tokens_are_priced_by_kind_and_given_back() {
        let budget = Budget::retry_tokens(500);
        let now = Instant::now();
        assert_eq!(budget.withdraw(ErrorKind::Timeout, now), Some(Withdrawn::Tokens(10)));
        let last = budget.withdraw(ErrorKind::Server, now);
        assert_eq!((last, budget.tokens_left()), (Some(Withdrawn::Tokens(5)), Some(485)));
        budget.succeeded(last);
        budget.succeeded(None);
        assert_eq!(budget.tokens_left(), Some(491));
        let small = Budget::retry_tokens(5);
        assert!(small.withdraw(ErrorKind::Server, now).is_some());
        assert!(small.withdraw(ErrorKind::Server, now).is_none());
    }
}
