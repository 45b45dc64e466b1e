//! How many retries a whole process may make: [`Budget`].
//!
//! Retries help against a fault that hits one call, and harm when it hits all: then they are the load that keeps the
//! server down. A budget allows the first and ends the second.

mod share;
mod tokens;

use std::sync::Arc;

use tokio::time::Instant;

use self::{share::Share, tokens::Tokens};
use crate::ErrorKind;

/// A limit on the retries of all calls through one layer and its clones.
///
/// ```
/// use tower_outbound::backoff_retry::{BackoffRetryLayer, Budget};
///
/// // At most one retry to every ten calls, or one a second where there are few calls.
/// let retry = BackoffRetryLayer::new().budget(Budget::share_of_traffic(0.1).floor(1.0));
/// ```
#[derive(Debug)]
pub struct Budget(Kind);

#[derive(Debug)]
enum Kind {
    Unlimited,
    Tokens(Tokens),
    Share(Share),
}

impl Budget {
    /// No limit but that of each call.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(Kind::Unlimited)
    }

    /// A bucket of retry tokens: a retry takes 5, after a timeout 10; a success on the first try gives back 1, one
    /// after retries what the last of them took. With 500, 100 retries more than successes pay for.
    ///
    /// Source: the AWS SDKs' standard mode.
    #[must_use]
    pub fn retry_tokens(capacity: u32) -> Self {
        Self(Kind::Tokens(Tokens::new(u64::from(capacity))))
    }

    /// At most `share` retries to a call, over the last 10 s; where there are few calls, one every 10 s, and ten at once
    /// after a quiet time. Those ten are not on top: the calls that follow pay for them before they allow more.
    ///
    /// So with 0.1, if all calls fail from the start, the server gets 1.1 times the calls from the hundredth on. What the
    /// calls of the last 10 s allow may be used at once: the first 10 s of an outage bring up to 1.2 times the calls, and
    /// from then on it is 1.1. Fractions are kept, however few calls there are: with 0.1 and no floor it is every tenth
    /// call. An older allowance than 10 s is gone.
    ///
    /// A share below 0, or that is no number, is 0. Source: Finagle and Google's SRE book allow 0.1 to 0.2.
    #[must_use]
    pub fn share_of_traffic(share: f64) -> Self {
        Self(Kind::Share(Share::of(share)))
    }

    /// For [`share_of_traffic`](Self::share_of_traffic): so many retries a second are allowed however few calls there
    /// are. Default: 0.1. What was not used adds up to 10 s of it, and to 10 retries at the least; 0 is none at all.
    ///
    /// Every process has a budget of its own, so that the server gets this much from each. In the simulator 200 quiet
    /// clients keep a server down long after its outage at 1, and at Finagle's 10; at 0.1 it is up again in seconds.
    #[must_use]
    pub fn floor(mut self, per_second: f64) -> Self {
        if let Kind::Share(share) = &mut self.0 {
            share.set_floor(per_second);
        }
        self
    }

    /// The same limits, with nothing used.
    #[cfg(feature = "mock")]
    pub(super) fn afresh(&self) -> Self {
        match &self.0 {
            Kind::Unlimited => Self::unlimited(),
            Kind::Tokens(tokens) => Self(Kind::Tokens(tokens.afresh())),
            Kind::Share(share) => Self(Kind::Share(share.afresh())),
        }
    }

    /// A call begins.
    #[inline]
    pub(super) fn call(&self, now: Instant) {
        if let Kind::Share(share) = &self.0 {
            share.call(now);
        }
    }

    /// Takes what a retry after such a failure costs; `None` if that is not there.
    pub(super) fn withdraw(&self, kind: ErrorKind, now: Instant) -> Option<Withdrawn> {
        match &self.0 {
            Kind::Unlimited => Some(Withdrawn::Nothing),
            Kind::Tokens(tokens) => tokens.take(kind),
            Kind::Share(share) => share.take(now),
        }
    }

    /// What was taken for a retry that was not sent.
    pub(super) fn give_back(&self, withdrawn: Withdrawn) {
        match (&self.0, withdrawn) {
            (Kind::Tokens(tokens), Withdrawn::Tokens(amount)) => tokens.give(amount),
            (Kind::Share(share), Withdrawn::Share { slot, floor }) => share.give(slot, floor),
            _ => {}
        }
    }

    /// A call succeeded; `withdrawn` is what its last retry took.
    pub(super) fn succeeded(&self, withdrawn: Option<Withdrawn>) {
        if let Kind::Tokens(tokens) = &self.0 {
            tokens.give(match withdrawn {
                Some(Withdrawn::Tokens(amount)) => amount,
                _ => 1,
            });
        }
    }

    /// Retry tokens left; `None` for a budget that is not counted in them.
    #[must_use]
    pub fn tokens_left(&self) -> Option<u64> {
        match &self.0 {
            Kind::Tokens(tokens) => Some(tokens.left()),
            _ => None,
        }
    }
}

/// What one retry took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Withdrawn {
    Nothing,
    Tokens(u64),
    /// From the allowance of this second, if there was one; and so much from the floor's.
    Share {
        slot: Option<u64>,
        floor: f64,
    },
}

/// What was taken for a retry that is not sent yet: given back if it never is.
#[derive(Debug, Default)]
pub(super) struct Unsent(Option<(Arc<Budget>, Withdrawn)>);

impl Unsent {
    pub(super) fn new(budget: &Arc<Budget>, withdrawn: Withdrawn) -> Self {
        Self(Some((Arc::clone(budget), withdrawn)))
    }

    /// It is sent now.
    pub(super) fn sent(&mut self) -> Option<Withdrawn> {
        self.0.take().map(|(_, withdrawn)| withdrawn)
    }
}

/// A copy has taken nothing.
impl Clone for Unsent {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some((budget, withdrawn)) = self.0.take() {
            budget.give_back(withdrawn);
        }
    }
}
