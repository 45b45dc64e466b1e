//! A key that the server refuses: calls are refused at once, and one at a time looks whether it is well again.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_outbound::{
    ErrorKind, RetryHint,
    key_check::{ApiKey, KeyCheckLayer, KeyState, Origin},
    mock::{Script, Step, ok, status},
};

use super::{KEY, ask, key, knows, layer, rejected, send};
use crate::common::{Told, get, ms, request, secs, told};

/// A layer whose key has just been refused.
async fn dead() -> KeyCheckLayer {
    let layer = layer();
    assert_eq!(ask(&layer, &Script::new().then(status(401))).await, Ok(401));
    layer
}

#[tokio::test(start_paused = true)]
async fn the_answer_that_refuses_it_comes_out_and_the_next_calls_are_not_sent() {
    let layer = dead().await;
    let script = Script::new();
    for _ in 0..100 {
        assert_eq!(ask(&layer, &script).await, Err(()));
    }
    script.assert_sent(0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why_and_when_to_ask_again() {
    let layer = dead().await;
    sleep(secs(20.0)).await;
    let error = send(&layer, &Script::new(), get()).await.unwrap_err();
    let (refused, reason) = rejected(&error);
    assert_eq!(refused.wait(), Some(secs(40.0)));
    let [only] = reason.keys() else { panic!("{reason:?}") };
    assert_eq!((only.fingerprint.clone(), only.state), (Some(key().fingerprint()), KeyState::Rejected));
    assert_eq!(only.error.as_ref().and_then(|error| error.status()).map(|status| status.as_u16()), Some(401));
    let expected = format!(
        "refused by the key check: the key {} was refused by the server (401 authentication: check the key), looked at \
         again in 40.0s",
        key().fingerprint()
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_classified_refusal_counts_whatever_its_status() {
    for (code, kind, is_dead) in [
        (400, ErrorKind::Authentication, true),
        (403, ErrorKind::Authentication, true),
        (429, ErrorKind::QuotaExhausted, true),
        (429, ErrorKind::RateLimit, false),
        (403, ErrorKind::Unknown, false),
    ] {
        let layer = layer();
        let script = Script::new().then(told(code, kind, RetryHint::Never)).otherwise(ok("done"));
        assert_eq!(ask(&layer, &script).await, Ok(code));
        assert_eq!(ask(&layer, &script).await.is_err(), is_dead, "{code} {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_but_a_refusal_of_the_key_makes_it_refuse() {
    let harmless = [400, 403, 404, 407, 408, 409, 413, 422, 429, 500, 502, 503, 511, 529];
    let steps = harmless.into_iter().map(status).chain([crate::common::again(0), tower_outbound::mock::dropped()]);
    let layer = layer();
    for step in steps {
        let _ = send(&layer, &Script::new().then(step), get()).await;
        assert_eq!(ask(&layer, &Script::new().then(ok("done"))).await, Ok(200));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_never_makes_it_refuse_however_often() {
    let layer = layer();
    let script = Script::new().then_times(100, told(429, ErrorKind::RateLimit, RetryHint::Backoff)).then(ok("done"));
    for _ in 0..100 {
        assert_eq!(ask(&layer, &script).await, Ok(429));
    }
    assert_eq!(layer.snapshot()[0].state, KeyState::Cooling);
    assert_eq!(ask(&layer, &script).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_401_to_another_key_or_another_host_says_nothing_of_this_one() {
    let layer = layer();
    let mut own = get();
    own.headers_mut().insert("authorization", "Bearer sk-own".parse().unwrap());
    let mut elsewhere = get();
    *elsewhere.uri_mut() = "https://other.example/".parse().unwrap();
    for request in [own, elsewhere] {
        assert_eq!(send(&layer, &Script::new().then(status(401)), request).await.unwrap().status(), 401);
        assert_eq!(ask(&layer, &Script::new().then(ok("done"))).await, Ok(200));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_carry_no_key_of_ours_pass_while_it_is_dead() {
    let layer = dead().await;
    let mut own = request(http::Method::GET, "");
    own.headers_mut().insert("authorization", "Bearer sk-own".parse().unwrap());
    let script = Script::new().then(ok("done"));
    assert_eq!(send(&layer, &script, own).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn one_call_looks_each_minute() {
    let layer = layer();
    let script = Script::new().otherwise(status(401));
    let start = Instant::now();
    let mut sent = Vec::new();
    while start.elapsed() < secs(300.0) {
        if ask(&layer, &script).await == Ok(401) {
            sent.push(start.elapsed().as_secs());
        }
        sleep(ms(500)).await;
    }
    assert_eq!(sent, [0, 60, 120, 180, 240]);
    script.assert_sent(5);
}

#[tokio::test(start_paused = true)]
async fn the_time_between_looks_can_be_set() {
    let layer = layer().recheck(secs(5.0));
    let script = Script::new().otherwise(status(401));
    for _ in 0..100 {
        let _ = ask(&layer, &script).await;
        sleep(ms(100)).await;
    }
    script.assert_times([secs(0.0), secs(5.0)]);
}

#[tokio::test(start_paused = true)]
async fn never_to_look_again_can_be_set_too() {
    let layer = layer().recheck(Duration::MAX);
    let script = Script::new().otherwise(status(401));
    for _ in 0..10 {
        let _ = ask(&layer, &script).await;
        sleep(secs(1e5)).await;
    }
    script.assert_sent(1);
}

#[tokio::test(start_paused = true)]
async fn found_well_it_is_used_again_by_all_at_once() {
    let layer = dead().await;
    let script = Script::new().otherwise(knows(KEY));
    assert_eq!(ask(&layer, &script).await, Err(()));
    sleep(secs(60.0)).await;
    for _ in 0..10 {
        assert_eq!(ask(&layer, &script).await, Ok(200));
    }
}

fn slow(step: Step) -> Step {
    step.delay(secs(10.0))
}

#[tokio::test(start_paused = true)]
async fn only_one_looks_at_a_time() {
    let layer = dead().await;
    sleep(secs(60.0)).await;
    let script = Script::new().then(slow(status(401)));
    let probe = tokio::spawn(layer.layer(Told(script.clone())).oneshot(get()));
    tokio::task::yield_now().await;
    for _ in 0..9 {
        assert_eq!(ask(&layer, &script).await, Err(()));
        sleep(secs(1.0)).await;
    }
    assert_eq!(probe.await.unwrap().unwrap().status(), 401);
    sleep(secs(59.0)).await;
    assert_eq!(ask(&layer, &script).await, Err(()), "a minute from the look's answer");
    script.assert_sent(1);
}

/// "Ask again at once" would be a lie, and who believes it spins.
#[tokio::test(start_paused = true)]
async fn while_one_looks_nobody_can_know_when_to_ask_again() {
    let layer = dead().await;
    sleep(secs(60.0)).await;
    let _probe = tokio::spawn(layer.layer(Told(Script::new().then(slow(ok("done"))))).oneshot(get()));
    tokio::task::yield_now().await;
    let error = send(&layer, &Script::new(), get()).await.unwrap_err();
    assert_eq!(rejected(&error).0.wait(), None);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_given_up_leaves_the_chance_to_another() {
    let layer = dead().await;
    sleep(secs(60.0)).await;
    let script = Script::new().then(slow(ok("never seen"))).otherwise(ok("well again"));
    let probe = tokio::spawn(layer.layer(Told(script.clone())).oneshot(get()));
    sleep(secs(1.0)).await;
    assert_eq!(ask(&layer, &script).await, Err(()));
    probe.abort();
    assert!(probe.await.is_err());
    assert_eq!(ask(&layer, &script).await, Ok(200));
}

/// Not even sent, because the service under it was not polled: as if there had been none.
#[tokio::test(start_paused = true)]
async fn a_look_that_is_never_polled_leaves_the_chance_to_another() {
    let layer = dead().await;
    sleep(secs(60.0)).await;
    let script = Script::new().otherwise(ok("well again"));
    let mut service = layer.layer(Told(script.clone()));
    let unpolled = tower::Service::call(crate::common::ready(&mut service).await, get());
    assert_eq!(ask(&layer, &script).await, Err(()));
    drop(unpolled);
    assert_eq!(ask(&layer, &script).await, Ok(200));
}

/// A 500, or no answer, says nothing of the key: it is neither well nor newly refused.
#[tokio::test(start_paused = true)]
async fn a_look_without_a_verdict_leaves_the_chance_to_the_next() {
    let layer = dead().await;
    sleep(secs(60.0)).await;
    let script = Script::new().then(status(500)).then(tower_outbound::mock::dropped()).then(slow(status(503)));
    assert_eq!(ask(&layer, &script).await, Ok(500));
    assert!(send(&layer, &script, get()).await.is_err());
    let third = tokio::spawn(layer.layer(Told(script.clone())).oneshot(get()));
    tokio::task::yield_now().await;
    assert_eq!(ask(&layer, &script).await, Err(()), "still dead, and one looks");
    assert_eq!(third.await.unwrap().unwrap().status(), 503);
}

/// Answers to calls that left before the look found it well.
#[tokio::test(start_paused = true)]
async fn a_late_401_from_before_says_nothing_of_the_key_now() {
    let layer = layer();
    let script = Script::new().then(status(401).delay(secs(100.0))).then(status(401)).otherwise(ok("well again"));
    let late = tokio::spawn(layer.layer(Told(script.clone())).oneshot(get()));
    tokio::task::yield_now().await;
    assert_eq!(ask(&layer, &script).await, Ok(401));
    sleep(secs(60.0)).await;
    assert_eq!(ask(&layer, &script).await, Ok(200));
    assert_eq!(late.await.unwrap().unwrap().status(), 401);
    assert_eq!(ask(&layer, &script).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_late_success_from_before_does_not_revive_it() {
    let layer = layer();
    let script = Script::new().then(ok("old").delay(secs(10.0))).then(status(401));
    let late = tokio::spawn(layer.layer(Told(script.clone())).oneshot(get()));
    tokio::task::yield_now().await;
    assert_eq!(ask(&layer, &script).await, Ok(401));
    assert_eq!(late.await.unwrap().unwrap().status(), 200);
    assert_eq!(ask(&layer, &script).await, Err(()));
}

#[tokio::test(start_paused = true)]
async fn a_key_can_die_and_be_well_again_many_times() {
    let layer = layer();
    for _ in 0..20 {
        assert_eq!(ask(&layer, &Script::new().then(status(401))).await, Ok(401));
        assert_eq!(ask(&layer, &Script::new()).await, Err(()));
        sleep(secs(60.0)).await;
        let script = Script::new().otherwise(ok("well again"));
        assert_eq!((ask(&layer, &script).await, ask(&layer, &script).await), (Ok(200), Ok(200)));
    }
}

/// A layer applied twice, or once per request, and its clones: what one learns all know.
#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_key_is_shared() {
    let layer = dead().await;
    let script = Script::new();
    for other in [layer.clone(), layer.clone().clone()] {
        assert_eq!(ask(&other, &script).await, Err(()));
    }
    let another = KeyCheckLayer::new(ApiKey::new("sk-another").unwrap(), Origin::parse("https://api.example").unwrap());
    assert_eq!(ask(&another, &Script::new().then(ok("done"))).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_ends_though_the_service_below_would_not() {
    let layer = dead().await;
    let script = Script::new().then(tower_outbound::mock::never());
    assert_eq!(ask(&layer, &script).await, Err(()));
    script.assert_sent(0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_keeps_no_permit() {
    let (layer, elsewhere) = (dead().await, layer().elsewhere(tower_outbound::key_check::Elsewhere::Refuse));
    let mut away = get();
    *away.uri_mut() = "https://other.example/".parse().unwrap();
    for (layer, request) in [(layer, get()), (elsewhere, away)] {
        let limit = tower::limit::GlobalConcurrencyLimitLayer::new(1);
        let mut service = layer.layer(limit.layer(Told(Script::new())));
        let call = tower::Service::call(crate::common::ready(&mut service).await, request);
        assert!(call.await.is_err());
        let mut other = limit.layer(Told(Script::new()));
        let other = crate::common::ready(&mut other);
        tokio::time::timeout(secs(60.0), other).await.expect("no deadlock");
    }
}

/// A caller's own organization that the key is not of: no fault of the key.
#[tokio::test(start_paused = true)]
async fn a_callers_own_organization_does_not_kill_the_key() {
    use tower_outbound::{ErrorClassifyLayer, provider::OpenAi};
    for code in ["mismatched_organization", "invalid_organization", "no_organization"] {
        let body = format!(r#"{{"error":{{"message":"no","type":"invalid_request_error","code":"{code}"}}}}"#);
        let refusal = status(401).header("content-type", "application/json").body(body);
        for (own, is_dead) in [(true, false), (false, true)] {
            let layer = KeyCheckLayer::new(key().with_organization("org-key").unwrap(), super::origin());
            let script = Script::new().then(refusal.clone()).otherwise(ok("done"));
            let stack =
                tower::ServiceBuilder::new().layer(&layer).layer(ErrorClassifyLayer::new(OpenAi)).service(script);
            let mut request = get();
            if own {
                request.headers_mut().insert("openai-organization", "org-mine".parse().unwrap());
            }
            assert_eq!(stack.clone().oneshot(request).await.unwrap().status(), 401);
            assert_eq!(stack.oneshot(get()).await.is_err(), is_dead, "{code}");
        }
    }
}
