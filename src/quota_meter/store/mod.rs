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

use super::{Also, Level, ScopeName};

pub(super) use self::lease::{Asking, Leases};
pub use self::memory::MemoryStore;

/// What a [`QuotaStore`] answers in its own time.
pub type Leasing = Pin<Box<dyn Future<Output = Result<Leased, BoxError>> + Send>>;

/// Holds the levels of quotas for many meters, on one machine or on many; see [`MemoryStore`] for one.
///
/// A meter never asks twice at once for one scope.
///
/// # Who does what
/// What a store has lent it counts as spent, for good, until it is [given back](Self::give_back): it keeps no list of what is
/// lent to whom. The meter gives back all that was not used: what is left when the time it was lent for is over, what calls
/// turned out not to take (an estimate of 1,000 tokens of which 100 were used), and what is left when it forgets the scope. It
/// gives back each part once. What calls took beyond their estimates it pays out of what it is lent next.
///
/// So a store takes nothing back of itself when a time is over: the meter uses it no more, but most of it will have been
/// used, and the rest comes by `give_back`. What a machine held that died is lost: a batch at the most, which the refill makes up
/// for. The time bounds how long a machine that is cut off keeps what others could use.
pub trait QuotaStore: fmt::Debug + Send + Sync + 'static {
    /// Lends a part of a scope's quota.
    ///
    /// # Errors
    /// The store cannot be reached. It is asked again after a second, later twice as long, up to a minute; until it answers
    /// the meter goes by what the server says.
    fn lease(&self, ask: Ask) -> Leasing;

    /// So much of what was lent was not used. This must not wait.
    ///
    /// It may come long after it was lent: let it raise the level up to the limit, and no further.
    fn give_back(&self, scope: &ScopeName, unused: Batch);
}

/// A part of a quota. Amounts may be fractions, as those of a bucket that refills.
///
/// ```
/// use tower_outbound::quota_meter::Batch;
///
/// let batch = Batch::new(20.0, 15_000.0);
/// assert_eq!((batch.requests, batch.tokens), (20.0, 15_000.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Batch {
    /// Calls.
    pub requests: f64,
    /// Tokens of prompts and answers together.
    pub tokens: f64,
}

impl Batch {
    /// So many calls, and tokens of prompts and answers together. What else may be counted one day is in it without limit.
    #[must_use]
    pub const fn new(requests: f64, tokens: f64) -> Self {
        Self { requests, tokens }
    }
}

/// What a meter asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ask {
    /// Whose quota: the same name on every machine. In it a key is a [fingerprint](ScopeName); one that is rotated while some
    /// machines run and others start needs a name of its own (`KeySource::named`), or has two.
    pub scope: ScopeName,
    /// What the next call takes beyond what is left here: less is kept, and the rest is asked for after a pause, which grows
    /// from 10 ms to 10 s.
    pub least: Batch,
    /// What would be used soon.
    pub wanted: Batch,
    /// What the answers have said of the requests' limit.
    pub requests: Option<Level>,
    /// What they have said of the tokens' limit.
    pub tokens: Option<Level>,
    /// Every other limit that this meter keeps, as in [`Snapshot::more`](super::Snapshot::more).
    pub more: Vec<Also>,
    /// How long ago the last answer came: of two meters that tell of different limits, the one that heard last is right. `None`
    /// if none has.
    pub heard: Option<Duration>,
}

/// What a store lends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Leased {
    /// This much, for so long, a millisecond at the least; what is not used by then is [given back](QuotaStore::give_back).
    Now(Batch, Duration),
    /// There is not so much now: worth asking again after this time. Calls that may not wait so long are refused.
    Later(Duration),
}
