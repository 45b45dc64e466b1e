//! Its future dropped at any point: nothing is held after, and nothing is sent.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Waker},
};

use tokio::time::{Duration, sleep, timeout};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit};
use tower_outbound::mock::{Script, Step, ok};

use super::{every_second, limited, overloaded};
use crate::common::{Counted, Endless, Open, Told, again, get, ms, ready, secs};

/// Drops the call after so long; says how many calls were sent then, and that no permit and no body was kept.
async fn dropped_after(script: Script, time: Duration) -> usize {
    let (counted, open) = Counted::new(Told(script.clone()));
    let mut limited = ConcurrencyLimit::new(counted, 1);
    let call = every_second().layer(limited.clone()).oneshot(get());
    let call = tokio::spawn(call);
    sleep(time).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(open.now(), 0, "a body is held");
    let sent = script.count();
    sleep(secs(600.0)).await;
    assert_eq!(script.count(), sent, "something was sent after the end");
    timeout(secs(60.0), ready(&mut limited)).await.expect("the permit is free");
    sent
}

fn slow() -> Step {
    ok("slow").delay(secs(60.0))
}

#[tokio::test(start_paused = true)]
async fn in_flight() {
    assert_eq!(dropped_after(Script::new().then(slow()), secs(1.0)).await, 1);
    assert_eq!(dropped_after(Script::new().then(overloaded()).then(slow()), secs(2.0)).await, 2);
    assert_eq!(dropped_after(Script::new().then(again(0)).then(slow()), secs(2.0)).await, 2);
}

#[tokio::test(start_paused = true)]
async fn in_its_wait() {
    assert_eq!(dropped_after(Script::new().then(limited(secs(60.0))), secs(30.0)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_service_is_not_ready() {
    let script = Script::new().ready_after(secs(10.0)).then(overloaded());
    assert_eq!(dropped_after(script, secs(15.0)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_rest_of_an_answer_is_read() {
    let open = Open::default();
    let bodies = open.clone();
    let service = tower::service_fn(move |_: http::Request<crate::common::Text>| {
        let mut response = http::Response::new(bodies.body(Endless::new(b"x", ms(10))));
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        std::future::ready(Ok::<_, tower::BoxError>(response))
    });
    let call = tokio::spawn(every_second().layer(service).oneshot(get()));
    sleep(ms(500)).await;
    assert!((10..100).contains(&open.bytes()), "it is being read: {} bytes", open.bytes());
    call.abort();
    assert!(call.await.is_err());
    assert_eq!(open.now(), 0);
}

#[tokio::test(start_paused = true)]
async fn before_it_was_ever_polled() {
    let script = Script::new().then(ok("done"));
    let mut limited = ConcurrencyLimit::new(Told(script.clone()), 1);
    let mut service = every_second().layer(limited.clone());
    drop(ready(&mut service).await.call(get()));
    timeout(secs(60.0), ready(&mut limited)).await.expect("the permit is free");
    script.assert_sent(1);
}

/// Dropped after each number of polls there is, whatever state that is.
#[tokio::test(start_paused = true)]
async fn after_any_number_of_polls() {
    for polls in 0..40 {
        let script = Script::new()
            .ready_after(ms(3))
            .then(overloaded().body("sorry").delay(ms(2)))
            .then(again(0).body("wait"))
            .then(limited(ms(1500)).body("sorry"))
            .then(ok("done"));
        let (counted, open) = Counted::new(Told(script));
        let mut limited = ConcurrencyLimit::new(counted, 1);
        let mut call: Pin<Box<_>> = Box::pin(every_second().layer(limited.clone()).oneshot(get()));
        let mut ended = false;
        for _ in 0..polls {
            if ended {
                break;
            }
            ended = call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            sleep(ms(200)).await;
        }
        drop(call);
        assert_eq!(open.now(), 0, "after {polls} polls");
        timeout(secs(60.0), ready(&mut limited)).await.expect("the permit is free");
        assert!(ended || polls < 30, "it should have ended long since");
    }
}
