//! A service that fails at random in every way it can, and notes what is done to it against the rules.

use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, Sleep, sleep};
use tower::{BoxError, Service};
use tower_outbound::{Again, Gate, Refused};

use super::bodies::{Pieces, Upload};

/// The request's number, in both directions.
pub(crate) const ID: &str = "x-id";

/// Each clone has its own readiness; all share the rest.
pub(crate) struct Server {
    shared: Arc<Shared>,
    is_ready: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

pub(crate) struct Shared {
    rng: Mutex<SmallRng>,
    books: Mutex<Books>,
}

#[derive(Default)]
pub(crate) struct Books {
    /// Calls under way at the client, and how often each was sent.
    pub(crate) open: HashMap<u64, u32>,
    /// Calls under way here.
    pub(crate) in_flight: u64,
    pub(crate) sent: u64,
    /// What went against the rules; the first of it.
    pub(crate) wrongs: Vec<String>,
}

impl Books {
    pub(crate) fn wrong(&mut self, what: impl fmt::Display) {
        if self.wrongs.len() < 20 {
            self.wrongs.push(what.to_string());
        }
    }
}

impl Shared {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { rng: Mutex::new(SmallRng::seed_from_u64(seed)), books: Mutex::default() })
    }

    pub(crate) fn dice(&self) -> MutexGuard<'_, SmallRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, is_ready: false, sleep: None }
    }
}

