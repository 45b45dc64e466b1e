//! No public type of the module shows a key, each named; a short key is shown as little as a long one.

use std::{
    collections::BTreeSet,
    fmt::{Debug, Display},
    task::Poll,
};

use http::HeaderName;
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_outbound::{
    ErrorKind, RetryHint, find_cause,
    key_check::{
        ApiKey, Elsewhere, KeyCheckLayer, KeyError, KeySource, KeyState, KeyWarning, NoSoundKey, Origin, Placement,
        Token, WrongOrigin,
    },
    mock::{Script, never, status},
};

use super::{folder::Folder, named_key};
use crate::common::{Told, get, poll_once, ready, secs, told};

/// Looks for a key, and remembers what it has looked at.
struct Walk<'a> {
    traces: Vec<String>,
    seen: BTreeSet<&'a str>,
}

impl<'a> Walk<'a> {
    /// `base64` is as much of it as does not hang on what follows.
    fn of(key: &str, base64: &str) -> Self {
        let percent: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let encoded = key.replace('!', "%21");
        Self {
            traces: vec![key.into(), percent.to_uppercase(), percent, encoded, base64.into()],
            seen: BTreeSet::new(),
        }
    }

    #[track_caller]
    fn text(&self, what: &str, text: &str) {
        for trace in &self.traces {
            assert!(!text.contains(trace), "{what} shows the key: {text}");
        }
    }

    #[track_caller]
    fn debug(&mut self, name: &'a str, value: impl Debug) {
        self.text(name, &format!("{value:?} {value:#?}"));
        self.seen.insert(name);
    }

    #[track_caller]
    fn both(&mut self, name: &'a str, value: impl Debug + Display) {
        self.text(name, &format!("{value} {value:#}"));
        self.debug(name, value);
    }

    #[track_caller]
    fn error(&mut self, name: &'a str, error: &BoxError) {
        self.text(name, &super::secrets::all_of(error));
        self.seen.insert(name);
    }
}

/// What `mod.rs` makes public.
fn public_types() -> BTreeSet<&'static str> {
    let text = include_str!("../../src/key_check/mod.rs");
    let (_, list) = text.split_once("pub use self::{").unwrap();
    let (list, _) = list.split_once("};").unwrap();
    let words = list.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(|c: char| c.is_uppercase())).collect()
}

/// One service in each state that a key can be in, and all that its calls leave.
async fn walk(secret: &str, base64: &str) -> BTreeSet<&'static str> {
    let mut walk = Walk::of(secret, base64);
    let origin = || Origin::parse("https://api.example").unwrap();
    let key = || named_key(secret).with_organization("org-1").unwrap();
    walk.debug("ApiKey", key());
    walk.text("ApiKey", &key().fingerprint());
    walk.both("Origin", origin());
    walk.debug("Elsewhere", [Elsewhere::Refuse, Elsewhere::WithoutKey]);
    walk.debug("KeyState", KeyState::Sound);
    walk.debug("Token", Token::new(key()).expires_in(secs(1.0)));
    let error = Origin::parse(&format!("https://user:{secret}@api.example")).unwrap_err();
    walk.both("OriginError", error);

    let folder = Folder::new();
    let file = KeySource::file(folder.write("key", secret.as_bytes())).unwrap();
    let given = secret.to_owned();
    let function = KeySource::function(move || {
        let given = given.clone();
        async move { Ok::<_, KeyError>(named_key(&given)) }
    });
    let failing = {
        let said = format!("no key like {secret}\n");
        KeySource::function(move || {
            let error = ApiKey::new(&said).unwrap_err();
            async move { Err::<Token, _>(error) }
        })
    };
    for source in [key().into(), file, function, failing] {
        walk.debug("KeySource", &source);
        for placement in
            [Placement::bearer(), Placement::header(HeaderName::from_static("x-api-key")), Placement::query("key")]
        {
            walk.debug("Placement", &placement);
            let layer = KeyCheckLayer::new(source.clone(), origin()).placement(placement).elsewhere(Elsewhere::Refuse);
            let script = Script::new()
                .then(status(200))
                .then(told(429, ErrorKind::RateLimit, RetryHint::After(secs(1.0))))
                .then(told(429, ErrorKind::QuotaExhausted, RetryHint::Never))
                .then(status(401))
                .otherwise(never());
            let mut service = layer.layer(Told(script));
            for _ in 0..6 {
                let mut call = Box::pin(ready(&mut service).await.call(get()));
                walk.debug("ResponseFuture", &call);
                let answer = match poll_once(&mut call) {
                    Poll::Ready(answer) => Ok(answer),
                    Poll::Pending => {
                        walk.debug("ResponseFuture", &call);
                        tokio::time::timeout(secs(1.0), call).await
                    }
                };
                match answer {
                    Ok(Ok(response)) => walk.text("a response", &format!("{response:?}")),
                    Ok(Err(error)) => {
                        walk.error("NoSoundKey", &error);
                        walk.debug("NoSoundKey", find_cause::<NoSoundKey>(&*error).unwrap());
                    }
                    Err(_) => {}
                }
                walk.debug("KeyCheck", &service);
                walk.debug("KeyCheckLayer", &layer);
                layer.snapshot().into_iter().for_each(|snapshot| walk.both("KeySnapshot", snapshot));
                tokio::time::sleep(secs(31.0)).await;
            }
            let mut elsewhere = get();
            *elsewhere.uri_mut() = format!("https://{}@other.example/?key=1", "user").parse().unwrap();
            let error = layer.layer(Told(Script::new())).oneshot(elsewhere).await.unwrap_err();
            walk.error("WrongOrigin", &error);
            walk.both("WrongOrigin", find_cause::<WrongOrigin>(&*error).unwrap());
        }
    }
    for unsound in
        [format!("{secret}\n"), format!("\"{secret}\""), format!("Bearer {secret}"), format!("{secret}\u{201d}")]
    {
        let error = ApiKey::new(&unsound).unwrap_err();
        walk.debug("KeyFault", error.fault());
        walk.both("KeyError", error);
    }
    let error = ApiKey::from_file(folder.write("key", format!(" {secret}").as_bytes())).unwrap_err();
    walk.both("KeyError", error);
    let openai = Origin::parse("https://api.openai.com").unwrap();
    let odd = KeyCheckLayer::new(named_key(&format!("gsk_{secret}")), openai);
    let [warning] = <[KeyWarning; 1]>::try_from(odd.warnings()).unwrap();
    walk.both("KeyWarning", warning);
    walk.seen
}

#[tokio::test(start_paused = true)]
async fn each_public_type_is_looked_at_and_none_shows_a_key() {
    for (secret, base64) in
        [("sk-test-0123456789abcdef!", "c2stdGVzdC0wMTIzNDU2Nzg5YWJjZGVm"), ("q7Z!", "cTda"), ("x!q", "eCFx")]
    {
        assert_eq!(walk(secret, base64).await, public_types());
    }
}

#[test]
#[should_panic = "shows the key"]
fn a_key_would_be_found() {
    Walk::of("q7Z!", "cTda").text("a text", "Authorization: Basic cTda");
}
