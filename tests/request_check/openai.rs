//! What OpenAI's endpoints ask for.

use serde_json::{Value, json};
use tower_outbound::request_check::RequestCheckLayer;

use crate::{CHAT, EMBEDDINGS, RESPONSES, json as post, send};

fn told(uri: &str, body: &Value) -> Vec<String> {
    send(&RequestCheckLayer::new().openai(), post(uri, body.to_string())).unwrap_or_default()
}

fn hello(field: &str, value: Value) -> Value {
    let mut body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]});
    body[field] = value;
    body
}

#[test]
fn ranges_are_those_of_the_api() {
    for (field, right, wrong) in [
        (
            "temperature",
            vec![json!(0), json!(2), json!(0.7), json!(null)],
            vec![json!(-0.1), json!(2.1), json!("1"), json!(1e300)],
        ),
        ("top_p", vec![json!(0), json!(1.0)], vec![json!(1.1), json!(-1), json!([1])]),
        ("n", vec![json!(1), json!(128), json!(2.0)], vec![json!(0), json!(129), json!(1.5), json!(true)]),
        ("max_completion_tokens", vec![json!(1), json!(100_000), json!(null)], vec![json!(0), json!(-1), json!("100")]),
        ("presence_penalty", vec![json!(-2), json!(2)], vec![json!(-2.01), json!(3)]),
        ("frequency_penalty", vec![json!(-2), json!(2)], vec![json!(-2.01), json!(3)]),
        ("logprobs", vec![json!(true), json!(null)], vec![json!(1), json!("true")]),
        ("top_logprobs", vec![json!(0), json!(20)], vec![json!(21), json!(-1)]),
        ("stream", vec![json!(false)], vec![json!("yes"), json!({})]),
        (
            "stop",
            vec![json!("x"), json!(["a", "b", "c", "d"])],
            vec![json!([]), json!(["a", "b", "c", "d", "e"]), json!(5)],
        ),
        (
            "messages",
            vec![json!([{"role": "assistant", "content": null}])],
            vec![json!([]), json!("Hello"), json!(null)],
        ),
        ("model", vec![json!("gpt")], vec![json!(""), json!(null), json!(4)]),
        ("a field of next year", vec![json!(1), json!({"deep": [[[{}]]]})], vec![]),
    ] {
        for value in right {
            assert_eq!(told(CHAT, &hello(field, value.clone())), [""; 0], "{field}: {value}");
        }
        for value in wrong {
            let told = told(CHAT, &hello(field, value.clone()));
            assert_eq!(told.len(), 1, "{field}: {value}: {told:?}");
            assert!(told[0].starts_with(&format!("/{field}: found ")), "{told:?}");
        }
    }
}

#[test]
fn messages_are_looked_into() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "robot", "content": "x"},
        {"content": 5},
        "Hello",
        {"role": "user", "content": []},
        {"role": "user", "content": [{"text": 1}]},
    ]});
    assert_eq!(
        told(CHAT, &body),
        [
            r#"/messages/1/role: found "robot", allowed is one of "developer", "system", "user", "assistant", "tool", "function""#,
            "/messages/2/content: found 5, allowed is a string or an array of at least 1 or null",
            r#"/messages/2/role: found nothing, allowed is one of "developer", "system", "user", "assistant", "tool", "function""#,
            r#"/messages/3: found "Hello", allowed is an object"#,
            "/messages/4/content: found an array of 0, allowed is a string or an array of at least 1 or null",
            "/messages/5/content/0/text: found 1, allowed is a string",
            "/messages/5/content/0/type: found nothing, allowed is a string that is not empty",
        ]
    );
}

#[test]
fn what_a_message_must_have_hangs_on_its_role() {
    let body = json!({"model": "m", "messages": [
        {"role": "user"},
        {"content": "Hi", "role": "system"},
        {"name": "me", "role": "developer"},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "content": "1"},
        {"role": "tool", "tool_call_id": "call_1"},
        {"role": "tool", "tool_call_id": "call_1", "content": "1"},
    ]});
    let content = |index| {
        format!("/messages/{index}/content: found nothing, allowed is a string or an array of at least 1 or null")
    };
    assert_eq!(
        told(CHAT, &body),
        [
            content(0),
            content(2),
            "/messages/4/tool_call_id: found nothing, allowed is a string or null".into(),
            content(5),
        ]
    );
    let escaped = r#"{"model":"m","messages":[{"role":"\u0075ser"}]}"#;
    assert_eq!(send(&RequestCheckLayer::new().openai(), post(CHAT, escaped)).unwrap(), [content(0)]);
}

