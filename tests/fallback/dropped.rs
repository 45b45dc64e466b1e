//! Futures that are dropped, wherever they are.

use tower::{Layer, Service};
use tower_outbound::{
    fallback::LastGood,
    mock::{Script, never, ok, status},
};

use super::Fallback;
use crate::common::{Counted, Open, Told, get, poll_once, ready};

#[tokio::test(start_paused = true)]
async fn the_call_under_way_is_dropped_with_it() {
    for (first, others) in [(never(), 0), (status(503), 1)] {
        let second = Script::new().otherwise(never());
        let layer = Fallback::new().service("second", Told(second.clone()));
        let mut service = layer.layer(Told(Script::new().then(first).otherwise(ok("first"))));
        let mut call = Box::pin(ready(&mut service).await.call(get()));
        for _ in 0..20 {
            assert!(poll_once(call.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        drop(call);
        assert_eq!(second.count(), others);
        assert_eq!(ready(&mut service).await.call(get()).await.unwrap().status(), 200);
    }
}

/// A failed response is held only until another has answered, and an answer that nobody reads is not kept.
#[tokio::test(start_paused = true)]
async fn no_body_is_held_for_longer_than_it_is_needed() {
    let (first, open): (_, Open) = Counted::new(Told(Script::new().then(status(503)).otherwise(ok("first"))));
    let (second, others) = Counted::new(Told(Script::new().otherwise(ok("second"))));
    let answers = LastGood::new();
    let layer = tower_outbound::fallback::FallbackLayer::new().service("second", second).last_good(answers.clone());
    let mut service = layer.layer(first);
    let response = ready(&mut service).await.call(get()).await.unwrap();
    assert_eq!((open.now(), others.now()), (0, 1));
    drop(response);
    assert_eq!(others.now(), 0);
    drop(ready(&mut service).await.call(get()).await.unwrap());
    assert_eq!(open.now(), 0);
    assert!(answers.is_empty());
}
