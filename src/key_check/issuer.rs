//! Whose key it looks like: a hint only, since servers that are compatible with OpenAI's take any text.

use std::{error::Error, fmt};

use super::{ApiKey, Origin};

/// What keys begin with that belong to one provider alone, the longest first. A bare `sk-` is many providers'.
const PREFIXES: [(&str, &str); 17] = [
    ("github_pat_", "GitHub"),
    ("sk-svcacct-", "OpenAI"),
    ("sk-admin-", "OpenAI"),
    ("sk_live_", "Stripe"),
    ("sk_test_", "Stripe"),
    ("sk-proj-", "OpenAI"),
    ("sk-None-", "OpenAI"),
    ("sk-ant-", "Anthropic"),
    ("sk-or-", "OpenRouter"),
    ("sess-", "OpenAI"),
    ("AIza", "Google"),
    ("xai-", "xAI"),
    ("gsk_", "Groq"),
    ("ghp_", "GitHub"),
    ("AKIA", "AWS"),
    ("ASIA", "AWS"),
    ("dapi", "Databricks"),
];

/// What OpenAI's keys have in the middle, those that begin with a bare `sk-`, too.
const OPENAI_INFIX: &str = "T3BlbkFJ";

/// Hosts, with those under them, and whose they are.
const HOSTS: [(&str, &str); 17] = [
    ("api.openai.com", "OpenAI"),
    ("openai.azure.com", "Azure OpenAI"),
    ("cognitiveservices.azure.com", "Azure OpenAI"),
    ("api.anthropic.com", "Anthropic"),
    ("openrouter.ai", "OpenRouter"),
    ("googleapis.com", "Google"),
    ("api.x.ai", "xAI"),
    ("api.groq.com", "Groq"),
    ("api.github.com", "GitHub"),
    ("api.stripe.com", "Stripe"),
    ("amazonaws.com", "AWS"),
    ("cloud.databricks.com", "Databricks"),
    ("gcp.databricks.com", "Databricks"),
    ("azuredatabricks.net", "Databricks"),
    ("api.deepseek.com", "DeepSeek"),
    ("api.mistral.ai", "Mistral"),
    ("api.cohere.com", "Cohere"),
];

/// Something about a key that is probably wrong, and may be right.
///
/// See [`KeyCheckLayer::warnings`](super::KeyCheckLayer::warnings) and
/// [`KeyCheckLayer::deny_warnings`](super::KeyCheckLayer::deny_warnings).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyWarning {
    /// It begins as another provider's keys do.
    OtherProvider {
        /// Which key: see [`ApiKey::fingerprint`].
        fingerprint: String,
        /// Whose key it looks like.
        looks_like: &'static str,
        /// Whose host it is for.
        host_of: &'static str,
    },
}

impl fmt::Display for KeyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherProvider { fingerprint, looks_like, host_of } => {
                write!(f, "the key {fingerprint} looks like one of {looks_like}, and is for a host of {host_of}")
            }
        }
    }
}

impl Error for KeyWarning {}

/// What is odd about this key for this origin.
pub(super) fn warning(key: &ApiKey, origin: &Origin) -> Option<KeyWarning> {
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| key.expose().starts_with(prefix)).map(|(_, issuer)| *issuer);
    let by_infix = || key.expose().contains(OPENAI_INFIX).then_some("OpenAI");
    let looks_like = by_prefix.or_else(by_infix)?;
    let is_under = |name: &str| {
        let rest = origin.host().strip_suffix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let host_of = HOSTS.iter().find(|(host, _)| is_under(host))?.1;
    (looks_like != host_of).then(|| KeyWarning::OtherProvider { fingerprint: key.fingerprint(), looks_like, host_of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_providers_key_is_odd() {
        for (key, url, expected) in [
            ("sk-ant-api03-abcdef", "https://api.openai.com", Some("Anthropic")),
            ("sk-or-v1-abcdef", "https://api.openai.com", Some("OpenRouter")),
            ("sk-proj-abcdef", "https://api.anthropic.com", Some("OpenAI")),
            ("gsk_abcdef", "https://eu.api.openai.com", Some("Groq")),
            ("AIzaabcdef", "https://generativelanguage.googleapis.com", None),
            ("sk-proj-abcdef", "https://api.openai.com", None),
            ("sk-abcdef", "https://api.anthropic.com", None),
            ("anything", "https://api.openai.com", None),
            ("sk-abcdefT3BlbkFJabcdef", "https://api.deepseek.com", Some("OpenAI")),
            ("sk-abcdefT3BlbkFJabcdef", "https://api.openai.com", None),
            ("sk-proj-abcdef", "https://mine.openai.azure.com", Some("OpenAI")),
            ("0123456789abcdef0123456789abcdef", "https://mine.openai.azure.com", None),
            ("dapi0123456789abcdef", "https://adb-1.2.azuredatabricks.net", None),
            ("sk-ant-abcdef", "https://dbc-1.cloud.databricks.com", Some("Anthropic")),
            ("ASIA0123456789ABCDEF", "https://bedrock-runtime.us-east-1.amazonaws.com", None),
            ("ASIA0123456789ABCDEF", "https://api.openai.com", Some("AWS")),
            ("sk-ant-api03-abcdef", "https://notapi.openai.com.example", None),
            ("sk-ant-api03-abcdef", "http://localhost:1234", None),
        ] {
            let warning = warning(&ApiKey::new(key).unwrap(), &Origin::parse(url).unwrap());
            let looks_like = warning.map(|KeyWarning::OtherProvider { looks_like, .. }| looks_like);
            assert_eq!(looks_like, expected, "{url}");
        }
    }
}
