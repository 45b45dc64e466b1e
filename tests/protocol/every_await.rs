//! A call dropped at each of its awaits in turn, whatever it was waiting for.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use tokio::time::{sleep, timeout};
use tower::{ServiceExt, limit::ConcurrencyLimitLayer};

use super::Stack;
use crate::common::{Reply, ms, named, reply, secs, settled, told_limit};

/// What the server answers to the call's attempts, and what is going on beside it.
#[derive(Clone, Copy, Debug)]
enum Course {
    Fine,
    Failed,
    Limited,
    Waits,
    NotReady,
}

/// The call, given up when it has been polled so often; `None` once it ended before that.
async fn dropped_after(course: Course, polls: usize) -> Option<()> {
    let left = if matches!(course, Course::Waits) { 0 } else { 5 };
    let stack = Stack::new().with_left(60, left).await;
    let limit = if matches!(course, Course::NotReady) { 1 } else { 100 };
    let calls = stack.over(tower::Layer::layer(&ConcurrencyLimitLayer::new(limit), stack.desk.clone()));
    let other = matches!(course, Course::NotReady).then(|| tokio::spawn(calls.clone().oneshot(named("other"))));
    settled().await;

    let mut call = Box::pin(calls.clone().oneshot(named("a")));
    let polled = Arc::new(AtomicUsize::new(0));
    let task = tokio::spawn({
        let polled = Arc::clone(&polled);
        async move {
            poll_fn(move |cx| {
                if polled.fetch_add(1, Ordering::Relaxed) == polls {
                    // The future ends here, and the call with it.
                    return Poll::Ready(None);
                }
                call.as_mut().poll(cx).map(Some)
            })
            .await
        }
    });
    let mut answers: Vec<Reply> = match course {
        Course::Fine | Course::Waits | Course::NotReady => vec![],
        Course::Failed => vec![reply(503), reply(500)],
        Course::Limited => vec![told_limit(429, 60, 0), reply(500)],
    };
    for _ in 0..40 {
        settled().await;
        if task.is_finished() {
            break;
        }
        for name in stack.desk.open() {
            let answer = if name == "a" { answers.pop() } else { None };
            stack.desk.answer(&name, answer.unwrap_or_else(|| told_limit(200, 60, 5))).await;
        }
        sleep(ms(400)).await;
    }
    assert!(task.is_finished(), "{course:?} stalls after {polls} polls: {:?}", stack.meter.snapshot());
    let ended = task.await.unwrap();
    stack.desk.answer_all(|| told_limit(200, 60, 5)).await;
    drop(other);
    settled().await;
    assert_eq!(stack.held(), (0, 0), "{course:?} dropped after {polls} polls");
    // What it held is there for the next.
    let next = stack.call("next");
    sleep(secs(3.0)).await;
    assert_eq!(stack.desk.open(), ["next"], "{course:?} dropped after {polls} polls: {:?}", stack.meter.snapshot());
    stack.desk.answer("next", reply(200)).await;
    assert_eq!(timeout(secs(1.0), next).await.unwrap().unwrap().unwrap().status(), 200);
    match ended {
        None => Some(()),
        Some(answer) => {
            assert_eq!(answer.unwrap().status(), 200);
            None
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_gives_back_what_it_held() {
    for course in [Course::Fine, Course::Failed, Course::Limited, Course::Waits, Course::NotReady] {
        let mut polls = 0;
        while dropped_after(course, polls).await.is_some() {
            polls += 1;
            assert!(polls < 200, "{course:?} never ends");
        }
        let least = if matches!(course, Course::Fine) { 2 } else { 3 };
        assert!(polls >= least, "{course:?} had but {polls} awaits");
    }
}
