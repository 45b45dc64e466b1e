//! The APIs we know, each only where it differs.

use std::{sync::Arc, time::Duration};

use http::StatusCode;

use super::{Code, Failure, Phrase, Provider, StatusRule, Verdict};
use crate::ErrorKind::{
    Authentication, Conflict, ContentPolicy, ContextLength, Overloaded, Permission, QuotaExhausted, RateLimit,
    Unprocessable,
};

/// Writes out an API that is data alone.
macro_rules! api {
    ($(#[$doc:meta])* $name:ident = $text:literal, hosts $hosts:tt $(, $method:ident: $of:ty = $rules:tt)* $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl Provider for $name {
            fn name(&self) -> &str {
                $text
            }

            fn hosts(&self) -> &[&str] {
                &$hosts
            }

            $(fn $method(&self) -> &[$of] {
                const { &$rules }
            })*
        }
    };
}

/// OpenAI's words for spent credit where it gives no code. Google begins a per-minute limit in the same words,
/// so this is no rule for everybody.
const OPENAI_QUOTA: Phrase =
    Phrase::new("You exceeded your current quota, please check your plan and billing details", QuotaExhausted);

/// Any HTTP API: statuses, `Retry-After`, problem details (RFC 9457) with the IETF's problem types, `RateLimit`, and
/// the identifiers that APIs share. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Generic;

impl Provider for Generic {
    fn name(&self) -> &str {
        "generic"
    }

    fn phrases(&self) -> &[Phrase] {
        const { &[OPENAI_QUOTA.and("platform.openai.com")] }
    }
}

api! {
    /// OpenAI, and what copies its errors (vLLM, LM Studio and many more).
    OpenAi = "openai", hosts ["api.openai.com", "*.api.openai.com"],
    phrases: Phrase = [OPENAI_QUOTA],
}

api! {
    /// Azure OpenAI and Azure AI Foundry: OpenAI's shape with codes of its own.
    Azure = "azure", hosts ["*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"],
    phrases: Phrase = [OPENAI_QUOTA],
}

api! {
    /// Anthropic. Its 400 and 429 also mean spent credit, which only the message or `details.error_code` tells.
    Anthropic = "anthropic", hosts ["api.anthropic.com"],
    phrases: Phrase = [
        Phrase::new("Your credit balance is too low", QuotaExhausted),
        Phrase::new("You have reached your specified API usage limits", QuotaExhausted),
        Phrase::new("You have reached your specified workspace API usage limits", QuotaExhausted),
        Phrase::new("Your organization has crossed the monthly API usage threshold", QuotaExhausted),
        Phrase::new("Extra usage is required for long context requests", QuotaExhausted),
        Phrase::new("Output blocked by content filtering policy", ContentPolicy),
    ],
}

/// Google's Gemini and Vertex AI. A bad key is a 400; a limit by the day is a 429 whose `retryDelay` is of no use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gemini;

impl Provider for Gemini {
    fn name(&self) -> &str {
        "gemini"
    }

    fn hosts(&self) -> &[&str] {
        &["generativelanguage.googleapis.com", "aiplatform.googleapis.com", "*-aiplatform.googleapis.com"]
    }

    fn phrases(&self) -> &[Phrase] {
        const {
            &[
                Phrase::new("The input token count", ContextLength).and("exceeds the maximum number of tokens"),
                Phrase::new("User location is not supported", Permission),
            ]
        }
    }

    fn judge(&self, failure: &Failure<'_>) -> Option<Verdict> {
        // "Quota exceeded for metric: …, limit: 0": this model has no free quota, and never will.
        let message = failure.message().filter(|_| failure.status() == StatusCode::TOO_MANY_REQUESTS)?;
        let (_, limits) = message.split_once("Quota exceeded for metric: ")?;
        let mut limits = limits.split(", limit: ").skip(1);
        limits
            .any(|limit| limit.strip_prefix('0').is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())))
            .then(|| Verdict::new(QuotaExhausted))
    }
}

api! {
    /// Groq. 498 is its flex tier without capacity.
    Groq = "groq", hosts ["api.groq.com"],
    statuses: StatusRule = [StatusRule::new(498, Overloaded)],
}

api! {
    /// Mistral, which has its members at the top level.
    Mistral = "mistral", hosts ["api.mistral.ai", "codestral.mistral.ai"],
    phrases: Phrase = [
        Phrase::new("Service tier capacity exceeded", Overloaded),
        Phrase::new("Prompt contains ", ContextLength).and("too large for model with"),
    ],
}

