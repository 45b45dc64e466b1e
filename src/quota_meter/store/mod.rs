//! A quota that several machines share: [`QuotaStore`], which lends it out in batches.
//!
//! Without a store each process counts for itself, and learns from the answers what others take. With one, a scope sends
//! only what was lent to it, so that no machine spends what another was promised. A batch holds many calls: the store is
//! asked a few times a second at the most, never by a call on its way, and always ahead of need.
//!
//! What the server's answers say holds as well. While the store does not answer, they alone decide.

mod lease;
mod memory;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use tower::BoxError;

use super::{Level, ScopeName};

pub(super) use self::lease::{Asking, Leases};
pub use self::memory::MemoryStore;

/// What a [`QuotaStore`] answers in its own time.
pub type Leasing = Pin<Box<dyn Future<Output = Result<Leased, BoxError>> + Send>>;

/// Holds the levels of quotas for many meters, on one machine or on many; see [`MemoryStore`] for one.
///
/// A meter never asks twice at once for one scope.
pub trait QuotaStore: fmt::Debug + Send + Sync + 'static {
    /// Lends a part of a scope's quota.
    ///
    /// # Errors
    /// The store cannot be reached. It is asked again after a second, later twice as long, up to a minute; until it answers
    /// the meter goes by what the server says.
    fn lease(&self, ask: Ask) -> Leasing;

    /// So much of what was lent was not used in its time, or is not needed any more. This must not wait.
    fn give_back(&self, scope: &ScopeName, unused: Batch);
}

/// A part of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Batch {
    /// Calls.
    pub requests: f64,
    /// Tokens of prompts and answers together.
    pub tokens: f64,
}

/// What a meter asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ask {
    /// Whose quota: the same name on every machine. In it a key is a [fingerprint](ScopeName); one that is rotated while some
    /// machines run and others start needs a name of its own (`KeySource::named`), or has two.
    pub scope: ScopeName,
    /// What the next call takes: less than this is of no use.
    pub least: Batch,
    /// What would be used soon.
    pub wanted: Batch,
    /// What the answers have said of the requests' limit.
    pub requests: Option<Level>,
    /// What they have said of the tokens' limit.
    pub tokens: Option<Level>,
}

/// What a store lends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Leased {
    /// This much, for so long; what is not used by then comes back.
    Now(Batch, Duration),
    /// There is not so much now: worth asking again after this time.
    Later(Duration),
}
