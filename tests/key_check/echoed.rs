//! Servers and clients that repeat the key, and events: it is masked in all that comes out.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use http::Request;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    ApiError, ErrorClassifyLayer, ErrorKind, Gate, Refused, RetryHint,
    backoff_retry::BackoffRetryLayer,
    fallback::{Breaker, FallbackLayer},
    key_check::{KeyCheckLayer, KeySource, Placement, Token},
    mock::{Script, dropped, ok, status},
    provider::OpenAi,
    quota_meter::{QuotaMeterLayer, Refusal},
    request_check::RequestCheckLayer,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, set_default, set_global_default},
};

use super::{named_key, origin, secrets::all_of};
use crate::common::{Text, Told, get, ready, secs, told};

/// Neither by its beginning nor by its length to be told from other words.
const PLAIN: &str = "sesame!";

/// All that is told at any level.
#[derive(Clone, Default)]
pub(crate) struct Heard(pub(crate) Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field}={value:?} {value:#?}\n"));
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Line(&mut self.0.lock().unwrap()));
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Line(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Line(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Hears this thread. Somebody listens everywhere else, too: an event that another thread comes to first, where nobody does,
/// may be switched off for all.
fn listen(heard: &Heard) -> DefaultGuard {
    let _ = set_global_default(Heard::default());
    set_default(heard.clone())
}

#[track_caller]
fn hides(text: &str, what: &str) {
    for trace in [PLAIN, "sesame%21", "c2VzYW1lIQ"] {
        assert!(!text.contains(trace), "{what} shows the key: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_servers_message_that_repeats_it_is_masked() {
    let layer = KeyCheckLayer::new(named_key(PLAIN), origin());
    for (code, text) in [
        (400, format!(r#"{{"error":{{"message":"no such key: {PLAIN} !","type":"{PLAIN}","code":"{PLAIN}"}}}}"#)),
        (401, format!(r#"{{"error":{{"message":"sesame%21 is no key","param":"{PLAIN}"}}}}"#)),
    ] {
        let service = ServiceBuilder::new()
            .layer(&layer)
            .layer(ErrorClassifyLayer::new(tower_outbound::provider::OpenAi))
            .service(Script::new().otherwise(status(code).header("content-type", "application/json").body(text)));
        let response = service.oneshot(get()).await.unwrap();
        let error = ApiError::of(&response).unwrap();
        assert!(error.message().is_some_and(|message| message.contains("***")), "{error:?}");
        hides(&format!("{error} {error:?}"), "an ApiError");
    }
    let error = ServiceBuilder::new().layer(&layer).service(Told(Script::new())).oneshot(get()).await.unwrap_err();
    hides(&all_of(&error), "the refusal after it");
    hides(&format!("{:?} {}", layer.snapshot(), layer.snapshot()[0]), "the snapshot");
}

/// As clients do that put the URL into their errors.
#[tokio::test(start_paused = true)]
async fn a_clients_error_that_repeats_it_is_masked_and_means_the_same() {
    let layer = KeyCheckLayer::new(named_key(PLAIN), origin()).placement(Placement::query("key"));
    let client = tower::service_fn(|request: Request<Text>| async move {
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let outer = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, format!("{}: {source}", request.uri()));
        Err::<http::Response<Text>, BoxError>(outer.into())
    });
    let error = layer.layer(client).oneshot(get()).await.unwrap_err();
    hides(&all_of(&error), "an error");
    assert!(error.to_string().starts_with("https://api.example/v1/things?key=***: "), "{error}");
    let meaning = ApiError::from_error(&*error);
    assert_eq!((meaning.kind(), meaning.may_have_reached_server()), (ErrorKind::Unavailable, false));
}

/// What a meter further in keeps of an answer that repeats it comes out as its own refusal still.
#[tokio::test(start_paused = true)]
async fn the_meters_refusal_is_masked_and_stays_one() {
    let layer = KeyCheckLayer::new(named_key(PLAIN), origin());
    let client = tower::service_fn(|_: Request<Text>| async {
        let error = ApiError::new(ErrorKind::QuotaExhausted, RetryHint::Never);
        let error = error.with_message("the key sesame! has no money left").with_code("no_money");
        let spent = Refusal::Spent { error, wait: secs(7.0) };
        Err::<http::Response<Text>, BoxError>(Refused::new(Gate::Quota, Some(secs(5.0)), spent).into())
    });
    let error = layer.layer(client).oneshot(get()).await.unwrap_err();
    hides(&all_of(&error), "an error");
    let refused: &Refused = error.downcast_ref().expect("a refusal");
    assert_eq!((refused.by(), refused.wait()), (Gate::Quota, Some(secs(5.0))));
    let Some(Refusal::Spent { error, wait }) = refused.cause().downcast_ref() else { panic!("{refused:?}") };
    assert_eq!((error.message(), error.code()), (Some("the key *** has no money left"), Some("no_money")));
    assert_eq!((error.kind(), *wait), (ErrorKind::QuotaExhausted, secs(7.0)));
}

/// Every way in which a key can fail, with everything that is told of it.
#[tokio::test(start_paused = true)]
async fn no_event_tells_it() {
    let heard = Heard::default();
    let _guard = listen(&heard);
    let failing = KeySource::function(|| async { Err::<Token, _>(BoxError::from("none today")) });
    let layer = KeyCheckLayer::new(named_key(PLAIN), origin()).with_key(failing);
    for step in [
        status(401).body(PLAIN),
        told(429, ErrorKind::RateLimit, RetryHint::After(secs(1.0))),
        told(429, ErrorKind::QuotaExhausted, RetryHint::Never),
        tower_outbound::mock::dropped(),
        status(500),
        ok("done"),
    ] {
        let mut stack = ServiceBuilder::new()
            .layer(BackoffRetryLayer::new())
            .layer(&layer)
            .service(Told(Script::new().otherwise(step)));
        match ready(&mut stack).await.call(get()).await {
            Ok(response) => hides(&format!("{:?} {:?}", response.extensions(), response.headers()), "a response"),
            Err(error) => hides(&all_of(&error), "an error"),
        }
        tokio::time::sleep(secs(61.0)).await;
    }
    let openai = tower_outbound::Origin::parse("https://api.openai.com").unwrap();
    drop(KeyCheckLayer::new(named_key("sk-ant-sesame!"), openai));
    let told = heard.0.lock().unwrap().clone();
    for expected in ["a key is out of use", "the key is well again", "gave none", "looks like one of Anthropic"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    hides(&told, "an event");
}

/// All layers, over a server that repeats the key in whatever it says: what comes out of a call, and what is told of it.
#[tokio::test(start_paused = true)]
async fn no_layer_of_the_crate_tells_it() {
    let heard = Heard::default();
    let _guard = listen(&heard);
    let said = |code: u16, kind: &str| {
        let body = format!(r#"{{"error":{{"message":"{PLAIN} {kind}: sesame%21","type":"{kind}","code":"{kind}"}}}}"#);
        status(code).header("content-type", "application/json").header("x-request-id", PLAIN).body(body)
    };
    let mut failed = 0;
    for step in [
        said(400, "invalid_request_error"),
        said(401, "invalid_api_key"),
        said(403, "forbidden"),
        said(413, "too_large"),
        said(429, "rate_limit_exceeded").header("retry-after", 1),
        said(429, "insufficient_quota"),
        said(503, "overloaded"),
        said(200, "fine").truncated(),
        status(500).header("content-type", "text/html").body(PLAIN),
        dropped(),
    ] {
        let layer = KeyCheckLayer::new(named_key(PLAIN), origin()).placement(Placement::query("key"));
        let script = Script::new().otherwise(step);
        let mut stack = ServiceBuilder::new()
            .layer(RequestCheckLayer::new())
            .layer(FallbackLayer::new().breaker(Breaker::new()))
            .layer(BackoffRetryLayer::new())
            .layer(&layer)
            .layer(QuotaMeterLayer::new())
            .layer(ErrorClassifyLayer::new(OpenAi))
            .service(script);
        for _ in 0..3 {
            match ready(&mut stack).await.call(get()).await {
                Ok(response) => hides(&format!("{:?}", response.extensions()), "a response's extensions"),
                Err(error) => {
                    failed += 1;
                    hides(&all_of(&error), "an error");
                }
            }
            hides(&format!("{:?}", layer.snapshot()), "the snapshot");
        }
    }
    assert!(failed >= 6, "refusals and errors were among them: {failed}");
    hides(&heard.0.lock().unwrap(), "an event");
}
