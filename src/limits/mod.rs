//! What one answer says of a quota: how much there is, how much is left, when it is full again.
//!
//! Every spelling is read in one walk over the headers, without a setting: the names tell them apart.
//!
//! | spelling | seen at | what it limits | kind |
//! |---|---|---|---|
//! | `x-ratelimit-{limit,remaining,reset}-{requests,tokens,project-tokens,…}` | OpenAI, Azure, Groq, and what copies them | requests, tokens | bucket |
//! | `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}` | Anthropic | requests; tokens in all, in and out | bucket |
//! | `x-ratelimit-{limit,remaining,reset}` | GitHub (seconds since 1970), OpenRouter (milliseconds) | requests | window |
//! | `ratelimit-{limit,remaining,reset}`, the limit with policies or without | the IETF draft up to its 6th version | requests | window |
//! | `RateLimit`, `RateLimit-Policy` | the IETF draft from its 7th version on | each policy apart | window |

mod dimensions;
mod ietf;
mod spelling;
mod value;

use std::time::Duration;

use http::HeaderMap;

use crate::wall_clock::WallClock;
pub(crate) use dimensions::MORE;
pub use dimensions::{Dimension, Dimensions};
use spelling::{Field, Slot};

/// How a limit comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Evenly, as time passes; `reset` is when it is full.
    #[default]
    Bucket,
    /// All at once, at `reset`.
    Window,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Calls.
    Requests,
    /// Tokens of prompt and answer together.
    Tokens,
    /// Tokens of the prompt.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
}

/// One limit as one answer reports it. What the server did not say, or said senselessly, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// The whole of it: requests or tokens in a period.
    pub limit: Option<f64>,
    /// What was left when the server looked.
    pub remaining: Option<f64>,
    /// Until the whole is there again, had no more been asked for.
    pub reset: Option<Duration>,
    /// The period, where the answer names it.
    pub period: Option<Duration>,
    /// How it comes back, as far as the spelling tells; the meter looks for itself as well.
    pub kind: Kind,
}

/// All that one answer says of its quota.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Requests in a period.
    pub requests: Option<Limit>,
    /// Tokens in a period.
    pub tokens: Option<Limit>,
    /// What else is limited; at most 6.
    pub more: Dimensions,
}

impl Limits {
    /// Reads every spelling of the [module](self)'s table.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut limits = Self::default();
        limits.read(headers, &WallClock::default());
        limits
    }

    /// Takes in what these say, in place: it is too large to be moved for each answer.
    pub(crate) fn read(&mut self, headers: &HeaderMap, clock: &WallClock) {
        let mut has_ietf = false;
        // One walk: look-ups by name cost three times as much.
        for (name, value) in headers {
            let Some((slot, field)) = spelling::of(name.as_str()) else { continue };
            let limit = match slot {
                Slot::Requests => self.requests.get_or_insert_default(),
                Slot::Tokens => self.tokens.get_or_insert_default(),
                Slot::Window => {
                    let limit = self.requests.get_or_insert_default();
                    limit.kind = Kind::Window;
                    limit
                }
                Slot::Named(name, unit) => match self.more.named(name, unit) {
                    Some(limit) => limit,
                    None => continue,
                },
                Slot::Ietf => {
                    has_ietf = true;
                    continue;
                }
            };
            match field {
                Field::Limit if slot == Slot::Window => {
                    let (amount, period) = value::amount_of_window(value);
                    limit.limit = amount.filter(|limit| *limit > 0.0);
                    limit.period = period.or(limit.period);
                }
                Field::Remaining if slot == Slot::Window => limit.remaining = value::amount_of_window(value).0,
                Field::Limit => limit.limit = value::amount(value).filter(|limit| *limit > 0.0),
                Field::Remaining => limit.remaining = value::amount(value),
                Field::Reset => limit.reset = value::reset(value, headers, clock),
            }
        }
        if has_ietf {
            ietf::read(headers, self);
        }
    }

    /// Whether one of these may say something.
    #[cfg(feature = "quota-meter")]
    #[inline]
    pub(crate) fn are_in(headers: &HeaderMap) -> bool {
        headers.keys().any(|name| spelling::of(name.as_str()).is_some())
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_none() && self.tokens.is_none() && self.more.is_empty()
    }
}

#[cfg(test)]
mod tests;
