//! What it says of its work, in the response and in the error.

use tower_outbound::{
    ApiError, ErrorKind, RetryHint,
    backoff_retry::{RetryError, RetryReport, StopReason},
    find_cause,
    mock::{MockError, MockErrorKind, Script, dropped, ok},
};

use super::{attempts, every_second, overloaded, send};
use crate::common::{again, get, refused, report, secs, told};

#[tokio::test(start_paused = true)]
async fn a_success_at_once_has_nothing_to_report() {
    let script = Script::new().then(ok("at once"));
    let response = send(&every_second(), &script, get()).await.unwrap();
    assert!(response.extensions().get::<RetryReport>().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_success_after_retries_says_what_it_took() {
    let script = Script::new().then(overloaded()).then(dropped()).then(ok("at last"));
    let response = send(&every_second(), &script, get()).await.unwrap();
    let report = report(&response);
    assert_eq!((report.attempts, report.resends, report.waited), (3, 0, secs(2.0)));
    assert_eq!(report.kinds, [ErrorKind::Overloaded, ErrorKind::Unavailable]);
    assert_eq!(report.stopped, None);
    assert_eq!(report.to_string(), "3 attempts, 2.0s waited");
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_once_is_one_attempt() {
    let script = Script::new().then(told(400, ErrorKind::InvalidRequest, RetryHint::Never));
    let response = send(&every_second(), &script, get()).await.unwrap();
    assert_eq!((report(&response).attempts, &report(&response).kinds[..]), (1, &[ErrorKind::InvalidRequest][..]));
    assert_eq!(report(&response).to_string(), "1 attempt");
}

#[tokio::test(start_paused = true)]
async fn an_error_holds_the_report_its_meaning_and_its_source() {
    let script = Script::new().then(overloaded()).then_times(2, dropped());
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    let retry = find_cause::<RetryError>(&*error).expect("a RetryError");
    assert_eq!((retry.report().attempts, retry.report().stopped), (3, Some(StopReason::AttemptsUsed)));
    assert_eq!(retry.error().kind(), ErrorKind::Unavailable);
    assert_eq!(find_cause::<MockError>(&*error).expect("the transport's error").kind(), MockErrorKind::Reset);
    assert_eq!(
        error.to_string(),
        "no response after 3 attempts, 2.0s waited (all attempts are used): the connection was reset"
    );
}

/// As the docs of `RetryError` promise.
#[tokio::test(start_paused = true)]
async fn the_meaning_is_found_among_the_causes() {
    let script = Script::new().otherwise(dropped());
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    assert_eq!(find_cause::<ApiError>(&*error).expect("an ApiError").kind(), ErrorKind::Unavailable);
}

/// Of a service that closed after a 503, not that it closed but what the call failed of.
#[tokio::test(start_paused = true)]
async fn the_meaning_is_that_of_the_last_answer() {
    let script = Script::new().closed_after(1).then(overloaded());
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    assert_eq!(ApiError::from_error(&*error).kind(), ErrorKind::Overloaded);
    assert_eq!(find_cause::<MockError>(&*error).expect("the readiness error").kind(), MockErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn only_what_was_sent_is_an_attempt() {
    let script = Script::new().closed_after(1).then(overloaded());
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    script.assert_sent(1);
    let retry = find_cause::<RetryError>(&*error).unwrap();
    assert_eq!((retry.report().attempts, retry.report().stopped), (1, Some(StopReason::NotReady)));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_sent_is_a_resend() {
    let script = Script::new().closed_after(3).then_times(3, again(0));
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    script.assert_sent(3);
    let retry = find_cause::<RetryError>(&*error).unwrap();
    assert_eq!((retry.report().attempts, retry.report().resends), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn resends_are_told_apart_from_attempts() {
    let script = Script::new().then_times(2, again(0)).then(overloaded()).then(again(0)).then(ok("at last"));
    let response = send(&every_second(), &script, get()).await.unwrap();
    let report = report(&response);
    assert_eq!((report.attempts, report.resends, report.waited), (2, 3, secs(1.0)));
    assert_eq!(report.to_string(), "2 attempts, 3 resent, 1.0s waited");
}

/// The kind of the failure that ended the call is among the kinds, however it was asked for again.
#[tokio::test(start_paused = true)]
async fn the_last_failure_is_among_the_kinds() {
    let script = Script::new().then(overloaded()).then(again(500_000));
    let response = send(&every_second(), &script, get()).await.unwrap();
    assert_eq!(report(&response).stopped, Some(StopReason::WaitTooLong));
    assert_eq!(report(&response).kinds, [ErrorKind::Overloaded, ErrorKind::RateLimit]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_the_way_keeps_the_report_and_what_had_failed_before() {
    let script = Script::new().then(overloaded()).then(refused());
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    assert!(find_cause::<tower_outbound::Refused>(&*error).is_some());
    let retry = find_cause::<RetryError>(&*error).expect("what was done before the refusal");
    assert_eq!((retry.report().stopped, retry.report().waited), (Some(StopReason::Refused), secs(1.0)));
    assert_eq!(retry.error().kind(), ErrorKind::Overloaded);
}

#[tokio::test(start_paused = true)]
async fn a_report_of_many_attempts_stays_small() {
    let script = Script::new().otherwise(overloaded());
    let response = send(&attempts(1_000), &script, get()).await.unwrap();
    assert_eq!((report(&response).attempts, report(&response).kinds.len()), (1_000, 16));
}

/// "Again" is no failure as long as it goes again; here it is what the call ended with.
#[tokio::test(start_paused = true)]
async fn what_was_to_be_sent_again_and_was_not_is_among_the_kinds() {
    for script in [
        Script::new().then(again(0)).then(refused()),
        Script::new().closed_after(1).then(again(0)),
        Script::new().closed_after(2).then_times(2, again(0)),
    ] {
        let error = send(&every_second(), &script, get()).await.unwrap_err();
        let retry = find_cause::<RetryError>(&*error).expect("a RetryError");
        assert_eq!(retry.error().kind(), ErrorKind::RateLimit);
        assert_eq!(retry.report().kinds, [ErrorKind::RateLimit], "{error}");
    }
    // A failure that was told already is not told twice.
    let script = Script::new().closed_after(1).then(overloaded());
    let error = send(&every_second(), &script, get()).await.unwrap_err();
    let retry = find_cause::<RetryError>(&*error).expect("a RetryError");
    assert_eq!(retry.report().kinds, [ErrorKind::Overloaded]);
}
