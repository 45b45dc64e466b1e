//! Where in a request the key goes, what goes along with it, and what becomes of requests for elsewhere.

use http::{HeaderName, Request};
use tower_outbound::{
    Gate, Refused, find_cause,
    key_check::{ApiKey, Elsewhere, KeyCheckLayer, KeyFault, Placement, WrongOrigin},
    mock::{Script, Sent, ok},
};

use super::{KEY, key, layer, send};
use crate::common::{Text, get};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

fn to(uri: &str) -> Request<Text> {
    let mut request = get();
    *request.uri_mut() = uri.parse().unwrap();
    request
}

/// What arrives of a request through this layer.
async fn sent(layer: &KeyCheckLayer, request: Request<Text>) -> Sent {
    let script = Script::new().then(ok("done"));
    send(layer, &script, request).await.unwrap();
    script.calls().remove(0)
}

#[tokio::test]
async fn in_any_header_it_stands_alone_and_sensitive() {
    for name in ["x-api-key", "api-key", "x-goog-api-key", "x-one-of-its-own"] {
        let layer = layer().placement(Placement::header(HeaderName::from_static(name)));
        let sent = sent(&layer, get()).await;
        assert_eq!((sent.header(name), sent.header("authorization")), (Some(KEY), None));
        assert!(sent.headers[name].is_sensitive());
    }
}

#[tokio::test]
async fn in_the_query_it_stands_behind_what_is_there() {
    let layer = layer().placement(Placement::query("key"));
    for (uri, expected) in [
        ("https://api.example/v1", format!("https://api.example/v1?key={KEY}")),
        ("https://api.example", format!("https://api.example/?key={KEY}")),
        ("https://api.example/v1?", format!("https://api.example/v1?key={KEY}")),
        ("https://api.example/v1?a=b&keys=c", format!("https://api.example/v1?a=b&keys=c&key={KEY}")),
        ("https://api.example:443/v1?a=%20", format!("https://api.example:443/v1?a=%20&key={KEY}")),
        ("https://other.example/v1?a=b", "https://other.example/v1?a=b".into()),
        ("https://api.example/v1?key=own", "https://api.example/v1?key=own".into()),
        ("https://api.example/v1?a=b&key", "https://api.example/v1?a=b&key".into()),
    ] {
        let sent = sent(&layer, to(uri)).await;
        assert_eq!(sent.uri.to_string(), expected);
        assert!(sent.headers.is_empty());
    }
}

#[tokio::test]
async fn in_the_query_all_is_encoded_that_has_to_be() {
    let key = ApiKey::new("a+b/c=d&e?f#g%h~i").unwrap();
    let layer = KeyCheckLayer::new(key, super::origin()).placement(Placement::query("the key"));
    let sent = sent(&layer, get()).await;
    assert_eq!(sent.uri.query(), Some("the%20key=a%2Bb%2Fc%3Dd%26e%3Ff%23g%25h~i"));
}

#[tokio::test]
async fn a_callers_own_key_gives_way_where_it_is_told_to() {
    let own = |name: &'static str| {
        let mut request = to("https://api.example/v1?key=own&a=b");
        request.headers_mut().append(name, "own".parse().unwrap());
        request.headers_mut().append(name, "own too".parse().unwrap());
        request
    };
    for (placement, name, value) in [
        (Placement::bearer(), "authorization", format!("Bearer {KEY}")),
        (Placement::header(X_API_KEY), "x-api-key", KEY.to_owned()),
    ] {
        let layer = layer().placement(placement);
        let kept = sent(&layer, own(name)).await;
        assert_eq!(kept.headers.get_all(name).iter().collect::<Vec<_>>(), ["own", "own too"]);
        let replaced = sent(&layer.replace_callers_key(true), own(name)).await;
        assert_eq!(replaced.headers.get_all(name).iter().collect::<Vec<_>>(), [&value]);
    }
    let layer = layer().placement(Placement::query("key")).replace_callers_key(true);
    assert_eq!(sent(&layer, own("x-other")).await.uri.query(), Some(&*format!("a=b&key={KEY}")));
    assert_eq!(sent(&layer, to("https://api.example/?key=own")).await.uri.query(), Some(&*format!("key={KEY}")));
}

/// Elsewhere, a key of the caller's own is nobody else's business.
#[tokio::test]
async fn elsewhere_nothing_gives_way() {
    let mut request = to("https://other.example/");
    request.headers_mut().insert("authorization", "own".parse().unwrap());
    assert_eq!(sent(&layer().replace_callers_key(true), request).await.header("authorization"), Some("own"));
}

