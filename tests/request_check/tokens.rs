//! Requests too large for the model, or for the whole limit.

use serde_json::{Value, json};
use tower_outbound::{ErrorKind, TokenCost, request_check::RequestCheckLayer};

use crate::{CHAT, EMBEDDINGS, common::with, json as post, kind, send};

fn chat(model: &str, content: Value) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": content}], "max_completion_tokens": 500})
        .to_string()
}

#[tokio::test]
async fn a_prompt_longer_than_the_context_is_refused() {
    let layer = RequestCheckLayer::new().openai().context("mine", 600);
    assert_eq!(send(&layer, post(CHAT, chat("mine", json!("x".repeat(605))))), None);
    // What is asked for the answer is a part of the context, too.
    assert_eq!(
        send(&layer, post(CHAT, chat("mine", json!("x".repeat(606))))).unwrap(),
        ["/messages: found at least 101 tokens, and 500 for the answer, allowed is 600 at most, the context of mine"]
    );
    let long = post(CHAT, chat("mine", json!("x".repeat(3606))));
    assert_eq!(
        send(&layer, long.clone()).unwrap(),
        ["/messages: found at least 601 tokens, allowed is 600 at most, the context of mine"]
    );
    assert_eq!(kind(&layer, long).await, Some(ErrorKind::ContextLength));
    // Other models may have more room.
    assert_eq!(send(&layer, post(CHAT, chat("other", json!("x".repeat(100_000))))), None);
    assert!(send(&layer, post(CHAT, chat("gpt-4o-2024-08-06", json!("x".repeat(800_000))))).is_some());
    for (model, tokens) in [("gpt-4", 8_192), ("o1", 200_000), ("o4-mini-2025-04-16", 200_000), ("gpt-5", 400_000)] {
        let sent = |tokens: usize| send(&layer, post(CHAT, chat(model, json!("x".repeat(6 * tokens)))));
        assert_eq!((sent(tokens - 500), sent(tokens - 499).is_some()), (None, true), "{model}");
    }
}

#[test]
fn characters_count_and_not_bytes() {
    let layer = RequestCheckLayer::new().openai().context("mine", 600);
    // 3 bytes each in UTF-8, 6 as an escape.
    assert_eq!(send(&layer, post(CHAT, chat("mine", json!("中".repeat(600))))), None);
    let escaped = chat("mine", json!("x")).replace("\"x\"", &format!("\"{}\"", "\\u4e2d".repeat(600)));
    assert_eq!(send(&layer, post(CHAT, escaped)), None);
    // Two as it is written, or twelve: one character nevertheless.
    for (escape, written) in [("\n", "\\n"), ("\"", "\\\""), ("\\", "\\\\"), ("😀", "\\ud83d\\ude00")] {
        for (count, expected) in [(605, true), (606, false)] {
            let written = written.repeat(count);
            let body = chat("mine", json!("x")).replace("\"x\"", &format!("\"{written}\""));
            assert_eq!(send(&layer, post(CHAT, body)).is_none(), expected, "{escape:?}");
        }
    }
    // An image is no text.
    let image =
        json!([{"type": "image_url", "image_url": {"url": "x".repeat(10_000)}}, {"type": "text", "text": "Hi"}]);
    assert_eq!(send(&layer, post(CHAT, chat("mine", image))), None);
    let parts = json!(vec![json!({"type": "text", "text": "x".repeat(400)}); 2]);
    // 133 tokens, and 500.
    assert!(send(&layer, post(CHAT, chat("mine", parts))).is_some());
}

#[tokio::test]
async fn a_request_larger_than_the_whole_limit_is_refused() {
    let layer = RequestCheckLayer::new().openai().tokens_per_minute(400);
    let small = || post(CHAT, chat("m", json!("Hi")));
    let told = send(&layer, small()).unwrap();
    assert_eq!(
        told,
        ["body: found a request for at least 500 tokens, allowed is 400 at most, the whole limit of a minute"]
    );
    assert_eq!(kind(&layer, small()).await, Some(ErrorKind::RequestTooLarge));
    // The caller knows better.
    assert_eq!(send(&layer, with(small(), TokenCost(400))), None);
    assert_eq!(send(&RequestCheckLayer::new().openai().tokens_per_minute(500), small()), None);
}

#[test]
fn of_embeddings_each_input_counts_by_itself() {
    let layer = RequestCheckLayer::new().openai();
    let sent = |input: Value| {
        send(&layer, post(EMBEDDINGS, json!({"model": "text-embedding-3-small", "input": input}).to_string()))
    };
    let text = "x".repeat(8192 * 6);
    assert_eq!(sent(json!([text, text, text])), None);
    assert_eq!(sent(json!([text, text.clone() + "123456"])).unwrap().len(), 1);
    assert_eq!(
        sent(json!(vec![text; 40])).unwrap(),
        ["/input: found at least 327680 tokens, allowed is 300000 at most in one request"]
    );
}