impl Clone for Server {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl Service<Request<Upload>> for Server {
    type Response = Response<Pieces>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Pieces>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.is_ready {
            return Poll::Ready(Ok(()));
        }
        if self.sleep.is_none() {
            let roll = self.shared.dice().random_range(0..1000);
            match roll {
                0..5 => return Poll::Ready(Err("not ready, and never again".into())),
                5..50 => self.sleep = Some(Box::pin(sleep(Duration::from_millis(roll)))),
                _ => {}
            }
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Upload>) -> Self::Future {
        let id = request.headers().get(ID).cloned();
        let number = id.as_ref().and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
        let was_ready = std::mem::take(&mut self.is_ready);
        // As a gate in between would: nothing is sent then.
        if self.shared.dice().random_bool(0.005) {
            return Box::pin(async { Err(Refused::new(Gate::Quota, Some(Duration::from_secs(9)), "no room").into()) });
        }
        let mut books = self.shared.books();
        books.sent += 1;
        match number.and_then(|number| books.open.get_mut(&number)) {
            Some(sent) => *sent += 1,
            None => books.wrong(format_args!("{id:?} was sent, which is not under way")),
        }
        if !was_ready {
            books.wrong(format_args!("{id:?} was sent without readiness"));
        }
        drop(books);
        let here = Here::new(Arc::clone(&self.shared));
        Box::pin(async move {
            // What is read at all comes whole: also the third time.
            if here.0.dice().random_bool(0.9) {
                let expected = number.map(content).unwrap_or_default();
                let body = request.into_body().collect().await.map(|body| body.to_bytes());
                if !body.as_ref().is_ok_and(|body| *body == expected) {
                    here.0.books().wrong(format_args!("{id:?} came with {body:?}"));
                }
            }
            let wait = here.0.dice().random_range(0..200);
            sleep(Duration::from_millis(wait)).await;
            let answer = answer(&mut here.0.dice());
            let mut response = match answer {
                Answer::Response(response) => response,
                Answer::Error(error) => return Err(error),
                Answer::None => std::future::pending().await,
            };
            if let Some(id) = id {
                response.headers_mut().insert(ID, id);
            }
            Ok(response)
        })
    }
}

/// What the request with this number says.
pub(crate) fn content(number: u64) -> Bytes {
    format!(r#"{{"model":"m","input":"number {number}"}}"#).into()
}

/// A call under way here, however it ends.
struct Here(Arc<Shared>);

impl Here {
    fn new(shared: Arc<Shared>) -> Self {
        shared.books().in_flight += 1;
        Self(shared)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.books().in_flight -= 1;
    }
}

enum Answer {
    Response(Response<Pieces>),
    Error(BoxError),
    None,
}

const STATUSES: [u16; 24] = [
    400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 422, 425, 429, 429, 429, 499, 500, 500, 501, 502, 503, 504, 529,
    599,
];
const HINTS: [(&str, &str); 20] = [
    ("retry-after", "0"),
    ("retry-after", "1"),
    ("retry-after", "2.5"),
    ("retry-after", "-3"),
    ("retry-after", "nan"),
    ("retry-after", "1e400"),
    ("retry-after", "100000"),
    ("retry-after", ""),
    ("retry-after", "Fri, 29 Sep 2023 16:26:57 GMT"),
    ("retry-after", "Zun, 31 Feb 100000 99:99:99 GMT"),
    ("retry-after", "2 seconds, please"),
    ("retry-after-ms", "120"),
    ("retry-after-ms", "-1"),
    ("x-ratelimit-reset-requests", "6m0s"),
    ("x-ratelimit-remaining-requests", "0"),
    ("ratelimit", "\"a\";r=0;t=2"),
    ("x-should-retry", "true"),
    ("x-should-retry", "false"),
    ("content-encoding", "gzip"),
    ("content-length", "9999999"),
];
const BODIES: [&str; 7] = [
    "",
    r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#,
    r#"{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}"#,
    r#"{"error":{"message":"Please try again in 28ms."#,
    "<html><body>502 Bad Gateway</body></html>",
    "[1,[2,[3,[4,[5",
    "\u{feff}null",
];
static LARGE: [u8; 48 * 1024] = [b'x'; 48 * 1024];

fn answer(dice: &mut SmallRng) -> Answer {
    match dice.random_range(0..100) {
        0..45 => Answer::Response(Response::new(body(dice))),
        45..82 => {
            let status = STATUSES[dice.random_range(0..STATUSES.len())];
            let response = Response::builder().status(status).body(body(dice));
            let mut response = response.unwrap_or_default();
            for _ in 0..dice.random_range(0..3) {
                let (name, value) = HINTS[dice.random_range(0..HINTS.len())];
                response.headers_mut().append(name, HeaderValue::from_static(value));
            }
            if dice.random_bool(0.02) {
                let bytes = HeaderValue::from_bytes(b"\xff\xfe");
                response.headers_mut().extend(bytes.ok().map(|value| (http::header::RETRY_AFTER, value)));
            }
            if dice.random_bool(0.1) {
                response.extensions_mut().insert(again(dice));
            }
            Answer::Response(response)
        }
        82..98 => Answer::Error(error(dice)),
        _ => Answer::None,
    }
}

fn body(dice: &mut SmallRng) -> Pieces {
    let ms = Duration::from_millis;
    let text = Bytes::from_static(BODIES[dice.random_range(0..BODIES.len())].as_bytes());
    let large = || std::iter::repeat_n(Bytes::from_static(&LARGE), 4);
    match dice.random_range(0..20) {
        0..12 => Pieces::new([text], ms(0)),
        12 => Pieces::new([text], ms(0)).broken(io::ErrorKind::ConnectionReset),
        13 => Pieces::new([], ms(0)).broken(io::ErrorKind::UnexpectedEof),
        14 => Pieces::new([text.clone(), text], ms(1)),
        15 => Pieces::new(large(), ms(0)),
        16 => Pieces::new(large(), ms(20)),
        // Slower than anyone waits for.
        17 => Pieces::new(std::iter::repeat_n(text, 12), ms(400)),
        18 => Pieces::new([text], ms(5)).broken(io::ErrorKind::TimedOut),
        _ => Pieces::default(),
    }
}

fn again(dice: &mut SmallRng) -> Again {
    let wait = match dice.random_range(0..10) {
        0..6 => dice.random_range(0..3000),
        6..9 => 0,
        _ => 3_600_000,
    };
    let not_before = Instant::now() + Duration::from_millis(wait);
    Again { by: Gate::Quota, not_before }
}

fn error(dice: &mut SmallRng) -> BoxError {
    match dice.random_range(0..9) {
        0..3 => io::Error::from(io::ErrorKind::ConnectionReset).into(),
        3 => io::Error::from(io::ErrorKind::ConnectionRefused).into(),
        4 => io::Error::other(io::Error::from(io::ErrorKind::BrokenPipe)).into(),
        5 => again(dice).into(),
        6 => io::Error::other(again(dice)).into(),
        7 => "something else altogether".into(),
        _ => Box::new(fmt::Error),
    }
}
