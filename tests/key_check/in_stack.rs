//! A pool under a retry and over a meter that counts for each key by itself: a key that fails costs no request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Request;
use http_body_util::Full;
use tokio::{task::JoinSet, time::sleep};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::{
    ApiError, ErrorClassifyLayer, ErrorKind, Gate, Refused, RetryHint,
    backoff_retry::BackoffRetryLayer,
    body::Once,
    find_cause,
    key_check::{KeyCheckLayer, KeySource, KeyState, Origin, Placement, Token},
    mock::{Limit, Limits, MockApi, Script, ok},
    provider::{Gemini, OpenAi, Provider},
    quota_meter::{QuotaMeterLayer, Refusal},
};

use super::{named_key, origin};
use crate::common::{Text, Told, get, ms, post, secs, told};

const KEYS: [&str; 3] = ["sk-stack-a", "sk-stack-b", "sk-stack-c"];
const CALLS: usize = 240;

fn three(origin: Origin) -> KeyCheckLayer {
    let [a, b, c] = KEYS.map(named_key);
    KeyCheckLayer::new(a, origin).with_key(b).with_key(c)
}

fn api() -> MockApi {
    // A burst goes at once, and the rest waits in the meter's line for half a second.
    let limits = Limits::none().requests(Limit::per(120, ms(300)));
    MockApi::builder().keys(KEYS).limits(limits).service_time(ms(5)..=ms(20)).seed(3).build()
}

fn chat(base: &str) -> Request<Text> {
    const BODY: &str = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;
    let uri = format!("{base}/v1/chat/completions");
    Request::post(uri).header("content-type", "application/json").body(Full::from(BODY)).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Spent,
    Dead,
}

impl Fate {
    fn meet(self, api: &MockApi, key: &str) {
        match self {
            Self::Spent => api.spend_key(key),
            Self::Dead => api.revoke_key(key),
        }
    }

    /// Calls that were answered so.
    fn met(self, api: &MockApi) -> u64 {
        match self {
            Self::Spent => api.counters().quota_exhausted,
            Self::Dead => api.counters().refused,
        }
    }

    fn state(self) -> KeyState {
        match self {
            Self::Spent => KeyState::Spent,
            Self::Dead => KeyState::Rejected,
        }
    }
}

/// The calls are all under way when the key fails. Each key is an account of its own, with a quota of its own.
#[tokio::test(start_paused = true)]
async fn one_key_that_fails_costs_no_request_and_only_calls_in_the_air() {
    for fate in [Fate::Spent, Fate::Dead] {
        let accounts = KEYS.map(|_| api());
        let of_key = accounts.clone();
        let server = service_fn(move |request: Request<Text>| {
            let key = request.headers()["authorization"].to_str().unwrap().trim_start_matches("Bearer ");
            of_key[KEYS.iter().position(|known| *known == key).unwrap()].clone().oneshot(request)
        });
        let (key, meter) = (three(origin()), QuotaMeterLayer::new().seed(1));
        let stack = ServiceBuilder::new()
            .layer(BackoffRetryLayer::new().seed(1))
            .layer(&key)
            .layer(&meter)
            .layer(ErrorClassifyLayer::new(OpenAi))
            .service(server);
        let calls: JoinSet<_> = (0..3 * CALLS).map(|_| stack.clone().oneshot(chat("https://api.example"))).collect();
        let hit = &accounts[1];
        let waiting = || meter.handle().scopes().iter().map(|scope| scope.waiting).sum::<usize>();
        while hit.counters().admitted < 150 {
            sleep(ms(1)).await;
        }
        let (in_line, before) = (waiting(), hit.counters());
        assert!(in_line > 50, "{in_line} in line, {} sent", before.calls);
        fate.meet(hit, KEYS[1]);
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().status(), 200, "{fate:?}");
        }
        // Those on the way to the server, and those that leave before its first answer is back.
        let (met, sent) = (fate.met(hit), hit.counters().calls - before.calls);
        assert!(met >= 1 && met <= before.in_flight + sent && sent <= 20, "{fate:?}: {met} met it, {sent} were sent");
        assert_eq!(key.snapshot()[1].state, fate.state());
        assert_eq!(meter.handle().scopes().len(), KEYS.len(), "each key has a quota of its own");
    }
}

/// Over sockets and two threads, where a call in line may hear from the meter that the quota is used up before the call
/// that was told so has come out of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_tcp_too() {
    const WORKERS: usize = 48;
    for fate in [Fate::Spent, Fate::Dead, Fate::Spent, Fate::Dead] {
        let api = api();
        let server = api.serve().await.unwrap();
        let key = three(Origin::parse(&server.url()).unwrap());
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let stack = ServiceBuilder::new()
            .layer(BackoffRetryLayer::new())
            .layer(&key)
            .layer(QuotaMeterLayer::new())
            .layer(ErrorClassifyLayer::new(OpenAi))
            .service(client);
        let left = Arc::new(AtomicU32::new(CALLS as u32));
        let mut crew = JoinSet::new();
        for _ in 0..WORKERS {
            let (stack, left, url) = (stack.clone(), Arc::clone(&left), server.url());
            crew.spawn(async move {
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let answer = stack.clone().oneshot(chat(&url)).await;
                    assert_eq!(answer.expect("an answer").status(), 200);
                }
            });
        }
        while api.counters().admitted < 60 {
            sleep(ms(1)).await;
        }
        fate.meet(&api, KEYS[1]);
        while let Some(worker) = crew.join_next().await {
            worker.unwrap();
        }
        let met = fate.met(&api);
        assert!(met <= WORKERS as u64, "{fate:?}: {met} met it");
    }
}

