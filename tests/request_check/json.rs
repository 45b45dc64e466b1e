//! Bodies that are said to be JSON.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use tower_outbound::request_check::RequestCheckLayer;

use crate::{json, send};

const URI: &str = "https://api.example/v1/things";

fn fault(body: &str) -> String {
    let told = send(&RequestCheckLayer::new(), json(URI, body.to_owned())).unwrap_or_else(|| panic!("{body} passed"));
    assert_eq!(told.len(), 1, "{told:?}");
    told.into_iter().next().unwrap()
}

#[test]
fn the_position_of_what_is_no_json_is_told() {
    assert_eq!(
        fault("{\n  \"a\": 1,\n  b: 2}"),
        "body, line 3 column 3 (byte 14): found `b`, allowed is a name in quotes"
    );
    assert_eq!(fault("[1, 2"), "body, line 1 column 6 (byte 5): found the end, allowed is `,` or `]`");
    assert_eq!(
        fault("{\"a\": tru}"),
        "body, line 1 column 10 (byte 9): found `}`, allowed is `true`, `false` or `null`"
    );
    assert_eq!(fault("\u{feff}{}"), "body, line 1 column 1 (byte 0): found the byte 0xef, allowed is a value");
    assert_eq!(fault("{} x"), "body, line 1 column 4 (byte 3): found `x`, allowed is the end");
    assert_eq!(
        fault("\"a\nb\""),
        "body, line 1 column 3 (byte 2): found the byte 0x0a, allowed is no control character in a string"
    );
}

#[test]
fn a_body_that_is_not_said_to_be_json_is_let_be() {
    let layer = RequestCheckLayer::new();
    let with = |name: &str, value: &str| {
        let request = Request::post(URI).header(name, value).body(Full::from("{,")).unwrap();
        send(&layer, request)
    };
    for other in
        ["text/plain", "application/jsonl", "application/x-ndjson", "multipart/form-data; boundary=x", "json", ""]
    {
        assert_eq!(with("content-type", other), None, "{other}");
    }
    for said in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
        assert!(with("content-type", said).is_some(), "{said}");
    }
    let mut request = json(URI, "\x1f\u{8b}compressed");
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(send(&layer, request), None);
    // Some clients name the type where there is no body.
    assert_eq!(send(&layer, json(URI, "")), None);
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let layer = RequestCheckLayer::new().max_depth(3);
    assert_eq!(send(&layer, json(URI, nested(3))), None);
    let told = send(&layer, json(URI, r#"{"a/b": [{"c~d": [1]}]}"#)).unwrap();
    assert_eq!(told, ["/a~1b/0/c~0d: found an array or object, allowed is 3 of them in one another"]);
    // What serde_json reads by default, and not one more.
    assert_eq!(send(&RequestCheckLayer::new(), json(URI, nested(127))), None);
    assert!(serde_json::from_str::<serde_json::Value>(&nested(127)).is_ok());
    for depth in [128, 1_000_000] {
        assert!(serde_json::from_str::<serde_json::Value>(&nested(depth)).is_err());
        assert_eq!(send(&RequestCheckLayer::new().max_depth(255), json(URI, nested(depth))).unwrap().len(), 1);
    }
}

#[test]
fn names_that_come_twice_are_refused_if_asked() {
    let twice = r#"{"a": 1, "b": {"x": 1, "\u0078": 2}, "c": [{"a": 1}], "a": 2}"#;
    assert_eq!(send(&RequestCheckLayer::new(), json(URI, twice)), None);
    let told = send(&RequestCheckLayer::new().unique_names(), json(URI, twice)).unwrap();
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with("/b/x: ") && told[1].starts_with("/a: "), "{told:?}");
}

/// Whether serde_json takes it, once all of it has to be UTF-8.
fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

fn agrees(body: &[u8]) {
    if body.is_empty() {
        return;
    }
    let told = send(&RequestCheckLayer::new(), json(URI, Bytes::copy_from_slice(body)));
    assert_eq!(told.is_none(), is_json(body), "{:?}: {told:?}", String::from_utf8_lossy(body));
}

/// Pieces that JSON is made of, and some that it is not.
const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "\"a\"",
    "\"",
    "\\",
    "\\u00e9",
    "\\ud800",
    "\\u12",
    "\\n",
    "\\x",
    "true",
    "false",
    "null",
    "tru",
    "0",
    "00",
    "1",
    "-",
    "-0",
    "+1",
    ".5",
    "1.",
    "1.5",
    "e",
    "1e5",
    "1E+05",
    "1e",
    "1e999",
    "é",
    "\t",
    "\u{1}",
    "\u{7f}",
    "\"abcdefghijklmnopqrstuvwxyz0123456789\\\"\"",
    "\"\u{4e2d}\u{6587}\u{4e2d}\u{6587}\u{4e2d}\u{6587}\u{4e2d}\u{6587}\u{4e2d}\u{6587}\u{4e2d}\"",
    "{\"a\":",
    "[1,",
    "\"a\":1",
    "{}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_takes_what_serde_json_takes_of_pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 1..12)) {
        agrees(pieces.concat().as_bytes());
    }

    #[test]
    fn it_takes_what_serde_json_takes_of_strings(content in prop::collection::vec(any::<u8>(), 0..80)) {
        agrees(&[b"\"", &content[..], b"\""].concat());
    }

    #[test]
    fn it_takes_what_serde_json_takes_of_any_bytes(body in prop::collection::vec(any::<u8>(), 1..60)) {
        agrees(&body);
    }

    /// Each place of a string is tried with each byte that ends a plain run, so that no block is passed over.
    #[test]
    fn nothing_in_a_long_string_is_passed_over(length in 0usize..140, at in 0usize..140, byte: u8) {
        let mut body = vec![b'x'; length + 2];
        body[0] = b'"';
        body[length + 1] = b'"';
        body[1 + at.min(length.saturating_sub(1))] = byte;
        agrees(&body);
    }

    /// Where numbers are asked for, they are read another way.
    #[test]
    fn it_takes_what_serde_json_takes_of_tokens(
        numbers in prop::collection::vec("(0|[0-9]{1,12}|[0-9]{1,11}[.eE,-][0-9]{0,3}|[0-9]{1,3}[a}])[ \n]{0,2}", 1..4),
        end in prop::sample::select(&["]", "", "}"][..]),
    ) {
        let input = format!("[ {}{end}", numbers.join(","));
        let valid = serde_json::from_str::<Vec<f64>>(&input).is_ok_and(|input| input.iter().all(|value| value.fract() == 0.0));
        let body = format!(r#"{{"model":"m","input":{input}}}"#);
        let told = send(&RequestCheckLayer::new().openai(), json(crate::EMBEDDINGS, body.clone()));
        prop_assert_eq!(told.is_none(), valid, "{}: {:?}", body, told);
    }

    #[test]
    fn no_setting_panics_on_any_bytes(body in prop::collection::vec(any::<u8>(), 0..60), depth: u8) {
        let layer = RequestCheckLayer::new().openai().unique_names().max_depth(depth).chars_per_token(0.0).tokens_per_minute(1);
        for uri in [crate::CHAT, crate::RESPONSES, crate::EMBEDDINGS] {
            let _ = send(&layer, json(uri, body.clone()));
        }
    }
}
