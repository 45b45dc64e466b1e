//! What the layers do together, that none does alone: who waits, who counts, who stands where in line, who turns back.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

#[path = "../common/mod.rs"]
mod common;

mod again;
mod arrival;
mod deadline;
mod dropped;
mod every_await;
mod front;
mod lease;
mod probe;
mod spent;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::task::JoinHandle;
use tower::{BoxError, Service, ServiceBuilder, util::BoxCloneService};
use tower_outbound::{
    ApiKey, BackoffRetryLayer, ErrorClassifyLayer, KeyCheckLayer, Origin, QuotaMeterLayer,
    backoff_retry::RetryReport,
    find_cause,
    provider::OpenAi,
    quota_meter::{Refusal, Scoping},
};

use self::common::{Desk, Reply, Text, named, reply, settled, told_limit};

type Answer = Result<Response<()>, BoxError>;

/// The layers in the recommended order, before a desk.
struct Stack {
    retry: BackoffRetryLayer,
    key: KeyCheckLayer,
    meter: QuotaMeterLayer,
    desk: Desk,
}

impl Stack {
    fn new() -> Self {
        let key = ApiKey::new("sk-test-0123456789abcdef").unwrap();
        Self {
            retry: BackoffRetryLayer::new().seed(1),
            key: KeyCheckLayer::new(key, Origin::parse("https://api.example").unwrap()),
            // Calls with a key and calls without one stand in one line.
            meter: QuotaMeterLayer::new().scoping(Scoping::one()).seed(1),
            desk: Desk::default(),
        }
    }

    /// One whose meter knows a limit a minute, of which so much is left.
    async fn with_left(self, limit: u32, left: u32) -> Self {
        let first = self.call("first");
        settled().await;
        self.desk.answer("first", told_limit(200, limit, left)).await;
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
        self
    }

    fn retry(self, change: impl FnOnce(BackoffRetryLayer) -> BackoffRetryLayer) -> Self {
        Self { retry: change(self.retry), ..self }
    }

    fn over<S, RB>(&self, service: S) -> BoxCloneService<Request<Text>, Response<()>, BoxError>
    where
        S: Service<Request<Text>, Response = Response<RB>> + Clone + Send + 'static,
        S::Error: Into<BoxError> + Send,
        S::Future: Send,
        RB: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        ServiceBuilder::new()
            .boxed_clone()
            .map_response(|response: Response<_>| response.map(drop))
            .layer(&self.retry)
            .layer(&self.key)
            .layer(&self.meter)
            .layer(ErrorClassifyLayer::new(OpenAi))
            .service(service)
    }

    /// A call that is on its way, or waits: made here and now, so that calls arrive in the order of the test's lines.
    fn send(&self, request: Request<Text>) -> JoinHandle<Answer> {
        tokio::spawn(self.over(self.desk.clone()).call(request))
    }

    fn call(&self, name: &str) -> JoinHandle<Answer> {
        self.send(named(name))
    }

    /// So many calls, named by number from 0.
    fn many(&self, calls: usize) -> Vec<JoinHandle<Answer>> {
        (0..calls).map(|n| self.call(&n.to_string())).collect()
    }

    /// The names of those sent after the first `past`.
    fn sent_after(&self, past: usize) -> Vec<String> {
        self.desk.sent().split_off(past)
    }

    /// Calls in the meter's line, and calls in flight.
    fn held(&self) -> (usize, usize) {
        let now = self.meter.snapshot();
        (now.waiting, now.in_flight)
    }
}

/// What came of a call that has ended, or must have by now.
async fn ended(call: JoinHandle<Answer>) -> Answer {
    settled().await;
    assert!(call.is_finished(), "it is under way, or waits");
    call.await.unwrap()
}

/// The meter's reason for not sending a call.
#[track_caller]
fn refusal(answer: &Answer) -> &Refusal {
    let error = answer.as_ref().expect_err("a refusal");
    find_cause(&**error).unwrap_or_else(|| panic!("no refusal: {error:?}"))
}

#[track_caller]
fn report(answer: &Answer) -> &RetryReport {
    answer.as_ref().expect("a response").extensions().get().expect("a report")
}

/// The answer of an account without money.
fn used_up() -> Reply {
    let mut spent = reply(429);
    *spent.body_mut() = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}"#.into();
    spent
}
