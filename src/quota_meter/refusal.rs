//! Why a call was not sent.

use std::{error::Error, fmt, time::Duration};

use super::ScopeName;
use crate::{ApiError, Gate, Refused};

/// Why the meter refused a call; the cause of a [`Refused`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// Its turn would come too late.
    TooLong {
        /// When its turn would come.
        expected: Duration,
        /// The longest that it, or the meter's setting, allows: of a call that a 429 sent back, what is left of that.
        limit: Duration,
    },
    /// As many calls wait already as may.
    QueueFull {
        /// How many those are.
        waiting: usize,
        /// When its turn would come; `None` while no limit is known.
        expected: Option<Duration>,
    },
    /// It asks for more tokens than the whole quota holds, so that its turn never comes: by what its caller or a tokenizer says,
    /// or by the most that the answer may be. For a length alone, of which a picture may be the most, nobody is refused.
    TooLarge {
        /// What it asks for.
        tokens: u64,
        /// What the quota holds.
        limit: u64,
    },
    /// The day's money is spent, or what is left of it does not hold this call.
    OverBudget {
        /// What was spent today (UTC).
        spent: f64,
        /// What the calls under way are reckoned to cost.
        under_way: f64,
        /// What may be.
        budget: f64,
        /// Until the next day.
        wait: Duration,
    },
    /// It came with a [`Permit`](super::Permit) of another quota than its own, which has no room now. The permit has given
    /// back what it took.
    OtherPermit {
        /// Whose quota the permit was of.
        permit: Box<ScopeName>,
        /// Whose the call takes.
        call: Box<ScopeName>,
        /// When its turn would come; `None` where nobody knows.
        expected: Option<Duration>,
    },
    /// The quota is used up; see the server's own words.
    Spent {
        /// The answer that said so.
        error: ApiError,
        /// When one call is let through to look again; zero while one looks.
        wait: Duration,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { expected, limit } if limit.is_zero() => {
                write!(f, "would wait {expected:.1?}, and may not wait at all")
            }
            Self::TooLong { expected, limit } => {
                write!(f, "would wait {expected:.1?}, and {limit:.1?} are allowed")
            }
            Self::QueueFull { waiting, .. } => {
                write!(f, "{waiting} calls wait already, as many as allowed (`max_queue`)")
            }
            Self::TooLarge { tokens, limit } => {
                write!(f, "needs {tokens} tokens, more than the whole limit of {limit}: make the request smaller")
            }
            Self::OverBudget { spent, under_way, budget, .. } => {
                write!(
                    f,
                    "{spent:.2} of today's budget of {budget:.2} are spent, and calls under way take {under_way:.2}"
                )
            }
            Self::OtherPermit { permit, call, .. } => {
                write!(f, "its permit is for {permit}, and it is a call for {call}, which has no room now")
            }
            Self::Spent { error, .. } => write!(f, "the quota is used up: {error}"),
        }
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Spent { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let wait = match &refusal {
            Refusal::TooLong { expected, .. } => Some(*expected),
            // What is under way may cost less, and leave room sooner: nobody knows.
            Refusal::OverBudget { spent, under_way, budget, wait } => {
                (spent >= budget || *under_way <= 0.0).then_some(*wait)
            }
            // While one call looks, nobody knows: "at once" would make who believes it spin.
            Refusal::Spent { wait, .. } => Some(*wait).filter(|wait| !wait.is_zero()),
            Refusal::QueueFull { expected, .. } | Refusal::OtherPermit { expected, .. } => *expected,
            Refusal::TooLarge { .. } => None,
        };
        Self::new(Gate::Quota, wait, refusal)
    }
}
