//! How a [`MockApi`] behaves.

use std::{ops::RangeInclusive, time::Duration};

use http::HeaderName;

use super::{MockApi, bucket::Limits, faults::Faults, headers::Spelling};

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) network: RangeInclusive<Duration>,
    pub(crate) service: RangeInclusive<Duration>,
    /// The keys that are accepted; any, where there are none.
    pub(crate) keys: Vec<String>,
    /// The models that exist; any, where there are none.
    pub(crate) models: Vec<String>,
    pub(crate) organization: String,
    pub(crate) default_completion: u64,
    pub(crate) context_length: u64,
    pub(crate) cost_error: f64,
    pub(crate) rate_headers: bool,
    pub(crate) spelling: Spelling,
    pub(crate) retry_after: bool,
    pub(crate) retry_after_ms: bool,
    pub(crate) rejected_count: bool,
    pub(crate) credit: Option<u64>,
    pub(crate) body_cap: usize,
    pub(crate) record_cap: usize,
    pub(crate) tag_header: HeaderName,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            limits: Limits::none(),
            faults: Faults::none(),
            network: Duration::ZERO..=Duration::ZERO,
            service: Duration::ZERO..=Duration::ZERO,
            keys: Vec::new(),
            models: Vec::new(),
            organization: "org-mock".into(),
            default_completion: 256,
            context_length: 128_000,
            cost_error: 0.0,
            rate_headers: true,
            spelling: Spelling::default(),
            retry_after: true,
            retry_after_ms: false,
            rejected_count: true,
            credit: None,
            body_cap: 10 << 20,
            record_cap: 100_000,
            tag_header: HeaderName::from_static("x-request-tag"),
        }
    }
}

/// Sets up a [`MockApi`]; made by [`MockApi::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct MockApiBuilder {
    settings: Settings,
}

impl MockApiBuilder {
    /// What all chance comes from: latencies, faults, sizes of answers. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// The limits. Default: none. See also [`MockApi::set_limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// What goes wrong, and how often. Default: nothing. See also [`MockApi::set_faults`].
    pub fn faults(mut self, faults: Faults) -> Self {
        self.settings.faults = faults;
        self
    }

    /// How long a request travels, and how long its response does: each drawn from this range. Default: no time.
    pub fn network(mut self, each_way: RangeInclusive<Duration>) -> Self {
        self.settings.network = each_way;
        self
    }

    /// How long an admitted call is worked on. Default: no time. A 429 and other refusals take none.
    pub fn service_time(mut self, time: RangeInclusive<Duration>) -> Self {
        self.settings.service = time;
        self
    }

    /// 15 to 35 ms of network each way and 0.5 to 1.5 s of service: a small model's short answer.
    pub fn realistic_latency(self) -> Self {
        let ms = Duration::from_millis;
        self.network(ms(15)..=ms(35)).service_time(ms(500)..=ms(1500))
    }

    /// Accepts only these keys. Default: any, as long as there is one. See also [`MockApi::revoke_key`].
    pub fn keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.settings.keys = keys.into_iter().map(Into::into).collect();
        self
    }

    /// Knows only these models, and answers `model_not_found` for others. Default: any.
    pub fn models<M: Into<String>>(mut self, models: impl IntoIterator<Item = M>) -> Self {
        self.settings.models = models.into_iter().map(Into::into).collect();
        self
    }

    /// The organization that 429s name. Default `org-mock`.
    pub fn organization(mut self, organization: impl Into<String>) -> Self {
        self.settings.organization = organization.into();
        self
    }

    /// Tokens reserved for an answer whose request names no limit. Default 256.
    pub fn default_completion(mut self, tokens: u64) -> Self {
        self.settings.default_completion = tokens;
        self
    }

    /// The longest prompt in tokens; past it, 400 `context_length_exceeded`. Default 128,000.
    pub fn context_length(mut self, tokens: u64) -> Self {
        self.settings.context_length = tokens;
        self
    }

    /// How far the tokens counted may lie off [`token_cost`](super::token_cost), as a share: 0.1 is up to 10 % more or
    /// less, drawn for each call. Default 0: a client that counts alike is always right.
    pub fn cost_error(mut self, share: f64) -> Self {
        self.settings.cost_error = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self
    }

    /// Whether responses carry limits. Default yes. See also [`spelling`](Self::spelling).
    pub fn rate_headers(mut self, on: bool) -> Self {
        self.settings.rate_headers = on;
        self
    }

    /// How the limits are spelled. Default: OpenAI's way.
    pub fn spelling(mut self, spelling: Spelling) -> Self {
        self.settings.spelling = spelling;
        self
    }

    /// Whether 429s that pass carry `Retry-After`: the time until the call would fit, rounded up to whole seconds.
    /// Default yes.
    pub fn retry_after(mut self, on: bool) -> Self {
        self.settings.retry_after = on;
        self
    }

    /// Whether `retry-after-ms` stands beside `Retry-After`. Default no.
    pub fn retry_after_ms(mut self, on: bool) -> Self {
        self.settings.retry_after_ms = on;
        self
    }

    /// Whether a 429 counts as a request: it takes one from the bucket, never below 0. Default yes, as at OpenAI.
    pub fn rejected_count(mut self, on: bool) -> Self {
        self.settings.rejected_count = on;
        self
    }

    /// After so many admitted calls the money is spent: 429 `insufficient_quota`. Default: never. See also
    /// [`MockApi::set_credit`].
    pub fn credit(mut self, calls: u64) -> Self {
        self.settings.credit = Some(calls);
        self
    }

    /// The longest request body in bytes; a longer one is read, up to 64 MiB more, and answered with 413. Default 10 MiB.
    pub fn body_cap(mut self, bytes: usize) -> Self {
        self.settings.body_cap = bytes;
        self
    }

    /// How many calls are kept in [`MockApi::records`], the newest. Default 100,000. The counters count them all.
    pub fn record_cap(mut self, calls: usize) -> Self {
        self.settings.record_cap = calls;
        self
    }

    /// The request header kept as [`CallRecord::tag`](super::CallRecord::tag). Default `x-request-tag`.
    pub fn tag_header(mut self, name: HeaderName) -> Self {
        self.settings.tag_header = name;
        self
    }

    /// The API as set up. It touches neither clock nor runtime: its buckets are full until the first call.
    #[must_use]
    pub fn build(self) -> MockApi {
        MockApi::with(self.settings)
    }
}
