//! What is known of a key: well, or refused by the server.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{ApiKey, Origin};
use crate::{ApiError, Gate, Lease, Refused};

/// A key and its health, shared by all services of a layer.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) key: ApiKey,
    pub(super) origin: Origin,
    pub(super) recheck: Duration,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Health {
    lease: Lease,
    rejected: Option<Rejection>,
}

#[derive(Debug)]
struct Rejection {
    error: ApiError,
    /// When the next call is let through to look; `None` for never.
    recheck_at: Option<Instant>,
    probe_in_flight: bool,
}

impl Shared {
    pub(super) fn new(key: ApiKey, origin: Origin, recheck: Duration) -> Self {
        let health = Mutex::new(Health { lease: Lease::new(0), rejected: None });
        Self { key, origin, recheck, health }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Health) -> T) -> T {
        act(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lends the key for one call.
    ///
    /// # Errors
    /// [`Refused`] while the key is dead, but for one call each `recheck`.
    pub(super) fn lend(self: &Arc<Self>) -> Result<(Loan, Lease), Refused> {
        let is_probe = self.with(|health| {
            let Some(rejected) = &mut health.rejected else { return Ok((false, health.lease.clone())) };
            let now = Instant::now();
            if rejected.probe_in_flight || rejected.recheck_at.is_none_or(|recheck_at| now < recheck_at) {
                return Err(self.refusal(rejected, now));
            }
            rejected.probe_in_flight = true;
            health.lease = Lease::new(health.lease.id().wrapping_add(1));
            Ok((true, health.lease.clone()))
        });
        let (is_probe, lease) = is_probe?;
        Ok((Loan { shared: Arc::clone(self), id: lease.id(), is_probe }, lease))
    }

    fn refusal(&self, rejected: &Rejection, now: Instant) -> Refused {
        // While one call looks, nobody knows: "at once" would make who believes it spin.
        let recheck_at = rejected.recheck_at.filter(|_| !rejected.probe_in_flight);
        let wait = recheck_at.map(|recheck_at| recheck_at.saturating_duration_since(now));
        let cause = KeyRejected { fingerprint: self.key.fingerprint(), error: rejected.error.clone() };
        Refused::new(Gate::Key, wait, cause)
    }
}

/// The key lent to one call; what came of the call is told to it.
#[derive(Debug)]
pub(super) struct Loan {
    shared: Arc<Shared>,
    id: u32,
    is_probe: bool,
}

impl Loan {
    /// The server took the key.
    pub(super) fn accepted(&mut self) {
        if self.is_probe {
            self.is_probe = false;
            self.shared.with(|health| health.rejected = None);
        }
    }

    /// The server refused the key: nobody uses it until it was looked at again.
    pub(super) fn rejected(&mut self, error: ApiError) {
        self.is_probe = false;
        let recheck_at = Instant::now().checked_add(self.shared.recheck);
        self.shared.with(|health| {
            // A call that left before the key was found well again says nothing of it now.
            if health.lease.id() == self.id {
                health.lease.end();
                health.rejected = Some(Rejection { error, recheck_at, probe_in_flight: false });
            }
        });
    }

    /// Why a call that turned back on the way was refused, if its key is still dead.
    pub(super) fn refusal(&self) -> Option<Refused> {
        self.shared
            .with(|health| health.rejected.as_ref().map(|rejected| self.shared.refusal(rejected, Instant::now())))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if self.is_probe {
            self.shared.with(|health| {
                if let Some(rejected) = &mut health.rejected {
                    rejected.probe_in_flight = false;
                }
            });
        }
    }
}

/// The server refused the key; the cause of a [`Refused`].
#[derive(Clone, Debug)]
pub struct KeyRejected {
    fingerprint: String,
    error: ApiError,
}

impl KeyRejected {
    /// Which key: see [`ApiKey::fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The answer that refused it.
    #[must_use]
    pub fn error(&self) -> &ApiError {
        &self.error
    }
}

impl fmt::Display for KeyRejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server refused the key {}: {}", self.fingerprint, self.error)
    }
}

impl Error for KeyRejected {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
