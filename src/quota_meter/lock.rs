//! The lock and the clock of a scope. Under loom both are its own: it tries every order, and time stands still.

use std::sync::PoisonError;
#[cfg(not(all(test, outbound_loom)))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, outbound_loom))]
pub(super) use ::loom::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(all(test, outbound_loom)))]
#[inline]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Every run must be the same.
#[cfg(all(test, outbound_loom))]
pub(super) fn now() -> Instant {
    static NOW: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *NOW.get_or_init(Instant::now)
}