#[tokio::test]
async fn organization_and_project_go_along_with_it_and_nowhere_else() {
    let key = key().with_organization("org-1").unwrap().with_project("proj_1").unwrap();
    let key = key.with_header(HeaderName::from_static("x-goog-user-project"), "mine").unwrap();
    let layer = KeyCheckLayer::new(key, super::origin());
    let seen = |sent: &Sent| {
        ["openai-organization", "openai-project", "x-goog-user-project"]
            .map(|name| sent.header(name).map(str::to_owned))
    };
    assert_eq!(seen(&sent(&layer, get()).await), ["org-1", "proj_1", "mine"].map(|value| Some(value.into())));
    assert_eq!(seen(&sent(&layer, to("https://other.example/")).await), [None, None, None]);

    let mut own = get();
    own.headers_mut().insert("openai-organization", "org-own".parse().unwrap());
    assert_eq!(seen(&sent(&layer, own).await)[0].as_deref(), Some("org-own"), "the caller's own stays");
    let mut own = get();
    own.headers_mut().insert("authorization", "Bearer own".parse().unwrap());
    assert_eq!(seen(&sent(&layer, own).await), [None, None, None], "not with a key of the caller's own");
}

#[test]
fn an_organization_that_is_none_is_an_error() {
    for (organization, fault) in [
        ("", KeyFault::Empty),
        ("null", KeyFault::NoValue),
        ("undefined", KeyFault::NoValue),
        ("\"org-1\"", KeyFault::Quoted),
        ("org-1\n", KeyFault::TrailingSpace { position: 6 }),
    ] {
        let error = key().with_organization(organization).unwrap_err();
        assert_eq!(error.fault(), &fault);
        assert_eq!(error.header().map(HeaderName::as_str), Some("openai-organization"));
        assert!(error.to_string().starts_with("the value of openai-organization "), "{error}");
    }
}

#[tokio::test]
async fn elsewhere_can_be_refused_and_nothing_is_sent() {
    let layer = layer().elsewhere(Elsewhere::Refuse);
    let script = Script::new();
    for (uri, found) in [
        ("https://user:word@evil.example:8443/", "https://evil.example:8443"),
        ("http://api.example/", "http://api.example"),
    ] {
        let error = send(&layer, &script, to(uri)).await.unwrap_err();
        assert_eq!(find_cause::<Refused>(&*error).map(Refused::by), Some(Gate::Key));
        assert!(find_cause::<WrongOrigin>(&*error).is_some());
        let expected =
            format!("refused by the key check: the request is for {found}, the key for https://api.example only");
        assert_eq!(error.to_string(), expected);
    }
    script.assert_sent(0);
    assert_eq!(sent(&layer, get()).await.header("authorization"), Some(&*format!("Bearer {KEY}")));
}

/// A `Host` header names no scheme, and does not say where the client connects.
#[tokio::test]
async fn a_request_that_is_but_a_path_goes_without_the_key_or_is_told_of() {
    let path = || {
        let mut request = to("/v1/models");
        request.headers_mut().insert("host", "api.example".parse().unwrap());
        request
    };
    assert_eq!(sent(&layer(), path()).await.header("authorization"), None);
    let error = send(&layer().elsewhere(Elsewhere::Refuse), &Script::new(), path()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "refused by the key check: the request's URI names no host, and the key is for https://api.example only: give \
         it whole, a `Host` header does not count"
    );
}

#[test]
fn another_providers_key_is_a_warning_or_an_error_if_asked() {
    let openai = tower_outbound::Origin::parse("https://api.openai.com/v1").unwrap();
    let layer = KeyCheckLayer::new(ApiKey::new("sk-proj-0123456789").unwrap(), openai.clone());
    assert_eq!(layer.warnings(), []);
    let layer = layer.with_key(ApiKey::new("sk-ant-api03-0123456789").unwrap());
    let [warning] = &*layer.warnings() else { panic!("{:?}", layer.warnings()) };
    let text = warning.to_string();
    assert!(text.ends_with(" looks like one of Anthropic, and is for a host of OpenAI"), "{text}");
    assert_eq!(&layer.deny_warnings().unwrap_err(), warning);
    assert!(KeyCheckLayer::new(key(), openai).deny_warnings().is_ok());
}
