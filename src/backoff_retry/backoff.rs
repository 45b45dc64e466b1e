//! How long to wait before the next attempt, where the server did not say.

use std::{fmt, sync::Arc, time::Duration};

/// Default for [`Backoff::cap`]: as the OpenAI SDKs have it.
const CAP: Duration = Duration::from_secs(8);

/// A growing wait, and its jitter.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::backoff_retry::{Backoff, Jitter};
///
/// let backoff = Backoff::exponential(Duration::from_millis(500)).jitter(Jitter::None);
/// let waits: Vec<_> = (1..=6).map(|retry| backoff.wait(retry, Duration::ZERO, 0.0).as_millis()).collect();
/// assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 8_000]);
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    curve: Curve,
    cap: Duration,
    jitter: Jitter,
}

#[derive(Clone)]
enum Curve {
    Exponential(Duration),
    Constant(Duration),
    Fibonacci(Duration),
    Function(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl fmt::Debug for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exponential(base) => write!(f, "Exponential({base:?} * 2^n)"),
            Self::Constant(wait) => write!(f, "Constant({wait:?})"),
            Self::Fibonacci(unit) => write!(f, "Fibonacci({unit:?})"),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}

/// How chance spreads the waits of many clients, so that they do not come back at once.
///
/// With `w` the capped wait of the curve and `u` a random number in 0..1. Source of all but the last:
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// `w` itself.
    None,
    /// `u * w`.
    Full,
    /// `w / 2 + u * w / 2`.
    Equal,
    /// Between the first wait and three times the last one: `first + u * (3 * last - first)`, capped.
    Decorrelated,
    /// `w * (1 - share * u)`; the OpenAI SDKs take off up to 0.25. A share outside 0..=1 is brought into it.
    Proportional(f64),
}

impl Backoff {
    /// `base`, then twice as long each time, up to a [`cap`](Self::cap) of 8 s, with full jitter.
    #[must_use]
    pub fn exponential(base: Duration) -> Self {
        Self::of(Curve::Exponential(base))
    }

    /// The same wait every time, with full jitter.
    #[must_use]
    pub fn constant(wait: Duration) -> Self {
        Self { cap: wait, ..Self::of(Curve::Constant(wait)) }
    }

    /// 1, 1, 2, 3, 5 … times `unit`, up to a [`cap`](Self::cap) of 8 s, with full jitter.
    #[must_use]
    pub fn fibonacci(unit: Duration) -> Self {
        Self::of(Curve::Fibonacci(unit))
    }

    /// What the function says for the first, second … retry, without cap and jitter.
    #[must_use]
    pub fn from_fn(wait: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self { curve: Curve::Function(Arc::new(wait)), cap: Duration::MAX, jitter: Jitter::None }
    }

    fn of(curve: Curve) -> Self {
        Self { curve, cap: CAP, jitter: Jitter::Full }
    }

    /// The longest wait, before jitter.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How chance spreads the waits.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The wait before the `retry`th retry, counted from 1, after a wait of `last`, for a random number in 0..1.
    #[must_use]
    pub fn wait(&self, retry: u32, last: Duration, random: f64) -> Duration {
        let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 1.0 };
        let full = self.curve.at(retry).min(self.cap);
        match self.jitter {
            Jitter::None => full,
            Jitter::Full => scale(full, random),
            Jitter::Equal => scale(full, 0.5 + random / 2.0),
            Jitter::Decorrelated => {
                let first = self.curve.at(1).min(self.cap);
                let span = last.max(first).saturating_mul(3).saturating_sub(first);
                first.saturating_add(scale(span, random)).min(self.cap)
            }
            Jitter::Proportional(share) => {
                let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
                scale(full, 1.0 - share * random)
            }
        }
    }
}

impl Curve {
    fn at(&self, retry: u32) -> Duration {
        let step = retry.saturating_sub(1);
        match self {
            Self::Exponential(base) => match 1u32.checked_shl(step) {
                Some(factor) => base.saturating_mul(factor),
                None => scale(*base, 2f64.powi(i32::try_from(step).unwrap_or(i32::MAX))),
            },
            Self::Constant(wait) => *wait,
            Self::Fibonacci(unit) => {
                // The 48th number is the first that a u32 cannot hold.
                let (number, _) = (0..step.min(47)).fold((1u32, 1u32), |(a, b), _| (b, a.saturating_add(b)));
                unit.saturating_mul(number)
            }
            Self::Function(wait) => wait(retry),
        }
    }
}

/// `duration * factor`, without overflow; what is no number is no wait.
pub(super) fn scale(duration: Duration, factor: f64) -> Duration {
    let seconds = duration.as_secs_f64() * factor;
    if seconds.is_nan() || seconds <= 0.0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
