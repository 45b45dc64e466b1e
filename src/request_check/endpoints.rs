//! What OpenAI's endpoints ask of a body.
//!
//! Source: <https://github.com/openai/openai-openapi>, `openapi.yaml` of August 2026, the schemas named at each rule. Only
//! what holds for every model is here, and no list of words that grows with each release: a request that passes may still
//! be refused by the server, one that does not pass would have been.

use http::Method;

use super::{
    json::Kind,
    rule::{Field, Rule, Says, needs},
};

/// One endpoint and its body.
#[derive(Debug)]
pub(super) struct Endpoint {
    path: &'static str,
    /// Where the prompts are.
    pub(super) prompts: &'static str,
    pub(super) rule: Rule,
    /// Whether the model reads each prompt by itself.
    pub(super) is_many: bool,
    /// The most tokens of all prompts together, whatever the model.
    pub(super) most_tokens: Option<u64>,
    /// Whether what is asked for the answer counts against the model's context.
    pub(super) counts_answer: bool,
}

impl Endpoint {
    const fn new(path: &'static str, prompts: &'static str, fields: &'static [Field]) -> Self {
        Self { path, prompts, rule: Rule::object(fields), is_many: false, most_tokens: None, counts_answer: false }
    }

    const fn chat(fields: &'static [Field]) -> Self {
        Self { counts_answer: true, ..Self::new("/chat/completions", "/messages", fields) }
    }

    const fn embeddings(fields: &'static [Field]) -> Self {
        Self { is_many: true, most_tokens: Some(MOST_EMBEDDED), ..Self::new("/embeddings", "/input", fields) }
    }

    /// The endpoint that a request is for.
    pub(super) fn of(method: &Method, path: &str) -> Option<&'static Self> {
        if method != Method::POST {
            return None;
        }
        let mut path = path;
        while let Some(shorter) = path.strip_suffix('/') {
            path = shorter;
        }
        let endpoint = ENDPOINTS.iter().find(|endpoint| path.ends_with(endpoint.path))?;
        // Azure's path names the model, and its body need not.
        if path.contains("/openai/deployments/") {
            return DEPLOYMENTS.iter().find(|other| other.path == endpoint.path);
        }
        Some(endpoint)
    }
}

static ENDPOINTS: [Endpoint; 3] =
    [Endpoint::chat(&CHAT), Endpoint::new("/responses", "/input", &RESPONSES), Endpoint::embeddings(&EMBEDDINGS)];

static DEPLOYMENTS: [Endpoint; 2] =
    [Endpoint::chat(CHAT.split_at(1).1), Endpoint::embeddings(EMBEDDINGS.split_at(1).1)];

/// `CreateEmbeddingRequest`: "all embedding models enforce a maximum of 300,000 tokens summed across all inputs".
const MOST_EMBEDDED: u64 = 300_000;

const ANY_SIZE: usize = usize::MAX;
const MODEL: Rule = Rule::filled_text().says(Says::Model);
const TEMPERATURE: Rule = Rule::number(0.0, 2.0).or_null();
const TOP_P: Rule = Rule::number(0.0, 1.0).or_null();
const PENALTY: Rule = Rule::number(-2.0, 2.0).or_null();
const TOP_LOGPROBS: Rule = Rule::whole(0.0, 20.0).or_null();
const FLAG: Rule = Rule::bool().or_null();
const TEXT: Rule = Rule::text().or_null();
const OBJECT: Rule = Rule::object(&[]).or_null();
const LIST: Rule = Rule::list(&super::rule::ANY, 0, ANY_SIZE).or_null();

/// `CreateChatCompletionRequest`. The model stands first: see `DEPLOYMENTS`.
static CHAT: [Field; 25] = [
    Field::must("model", MODEL),
    Field::must("messages", Rule::list(&MESSAGE, 1, ANY_SIZE)),
    Field::may("temperature", TEMPERATURE),
    Field::may("top_p", TOP_P),
    Field::may("n", Rule::whole(1.0, 128.0).or_null()),
    Field::may("stream", FLAG),
    Field::may("max_completion_tokens", Rule::whole(1.0, f64::INFINITY).or_null().says(Says::Answer)),
    Field::may("max_tokens", Rule::whole(1.0, f64::INFINITY).or_null().says(Says::Answer)),
    Field::may("frequency_penalty", PENALTY),
    Field::may("presence_penalty", PENALTY),
    Field::may("logprobs", FLAG),
    Field::may("top_logprobs", TOP_LOGPROBS),
    Field::may("logit_bias", OBJECT),
    Field::may("stop", TEXT.or_list(&PLAIN_TEXT, 1, 4)),
    Field::may("seed", Rule::whole(f64::NEG_INFINITY, f64::INFINITY).or_null()),
    Field::may("tools", LIST),
    Field::may("tool_choice", Rule::of(&[Kind::Text, Kind::Object, Kind::Null])),
    Field::may("parallel_tool_calls", FLAG),
    Field::may("response_format", OBJECT),
    Field::may("reasoning_effort", TEXT),
    Field::may("stream_options", OBJECT),
    Field::may("store", FLAG),
    Field::may("metadata", OBJECT),
    Field::may("user", TEXT),
    Field::may("modalities", LIST),
];

