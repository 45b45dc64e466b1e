//! Looks at a key that is out of use: how often, and what they prove.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};
use tower_outbound::{
    ErrorClassifyLayer, ErrorKind, RetryHint,
    backoff_retry::BackoffRetryLayer,
    key_check::{KeyCheckLayer, KeyState},
    mock::{Script, Step, status},
    provider::OpenAi,
};

use super::{ask, layer, named_key};
use crate::common::{Told, get, ms, secs, told};

/// The status that comes out of one call that can go again, and how often it went.
async fn retried(layer: &KeyCheckLayer, answer: Step) -> (u16, usize) {
    let script = Script::new().otherwise(answer);
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(layer).service(Told(script.clone()));
    let status = stack.oneshot(get()).await.unwrap().status();
    (status.as_u16(), script.count())
}

fn pool(size: usize) -> KeyCheckLayer {
    let layer = layer().recheck(Duration::ZERO).spent_recheck(Duration::ZERO);
    (1..size).fold(layer, |layer, number| layer.with_key(named_key(&format!("sk-key-{number}"))))
}

/// It would be sent with the same key until the retry gives up.
#[tokio::test(start_paused = true)]
async fn a_call_tries_each_key_once_however_soon_it_may_be_looked_at() {
    for (code, kind) in [(401, ErrorKind::Authentication), (429, ErrorKind::QuotaExhausted)] {
        for size in 1..=3 {
            let layer = pool(size);
            // The last are slower than the least between two looks.
            for delay in [0, 0, 150, 150] {
                let answer = told(code, kind, RetryHint::Never).delay(ms(delay));
                assert_eq!(retried(&layer, answer).await, (code, size), "{kind} {delay}");
                sleep(secs(1.0)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn looks_are_a_tenth_of_a_second_apart_at_the_least() {
    let at_once = told(429, ErrorKind::QuotaExhausted, RetryHint::After(Duration::ZERO));
    for answer in [status(401), at_once] {
        let (layer, script) = (pool(1), Script::new().otherwise(answer));
        let start = Instant::now();
        while start.elapsed() < ms(300) {
            let _ = ask(&layer, &script).await;
            sleep(ms(1)).await;
        }
        script.assert_times([ms(0), ms(100), ms(200)]);
    }
}

/// Of three that are out of use, the first call that may look finds the one that is well.
#[tokio::test(start_paused = true)]
async fn a_call_goes_on_to_the_keys_that_were_due_before() {
    let layer = layer().with_key(named_key("sk-key-b")).with_key(named_key("sk-key-c"));
    assert_eq!(retried(&layer, status(401)).await, (401, 3));
    sleep(secs(60.0)).await;
    let script = Script::new().otherwise(super::knows("sk-key-c"));
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&layer).service(Told(script.clone()));
    assert_eq!(stack.oneshot(get()).await.unwrap().status(), 200);
    script.assert_sent(3);
    let states: Vec<_> = layer.snapshot().iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Rejected, KeyState::Rejected, KeyState::Sound]);
}

/// Whether the key is in use again after one call that looked, and that got this answer.
async fn is_proven_by(answer: Step) -> bool {
    let layer = layer();
    assert_eq!(ask(&layer, &Script::new().then(status(401))).await, Ok(401));
    sleep(secs(60.0)).await;
    let script = Script::new().then(answer);
    let service = ServiceBuilder::new().layer(&layer).layer(ErrorClassifyLayer::new(OpenAi)).service(script.clone());
    service.oneshot(get()).await.unwrap();
    script.assert_sent(1);
    layer.snapshot()[0].state != KeyState::Rejected
}

fn json(code: u16, body: &'static str) -> Step {
    status(code).header("content-type", "application/json").body(body)
}

#[tokio::test(start_paused = true)]
async fn what_the_api_itself_says_proves_a_key() {
    for code in [200, 201, 204, 299, 101, 400, 404, 409, 422, 429] {
        assert!(is_proven_by(status(code)).await, "{code}");
    }
    let permission = r#"{"error":{"message":"not here","type":"request_forbidden","code":"unsupported_country"}}"#;
    assert!(is_proven_by(json(403, permission)).await);
}

/// A network that wants a login, a proxy, a firewall: whoever it was, he did not look at the key.
#[tokio::test(start_paused = true)]
async fn what_may_stand_before_the_api_proves_nothing() {
    for code in [300, 301, 302, 303, 304, 307, 308, 403, 405, 407, 408, 421, 431, 451, 500, 502, 503, 504, 511, 529] {
        assert!(!is_proven_by(status(code)).await, "{code}");
    }
    let page = status(403).header("content-type", "text/html").body("<title>Blocked</title>");
    assert!(!is_proven_by(page).await);
}

#[tokio::test(start_paused = true)]
async fn after_a_redirect_the_next_call_looks_and_no_other_goes() {
    let layer = layer();
    assert_eq!(ask(&layer, &Script::new().then(status(401))).await, Ok(401));
    sleep(secs(60.0)).await;
    let script = Script::new().then(status(302)).then(status(401));
    let all: Vec<_> = [ask(&layer, &script).await, ask(&layer, &script).await, ask(&layer, &script).await].into();
    assert_eq!(all, [Ok(302), Ok(401), Err(())]);
}