#[test]
fn responses_need_an_input_or_what_stands_for_it() {
    assert_eq!(told(RESPONSES, &json!({"model": "m", "input": "Hi", "max_output_tokens": 16})), [""; 0]);
    assert_eq!(told(RESPONSES, &json!({"prompt": {"id": "pmpt_1"}})), [""; 0]);
    assert_eq!(told(RESPONSES, &json!({"model": "m", "previous_response_id": "resp_1"})), [""; 0]);
    assert_eq!(
        told(RESPONSES, &json!({"model": "m", "input": [{"type": "function_call_output", "output": "1"}]})),
        [""; 0]
    );
    let wrong = told(RESPONSES, &json!({"max_output_tokens": 15, "truncation": "middle"}));
    assert_eq!(
        wrong,
        [
            "/max_output_tokens: found 15, allowed is a whole number of at least 16 or null",
            r#"/truncation: found "middle", allowed is one of "auto", "disabled" or null"#,
            "/model: found nothing, allowed is a string that is not empty",
            "/input: found nothing, allowed is a string or an array or null",
        ]
    );
}

#[test]
fn embeddings_take_texts_and_tokens() {
    let long = json!([vec![1; 8192], vec![2; 3000]]);
    for input in [json!("Hi"), json!(["a", "b"]), json!([1, 2, 3]), json!([[1, 2], [3]]), json!(vec![1; 2048]), long] {
        assert_eq!(told(EMBEDDINGS, &json!({"model": "text-embedding-3-small", "input": input})), [""; 0]);
    }
    let many = [json!(vec!["a"; 2049]), json!(vec![1; 2049]), json!(vec![[1]; 2049])];
    let wrong = [json!(""), json!([]), json!(["a", ""]), json!([[]]), json!({}), json!([-1])];
    for input in many.into_iter().chain(wrong) {
        assert_eq!(told(EMBEDDINGS, &json!({"model": "text-embedding-3-small", "input": input})).len(), 1, "{input}");
    }
    let wrong = told(EMBEDDINGS, &json!({"model": "m", "input": "a", "encoding_format": "hex", "dimensions": 0}));
    assert_eq!(wrong.len(), 2);
}

#[test]
fn the_endpoint_is_told_by_its_path() {
    let layer = RequestCheckLayer::new().openai();
    let sent = |uri| send(&layer, post(uri, "{}"));
    for known in
        [CHAT, "http://localhost:11434/v1/chat/completions/", "https://x.example/openai/v1/responses?api-version=1"]
    {
        assert!(sent(known).is_some(), "{known}");
    }
    for other in ["https://api.openai.com/v1/chat/completions/abc", "https://api.openai.com/v1/responses/resp_1/cancel"]
    {
        assert_eq!(sent(other), None, "{other}");
    }
    // Azure: the deployment in the path is the model.
    let azure = "https://x.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-10-21";
    assert_eq!(send(&layer, post(azure, r#"{"messages":[{"role":"user","content":"Hi"}]}"#)), None);
    // A body that is not said to be JSON is not read by the server either.
    let request = http::Request::post(CHAT).body(Default::default()).unwrap();
    assert_eq!(send(&layer, request).unwrap(), ["header content-type: found nothing, allowed is application/json"]);
}

#[test]
fn a_prompt_is_never_shown_whole() {
    let secret = "the quick brown fox jumps over the lazy dog, again and again";
    let body =
        json!({"model": 1, "messages": [secret, {"role": secret, "content": {"text": secret}}], "stop": {"a": secret}});
    let told = told(CHAT, &body).join("\n");
    assert!(told.contains("the quick brown fox jumps over t…") && !told.contains("lazy"), "{told}");
}
