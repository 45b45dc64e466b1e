//! The budget of all calls together.

use std::sync::Arc;

use tower_outbound::{
    ErrorKind,
    backoff_retry::{Attempt, Budget, Decision},
    mock::{Script, dropped, ok},
};

use super::{attempts, every_second, overloaded, send};
use crate::common::{again, get, secs};

/// One layer applied twice, its clones, and layers that were given the same one: all share it.
#[tokio::test(start_paused = true)]
async fn it_is_shared_by_all_it_was_given_to() {
    let budget = Arc::new(Budget::retry_tokens(15));
    let one = every_second().budget(budget.clone());
    let other = attempts(5).budget(budget.clone());
    let script = Script::new().otherwise(overloaded());
    send(&one, &script, get()).await.unwrap();
    let left = budget.tokens_left();
    send(&other, &script, get()).await.unwrap();
    assert_eq!((left, budget.tokens_left(), script.count()), (Some(5), Some(0), 3 + 2));
}

#[tokio::test(start_paused = true)]
async fn a_setting_made_later_keeps_what_was_spent() {
    let layer = every_second().budget(Budget::retry_tokens(10));
    let script = Script::new().otherwise(overloaded());
    send(&layer, &script, get()).await.unwrap();
    send(&layer.max_wait(secs(9.0)), &script, get()).await.unwrap();
    script.assert_sent(3 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_not_made_takes_nothing() {
    let budget = Arc::new(Budget::retry_tokens(5));
    let layer = every_second().budget(budget.clone());
    for step in [super::limited(secs(500.0)), again(500_000)] {
        send(&layer, &Script::new().then(step), get()).await.unwrap();
    }
    send(&layer.clone().max_elapsed(secs(0.5)), &Script::new().then(overloaded()), get()).await.unwrap();
    assert_eq!(budget.tokens_left(), Some(5));
    send(&layer, &Script::new().then(overloaded()).then(ok("done")), get()).await.unwrap();
    assert_eq!(budget.tokens_left(), Some(5), "taken, and given back by the success");
}

/// It was taken when the wait began; what was not sent cost nothing.
#[tokio::test(start_paused = true)]
async fn a_retry_that_is_not_sent_after_all_gives_back_what_it_took() {
    let budget = Arc::new(Budget::retry_tokens(50));
    let layer = every_second().budget(budget.clone());
    let scripts = [
        Script::new().closed_after(1).then(overloaded()),
        Script::new().then(overloaded()).then(crate::common::refused()),
    ];
    for script in scripts {
        send(&layer, &script, get()).await.unwrap_err();
        assert_eq!(budget.tokens_left(), Some(50), "never ready again, or refused by a gate");
    }
    let late = Script::new().never_ready_after(1).then(overloaded());
    send(&layer.clone().max_elapsed(secs(9.0)), &late, get()).await.unwrap_err();
    assert_eq!(budget.tokens_left(), Some(50), "past its deadline");

    let script = Script::new().then(overloaded());
    let call = send(&layer, &script, get());
    assert!(tokio::time::timeout(secs(0.5), call).await.is_err());
    assert_eq!(budget.tokens_left(), Some(50), "dropped while it waited");

    // The one before it was sent, and stays paid for.
    let script = Script::new().closed_after(2).then_times(2, overloaded());
    send(&layer, &script, get()).await.unwrap_err();
    assert_eq!(budget.tokens_left(), Some(45));
}

/// Somebody else's mistake is no retry, and no other call's harm.
#[tokio::test(start_paused = true)]
async fn a_hook_or_a_policy_that_panics_costs_nothing() {
    let budget = Arc::new(Budget::retry_tokens(50));
    let layer = every_second().budget(budget.clone());
    let hook = layer.clone().on_retry(|attempt, _| assert_ne!(attempt.kind, ErrorKind::Overloaded));
    let policy = layer.policy(|attempt: &Attempt<'_>| match attempt.kind {
        ErrorKind::Overloaded => panic!("not this one"),
        _ => Decision::Retry(secs(1.0)),
    });
    for layer in [hook, policy] {
        let (panics, script) = (layer.clone(), Script::new().otherwise(overloaded()));
        let call = tokio::spawn(async move { send(&panics, &script, get()).await.map(|_| ()) });
        assert!(call.await.unwrap_err().is_panic());
        assert_eq!(budget.tokens_left(), Some(50));
        let script = Script::new().then(dropped()).then(ok("done"));
        assert_eq!(send(&layer, &script, get()).await.unwrap().status(), 200);
        script.assert_done();
    }
}
