//! "Send it again now; I see to the waiting": no attempt, no sleep, no budget; and yet not forever.

use tokio::time::Instant;
use tower_outbound::{
    Again, Call,
    backoff_retry::{Budget, RetryError, StopReason},
    find_cause,
    mock::{Script, answer, ok},
};

use super::{attempts, every_second, overloaded, send};
use crate::common::{Told, again, again_error, get, post, report, secs, with};

#[tokio::test(start_paused = true)]
async fn it_costs_neither_time_nor_attempts_nor_budget() {
    let layer = attempts(1).budget(Budget::retry_tokens(0));
    for step in [again(30_000), again_error(30_000)] {
        let script = Script::new().then_times(10, step).then(ok("at last"));
        let start = Instant::now();
        let response = send(&layer, &script, get()).await.unwrap();
        assert_eq!(start.elapsed().as_nanos(), 0, "only the one who asked for it waits");
        assert_eq!((response.status().as_u16(), report(&response).attempts, report(&response).resends), (200, 1, 10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_goes_again_too_for_it_was_not_processed() {
    let script = Script::new().then(again(0)).then(again_error(0)).then(ok("at last"));
    send(&every_second(), &script, post()).await.unwrap();
    script.assert_bodies(["body"; 3]);
}

#[tokio::test(start_paused = true)]
async fn it_keeps_its_place_and_counts_its_resends() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let script = Script::new().then_times(2, again(0)).then(overloaded()).then(again(0)).then(ok("at last"));
    let looking = {
        let (seen, script) = (seen.clone(), script.clone());
        tower::util::MapRequest::new(Told(script), move |request: http::Request<crate::common::Text>| {
            let call = request.extensions().get::<Call>().expect("a Call").clone();
            seen.lock().unwrap().push((call.seq(), call.start(), call.attempt(), call.resends(), call.is_retried()));
            request
        })
    };
    let call = Call::now();
    let start = call.start();
    tokio::time::advance(secs(5.0)).await;
    let seq = call.seq();
    let service = tower::Layer::layer(&every_second(), looking);
    tower::ServiceExt::oneshot(service, with(get(), call)).await.unwrap();
    let counts = [(1, 0), (1, 1), (1, 2), (2, 2), (2, 3)];
    assert_eq!(*seen.lock().unwrap(), counts.map(|(attempt, resends)| (seq, start, attempt, resends, true)));
}

#[tokio::test(start_paused = true)]
async fn it_ends_after_so_many() {
    let script = Script::new().otherwise(again(0));
    let response = send(&every_second(), &script, get()).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!((report(&response).attempts, report(&response).resends), (1, 64));
    assert_eq!(report(&response).stopped, Some(StopReason::ResendsUsed));
    script.assert_sent(65);

    let script = Script::new().otherwise(again_error(0));
    let error = send(&every_second().max_resends(3), &script, get()).await.unwrap_err();
    let retry = find_cause::<RetryError>(&*error).expect("a RetryError");
    assert_eq!((retry.report().resends, retry.report().stopped), (3, Some(StopReason::ResendsUsed)));
    script.assert_sent(4);
}

#[tokio::test(start_paused = true)]
async fn a_time_past_the_longest_wait_or_the_deadline_ends_the_call_now() {
    let layer = every_second().max_wait(secs(20.0)).max_elapsed(secs(10.0));
    for (wait, reason) in [(20_001, StopReason::WaitTooLong), (10_001, StopReason::PastDeadline)] {
        let script = Script::new().then(again(wait));
        let start = Instant::now();
        let response = send(&layer, &script, get()).await.unwrap();
        assert_eq!((response.status().as_u16(), start.elapsed().as_nanos()), (429, 0));
        assert_eq!(report(&response).stopped, Some(reason));
        assert!(response.extensions().get::<Again>().is_some(), "the time is there for who asks");
        script.assert_sent(1);
    }
    let script = Script::new().then(again(10_000)).then(ok("at last"));
    send(&layer, &script, get()).await.unwrap();
    script.assert_done();
}

/// Attempts go on counting where they were, and the waits between them are as long as without.
#[tokio::test(start_paused = true)]
async fn attempts_and_resends_are_counted_apart() {
    let script = Script::new().otherwise(answer({
        let calls = std::sync::atomic::AtomicU32::new(0);
        move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 {
            2 => overloaded(),
            _ => again(0),
        }
    }));
    let response = send(&attempts(4), &script, get()).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!((report(&response).attempts, report(&response).resends), (4, 8));
    assert_eq!(script.times().last(), Some(&secs(3.0)));
}

/// Who says "again" to a success means something else than this layer's business.
#[tokio::test(start_paused = true)]
async fn a_success_is_a_success_whatever_it_carries() {
    let script = Script::new().then(ok("done").header("told-again", 0)).otherwise(ok("twice"));
    assert_eq!(send(&every_second(), &script, get()).await.unwrap().status(), 200);
    script.assert_sent(1);
}
