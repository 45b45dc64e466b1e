//! `usage` is read as it passes, and every byte passes as it came.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};
use tower_outbound::quota_meter::{ResponseBody, Used};

use super::usage::one;
use crate::common::{Text, named};

type Framed = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// The body in these frames, through a meter; what came out, and what it used.
async fn pass(frames: &[Bytes], kind: &'static str) -> (Vec<Bytes>, Used) {
    let layer = one();
    let sent = frames.to_vec();
    let mut service = layer.layer(service_fn(move |_: Request<Text>| {
        let frames: Vec<_> = sent.iter().cloned().map(|data| Ok(Frame::data(data))).collect();
        let body: Framed = StreamBody::new(stream::iter(frames));
        let answer = Response::builder().header("content-type", kind).body(body);
        async move { answer.map_err(tower::BoxError::from) }
    }));
    let response: Response<ResponseBody<Framed>> = service.call(named("a")).await.unwrap();
    let mut body = response.into_body();
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        seen.push(frame.unwrap().into_data().unwrap());
    }
    drop(body);
    (seen, layer.snapshot().used)
}

fn cut(text: &str, cuts: &[usize]) -> Vec<Bytes> {
    let text = Bytes::copy_from_slice(text.as_bytes());
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| text.slice(pair[0]..pair[1])).collect()
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        prop::sample::select(vec![
            "\"usage\":{\"prompt_tokens\":7}",
            "\\",
            "\"",
            "{[",
            "}]",
            "data: ",
            "\n\n",
            "é",
            ""
        ])
        .prop_map(serde_json::Value::from),
        "[ -~]{0,20}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(prop_oneof!["[a-z\"\\\\]{0,6}", Just("usage".to_owned())], inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// `usage` before or after all sorts of content.
fn any_answer(usage: String) -> impl Strategy<Value = String> {
    (any_json(), any_json(), any::<bool>()).prop_map(move |(before, after, is_pretty)| {
        let text = format!(r#"{{"a":{before},{usage},"z":{after}}}"#);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        if is_pretty { serde_json::to_string_pretty(&value).unwrap() } else { text }
    })
}

/// What was used, and two answers that say so.
fn any_used() -> impl Strategy<Value = ((u64, u64), String, String)> {
    (0_u64..1_000_000, 0_u64..1_000_000).prop_flat_map(|(input, output)| {
        let flat = format!(r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output},"d":{{"x":1}}}}"#);
        let deep = format!(r#""response":{{"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}"#);
        (Just((input, output)), any_answer(flat), any_answer(deep))
    })
}

fn events(texts: &[String], end: &str) -> String {
    texts.iter().map(|text| format!("event: some{end}data: {}{end}{end}", text.replace('\n', " "))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn usage_is_found_and_every_byte_passes(
        (used, json, wrapped) in any_used(),
        noise in prop::collection::vec(any_answer(r#""usage":null"#.into()), 0..4),
        is_crlf in any::<bool>(),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let end = if is_crlf { "\r\n" } else { "\n" };
        let stream = |last: &str| events(&[&noise[..], &[last.to_owned(), "[DONE]".to_owned()]].concat(), end);
        let cases = [
            (json.clone(), "application/json"),
            (stream(&json), "text/event-stream"),
            (stream(&wrapped), "text/event-stream; charset=utf-8"),
        ];
        for (text, kind) in cases {
            let frames = cut(&text, &cuts);
            let (seen, found) = runtime.block_on(pass(&frames, kind));
            prop_assert_eq!(&seen, &frames);
            prop_assert_eq!((found.input_tokens, found.output_tokens), used, "{}", text);
        }
    }
}

/// Each API's stream, with the last word of it.
#[tokio::test(start_paused = true)]
async fn streams_of_each_api() {
    for (stream, expected) in [
        (
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
            (9, 2),
        ),
        (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\n\n",
            (25, 15),
        ),
        (
            "event: response.created\ndata: {\"response\":{\"usage\":null}}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[],\"usage\":{\"input_tokens\":36,\"output_tokens\":87}}}\n\n",
            (36, 87),
        ),
        (
            "data: {\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":1}}\r\n\r\ndata: {\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":8}}",
            (4, 8),
        ),
        ("data: {\"usage\":\ndata: {\"prompt_tokens\":\ndata: 5}}\n\n", (5, 0)),
        (": data: {\"usage\":{\"prompt_tokens\":5}}\n\ndat: {\"usage\":{\"prompt_tokens\":5}}\n\n", (0, 0)),
    ] {
        for chunk in [1, 7, usize::MAX] {
            let frames: Vec<Bytes> = stream.as_bytes().chunks(chunk).map(Bytes::copy_from_slice).collect();
            let (_, used) = pass(&frames, "text/event-stream").await;
            assert_eq!((used.input_tokens, used.output_tokens), expected, "{stream}");
        }
    }
}
