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

/// Servers that repeat it as they got it in a URL, in either case, or as they log it.
#[tokio::test(start_paused = true)]
async fn a_server_that_encodes_what_it_repeats_gives_nothing_away() {
    const ODD: &str = "ses+ame/key!";
    const SPELLED: [&str; 5] =
        [ODD, "ses%2Bame%2Fkey%21", "ses%2bame%2fkey%21", "c2VzK2FtZS9rZXkh", "%73%65%73%2b%61%6d%65%2f%6b%65%79%21"];
    let api = Script::new().otherwise(tower_outbound::mock::answer(|sent| {
        let of = sent.header("x-spell").and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
        let text = format!(r#"{{"error":{{"message":"who is {} ?","code":"{0}"}}}}"#, SPELLED[of]);
        status(400).header("content-type", "application/json").header("x-request-id", SPELLED[of]).body(text)
    }));
    let layer = KeyCheckLayer::new(named_key(ODD), origin());
    let stack = ServiceBuilder::new().layer(&layer).layer(ErrorClassifyLayer::new(OpenAi)).service(api);
    for (number, spelled) in SPELLED.into_iter().enumerate() {
        let mut request = get();
        request.headers_mut().insert("x-spell", number.into());
        let response = stack.clone().oneshot(request).await.unwrap();
        let error = ApiError::of(&response).unwrap();
        assert_eq!((error.message(), error.code()), (Some("who is *** ?"), Some("***")), "{spelled}");
        assert!(!format!("{error} {error:?}").contains(spelled));
        let client = tower::service_fn(move |_: Request<Text>| {
            std::future::ready(Err::<http::Response<Text>, BoxError>(format!("cannot log in with {spelled}").into()))
        });
        let error = layer.layer(client).oneshot(get()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot log in with ***");
        assert!(!all_of(&error).contains(spelled), "{}", all_of(&error));
    }
}

/// A long text is cut, and not in the middle of a key.
#[tokio::test(start_paused = true)]
async fn a_text_that_is_cut_shows_no_part_of_it() {
    let secret = "Wq7Zp2Lk9Xv4Tn8Rb5Jm3Hd6Gs1Fc0Ya";
    let layer = KeyCheckLayer::new(named_key(secret), origin());
    for (before, gap) in [(2030, " "), (2030, "."), (2045, " "), (1300, "."), (2047 - 32, " "), (2048 - 32, " ")] {
        let text = format!("{}{gap}{secret} is unknown", ". ".repeat(before / 2));
        for (text, filler) in [(text.clone(), ' '), (text.replacen(". ", "..", 2000), '.')] {
            let body = serde_json::json!({"error": {"message": text, "code": "x"}}).to_string();
            let step = status(400).header("content-type", "application/json").body(body);
            let stack = ServiceBuilder::new().layer(&layer).layer(ErrorClassifyLayer::new(OpenAi));
            let response = stack.service(Script::new().otherwise(step)).oneshot(get()).await.unwrap();
            let error = ApiError::of(&response).unwrap();
            let message = error.message().unwrap();
            assert!(!message.contains("Wq7Zp2"), "{before} {filler:?}: {message}");
        }
    }
    // Nobody knows the key here.
    let unknown = ApiError::new(ErrorKind::Server, RetryHint::Backoff);
    let unknown = unknown.with_message(&format!("{} {secret}", "x ".repeat(1013)));
    assert!(!unknown.message().unwrap().contains("Wq7"), "{unknown:?}");
}

/// What a stream tells after it has begun.
#[tokio::test(start_paused = true)]
async fn the_errors_of_a_stream_are_masked() {
    use tower_outbound::error_classify::StreamErrors;
    let layer = KeyCheckLayer::new(named_key(PLAIN), origin());
    let events = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"Hi\"}}}}]}}\n\nevent: error\ndata: \
         {{\"error\":{{\"message\":\"the key {PLAIN} has no money\",\"code\":\"{PLAIN}\"}}}}\n\n"
    );
    let stack = ServiceBuilder::new()
        .layer(&layer)
        .layer(ErrorClassifyLayer::new(OpenAi).failures_in_streams(true))
        .service(Script::new().otherwise(ok(events).header("content-type", "text/event-stream")));
    let response = stack.oneshot(get()).await.unwrap();
    let errors: StreamErrors = response.extensions().get().cloned().expect("a stream");
    http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    let first = errors.first().expect("an error");
    assert_eq!(first.message(), Some("the key *** has no money"));
    hides(&format!("{first} {first:?} {errors:?} {errors:#?}"), "StreamErrors");
}

/// Its words are masked; its cause, which has them too, is not to be had any more.
#[tokio::test(start_paused = true)]
async fn no_cause_of_a_masked_error_shows_it() {
    #[derive(Debug)]
    struct Silent(#[expect(dead_code, reason = "shown by Debug alone")] &'static str);
    impl std::fmt::Display for Silent {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no comment")
        }
    }
    impl std::error::Error for Silent {}
    let layer = KeyCheckLayer::new(named_key(PLAIN), origin());
    let known = |error: ApiError| {
        let error: BoxError = error.with_source(Silent(PLAIN)).into();
        std::future::ready(Err::<http::Response<Text>, BoxError>(error))
    };
    for message in ["fine words", "the key sesame!"] {
        let client = tower::service_fn(move |_: Request<Text>| {
            known(ApiError::new(ErrorKind::Overloaded, RetryHint::Backoff).with_message(message))
        });
        let error = layer.layer(client).oneshot(get()).await.unwrap_err();
        hides(&all_of(&error), "an error");
        assert_eq!(ApiError::from_error(&*error).kind(), ErrorKind::Overloaded);
    }
    let client = tower::service_fn(|_: Request<Text>| {
        let mut response = http::Response::new(Text::default());
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        let error = ApiError::new(ErrorKind::InvalidRequest, RetryHint::Never).with_source(Silent(PLAIN));
        response.extensions_mut().insert(error);
        std::future::ready(Ok::<_, BoxError>(response))
    });
    let response = layer.layer(client).oneshot(get()).await.unwrap();
    hides(&all_of(&ApiError::of(&response).unwrap().into()), "an ApiError's cause");
}

/// A source that is asked for the next key tells of the one that it gave.
#[tokio::test(start_paused = true)]
async fn what_a_source_says_is_masked() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let source = KeySource::function(move || {
        let is_first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        async move { if is_first { Ok(named_key(PLAIN)) } else { Err(format!("{PLAIN} was revoked")) } }
    });
    let layer = KeyCheckLayer::new(source, origin());
    let script = Script::new().otherwise(status(401));
    assert_eq!(super::ask(&layer, &script).await, Ok(401));
    let error = super::send(&layer, &script, get()).await.unwrap_err();
    assert_eq!(layer.snapshot()[0].source_error.as_deref(), Some("*** was revoked"));
    hides(&all_of(&error), "the refusal");
}

/// A meter for all keys together keeps what another key was told.
#[tokio::test(start_paused = true)]
async fn another_keys_answer_is_masked_for_all() {
    let layer = KeyCheckLayer::new(named_key("other-key"), origin()).with_key(named_key(PLAIN));
    let client = tower::service_fn(|_: Request<Text>| async {
        Err::<http::Response<Text>, BoxError>("the key sesame! is spent, said other-key".into())
    });
    for _ in 0..2 {
        let error = layer.layer(client).oneshot(get()).await.unwrap_err();
        assert_eq!(error.to_string(), "the key *** is spent, said ***");
    }
}
