//! What the JSON body of a request says that concerns its quota.

use std::borrow::Cow;

use memchr::memchr_iter;

use super::members::{Members, number};

/// Longer bodies are not read.
const MOST_READ: usize = 8 << 20;

/// The model, and how much the answer may be.
#[derive(Debug, Default)]
pub(super) struct Content<'a> {
    model: Option<Cow<'a, str>>,
    max_tokens: Option<f64>,
    max_completion_tokens: Option<f64>,
    max_output_tokens: Option<f64>,
    n: Option<f64>,
    generation: Generation,
}

/// Gemini's.
#[derive(Debug, Default)]
struct Generation {
    max_output_tokens: Option<f64>,
    candidate_count: Option<f64>,
}

impl<'a> Content<'a> {
    /// `None` for what is no JSON object, or one whose fields are not what their names say. What it says of other things is
    /// not checked.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let body = Some(body).filter(|body| body.len() <= MOST_READ)?;
        let (mut members, mut content) = (Members::of(body)?, Self::default());
        for (name, value) in members.by_ref() {
            match name {
                b"model" => content.model = text(value)?,
                b"max_tokens" => content.max_tokens = number(value).ok()?,
                b"max_completion_tokens" => content.max_completion_tokens = number(value).ok()?,
                b"max_output_tokens" => content.max_output_tokens = number(value).ok()?,
                b"n" => content.n = number(value).ok()?,
                b"generationConfig" if value != b"null" => content.generation = Generation::read(value)?,
                _ => {}
            }
        }
        members.ends_all().then_some(content)
    }

    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The most that the answer may be, in tokens: that of one choice, by the number of choices. 0 where nothing is said.
    pub(super) fn most_output(&self) -> u32 {
        let gemini = &self.generation;
        let most = self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens);
        let most = most.or(gemini.max_output_tokens).unwrap_or(0.0);
        let choices = self.n.or(gemini.candidate_count).unwrap_or(1.0);
        // Saturates, and makes 0 of NaN and of what is below.
        (most * choices.max(1.0)) as u32
    }
}

impl Generation {
    fn read(json: &[u8]) -> Option<Self> {
        let mut config = Self::default();
        for (name, value) in Members::of(json)? {
            match name {
                b"maxOutputTokens" => config.max_output_tokens = number(value).ok()?,
                b"candidateCount" => config.candidate_count = number(value).ok()?,
                _ => {}
            }
        }
        Some(config)
    }
}

/// The text that a member holds: copied only where it has escapes. `Some(None)` for `null`.
fn text(value: &[u8]) -> Option<Option<Cow<'_, str>>> {
    match value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) {
        Some(plain) if !plain.contains(&b'\\') => str::from_utf8(plain).ok().map(|text| Some(text.into())),
        _ => serde_json::from_slice::<Option<String>>(value).ok().map(|text| text.map(Cow::from)),
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
            (r#"{"max_tokens":-5,"n":0,"generationConfig":null,"model":null}"#, None, 0),
            (r#"{"max_tokens":1e300,"n":9}"#, None, u32::MAX),
        ] {
            let content = Content::read(body.as_bytes()).expect(body);
            assert_eq!((content.model(), content.most_output()), (model, most), "{body}");
        }
        let no_objects = ["", "   ", "[]", "{", "no", r#"{"model":"m"}x"#, r#"{"model":"m","n":1"#];
        let other_types = [r#"{"model":5}"#, r#"{"n":"1"}"#, r#"{"generationConfig":[]}"#];
        for body in no_objects.into_iter().chain(other_types) {
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
