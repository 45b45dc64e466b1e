//! What the JSON body of a request says that concerns its quota.

use std::borrow::Cow;

use memchr::memchr_iter;
use serde::Deserialize;

/// Longer bodies are not read. 8 MiB take about 3 ms.
const MOST_READ: usize = 8 << 20;

/// The model, and how much the answer may be.
#[derive(Debug, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default)]
    model: Option<Text<'a>>,
    #[serde(default)]
    max_tokens: Option<f64>,
    #[serde(default)]
    max_completion_tokens: Option<f64>,
    #[serde(default)]
    max_output_tokens: Option<f64>,
    #[serde(default)]
    n: Option<f64>,
    #[serde(default, rename = "generationConfig")]
    generation: Option<Generation>,
}

/// `Option<Cow>` by itself would always copy.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Gemini's.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generation {
    #[serde(default)]
    max_output_tokens: Option<f64>,
    #[serde(default)]
    candidate_count: Option<f64>,
}

impl<'a> Content<'a> {
    /// `None` for what is no JSON object, or one whose fields are not what their names say.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        (is_object && body.len() <= MOST_READ).then(|| serde_json::from_slice(body).ok()).flatten()
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_ref().map(|model| &*model.0)
    }

    /// The most that the answer may be, in tokens: that of one choice, by the number of choices. 0 where nothing is said.
    pub(super) fn most_output(&self) -> u32 {
        let gemini = self.generation.as_ref();
        let most = self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens);
        let most = most.or(gemini.and_then(|config| config.max_output_tokens)).unwrap_or(0.0);
        let choices = self.n.or(gemini.and_then(|config| config.candidate_count)).unwrap_or(1.0);
        // Saturates, and makes 0 of NaN and of what is below.
        (most * choices.max(1.0)) as u32
    }
}

/// The model that a path names: `/deployments/{model}/` as Azure has it, `/models/{model}:` as Gemini does.
pub(super) fn model_in_path(path: &str) -> Option<&str> {
    let mut geminis = None;
    for slash in memchr_iter(b'/', path.as_bytes()) {
        let Some(rest) = path.get(slash..) else { continue };
        if let Some(azures) = rest.strip_prefix("/deployments/") {
            return azures.split('/').next().filter(|model| !model.is_empty());
        }
        geminis = geminis.or_else(|| rest.strip_prefix("/models/"));
    }
    let (model, _) = geminis?.split_once(':')?;
    (!model.is_empty()).then_some(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_and_the_most_tokens_are_found() {
        for (body, model, most) in [
            (r#"{"model":"gpt-4o","max_tokens":10}"#, Some("gpt-4o"), 10),
            (r#"{"messages":[{"model":"no"}],"n":3,"max_completion_tokens":10,"model":"m"}"#, Some("m"), 30),
            (r#" {"model":"m\"q","max_output_tokens":7,"max_tokens":null} "#, Some("m\"q"), 7),
            (r#"{"generationConfig":{"maxOutputTokens":5,"candidateCount":2}}"#, None, 10),
            (r#"{"max_tokens":-5,"n":0}"#, None, 0),
            (r#"{"max_tokens":1e300,"n":9}"#, None, u32::MAX),
        ] {
            let content = Content::read(body.as_bytes()).expect(body);
            assert_eq!((content.model(), content.most_output()), (model, most), "{body}");
        }
        for body in ["", "   ", "[]", "{", "no", r#"{"model":5}"#] {
            assert!(Content::read(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn the_model_may_be_in_the_path() {
        for (path, model) in [
            ("/openai/deployments/my-gpt/chat/completions", Some("my-gpt")),
            ("/v1beta/models/gemini-2.5-pro:generateContent", Some("gemini-2.5-pro")),
            ("/v1/models/gpt-4o", None),
            ("/v1/models", None),
            ("/openai/deployments/", None),
            ("/v1/chat/completions", None),
        ] {
            assert_eq!(model_in_path(path), model, "{path}");
        }
    }
}
