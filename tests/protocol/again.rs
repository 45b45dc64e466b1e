//! A 429 that means "wait": the meter closes its gate and says "again"; the retry neither sleeps nor counts.

use tokio::time::{Instant, sleep};
use tower::{ServiceBuilder, ServiceExt};
use tower_outbound::{
    Again, ApiError, ErrorClassifyLayer, ErrorKind, Gate,
    backoff_retry::{Budget, RetryReport, StopReason},
    provider::OpenAi,
};

use super::{Stack, ended, report, used_up};
use crate::common::{later, ms, named, reply, secs, settled, told_limit};

/// A retry with neither attempts nor budget to spare.
fn frugal() -> Stack {
    use tower_outbound::{backoff_retry::Standard, nz};
    Stack::new().retry(|retry| retry.policy(Standard::new().max_attempts(nz!(1))).budget(Budget::retry_tokens(0)))
}

#[tokio::test(start_paused = true)]
async fn it_costs_neither_attempt_nor_budget_and_only_the_meter_sleeps() {
    let stack = frugal();
    let call = stack.call("a");
    settled().await;
    for round in 1..=10 {
        stack.desk.answer("a", later("2")).await;
        assert_eq!(stack.held(), (1, 0), "it waits in the meter, and nowhere else");
        let opens = stack.meter.snapshot().gate_opens_in.unwrap();
        sleep(opens - ms(1)).await;
        assert_eq!(stack.desk.count(), round);
        sleep(ms(2)).await;
        assert_eq!(stack.desk.count(), round + 1, "it leaves the moment that the gate opens");
    }
    stack.desk.answer("a", reply(200)).await;
    let answer = ended(call).await;
    let RetryReport { attempts, resends, waited, stopped, .. } = report(&answer);
    assert_eq!((*attempts, *resends, waited.as_nanos(), *stopped), (1, 10, 0, None));
}

#[tokio::test(start_paused = true)]
async fn only_so_often() {
    for (stack, most) in [(frugal(), 64), (frugal().retry(|retry| retry.max_resends(3)), 3)] {
        let call = stack.call("a");
        for _ in 0..=most {
            settled().await;
            stack.desk.answer("a", later("1")).await;
            sleep(secs(121.0)).await;
        }
        let answer = ended(call).await;
        assert_eq!(answer.as_ref().unwrap().status(), 429);
        let report = report(&answer);
        assert_eq!((report.attempts, report.resends, report.stopped), (1, most, Some(StopReason::ResendsUsed)));
        assert_eq!((stack.desk.count(), stack.held()), (most as usize + 1, (0, 0)));
    }
}

/// Nobody waits for what comes too late: the caller has the 429 now, and what it says.
#[tokio::test(start_paused = true)]
async fn a_gate_past_the_longest_wait_or_the_deadline_ends_the_call_now() {
    let patient = || Stack::new().retry(|retry| retry.max_wait(secs(20.0)));
    let hurried = || Stack::new().retry(|retry| retry.max_elapsed(secs(20.0)));
    for (stack, reason) in [(patient(), StopReason::WaitTooLong), (hurried(), StopReason::PastDeadline)] {
        let start = Instant::now();
        let call = stack.call("a");
        settled().await;
        stack.desk.answer("a", later("30")).await;
        let answer = ended(call).await;
        assert_eq!((start.elapsed().as_nanos(), report(&answer).stopped), (0, Some(reason)));
        let response = answer.unwrap();
        let again: &Again = response.extensions().get().unwrap();
        assert!(again.by == Gate::Quota && again.not_before >= start + secs(30.0));
        assert_eq!(ApiError::of(&response).unwrap().kind(), ErrorKind::RateLimit);
        assert_eq!((stack.desk.count(), stack.held()), (1, (0, 0)));
        // The gate that it closed is closed for others all the same.
        let _next = stack.call("next");
        sleep(secs(29.0)).await;
        assert_eq!(stack.desk.count(), 1);
    }
}

/// Without a meter the retry waits itself, and counts.
#[tokio::test(start_paused = true)]
async fn without_a_meter_it_is_an_attempt_like_any_other() {
    let Stack { retry, desk, .. } = Stack::new();
    let bare = ServiceBuilder::new().layer(retry).layer(ErrorClassifyLayer::new(OpenAi)).service(desk.clone());
    let call = tokio::spawn(bare.oneshot(named("a")));
    settled().await;
    for _ in 0..2 {
        desk.answer("a", later("10")).await;
        sleep(secs(15.0)).await;
    }
    desk.answer("a", later("10")).await;
    assert!(call.is_finished());
    let response = call.await.unwrap().unwrap();
    let report: &RetryReport = response.extensions().get().unwrap();
    assert_eq!((report.attempts, report.resends, report.stopped), (3, 0, Some(StopReason::AttemptsUsed)));
    assert!(report.waited >= secs(20.0));
}

/// A 429 that no wait helps against is no "again": it is not sent again at all.
#[tokio::test(start_paused = true)]
async fn a_429_that_does_not_mean_wait_comes_out_as_it_is() {
    let too_large = r#"{"error":{"message":"Request too large for m in organization o on tokens per min (TPM): Limit 10, Requested 20.","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let mut never_fits = reply(429);
    *never_fits.body_mut() = too_large.into();
    for answer in [never_fits, used_up()] {
        let stack = Stack::new();
        let call = stack.call("a");
        settled().await;
        stack.desk.answer("a", answer).await;
        let answer = ended(call).await;
        assert_eq!(report(&answer).stopped, Some(StopReason::NotRetryable));
        assert!(answer.unwrap().extensions().get::<Again>().is_none());
        assert_eq!(stack.desk.count(), 1);
        assert_eq!(stack.meter.snapshot().gate_opens_in, None);
    }
}

/// The server names its limits too: the gate opens when there is room, and the two go on as before.
#[tokio::test(start_paused = true)]
async fn attempts_go_on_counting_where_they_were() {
    let stack = Stack::new().with_left(60, 3).await;
    let call = stack.call("a");
    settled().await;
    for answer in [reply(500), told_limit(429, 60, 0), reply(502), told_limit(429, 60, 0)] {
        stack.desk.answer("a", answer).await;
        sleep(secs(60.0)).await;
    }
    stack.desk.answer("a", reply(503)).await;
    let answer = ended(call).await;
    let report = report(&answer);
    assert_eq!((report.attempts, report.resends, report.stopped), (3, 2, Some(StopReason::AttemptsUsed)));
    assert_eq!(report.kinds, [ErrorKind::Server, ErrorKind::Unavailable, ErrorKind::Unavailable]);
}
