//! The breaker: a host that fails is left alone, and looked at by one call at a time.

use tokio::time::advance;
use tower::{Layer, Service};
use tower_outbound::{
    ErrorKind, Gate, Refused, RetryHint, failure,
    fallback::{Breaker, BreakerOpen, BreakerState},
    find_cause,
    mock::{Script, dropped, never, ok, status},
};

use super::{Fallback, ask, report, second, send};
use crate::common::{Told, get, poll_once, ready, refused, secs, told};

fn breaker() -> Breaker {
    Breaker::new().failures(3).open_for(secs(5.0))
}

fn state(breaker: &Breaker) -> BreakerState {
    breaker.snapshot()[0].state
}

#[tokio::test(start_paused = true)]
async fn after_enough_failures_calls_go_straight_to_another() {
    let breaker = breaker();
    let (layer, others) = second();
    let layer = layer.breaker(breaker.clone());
    let first = Script::new().then_times(3, status(503)).otherwise(ok("first"));
    for call in 1..=10 {
        assert_eq!(ask(&layer, &first).await, "second");
        assert_eq!(first.count(), call.min(3));
    }
    assert_eq!(others.count(), 10);
    let seen = &breaker.snapshot()[0];
    assert_eq!(
        (seen.host.as_str(), seen.state, seen.failed, seen.wait),
        ("api.example", BreakerState::Open, 3, Some(secs(5.0)))
    );
    advance(secs(5.0)).await;
    assert_eq!(ask(&layer, &first).await, "first");
    assert_eq!(state(&breaker), BreakerState::Closed);
    assert_eq!(ask(&layer, &first).await, "first");
}