/// What a meter on another thread may do: it refuses before the key's own answer has been seen.
#[tokio::test(start_paused = true)]
async fn the_meters_refusal_of_a_spent_key_turns_the_call_to_another() {
    let client = service_fn(|request: Request<Text>| async move {
        if request.headers()["authorization"] != "Bearer sk-stack-a" {
            return Ok::<_, BoxError>(http::Response::new(Text::default()));
        }
        let error = ApiError::new(ErrorKind::QuotaExhausted, RetryHint::Never);
        Err(Refused::new(Gate::Quota, Some(secs(60.0)), Refusal::Spent { error, wait: secs(60.0) }).into())
    });
    let key = three(origin());
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&key).service(client);
    for _ in 0..5 {
        assert_eq!(stack.clone().oneshot(get()).await.unwrap().status(), 200);
    }
    assert_eq!(key.snapshot()[0].state, KeyState::Spent);

    // With no other key it is the caller's to hear.
    let alone = KeyCheckLayer::new(named_key(KEYS[0]), origin());
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&alone).service(client);
    for _ in 0..2 {
        let error = stack.clone().oneshot(get()).await.unwrap_err();
        assert_eq!(find_cause::<Refused>(&*error).map(Refused::by), Some(Gate::Quota));
    }
}

/// By the numbers of their leases, wherever in the request they stand; and one that is rotated keeps its quota.
#[tokio::test(start_paused = true)]
async fn the_meter_tells_keys_apart_by_their_leases() {
    let meter = QuotaMeterLayer::new();
    let key = three(origin()).placement(Placement::query("key"));
    let stack = ServiceBuilder::new().layer(&key).layer(&meter).service(Told(Script::new().otherwise(ok("done"))));
    for _ in 0..9 {
        stack.clone().oneshot(get()).await.unwrap();
    }
    assert_eq!(meter.handle().scopes().len(), 3);

    let meter = QuotaMeterLayer::new();
    let number = Arc::new(AtomicU32::new(0));
    let source = KeySource::function(move || {
        let number = number.fetch_add(1, Relaxed);
        async move { Ok::<_, BoxError>(Token::new(named_key(&format!("sk-{number}"))).expires_in(secs(100.0))) }
    });
    let key = KeyCheckLayer::new(source, origin());
    let stack = ServiceBuilder::new().layer(&key).layer(&meter).service(Told(Script::new().otherwise(ok("done"))));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        stack.clone().oneshot(get()).await.unwrap();
        seen.extend(key.snapshot()[0].fingerprint.clone());
        sleep(secs(100.0)).await;
    }
    assert_eq!((seen.len(), meter.handle().scopes().len()), (5, 1));
}

/// A call that goes only once would bring the dead key's 401 home.
#[tokio::test(start_paused = true)]
async fn only_calls_that_can_go_again_look_at_a_dead_key() {
    let key = three(origin());
    let script = Script::new().otherwise(tower_outbound::mock::answer(|sent| {
        tower_outbound::mock::status(if sent.header("authorization") == Some("Bearer sk-stack-b") { 401 } else { 200 })
    }));
    let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&key).service(Told(script.clone()));
    for _ in 0..3 {
        assert_eq!(stack.clone().oneshot(get()).await.unwrap().status(), 200);
    }
    let tries =
        || script.calls().iter().filter(|sent| sent.header("authorization") == Some("Bearer sk-stack-b")).count();
    assert_eq!(tries(), 1);
    sleep(secs(61.0)).await;
    let once = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&key).service(Told(script.clone()));
    for _ in 0..10 {
        let response = once.clone().oneshot(post().map(Once::new)).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(tries(), 1, "none of them looked");
    assert_eq!(stack.clone().oneshot(get()).await.unwrap().status(), 200);
    assert_eq!(tries(), 2);
}

