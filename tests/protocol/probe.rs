//! After a gate, with nothing known of the limits: one call at a time, until one succeeds.

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::ServiceExt;
use tower_outbound::{
    backoff_retry::RetryReport,
    mock::{Limit, Limits, MockApi},
};

use super::Stack;
use crate::common::{later, reply, request, secs, settled};

#[tokio::test(start_paused = true)]
async fn one_looks_and_those_that_were_rejected_wait_with_the_others() {
    let stack = Stack::new();
    let _calls = stack.many(10);
    settled().await;
    assert_eq!(stack.desk.open(), ["0", "1", "2", "3"]);
    stack.desk.answer_all(|| later("1")).await;
    for look in 0..3 {
        sleep(secs(100.0)).await;
        assert_eq!(stack.desk.open(), ["0"], "the first in line, and no other");
        assert_eq!((stack.desk.count(), stack.held()), (5 + look, (9, 1)));
        stack.desk.answer("0", later("1")).await;
    }
    sleep(secs(100.0)).await;
    stack.desk.answer("0", reply(200)).await;
    sleep(secs(1.0)).await;
    assert!(stack.desk.open().len() > 1, "{:?}", stack.desk.open());
    assert_eq!(stack.desk.open()[0], "1");
}

/// Sent again for nothing, and each 429 counted by the server: 4,328 of them were seen for 200 items.
#[tokio::test(start_paused = true)]
async fn free_resends_are_no_storm() {
    for retry_after in [true, false] {
        let stack = Stack::new();
        let api = MockApi::builder()
            .limits(Limits::none().requests(Limit::per_minute(60)))
            .rate_headers(false)
            .retry_after(retry_after)
            .rejected_count(true)
            .realistic_latency()
            .build();
        let start = Instant::now();
        let calls = stack.over(api.clone());
        let mut items = JoinSet::new();
        for _ in 0..200 {
            let mut embed = request(http::Method::POST, r#"{"model":"m","input":"hi"}"#);
            *embed.uri_mut() = "https://api.example/v1/embeddings".parse().unwrap();
            items.spawn(calls.clone().oneshot(embed));
        }
        for answer in items.join_all().await {
            let response = answer.unwrap();
            assert_eq!(response.status(), 200, "{:?}", response.extensions().get::<RetryReport>());
        }
        let rejected = api.counters().rejected;
        assert!(rejected <= 40, "{rejected} 429s for 200 items");
        let limit = api.physical_limit(200);
        assert!(start.elapsed() < limit * 3 / 2, "{:?}, and {limit:?} would do", start.elapsed());
    }
}