static PLAIN_TEXT: Rule = Rule::text();

const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];

/// `ChatCompletionRequestMessage`.
static MESSAGE: Rule = Rule::object(&MESSAGE_FIELDS).by_first(&MESSAGE_NEEDS);

/// The role stands first: what else must be there hangs on it.
static MESSAGE_FIELDS: [Field; 5] = [
    Field::must("role", Rule::one_of(&ROLES)),
    Field::may("content", TEXT.or_list(&PART, 1, ANY_SIZE).says(Says::Prompt)),
    Field::may("name", TEXT),
    Field::may("tool_calls", LIST),
    Field::may("tool_call_id", TEXT),
];

/// An assistant's message may have tool calls and the like in place of content.
static MESSAGE_NEEDS: [u64; ROLES.len()] = needs(
    &ROLES,
    &MESSAGE_FIELDS,
    &[
        ("developer", &["content"]),
        ("system", &["content"]),
        ("user", &["content"]),
        ("tool", &["content", "tool_call_id"]),
    ],
);

/// Part of a message's content: text, or an image, a sound, a file, whose size tells nothing of its tokens.
static PART: Rule =
    Rule::object(&[Field::must("type", Rule::filled_text()), Field::may("text", Rule::text().says(Says::Prompt))]);

/// `CreateResponse`.
static RESPONSES: [Field; 20] = [
    Field::unless(&["prompt"], "model", MODEL),
    Field::unless(
        &["prompt", "previous_response_id", "conversation"],
        "input",
        Rule::text().or_list(&ITEM, 0, ANY_SIZE).or_null().says(Says::Prompt),
    ),
    Field::may("prompt", OBJECT),
    Field::may("conversation", Rule::of(&[Kind::Text, Kind::Object, Kind::Null])),
    Field::may("instructions", TEXT.or(Kind::Array).says(Says::Prompt)),
    Field::may("temperature", TEMPERATURE),
    Field::may("top_p", TOP_P),
    Field::may("max_output_tokens", Rule::whole(16.0, f64::INFINITY).or_null().says(Says::Answer)),
    Field::may("top_logprobs", TOP_LOGPROBS),
    Field::may("stream", FLAG),
    Field::may("store", FLAG),
    Field::may("background", FLAG),
    Field::may("parallel_tool_calls", FLAG),
    Field::may("previous_response_id", TEXT),
    Field::may("truncation", Rule::one_of(&["auto", "disabled"]).or_null()),
    Field::may("tools", LIST),
    Field::may("include", LIST),
    Field::may("metadata", OBJECT),
    Field::may("reasoning", OBJECT),
    Field::may("user", TEXT),
];

/// `InputItem`: a message, or one of many other things, which have a type and no role.
static ITEM: Rule = Rule::object(&[
    Field::may("role", Rule::one_of(&["user", "assistant", "system", "developer"])),
    Field::may("type", TEXT),
    Field::may("content", TEXT.or_list(&RESPONSE_PART, 0, ANY_SIZE).says(Says::Prompt)),
]);

static RESPONSE_PART: Rule = Rule::object(&[Field::may("text", TEXT.says(Says::Prompt))]).or(Kind::Text);

/// `CreateEmbeddingRequest`. The model stands first: see `DEPLOYMENTS`.
static EMBEDDINGS: [Field; 5] = [
    Field::must("model", MODEL),
    Field::must("input", Rule::filled_text().or_list(&INPUT, 1, 2048).says(Says::Prompt)),
    Field::may("dimensions", Rule::whole(1.0, f64::INFINITY).or_null()),
    Field::may("encoding_format", Rule::one_of(&["float", "base64"]).or_null()),
    Field::may("user", TEXT),
];

/// A text, a token of the only input, or an input in tokens. How many tokens that is, the model says: no item of the schema.
static INPUT: Rule = Rule::filled_text().or_whole(0.0, f64::INFINITY).or_list(&TOKEN, 1, ANY_SIZE).says(Says::Prompt);

static TOKEN: Rule = Rule::whole(0.0, f64::INFINITY).says(Says::Prompt);
