//! Counts the tokens of a request exactly, with the tokenizer of its model.

use std::collections::HashSet;

use serde_json::Value;
use tiktoken_rs::{CoreBPE, bpe_for_model};

/// Longer bodies are reckoned by their length: counting takes about a millisecond for each 10 KB.
const MOST_COUNTED: usize = 256 << 10;
/// What each message has beside its text, and what the answer begins with.
/// Source: <https://developers.openai.com/cookbook/examples/how_to_count_tokens_with_tiktoken>.
const OF_MESSAGE: usize = 3;
const OF_ANSWER: usize = 3;
const OF_NAME: usize = 1;

/// The tokens of the prompt; `None` where the model's tokenizer is not known, or the body is no JSON or too long.
pub(super) fn of_prompt(body: &[u8], model: &str) -> Option<u32> {
    if body.len() > MOST_COUNTED {
        return None;
    }
    let counter = Counter(bpe_for_model(model).ok()?);
    let body: Value = serde_json::from_slice(body).ok()?;
    let texts = ["prompt", "instructions"].iter().filter_map(|field| body.get(field));
    let mut sum = texts.map(|text| counter.text(text)).sum::<Option<usize>>()?;
    for field in ["messages", "input"] {
        sum += match body.get(field) {
            Some(Value::Array(items)) => items.iter().map(|item| counter.item(item)).sum::<Option<usize>>()?,
            Some(text) => counter.text(text)?,
            None => 0,
        };
    }
    if body.get("messages").is_some() {
        sum += OF_ANSWER;
    }
    if let Some(tools) = body.get("tools") {
        sum += counter.count(&tools.to_string())?;
    }
    u32::try_from(sum).ok()
}

struct Counter(&'static CoreBPE);

impl Counter {
    /// `None` for a text that the tokenizer gives up on.
    fn count(&self, text: &str) -> Option<usize> {
        self.0.count(text, &HashSet::new()).ok()
    }

    /// A text, or a list of texts and parts with a text.
    fn text(&self, value: &Value) -> Option<usize> {
        match value {
            Value::String(text) => self.count(text),
            Value::Array(parts) => parts.iter().map(|part| self.text(part)).sum(),
            Value::Object(part) => part.get("text").map_or(Some(0), |text| self.text(text)),
            // A list of tokens, as embeddings take it.
            Value::Number(_) => Some(1),
            Value::Null | Value::Bool(_) => Some(0),
        }
    }

    /// A message, or one of several texts.
    fn item(&self, item: &Value) -> Option<usize> {
        let Value::Object(message) = item else { return self.text(item) };
        let mut sum = OF_MESSAGE;
        for (field, value) in message {
            sum += match field.as_str() {
                "name" => OF_NAME + self.text(value)?,
                "role" | "content" => self.text(value)?,
                "tool_calls" => self.count(&value.to_string())?,
                _ => 0,
            };
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cookbook's example, and what the API counted for it.
    #[test]
    fn the_cookbooks_example_is_counted_as_the_api_does() {
        let body = r#"{"model":"gpt-4o","messages":[
            {"role":"system","content":"You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
            {"role":"system","name":"example_user","content":"New synergies will help drive top-line growth."},
            {"role":"system","name":"example_assistant","content":"Things working well together will increase revenue."},
            {"role":"system","name":"example_user","content":"Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
            {"role":"system","name":"example_assistant","content":"Let's talk later when we're less busy about how to do better."},
            {"role":"user","content":"This late pivot means we don't have time to boil the ocean for the client deliverable."}]}"#;
        assert_eq!(of_prompt(body.as_bytes(), "gpt-4o"), Some(124));
        assert_eq!(of_prompt(body.as_bytes(), "gpt-4-0613"), Some(129));
    }

    #[test]
    fn what_cannot_be_counted_is_none() {
        assert_eq!(of_prompt(b"{}", "no-such-model"), None);
        assert_eq!(of_prompt(b"no json", "gpt-4o"), None);
        assert_eq!(of_prompt(&vec![b' '; MOST_COUNTED + 1], "gpt-4o"), None);
        assert_eq!(of_prompt(br#"{"input":["a","a"]}"#, "text-embedding-3-small"), Some(2));
        let spaces = format!(r#"{{"input":"{}"}}"#, " ".repeat(200_000));
        let _ = of_prompt(spaces.as_bytes(), "gpt-4o");
    }
}
