//! A quota that is used up: waiting does not help, so nobody waits; and one looks from time to time.

use tokio::time::sleep;
use tower::{Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_outbound::{ApiError, ErrorKind, RetryHint, quota_meter::Refusal};

use super::{Answer, Office, is_over, meter, refusal};
use crate::common::{Desk, Reply, ms, named, reply, secs, settled};

/// The answer that says so, as a classifier hands it on.
fn used_up() -> Reply {
    let mut reply = reply(429);
    reply.extensions_mut().insert(ApiError::new(ErrorKind::QuotaExhausted, RetryHint::Never).with_message("pay"));
    reply
}

/// One whose meter has just been told so.
async fn spent() -> Office {
    let office = Office::with_left(meter(), 6_000, 5_000).await;
    let call = office.call("unlucky");
    settled().await;
    office.desk.answer("unlucky", used_up()).await;
    assert_eq!(call.await.unwrap().unwrap().status(), 429, "its answer comes out as it is");
    office
}

#[track_caller]
fn is_spent(answer: &Answer) -> std::time::Duration {
    match refusal(answer) {
        (refused, Refusal::Spent { error, wait, .. }) => {
            assert_eq!(error.kind(), ErrorKind::QuotaExhausted);
            assert_eq!(refused.wait(), Some(*wait).filter(|wait| !wait.is_zero()), "while one looks, nobody knows");
            *wait
        }
        (_, other) => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_hear_of_it_at_once() {
    let office = Office::with_left(meter(), 60, 2).await;
    let calls = office.many(50);
    settled().await;
    assert_eq!(office.meter.snapshot().waiting, 48);
    office.desk.answer("0", used_up()).await;
    let mut waiting = 0;
    for call in calls {
        if is_over(&call).await
            && let Ok(answer) = call.await
            && answer.is_err()
        {
            assert_eq!(is_spent(&answer), secs(60.0));
            waiting += 1;
        }
    }
    assert_eq!(waiting, 48);
    assert_eq!((office.desk.count(), office.meter.snapshot().waiting), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_refused_until_one_may_look() {
    let office = spent().await;
    sleep(secs(20.0)).await;
    let answer = office.answer_to("refused").await;
    assert_eq!(is_spent(&answer), secs(40.0));
    let text = answer.unwrap_err().to_string();
    assert!(text.starts_with("refused by the quota meter: the quota is used up"), "{text}");
    assert!(office.meter.snapshot().spent.is_some());
    assert_eq!(office.desk.sent(), ["first", "unlucky"]);
}

#[tokio::test(start_paused = true)]
async fn after_the_recheck_one_looks_and_no_more() {
    let office = spent().await;
    for _ in 0..3 {
        sleep(secs(60.0)).await;
        let probe = office.call("probe");
        settled().await;
        assert_eq!(office.desk.open(), ["probe"]);
        is_spent(&office.answer_to("refused").await);
        sleep(secs(30.0)).await;
        office.desk.answer("probe", used_up()).await;
        assert_eq!(probe.await.unwrap().unwrap().status(), 429);
        sleep(secs(59.0)).await;
        is_spent(&office.answer_to("refused").await);
        sleep(secs(1.0)).await;
    }
    sleep(secs(60.0)).await;
    let probe = office.call("probe");
    settled().await;
    office.desk.answer("probe", reply(200)).await;
    probe.await.unwrap().unwrap();
    let _calls = office.many(6);
    settled().await;
    assert_eq!(office.desk.open().len(), 6);
    assert!(office.meter.snapshot().spent.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_time_between_looks_can_be_set() {
    let office = Office::new(meter().spent_recheck(secs(5.0)));
    let _call = office.call("unlucky");
    settled().await;
    office.desk.answer("unlucky", used_up()).await;
    sleep(ms(4_999)).await;
    is_spent(&office.answer_to("refused").await);
    sleep(ms(1)).await;
    let _probe = office.call("probe");
    settled().await;
    assert_eq!(office.desk.open(), ["probe"]);
}

#[tokio::test(start_paused = true)]
async fn never_to_look_again_can_be_set_too() {
    let office = Office::new(meter().spent_recheck(std::time::Duration::MAX));
    let _call = office.call("unlucky");
    settled().await;
    office.desk.answer("unlucky", used_up()).await;
    sleep(secs(1e6)).await;
    is_spent(&office.answer_to("refused").await);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_given_up_leaves_the_chance_to_another() {
    let office = spent().await;
    sleep(secs(60.0)).await;
    let probe = office.call("probe");
    settled().await;
    probe.abort();
    assert!(probe.await.is_err());
    let _other = office.call("other");
    settled().await;
    assert_eq!(office.desk.open(), ["other"]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_failed_otherwise_leaves_the_chance_to_another() {
    let office = spent().await;
    sleep(secs(60.0)).await;
    let _probe = office.call("probe");
    settled().await;
    office.desk.answer("probe", reply(500)).await;
    let _other = office.call("other");
    settled().await;
    assert_eq!(office.desk.open(), ["other"]);
}

/// Admitted before the money was gone, answered after: it says nothing of the quota now.
#[tokio::test(start_paused = true)]
async fn a_late_success_from_before_does_not_open_it_again() {
    let office = Office::with_left(meter(), 6_000, 5_000).await;
    let (_early, _unlucky) = (office.call("early"), office.call("unlucky"));
    settled().await;
    office.desk.answer("unlucky", used_up()).await;
    sleep(secs(1.0)).await;
    office.desk.answer("early", reply(200)).await;
    is_spent(&office.answer_to("refused").await);
    assert!(office.meter.snapshot().spent.is_some());
}

/// Let go by the meter, and still waiting for the service to be ready when the money is gone.
#[tokio::test(start_paused = true)]
async fn who_has_not_left_yet_does_not_leave() {
    let layer = meter();
    let desk = Desk::default();
    let stack = ServiceBuilder::new().layer(&layer).layer(ConcurrencyLimitLayer::new(1)).service(desk.clone());
    let first = tokio::spawn(stack.clone().oneshot(named("first")));
    settled().await;
    desk.answer("first", super::told(200, 60, 0)).await;
    first.await.unwrap().unwrap();
    // One leaves, and holds the only permit; the others are let go by and by, and wait for it.
    let calls: Vec<_> = (0..8).map(|n| tokio::spawn(stack.clone().oneshot(named(&n.to_string())))).collect();
    sleep(secs(20.0)).await;
    assert_eq!(desk.open(), ["0"]);
    desk.answer("0", used_up()).await;
    sleep(secs(5.0)).await;
    assert_eq!(desk.count(), 2, "{:?} were sent to an API without money", desk.sent());
    for call in &calls[1..] {
        assert!(call.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_known_by_the_body_alone_where_a_classifier_is_below() {
    let desk = Desk::default();
    let layer = meter();
    let mut stack = ServiceBuilder::new()
        .layer(&layer)
        .layer(tower_outbound::ErrorClassifyLayer::new(tower_outbound::provider::OpenAi))
        .service(desk.clone());
    let _call = tokio::spawn(stack.call(named("unlucky")));
    settled().await;
    let mut spent = reply(429);
    *spent.body_mut() = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}"#.into();
    desk.answer("unlucky", spent).await;
    assert_eq!(layer.snapshot().spent.map(|error| error.kind()), Some(ErrorKind::QuotaExhausted));
}
