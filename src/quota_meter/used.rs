//! What was used, and what it costs: [`Used`], [`Totals`], [`Price`], [`Threshold`].

use std::{
    collections::BTreeMap,
    ops::{Add, AddAssign},
};

use serde::{Deserialize, Serialize};

use super::{cost::Cost, usage::Cache};

/// What Anthropic takes for reading from its cache and for writing to it for 5 minutes, as a share of the input's price.
/// Source: <https://docs.claude.com/en/docs/build-with-claude/prompt-caching>.
const CACHE_READ: f64 = 0.1;
const CACHE_WRITE: f64 = 1.25;

/// What calls have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Used {
    /// Calls sent.
    pub requests: u64,
    /// Tokens of the prompts, as `usage` in the answers says; as estimated for an answer that was dropped before it
    /// said, or never came or did. What Anthropic read from its cache is not among them; it counts in the money.
    pub input_tokens: u64,
    /// Tokens of the answers, likewise.
    pub output_tokens: u64,
    /// What that costs, in the currency of the prices given; 0 without them.
    pub money: f64,
}

impl Used {
    /// Input and output.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl Add for Used {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // A sum that is absurd must not look like nothing spent.
        let more = if other.money.is_finite() { other.money } else { 0.0 };
        Self {
            requests: self.requests.saturating_add(other.requests),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            money: (self.money + more).min(f64::MAX),
        }
    }
}

impl AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What was used, by scope: today (UTC), and ever.
///
/// Save it, and [`restore`](super::MeterHandle::restore) it in the next process: so the budget of a day outlives a restart.
/// Scopes that differ by key alone are one here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Totals {
    /// Days since 1970-01-01, UTC.
    pub day: u64,
    /// What was used on that day, by the name of the scope.
    pub today: BTreeMap<String, Used>,
    /// What was ever used, by the name of the scope.
    pub ever: BTreeMap<String, Used>,
}

impl Totals {
    /// Today's, of all scopes.
    #[must_use]
    pub fn of_today(&self) -> Used {
        sum(&self.today)
    }

    /// All there ever was, of all scopes.
    #[must_use]
    pub fn of_ever(&self) -> Used {
        sum(&self.ever)
    }
}

fn sum(used: &BTreeMap<String, Used>) -> Used {
    used.values().fold(Used::default(), |sum, used| sum + *used)
}

/// What tokens cost, in a currency of one's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    input: f64,
    output: f64,
    cached: Option<f64>,
    cache_write: Option<f64>,
}

impl Price {
    /// For a million tokens of input, and of output.
    #[must_use]
    pub const fn per_million(input: f64, output: f64) -> Self {
        Self { input, output, cached: None, cache_write: None }
    }

    /// For a million tokens of input that came out of a cache, as the answers say (OpenAI's `cached_tokens`, Anthropic's
    /// `cache_read_input_tokens`, Gemini's `cachedContentTokenCount`). Default: the price of the input, so that
    /// a budget is held; for Anthropic, who counts them beside the input, a tenth of that.
    ///
    /// What is held for a call under way knows nothing of caches: it is reckoned at the price of the input.
    ///
    /// ```
    /// use tower_outbound::quota_meter::Price;
    ///
    /// let price = Price::per_million(2.0, 8.0).cached(0.5);
    /// ```
    #[must_use]
    pub const fn cached(mut self, input: f64) -> Self {
        self.cached = Some(input);
        self
    }

    /// For a million tokens of input that are written to a cache (Anthropic's `cache_creation_input_tokens`). Default: 1.25
    /// times the price of the input, as Anthropic has it for 5 minutes; what is kept for an hour costs twice the input there.
    #[must_use]
    pub const fn cache_write(mut self, input: f64) -> Self {
        self.cache_write = Some(input);
        self
    }

    pub(super) fn of(&self, input: u64, output: u64, cache: Cache) -> f64 {
        let Cache { within, beside, written } = cache;
        let within = within.min(input);
        let written = written.min(input - within);
        let plain = (input - within - written) as f64 * self.input;
        let read = within as f64 * self.cached.unwrap_or(self.input)
            + beside as f64 * self.cached.unwrap_or(self.input * CACHE_READ);
        let written = written as f64 * self.cache_write.unwrap_or(self.input * CACHE_WRITE);
        (plain + read + written + self.output * output as f64) / 1e6
    }

    /// What a call may cost, by what is reckoned for it.
    pub(super) fn reckon(&self, cost: Cost) -> f64 {
        let (input, output) = cost.split();
        (self.input * input + self.output * output) / 1e6
    }
}

/// What a [`Threshold`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Measure {
    /// Calls sent.
    Requests,
    /// Tokens, input and output.
    Tokens,
    /// Tokens of the prompts.
    InputTokens,
    /// Tokens of the answers.
    OutputTokens,
    /// Money, at the prices given.
    Money,
}

impl Measure {
    fn of(self, used: &Used) -> f64 {
        match self {
            Self::Requests => used.requests as f64,
            Self::Tokens => used.tokens() as f64,
            Self::InputTokens => used.input_tokens as f64,
            Self::OutputTokens => used.output_tokens as f64,
            Self::Money => used.money,
        }
    }
}

/// A part of a day's amount (UTC) that one wants to hear of: "80 % of a million tokens".
///
/// ```
/// use tower_outbound::quota_meter::{Measure, Threshold};
///
/// let threshold = Threshold::per_day(Measure::Tokens, 1_000_000.0).at(0.8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    measure: Measure,
    amount: f64,
    share: f64,
}

impl Threshold {
    /// The whole of a day's amount, over all scopes.
    #[must_use]
    pub const fn per_day(measure: Measure, amount: f64) -> Self {
        Self { measure, amount, share: 1.0 }
    }

    /// This share of it: 0.8 is 80 %.
    #[must_use]
    pub const fn at(self, share: f64) -> Self {
        Self { share, ..self }
    }

    /// What it looks at.
    #[must_use]
    pub const fn measure(&self) -> Measure {
        self.measure
    }

    /// Where it is.
    #[must_use]
    pub const fn level(&self) -> f64 {
        self.amount * self.share
    }

    pub(super) fn is_reached(&self, today: &Used) -> bool {
        self.measure.of(today) >= self.level()
    }
}

/// A [`Threshold`] that was reached.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reached {
    /// Which.
    pub threshold: Threshold,
    /// What has been used today when it was.
    pub today: Used,
}
