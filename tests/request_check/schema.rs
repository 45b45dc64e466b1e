//! JSON Schema.

use serde_json::json;
use tower_outbound::request_check::{RequestCheckLayer, Schema};

use crate::{json as post, send};

#[test]
fn a_body_is_held_against_its_schema() {
    let schema = Schema::new(&json!({
        "type": "object",
        "required": ["query"],
        "properties": {"query": {"type": "string", "maxLength": 5}, "top": {"type": "integer", "minimum": 1}},
    }))
    .unwrap();
    let layer = RequestCheckLayer::new().schema("/v1/search", schema);
    let sent = |uri, body: &'static str| send(&layer, post(uri, body));
    assert_eq!(sent("https://api.example/v1/search", r#"{"query":"a","top":3}"#), None);
    assert_eq!(sent("https://api.example/v1/other", r#"{"top":0}"#), None);
    let told = sent("https://api.example/v1/search", r#"{"query":"a long secret text","top":0}"#).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|told| told.starts_with("/query: found \"a long secret text\"")), "{told:?}");
    assert!(told.iter().any(|told| told.starts_with("/top: found 0, allowed is")), "{told:?}");
    assert_eq!(sent("https://api.example/v1/search", "{}").unwrap().len(), 1);
    assert_eq!(sent("https://api.example/v1/search", "{,").unwrap().len(), 1);
}

#[test]
fn what_cannot_be_held_against_it_is_told_and_not_passed() {
    let schema = Schema::new(&json!({"type": "object", "required": ["query"]})).unwrap();
    let layer = RequestCheckLayer::new().schema("/v1/search/", schema);
    for uri in ["https://api.example/v1/search", "https://api.example/v1/search/"] {
        assert_eq!(send(&layer, post(uri, r#"{"query":1}"#)), None);
        assert_eq!(send(&layer, post(uri, "{}")).unwrap().len(), 1, "{uri}");
        for unreadable in [r#"{"a":1e400}"#, r#"{"query":"\ud800"}"#, ""] {
            assert_eq!(send(&layer, post(uri, unreadable)).unwrap().len(), 1, "{unreadable}");
        }
    }
    // A request that has no body may name its type.
    let get = http::Request::get("https://api.example/v1/search").header("content-type", "application/json");
    assert_eq!(send(&layer, get.body(Default::default()).unwrap()), None);
}

#[test]
fn what_is_no_schema_is_told_when_it_is_made() {
    assert!(Schema::new(&json!({"type": 5})).is_err());
}
