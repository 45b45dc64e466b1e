//! Keys that change: files.

use tokio::time::sleep;
use tower::{Service, ServiceBuilder};
use tower_outbound::{
    backoff_retry::BackoffRetryLayer,
    key_check::{KeyCheckLayer, KeySource},
    mock::{Script, ok},
};

use super::{
    ask,
    folder::Folder,
    origin,
    sources::{takes_from, used},
};
use crate::common::{Told, get, ms, ready, secs};

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_is_read_again() {
    let folder = Folder::new();
    let path = folder.write("key", b"sk-token-1\n");
    let layer = KeyCheckLayer::new(KeySource::file(&path).unwrap().with_organization("org-1").unwrap(), origin());
    let script = Script::new().otherwise(ok("done"));
    let look = async || {
        sleep(secs(1.0)).await;
        ask(&layer, &script).await.unwrap();
        // The look is made beside the call, in real time.
        sleep(ms(1)).await;
        ask(&layer, &script).await.unwrap();
        used(&script).pop().unwrap()
    };
    assert_eq!(look().await, "1");
    folder.write("key", b"sk-token-2\n");
    assert_eq!(look().await, "2");
    // Neither a broken file nor a missing one puts the key out of force.
    folder.write("key", b"\"sk-token-3\"\n");
    assert_eq!(look().await, "2");
    assert!(layer.snapshot()[0].source_error.as_deref().is_some_and(|error| error.contains("quotes around it")));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(look().await, "2");
    folder.write("key", b"sk-token-4\n");
    assert_eq!(look().await, "4");
    assert_eq!(layer.snapshot()[0].source_error, None);
    assert!(script.calls().iter().all(|sent| sent.header("openai-organization") == Some("org-1")));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_after_a_401_and_the_call_is_not_lost() {
    let folder = Folder::new();
    let path = folder.write("key", b"sk-token-1\n");
    let layer = KeyCheckLayer::new(KeySource::file(&path).unwrap(), origin());
    let script = takes_from(2);
    let mut stack = ServiceBuilder::new().layer(BackoffRetryLayer::new()).layer(&layer).service(Told(script.clone()));
    // In place, with the same length: only the content tells.
    std::fs::write(&path, b"sk-token-2\n").unwrap();
    assert_eq!(ready(&mut stack).await.call(get()).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_dead_key_in_a_file_is_well_as_soon_as_the_file_is() {
    let folder = Folder::new();
    let path = folder.write("key", b"sk-token-1\n");
    let layer = KeyCheckLayer::new(KeySource::file(&path).unwrap(), origin());
    let script = takes_from(2);
    assert_eq!(ask(&layer, &script).await, Ok(401));
    for _ in 0..30 {
        sleep(secs(1.0)).await;
        assert_eq!(ask(&layer, &script).await, Err(()));
    }
    folder.write("key", b"sk-token-2\n");
    sleep(secs(1.0)).await;
    assert_eq!(ask(&layer, &script).await, Ok(200), "long before the minute is over");
    script.assert_sent(2);
}
