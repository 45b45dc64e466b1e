//! Answers to calls that are served.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    body::{MockBody, Piece},
    faults::{Chance, Fate},
    files::Upload,
    routes::{Ask, Generate, Input},
};

/// A served call's answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) content_type: &'static str,
    pub(crate) body: MockBody,
    /// How long until the head leaves. A stream's head leaves early, and the rest of the time lies between its pieces.
    pub(crate) wait: Duration,
}

impl Reply {
    fn whole(value: &Value, wait: Duration) -> Self {
        Self { content_type: "application/json", body: MockBody::whole(value.to_string()), wait }
    }

    /// Of the service time, a third passes before the head and the rest between the events.
    fn stream(events: Vec<Bytes>, service: Duration) -> Self {
        let wait = service / 3;
        let gaps = u32::try_from(events.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let gap = (service - wait) / gaps;
        let pieces = events.into_iter().enumerate().flat_map(|(n, event)| {
            let pause = if n == 0 { Duration::ZERO } else { gap };
            [Piece::Wait(pause), Piece::Data(event)]
        });
        Self { content_type: "text/event-stream; charset=utf-8", body: MockBody::in_pieces(pieces), wait }
    }
}

/// Answers what was asked. `known` are the models that there are, any if none is named; `created` is the time in seconds
/// that the answer bears.
pub(crate) fn answer(known: &[String], ask: &Ask, fate: &Fate, created: u64) -> Reply {
    match ask {
        Ask::Models => Reply::whole(&models(known, created), fate.service),
        Ask::Upload(upload) => Reply::whole(&file(upload, fate, created), fate.service),
        Ask::Chat(ask) if ask.stream => chat_stream(ask, fate, created),
        Ask::Chat(ask) => Reply::whole(&chat(ask, fate, created), fate.service),
        Ask::Responses(ask) if ask.stream => response_stream(ask, fate, created),
        Ask::Responses(ask) => Reply::whole(&response(ask, fate, created, Some(&text(ask))), fate.service),
        Ask::Embeddings { model, inputs, dimensions, base64 } => {
            Reply::whole(&embeddings(model, inputs, *dimensions, *base64), fate.service)
        }
    }
}

/// The text of an answer: it repeats the start of what was said last, so that it can be told whose answer it is.
fn text(ask: &Generate) -> String {
    format!("You said: {}", ask.echo)
}

/// How many tokens the answer is said to have: between 1 and the limit, as chance has it.
fn completion_tokens(ask: &Generate, fate: &Fate) -> u64 {
    let most = ask.max_tokens.min(1 << 40);
    // From 0 to `most`, both far below 2^53.
    let used = (most as f64 * fate.completion) as u64;
    (used + 1).min(most).saturating_mul(ask.choices)
}

fn chat_usage(ask: &Generate, fate: &Fate) -> Value {
    let completion = completion_tokens(ask, fate);
    json!({
        "prompt_tokens": ask.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": ask.prompt_tokens.saturating_add(completion),
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0, "audio_tokens": 0 },
    })
}

fn chat(ask: &Generate, fate: &Fate, created: u64) -> Value {
    let text = text(ask);
    let choices: Vec<Value> = (0..ask.choices)
        .map(|index| {
            json!({
                "index": index,
                "message": { "role": "assistant", "content": text, "refusal": null, "annotations": [] },
                "logprobs": null,
                "finish_reason": "stop",
            })
        })
        .collect();
    json!({
        "id": format!("chatcmpl-{:032x}", fate.id),
        "object": "chat.completion",
        "created": created,
        "model": ask.model,
        "choices": choices,
        "usage": chat_usage(ask, fate),
        "service_tier": "default",
        "system_fingerprint": "fp_mock",
    })
}

