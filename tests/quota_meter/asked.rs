//! What a call would have to wait, asked before it has a key, or a host: of the stack, and of the meter alone.

use http::Request;
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_outbound::{
    ApiKey, BackoffRetryLayer, KeyCheckLayer, Origin, QuotaMeterLayer, Refused, find_cause,
    mock::{Limits, MockApi},
    nz,
    quota_meter::{MeterHandle, Quota, Refusal, Scoping},
    stack::{self, Stack, StackFault},
};

use super::{is_over, meter};
use crate::common::{Text, ms, secs, with};

const URL: &str = "https://api.openai.com/v1/chat/completions";
const KEYS: [&str; 2] = ["sk-one-0123456789", "sk-other-0123456789"];

fn chat_with(uri: &str, model: &str) -> Request<Text> {
    let body = format!(r#"{{"model":"{model}","max_tokens":1,"messages":[{{"role":"user","content":"hi"}}]}}"#);
    Request::post(uri).header("content-type", "application/json").body(Full::from(body)).unwrap()
}

fn chat(uri: &str) -> Request<Text> {
    chat_with(uri, "gpt-4o-mini")
}

fn with_own_key(mut request: Request<Text>) -> Request<Text> {
    request.headers_mut().insert("authorization", format!("Bearer {}", KEYS[0]).parse().unwrap());
    request
}

/// Six calls a minute for each key.
fn api() -> MockApi {
    MockApi::builder().keys(KEYS).limits(Limits::per_minute(6, 1_000_000)).service_time(ms(20)..=ms(20)).build()
}

fn stack_of(meter: QuotaMeterLayer) -> Stack {
    stack::openai().base_url("https://api.openai.com/v1").api_key(KEYS[0]).quota(meter).checked().unwrap()
}

fn keys() -> KeyCheckLayer {
    let [one, other] = KEYS.map(|key| ApiKey::new(key).unwrap());
    KeyCheckLayer::new(one, Origin::parse("https://api.openai.com").unwrap()).with_key(other)
}

fn names(handle: &MeterHandle) -> Vec<String> {
    handle.scopes().iter().map(|scope| scope.scope.to_string()).collect()
}

#[track_caller]
fn other_permit(error: &tower::BoxError) -> (&Refused, &Refusal) {
    let refusal: &Refusal = find_cause(&**error).unwrap_or_else(|| panic!("{error:?}"));
    assert!(matches!(refusal, Refusal::OtherPermit { .. }), "{refusal:?}");
    (find_cause(&**error).unwrap(), refusal)
}

/// By a path or a whole URL, of the stack, its service, or the meter's handle: all say what the call will wait.
#[tokio::test(start_paused = true)]
async fn the_stack_knows_the_host_and_the_key_of_a_call() {
    for scoping in [Scoping::default(), Scoping::one().per_host().per_model()] {
        let stack = stack_of(meter().scoping(scoping));
        let (handle, service) = (stack.quota_meter().handle(), stack.layer(api()));
        assert_eq!(stack.expected_wait(&chat("/chat/completions")), None, "nothing is known yet");
        for _ in 0..6 {
            service.clone().oneshot(chat("/chat/completions")).await.unwrap();
        }
        let known = handle.snapshot().expected_wait.filter(|wait| *wait > secs(9.0));
        assert!(known.is_some(), "{:?}", handle.snapshot());
        for request in [chat("/chat/completions"), chat(URL)] {
            assert_eq!(stack.expected_wait(&request), known);
            assert_eq!(service.expected_wait(&request), known);
            assert_eq!(handle.expected_wait(&request), known);
            for refused in [stack.try_acquire(&request), service.try_acquire(&request), handle.try_acquire(&request)] {
                assert_eq!(refused.unwrap_err().wait(), known);
            }
        }
        assert_eq!(handle.expected_wait(&with_own_key(chat(URL))), known, "it is the same key");
        let other = chat_with("/chat/completions", "gpt-4o");
        assert_eq!((stack.expected_wait(&other), handle.expected_wait(&other)), (None, None));
        assert_eq!(handle.scopes().len(), 1, "{:?}", names(&handle));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_permit_of_the_stack_leaves_at_once() {
    let stack = stack_of(meter());
    let (handle, service) = (stack.quota_meter().handle(), stack.layer(api()));
    // Before the first call, too: whose quota it is, is known.
    let first = stack.try_acquire(&chat("/chat/completions")).unwrap();
    for n in 0..5 {
        let permit = if n == 0 { first.clone() } else { stack.try_acquire(&chat(URL)).unwrap() };
        service.clone().oneshot(with(chat("/chat/completions"), permit)).await.unwrap();
    }
    let permit = service.try_acquire(&chat("/chat/completions")).unwrap();
    let waits = tokio::spawn(service.clone().oneshot(chat("/chat/completions")));
    assert!(!is_over(&waits).await);
    let start = Instant::now();
    service.clone().oneshot(with(chat("/chat/completions"), permit)).await.unwrap();
    assert!(start.elapsed() < secs(0.1), "left after {:?}", start.elapsed());
    waits.abort();
    assert_eq!(names(&handle).len(), 1, "{:?}", names(&handle));
}

/// It would be that of a scope that no call is ever in.
#[tokio::test(start_paused = true)]
async fn to_ask_makes_no_scope() {
    let stack = stack_of(meter().max_scopes(nz!(2)));
    let handle = stack.quota_meter().handle();
    for uri in ["/chat/completions", URL] {
        assert_eq!((handle.expected_wait(&chat(uri)), stack.expected_wait(&chat(uri))), (None, None));
        drop(handle.try_acquire(&chat(uri)).unwrap());
    }
    assert_eq!(names(&handle), [""; 0]);
}

/// One meter for several stacks: each knows which quota is its own.
#[tokio::test(start_paused = true)]
async fn stacks_that_share_a_meter_answer_for_themselves() {
    let layer = meter().quota(Quota::per_minute(nz!(6)));
    let api = MockApi::builder().keys(KEYS).build();
    let stack = |host: &str, key: &str| {
        let stack = stack::openai().base_url(&format!("https://{host}/v1")).api_key(key).quota(layer.clone());
        stack.checked().unwrap()
    };
    let stacks = [stack("a.example", KEYS[0]), stack("a.example", KEYS[1]), stack("b.example", KEYS[0])];
    for (stack, calls) in stacks.iter().zip([6, 5, 4]) {
        for _ in 0..calls {
            stack.layer(api.clone()).oneshot(chat("/chat/completions")).await.unwrap();
        }
    }
    let waits = stacks.each_ref().map(|stack| stack.expected_wait(&chat("/chat/completions")).unwrap());
    assert!(waits[0] > secs(5.0) && waits[1..] == [secs(0.0); 2], "{waits:?}");
    let permits = stacks.each_ref().map(|stack| stack.try_acquire(&chat("/chat/completions")).ok());
    for (stack, permit) in stacks.iter().zip(permits).skip(1) {
        let start = Instant::now();
        let call = with(chat("/chat/completions"), permit.unwrap());
        stack.layer(api.clone()).oneshot(call).await.unwrap();
        assert!(start.elapsed() < secs(5.0), "left after {:?}", start.elapsed());
    }
    assert!(stacks[0].try_acquire(&chat("/chat/completions")).is_err());
    assert!(stacks[1].try_acquire(&chat("/chat/completions")).is_err(), "its last went with the permit");
    assert!(stacks[2].try_acquire(&chat("/chat/completions")).is_ok());
}

/// Put together by hand, the meter sees no key; which one the call will get it cannot know.
#[tokio::test(start_paused = true)]
async fn of_several_keys_the_one_with_the_least_wait_answers() {
    let layer = meter().quota(Quota::per_minute(nz!(6)));
    let handle: MeterHandle = layer.handle();
    let api = MockApi::builder().keys(KEYS).service_time(ms(20)..=ms(20)).build();
    let service = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(keys()).layer(layer).service(api);
    for _ in 0..11 {
        service.clone().oneshot(chat(URL)).await.unwrap();
    }
    // It takes the turn of the key that has room.
    service.clone().oneshot(chat_with(URL, "gpt-4o")).await.unwrap();
    let scopes = handle.scopes();
    let waits: Vec<_> = scopes.iter().filter(|scope| scope.scope.model() == "gpt-4o-mini").collect();
    let waits: Vec<_> = waits.iter().map(|scope| scope.expected_wait.unwrap()).collect();
    assert!(waits.len() == 2 && waits.contains(&secs(0.0)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > secs(5.0)), "{waits:?}");
    assert_eq!(handle.expected_wait(&chat(URL)), Some(secs(0.0)));
    // The call is lent the key that the permit is for.
    let permit = handle.try_acquire(&chat(URL)).unwrap();
    assert!(handle.try_acquire(&chat(URL)).is_err());
    let start = Instant::now();
    service.clone().oneshot(with(chat(URL), permit)).await.unwrap();
    assert!(start.elapsed() < secs(0.1), "left after {:?}", start.elapsed());
    assert_eq!(names(&handle).len(), scopes.len());
}

/// It does not wait, for its caller asked not to; and it does not keep what others could use.
#[tokio::test(start_paused = true)]
async fn a_permit_of_another_scope_is_told() {
    let layer = meter().quota(Quota::per_minute(nz!(2)));
    let handle: MeterHandle = layer.handle();
    let service = ServiceBuilder::new().layer(layer).service(MockApi::builder().build());
    let call = |model| with_own_key(chat_with(URL, model));
    for model in ["a", "a", "b"] {
        service.clone().oneshot(call(model)).await.unwrap();
    }
    let permit = handle.try_acquire(&call("b")).unwrap();
    let start = Instant::now();
    let error = service.clone().oneshot(with(call("a"), permit.clone())).await.unwrap_err();
    assert_eq!(start.elapsed(), secs(0.0));
    let (refused, refusal) = other_permit(&error);
    assert!(refused.wait().is_some_and(|wait| wait > secs(20.0)), "{refused:?}");
    let Refusal::OtherPermit { permit: of, call: own, .. } = refusal else { unreachable!() };
    assert_eq!((of.model(), own.model()), ("b", "a"));
    assert!(handle.try_acquire(&call("b")).is_ok(), "given back");
    // Where there is room, it makes no difference.
    sleep(secs(60.0)).await;
    let permit = handle.try_acquire(&call("b")).unwrap();
    service.clone().oneshot(with(call("a"), permit)).await.unwrap();
    assert_eq!(handle.scopes().iter().map(|scope| scope.in_flight).sum::<usize>(), 0);
}

/// Had before anybody knew which scope it would be, it is good for a call that has room.
#[tokio::test(start_paused = true)]
async fn a_permit_from_before_the_first_call_leaves_at_once_or_is_refused() {
    let layer = meter().quota(Quota::per_minute(nz!(1)));
    let handle: MeterHandle = layer.handle();
    let service = ServiceBuilder::new().layer(keys()).layer(layer).service(api());
    let permits = [(); 3].map(|()| handle.try_acquire(&chat(URL)).unwrap());
    let start = Instant::now();
    let mut refused = 0;
    for permit in permits {
        if let Err(error) = service.clone().oneshot(with(chat(URL), permit)).await {
            other_permit(&error);
            refused += 1;
        }
    }
    assert!(start.elapsed() < secs(5.0), "{:?}", start.elapsed());
    assert_eq!(refused, 1, "one for each of the two keys goes");
}

/// What makes every call fail makes a permit of no use.
#[tokio::test(start_paused = true)]
async fn an_unsound_stack_gives_no_permit() {
    let stack = stack::openai().base_url("https://api.openai.com/v1").api_key("");
    let refused = stack.try_acquire(&chat("/chat/completions")).unwrap_err();
    assert!(find_cause::<StackFault>(&refused).is_some(), "{refused:?}");
    assert!(stack.try_acquire(&with_own_key(chat("/chat/completions"))).is_ok());
}
