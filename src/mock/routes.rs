//! What a request asks for, and what OpenAI answers to one that it does not understand.

use http::{HeaderMap, Method, header::AUTHORIZATION};
use serde_json::Value;

use super::{
    files::{self, Upload},
    refusal::Refusal,
    settings::Settings,
};

/// A request that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ask {
    Models,
    Upload(Upload),
    Chat(Generate),
    Responses(Generate),
    Embeddings { model: String, inputs: Vec<Input>, dimensions: usize, base64: bool },
}

/// A request for a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Generate {
    pub(crate) model: String,
    pub(crate) prompt_tokens: u64,
    pub(crate) max_tokens: u64,
    /// The last thing said, or the start of it: the answer repeats it.
    pub(crate) echo: String,
    pub(crate) choices: u64,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

/// One input of an embeddings request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Input {
    pub(crate) tokens: u64,
    pub(crate) seed: u64,
}

impl Ask {
    pub(crate) fn model(&self) -> &str {
        match self {
            Self::Models | Self::Upload(_) => "",
            Self::Chat(ask) | Self::Responses(ask) => &ask.model,
            Self::Embeddings { model, .. } => model,
        }
    }

    /// Tokens that the prompt has.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        match self {
            Self::Models | Self::Upload(_) => 0,
            Self::Chat(ask) | Self::Responses(ask) => ask.prompt_tokens,
            Self::Embeddings { inputs, .. } => inputs.iter().map(|input| input.tokens).sum(),
        }
    }

    /// Whether it costs no quota.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self, Self::Models | Self::Upload(_))
    }

    /// Tokens counted when the call is admitted.
    pub(crate) fn cost(&self) -> u64 {
        let completion = match self {
            Self::Chat(ask) | Self::Responses(ask) => ask.max_tokens.saturating_mul(ask.choices),
            Self::Models | Self::Upload(_) | Self::Embeddings { .. } => 0,
        };
        self.prompt_tokens().saturating_add(completion)
    }
}

/// The tokens that [`MockApi`](super::MockApi) counts for a request at admission: the characters of the prompt by four,
/// rounded up, and the most that the answer may have (`max_completion_tokens`, `max_tokens`, `max_output_tokens`, or
/// `default_completion` where none is given; times `n`). As OpenAI does, whatever the answer has in the end.
///
/// `None` for a request that would be refused before it is counted.
///
/// ```
/// use serde_json::json;
/// use tower_outbound::mock::token_cost;
///
/// let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "12345678" }], "max_tokens": 100 });
/// assert_eq!(token_cost("/v1/chat/completions", &body, 256), Some(102));
/// ```
#[must_use]
pub fn token_cost(path: &str, body: &Value, default_completion: u64) -> Option<u64> {
    read_body(path, body, default_completion).ok().map(|ask| ask.cost())
}

/// The key of a request, as its `Authorization` header has it.
pub(crate) fn key(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

/// Whether there is anything at this place.
pub(crate) fn check_place(method: &Method, path: &str) -> Result<(), Refusal> {
    let allowed = match path {
        "/v1/chat/completions" | "/v1/embeddings" | "/v1/files" | "/v1/responses" => Method::POST,
        "/v1/models" => Method::GET,
        _ => return Err(Refusal::no_such_place(method, path)),
    };
    if *method == allowed { Ok(()) } else { Err(Refusal::wrong_method(&allowed)) }
}

/// Reads a request whose place is known.
pub(crate) fn read(settings: &Settings, path: &str, body: &[u8]) -> Result<Ask, Refusal> {
    if path == "/v1/models" {
        return Ok(Ask::Models);
    }
    if path == "/v1/files" {
        return files::read(body).map(Ask::Upload);
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| Refusal::bad_json())?;
    let ask = read_body(path, &body, settings.default_completion)?;
    if !settings.models.is_empty() && !settings.models.iter().any(|model| model == ask.model()) {
        return Err(Refusal::unknown_model(ask.model()));
    }
    if ask.prompt_tokens() > settings.context_length {
        return Err(Refusal::context_length(settings.context_length, ask.prompt_tokens()));
    }
    Ok(ask)
}

fn read_body(path: &str, body: &Value, default_completion: u64) -> Result<Ask, Refusal> {
    if !body.is_object() {
        return Err(Refusal::bad_json());
    }
    let model = match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        None | Some(Value::Null | Value::String(_)) => return Err(Refusal::no_model()),
        Some(_) => return Err(Refusal::wrong_type("model", "a string")),
    };
    match path {
        "/v1/chat/completions" => {
            let messages = match body.get("messages") {
                Some(Value::Array(messages)) if !messages.is_empty() => messages,
                Some(Value::Array(_)) => return Err(Refusal::too_short("messages")),
                None | Some(Value::Null) => return Err(Refusal::missing("messages")),
                Some(_) => return Err(Refusal::wrong_type("messages", "an array of objects")),
            };
            if let Some(index) = messages.iter().position(|message| !message.is_object()) {
                return Err(Refusal::wrong_type(&format!("messages[{index}]"), "an object"));
            }
            let chars: u64 = messages.iter().map(chars_in).sum();
            generate(body, model, chars, messages.last(), default_completion).map(Ask::Chat)
        }
        "/v1/responses" => {
            let input = match body.get("input") {
                Some(input @ (Value::String(_) | Value::Array(_))) => input,
                None | Some(Value::Null) => return Err(Refusal::missing("input")),
                Some(_) => return Err(Refusal::wrong_type("input", "a string or an array")),
            };
            let instructions = body.get("instructions").map_or(0, chars_in);
            let last = input.as_array().map_or(Some(input), |items| items.last());
            generate(body, model, instructions.saturating_add(chars_in(input)), last, default_completion)
                .map(Ask::Responses)
        }
        "/v1/embeddings" => embeddings(body, model),
        _ => Err(Refusal::bad_json()),
    }
}

