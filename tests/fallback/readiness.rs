//! Services that do not get ready.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tokio::{sync::Semaphore, time::Instant};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer},
};
use tower_outbound::{
    ErrorKind,
    fallback::Breaker,
    mock::{Script, ok, status},
};

use super::{Fallback, ask, report, second, send};
use crate::common::{Told, get, ms, ready, secs};

#[tokio::test(start_paused = true)]
async fn a_first_that_fails_to_get_ready_is_covered() {
    let (layer, others) = second();
    let layer = layer.cover(|_| false).breaker(Breaker::new().failures(2));
    let closed = Script::new().closed_after(0);
    for _ in 0..3 {
        assert_eq!(ask(&layer, &closed).await, "second");
    }
    assert_eq!((closed.count(), others.count()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_first_that_is_never_ready_is_waited_for_once() {
    let (layer, _) = second();
    let mut service = layer.ready_within(secs(3.0)).layer(Told(Script::new().never_ready_after(0)));
    for waited in [3.0, 0.0, 0.0] {
        let begun = Instant::now();
        let response = ready(&mut service).await.call(get()).await.unwrap();
        assert_eq!(begun.elapsed(), secs(waited));
        assert_eq!(report(&response).why.kind(), ErrorKind::Timeout);
        // A clone knows it, too.
        service = service.clone();
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_that_gets_ready_again_is_asked_again() {
    let (layer, others) = second();
    let semaphore = Arc::new(Semaphore::new(1));
    let taken = semaphore.clone().acquire_owned().await.unwrap();
    let first = ServiceBuilder::new()
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(semaphore))
        .service(Told(Script::new().otherwise(ok("first"))));
    let mut service = layer.ready_within(secs(1.0)).layer(first);
    ready(&mut service).await.call(get()).await.unwrap();
    ready(&mut service).await.call(get()).await.unwrap();
    assert_eq!(others.count(), 2);
    drop(taken);
    ready(&mut service).await.call(get()).await.unwrap();
    assert_eq!(others.count(), 2);
}

#[test]
fn with_nobody_to_ask_readiness_is_the_firsts_own() {
    let poll = |script: Script| {
        let mut service = Fallback::new().layer(Told(script));
        service.poll_ready(&mut Context::from_waker(Waker::noop())).map(|ready| ready.is_ok())
    };
    assert_eq!(poll(Script::new().never_ready_after(0)), Poll::Pending);
    assert_eq!(poll(Script::new().closed_after(0)), Poll::Ready(false));
    assert_eq!(poll(Script::new()), Poll::Ready(true));
}

#[tokio::test(start_paused = true)]
async fn another_is_called_only_when_it_says_that_it_is_ready() {
    let slow = Script::new().strict().ready_after(ms(50)).otherwise(ok("slow"));
    let layer = Fallback::new().service("slow", Told(slow.clone()));
    let first = Script::new().strict().otherwise(status(503));
    for _ in 0..2 {
        assert_eq!(ask(&layer, &first).await, "slow");
    }
    assert!(slow.wrongs().is_empty() && first.wrongs().is_empty());
}

/// The same limit over both: the first's permit is given back before the second asks for one.
#[tokio::test(start_paused = true)]
async fn over_a_shared_limit_of_one_nothing_hangs() {
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::new(Semaphore::new(1)));
    let other = limit.layer(Told(Script::new().otherwise(ok("second"))));
    let layer = Fallback::new().service("second", other);
    let first = limit.layer(Told(Script::new().otherwise(status(503))));
    let service = layer.layer(first);
    let calls = (0..5).map(|_| service.clone().oneshot(get()));
    let all = futures_util::future::join_all(calls);
    let answers = tokio::time::timeout(secs(60.0), all).await.expect("no deadlock");
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
}

#[tokio::test(start_paused = true)]
async fn under_a_limit_of_its_own_it_gives_back_what_it_took() {
    let (layer, _) = second();
    let stack = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).layer(layer);
    let service = stack.service(Told(Script::new().otherwise(status(503))));
    for _ in 0..3 {
        assert_eq!(service.clone().oneshot(get()).await.unwrap().status(), 200);
    }
    let (layer, _) = second();
    assert!(send(&layer, &Script::new().then(ok("first")), get()).await.is_ok());
}

/// While the breaker is open, the first is not called: the permit that it got to be ready must not keep the second out.
#[tokio::test(start_paused = true)]
async fn over_a_shared_limit_an_open_breaker_keeps_no_permit() {
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::new(Semaphore::new(1)));
    let other = limit.layer(Told(Script::new().otherwise(ok("second"))));
    let layer = Fallback::new().breaker(Breaker::new().failures(1)).service("second", other);
    let script = Script::new().otherwise(status(503));
    let mut service = layer.layer(limit.layer(Told(script.clone())));
    for _ in 0..5 {
        let call = ready(&mut service).await.call(get());
        let answer = tokio::time::timeout(secs(60.0), call).await.expect("no deadlock");
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(script.count(), 1);
}

/// A first that stood in line too long leaves it: a permit that it got unseen would keep the second out.
#[tokio::test(start_paused = true)]
async fn over_a_shared_limit_one_that_is_not_waited_for_stands_in_no_line() {
    let semaphore = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&semaphore));
    let other = limit.layer(Told(Script::new().otherwise(ok("second"))));
    let layer = Fallback::new().ready_within(secs(1.0)).service("second", other);
    let mut service = layer.layer(limit.layer(Told(Script::new().otherwise(ok("first")))));
    let taken = semaphore.acquire_owned().await.unwrap();
    let call = ready(&mut service).await.call(get());
    let call = tokio::spawn(tokio::time::timeout(secs(60.0), call));
    tokio::time::sleep(secs(1.0)).await;
    drop(taken);
    assert_eq!(call.await.unwrap().expect("no deadlock").unwrap().status(), 200);
}
