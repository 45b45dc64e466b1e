//! One `tracing` event for each retry.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use tower_outbound::mock::{Script, ok};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::set_default,
};

use super::{every_second, limited, overloaded, send};
use crate::common::{get, secs};

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
    let script = Script::new().then(overloaded()).then(limited(secs(7.0))).otherwise(ok("done"));
    for _ in 0..2 {
        send(&every_second().hold_jitter(0.0), &script, get()).await.unwrap();
    }
    let events = seen.0.lock().unwrap();
    let told: Vec<_> = events.iter().map(|fields| fields.join(" ")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("attempt=1 kind=\"overloaded\" wait_ms=1000"), "{told:?}");
    assert!(told[1].contains("attempt=2 kind=\"rate_limit\" wait_ms=7000"), "{told:?}");
}
