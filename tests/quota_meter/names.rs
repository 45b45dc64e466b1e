//! What a key's quota is called: the same by every machine.

use std::sync::{Arc, Mutex};

use tower::{ServiceBuilder, ServiceExt};
use tower_outbound::{
    ApiKey, KeyCheckLayer, Origin, QuotaMeterLayer,
    key_check::{KeySource, Placement},
    mock::MockApi,
    quota_meter::{Ask, Batch, Leasing, MeterHandle, QuotaStore, ScopeName},
    stack::{self, Stack},
};

use crate::common::{Text, secs};

const ONE: &str = "sk-one-0123456789";
const OTHER: &str = "sk-other-0123456789";

/// Keeps who asked, and lends nothing.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<Vec<ScopeName>>>);

impl Names {
    fn last(&self) -> ScopeName {
        self.0.lock().unwrap().last().unwrap().clone()
    }
}

impl QuotaStore for Names {
    fn lease(&self, ask: Ask) -> Leasing {
        self.0.lock().unwrap().push(ask.scope);
        Box::pin(async { Err("it is down".into()) })
    }

    fn give_back(&self, _: &ScopeName, _: Batch) {}
}

fn key(text: &str) -> ApiKey {
    ApiKey::new(text).unwrap()
}

fn models() -> http::Request<Text> {
    http::Request::get("https://api.example/v1/models").body(Text::default()).unwrap()
}

/// By what name a machine with this way of giving keys asks a store.
async fn name_by(keys: &KeyCheckLayer) -> ScopeName {
    let names = Names::default();
    let meter = QuotaMeterLayer::new().store(names.clone());
    let machine = ServiceBuilder::new().layer(keys).layer(meter).service(MockApi::builder().build());
    tokio::time::timeout(secs(5.0), machine.oneshot(models())).await.unwrap().unwrap();
    names.last()
}

async fn name_of(source: impl Into<KeySource>) -> ScopeName {
    name_by(&KeyCheckLayer::new(source, Origin::parse("https://api.example").unwrap())).await
}

#[tokio::test(start_paused = true)]
async fn machines_with_one_key_share_its_name_and_those_with_others_do_not() {
    let of_stack = async |key: &str| {
        let names = Names::default();
        let stack = stack::openai().base_url("https://api.example/v1").api_key(key);
        let stack: Stack = stack.quota(QuotaMeterLayer::new().store(names.clone())).checked().unwrap();
        let service = ServiceBuilder::new().layer(stack).service(MockApi::builder().build());
        service.oneshot(http::Request::get("/models").body(Text::default()).unwrap()).await.unwrap();
        names.last()
    };
    let (one, same, other) = (of_stack(ONE).await, of_stack(ONE).await, of_stack(OTHER).await);
    assert_eq!(one, same);
    assert_ne!(one, other);
    assert_eq!(one.key(), Some(key(ONE).fingerprint()));
    assert_eq!(one.to_string(), format!("api.example key #{}", key(ONE).fingerprint()));
    assert_eq!(name_of(key(ONE)).await, one, "however it is put together");
}

/// Wherever it stands, and whoever put it there.
#[tokio::test(start_paused = true)]
async fn a_callers_own_key_has_the_same_name() {
    let lent = name_of(key(ONE)).await;
    let in_query = KeyCheckLayer::new(key(ONE), Origin::parse("https://api.example").unwrap());
    assert_eq!(name_by(&in_query.placement(Placement::query("key"))).await, lent);
    for (header, value) in [("authorization", format!("Bearer {ONE}")), ("x-api-key", ONE.to_owned())] {
        let names = Names::default();
        let meter = ServiceBuilder::new().layer(QuotaMeterLayer::new().store(names.clone()));
        let mut request = models();
        request.headers_mut().insert(header, value.parse().unwrap());
        meter.service(MockApi::builder().build()).oneshot(request).await.unwrap();
        assert_eq!(names.last(), lent, "{header}");
    }
}

/// A key may have a quota in each of several organizations.
#[tokio::test(start_paused = true)]
async fn what_goes_along_with_a_key_tells_its_quotas_apart() {
    let of = async |organization: &str, project: &str| {
        let key = key(ONE).with_organization(organization).unwrap();
        name_of(key.with_project(project).unwrap()).await
    };
    let plain = name_of(key(ONE)).await;
    let named = of("org-a", "proj-a").await;
    assert_eq!(named, of("org-a", "proj-a").await);
    for other in [plain, of("org-b", "proj-a").await, of("org-a", "proj-b").await] {
        assert_ne!(named, other);
    }
    let by_source = KeySource::from(key(ONE)).with_project("proj-a").unwrap().with_organization("org-a").unwrap();
    assert_eq!(name_of(by_source).await, named, "in whatever order");
}

/// Each machine has a key of its own, or one started before the last rotation and one after it.
#[tokio::test(start_paused = true)]
async fn sources_of_one_name_share_one_quota() {
    let named = name_of(KeySource::from(key(ONE)).named("our organization")).await;
    assert_eq!(name_of(KeySource::from(key(OTHER)).named("our organization")).await, named);
    assert_ne!(name_of(KeySource::from(key(ONE)).named("theirs")).await, named);
    assert_ne!(name_of(key(ONE)).await, named);

    let keys = [ONE, OTHER].map(|text| KeySource::from(key(text)).named("our organization"));
    let [one, other] = keys;
    let keys = KeyCheckLayer::new(one, Origin::parse("https://api.example").unwrap()).with_key(other);
    let meter = QuotaMeterLayer::new();
    let handle: MeterHandle = meter.handle();
    let service = ServiceBuilder::new().layer(&keys).layer(meter).service(MockApi::builder().build());
    for _ in 0..4 {
        service.clone().oneshot(models()).await.unwrap();
    }
    let [scope] = &handle.scopes()[..] else { panic!("{:?}", handle.scopes()) };
    assert_eq!(scope.scope.key(), named.key());
    assert!(keys.snapshot().iter().all(|key| key.quota == named.key()), "{:?}", keys.snapshot());
}

/// Until it is given a name, a source is called by the first key that it gave.
#[tokio::test(start_paused = true)]
async fn a_rotated_key_keeps_its_name() {
    let count = Arc::new(Mutex::new(0));
    let source = KeySource::function(move || {
        *count.lock().unwrap() += 1;
        let text = if *count.lock().unwrap() == 1 { ONE } else { OTHER };
        async move { ApiKey::new(text) }
    });
    let keys = KeyCheckLayer::new(source, Origin::parse("https://api.example").unwrap());
    let api = MockApi::builder().keys([ONE, OTHER]).build();
    let meter = QuotaMeterLayer::new();
    let handle: MeterHandle = meter.handle();
    let retry = tower_outbound::BackoffRetryLayer::new();
    let service = ServiceBuilder::new().layer(retry).layer(&keys).layer(meter).service(api.clone());
    assert_eq!(service.clone().oneshot(models()).await.unwrap().status(), 200);
    api.revoke_key(ONE);
    assert_eq!(service.clone().oneshot(models()).await.unwrap().status(), 200);
    assert_eq!(keys.snapshot()[0].fingerprint, Some(key(OTHER).fingerprint()));
    assert_eq!(keys.snapshot()[0].quota, Some(key(ONE).fingerprint()));
    let names: Vec<_> = handle.scopes().iter().map(|scope| scope.scope.key()).collect();
    assert_eq!(names, [Some(key(ONE).fingerprint())]);
}
