//! Which calls share a quota, and how the scopes are found, bounded and forgotten.

use http::Request;
use http_body_util::Full;
use tokio::time::sleep;
use tower::{Layer, Service};
use tower_outbound::{
    QuotaMeterLayer,
    body::Once,
    nz,
    quota_meter::{Model, Scoping},
};

use super::{Answer, Office, limits, meter, told};
use crate::common::{Text, named, reply, secs, settled, with};

fn ask(name: &str, uri: &str, key: &str, body: &str) -> Request<Text> {
    let mut request = named(name).map(|_| Full::new(body.to_owned().into()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.parse().unwrap();
    request.headers_mut().insert("authorization", key.parse().unwrap());
    request
}

const CHAT: &str = "https://api.example/v1/chat/completions";

fn for_model(name: &str, model: &str) -> Request<Text> {
    ask(name, CHAT, "Bearer k", &format!(r#"{{"messages":[],"model":"{model}"}}"#))
}

/// One call whose answer says that nothing is left.
async fn used_up(office: &Office, request: Request<Text>) {
    let name = request.headers()["x-name"].to_str().unwrap().to_owned();
    let call = office.send(request);
    settled().await;
    office.desk.answer(&name, told(200, 60, 0)).await;
    call.await.unwrap().unwrap();
}

fn names(office: &Office) -> Vec<String> {
    let mut names: Vec<_> = office.meter.handle().scopes().iter().map(|scope| scope.scope.to_string()).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn waiting_for_one_model_holds_up_no_other() {
    let office = Office::new(meter());
    used_up(&office, for_model("first", "a")).await;
    let _waits: Vec<_> = (0..50).map(|_| office.send(for_model("a", "a"))).collect();
    let _goes: Vec<_> = (0..4).map(|_| office.send(for_model("b", "b"))).collect();
    settled().await;
    assert_eq!(office.sent_after(1), ["b"; 4]);
    let scopes = office.meter.handle().scopes();
    let waiting = |model: &str| scopes.iter().find(|scope| scope.scope.model() == model).unwrap().waiting;
    assert_eq!((waiting("a"), waiting("b")), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn hosts_keys_and_models_are_told_apart() {
    let office = Office::new(meter());
    let body = r#"{"model":"a"}"#;
    used_up(&office, ask("0", CHAT, "Bearer one", body)).await;
    let others = [
        ask("host", "https://other.example/v1/chat/completions", "Bearer one", body),
        ask("port", "https://api.example:8443/v1/chat/completions", "Bearer one", body),
        ask("key", CHAT, "Bearer two", body),
        ask("model", CHAT, "Bearer one", r#"{"model":"b"}"#),
        ask("none", CHAT, "Bearer one", "{}"),
        ask("path", "https://api.example/openai/deployments/x/chat/completions", "Bearer one", "{}"),
        with(ask("said", CHAT, "Bearer one", body), Model::from("c")),
    ];
    let _calls: Vec<_> = others.into_iter().map(|request| office.send(request)).collect();
    let _same = [
        office.send(ask("same", CHAT, "Bearer one", r#" {"n":1, "model" : "a"}"#)),
        office.send(with(ask("same", CHAT, "Bearer one", "no json"), Model::from("a"))),
    ];
    settled().await;
    assert_eq!(office.sent_after(1), ["host", "port", "key", "model", "none", "path", "said"]);
    assert_eq!(names(&office).len(), 8);
}

#[tokio::test(start_paused = true)]
async fn another_of_the_usual_headers_may_carry_the_key() {
    for header in ["api-key", "x-api-key", "x-goog-api-key"] {
        let office = Office::new(meter());
        let keyed = |name: &str, key: &str| {
            let mut request = named(name);
            request.headers_mut().insert(header, key.parse().unwrap());
            request
        };
        used_up(&office, keyed("0", "one")).await;
        let _calls = [office.send(keyed("same", "one")), office.send(keyed("other", "two"))];
        settled().await;
        assert_eq!(office.sent_after(1), ["other"], "{header}");
    }
}

#[tokio::test(start_paused = true)]
async fn less_can_be_told_apart_and_otherwise() {
    let office = Office::new(meter().scoping(Scoping::one().per_host().per_model()));
    used_up(&office, ask("0", CHAT, "Bearer one", "{}")).await;
    let _same = office.send(ask("same", CHAT, "Bearer two", "{}"));
    settled().await;
    assert!(office.sent_after(1).is_empty());

    let by_name = Scoping::with(|request| request.headers()["x-name"].to_str().unwrap().into());
    let office = Office::new(meter().scoping(by_name));
    used_up(&office, for_model("x", "a")).await;
    let _calls = [office.send(for_model("x", "b")), office.send(for_model("y", "a"))];
    settled().await;
    assert_eq!(office.sent_after(1), ["y"]);
    assert_eq!(names(&office), ["x", "y"]);

    let office = Office::new(meter().scoping(Scoping::one()));
    used_up(&office, for_model("x", "a")).await;
    let _same = office.send(ask("same", "https://other.example", "Bearer two", "{}"));
    settled().await;
    assert!(office.sent_after(1).is_empty());
    assert_eq!(names(&office), ["(everything)"]);
}

/// Of a body that is not in memory nothing is known, and it passes.
#[tokio::test(start_paused = true)]
async fn a_streamed_body_belongs_to_no_model() {
    let office = Office::new(meter());
    let mut service = office.meter.layer(office.desk.clone());
    let call = tokio::spawn(service.call(for_model("stream", "a").map(Once::new)));
    settled().await;
    office.desk.answer("stream", reply(200)).await;
    let _: Answer = call.await.unwrap();
    let name = &office.meter.snapshot().scope;
    assert_eq!((name.host(), name.model()), ("api.example", ""));
}

#[tokio::test(start_paused = true)]
async fn they_are_bounded_and_the_one_not_used_for_longest_goes() {
    let office = Office::new(meter().max_scopes(nz!(3)));
    for model in ["a", "b", "c", "a", "d"] {
        used_up_or_not(&office, model).await;
    }
    assert_eq!(office.meter.handle().scopes().len(), 3);
    assert!(names(&office).iter().all(|name| !name.contains(" b ")), "{:?}", names(&office));
    // What it used is not forgotten with it.
    assert_eq!(office.meter.handle().totals().ever["api.example b"].requests, 1);
}

async fn used_up_or_not(office: &Office, model: &str) {
    let call = office.send(for_model("call", model));
    settled().await;
    office.desk.answer("call", reply(200)).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_calls_waiting_or_under_way_is_never_forgotten() {
    let office = Office::new(meter().max_scopes(nz!(2)));
    used_up(&office, for_model("0", "waits")).await;
    let _waits = office.send(for_model("waiting", "waits"));
    let _flies = office.send(for_model("flying", "flies"));
    settled().await;
    let _others = [office.send(for_model("c", "c")), office.send(for_model("d", "d"))];
    settled().await;
    let names = names(&office);
    assert!(names.iter().any(|name| name.contains("waits")) && names.iter().any(|name| name.contains("flies")));
    // The others share one, and leave.
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(office.sent_after(1), ["flying", "c", "d"]);
    sleep(secs(2.0)).await;
    assert_eq!(office.sent_after(4), ["waiting"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_idle_for_long_is_forgotten_when_another_comes() {
    let office = Office::new(meter());
    for model in ["a", "b"] {
        used_up_or_not(&office, model).await;
    }
    let _waits = office.send(for_model("held", "held"));
    settled().await;
    for model in ["b", "c", "d"] {
        sleep(secs(3601.0)).await;
        used_up_or_not(&office, model).await;
    }
    let names = names(&office);
    let has = |model: &str| names.iter().any(|name| name.contains(&format!(" {model} ")));
    assert!(!has("a") && has("held") && has("d"), "{names:?}");
}

/// Scopes in use do not make room, and a newcomer then costs a look at none of them; once they end, those used last stay.
#[tokio::test(start_paused = true)]
async fn newcomers_find_room_again_once_there_is_some() {
    let office = Office::new(meter().max_scopes(nz!(64)));
    let held: Vec<_> = (0..64).map(|n| office.send(for_model(&format!("held {n}"), &n.to_string()))).collect();
    let _others: Vec<_> = (0..40).map(|n| office.send(for_model("other", &format!("other {n}")))).collect();
    settled().await;
    assert_eq!(names(&office).len(), 65);
    assert_eq!(office.meter.snapshot().scope.own(), "(all others)");
    for n in 0..64 {
        office.desk.answer(&format!("held {n}"), reply(200)).await;
    }
    drop(held);
    settled().await;
    used_up_or_not(&office, "0").await;
    for n in 0..10 {
        used_up_or_not(&office, &format!("new {n}")).await;
    }
    let scopes = office.meter.handle().scopes();
    let has = |model: &str| scopes.iter().any(|scope| scope.scope.model() == model);
    assert!(has("0") && has("new 0") && has("new 9"), "{:?}", names(&office));
    // Ten were forgotten, the one not used for longest first.
    assert!((1..=10).all(|n| !has(&n.to_string())) && (11..64).all(|n| has(&n.to_string())), "{:?}", names(&office));
    assert_eq!(scopes.len(), 65);
}

/// However it is spelled.
#[tokio::test(start_paused = true)]
async fn a_host_is_one_in_every_spelling() {
    let office = Office::new(meter());
    used_up(&office, ask("0", CHAT, "Bearer k", "{}")).await;
    let mut relative = ask("same", "/v1/chat/completions", "Bearer k", "{}");
    relative.headers_mut().insert("host", "API.example:443".parse().unwrap());
    let _same = [
        office.send(ask("same", "https://API.Example/v1/chat/completions", "Bearer k", "{}")),
        office.send(ask("same", "https://api.example:443/v1/chat/completions", "Bearer k", "{}")),
        office.send(ask("same", "http://api.example:80/v1/chat/completions", "Bearer k", "{}")),
        office.send(relative),
    ];
    let _others = [
        office.send(ask("http to 443", "http://api.example:443/", "Bearer k", "{}")),
        office.send(ask("8443", "https://api.example:8443/", "Bearer k", "{}")),
        office.send(ask("v6", "https://[::1]:443/", "Bearer k", "{}")),
    ];
    settled().await;
    assert_eq!(office.sent_after(1), ["http to 443", "8443", "v6"]);
    let scopes = office.meter.handle().scopes();
    let mut hosts: Vec<_> = scopes.iter().map(|scope| scope.scope.host()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["[::1]", "api.example", "api.example:443", "api.example:8443"]);
}

/// A body may say anything, and names are kept.
#[tokio::test(start_paused = true)]
async fn a_name_that_no_model_has_is_none() {
    let office = Office::new(meter());
    let long = "m".repeat(100_000);
    for _ in 0..2 {
        used_up_or_not(&office, &long).await;
    }
    assert_eq!(office.meter.snapshot().scope.model(), "");
    let totals = office.meter.handle().totals();
    assert_eq!(totals.ever.into_keys().collect::<Vec<_>>(), ["api.example"]);
    used_up_or_not(&office, &long[..256]).await;
    assert_eq!(office.meter.snapshot().scope.model().len(), 256);
}

/// A question uses nothing, and leaves no trace.
#[tokio::test(start_paused = true)]
async fn who_only_asks_changes_nothing() {
    let office = Office::new(meter().max_scopes(nz!(2)));
    for model in ["a", "b"] {
        used_up_or_not(&office, model).await;
    }
    let handle = office.meter.handle();
    for model in ["a", "c", "d"] {
        assert_eq!(handle.expected_wait(&for_model("x", model)), None);
        assert_eq!(handle.snapshot().scope.model(), "b");
    }
    assert_eq!(handle.scopes().iter().map(|scope| scope.scope.model().to_owned()).collect::<Vec<_>>(), ["b", "a"]);
    let permit = handle.try_acquire(&for_model("x", "a")).unwrap();
    assert_eq!(handle.snapshot().scope.model(), "b");
    let _goes = office.send(with(for_model("x", "a"), permit));
    assert_eq!(handle.snapshot().scope.model(), "a");
}

#[tokio::test(start_paused = true)]
async fn no_key_is_kept() {
    let office = Office::new(QuotaMeterLayer::new());
    used_up(&office, ask("0", CHAT, "Bearer sk-secret", r#"{"model":"a"}"#)).await;
    let handle = office.meter.handle();
    let shown = format!("{:?} {handle:?} {:?} {:?}", office.meter, handle.scopes(), handle.totals());
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_request_for_the_limit_of_one_scope_is_too_large_there_alone() {
    let office = Office::new(meter());
    let _call = office.send(for_model("0", "small"));
    settled().await;
    office.desk.answer("0", limits(reply(200), "tokens", 1_000, 1_000, "0s")).await;
    let large = |model| ask("large", CHAT, "Bearer k", &format!(r#"{{"model":"{model}","max_tokens":2000}}"#));
    super::refusal(&office.answer_of(large("small")).await);
    let _goes = office.send(large("large"));
    settled().await;
    assert_eq!(office.sent_after(1), ["large"]);
}

/// A search that has used up its 30 a minute holds up no call that has 5,000 an hour.
#[tokio::test(start_paused = true)]
async fn githubs_resources_are_limited_apart() {
    let by_resource = Scoping::one().per_host().per_key().per_github_resource();
    let office = Office::new(meter().scoping(by_resource));
    let get = |uri: &str| {
        let mut request = ask(uri, uri, "Bearer k", "");
        *request.method_mut() = http::Method::GET;
        request
    };
    let search = "https://api.github.com/search/issues?q=a";
    used_up(&office, get(search)).await;
    let uris = [
        "https://api.github.com/repos/a/b",
        "https://api.github.com/search/code?q=a",
        "https://api.github.com/graphql",
        "https://api.github.com/repos/a/b/code-scanning/sarifs",
        "https://api.github.com/app-manifests/c0de/conversions",
        "https://github.example/api/v3/repos/search/graphql",
        "https://github.example/api/v3/search/issues",
        "https://github.example/api/graphql",
    ];
    let _calls: Vec<_> = uris.iter().chain(&[search]).map(|uri| office.send(get(uri))).collect();
    settled().await;
    assert_eq!(office.sent_after(1), uris);
    let scopes = office.meter.handle().scopes();
    let mut resources: Vec<_> = scopes.iter().map(|scope| (scope.scope.host(), scope.scope.model())).collect();
    resources.sort_unstable();
    assert_eq!(
        resources,
        [
            ("api.github.com", "code_scanning_upload"),
            ("api.github.com", "code_search"),
            ("api.github.com", "core"),
            ("api.github.com", "graphql"),
            ("api.github.com", "integration_manifest"),
            ("api.github.com", "search"),
            ("github.example", "core"),
            ("github.example", "graphql"),
            ("github.example", "search"),
        ]
    );
}
