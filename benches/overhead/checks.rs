//! The rows of RequestCheck and Fallback, and of what their work is measured by: `serde_json` passing over the same body.

use std::hint::black_box;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::de::IgnoredAny;
use serde_json::json;
use tower::ServiceBuilder;
use tower_outbound::{
    fallback::{Breaker, FallbackLayer},
    request_check::RequestCheckLayer,
};

use crate::{
    harness::{Bare, Body, Case, ok, request},
    ours::BARE,
};

/// Names of the rows of a body: skipped by `serde_json`, and checked.
const BODIES: [(&str, &str); 5] = [
    ("serde_json skips a chat of 225 bytes", "RequestCheck, a chat of 225 bytes"),
    ("serde_json skips a chat of 4 KB", "RequestCheck, a chat of 4 KB"),
    ("serde_json skips code with escapes, 4 KB", "RequestCheck, code with escapes, 4 KB"),
    ("serde_json skips Chinese, 4 KB", "RequestCheck, Chinese, 4 KB"),
    ("serde_json skips 1,000 tokens to embed", "RequestCheck, 1,000 tokens to embed"),
];

pub(crate) fn cases() -> Vec<Case> {
    let bare = || Bare::new(ok());
    let check = |layer: RequestCheckLayer| ServiceBuilder::new().layer(layer).service(bare());
    let fallback = || FallbackLayer::new().service("second", bare());
    let plain = |uri: &str, body: &str| {
        let mut request = request();
        *request.uri_mut() = uri.parse().expect("a URI");
        request.map(|_| Full::new(Bytes::from(body.to_owned())))
    };
    let mut unsaid = request();
    unsaid.headers_mut().remove("content-type");
    let mut cases = vec![
        Case::new("RequestCheck, no JSON", check(RequestCheckLayer::new()), unsaid).over(BARE),
        Case::new(
            "Fallback, nobody to ask",
            ServiceBuilder::new().layer(FallbackLayer::new()).service(bare()),
            request(),
        )
        .over(BARE),
        Case::new("Fallback", ServiceBuilder::new().layer(fallback()).service(bare()), request()).over(BARE),
        Case::new(
            "Fallback, with a breaker",
            ServiceBuilder::new().layer(fallback().breaker(Breaker::new())).service(bare()),
            request(),
        )
        .over(BARE),
    ];
    for ((skipped, checked), (uri, body)) in BODIES.into_iter().zip(bodies()) {
        let request: Request<Body> = plain(uri, &body);
        cases.push(skip(skipped, body));
        cases.push(Case::new(checked, check(RequestCheckLayer::new().openai()), request).over(BARE));
    }
    cases
}

/// The body passed over, with nothing kept.
fn skip(name: &'static str, body: String) -> Case {
    let run = move |calls| {
        for _ in 0..calls {
            let skipped: Result<IgnoredAny, _> = serde_json::from_slice(black_box(body.as_bytes()));
            assert!(black_box(skipped).is_ok());
        }
    };
    Case { name, over: None, future_bytes: 0, run: Box::new(run) }
}

fn bodies() -> [(&'static str, String); 5] {
    let chat = |text: &str| {
        let turn = |role: &str| json!({"role": role, "content": text});
        let messages: Vec<_> = ["system", "user", "assistant", "user"].map(turn).into();
        json!({"model": "gpt-4o-mini", "messages": messages, "temperature": 0.7, "max_completion_tokens": 500})
            .to_string()
    };
    const CHAT: &str = "https://api.openai.com/v1/chat/completions";
    let tokens: Vec<u32> = (0..1000).map(|number| number * 97 % 100_000).collect();
    [
        (CHAT, chat("Hello")),
        (CHAT, chat(&"The quick brown fox jumps over the lazy dog. ".repeat(22))),
        (CHAT, chat(&"    if (a[\"key\"] == '\\n') {\n        return \"b\";\n    }\n".repeat(16))),
        (CHAT, chat(&"敏捷的棕色狐狸跳过了懒狗。".repeat(26))),
        (
            "https://api.openai.com/v1/embeddings",
            json!({"model": "text-embedding-3-small", "input": tokens}).to_string(),
        ),
    ]
}
