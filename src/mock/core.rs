//! The server without its wires: time and requests in, decisions out.

use std::{collections::HashSet, time::Duration};

use http::{HeaderMap, StatusCode, request};
use tokio::time::Instant;

use super::{
    answer::Judged,
    bucket::{Bucket, Limit, Limits},
    faults::{Fate, Fault},
    headers,
    record::{CallRecord, Counters, KeyPrint, Outcome, Records},
    refusal::{Refusal, Subject},
    routes::{self, Ask},
    settings::Settings,
};

#[derive(Debug)]
pub(crate) struct Core {
    settings: Settings,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    hidden: Option<Bucket>,
    credit: Option<u64>,
    revoked: HashSet<String>,
    spent: HashSet<String>,
    pub(crate) counters: Counters,
    pub(crate) records: Records,
    start: Option<Instant>,
}

/// A call that has reached the gate.
pub(crate) struct Arrival<'a> {
    pub(crate) number: u64,
    pub(crate) fate: &'a Fate,
    pub(crate) parts: &'a request::Parts,
    /// `None` where it was longer than the cap.
    pub(crate) body: Option<&'a [u8]>,
}

/// What the gate said.
struct Verdict {
    outcome: Outcome,
    tokens: u64,
    refusal: Option<Refusal>,
    /// The limits as they were then.
    headers: HeaderMap,
}

impl Verdict {
    fn passed(outcome: Outcome) -> Self {
        Self { outcome, tokens: 0, refusal: None, headers: HeaderMap::new() }
    }

    fn refused(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..Self::passed(Outcome::Refused) }
    }

    fn no_quota() -> Self {
        Self { outcome: Outcome::QuotaExhausted, ..Self::refused(Refusal::no_quota()) }
    }
}

impl Core {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            requests: settings.limits.get_requests().map(Bucket::full),
            tokens: settings.limits.get_tokens().map(Bucket::full),
            hidden: settings.limits.get_hidden().map(Bucket::full),
            credit: settings.credit,
            revoked: HashSet::new(),
            spent: HashSet::new(),
            counters: Counters::default(),
            records: Records::new(settings.record_cap),
            start: None,
            settings,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn set_limits(&mut self, now: Instant, limits: Limits) {
        fn change(bucket: &mut Option<Bucket>, limit: Option<Limit>, now: Instant) {
            match (bucket.as_mut(), limit) {
                (Some(bucket), Some(limit)) => {
                    bucket.refill(now);
                    bucket.change(limit);
                }
                (_, limit) => *bucket = limit.map(Bucket::full),
            }
        }
        change(&mut self.requests, limits.get_requests(), now);
        change(&mut self.tokens, limits.get_tokens(), now);
        change(&mut self.hidden, limits.get_hidden(), now);
        self.settings.limits = limits;
    }

    pub(crate) fn set_faults(&mut self, faults: super::Faults) {
        self.settings.faults = faults;
    }

    pub(crate) fn set_credit(&mut self, credit: Option<u64>) {
        self.credit = credit;
    }

    pub(crate) fn set_revoked(&mut self, key: &str, on: bool) {
        set(&mut self.revoked, key, on);
    }

    pub(crate) fn set_spent(&mut self, key: &str, on: bool) {
        set(&mut self.spent, key, on);
    }

    /// A call begins: its number, and what chance has in store for it.
    pub(crate) fn begin(&mut self, now: Instant) -> (u64, Fate) {
        self.start.get_or_insert(now);
        let number = self.counters.calls;
        self.counters.calls += 1;
        self.counters.in_flight += 1;
        self.counters.max_in_flight = self.counters.max_in_flight.max(self.counters.in_flight);
        let Settings { seed, faults, network, service, .. } = &self.settings;
        (number, Fate::draw(*seed, number, faults, network, service))
    }

    /// A call has ended, or was given up.
    pub(crate) fn end(&mut self) {
        self.counters.in_flight = self.counters.in_flight.saturating_sub(1);
    }

