//! Keys that change: functions that give short-lived tokens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    Call, ErrorKind, RetryHint,
    backoff_retry::BackoffRetryLayer,
    key_check::{KeyCheckLayer, KeySource, KeyState, Token},
    mock::{Script, answer, ok, status},
};

use super::{ask, named_key, origin, rejected, send};
use crate::common::{Told, get, ms, secs, settled, told, with};

/// A source that gives `sk-token-1`, `sk-token-2` …, each good for so long, and takes so long to do it.
fn tokens(lifetime: Option<Duration>, takes: Duration) -> (KeySource, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = KeySource::function(move || {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            sleep(takes).await;
            let token = Token::new(named_key(&format!("sk-token-{number}")));
            Ok::<_, BoxError>(lifetime.map_or(token.clone(), |lifetime| token.expires_in(lifetime)))
        }
    });
    (source, asked)
}

pub(crate) fn used(script: &Script) -> Vec<String> {
    script
        .calls()
        .iter()
        .filter_map(|sent| Some(sent.header("authorization")?.replace("Bearer sk-token-", "")))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_function_is_called_once_for_all_who_wait() {
    let (source, asked) = tokens(None, secs(2.0));
    let layer = KeyCheckLayer::new(source, origin());
    assert_eq!((asked.load(Ordering::Relaxed), layer.snapshot()[0].state), (0, KeyState::Missing));
    let script = Script::new().otherwise(ok("done"));
    let start = Instant::now();
    let calls: JoinSet<_> = (0..50).map(|_| layer.layer(Told(script.clone())).oneshot(get())).collect();
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(start.elapsed(), secs(2.0));
    assert_eq!(ask(&layer, &script).await, Ok(200));
    assert_eq!((asked.load(Ordering::Relaxed), used(&script)), (1, vec!["1".to_owned(); 51]));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_ahead_of_its_end_and_no_call_waits() {
    let (source, asked) = tokens(Some(secs(100.0)), secs(5.0));
    let layer = KeyCheckLayer::new(source, origin());
    let script = Script::new().otherwise(ok("done"));
    ask(&layer, &script).await.unwrap();
    for _ in 0..300 {
        sleep(secs(1.0)).await;
        let start = Instant::now();
        assert_eq!(ask(&layer, &script).await, Ok(200));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4, "each is used for 80 s and the 5 that the next takes");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_not_sent() {
    let (source, _) = tokens(Some(secs(10.0)), secs(1.0));
    let layer = KeyCheckLayer::new(source, origin());
    let script = Script::new().otherwise(ok("done"));
    ask(&layer, &script).await.unwrap();
    sleep(secs(60.0)).await;
    assert_eq!(layer.snapshot()[0].state, KeyState::Missing);
    assert_eq!(ask(&layer, &script).await, Ok(200));
    assert_eq!(used(&script), ["1", "2"]);
}

/// The server takes only the token of this number and later ones.
pub(crate) fn takes_from(least: usize) -> Script {
    Script::new().otherwise(answer(move |sent| {
        let number = sent.header("authorization").and_then(|value| value.rsplit('-').next()?.parse().ok());
        if number.unwrap_or(0) >= least { ok("done") } else { status(401) }
    }))
}

#[tokio::test(start_paused = true)]
async fn after_a_401_the_call_goes_again_with_the_next() {
    let (source, asked) = tokens(None, secs(1.0));
    let layer = KeyCheckLayer::new(source, origin());
    let script = takes_from(2);
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&layer).service(Told(script.clone()));
    let calls: JoinSet<_> = (0..10).map(|_| stack.clone().oneshot(crate::common::post())).collect();
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(used(&script).iter().filter(|number| *number == "1").count(), 1, "the others had not left");
}

/// Without a retry the answer comes out as it is, and the next call goes with the next token.
#[tokio::test(start_paused = true)]
async fn without_a_retry_the_next_call_goes_with_the_next() {
    let (source, _) = tokens(None, secs(1.0));
    let (layer, script) = (KeyCheckLayer::new(source, origin()), takes_from(2));
    assert_eq!((ask(&layer, &script).await, ask(&layer, &script).await), (Ok(401), Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn tokens_that_all_die_are_asked_for_ever_more_slowly() {
    let (source, asked) = tokens(None, ms(1));
    let (layer, script) = (KeyCheckLayer::new(source, origin()), Script::new().otherwise(status(401)));
    let start = Instant::now();
    while start.elapsed() < secs(600.0) {
        let _ = ask(&layer, &script).await;
        sleep(ms(100)).await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((10..=20).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_is_asked_ever_more_slowly_and_calls_are_refused() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = KeySource::function(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err::<Token, _>("the identity provider is down, said sk-proj-0123456789abcdef") }
    });
    let (layer, script) = (KeyCheckLayer::new(source, origin()), Script::new());
    let error = send(&layer, &script, get()).await.unwrap_err();
    let (refused, reason) = rejected(&error);
    assert_eq!(refused.wait(), Some(secs(1.0)));
    let said = reason.keys()[0].source_error.as_deref();
    assert_eq!(said, Some("the identity provider is down, said sk-***"));
    let start = Instant::now();
    while start.elapsed() < secs(600.0) {
        assert_eq!(ask(&layer, &script).await, Err(()));
        sleep(ms(100)).await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((14..=17).contains(&asked), "1, 2, 4 … 60 s: {asked}");
    script.assert_sent(0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_while_its_token_is_good_costs_no_call() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = KeySource::function(move || {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            let token = Token::new(named_key("sk-token-1")).expires_in(secs(1000.0));
            is_first.then_some(token).ok_or("down")
        }
    });
    let (layer, script) = (KeyCheckLayer::new(source, origin()), Script::new().otherwise(ok("done")));
    for _ in 0..999 {
        assert_eq!(ask(&layer, &script).await, Ok(200));
        sleep(secs(1.0)).await;
    }
    assert!(layer.snapshot()[0].source_error.as_deref() == Some("down"));
    sleep(secs(1.0)).await;
    assert_eq!(ask(&layer, &script).await, Err(()));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_panics_or_gives_stale_tokens_leaves_nobody_waiting() {
    let hangs = KeySource::function(std::future::pending::<Result<Token, BoxError>>);
    let panics = KeySource::function(|| async { panic!("by a test") as Result<Token, BoxError> });
    let stale = tokens(Some(Duration::ZERO), Duration::ZERO).0;
    for (source, takes, said) in [
        (hangs, secs(30.0), "no answer within 30s"),
        (panics, Duration::ZERO, "it was broken off"),
        (stale, Duration::ZERO, "it gave a token that has expired already"),
    ] {
        let layer = KeyCheckLayer::new(source, origin());
        let start = Instant::now();
        assert_eq!(ask(&layer, &Script::new()).await, Err(()));
        assert!(start.elapsed() < takes + ms(10), "{said}");
        assert_eq!(layer.snapshot()[0].source_error.as_deref(), Some(said));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_source_no_longer_than_to_its_deadline() {
    let (source, asked) = tokens(None, secs(20.0));
    let layer = KeyCheckLayer::new(source, origin());
    let script = Script::new().otherwise(ok("done"));
    let start = Instant::now();
    let request = with(get(), Call::now().with_deadline(start + secs(5.0)));
    rejected(&send(&layer, &script, request).await.unwrap_err());
    assert_eq!(start.elapsed(), secs(5.0));
    assert_eq!(ask(&layer, &script).await, Ok(200), "the source was asked all the same");
    assert_eq!((start.elapsed(), asked.load(Ordering::Relaxed)), (secs(20.0), 1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_source_keeps_nobody_out() {
    let (source, _) = tokens(None, secs(20.0));
    let layer = KeyCheckLayer::new(source, origin());
    let script = Script::new().otherwise(ok("done"));
    let one = tower::limit::ConcurrencyLimit::new(Told(script.clone()), 1);
    let waiting = tokio::spawn(layer.layer(one.clone()).oneshot(get()));
    settled().await;
    let mut own = get();
    own.headers_mut().insert("authorization", "Bearer sk-own".parse().unwrap());
    assert_eq!(layer.layer(one).oneshot(own).await.unwrap().status(), 200);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_costs_the_others_nothing() {
    let (source, asked) = tokens(None, secs(20.0));
    let layer = KeyCheckLayer::new(source, origin());
    let script = Script::new().otherwise(ok("done"));
    let first = tokio::spawn(layer.layer(Told(script.clone())).oneshot(get()));
    settled().await;
    first.abort();
    let start = Instant::now();
    assert_eq!(ask(&layer, &script).await, Ok(200));
    assert_eq!((start.elapsed(), asked.load(Ordering::Relaxed)), (secs(20.0), 1));
}

/// Outside a runtime nothing can be asked; that is an error, and no panic.
#[test]
fn without_a_runtime_it_is_refused() {
    let layer = KeyCheckLayer::new(tokens(None, secs(1.0)).0, origin());
    let mut service = layer.layer(Told(Script::new()));
    let answer = crate::common::poll_once(service.call(get()));
    let std::task::Poll::Ready(Err(error)) = answer else { panic!("not refused") };
    rejected(&error);
}

/// A key of a pool that comes from a function is waited for only when there is no other.
#[tokio::test(start_paused = true)]
async fn a_sound_key_goes_before_one_that_has_to_be_asked_for() {
    let (source, asked) = tokens(None, secs(10.0));
    let layer = KeyCheckLayer::new(source, origin()).with_key(named_key("sk-token-100"));
    let script = Script::new().then(told(401, ErrorKind::Authentication, RetryHint::Never)).otherwise(ok("done"));
    assert_eq!(ask(&layer, &script).await, Ok(401));
    assert_eq!((used(&script), asked.load(Ordering::Relaxed)), (vec!["100".to_owned()], 0));
    assert_eq!(ask(&layer, &script).await, Ok(200));
    assert_eq!(used(&script), ["100", "1"]);
}

/// Renewal was begun before the 401, and so knows nothing of it: it is no answer to it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_asked_for_before_the_refusal_is_none() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = KeySource::function(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(if number == 1 { secs(5.0) } else { ms(1) }).await;
            let key = named_key(if number < 2 { "sk-token-1" } else { "sk-token-2" });
            Ok::<_, BoxError>(Token::new(key).expires_in(secs(100.0)))
        }
    });
    let layer = KeyCheckLayer::new(source, origin());
    assert_eq!(ask(&layer, &takes_from(1)).await, Ok(200));
    sleep(secs(85.0)).await;
    let script = takes_from(2);
    assert_eq!(ask(&layer, &script).await, Ok(401), "and the renewal is under way");
    assert_eq!(ask(&layer, &script).await, Ok(200), "asked again at once");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// That many calls hear of it makes it no more than one failure.
#[tokio::test(start_paused = true)]
async fn many_refusals_of_one_token_count_once() {
    let (source, asked) = tokens(None, ms(1));
    let layer = KeyCheckLayer::new(source, origin());
    let script = Script::new().then_times(20, status(401).delay(secs(1.0))).otherwise(ok("done"));
    let calls: JoinSet<_> = (0..20).map(|_| layer.layer(Told(script.clone())).oneshot(get())).collect();
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().status(), 401);
    }
    assert_eq!(ask(&layer, &script).await, Ok(200), "asked at once, as after one");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// A source that failed for long, and gave another key at last, is not held to it when that one dies.
#[tokio::test(start_paused = true)]
async fn a_new_key_makes_up_for_the_failures_before_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let source = KeySource::function(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move { if number < 5 { Err("down") } else { Ok(named_key(&format!("sk-token-{number}"))) } }
    });
    let (layer, script) = (KeyCheckLayer::new(source, origin()), Script::new().then(status(401)).otherwise(ok("done")));
    while ask(&layer, &script).await.is_err() {
        sleep(ms(500)).await;
    }
    assert_eq!(ask(&layer, &script).await, Ok(200));
    assert_eq!(asked.load(Ordering::Relaxed), 7);
}

/// On several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_a_source_is_asked_once_for_all_who_wait() {
    for _ in 0..20 {
        let (source, asked) = tokens(None, ms(20));
        let layer = KeyCheckLayer::new(source, origin());
        let script = Script::new().otherwise(ok("done"));
        let calls: JoinSet<_> = (0..64).map(|_| layer.layer(Told(script.clone())).oneshot(get())).collect();
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().status(), 200);
        }
        assert_eq!((asked.load(Ordering::Relaxed), script.count()), (1, 64));
    }
}

/// What a source gives is looked at as well as what is given at the start.
#[tokio::test(start_paused = true)]
async fn another_providers_key_from_a_source_is_refused_where_that_is_asked() {
    let openai = || tower_outbound::Origin::parse("https://api.openai.com").unwrap();
    let source = || KeySource::function(|| async { Ok::<_, BoxError>(named_key("sk-ant-api03-0123456789")) });
    let request = || {
        let mut request = get();
        *request.uri_mut() = "https://api.openai.com/v1/models".parse().unwrap();
        request
    };
    let lenient = KeyCheckLayer::new(source(), openai());
    assert_eq!(send(&lenient, &Script::new().then(ok("done")), request()).await.unwrap().status(), 200);
    let strict = KeyCheckLayer::new(source(), openai()).deny_warnings().unwrap();
    let script = Script::new();
    let error = send(&strict, &script, request()).await.unwrap_err();
    let said = rejected(&error).1.keys()[0].source_error.clone().expect("why");
    assert!(said.contains("looks like one of Anthropic"), "{said}");
    script.assert_sent(0);
}
