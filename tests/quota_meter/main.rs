//! QuotaMeter: each call leaves when there is room for it, in order of arrival, and none is wasted.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod bodies;
mod budget;
mod changed;
mod dropped;
mod garbage;
mod gate;
mod given;
mod half_told;
mod handle;
mod held;
mod interleavings;
mod learning;
mod names;
mod order;
mod passing;
mod permits;
mod priority;
mod readiness;
mod refused;
mod scopes;
mod seen;
mod spellings;
mod spent;
mod store;
mod store_lost;
mod traps;
mod uploads;
mod usage;

use http::{Request, Response};
use tokio::task::JoinHandle;
use tower::{BoxError, Layer, Service};
use tower_outbound::{
    Refused, find_cause,
    quota_meter::{QuotaMeterLayer, Refusal, ResponseBody, TokenCost},
};

use self::common::{Desk, Text, later, limits, named, settled, told_limit as told, with};

type Answer = Result<Response<ResponseBody<http_body_util::Full<bytes::Bytes>>>, BoxError>;

fn meter() -> QuotaMeterLayer {
    QuotaMeterLayer::new().seed(1)
}

/// A meter before a desk, and the calls made through it.
struct Office {
    meter: QuotaMeterLayer,
    desk: Desk,
}

impl Office {
    fn new(meter: QuotaMeterLayer) -> Self {
        Self { meter, desk: Desk::default() }
    }

    /// One whose meter knows the limit, of which so much is left. The bucket refills in a minute.
    async fn with_left(meter: QuotaMeterLayer, limit: u32, left: u32) -> Self {
        let office = Self::new(meter);
        let first = office.call("first");
        settled().await;
        office.desk.answer("first", told(200, limit, left)).await;
        first.await.unwrap().unwrap();
        office
    }

    /// A call that is on its way, or waits.
    fn call(&self, name: &str) -> JoinHandle<Answer> {
        self.send(named(name))
    }

    fn send(&self, request: Request<Text>) -> JoinHandle<Answer> {
        // Called here and now, so that calls arrive in the order of the lines of the test.
        let mut service = self.meter.layer(self.desk.clone());
        tokio::spawn(service.call(request))
    }

    /// What comes of a call at once, without anybody answering it.
    async fn answer_to(&self, name: &str) -> Answer {
        self.answer_of(named(name)).await
    }

    async fn answer_of(&self, request: Request<Text>) -> Answer {
        let call = self.send(request);
        settled().await;
        assert!(call.is_finished(), "it is under way, or waits: {:?}", self.meter.snapshot());
        call.await.unwrap()
    }

    fn calls<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<JoinHandle<Answer>> {
        names.into_iter().map(|name| self.call(name)).collect()
    }

    /// So many calls, named by number from 0.
    fn many(&self, calls: usize) -> Vec<JoinHandle<Answer>> {
        (0..calls).map(|n| self.call(&n.to_string())).collect()
    }

    /// The names of those sent after the first `past`.
    fn sent_after(&self, past: usize) -> Vec<String> {
        self.desk.sent().split_off(past)
    }
}

/// A call that costs so many tokens.
fn costing(name: &str, tokens: u32) -> Request<Text> {
    with(named(name), TokenCost(tokens))
}

/// Why a call was not sent.
#[track_caller]
fn refusal(answer: &Answer) -> (&Refused, &Refusal) {
    let error = answer.as_ref().expect_err("a refusal");
    let refused: &Refused = find_cause(&**error).unwrap_or_else(|| panic!("no refusal: {error:?}"));
    assert_eq!(refused.by(), tower_outbound::Gate::Quota);
    (refused, find_cause(&**error).expect("the reason"))
}

/// Whether it has ended, after everybody did what they can.
async fn is_over<T>(call: &JoinHandle<T>) -> bool {
    settled().await;
    call.is_finished()
}
