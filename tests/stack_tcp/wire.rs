//! The client under the layers, and what it saw of each item, to be held against what the server saw.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{BoxError, ServiceBuilder, service_fn, util::BoxCloneService};
use tower_outbound::{
    ApiError, ApiKey, BackoffRetryLayer, ErrorClassifyLayer, KeyCheckLayer, Origin, QuotaMeterLayer,
    backoff_retry::{Backoff, Budget, Repeat, Standard},
    mock::{CallRecord, Fault, MockApi},
    nz,
    provider::OpenAi,
};

use super::{KEY, ms};

pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type Caller = BoxCloneService<Request<Full<Bytes>>, Response<Body>, BoxError>;

/// One call as the client saw it: a status, or no answer, and whether it can have reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Saw {
    Status(u16),
    Nothing { reached: bool },
}

/// The layers of one client, and its book of calls.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) meter: QuotaMeterLayer,
    recheck: std::time::Duration,
    /// Whether answers other than streams are read whole under the layers, so that those that break are sent again.
    whole: bool,
    calls: Arc<Mutex<BTreeMap<String, Vec<Saw>>>>,
    /// How often an item was refused for its key.
    pub(crate) refused: Arc<AtomicU64>,
}

impl Account {
    pub(crate) fn new(whole: bool) -> Self {
        let meter = QuotaMeterLayer::new().seed(1).spent_recheck(ms(200));
        Self { meter, recheck: ms(200), whole, calls: Arc::default(), refused: Arc::default() }
    }

    pub(crate) fn stack(&self, url: &str) -> Caller {
        let backoff = Backoff::exponential(ms(10)).cap(ms(100));
        let retry = BackoffRetryLayer::new()
            .policy(Standard::new().max_attempts(nz!(8)).backoff(backoff))
            .repeat(Repeat::All)
            .budget(Budget::unlimited())
            .seed(1);
        let key = KeyCheckLayer::new(ApiKey::new(KEY).unwrap(), Origin::parse(url).unwrap()).recheck(self.recheck);
        let mut client = Client::builder(TokioExecutor::new());
        // What the client sent again by itself would be missing in its book.
        let client: Client<HttpConnector, Full<Bytes>> = client.retry_canceled_requests(false).build_http();
        let (calls, whole) = (Arc::clone(&self.calls), self.whole);
        ServiceBuilder::new()
            .boxed_clone()
            .map_response(|response: Response<_>| {
                response.map(|body| BodyExt::boxed_unsync(BodyExt::map_err(body, Into::into)))
            })
            .layer(retry)
            .layer(key)
            .layer(&self.meter)
            .layer(ErrorClassifyLayer::new(OpenAi))
            .service(service_fn(move |request| send(client.clone(), Arc::clone(&calls), whole, request)))
    }

    /// Calls made, whether they reached anybody or not.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.lock().unwrap().values().map(|seen| seen.len() as u64).sum()
    }

    /// Item by item, the server knows of the calls that the client made, and of no others.
    pub(crate) fn assert_agrees_with(&self, api: &MockApi) {
        let mut served: BTreeMap<String, Vec<CallRecord>> = BTreeMap::new();
        for record in api.records() {
            served.entry(record.tag.clone().unwrap()).or_default().push(record);
        }
        let calls = self.calls.lock().unwrap();
        assert!(served.keys().all(|tag| calls.contains_key(tag)), "calls that nobody made");
        for (tag, seen) in &*calls {
            let mut served = served.remove(tag).unwrap_or_default();
            for status in seen.iter().filter_map(Saw::status) {
                let answer = served.iter().position(|record| record.status.is_some_and(|served| served == status));
                served.remove(answer.unwrap_or_else(|| panic!("item {tag}: a {status} from nobody, {seen:?}")));
            }
            // A reset in the middle of the body can overtake the head.
            let is_lost = |record: &CallRecord| matches!(record.fault, Some(Fault::Dropped | Fault::Cut));
            assert!(served.iter().all(is_lost), "item {tag}: never received {served:?}, {seen:?}");
            let nothing = seen.iter().filter(|saw| matches!(saw, Saw::Nothing { reached: true })).count();
            assert_eq!(served.len(), nothing, "item {tag}: {served:?} {seen:?}");
        }
        let now = self.meter.snapshot();
        assert_eq!((now.in_flight, now.waiting), (0, 0), "nothing is left behind");
    }
}

impl Saw {
    fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(*status),
            Self::Nothing { .. } => None,
        }
    }
}

async fn send(
    client: Client<HttpConnector, Full<Bytes>>,
    calls: Arc<Mutex<BTreeMap<String, Vec<Saw>>>>,
    whole: bool,
    request: Request<Full<Bytes>>,
) -> Result<Response<Body>, BoxError> {
    let tag = request.headers()["x-request-tag"].to_str()?.to_owned();
    let result = client.request(request).await;
    let saw = match &result {
        Ok(response) => Saw::Status(response.status().as_u16()),
        Err(error) => Saw::Nothing { reached: ApiError::from_error(error).may_have_reached_server() },
    };
    calls.lock().unwrap().entry(tag).or_default().push(saw);
    let (head, body) = result?.into_parts();
    let is_stream = head.headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/event"));
    let body = if whole && !is_stream {
        Full::new(body.collect().await?.to_bytes()).map_err(|never| match never {}).boxed_unsync()
    } else {
        body.map_err(Into::into).boxed_unsync()
    };
    Ok(Response::from_parts(head, body))
}