#[tokio::test(start_paused = true)]
async fn one_call_at_a_time_looks_whether_it_is_well_again() {
    let breaker = breaker();
    let (layer, _) = second();
    let first = Script::new().then_times(3, status(503)).then(never()).then(status(500)).otherwise(ok("first"));
    let mut service = layer.breaker(breaker.clone()).layer(Told(first.clone()));
    for _ in 0..3 {
        ready(&mut service).await.call(get()).await.unwrap();
    }
    advance(secs(5.0)).await;
    let mut probe = Box::pin(ready(&mut service).await.call(get()));
    assert!(poll_once(probe.as_mut()).is_pending());
    assert_eq!(state(&breaker), BreakerState::Probing);
    for _ in 0..5 {
        assert_eq!(ready(&mut service).await.call(get()).await.unwrap().status(), 200);
    }
    assert_eq!(first.count(), 4, "one probe");
    // Dropped, it leaves its place to the next, which fails: that opens it for as long again.
    drop(probe);
    ready(&mut service).await.call(get()).await.unwrap();
    assert_eq!((first.count(), state(&breaker)), (5, BreakerState::Open));
    advance(secs(4.9)).await;
    ready(&mut service).await.call(get()).await.unwrap();
    assert_eq!(first.count(), 5);
    advance(secs(0.1)).await;
    ready(&mut service).await.call(get()).await.unwrap();
    assert_eq!((first.count(), state(&breaker)), (6, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_fault_of_the_server_never_trips_it() {
    for step in [
        status(400),
        status(401),
        status(403),
        status(404),
        status(409),
        status(413),
        status(422),
        status(429),
        told(429, ErrorKind::QuotaExhausted, RetryHint::Never),
        refused(),
    ] {
        let breaker = breaker();
        let layer = Fallback::new().breaker(breaker.clone());
        let first = Script::new().otherwise(step);
        for _ in 0..20 {
            let _ = send(&layer, &first, get()).await;
        }
        assert_eq!((first.count(), state(&breaker)), (20, BreakerState::Closed));
    }
}

#[tokio::test(start_paused = true)]
async fn it_takes_enough_failures_in_the_window_and_half_of_the_calls() {
    let after = async |steps: &[bool], apart: f64| {
        let breaker = breaker().window(secs(10.0));
        let layer = Fallback::new().breaker(breaker.clone());
        for good in steps {
            let _ = send(&layer, &Script::new().then(if *good { ok("") } else { dropped() }), get()).await;
            advance(secs(apart)).await;
        }
        state(&breaker)
    };
    assert_eq!(after(&[false, false], 0.0).await, BreakerState::Closed);
    assert_eq!(after(&[false, false, false], 0.0).await, BreakerState::Open);
    assert_eq!(after(&[false, false, false], 5.5).await, BreakerState::Closed);
    assert_eq!(after(&[true, true, true, true, false, false, false], 0.0).await, BreakerState::Closed);
    assert_eq!(after(&[true, true, true, false, false, false], 0.0).await, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn with_nobody_to_ask_it_fails_fast() {
    let layer = Fallback::new().breaker(breaker());
    let first = Script::new().otherwise(status(500));
    for _ in 0..3 {
        assert_eq!(ask(&layer, &first).await, "500");
    }
    let error = send(&layer, &first, get()).await.unwrap_err();
    let refused: &Refused = find_cause(&*error).unwrap();
    assert_eq!((refused.by(), refused.wait()), (Gate::Breaker, Some(secs(5.0))));
    assert_eq!(find_cause::<BreakerOpen>(&*error).unwrap().host(), "api.example");
    assert_eq!(failure(&Err::<http::Response<()>, _>(error)).unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(first.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_the_server_keeps_it_open_as_long() {
    let breaker = breaker().failures(1);
    let layer = Fallback::new().breaker(breaker.clone());
    let first = Script::new().then(status(503).retry_after(30)).otherwise(ok("first"));
    ask(&layer, &first).await;
    assert_eq!(breaker.snapshot()[0].wait, Some(secs(30.0)));
}

/// A probe without an answer for a minute is given up for lost; what it says after all is old.
#[tokio::test(start_paused = true)]
async fn a_probe_given_up_for_lost_has_no_say_in_what_the_next_one_finds() {
    let breaker = breaker().failures(1);
    let layer = Fallback::new().breaker(breaker.clone());
    let first =
        Script::new().then(status(503)).then(ok("late").delay(secs(100.0))).then(never()).otherwise(ok("first"));
    ask(&layer, &first).await;
    advance(secs(5.0)).await;
    let mut one = layer.layer(Told(first.clone()));
    let mut lost = Box::pin(ready(&mut one).await.call(get()));
    assert!(poll_once(lost.as_mut()).is_pending());
    advance(secs(61.0)).await;
    let mut two = layer.layer(Told(first.clone()));
    let mut next = Box::pin(ready(&mut two).await.call(get()));
    assert!(poll_once(next.as_mut()).is_pending());
    advance(secs(39.0)).await;
    assert_eq!(lost.await.unwrap().status(), 200);
    assert_eq!(state(&breaker), BreakerState::Probing, "the next has not found it well");
    assert!(send(&layer, &first, get()).await.is_err());
}

/// As under a stack with a base URL.
#[tokio::test(start_paused = true)]
async fn a_path_alone_is_watched_by_its_host_header_or_without_a_name() {
    for (header, expected) in [(Some("Api.Example"), "api.example"), (None, "(unnamed)")] {
        let breaker = breaker();
        let layer = Fallback::new().breaker(breaker.clone());
        let first = Script::new().otherwise(status(503));
        let path = || {
            let mut request = get();
            *request.uri_mut() = "/models".parse().unwrap();
            if let Some(header) = header {
                request.headers_mut().insert("host", header.parse().unwrap());
            }
            request
        };
        for _ in 0..3 {
            assert_eq!(send(&layer, &first, path()).await.unwrap().status(), 503);
        }
        let error = send(&layer, &first, path()).await.unwrap_err();
        assert_eq!(find_cause::<BreakerOpen>(&*error).unwrap().host(), expected);
        assert_eq!(first.count(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_shows_a_users_name_and_password() {
    let breaker = breaker();
    let (layer, _) = second();
    let layer = layer.breaker(breaker.clone());
    let mut request = get();
    *request.uri_mut() = "https://me:sesame@API.example:443/v1".parse().unwrap();
    let response = send(&layer, &Script::new().otherwise(status(503)), request).await.unwrap();
    assert_eq!(report(&response).of, "GET api.example/v1");
    assert_eq!(breaker.snapshot()[0].host, "api.example");
}
