//! Generated bodies: every valid one passes, and each single thing that is wrong is found at its place.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tower_outbound::request_check::RequestCheckLayer;

use crate::{CHAT, EMBEDDINGS, RESPONSES, json as post, send};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z \"\\\\\n]{0,80}"]
}

fn message() -> impl Strategy<Value = Value> {
    let role = prop::sample::select(&["developer", "system", "user", "assistant", "tool", "function"][..]);
    let part = text().prop_map(|text| json!({"type": "text", "text": text}));
    let content = prop_oneof![
        text().prop_map(Value::from),
        prop::collection::vec(part, 1..4).prop_map(Value::from),
        Just(Value::Null)
    ];
    (role, content).prop_map(|(role, content)| match role {
        "tool" => json!({"role": role, "content": content, "tool_call_id": "call_1"}),
        _ => json!({"role": role, "content": content}),
    })
}

/// Anything at all, for fields that nobody knows.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn chat()(
        messages in prop::collection::vec(message(), 1..5),
        model in "[a-z0-9.-]{1,20}",
        temperature in prop::option::of(0.0f64..=2.0),
        top_p in prop::option::of(0.0f64..=1.0),
        n in prop::option::of(1u8..=128),
        most in prop::option::of(1u32..),
        penalty in prop::option::of(-2.0f64..=2.0),
        stream in prop::option::of(any::<bool>()),
        stop in prop::option::of(prop::collection::vec(text(), 1..=4)),
        extra in prop::collection::btree_map("x_[a-z]{1,6}", anything(), 0..3),
        nulls: bool,
    ) -> Value {
        let mut body: Map<String, Value> = extra.into_iter().collect();
        body.insert("model".into(), model.into());
        body.insert("messages".into(), messages.into());
        for (name, value) in [
            ("temperature", json!(temperature)), ("top_p", json!(top_p)), ("n", json!(n)), ("max_completion_tokens", json!(most)),
            ("presence_penalty", json!(penalty)), ("stream", json!(stream)), ("stop", json!(stop)),
        ] {
            if nulls || !value.is_null() {
                body.insert(name.into(), value);
            }
        }
        Value::Object(body)
    }
}

