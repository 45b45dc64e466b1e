//! Whose a failure is: told by what becomes of the others meanwhile.

use std::sync::atomic::AtomicU64;

use http_body_util::Full;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tower::{service_fn, util::BoxCloneService};
use tower_outbound::quota_meter::QuotaMeterLayer;

use super::*;
use crate::{outage::Outage, stack::boxed};

const SECOND: Duration = Duration::from_secs(1);

/// What the server says to the item `spoilt`, and how often it has.
struct Spoilt {
    status: u16,
    body: &'static str,
    calls: AtomicU64,
}

impl Spoilt {
    fn new(status: u16, body: &'static str) -> Arc<Self> {
        Arc::new(Self { status, body, calls: AtomicU64::new(0) })
    }
}

fn caller(spoilt: &Arc<Spoilt>) -> Caller {
    let spoilt = Arc::clone(spoilt);
    BoxCloneService::new(service_fn(move |request: Request<Full<Bytes>>| {
        let spoilt = Arc::clone(&spoilt);
        async move {
            // Longer than an item of the others is out, so that one of them comes back meanwhile.
            let (status, body) = if request.uri().path() == "/spoilt" {
                sleep(2 * SECOND).await;
                spoilt.calls.fetch_add(1, Relaxed);
                (spoilt.status, spoilt.body)
            } else {
                (200, "{}")
            };
            Ok::<_, BoxError>(boxed(Response::builder().status(status).body(Full::from(body))?))
        }
    }))
}

fn item(line: u64, path: &str) -> Item {
    Item { line, custom_id: format!("id-{line}"), path: path.into(), body: Bytes::from("{}"), tokens: None }
}

/// What came of the spoilt item and so many others, one a second, with a patience of a minute.
async fn run(spoilt: &Arc<Spoilt>, others: u64) -> (Vec<Written>, Arc<Tally>, Stop) {
    let (write, mut lines) = mpsc::channel(1_000);
    let (give, jobs) = mpsc::channel(1_000);
    let (tally, stop) = (Arc::new(Tally::default()), Stop::new());
    let care = Care { outage: Arc::new(Outage::new(60 * SECOND)), meter: QuotaMeterLayer::new().handle(), models: 1 };
    let base = "http://api.example".to_owned();
    let worker = Worker::new(caller(spoilt), base, write, Arc::clone(&tally), stop.clone(), Some(care));
    let jobs = Arc::new(Mutex::new(jobs));
    let mut workers = JoinSet::new();
    workers.spawn(worker.clone().work(Arc::clone(&jobs)));
    workers.spawn(worker.work(Arc::clone(&jobs)));
    let room = Arc::new(Semaphore::new(1_000));
    let job = |item| give.try_send((item, Arc::clone(&room).try_acquire_owned().unwrap())).unwrap();
    job(item(1, "/spoilt"));
    for other in 0..others {
        job(item(2 + other, "/sound"));
        sleep(SECOND).await;
    }
    drop(give);
    while workers.join_next().await.is_some() {}
    let mut written = Vec::new();
    while let Some(line) = lines.recv().await {
        written.push(line);
    }
    (written, tally, stop)
}

#[tokio::test(start_paused = true)]
async fn what_fails_while_others_are_answered_is_the_items_own() {
    for (status, body) in [(500, "{}"), (200, "<html>login</html>"), (200, r#"{"id":"x","choi"#)] {
        let spoilt = Spoilt::new(status, body);
        let (written, tally, stop) = run(&spoilt, 100).await;
        let failed: Vec<&Written> = written.iter().filter(|line| line.failed.is_some()).collect();
        assert_eq!((written.len(), failed.len(), failed[0].failed), (101, 1, Some("server")));
        let record: serde_json::Value = serde_json::from_slice(&failed[0].text).unwrap();
        assert_eq!((&record["custom_id"], &record["response"]["status_code"]), (&"id-1".into(), &status.into()));
        // One time may be chance.
        assert!(spoilt.calls.load(Relaxed) > 1);
        assert!(tally.left().is_empty() && stop.why().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_while_nobody_is_answered_is_no_items_error() {
    for (status, body) in [(500, "{}"), (503, "{}"), (200, "<html>login</html>")] {
        let (start, spoilt) = (Instant::now(), Spoilt::new(status, body));
        // One is answered before it begins to fail.
        let (written, _, stop) = run(&spoilt, 1).await;
        assert_eq!(written.iter().map(|line| line.failed).collect::<Vec<_>>(), [None]);
        assert!(matches!(stop.why(), Some(Why::Hopeless(why)) if why.contains(&status.to_string())), "{stop:?}");
        assert!(start.elapsed() >= 60 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn an_overload_is_never_an_items_own() {
    let (written, tally, stop) = run(&Spoilt::new(503, "{}"), 100).await;
    assert!(written.len() == 100 && written.iter().all(|line| line.failed.is_none()));
    assert_eq!((tally.left().len(), stop.why().is_none()), (1, true));
}

#[tokio::test(start_paused = true)]
async fn a_redirect_ends_it_at_once() {
    let spoilt = Spoilt::new(307, "");
    let (written, _, stop) = run(&spoilt, 0).await;
    assert_eq!((written.len(), spoilt.calls.load(Relaxed)), (0, 1));
    assert!(matches!(stop.why(), Some(Why::Hopeless(why)) if why.contains("redirects")), "{stop:?}");
}
