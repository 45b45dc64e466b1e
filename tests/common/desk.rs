//! A service whose calls lie on the desk until the test answers them.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Map};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{
    sync::oneshot,
    time::{Duration, Instant},
};
use tower::{BoxError, Service};
use tower_outbound::Call;

use super::{Text, get};

pub(crate) type Reply = Response<Full<Bytes>>;
type Answer = Result<Reply, BoxError>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Desk(Arc<Mutex<Vec<Letter>>>);

#[derive(Debug)]
struct Letter {
    name: String,
    at: Instant,
    call: Option<Call>,
    reply: Option<oneshot::Sender<Answer>>,
}

impl Desk {
    fn letters(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.0.lock().expect("no panic under the lock")
    }

    /// The names of all calls that were sent, in order.
    pub(crate) fn sent(&self) -> Vec<String> {
        self.letters().iter().map(|letter| letter.name.clone()).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.letters().len()
    }

    /// When each was sent, counted from `start`.
    pub(crate) fn times(&self, start: Instant) -> Vec<Duration> {
        self.letters().iter().map(|letter| letter.at - start).collect()
    }

    /// What the layers said of every sending by this name.
    pub(crate) fn calls(&self, name: &str) -> Vec<Call> {
        self.letters().iter().filter(|letter| letter.name == name).filter_map(|letter| letter.call.clone()).collect()
    }

    /// The names of those that are neither answered nor given up.
    pub(crate) fn open(&self) -> Vec<String> {
        let is_open = |letter: &&Letter| letter.reply.as_ref().is_some_and(|reply| !reply.is_closed());
        self.letters().iter().filter(is_open).map(|letter| letter.name.clone()).collect()
    }

    /// Answers the oldest open call of this name, and lets its caller see it.
    #[track_caller]
    pub(crate) fn answer(&self, name: &str, reply: Reply) -> impl Future<Output = ()> {
        self.finish(name, Ok(reply));
        settled()
    }

    /// Breaks it off.
    #[track_caller]
    pub(crate) fn break_off(&self, name: &str) -> impl Future<Output = ()> {
        self.fail(name, std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    }

    /// Ends it with this error instead of an answer.
    #[track_caller]
    pub(crate) fn fail(&self, name: &str, error: impl Into<BoxError>) -> impl Future<Output = ()> {
        self.finish(name, Err(error.into()));
        settled()
    }

    /// Answers all open calls alike.
    pub(crate) fn answer_all(&self, reply: impl Fn() -> Reply) -> impl Future<Output = ()> {
        for name in self.open() {
            self.finish(&name, Ok(reply()));
        }
        settled()
    }

    #[track_caller]
    fn finish(&self, name: &str, answer: Answer) {
        let reply = self
            .letters()
            .iter_mut()
            .find(|letter| letter.name == name && letter.reply.is_some())
            .and_then(|letter| letter.reply.take());
        // Given up by its caller: then nobody hears.
        let _ = reply.unwrap_or_else(|| panic!("{name} is not open")).send(answer);
    }
}

impl<B> Service<Request<B>> for Desk {
    type Response = Reply;
    type Error = BoxError;
    type Future = Map<oneshot::Receiver<Answer>, fn(Result<Answer, oneshot::error::RecvError>) -> Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (reply, answer) = oneshot::channel();
        let name = request.headers().get("x-name").and_then(|name| name.to_str().ok()).unwrap_or("?").to_owned();
        let call = request.extensions().get().cloned();
        self.letters().push(Letter { name, at: Instant::now(), call, reply: Some(reply) });
        answer.map(|answer| answer.unwrap_or_else(|_| Err("the desk is gone".into())))
    }
}

/// A request by this name, which takes no tokens.
pub(crate) fn named(name: &str) -> Request<Text> {
    let mut request = get();
    request.headers_mut().insert("x-name", name.parse().expect("a name"));
    request
}

/// An answer with this status.
pub(crate) fn reply(status: u16) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::from_u16(status).expect("a status");
    reply
}

/// An answer that tells of a limit on requests, by the minute.
pub(crate) fn told_limit(status: u16, limit: u32, left: u32) -> Reply {
    let used = f64::from(limit - left);
    limits(reply(status), "requests", limit, left, &format!("{:.3}s", 60.0 * used / f64::from(limit)))
}

pub(crate) fn limits(mut reply: Reply, what: &str, limit: impl ToString, left: impl ToString, reset: &str) -> Reply {
    for (name, value) in [("limit", limit.to_string()), ("remaining", left.to_string()), ("reset", reset.into())] {
        let name: http::HeaderName = format!("x-ratelimit-{name}-{what}").parse().expect("a name");
        reply.headers_mut().insert(name, value.parse().expect("a value"));
    }
    reply
}

/// A 429 that says when to come back.
pub(crate) fn later(seconds: &str) -> Reply {
    let mut reply = reply(429);
    reply.headers_mut().insert("retry-after", seconds.parse().expect("a value"));
    reply
}

/// All tasks have done what they can at this moment.
pub(crate) async fn settled() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
