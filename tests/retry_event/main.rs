//! One `tracing` event for each retry.
//!
//! Alone in its process: `tracing` remembers whether anybody listens to an event, and threads that come to it first at the
//! same time, some with a listener and some without, may remember wrongly.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower::{Layer, ServiceExt};
use tower_outbound::{
    backoff_retry::{Backoff, BackoffRetryLayer, Budget, Jitter, Standard},
    mock::{Script, ok, status},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::set_default,
};

/// The fields of each event of ours.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Vec<String>>>>);

struct Fields(Vec<String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push(format!("{field}={value:?}"));
    }
}

impl Subscriber for Seen {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tower_outbound")
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Vec::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn each_retry_is_told_and_nothing_else() {
    let seen = Seen::default();
    let _guard = set_default(seen.clone());
    let script = Script::new().then(status(503)).then(status(429).retry_after(7)).otherwise(ok("done"));
    let backoff = Backoff::constant(Duration::from_secs(1)).jitter(Jitter::None);
    let layer = BackoffRetryLayer::new().policy(Standard::new().backoff(backoff)).budget(Budget::unlimited());
    for _ in 0..2 {
        let service = layer.clone().hold_jitter(0.0).layer(script.clone());
        service.oneshot(http::Request::new("please".to_owned())).await.unwrap();
    }
    let events = seen.0.lock().unwrap();
    let told: Vec<_> = events.iter().map(|fields| fields.join(" ")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("attempt=1 kind=\"unavailable\" wait_ms=1000"), "{told:?}");
    assert!(told[1].contains("attempt=2 kind=\"rate_limit\" wait_ms=7000"), "{told:?}");
}
