//! Which requests are sent again, and that they are the same when they are.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};
use tower_outbound::{
    backoff_retry::{Idempotent, Repeat, StopReason},
    body::{CloneBody, Once, Remake},
    mock::{Script, Step, dropped, ok},
};

use super::{every_second, limited, overloaded, send};
use crate::common::{Told, get, post, report, request, secs, with};

/// A 500: the server may have done the work before it failed.
fn failed() -> Step {
    crate::common::told(500, tower_outbound::ErrorKind::Server, tower_outbound::RetryHint::Backoff)
}

#[tokio::test(start_paused = true)]
async fn idempotent_methods_are_repeated_and_others_are_not() {
    let methods = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "POST", "PATCH", "CONNECT", "PROPFIND"];
    for name in methods {
        let method: Method = name.parse().unwrap();
        let script = Script::new().then(failed()).otherwise(ok("done"));
        let response = send(&every_second(), &script, request(method, "")).await.unwrap();
        if ["POST", "PATCH", "CONNECT", "PROPFIND"].contains(&name) {
            assert_eq!(report(&response).stopped, Some(StopReason::NotIdempotent), "{name}");
            script.assert_sent(1);
        } else {
            assert_eq!(response.status(), 200, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_lost_its_answer_is_not_sent_again() {
    let script = Script::new().then(dropped()).otherwise(ok("done"));
    let error = send(&every_second(), &script, post()).await.unwrap_err();
    let error = tower_outbound::find_cause::<tower_outbound::backoff_retry::RetryError>(&*error).unwrap();
    assert_eq!(error.report().stopped, Some(StopReason::NotIdempotent));
    script.assert_sent(1);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_certainly_not_processed_is() {
    let script = Script::new().then(limited(secs(1.0))).then(ok("done"));
    assert_eq!(send(&every_second(), &script, post()).await.unwrap().status(), 200);
    script.assert_bodies(["body", "body"]);
}

#[tokio::test(start_paused = true)]
async fn a_post_with_an_idempotency_key_is_and_keeps_its_key() {
    let script = Script::new().then_times(2, failed()).then(ok("done"));
    let mut request = post();
    request.headers_mut().insert("idempotency-key", "mine".parse().unwrap());
    assert_eq!(send(&every_second().idempotency_keys(), &script, request).await.unwrap().status(), 200);
    script.assert_header("idempotency-key", [Some("mine"); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_our_own_is_the_same_on_all_attempts_and_another_for_each_call() {
    let layer = every_second().idempotency_keys();
    let script = Script::new().then_times(2, failed()).then(ok("done")).then(failed()).then(ok("done"));
    send(&layer, &script, post()).await.unwrap();
    send(&layer, &script, post()).await.unwrap();
    let keys: Vec<_> = script.calls().iter().map(|sent| sent.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[3] == keys[4] && keys[0] != keys[3], "{keys:?}");
    assert_eq!(keys[0].len(), 32);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_needs_no_key_gets_none() {
    let script = Script::new().then(ok("done"));
    send(&every_second().idempotency_keys(), &script, get()).await.unwrap();
    script.assert_header("idempotency-key", [None]);
}

#[tokio::test(start_paused = true)]
async fn the_callers_mark_outweighs_method_and_setting() {
    for (method, setting, mark, sent) in [
        (Method::POST, Repeat::Idempotent, true, 2),
        (Method::POST, Repeat::All, false, 1),
        (Method::GET, Repeat::Idempotent, false, 1),
        (Method::POST, Repeat::All, true, 2),
    ] {
        let script = Script::new().then(failed()).otherwise(ok("done"));
        let request = with(request(method, ""), Idempotent(mark));
        send(&every_second().repeat(setting), &script, request).await.unwrap();
        script.assert_sent(sent);
    }
}

/// The mark says that twice does harm; a 429 was not once.
#[tokio::test(start_paused = true)]
async fn what_was_not_processed_goes_again_though_twice_would_do_harm() {
    let script = Script::new().then(limited(secs(1.0))).then(ok("done"));
    let response = send(&every_second(), &script, with(post(), Idempotent(false))).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn all_are_repeated_where_that_is_asked_for() {
    let script = Script::new().then(failed()).then(dropped()).then(ok("done"));
    send(&every_second().repeat(Repeat::All), &script, post()).await.unwrap();
    script.assert_bodies(["body"; 3]);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_the_same_request() {
    let script = Script::new().then_times(2, overloaded()).then(ok("done"));
    let mut request = request(Method::PUT, "the body");
    request.headers_mut().append("x-many", "one".parse().unwrap());
    request.headers_mut().append("x-many", "two".parse().unwrap());
    *request.uri_mut() = "https://api.example/v1/things?a=b".parse().unwrap();
    send(&every_second(), &script, request).await.unwrap();
    let sent = script.calls();
    for again in &sent[1..] {
        assert_eq!((&again.method, &again.uri, &again.headers), (&sent[0].method, &sent[0].uri, &sent[0].headers));
    }
    assert_eq!(sent[0].headers.get_all("x-many").iter().count(), 2);
    script.assert_bodies(["the body"; 3]);
}

/// What a layer further in adds to one attempt is not on the next.
#[tokio::test(start_paused = true)]
async fn each_attempt_is_made_from_the_request_as_it_came() {
    let script = Script::new().then_times(2, overloaded()).then(ok("done"));
    let adding = tower::util::MapRequest::new(Told(script.clone()), |mut request: http::Request<Full<Bytes>>| {
        assert!(!request.headers().contains_key("x-added"));
        assert!(request.extensions().get::<u32>().is_none());
        request.headers_mut().insert("x-added", "yes".parse().unwrap());
        request.extensions_mut().insert(1_u32);
        request
    });
    every_second().layer(adding).oneshot(get()).await.unwrap();
    script.assert_header("x-added", [Some("yes"); 3]);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_retries_goes_into_a_header_where_asked_for() {
    let script = Script::new().then_times(2, overloaded()).then(ok("done"));
    let mut request = get();
    request.headers_mut().insert("x-count", "forged".parse().unwrap());
    send(&every_second().count_header(HeaderName::from_static("x-count")), &script, request).await.unwrap();
    script.assert_header("x-count", [Some("0"), Some("1"), Some("2")]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_goes_only_once_is_sent_once() {
    let script = Script::new().then(overloaded()).otherwise(ok("done"));
    let request = http::Request::put("https://api.example/").body(Once::new(Full::<Bytes>::from("once"))).unwrap();
    let response = every_second().layer(Told(script.clone())).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(report(&response).stopped, Some(StopReason::BodySpent));
    script.assert_bodies(["once"]);
}

/// Why it stopped is the failure itself, where that alone would have stopped it.
#[tokio::test(start_paused = true)]
async fn a_failure_for_good_is_not_blamed_on_the_body() {
    let never = crate::common::told(400, tower_outbound::ErrorKind::InvalidRequest, tower_outbound::RetryHint::Never);
    let script = Script::new().then(never);
    let request = http::Request::put("https://api.example/").body(Once::new(Full::<Bytes>::from("once"))).unwrap();
    let response = every_second().layer(Told(script)).oneshot(request).await.unwrap();
    assert_eq!(report(&response).stopped, Some(StopReason::NotRetryable));
}

#[tokio::test(start_paused = true)]
async fn bodies_that_can_go_again_go_whole() {
    let uri = "https://api.example/";
    let script = Script::new().then_times(2, overloaded()).then(ok("done"));
    let request = http::Request::put(uri).body(CloneBody::new(Full::<Bytes>::from("cloned"))).unwrap();
    every_second().layer(Told(script.clone())).oneshot(request).await.unwrap();
    script.assert_bodies(["cloned"; 3]);

    let script = Script::new().then_times(2, overloaded()).then(ok("done"));
    let request = http::Request::put(uri).body(Remake::new(|| Full::<Bytes>::from("remade").boxed_unsync())).unwrap();
    every_second().layer(Told(script.clone())).oneshot(request).await.unwrap();
    script.assert_bodies(["remade"; 3]);
}

/// 425 says so itself: the server would not look at it yet (RFC 8470).
#[tokio::test(start_paused = true)]
async fn a_post_that_came_too_early_is_sent_again() {
    let script = Script::new().then(tower_outbound::mock::status(425)).then(ok("done"));
    assert_eq!(send(&every_second(), &script, post()).await.unwrap().status(), 200);
    script.assert_bodies(["body", "body"]);
}

/// A seed is for waits: keys that repeat would make the server take one call for another.
#[tokio::test(start_paused = true)]
async fn keys_do_not_come_from_the_seed() {
    let script = Script::new().otherwise(ok("done"));
    for _ in 0..2 {
        send(&every_second().idempotency_keys().seed(1), &script, post()).await.unwrap();
    }
    let keys: Vec<_> = script.calls().iter().map(|sent| sent.header("idempotency-key").unwrap().to_owned()).collect();
    assert_ne!(keys[0], keys[1]);
}

/// As many values as a map takes are more than it has room for names.
#[tokio::test(start_paused = true)]
async fn a_request_with_all_the_headers_there_can_be_is_sent_again_with_them() {
    let script = Script::new().then(overloaded()).otherwise(ok("done"));
    let mut request = get();
    while request.headers_mut().try_append("x-many", HeaderValue::from_static("1")).is_ok() {
        if request.headers().len() == 32_768 {
            break;
        }
    }
    let sent = request.headers().len();
    assert_eq!(send(&every_second(), &script, request).await.unwrap().status(), 200);
    assert_eq!(script.calls()[1].headers.get_all("x-many").iter().count(), sent);
}

/// What this layer adds is left out where there is no room.
#[tokio::test(start_paused = true)]
async fn a_full_map_of_headers_is_no_panic() {
    let mut request = post();
    let names = (0..).map(|n| HeaderName::try_from(format!("x-{n}")).unwrap());
    for name in names {
        if request.headers_mut().try_append(name, HeaderValue::from_static("1")).is_err() {
            break;
        }
    }
    let layer = every_second().count_header(HeaderName::from_static("x-retry-count")).idempotency_keys();
    let script = Script::new().then(overloaded()).otherwise(ok("done"));
    assert_eq!(send(&layer, &script, request).await.unwrap().status(), 200);
    script.assert_sent(2);
}