fn chat_stream(ask: &Generate, fate: &Fate, created: u64) -> Reply {
    let event = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{:032x}", fate.id),
            "object": "chat.completion.chunk",
            "created": created,
            "model": ask.model,
            "service_tier": "default",
            "system_fingerprint": "fp_mock",
            "choices": choices,
        });
        if ask.include_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |index: u64, delta: Value, finish: Option<&str>| {
        event(json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]), None)
    };
    let text = text(ask);
    let mut events = Vec::new();
    for index in 0..ask.choices {
        events.push(delta(index, json!({ "role": "assistant", "content": "", "refusal": null }), None));
        events.extend(text.split_inclusive(' ').map(|word| delta(index, json!({ "content": word }), None)));
        events.push(delta(index, json!({}), Some("stop")));
    }
    if ask.include_usage {
        events.push(event(json!([]), Some(chat_usage(ask, fate))));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Reply::stream(events, fate.service)
}

/// A response, finished with this text or begun without one.
fn response(ask: &Generate, fate: &Fate, created: u64, text: Option<&str>) -> Value {
    let output = text.map_or(json!([]), |text| {
        json!([{
            "type": "message",
            "id": format!("msg_{:032x}", fate.id),
            "status": "completed",
            "role": "assistant",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        }])
    });
    let completion = completion_tokens(ask, fate);
    let usage = text.map(|_| {
        json!({
            "input_tokens": ask.prompt_tokens,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": completion,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": ask.prompt_tokens.saturating_add(completion),
        })
    });
    json!({
        "id": format!("resp_{:032x}", fate.id),
        "object": "response",
        "created_at": created,
        "status": if text.is_some() { "completed" } else { "in_progress" },
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": ask.max_tokens,
        "model": ask.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "store": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "metadata": {},
    })
}

fn response_stream(ask: &Generate, fate: &Fate, created: u64) -> Reply {
    let text = text(ask);
    let item = format!("msg_{:032x}", fate.id);
    let mut number = 0_u64;
    let mut events = Vec::new();
    let mut event = |kind: &str, mut data: Value| {
        data["type"] = kind.into();
        data["sequence_number"] = number.into();
        number += 1;
        events.push(Bytes::from(format!("event: {kind}\ndata: {data}\n\n")));
    };
    event("response.created", json!({ "response": response(ask, fate, created, None) }));
    for word in text.split_inclusive(' ') {
        let delta = json!({ "item_id": item, "output_index": 0, "content_index": 0, "delta": word });
        event("response.output_text.delta", delta);
    }
    let done = json!({ "item_id": item, "output_index": 0, "content_index": 0, "text": text });
    event("response.output_text.done", done);
    event("response.completed", json!({ "response": response(ask, fate, created, Some(&text)) }));
    Reply::stream(events, fate.service)
}

fn models(known: &[String], created: u64) -> Value {
    let some = ["gpt-4o-mini".to_owned(), "text-embedding-3-small".to_owned()];
    let known: &[String] = if known.is_empty() { &some } else { known };
    let data: Vec<Value> =
        known.iter().map(|id| json!({ "id": id, "object": "model", "created": created, "owned_by": "mock" })).collect();
    json!({ "object": "list", "data": data })
}

fn file(upload: &Upload, fate: &Fate, created: u64) -> Value {
    json!({
        "id": format!("file-{:032x}", fate.id),
        "object": "file",
        "bytes": upload.bytes,
        "created_at": created,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": "processed",
    })
}

fn embeddings(model: &str, inputs: &[Input], dimensions: usize, as_base64: bool) -> Value {
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let mut chance = Chance::new(input.seed, dimensions as u64);
            let raw: Vec<f32> = (0..dimensions).map(|_| (chance.share() * 2.0 - 1.0) as f32).collect();
            let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            let unit = raw.iter().map(|x| x / length);
            let embedding = if as_base64 {
                Value::from(base64(&unit.flat_map(f32::to_le_bytes).collect::<Vec<u8>>()))
            } else {
                Value::from(unit.map(f64::from).collect::<Vec<f64>>())
            };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let tokens: u64 = inputs.iter().map(|input| input.tokens).sum();
    json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })
}

/// Base64 with padding: what the official SDKs ask for when they ask for embeddings.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) & 63;
            text.push(if place > chunk.len() { '=' } else { char::from(ALPHABET[digit as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_as_in_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
