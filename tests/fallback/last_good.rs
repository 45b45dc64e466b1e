//! The last good answer.

use http::{Method, Request, header::AUTHORIZATION};
use tokio::time::advance;
use tower_outbound::{
    fallback::LastGood,
    mock::{Script, Step, ok, status},
};

use super::{Fallback, report, send};
use crate::common::{Text, Told, get, request, secs};

/// One good answer to `good`, then what a failing server gives to `asked`.
async fn kept(answers: &LastGood, step: Step, good: Request<Text>, asked: Request<Text>) -> Option<String> {
    let layer = Fallback::new().last_good(answers.clone());
    let first = Script::new().then(step).otherwise(status(503));
    let _ = send(&layer, &first, good).await;
    let response = send(&layer, &first, asked).await.unwrap();
    response.status().is_success().then(|| String::from_utf8_lossy(response.body()).into_owned())
}

#[tokio::test(start_paused = true)]
async fn it_is_given_again_with_its_age() {
    let layer = Fallback::new().last_good(LastGood::new());
    let first = Script::new().then(ok("good").header("x-a", 1)).otherwise(status(503));
    assert_eq!(send(&layer, &first, get()).await.unwrap().body(), "good");
    advance(secs(60.0)).await;
    let response = send(&layer, &first, get()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"good"[..]));
    assert_eq!(response.headers()["x-a"], "1");
    assert_eq!(report(&response).age, Some(secs(60.0)));
}

#[tokio::test(start_paused = true)]
async fn it_is_for_the_same_request_only() {
    let answers = LastGood::new();
    let post = |body| request(Method::POST, body);
    assert_eq!(kept(&answers, ok("good"), post("a"), post("a")).await.as_deref(), Some("good"));
    assert_eq!(kept(&answers, ok("good"), post("a"), post("b")).await, None);
    assert_eq!(kept(&answers, ok("good"), post("a"), request(Method::PUT, "a")).await, None);
    let mut other = post("a");
    *other.uri_mut() = "https://api.example/v1/things?x=1".parse().unwrap();
    assert_eq!(kept(&answers, ok("good"), post("a"), other).await, None);
    let mut other = post("a");
    other.headers_mut().insert(AUTHORIZATION, "Bearer another".parse().unwrap());
    assert_eq!(kept(&answers, ok("good"), post("a"), other).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_whole_good_answer_is_not_kept() {
    for step in [
        status(204).header("cache-control", "private, No-Store"),
        status(206).body("part"),
        status(302),
        status(404).body("none"),
        ok("broken off").cut(),
        ok("too short").truncated(),
    ] {
        let answers = LastGood::new();
        assert_eq!(kept(&answers, step, get(), get()).await, None);
        assert!(answers.is_empty());
    }
    // An empty one is an answer, too.
    assert_eq!(kept(&LastGood::new(), status(204), get(), get()).await.as_deref(), Some(""));
}

#[tokio::test(start_paused = true)]
async fn it_grows_too_old() {
    let layer = Fallback::new().last_good(LastGood::new().max_age(secs(10.0)));
    let first = Script::new().then(ok("good")).otherwise(status(503));
    send(&layer, &first, get()).await.unwrap();
    advance(secs(10.0)).await;
    assert_eq!(send(&layer, &first, get()).await.unwrap().body(), "good");
    advance(secs(0.1)).await;
    assert_eq!(send(&layer, &first, get()).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn it_keeps_no_more_than_its_bound() {
    let answers = LastGood::new().max_bytes(3_000).max_answer(1_000);
    let layer = Fallback::new().last_good(answers.clone());
    let long = Script::new().otherwise(ok(vec![b'x'; 1_001]));
    assert_eq!(send(&layer, &long, get()).await.unwrap().body().len(), 1_001);
    assert!(answers.is_empty(), "too long to be kept");

    let first = Script::new().otherwise(ok(vec![b'x'; 900]));
    let uri = |number: usize| {
        let mut request = get();
        *request.uri_mut() = format!("https://api.example/{number}").parse().unwrap();
        request
    };
    for number in 0..100 {
        send(&layer, &first, uri(number)).await.unwrap();
        // The same again takes no more room.
        send(&layer, &first, uri(number)).await.unwrap();
        assert!(answers.len() <= 3);
    }
    let failing = Script::new().otherwise(status(503));
    assert_eq!(send(&layer, &failing, uri(99)).await.unwrap().status(), 200);
    assert_eq!(send(&layer, &failing, uri(96)).await.unwrap().status(), 503, "the oldest goes first");
    answers.clear();
    assert_eq!(send(&layer, &failing, uri(99)).await.unwrap().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn another_that_answers_is_not_kept_for_the_first() {
    let answers = LastGood::new();
    let layer = Fallback::new()
        .service("second", Told(Script::new().then(ok("second")).otherwise(status(503))))
        .last_good(answers.clone());
    let first = Script::new().otherwise(status(503));
    assert_eq!(send(&layer, &first, get()).await.unwrap().body(), "second");
    assert_eq!(send(&layer, &first, get()).await.unwrap().status(), 503);
    assert!(answers.is_empty());
}