    /// Admits the call or refuses it, and counts it.
    pub(crate) fn judge(&mut self, now: Instant, arrival: &Arrival<'_>) -> Judged {
        let fate = arrival.fate;
        let at = self.start.map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
        let (ask, verdict) = match self.read(arrival) {
            Ok(ask) if ask.is_free() => (Some(ask), Verdict::passed(Outcome::Unmetered)),
            Ok(ask) => {
                let verdict = self.admit(now, at, &ask, arrival);
                (Some(ask), verdict)
            }
            Err(refusal) => (None, Verdict::refused(refusal)),
        };
        let Verdict { outcome, tokens, refusal, headers } = verdict;
        let mut fault = None;
        if outcome == Outcome::Admitted {
            let latency = fate.up.saturating_add(fate.service).saturating_add(fate.down);
            self.counters.latency = self.counters.latency.saturating_add(latency);
            fault = fate.fault;
        }
        // A fault falls on what was admitted alone.
        let status = match (fault.map(Fault::refusal), &refusal) {
            _ if fault == Some(Fault::Dropped) => None,
            (Some(Some(broken)), _) => Some(broken.status),
            (_, Some(refusal)) => Some(refusal.status),
            _ => Some(StatusCode::OK),
        };
        let record = self.record(arrival, at, outcome, fault, status, tokens);
        self.counters.count(&record);
        self.records.push(record);
        let models = if matches!(ask, Some(Ask::Models)) { self.settings.models.clone() } else { Vec::new() };
        Judged { ask, refusal, fault, headers, at, models, needs_date: self.settings.spelling.needs_date() }
    }

    /// Place, key, body: what is looked at before a call costs anything.
    fn read(&self, arrival: &Arrival<'_>) -> Result<Ask, Refusal> {
        let (parts, settings) = (arrival.parts, &self.settings);
        let path = parts.uri.path();
        routes::check_place(&parts.method, path)?;
        let key = routes::key(&parts.headers).ok_or_else(Refusal::no_key)?;
        let known = settings.keys.is_empty() || settings.keys.iter().any(|known| known == key);
        if !known || self.revoked.contains(key) {
            return Err(Refusal::wrong_key(key));
        }
        let body = arrival.body.ok_or_else(|| Refusal::too_large_body(settings.body_cap))?;
        routes::read(settings, path, body)
    }

