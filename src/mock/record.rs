//! What a [`MockApi`](super::MockApi) remembers of its calls.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use http::{Method, StatusCode};

use super::{
    bucket::{Limit, Limits},
    faults::Fault,
};

/// A fingerprint of a key, to tell keys apart in records without keeping them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPrint(u64);

impl KeyPrint {
    /// The fingerprint of this key, the same in every run.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let hash = key
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(hash)
    }
}

impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPrint({:016x})", self.0)
    }
}

/// What became of a call at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Admitted. Whether it was then answered, [`CallRecord::fault`] says.
    Admitted,
    /// 429: over the limit of requests.
    OverRequests,
    /// 429: over the limit of tokens.
    OverTokens,
    /// 429: over the limit of which no header tells.
    OverHidden,
    /// 429: more tokens than the limit ever allows.
    NeverFits,
    /// 429: the money is spent.
    QuotaExhausted,
    /// Not understood, not found, or without a sound key.
    Refused,
    /// Answered without being counted: the list of models, an upload.
    Unmetered,
}

/// One call, as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallRecord {
    /// The number of the call in the order in which they were begun, from 0. Its chance hangs on it.
    pub number: u64,
    /// When it reached the gate, counted from when the first call was begun.
    pub at: Duration,
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// The fingerprint of its key, if it had one.
    pub key: Option<KeyPrint>,
    /// What became of it.
    pub outcome: Outcome,
    /// What went wrong after it was admitted.
    pub fault: Option<Fault>,
    /// The status it was answered with; `None` where the connection was dropped instead.
    pub status: Option<StatusCode>,
    /// The tokens it was counted for.
    pub tokens: u64,
    /// The value of the tag header; see [`MockApiBuilder::tag_header`](super::MockApiBuilder::tag_header).
    pub tag: Option<String>,
    /// The value of `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The value of `x-stainless-retry-count`, with which OpenAI's SDKs count their retries.
    pub retry_count: Option<String>,
}

/// All calls, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Calls begun.
    pub calls: u64,
    /// Calls that were admitted, those on which a fault then fell included.
    pub admitted: u64,
    /// 429s that pass: over the requests, the tokens or the hidden limit.
    pub rejected: u64,
    /// Of those: over the requests.
    pub over_requests: u64,
    /// Of those: over the tokens.
    pub over_tokens: u64,
    /// Of those: over the hidden limit.
    pub over_hidden: u64,
    /// 429s because one call is more than the limit ever allows.
    pub never_fits: u64,
    /// 429s because the money is spent.
    pub quota_exhausted: u64,
    /// 4xx other than 429.
    pub refused: u64,
    /// Answers by status. What was dropped before the head is not among them.
    pub by_status: BTreeMap<u16, u64>,
    /// Connections dropped before the head.
    pub dropped: u64,
    /// Bodies broken off: cut or truncated.
    pub broken: u64,
    /// Tokens of the admitted calls.
    pub tokens: u64,
    /// The time that the admitted calls took together, as chance had it: network both ways and service.
    pub latency: Duration,
    /// When the first call was admitted, counted from when the first call was begun.
    pub first_admission: Option<Duration>,
    /// When the last one was.
    pub last_admission: Option<Duration>,
    /// Calls under way at this moment.
    pub in_flight: u64,
    /// The most that were under way at once.
    pub max_in_flight: u64,
}

impl Counters {
    /// The least time in which a client with so many workers could have made the calls that were admitted.
    ///
    /// With A calls admitted, K tokens among them, L the mean time of a call, and W workers, it is the longest of
    ///
    /// - `(A - R) / r + L`, for R requests of which r refill a second: the bucket starts full, the rest waits for the refill,
    ///   and the last call still takes its time;
    /// - `(K - T) / t + L`, the same for tokens;
    /// - `(A - H) / h + L`, the same for the hidden limit;
    /// - `A * L / W`: what the workers can carry.
    ///
    /// Calls that were admitted and then failed are counted: they took their quota. Rejected ones are not, though they
    /// may have cost quota too: not being rejected is the client's to see to. It holds for limits that were the same
    /// throughout, and a server without faults that end a call early.
    #[must_use]
    pub fn physical_limit(&self, limits: &Limits, workers: usize) -> Duration {
        if self.admitted == 0 {
            return Duration::ZERO;
        }
        let total = self.latency.as_secs_f64();
        let mean = Duration::try_from_secs_f64(total / self.admitted as f64).unwrap_or(Duration::ZERO);
        let over = |limit: Option<Limit>, used: u64| {
            let limit = limit?;
            limit.time_for(used.saturating_sub(limit.amount()))
        };
        let waits = [
            over(limits.get_requests(), self.admitted),
            over(limits.get_tokens(), self.tokens),
            over(limits.get_hidden(), self.admitted),
        ];
        let quota = waits.into_iter().flatten().max().unwrap_or_default().saturating_add(mean);
        let carried = Duration::try_from_secs_f64(total / workers.max(1) as f64).unwrap_or(Duration::ZERO);
        quota.max(carried)
    }

    pub(crate) fn count(&mut self, record: &CallRecord) {
        match record.outcome {
            Outcome::Admitted => {
                self.admitted += 1;
                self.tokens = self.tokens.saturating_add(record.tokens);
                self.first_admission.get_or_insert(record.at);
                self.last_admission = Some(record.at);
                match record.fault {
                    Some(Fault::Dropped) => self.dropped += 1,
                    Some(Fault::Cut | Fault::Truncated) => self.broken += 1,
                    _ => {}
                }
            }
            Outcome::OverRequests => self.over_requests += 1,
            Outcome::OverTokens => self.over_tokens += 1,
            Outcome::OverHidden => self.over_hidden += 1,
            Outcome::NeverFits => self.never_fits += 1,
            Outcome::QuotaExhausted => self.quota_exhausted += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Unmetered => {}
        }
        self.rejected = self.over_requests + self.over_tokens + self.over_hidden;
        if let Some(status) = record.status {
            *self.by_status.entry(status.as_u16()).or_default() += 1;
        }
    }
}

/// The newest calls, as many as the cap allows.
#[derive(Debug)]
pub(crate) struct Records {
    cap: usize,
    kept: VecDeque<CallRecord>,
}

impl Records {
    pub(crate) fn new(cap: usize) -> Self {
        Self { cap, kept: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, record: CallRecord) {
        if self.cap == 0 {
            return;
        }
        if self.kept.len() == self.cap {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    pub(crate) fn to_vec(&self) -> Vec<CallRecord> {
        self.kept.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_physical_limit_is_the_longest_of_its_parts() {
        let counters =
            Counters { admitted: 1_000, tokens: 100_000, latency: Duration::from_secs(1_000), ..Counters::default() };
        let limit = |limits: Limits, workers| counters.physical_limit(&limits, workers).as_secs_f64();
        assert_eq!(limit(Limits::none(), 64), 1_000.0 / 64.0);
        assert_eq!(limit(Limits::per_minute(500, 1 << 40), 64), 61.0);
        assert_eq!(limit(Limits::per_minute(500, 20_000), 64), 241.0);
        assert_eq!(limit(Limits::per_minute(500, 1 << 40), 5), 200.0);
        assert_eq!(limit(Limits::none().hidden(Limit::per_second(10)), 512), 100.0);
        assert_eq!(Counters::default().physical_limit(&Limits::none(), 0), Duration::ZERO);
    }
}
