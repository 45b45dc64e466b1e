//! A key is in no `Debug`, no `Display` and no error, whatever happens to a call.

use std::fmt::{Debug, Write};

use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_outbound::{
    Call,
    backoff_retry::BackoffRetryLayer,
    key_check::{ApiKey, KeyCheckLayer, Origin},
    mock::{MockApi, Script, dropped, never, ok, status},
    quota_meter::QuotaMeterLayer,
};

use super::{KEY, key, layer};
use crate::common::{Told, get, poll_once, ready, secs};

/// The key as it would show: as it is, in base64, percent-encoded, or a good part of it.
fn traces_of_the_key() -> [String; 4] {
    use std::fmt::Write as _;
    let mut percent = String::new();
    for byte in KEY.bytes() {
        let _ = write!(percent, "%{byte:02x}");
    }
    [KEY.into(), KEY[8..].into(), "c2stdGVzdC0wMTIzNDU2Nzg5YWJjZGVm".into(), percent]
}

#[track_caller]
fn shows_nothing(what: &str, text: &str) {
    for trace in traces_of_the_key() {
        assert!(!text.to_lowercase().contains(&trace.to_lowercase()), "{what} shows the key: {text}");
    }
}

#[track_caller]
fn debug_shows_nothing(what: &str, value: impl Debug) {
    shows_nothing(what, &format!("{value:?} {value:#?}"));
}

/// An error, its causes, and what they print.
pub(crate) fn all_of(error: &BoxError) -> String {
    let mut text = format!("{error:?} {error:#?}");
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    while let Some(error) = next {
        let _ = write!(text, " / {error} {error:?}");
        next = error.source();
    }
    text
}

#[test]
fn the_traces_are_what_they_should_be() {
    let [plain, part, ..] = traces_of_the_key();
    assert!(plain.contains(&part) && part.len() == 16);
}

#[tokio::test(start_paused = true)]
async fn no_type_shows_it() {
    let (key, meter, retry) = (layer(), QuotaMeterLayer::new(), BackoffRetryLayer::new());
    debug_shows_nothing("ApiKey", super::key());
    debug_shows_nothing("KeyCheckLayer", &key);
    debug_shows_nothing("Origin", Origin::parse("https://api.example").unwrap());
    debug_shows_nothing("Call", Call::now());
    let script = Script::new().then(ok("done")).then(never());
    let mut service = ServiceBuilder::new().layer(retry).layer(key).layer(&meter).service(Told(script.clone()));
    debug_shows_nothing("the stack", &service);
    let call = ready(&mut service).await.call(get());
    debug_shows_nothing("ResponseFuture", &call);
    let response = call.await.unwrap();
    debug_shows_nothing("Response", &response);
    let mut waiting = Box::pin(ready(&mut service).await.call(get()));
    assert!(poll_once(&mut waiting).is_pending());
    debug_shows_nothing("ResponseFuture, under way", &waiting);
    debug_shows_nothing("Snapshot", meter.snapshot());
    debug_shows_nothing("Sent", script.calls());
    debug_shows_nothing("the headers sent", &script.calls()[0].headers);
}

#[tokio::test(start_paused = true)]
async fn no_error_shows_it() {
    let key = layer();
    let steps =
        [status(401), dropped(), status(200).truncated(), crate::common::refused(), crate::common::again_error(0)];
    for step in steps {
        for _ in 0..2 {
            let script = Script::new().otherwise(step.clone());
            let mut service = ServiceBuilder::new()
                .layer(BackoffRetryLayer::new())
                .layer(&key)
                .layer(QuotaMeterLayer::new())
                .service(Told(script));
            match ready(&mut service).await.call(get()).await {
                Ok(response) => debug_shows_nothing("a response", response),
                Err(error) => shows_nothing("an error", &all_of(&error)),
            }
        }
        tokio::time::sleep(secs(60.0)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsound_key_is_not_shown_either() {
    for unsound in [
        format!("{KEY}\n"),
        format!(" {KEY}"),
        format!("\"{KEY}\""),
        format!("'{KEY}'"),
        format!("Bearer {KEY}"),
        format!("{KEY} {KEY}"),
        format!("{KEY}\u{7f}"),
        format!("{KEY}\u{201d}"),
        format!("<{KEY}>"),
        format!("{{{KEY}}}"),
        format!("${{{KEY}}}"),
    ] {
        let error = ApiKey::new(&unsound).unwrap_err();
        shows_nothing("KeyError", &format!("{error} {error:?} {:?}", error.fault()));
    }
}

#[test]
fn an_origin_with_a_key_in_it_does_not_show_it() {
    for url in [format!("https://{KEY}@api.example"), format!("{KEY}://api.example"), format!("https://user:{KEY}@x")] {
        let error = Origin::parse(&url).unwrap_err();
        shows_nothing("OriginError", &format!("{error} {error:?}"));
    }
    // In the path or the query it is no part of the origin.
    let origin = Origin::parse(&format!("https://api.example/{KEY}?key={KEY}")).unwrap();
    shows_nothing("Origin", &format!("{origin} {origin:?}"));
}

#[test]
fn a_fingerprint_tells_keys_apart_and_nothing_else() {
    let other = ApiKey::new("sk-test-0123456789abcdeF").unwrap();
    assert_ne!(key().fingerprint(), other.fingerprint());
    assert_eq!(key().fingerprint(), key().fingerprint());
    assert_eq!(key().fingerprint().len(), 8);
}

/// The server's record of it is a print of the key, not the key.
#[tokio::test(start_paused = true)]
async fn the_mock_does_not_keep_it() {
    let api = MockApi::builder().keys(["sk-known"]).build();
    let layer = KeyCheckLayer::new(key(), Origin::parse("https://api.example").unwrap());
    let mut request = get();
    *request.uri_mut() = "https://api.example/v1/models".parse().unwrap();
    let response = tower::ServiceExt::oneshot(layer.layer(api.clone()), request).await.unwrap();
    debug_shows_nothing("records", api.records());
    debug_shows_nothing("response", response);
}