/// Those of the fields that have a value, or are to be `null`.
fn with(fields: impl IntoIterator<Item = (&'static str, Value)>, nulls: bool) -> Value {
    fields
        .into_iter()
        .filter(|(_, value)| nulls || !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn item() -> impl Strategy<Value = Value> {
    let role = prop::sample::select(&["user", "assistant", "system", "developer"][..]);
    let part = text().prop_map(|text| json!({"type": "input_text", "text": text}));
    let content = prop_oneof![text().prop_map(Value::from), prop::collection::vec(part, 0..4).prop_map(Value::from)];
    prop_oneof![
        3 => (role, content).prop_map(|(role, content)| json!({"role": role, "content": content})),
        1 => text().prop_map(|output| json!({"type": "function_call_output", "call_id": "call_1", "output": output})),
    ]
}

prop_compose! {
    fn response()(
        input in prop::collection::vec(item(), 1..5),
        temperature in prop::option::of(0.0f64..=2.0),
        top_p in prop::option::of(0.0f64..=1.0),
        most in prop::option::of(16u32..),
        logprobs in prop::option::of(0u8..=20),
        truncation in prop::option::of(prop::sample::select(&["auto", "disabled"][..])),
        instructions in prop::option::of(text()),
        extra in anything(),
        nulls: bool,
    ) -> Value {
        with([
            ("model", json!("gpt-4o-mini")), ("input", Value::from(input)), ("temperature", json!(temperature)),
            ("top_p", json!(top_p)), ("max_output_tokens", json!(most)), ("top_logprobs", json!(logprobs)),
            ("truncation", json!(truncation)), ("instructions", json!(instructions)), ("x_of_next_year", extra),
        ], nulls)
    }
}

fn tokens() -> impl Strategy<Value = Value> {
    prop::collection::vec(0u32..200_000, 1..20).prop_map(Value::from)
}

prop_compose! {
    fn embedding()(
        input in prop_oneof![
            prop::collection::vec("[^\0]{1,40}", 1..6).prop_map(Value::from),
            tokens(),
            prop::collection::vec(tokens(), 1..4).prop_map(Value::from),
        ],
        dimensions in prop::option::of(1u16..),
        format in prop::option::of(prop::sample::select(&["float", "base64"][..])),
        user in prop::option::of(text()),
        nulls: bool,
    ) -> Value {
        with([
            ("model", json!("text-embedding-3-small")), ("input", input), ("dimensions", json!(dimensions)),
            ("encoding_format", json!(format)), ("user", json!(user)),
        ], nulls)
    }
}

/// A single change that makes a response's body wrong, and where.
fn response_mutation() -> impl Strategy<Value = (&'static str, Option<Value>)> {
    prop::sample::select(vec![
        ("/model", None),
        ("/model", Some(json!(null))),
        ("/input", None),
        ("/input", Some(json!(4))),
        ("/input/0", Some(json!("Hi"))),
        ("/input/0/role", Some(json!("tool"))),
        ("/input/0/role", Some(json!(null))),
        ("/input/0/type", Some(json!([]))),
        ("/input/0/content", Some(json!(false))),
        ("/input/0/content", Some(json!({}))),
        ("/temperature", Some(json!(-1e-9))),
        ("/top_p", Some(json!(1.5))),
        ("/max_output_tokens", Some(json!(15))),
        ("/max_output_tokens", Some(json!(16.5))),
        ("/top_logprobs", Some(json!(21))),
        ("/truncation", Some(json!("middle"))),
        ("/instructions", Some(json!(7))),
        ("/stream", Some(json!("true"))),
        ("/tools", Some(json!({}))),
        ("/metadata", Some(json!([]))),
    ])
}

/// The same for embeddings.
fn embedding_mutation() -> impl Strategy<Value = (&'static str, Option<Value>)> {
    prop::sample::select(vec![
        ("/model", None),
        ("/model", Some(json!(""))),
        ("/input", None),
        ("/input", Some(json!(null))),
        ("/input", Some(json!(""))),
        ("/input", Some(json!([]))),
        ("/input", Some(json!(17))),
        ("/input/0", Some(json!(""))),
        ("/input/0", Some(json!(-1))),
        ("/input/0", Some(json!(0.5))),
        ("/input/0", Some(json!([]))),
        ("/input/0", Some(json!(true))),
        ("/dimensions", Some(json!(0))),
        ("/dimensions", Some(json!("1536"))),
        ("/encoding_format", Some(json!("hex"))),
        ("/user", Some(json!(1))),
    ])
}

/// A single change that makes a body wrong, and where.
fn mutation() -> impl Strategy<Value = (&'static str, Option<Value>)> {
    prop::sample::select(vec![
        ("/model", None),
        ("/model", Some(json!(1))),
        ("/model", Some(json!(""))),
        ("/messages", None),
        ("/messages", Some(json!([]))),
        ("/messages", Some(json!({}))),
        ("/messages/0/role", None),
        ("/messages/0/role", Some(json!("User"))),
        ("/messages/0/role", Some(json!(["user"]))),
        ("/messages/0/content", Some(json!(1.5))),
        ("/messages/0", Some(json!("Hi"))),
        ("/temperature", Some(json!(2.0001))),
        ("/temperature", Some(json!("warm"))),
        ("/top_p", Some(json!(-0.5))),
        ("/n", Some(json!(0))),
        ("/n", Some(json!(1.25))),
        ("/max_completion_tokens", Some(json!(-3))),
        ("/presence_penalty", Some(json!(17))),
        ("/stream", Some(json!(0))),
        ("/stop", Some(json!(["1", "2", "3", "4", "5"]))),
        ("/top_logprobs", Some(json!(21))),
        ("/tools", Some(json!("none"))),
    ])
}

fn mutate(body: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match (body.pointer_mut(parent).unwrap(), value) {
        (Value::Array(items), Some(value)) => items[name.parse::<usize>().unwrap()] = value,
        (Value::Object(fields), Some(value)) => drop(fields.insert(name.into(), value)),
        (Value::Object(fields), None) => drop(fields.remove(name)),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn every_valid_body_passes(body in chat(), pretty: bool) {
        let body = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
        prop_assert_eq!(send(&RequestCheckLayer::new().openai().unique_names(), post(CHAT, body)), None);
    }

    #[test]
    fn a_single_fault_is_found_at_its_place(mut body in chat(), (pointer, value) in mutation()) {
        mutate(&mut body, pointer, value);
        let told = send(&RequestCheckLayer::new().openai(), post(CHAT, body.to_string())).unwrap_or_default();
        prop_assert_eq!(told.len(), 1, "{}: {:?}", body, told);
        prop_assert!(told[0].starts_with(&format!("{pointer}: found ")), "{:?}", told);
    }

    #[test]
    fn every_valid_response_and_embedding_passes(response in response(), embedding in embedding(), pretty: bool) {
        for (uri, body) in [(RESPONSES, response), (EMBEDDINGS, embedding)] {
            let body = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
            prop_assert_eq!(send(&RequestCheckLayer::new().openai().unique_names(), post(uri, body)), None);
        }
    }

    #[test]
    fn a_single_fault_of_a_response_is_found_at_its_place(mut body in response(), (pointer, value) in response_mutation()) {
        mutate(&mut body, pointer, value);
        let told = send(&RequestCheckLayer::new().openai(), post(RESPONSES, body.to_string())).unwrap_or_default();
        prop_assert_eq!(told.len(), 1, "{}: {:?}", body, told);
        prop_assert!(told[0].starts_with(&format!("{pointer}: found ")), "{:?}", told);
    }

    #[test]
    fn a_single_fault_of_an_embedding_is_found_at_its_place(mut body in embedding(), (pointer, value) in embedding_mutation()) {
        mutate(&mut body, pointer, value);
        let told = send(&RequestCheckLayer::new().openai(), post(EMBEDDINGS, body.to_string())).unwrap_or_default();
        prop_assert_eq!(told.len(), 1, "{}: {:?}", body, told);
        prop_assert!(told[0].starts_with(&format!("{pointer}: found ")), "{:?}", told);
    }

    #[test]
    fn a_body_cut_off_is_no_json(body in chat(), share in 0.0f64..1.0) {
        let body = body.to_string().into_bytes();
        let cut = (body.len() as f64 * share) as usize;
        let told = send(&RequestCheckLayer::new(), post(CHAT, body[..cut].to_vec()));
        prop_assert_eq!(told.is_some(), cut > 0);
    }
}
