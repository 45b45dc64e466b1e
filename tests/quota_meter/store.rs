//! A quota that several meters share through a store.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http_body_util::BodyExt;
use tokio::time::{Duration, Instant, sleep};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{
    BackoffRetryLayer, Call, QuotaMeterLayer, TokenCost,
    mock::{Limit, Limits, MockApi},
    nz,
    quota_meter::{Ask, Batch, Leased, Leasing, MemoryStore, Quota, QuotaStore, ScopeName},
};

use super::{Office, costing, meter, refusal, settled};
use crate::common::{Text, ms, named, reply, secs, with};

fn embed() -> http::Request<Text> {
    let mut request = with(named("embed"), TokenCost(5));
    *request.uri_mut() = "http://api.example/v1/embeddings".parse().unwrap();
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = r#"{"model":"m","input":"hi"}"#.into();
    request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
    request
}

/// So many calls through each of these meters, 32 workers each; how long all took.
async fn batch(api: &MockApi, meters: &[QuotaMeterLayer], calls: usize) -> f64 {
    let start = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for meter in meters {
        let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(meter).service(api.clone());
        for worker in 0..32 {
            let stack = stack.clone();
            workers.spawn(async move {
                for _ in (worker..calls).step_by(32) {
                    assert_eq!(stack.clone().oneshot(embed()).await.unwrap().status(), 200);
                }
            });
        }
    }
    workers.join_all().await;
    start.elapsed().as_secs_f64()
}

/// Without headers two meters know nothing of each other but what the store says.
#[tokio::test(start_paused = true)]
async fn two_meters_share_what_it_holds_and_waste_nothing() {
    let limits = Limits::none().hidden(Limit::per_minute(300));
    let api = MockApi::builder().limits(limits).rate_headers(false).service_time(ms(100)..=ms(100)).build();
    let store = MemoryStore::new(Quota::per_minute(nz!(300)));
    let meters = [1, 2].map(|seed| QuotaMeterLayer::new().seed(seed).store(store.clone()));
    let took = batch(&api, &meters, 750).await;
    assert_eq!(api.counters().rejected, 0);
    assert!((240.0..=252.0).contains(&took), "{took} s where 240 are possible");
}

/// A minute's and a day's, both.
#[tokio::test(start_paused = true)]
async fn every_limit_that_is_given_is_kept() {
    let api = MockApi::builder().rate_headers(false).service_time(ms(100)..=ms(100)).build();
    let store = MemoryStore::new(Quota::per_minute(nz!(60)).requests_per_day(nz!(90)).tokens_per_day(nz!(1_000)));
    let took = batch(&api, &[meter().store(store)], 95).await;
    // One comes back each 960 s; up to one lapses with its batch.
    assert!((4_700.0..5_700.0).contains(&took), "{took} s where 4,770 are possible");
}

/// What no quota names, meters learn from the answers, and the store from them.
#[tokio::test(start_paused = true)]
async fn what_one_meter_learns_all_are_lent_of() {
    let api = MockApi::builder().limits(Limits::per_minute(300, 1_000_000)).service_time(ms(100)..=ms(100)).build();
    let store = MemoryStore::new(Quota::learned());
    let meters = [1, 2].map(|seed| QuotaMeterLayer::new().seed(seed).store(store.clone()));
    let took = batch(&api, &meters, 750).await;
    assert!(api.counters().rejected <= 3, "{:?}", api.counters());
    assert!(took <= 252.0, "{took} s where 240 are possible");
}

type Answer = Result<Leased, &'static str>;

