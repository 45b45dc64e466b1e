//! How large a request is for a model, reckoned low: what is refused for its size would have been refused anyway.

use std::collections::HashMap;

use super::{
    endpoints::Endpoint,
    fault::Fault,
    json::Text,
    walk::{Amount, Size},
};
use crate::ErrorKind;

/// Characters to a token. English has about four, by OpenAI's rule of thumb, and code less; only runs of blanks and the like
/// have more. Half again as many leaves every doubt to the server.
/// Source: <https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them>.
const CHARS_PER_TOKEN: f64 = 6.0;

/// The context of some models of OpenAI's, in tokens. Source: <https://platform.openai.com/docs/models>.
const OPENAI_CONTEXTS: [(&str, u64); 21] = [
    ("gpt-3.5-turbo", 16_385),
    ("gpt-4", 8_192),
    ("gpt-4-32k", 32_768),
    ("gpt-4-turbo", 128_000),
    ("gpt-4o", 128_000),
    ("gpt-4o-mini", 128_000),
    ("gpt-4.1", 1_047_576),
    ("gpt-4.1-mini", 1_047_576),
    ("gpt-4.1-nano", 1_047_576),
    ("gpt-5", 400_000),
    ("gpt-5-mini", 400_000),
    ("gpt-5-nano", 400_000),
    ("o1", 200_000),
    ("o1-mini", 128_000),
    ("o1-preview", 128_000),
    ("o3", 200_000),
    ("o3-mini", 200_000),
    ("o4-mini", 200_000),
    ("text-embedding-3-small", 8_192),
    ("text-embedding-3-large", 8_192),
    ("text-embedding-ada-002", 8_192),
];

/// What a request's tokens are held against.
#[derive(Clone, Debug)]
pub(super) struct TokenLimits {
    pub(super) chars_per_token: f64,
    contexts: HashMap<String, u64>,
    /// The least of the contexts: most requests are below it, and nobody needs their models' names.
    least_context: u64,
    pub(super) per_minute: Option<u64>,
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self { chars_per_token: CHARS_PER_TOKEN, contexts: HashMap::new(), least_context: u64::MAX, per_minute: None }
    }
}

impl TokenLimits {
    /// The contexts of OpenAI's models, but for those that are known already.
    pub(super) fn add_openai(&mut self) {
        for (model, tokens) in OPENAI_CONTEXTS {
            self.contexts.entry(model.into()).or_insert(tokens);
        }
        self.note_least();
    }

    pub(super) fn set_context(&mut self, model: String, tokens: u64) {
        self.contexts.insert(model, tokens);
        self.note_least();
    }

    fn note_least(&mut self) {
        self.least_context = self.contexts.values().copied().min().unwrap_or(u64::MAX);
    }

    /// The context of this model; a dated version (`gpt-4o-2024-08-06`) has that of its name.
    fn context(&self, model: &str) -> Option<u64> {
        let undated = || {
            let (date, name) = (model.get(model.len().checked_sub(11)?..)?, model.get(..model.len() - 11)?);
            let is_date = date.bytes().zip(b"-0000-00-00").all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                _ => byte == *shape,
            });
            self.contexts.get(name).filter(|_| is_date)
        };
        self.contexts.get(model).or_else(undated).copied()
    }

    /// What is too large. `cost`: what the caller says that the request takes.
    #[inline]
    pub(super) fn check(&self, endpoint: &Endpoint, size: &Size<'_>, cost: Option<u64>) -> Vec<Fault> {
        let tokens =
            |amount: Amount| (amount.text as f64 / self.chars_per_token.max(f64::MIN_POSITIVE)) as u64 + amount.tokens;
        let prompt = tokens(size.all);
        let at_once = if endpoint.is_many { tokens(size.largest) } else { prompt };
        let answer = if endpoint.counts_answer { size.answer } else { 0 };
        // "The maximum of max_tokens and the estimated number of tokens based on the character count of your request."
        // Source: <https://platform.openai.com/docs/guides/rate-limits>.
        let asked = cost.unwrap_or(prompt.max(size.answer));
        let mut faults = Vec::new();
        if at_once.saturating_add(answer) > self.least_context {
            faults.extend(self.over_context(endpoint, size.model, at_once, answer));
        }
        if let Some(most) = endpoint.most_tokens
            && prompt > most
        {
            let found = format!("at least {prompt} tokens");
            faults.push(
                Fault::at(endpoint.prompts, found, format!("{most} at most in one request"))
                    .with_kind(ErrorKind::RequestTooLarge),
            );
        }
        if let Some(limit) = self.per_minute
            && asked > limit
        {
            let found = format!("a request for at least {asked} tokens");
            faults.push(
                Fault::at("", found, format!("{limit} at most, the whole limit of a minute"))
                    .with_kind(ErrorKind::RequestTooLarge),
            );
        }
        faults
    }

    #[cold]
    fn over_context(&self, endpoint: &Endpoint, model: Option<Text<'_>>, at_once: u64, answer: u64) -> Option<Fault> {
        let model = model.map(Text::decoded)?;
        let context = self.context(&model).filter(|context| at_once.saturating_add(answer) > *context)?;
        let found = if at_once > context {
            format!("at least {at_once} tokens")
        } else {
            format!("at least {at_once} tokens, and {answer} for the answer")
        };
        let allowed = format!("{context} at most, the context of {model}");
        Some(Fault::at(endpoint.prompts, found, allowed).with_kind(ErrorKind::ContextLength))
    }
}
