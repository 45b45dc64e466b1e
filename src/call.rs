//! What the layers say to each other about one call: the request extension [`Call`] on the way down,
//! [`Again`] and [`Refused`] on the way up.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};
use tower::BoxError;

/// One call as its caller sees it, over all its attempts.
///
/// The first layer that needs it puts it into the request's extensions, by value; with a `BackoffRetry` in the
/// stack that is `BackoffRetry`.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) seq: u64,
    pub(crate) start: Instant,
    /// When this attempt was first sent, if it is not the first one.
    pub(crate) began: Option<Instant>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) attempt: u32,
    pub(crate) resends: u32,
    pub(crate) retried: bool,
    pub(crate) kept: bool,
    pub(crate) lease: Option<Lease>,
}

/// Order of arrival, one counter for the process: calls are compared across layers and clones.
static NEXT_SEQ: AtomicU64 = AtomicU64::new(0);

pub(crate) fn next_seq() -> u64 {
    NEXT_SEQ.fetch_add(1, Ordering::Relaxed)
}

impl Call {
    /// A call that arrives now, without a deadline.
    #[must_use]
    pub fn now() -> Self {
        Self {
            seq: next_seq(),
            start: Instant::now(),
            began: None,
            deadline: None,
            attempt: 1,
            resends: 0,
            retried: false,
            kept: false,
            lease: None,
        }
    }

    /// The same call, given up at `deadline`: no wait that would end after it is begun.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Place in the order of arrival; the same on every attempt.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// When the call arrived.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }

    /// When this attempt was first sent to the layers further in; sent again on an [`Again`] it is still the same attempt. Of the
    /// first one it is the [`start`](Self::start).
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began.unwrap_or(self.start)
    }

    /// When the call is to be given up, if ever.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The number of this attempt, from 1. What was sent again on an [`Again`] counts as the same attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often it was sent again on an [`Again`].
    #[must_use]
    pub fn resends(&self) -> u32 {
        self.resends
    }

    /// Whether a retry layer further out sees to sending this call again.
    #[must_use]
    pub fn is_retried(&self) -> bool {
        self.retried
    }

    /// Whether that layer has kept the request, so that it can go again.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// The key lent to this attempt.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }
}

/// A key lent to one attempt. Once it is dead, whoever waits with it turns back.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Term>);

#[derive(Debug)]
struct Term {
    id: u32,
    alive: AtomicBool,
    /// Counted by itself, for those who wait; every call holds only the whole.
    ended: Arc<Notify>,
}

impl Lease {
    /// A living lease of the key with this number. A meter tells the quotas of keys apart by their numbers, and a store that
    /// machines share does: let a key have the same number on each of them, such as a part of its hash.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self(Arc::new(Term { id, alive: AtomicBool::new(true), ended: Arc::new(Notify::new()) }))
    }

    /// The number of the key. Of one that a `KeyCheck` lends it is the fingerprint of the first key of its source, or of the
    /// name that the source was given, and stays the same when the key is rotated.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id
    }

    /// Whether the key is still worth a call.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.alive.load(Ordering::Acquire)
    }

    /// Ends the lease for all who hold it, and wakes those who wait in [`ended`](Self::ended).
    pub fn end(&self) {
        self.0.alive.store(false, Ordering::Release);
        self.0.ended.notify_waiters();
    }

    /// Completes when the lease is ended after this call: make it first, then ask [`is_alive`](Self::is_alive).
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub fn ended(&self) -> OwnedNotified {
        Arc::clone(&self.0.ended).notified_owned()
    }
}

/// The layer that spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gate {
    /// `RequestCheck`: the request itself.
    Request,
    /// `KeyCheck`: the key.
    Key,
    /// `QuotaMeter`: the quota.
    Quota,
    /// `Fallback`: the breaker.
    Breaker,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request check",
            Self::Key => "key check",
            Self::Quota => "quota meter",
            Self::Breaker => "breaker",
        })
    }
}

/// "Send it again now; I see to the waiting, or to another key; it is no attempt."
///
/// A response extension, or an error. Only a layer further out that keeps the request can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// Who says so.
    pub by: Gate,
    /// When the request would leave at the earliest. Who cannot wait that long ends the call now.
    pub not_before: Instant,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: to be sent again", self.by)
    }
}

impl Error for Again {}

/// A gate said no; nothing was sent. It is never retried.
#[derive(Debug)]
pub struct Refused {
    by: Gate,
    wait: Option<Duration>,
    cause: BoxError,
}

impl Refused {
    /// Refused by this gate, for this cause; with the time after which it would not be, where that is known.
    #[must_use]
    pub fn new(by: Gate, wait: Option<Duration>, cause: impl Into<BoxError>) -> Self {
        Self { by, wait, cause: cause.into() }
    }

    /// Who said no.
    #[must_use]
    pub fn by(&self) -> Gate {
        self.by
    }

    /// How long it would have taken, or when to ask again; `None` where nobody can know.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Why, as an error of its own.
    #[must_use]
    pub fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.cause
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by the {}: {}", self.by, self.cause)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}