fn generate(
    body: &Value,
    model: String,
    prompt_chars: u64,
    last: Option<&Value>,
    default_completion: u64,
) -> Result<Generate, Refusal> {
    let mut max_tokens = None;
    for name in ["max_completion_tokens", "max_tokens", "max_output_tokens"] {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(value) => {
                let given = value.as_u64().ok_or_else(|| Refusal::wrong_type(name, "an integer"))?;
                if given == 0 {
                    return Err(Refusal::too_small(name, given));
                }
                max_tokens = max_tokens.or(Some(given));
            }
        }
    }
    if let Some(given) = body.get("temperature").and_then(Value::as_f64)
        && given > 2.0
    {
        return Err(Refusal::too_big("temperature", given));
    }
    let choices = body.get("n").and_then(Value::as_u64).unwrap_or(1);
    if !(1..=128).contains(&choices) {
        return Err(Refusal::too_small("n", choices));
    }
    let mut echo = String::new();
    if let Some(last) = last {
        texts(last, &mut |text| echo.extend(text.chars().take(200_usize.saturating_sub(echo.len()))));
    }
    Ok(Generate {
        model,
        prompt_tokens: prompt_chars.div_ceil(4),
        max_tokens: max_tokens.unwrap_or(default_completion),
        echo,
        choices,
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        include_usage: body.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false),
    })
}

fn embeddings(body: &Value, model: String) -> Result<Ask, Refusal> {
    let inputs = match body.get("input") {
        None | Some(Value::Null) => return Err(Refusal::missing("input")),
        Some(Value::Array(items)) if items.is_empty() => return Err(Refusal::too_short("input")),
        Some(Value::Array(items)) if items.len() > 2048 => return Err(Refusal::too_long("input", 2048)),
        // One input, as the numbers of its tokens.
        Some(input @ Value::Array(items)) if items.iter().all(Value::is_number) => vec![input_of(input)],
        Some(Value::Array(items)) => items.iter().map(input_of).collect(),
        Some(input @ Value::String(_)) => vec![input_of(input)],
        Some(_) => return Err(Refusal::wrong_type("input", "a string or an array")),
    };
    let dimensions = match body.get("dimensions") {
        None | Some(Value::Null) => 16,
        Some(value) => value.as_u64().ok_or_else(|| Refusal::wrong_type("dimensions", "an integer"))?,
    };
    if !(1..=4096).contains(&dimensions) {
        return Err(Refusal::too_small("dimensions", dimensions));
    }
    Ok(Ask::Embeddings {
        model,
        inputs,
        dimensions: usize::try_from(dimensions).unwrap_or(4096),
        base64: body.get("encoding_format").and_then(Value::as_str) == Some("base64"),
    })
}

fn input_of(input: &Value) -> Input {
    let tokens = match input {
        Value::Array(tokens) => tokens.len() as u64,
        other => chars_in(other).div_ceil(4),
    };
    // FNV-1a: the same input has the same embedding.
    let seed = input
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Input { tokens, seed }
}

/// The characters of the prompt in a message, an item or a string.
fn chars_in(value: &Value) -> u64 {
    let mut chars = 0_u64;
    texts(value, &mut |text| chars = chars.saturating_add(text.chars().count() as u64));
    chars
}

/// Every text of a message: its content, or the texts of its content's parts. serde_json bounds the depth.
fn texts(value: &Value, with: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => with(text),
        Value::Array(items) => {
            for item in items {
                texts(item, with);
            }
        }
        Value::Object(fields) => {
            for name in ["content", "text"] {
                if let Some(value) = fields.get(name) {
                    texts(value, with);
                }
            }
        }
        _ => {}
    }
}
