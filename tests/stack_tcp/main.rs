//! The recommended stack over hyper-util's client and real sockets, against an API on which everything goes wrong at
//! once. In real time, so with high limits and little of it.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod every_fault;
mod key;
mod ready_made;
mod spent;
mod wire;

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use http::Request;
use http_body_util::Full;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};
use tower::{BoxError, ServiceExt};
use tower_outbound::{ApiError, ErrorKind, failure, mock::MockApi};

use self::wire::{Account, Body, Caller};

const KEY: &str = "sk-test-0123456789abcdef";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What came of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered,
    Failed(ErrorKind),
}

/// Runs so many items, a third of them streams; gives the end of each, by number. An item whose key is refused is sent
/// again until it is not.
async fn run(api: &MockApi, account: &Account, items: usize, workers: usize) -> Vec<End> {
    let server = api.serve().await.unwrap();
    let calls = account.stack(&server.url());
    let (give, jobs) = tokio::sync::mpsc::unbounded_channel();
    (0..items).for_each(|item| give.send(item).unwrap());
    drop(give);
    let jobs = std::sync::Arc::new(tokio::sync::Mutex::new(jobs));
    let mut crew = JoinSet::new();
    for _ in 0..workers {
        let (calls, jobs, url, account) = (calls.clone(), jobs.clone(), server.url(), account.clone());
        crew.spawn(async move {
            let mut ends = Vec::new();
            loop {
                let next = jobs.lock().await.recv().await;
                let Some(item) = next else { return ends };
                let mut end = ask(calls.clone(), &url, item).await;
                while end == End::Failed(ErrorKind::Authentication) {
                    account.refused.fetch_add(1, Relaxed);
                    sleep(ms(20)).await;
                    end = ask(calls.clone(), &url, item).await;
                }
                ends.push((item, end));
            }
        });
    }
    let mut ends: Vec<(usize, End)> = crew.join_all().await.concat();
    ends.sort_unstable_by_key(|(item, _)| *item);
    assert!(ends.iter().map(|(item, _)| *item).eq(0..items), "every item has one end");
    ends.into_iter().map(|(_, end)| end).collect()
}

fn is_stream(item: usize) -> bool {
    item.is_multiple_of(3)
}

/// Sends an item, and reads its answer to the end.
async fn ask(calls: Caller, url: &str, item: usize) -> End {
    let message = json!({ "role": "user", "content": format!("number {item}.") });
    let body = json!({ "model": "m", "messages": [message], "max_tokens": 10, "stream": is_stream(item) });
    let request = Request::post(format!("{url}/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("x-request-tag", item.to_string())
        .body(Full::from(body.to_string()))
        .unwrap();
    let result = calls.oneshot(request).await;
    if let Some(error) = failure(&result) {
        return End::Failed(error.kind());
    }
    match read(result.unwrap().into_body()).await {
        Ok(text) => {
            assert!(text.contains(&format!("number {item}.")), "another item's answer: {text}");
            assert_eq!(is_stream(item), text.ends_with("[DONE]"), "{text}");
            End::Answered
        }
        Err(error) => End::Failed(ApiError::from_error(&*error).kind()),
    }
}

/// The whole answer; of a stream, the words of its events and how it ends.
async fn read(body: Body) -> Result<String, BoxError> {
    use http_body_util::BodyExt;
    let text = String::from_utf8(body.collect().await?.to_bytes().into())?;
    if !text.starts_with("data: ") {
        return Ok(text);
    }
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let words = events.map(|event| match serde_json::from_str::<serde_json::Value>(event) {
        Ok(event) => event["choices"][0]["delta"]["content"].as_str().unwrap_or("").to_owned(),
        Err(_) => event.to_owned(),
    });
    Ok(words.collect())
}