/// So many tokens were reckoned, and a tenth used.
#[tokio::test(start_paused = true)]
async fn what_calls_did_not_take_is_lent_to_others() {
    let quota = Quota::per_minute(nz!(100_000)).tokens_per_minute(nz!(10_000));
    let store = MemoryStore::new(quota);
    let shared = || QuotaMeterLayer::new().seed(1).store(store.clone());
    let calls = async |layers: Vec<QuotaMeterLayer>| {
        let done = Arc::new(AtomicUsize::new(0));
        let mut workers = tokio::task::JoinSet::new();
        for layer in layers {
            let api = service_fn(|_: http::Request<Text>| async {
                sleep(ms(20)).await;
                let answer = http::Response::builder().header("content-type", "application/json");
                let usage = r#"{"usage":{"prompt_tokens":50,"completion_tokens":50}}"#;
                Ok::<_, std::convert::Infallible>(answer.body(Text::from(usage)).unwrap())
            });
            let stack = ServiceBuilder::new().layer(layer).service(api);
            for _ in 0..8 {
                let (stack, done) = (stack.clone(), Arc::clone(&done));
                workers.spawn(async move {
                    loop {
                        let answer = stack.clone().oneshot(costing("x", 1_000)).await.unwrap();
                        answer.into_body().collect().await.unwrap();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        sleep(secs(300.0)).await;
        done.load(Ordering::Relaxed)
    };
    let alone = calls(vec![QuotaMeterLayer::new().seed(1).quota(quota)]).await;
    assert!(alone > 550, "{alone} without a store");
    for layers in [vec![shared()], vec![shared(), shared()]] {
        let meters = layers.len();
        let done = calls(layers).await;
        // The store keeps a second's worth back, and starts each case where the last left it.
        assert!(
            done as f64 >= 0.8 * (alone - 100) as f64,
            "{done} calls by {meters} meters, and {alone} without a store"
        );
    }
}

/// Answers as the test says, after a while, and keeps what it was asked.
#[derive(Clone, Debug, Default)]
struct Scripted {
    answers: Arc<Mutex<Vec<Answer>>>,
    asked: Arc<AtomicUsize>,
    returned: Arc<Mutex<Vec<Batch>>>,
    scopes: Arc<Mutex<Vec<ScopeName>>>,
    takes: Duration,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl QuotaStore for Scripted {
    fn lease(&self, ask: Ask) -> Leasing {
        assert!(ask.least.requests <= ask.wanted.requests && ask.least.tokens <= ask.wanted.tokens, "{ask:?}");
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.scopes.lock().unwrap().push(ask.scope);
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Err("no more"));
        let takes = self.takes;
        Box::pin(async move {
            sleep(takes).await;
            answer.map_err(Into::into)
        })
    }

    fn give_back(&self, _: &ScopeName, unused: Batch) {
        self.returned.lock().unwrap().push(unused);
    }
}

fn lent(requests: f64) -> Answer {
    Ok(Leased::Now(Batch::new(requests, 1_000.0), secs(10.0)))
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_before_it_is_lent() {
    let store = Scripted { takes: secs(1.0), ..Scripted::new([lent(1.0), Ok(Leased::Later(secs(5.0))), lent(2.0)]) };
    let office = Office::new(meter().store(store.clone()));
    let _calls = office.many(3);
    settled().await;
    assert_eq!((office.desk.count(), store.asked()), (0, 1), "asked once, for all who wait");
    sleep(secs(1.1)).await;
    assert_eq!(office.desk.open(), ["0"]);
    sleep(secs(5.0)).await;
    assert_eq!(office.desk.open(), ["0"], "not before the time that the store named");
    sleep(secs(3.0)).await;
    assert_eq!(office.desk.open(), ["0", "1", "2"]);
}

/// One that lends nothing, or too little, or for no time, is not asked as fast as it answers.
#[tokio::test(start_paused = true)]
async fn a_store_that_helps_nobody_is_asked_ever_more_seldom() {
    let now = |requests: f64, time| Ok(Leased::Now(Batch::new(requests, 0.0), time));
    for answer in
        [now(0.0, secs(10.0)), now(0.001, secs(10.0)), now(5.0, Duration::ZERO), Ok(Leased::Later(Duration::ZERO))]
    {
        // If it is asked more often, it fails, and all calls go.
        let store = Scripted::new(std::iter::repeat_n(answer, 100));
        let office = Office::new(meter().store(store.clone()));
        let _call = office.call("first");
        sleep(secs(60.0)).await;
        assert!((8..=20).contains(&store.asked()), "{answer:?}: asked {} times in a minute", store.asked());
        assert_eq!(office.desk.count(), 0, "{answer:?}");
    }
}

/// What is too little for a call is kept until there is enough.
#[tokio::test(start_paused = true)]
async fn small_batches_add_up() {
    let store = Scripted::new((0..4).map(|_| Ok(Leased::Now(Batch::new(0.25, 0.0), secs(10.0)))));
    let office = Office::new(meter().store(store.clone()));
    let _call = office.call("first");
    sleep(secs(1.0)).await;
    assert_eq!(office.desk.open(), ["first"]);
    assert!(store.asked() >= 4, "{}", store.asked());
}

/// What the store says of time holds for who may not wait, and for who asks.
#[tokio::test(start_paused = true)]
async fn a_store_that_says_later_is_waited_for_and_that_is_known() {
    let store = Scripted::new([Ok(Leased::Later(secs(60.0))), lent(10.0)]);
    let office = Office::new(meter().max_wait(secs(90.0)).store(store.clone()));
    let _first = office.call("first");
    sleep(secs(1.0)).await;
    let handle = office.meter.handle();
    assert_eq!(handle.expected_wait(&named("x")), Some(secs(59.0)));
    assert_eq!(handle.snapshot().expected_wait, Some(secs(59.0)));
    assert_eq!(handle.try_acquire(&named("x")).unwrap_err().wait(), Some(secs(59.0)));
    let hurried = with(named("hurried"), Call::now().with_deadline(Instant::now() + secs(5.0)));
    let refused = office.answer_of(hurried).await;
    assert_eq!(refusal(&refused).0.wait(), Some(secs(59.0)));
    let second = office.call("second");
    sleep(secs(58.9)).await;
    assert_eq!((office.desk.count(), store.asked()), (0, 1));
    sleep(secs(0.2)).await;
    assert_eq!(office.desk.open(), ["first", "second"]);
    drop(second);
}

/// Who would never wait asks the store all the same.
#[tokio::test(start_paused = true)]
async fn to_ask_for_a_permit_asks_for_a_lease() {
    let store = Scripted::new([lent(10.0)]);
    let layer = meter().store(store.clone());
    let handle = layer.handle();
    // Whose quota it is has to be known.
    let keyed = || {
        let mut request = named("x");
        request.headers_mut().insert("authorization", "Bearer sk-any".parse().unwrap());
        request
    };
    assert!(handle.try_acquire(&keyed()).is_err());
    settled().await;
    assert_eq!(store.asked(), 1);
    assert!(handle.try_acquire(&keyed()).is_ok());
}

/// Then each machine is on its own, as without one.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_stalls_nobody() {
    for takes in [0.0, 3_600.0] {
        let store = Scripted { takes: secs(takes), ..Scripted::new([Err("it is down"), lent(1.0)]) };
        let office = Office::new(meter().store(store.clone()));
        let _call = office.call("first");
        sleep(secs(6.0)).await;
        assert_eq!(office.desk.open(), ["first"], "{takes}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_used_goes_back() {
    let store = Scripted::new([lent(10.0), lent(10.0)]);
    let office = Office::new(meter().store(store.clone()));
    let call = office.call("first");
    settled().await;
    office.desk.answer("first", reply(200)).await;
    call.await.unwrap().unwrap();
    assert_eq!(*store.returned.lock().unwrap(), []);
    sleep(secs(60.0)).await;
    assert_eq!(store.asked(), 1, "nobody calls: nothing is kept for them");
    let _second = office.send(costing("second", 100));
    settled().await;
    assert_eq!(*store.returned.lock().unwrap(), [Batch::new(9.0, 1_000.0)], "its time is over");
    assert_eq!(office.desk.open(), ["second"]);
    drop((_second, office));
    settled().await;
    assert_eq!(store.returned.lock().unwrap().last(), Some(&Batch::new(9.0, 900.0)));
}

/// Other machines can use it then, whether anybody calls here or not.
#[tokio::test(start_paused = true)]
async fn what_has_lapsed_goes_back_at_once() {
    let store = Scripted::new([lent(10.0)]);
    let office = Office::new(meter().store(store.clone()));
    let _call = office.call("first");
    sleep(secs(9.9)).await;
    assert_eq!(*store.returned.lock().unwrap(), []);
    sleep(secs(0.2)).await;
    assert_eq!(*store.returned.lock().unwrap(), [Batch::new(9.0, 1_000.0)]);
    drop((_call, office));
    sleep(secs(60.0)).await;
    assert_eq!(store.returned.lock().unwrap().len(), 1, "once");
}

/// Whatever happens to a batch, the store gets back what was not used, and no more.
#[tokio::test(start_paused = true)]
async fn nothing_that_was_lent_is_lost_or_given_back_twice() {
    // Too late for the time of the one before it, too little, for no time, and enough.
    let short = |requests| Ok(Leased::Now(Batch::new(requests, 0.0), secs(1.5)));
    let no_time = Ok(Leased::Now(Batch::new(7.0, 0.0), Duration::ZERO));
    let never = Ok(Leased::Later(secs(3_600.0)));
    let store = Scripted {
        takes: secs(2.0),
        ..Scripted::new([short(10.0), short(20.0), short(0.5), no_time, short(40.0), never])
    };
    let office = Office::new(meter().store(store.clone()));
    let mut calls = Vec::new();
    for _ in 0..60 {
        calls.push(office.call("any"));
        sleep(ms(400)).await;
        office.desk.answer_all(|| reply(200)).await;
    }
    let sent = office.desk.count() as f64;
    assert!(store.asked() == 6 && sent > 20.0, "asked {} times, sent {sent}", store.asked());
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    drop((calls, office));
    settled().await;
    let returned: f64 = store.returned.lock().unwrap().iter().map(|batch| batch.requests).sum();
    assert_eq!(returned + sent, 77.5, "{returned} returned, {sent} sent");
}

#[tokio::test(start_paused = true)]
async fn what_has_lapsed_goes_back_with_the_scope() {
    let store = Scripted::new([lent(10.0)]);
    let office = Office::new(meter().store(store.clone()));
    let call = office.call("first");
    settled().await;
    office.desk.answer("first", reply(200)).await;
    call.await.unwrap().unwrap();
    sleep(secs(60.0)).await;
    drop(office);
    assert_eq!(*store.returned.lock().unwrap(), [Batch::new(9.0, 1_000.0)]);
}

/// Two machines call a quota by the same name, and two quotas of one host by different ones; neither says the key.
#[tokio::test(start_paused = true)]
async fn the_quotas_of_two_keys_are_told_apart_alike_on_every_machine() {
    let store = Scripted::new([]);
    let mut calls = Vec::new();
    for machine in 0..2 {
        let office = Office::new(meter().seed(machine).store(store.clone()));
        for key in ["Bearer sk-one", "Bearer sk-other"] {
            let mut request = named("any");
            request.headers_mut().insert("authorization", key.parse().unwrap());
            calls.push(office.send(request));
            settled().await;
        }
    }
    let scopes = store.scopes.lock().unwrap();
    let [one, other, same_one, same_other] = &scopes[..] else { panic!("{scopes:?}") };
    assert_eq!((one, other), (same_one, same_other));
    assert_ne!(one, other);
    assert!(!format!("{one} {one:?}").contains("sk-"), "{one:?}");
}

#[tokio::test(start_paused = true)]
async fn senseless_batches_do_no_harm() {
    for odd in [f64::NAN, f64::INFINITY, -5.0, 0.0, 1e300] {
        let odd = Ok(Leased::Now(Batch::new(odd, odd), Duration::MAX));
        let store = Scripted::new([odd, Ok(Leased::Later(Duration::ZERO)), lent(4.0)]);
        let office = Office::new(meter().store(store));
        let _call = office.send(costing("first", 10));
        sleep(secs(30.0)).await;
        assert_eq!(office.desk.open(), ["first"]);
    }
}
