//! Calls that wait in a meter with a key that dies: they turn back, having spent nothing.

use http::{Request, Response};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_outbound::{
    Call,
    backoff_retry::BackoffRetryLayer,
    key_check::KeyCheckLayer,
    mock::{Limits, MockApi},
    quota_meter::{QuotaMeterLayer, ResponseBody, Scoping},
};

use super::{KEY, layer, rejected};
use crate::common::{Text, ms, secs};

type Answer = Result<Response<ResponseBody<tower_outbound::mock::MockBody>>, BoxError>;

/// A chat with nothing in it, of one token or two.
fn ask() -> Request<Text> {
    let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut request = crate::common::request(http::Method::POST, body);
    *request.uri_mut() = "https://api.example/v1/chat/completions".parse().unwrap();
    request
}

/// An API of 60 calls a minute of which all are used, behind a meter that knows it.
async fn used_up(key: &KeyCheckLayer, meter: &QuotaMeterLayer) -> MockApi {
    let api = MockApi::builder().limits(Limits::per_minute(60, 1_000_000)).service_time(ms(100)..=ms(100)).build();
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        calls.spawn(ServiceBuilder::new().layer(key).layer(meter).service(api.clone()).oneshot(ask()));
    }
    for answer in calls.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    api
}

fn many(calls: usize, key: &KeyCheckLayer, meter: &QuotaMeterLayer, api: &MockApi) -> JoinSet<Answer> {
    let stack = ServiceBuilder::new().layer(key).layer(meter).service(api.clone());
    (0..calls).map(|_| stack.clone().oneshot(ask())).collect()
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_turn_back_at_once_and_the_quota_is_theirs_no_more() {
    let (key, meter) = (layer(), QuotaMeterLayer::new().seed(1));
    let api = used_up(&key, &meter).await;
    let calls = many(40, &key, &meter, &api);
    sleep(ms(10)).await;
    assert!(meter.snapshot().waiting >= 35, "{:?}", meter.snapshot());

    api.revoke_key(KEY);
    let (start, before) = (Instant::now(), api.counters().calls);
    let answers = calls.join_all().await;
    assert!(start.elapsed() < secs(2.0), "one call's time: {:?}", start.elapsed());
    let (mut refused, mut answered) = (0, 0);
    for answer in answers {
        match answer {
            Ok(response) => {
                answered += 1;
                assert!([200, 401].contains(&response.status().as_u16()), "{response:?}");
            }
            Err(error) => {
                refused += 1;
                rejected(&error);
            }
        }
    }
    assert_eq!(refused + answered, 40);
    assert!(api.counters().refused <= 1, "{} calls with the dead key", api.counters().refused);
    assert!(api.counters().calls - before <= 1);
    let after = meter.snapshot();
    assert_eq!((after.waiting, after.in_flight), (0, 0), "{after:?}");
}

/// 46 calls went with the dead key before; those in the air are all there may be.
#[tokio::test(start_paused = true)]
async fn under_a_retry_too_only_those_in_the_air_are_wasted() {
    let (key, meter) = (layer(), QuotaMeterLayer::new().seed(1));
    let api = used_up(&key, &meter).await;
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&key).layer(&meter).service(api.clone());
    let calls: JoinSet<_> = (0..40).map(|_| stack.clone().oneshot(ask())).collect();
    sleep(ms(1500)).await;
    api.revoke_key(KEY);
    for answer in calls.join_all().await {
        match answer {
            Ok(response) => assert!([200, 401].contains(&response.status().as_u16())),
            Err(error) => drop(rejected(&error)),
        }
    }
    assert!(api.counters().refused <= 1, "{} calls with the dead key", api.counters().refused);
}

#[tokio::test(start_paused = true)]
async fn found_well_again_the_line_moves_on_as_before() {
    let (key, meter) = (layer(), QuotaMeterLayer::new().seed(1));
    let api = used_up(&key, &meter).await;
    let calls = many(20, &key, &meter, &api);
    sleep(ms(10)).await;
    api.revoke_key(KEY);
    calls.join_all().await;
    api.restore_key(KEY);
    sleep(secs(60.0)).await;

    // One looks; the others are refused until it has seen.
    let looks = many(5, &key, &meter, &api).join_all().await;
    assert_eq!(looks.iter().filter(|answer| answer.is_ok()).count(), 1);
    let before = api.counters().rejected;
    for answer in many(80, &key, &meter, &api).join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(api.counters().rejected, before);
}

/// Without a layer that learns of keys, a lease can be ended by hand: for key pools of one's own.
#[tokio::test(start_paused = true)]
async fn a_lease_ended_by_hand_turns_its_own_calls_back_and_no_others() {
    let (key, meter) = (layer(), QuotaMeterLayer::new().scoping(Scoping::one()).seed(1));
    let api = used_up(&key, &meter).await;
    let other = tower_outbound::key_check::KeyCheckLayer::new(
        tower_outbound::key_check::ApiKey::new("sk-other").unwrap(),
        tower_outbound::key_check::Origin::parse("https://api.example").unwrap(),
    );
    let dying = many(10, &key, &meter, &api);
    sleep(ms(1)).await;
    let living = many(10, &other, &meter, &api);
    sleep(ms(1)).await;
    api.revoke_key(KEY);
    let start = Instant::now();
    let died = dying.join_all().await;
    assert!(died.iter().filter(|answer| answer.is_err()).count() >= 9);
    for answer in living.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!(start.elapsed() < secs(12.5), "those who turned back left no hole: {:?}", start.elapsed());
}

/// The call that finds the key dead is the last to know of it by a 401.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_held_unpolled_through_it_all_is_refused_too() {
    let (key, meter) = (layer(), QuotaMeterLayer::new().seed(1));
    let api = used_up(&key, &meter).await;
    let mut held =
        tokio_test::task::spawn(ServiceBuilder::new().layer(&key).layer(&meter).service(api.clone()).oneshot(ask()));
    assert!(held.poll().is_pending());
    api.revoke_key(KEY);
    many(1, &key, &meter, &api).join_all().await;
    sleep(secs(30.0)).await;
    assert!(held.is_woken());
    let before = api.counters().calls;
    let std::task::Poll::Ready(Err(error)) = held.poll() else { panic!("not refused") };
    rejected(&error);
    assert_eq!(api.counters().calls, before);
    let _ = Call::now();
}