/// A meter's setting of its own for all keys: what refuses is then not this key's quota alone. All calls end alike, and
/// nobody takes the answer to one key for a fault of the others.
#[tokio::test(start_paused = true)]
async fn one_quota_for_all_keys_ends_for_all_and_the_others_stay_sound() {
    let key = three(origin()).spent_recheck(Duration::from_secs(30));
    let script = Script::new().otherwise(told(429, ErrorKind::QuotaExhausted, RetryHint::Never));
    let meter = QuotaMeterLayer::fixed();
    let stack =
        ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&key).layer(&meter).service(Told(script.clone()));
    for _ in 0..20 {
        match stack.clone().oneshot(get()).await {
            Ok(response) => assert_eq!(response.status(), 429),
            Err(error) => assert_eq!(find_cause::<Refused>(&*error).map(Refused::by), Some(Gate::Quota)),
        }
    }
    assert_eq!(script.calls().len(), 1, "the quota is one");
    let states: Vec<_> = key.snapshot().iter().map(|key| key.state).collect();
    assert_eq!(states, [KeyState::Spent, KeyState::Sound, KeyState::Sound]);
}

/// The same on several threads: who hears of the answer from the meter, before it has come to the key it is for, takes it
/// for its own, until it has come.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_taken_for_another_is_sound_again() {
    let error = ApiError::new(ErrorKind::QuotaExhausted, RetryHint::Never);
    let heard = Refusal::Spent { error: error.clone(), wait: secs(60.0) };
    let (answer, refusal) = (error.clone(), heard.clone());
    let server = service_fn(move |request: Request<Text>| {
        let (answer, refusal) = (answer.clone(), refusal.clone());
        async move {
            match request.headers()["authorization"].to_str().unwrap() {
                "Bearer sk-stack-a" => {
                    sleep(ms(10)).await;
                    let mut response = http::Response::new(Text::default());
                    *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
                    response.extensions_mut().insert(answer);
                    Ok::<_, BoxError>(response)
                }
                "Bearer sk-stack-b" => Err(Refused::new(Gate::Quota, Some(secs(60.0)), refusal).into()),
                _ => Ok(http::Response::new(Text::default())),
            }
        }
    });
    let key = three(origin());
    let stack = ServiceBuilder::new().layer(&key).service(server);
    let states = || key.snapshot().iter().map(|key| key.state).collect::<Vec<_>>();
    let first = tokio::spawn(stack.clone().oneshot(get()));
    tokio::task::yield_now().await;
    assert!(stack.clone().oneshot(get()).await.is_err());
    assert_eq!(states(), [KeyState::Sound, KeyState::Spent, KeyState::Sound]);
    assert_eq!(first.await.unwrap().unwrap().status(), 429);
    assert_eq!(states(), [KeyState::Spent, KeyState::Sound, KeyState::Sound]);
}

/// A quota by the day is a project's for one model, at Google's, whose key serves the other models as before; an account's
/// quota is the key's.
#[tokio::test(start_paused = true)]
async fn a_models_quota_is_not_the_keys() {
    const DAY: &str = r#"{"error":{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED",
        "details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[
            {"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}"#;
    const PLAN: &str = r#"{"error":{"message":"no","type":"usage_not_included"}}"#;
    const ACCOUNT: &str = r#"{"error":{"message":"no","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    async fn asked<P: Provider>(provider: P, body: &'static str, layer: &KeyCheckLayer, retry: bool) -> Vec<u16> {
        let server = service_fn(move |request: Request<Text>| {
            let key = request.headers()["authorization"].to_str().unwrap().to_owned();
            let is_out = request.uri().path().contains("small") && key == "Bearer sk-stack-a";
            let (status, body) = if is_out { (429, body) } else { (200, "{}") };
            let response = http::Response::builder().status(status).header("content-type", "application/json");
            std::future::ready(Ok::<_, BoxError>(response.body(Text::from(body)).unwrap()))
        });
        let inner = ServiceBuilder::new().layer(layer).layer(ErrorClassifyLayer::new(provider)).service(server);
        let mut statuses = Vec::new();
        for model in ["small", "large", "small", "large", "small"] {
            let request = Request::get(format!("https://api.example/v1/{model}")).body(Text::default()).unwrap();
            let status = if retry {
                let stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).service(inner.clone());
                stack.oneshot(request).await.map(|response| response.status().as_u16())
            } else {
                inner.clone().oneshot(request).await.map(|response| response.status().as_u16())
            };
            statuses.push(status.unwrap_or(0));
        }
        statuses
    }
    let alone = || KeyCheckLayer::new(named_key(KEYS[0]), origin());
    let state = |layer: &KeyCheckLayer| layer.snapshot()[0].state;

    for (gemini, body) in [(true, DAY), (false, PLAN)] {
        for layer in [alone(), three(origin())] {
            let is_pool = layer.snapshot().len() > 1;
            let statuses = match gemini {
                true => asked(Gemini, body, &layer, is_pool).await,
                false => asked(OpenAi, body, &layer, is_pool).await,
            };
            // Alone it is never refused; with others, another account's key may have what this one has not.
            assert_eq!(statuses, if is_pool { [200; 5] } else { [429, 200, 429, 200, 429] });
            assert_eq!(state(&layer), KeyState::Cooling);
        }
    }
    let layer = alone();
    assert_eq!(asked(OpenAi, ACCOUNT, &layer, false).await, [429, 0, 0, 0, 0]);
    assert_eq!(state(&layer), KeyState::Spent);
}