    fn admit(&mut self, now: Instant, at: Duration, ask: &Ask, arrival: &Arrival<'_>) -> Verdict {
        if routes::key(&arrival.parts.headers).is_some_and(|key| self.spent.contains(key)) || self.credit == Some(0) {
            return Verdict::no_quota();
        }
        let off = 1.0 + self.settings.cost_error * arrival.fate.cost_off;
        let cost = if off == 1.0 { ask.cost() } else { (ask.cost() as f64 * off).round() as u64 };
        for bucket in [&mut self.requests, &mut self.tokens, &mut self.hidden].into_iter().flatten() {
            bucket.refill(now);
        }
        let verdict = |core: &Self, outcome, refusal| Verdict {
            outcome,
            tokens: cost,
            refusal,
            headers: if core.settings.rate_headers {
                headers::limits(core.settings.spelling, core.requests.as_ref(), core.tokens.as_ref(), at)
            } else {
                HeaderMap::new()
            },
        };

        if let Some(bucket) = &self.tokens
            && cost > bucket.limit().amount()
        {
            let refusal = Refusal::never_fits(&self.subject(ask, "tokens", bucket.limit()), cost);
            self.count_rejected();
            return verdict(self, Outcome::NeverFits, Some(refusal));
        }
        let fits = |bucket: &Option<Bucket>, cost| bucket.as_ref().is_none_or(|bucket| bucket.fits(cost));
        let outcome = match (fits(&self.requests, 1), fits(&self.hidden, 1), fits(&self.tokens, cost)) {
            (true, true, true) => Outcome::Admitted,
            (false, _, _) => Outcome::OverRequests,
            (true, false, _) => Outcome::OverHidden,
            (true, true, false) => Outcome::OverTokens,
        };
        if outcome == Outcome::Admitted {
            let takes = [(&mut self.requests, 1), (&mut self.hidden, 1), (&mut self.tokens, cost)];
            for (bucket, cost) in takes {
                bucket.iter_mut().for_each(|bucket| bucket.take(cost));
            }
            self.credit = self.credit.map(|left| left.saturating_sub(1));
            return verdict(self, outcome, None);
        }

        self.count_rejected();
        // A call held up by several limits comes through when the last of them has room.
        let wait = [(&self.requests, 1), (&self.hidden, 1), (&self.tokens, cost)]
            .into_iter()
            .filter_map(|(bucket, cost)| bucket.as_ref().map(|bucket| bucket.time_until(cost)))
            .try_fold(Duration::ZERO, |longest, wait| wait.map(|wait| longest.max(wait)));
        let refusal = if arrival.fate.html_429 {
            Refusal::html_429()
        } else if let (Outcome::OverTokens, Some(bucket)) = (outcome, &self.tokens) {
            let used = bucket.limit().amount().saturating_sub(bucket.remaining());
            Refusal::rate(&self.subject(ask, "tokens", bucket.limit()), used, cost, wait)
        } else {
            // Of the hidden limit it says what a server says that has only one: the requests.
            let bucket = self.requests.as_ref().or(self.hidden.as_ref());
            let (limit, left) = bucket.map_or((Limit::per_minute(0), 0), |bucket| (bucket.limit(), bucket.remaining()));
            Refusal::rate(&self.subject(ask, "requests", limit), limit.amount().saturating_sub(left), 1, wait)
        };
        let mut verdict = verdict(self, outcome, Some(refusal));
        if let (Some(wait), true) = (wait, self.settings.retry_after) {
            headers::come_back(&mut verdict.headers, wait, self.settings.retry_after_ms);
        }
        verdict
    }

    /// A 429 is a request too, where the settings say so.
    fn count_rejected(&mut self) {
        if self.settings.rejected_count {
            for bucket in [&mut self.requests, &mut self.hidden].into_iter().flatten() {
                bucket.take(1);
            }
        }
    }

    fn subject<'a>(&'a self, ask: &'a Ask, what: &'a str, limit: Limit) -> Subject<'a> {
        Subject {
            model: ask.model(),
            organization: &self.settings.organization,
            what,
            unit: limit.unit(),
            limit: limit.amount(),
        }
    }

    fn record(
        &self,
        arrival: &Arrival<'_>,
        at: Duration,
        outcome: Outcome,
        fault: Option<Fault>,
        status: Option<StatusCode>,
        tokens: u64,
    ) -> CallRecord {
        let headers = &arrival.parts.headers;
        // Counted, and then thrown away: its texts need not be made.
        let is_kept = self.settings.record_cap > 0;
        let kept = |name: &str| {
            if !is_kept {
                return None;
            }
            let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
            Some(value.chars().take(256).collect())
        };
        CallRecord {
            number: arrival.number,
            at,
            method: arrival.parts.method.clone(),
            path: arrival.parts.uri.path().chars().take(if is_kept { 256 } else { 0 }).collect(),
            key: routes::key(headers).map(KeyPrint::of),
            outcome,
            fault,
            status,
            tokens,
            tag: kept(self.settings.tag_header.as_str()),
            idempotency_key: kept("idempotency-key"),
            retry_count: kept("x-stainless-retry-count"),
        }
    }
}

fn set(keys: &mut HashSet<String>, key: &str, on: bool) {
    if on {
        keys.insert(key.to_owned());
    } else {
        keys.remove(key);
    }
}