api! {
    /// Cohere, which has no identifiers at all.
    Cohere = "cohere", hosts ["api.cohere.com", "api.cohere.ai"],
    phrases: Phrase = [
        Phrase::new("You are using a Trial key, which is limited to ", QuotaExhausted).and(" / month"),
        Phrase::new("too many tokens: ", ContextLength),
    ],
}

api! {
    /// DeepSeek: OpenAI's shape.
    DeepSeek = "deepseek", hosts ["api.deepseek.com"],
    phrases: Phrase = [Phrase::new("Content Exists Risk", ContentPolicy)],
}

api! {
    /// OpenRouter. Its codes are numbers; a 402 may pass, a 403 may be moderation, and a 200 may hold an error.
    OpenRouter = "openrouter", hosts ["openrouter.ai"],
}

api! {
    /// Together, whose 403 is a prompt too long.
    Together = "together", hosts ["api.together.xyz", "api.together.ai"],
    statuses: StatusRule = [StatusRule::new(403, ContextLength)],
}

api! {
    /// xAI, whose `code` is prose and whose `error` is a text.
    XAi = "xai", hosts ["api.x.ai", "*.api.x.ai"],
    phrases: Phrase = [
        Phrase::new("Your team ", QuotaExhausted)
            .and("has either used all available credits or reached its monthly spending limit"),
        Phrase::new("Content violates usage guidelines", ContentPolicy),
    ],
}

api! {
    /// AWS, Bedrock above all. The code is in a header; throttling comes as a 400 as well.
    Aws = "aws", hosts ["*.amazonaws.com"],
    phrases: Phrase = [Phrase::new("Input is too long for requested model", ContextLength)],
}

/// GitHub, whose limits are a 403 as well.
#[derive(Clone, Copy, Debug, Default)]
pub struct GitHub;

impl Provider for GitHub {
    fn name(&self) -> &str {
        "github"
    }

    fn hosts(&self) -> &[&str] {
        &["api.github.com", "uploads.github.com"]
    }

    fn judge(&self, failure: &Failure<'_>) -> Option<Verdict> {
        /// "Otherwise, wait for at least one minute before retrying", says its guide to rate limits.
        const OTHERWISE: Duration = Duration::from_secs(60);
        let said = || {
            let message = failure.message().unwrap_or_default();
            [
                "API rate limit exceeded",
                "You have exceeded a secondary rate limit",
                "You have triggered an abuse detection",
            ]
            .iter()
            .any(|start| message.starts_with(start))
        };
        let limited = match failure.status().as_u16() {
            429 => true,
            403 => {
                failure.header("x-ratelimit-remaining") == Some("0")
                    || failure.header("retry-after").is_some()
                    || said()
            }
            _ => false,
        };
        limited.then(|| Verdict::new(RateLimit).or_after(OTHERWISE))
    }
}

api! {
    /// Stripe. `stripe-should-retry` decides; 402 is a card that was declined.
    Stripe = "stripe", hosts ["api.stripe.com", "files.stripe.com"],
    codes: Code = [
        Code::new("lock_timeout", Conflict).always(),
        Code::new("api_key_expired", Authentication),
    ],
    statuses: StatusRule = [StatusRule::new(402, Unprocessable)],
}

/// All of them, for [`Providers::by_host`](super::Providers::by_host).
pub(super) fn all() -> [Arc<dyn Provider>; 14] {
    [
        Arc::new(OpenAi),
        Arc::new(Azure),
        Arc::new(Anthropic),
        Arc::new(Gemini),
        Arc::new(Groq),
        Arc::new(Mistral),
        Arc::new(Cohere),
        Arc::new(DeepSeek),
        Arc::new(OpenRouter),
        Arc::new(Together),
        Arc::new(XAi),
        Arc::new(Aws),
        Arc::new(GitHub),
        Arc::new(Stripe),
    ]
}

/// The provider of this [`name`](Provider::name), for settings: `openai`, `azure`, `anthropic`, `gemini` (also `google`),
/// `groq`, `mistral`, `cohere`, `deepseek`, `openrouter`, `together`, `xai`, `aws` (also `bedrock`), `github`, `stripe`, `generic`.
#[must_use]
pub fn by_name(name: &str) -> Option<Arc<dyn Provider>> {
    let name = match name {
        "google" => "gemini",
        "bedrock" => "aws",
        "generic" => return Some(Arc::new(Generic)),
        name => name,
    };
    all().into_iter().find(|provider| provider.name() == name)
}
