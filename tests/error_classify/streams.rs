//! Failures in event streams: before the answer begins, and after.

use std::time::Duration;

use http::Response;
use tokio::time::Instant;
use tower_outbound::{ApiError, ErrorClassifyLayer, ErrorKind, error_classify::StreamErrors, provider::OpenAi};

use crate::support::{Got, Script, Step, call, frames};

const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"error\":null}}\n\n";
const DELTA: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"an \\\"error\\\"\"}}]}\n\n";
/// All four spellings.
const FAILURES: [&str; 4] = [
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"service_unavailable_error\",\"code\":\"server_is_overloaded\",\"message\":\"x\"}}\n\n",
    "event: error\ndata: {\"type\":\"error\",\"code\":\"server_is_overloaded\",\"message\":\"x\",\"param\":null}\n\n",
    "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_is_overloaded\",\"message\":\"x\"}}}\n\n",
    "data: {\"error\":{\"message\":\"x\",\"code\":\"server_is_overloaded\"}}\n\n",
];

fn layer() -> ErrorClassifyLayer {
    ErrorClassifyLayer::new(OpenAi).failures_in_streams(true)
}

fn stream(steps: impl IntoIterator<Item = Step>) -> Response<Script> {
    Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(Script::new(steps)).unwrap()
}

fn texts(steps: &[&'static str]) -> Vec<Step> {
    steps.iter().map(|text| Step::data(*text)).collect()
}

fn data(steps: &[&'static str]) -> Vec<Got> {
    steps.iter().map(|text| Got::Data((*text).into())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_answer_is_one_of_the_response() {
    for failure in FAILURES {
        for steps in [
            vec![failure],
            vec![": comment\n\n", failure],
            vec![CREATED, failure],
            vec![&failure[..20], &failure[20..]],
        ] {
            let response = call(layer(), stream(texts(&steps))).await;
            let error = response.extensions().get::<ApiError>().cloned().unwrap_or_else(|| panic!("{steps:?}"));
            assert_eq!((error.kind(), error.code()), (ErrorKind::Overloaded, Some("server_is_overloaded")));
            assert_eq!(frames(response.into_body()).await, data(&steps));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_it_comes_to_the_handle() {
    for failure in FAILURES {
        for steps in [
            vec![CREATED, DELTA, failure],
            vec![DELTA, DELTA, &failure[..9], &failure[9..]],
            vec![DELTA, failure.trim_end()],
        ] {
            let response = call(layer(), stream(texts(&steps))).await;
            assert!(response.extensions().get::<ApiError>().is_none());
            let errors = response.extensions().get::<StreamErrors>().cloned().unwrap();
            assert_eq!(errors.count(), 0);
            assert_eq!(frames(response.into_body()).await, data(&steps));
            assert_eq!(errors.count(), 1, "{steps:?}");
            assert_eq!(errors.first().unwrap().kind(), ErrorKind::Overloaded);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sound_stream_is_passed_on_at_its_first_content() {
    let steps = [Step::data(DELTA), Step::Wait(Duration::from_secs(60)), Step::data("data: [DONE]\n\n")];
    let start = Instant::now();
    let response = call(layer(), stream(steps)).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    let errors = response.extensions().get::<StreamErrors>().cloned().unwrap();
    assert_eq!(frames(response.into_body()).await, data(&[DELTA, "data: [DONE]\n\n"]));
    assert_eq!(errors.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_event_is_waited_for_only_so_long() {
    let steps = [Step::Wait(Duration::from_secs(30)), Step::data(FAILURES[0])];
    let start = Instant::now();
    let response = call(layer().first_event(1000, Duration::from_secs(3)), stream(steps)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert!(response.extensions().get::<ApiError>().is_none());
    let errors = response.extensions().get::<StreamErrors>().cloned().unwrap();
    assert_eq!(frames(response.into_body()).await, data(&[FAILURES[0]]));
    assert_eq!(errors.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_event_without_end_has_a_bound() {
    let steps = (0..100).map(|_| Step::data(": still here\n\n".repeat(10)));
    let response = call(layer().first_event(1000, Duration::from_secs(3)), stream(steps)).await;
    assert!(response.extensions().get::<ApiError>().is_none());
    assert_eq!(frames(response.into_body()).await.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn not_looked_at_unless_asked_for() {
    let response = call(ErrorClassifyLayer::new(OpenAi), stream(texts(&[FAILURES[0]]))).await;
    assert!(response.extensions().is_empty());
}
