//! KeyCheck: a key for one origin only, never shown, and not used while the server refuses it.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

#[path = "../common/mod.rs"]
mod common;

mod dead;
mod echoed;
mod every_type;
mod files;
mod folder;
mod given;
mod in_line;
mod in_stack;
mod looks;
mod placed;
mod pools;
mod secrets;
mod sound;
mod sources;
mod tcp;

use http::{Request, Response};
use tower::{BoxError, Layer, ServiceExt};
use tower_outbound::{
    Gate, Refused, find_cause,
    key_check::{ApiKey, KeyCheckLayer, NoSoundKey, Origin},
    mock::{MockBody, Script, Step, answer, status},
};

use self::common::{Text, Told, get};

const KEY: &str = "sk-test-0123456789abcdef";

fn named_key(key: &str) -> ApiKey {
    ApiKey::new(key).expect("a sound key")
}

fn key() -> ApiKey {
    named_key(KEY)
}

fn origin() -> Origin {
    Origin::parse("https://api.example/v1").expect("an origin")
}

fn layer() -> KeyCheckLayer {
    KeyCheckLayer::new(key(), origin())
}

/// One call through the layer to a service that plays the script.
async fn send(layer: &KeyCheckLayer, script: &Script, request: Request<Text>) -> Result<Response<MockBody>, BoxError> {
    layer.layer(Told(script.clone())).oneshot(request).await
}

/// The status of one call, or that it was refused for its key.
async fn ask(layer: &KeyCheckLayer, script: &Script) -> Result<u16, ()> {
    match send(layer, script, get()).await {
        Ok(response) => Ok(response.status().as_u16()),
        Err(error) => {
            rejected(&error);
            Err(())
        }
    }
}

/// The refusal and its reason; nothing else may be in such an error.
#[track_caller]
fn rejected(error: &BoxError) -> (&Refused, &NoSoundKey) {
    let refused: &Refused = find_cause(&**error).unwrap_or_else(|| panic!("no refusal: {error:?}"));
    assert_eq!(refused.by(), Gate::Key);
    (refused, find_cause(&**error).expect("the reason"))
}

/// A server that knows no key but this one.
fn knows(known: &'static str) -> Step {
    answer(move |sent| match sent.header("authorization") {
        Some(value) if value.strip_prefix("Bearer ") == Some(known) => status(200),
        _ => status(401),
    })
}
