//! The rows of a meter with a long line, what one that waits takes of memory, and one meter between two threads.

use std::{
    cell::{OnceCell, RefCell},
    future::Future,
    hint::black_box,
    num::NonZeroUsize,
    pin::Pin,
    rc::Rc,
    task::{Context, Waker},
    thread,
};

use http::{HeaderName, HeaderValue, Request, Response};
use stats_alloc::Region;
use tower::{Layer, Service};
use tower_outbound::quota_meter::{QuotaMeter, QuotaMeterLayer, ResponseFuture};

use crate::harness::{ALLOCATOR, Bare, Body, Case, call, ok, request};

const SHORT: usize = 1_000;
const LONG: usize = 100_000;

type Waiting = Pin<Box<ResponseFuture<Bare, Body>>>;

/// A meter whose quota is used up for the next half hour, and those who wait for it.
struct Line {
    meter: QuotaMeterLayer,
    service: QuotaMeter<Bare>,
    request: Request<Body>,
    waiting: Vec<Waiting>,
    /// Where the next one goes out of the line.
    next: usize,
}

impl Line {
    fn new(length: usize) -> Self {
        let meter = QuotaMeterLayer::fixed().seed(1).max_queue(NonZeroUsize::new(length + 1).expect("not zero"));
        let mut answer = ok();
        for (name, value) in [("limit", "48"), ("remaining", "0"), ("reset", "24h")] {
            let name = HeaderName::try_from(format!("x-ratelimit-{name}-requests")).expect("a name");
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let mut service = meter.layer(Bare::new(answer));
        let request = request();
        call(&mut service, &request);
        Self { meter, service, request, waiting: Vec::with_capacity(length), next: 0 }
    }

    fn with(length: usize) -> Self {
        let mut line = Self::new(length);
        line.waiting = (0..length).map(|_| line.come()).collect();
        line
    }

    /// One more, at the end of the line.
    fn come(&mut self) -> Waiting {
        let mut waiting = Box::pin(self.service.call(self.request.clone()));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it waits");
        waiting
    }

    /// One comes, and one in the middle of the line is given up.
    fn come_and_go(&mut self) {
        let come = self.come();
        self.next = (self.next + 7919) % self.waiting.len();
        self.waiting[self.next] = come;
    }
}

/// Lines of two lengths: what grows with the length shows.
pub(crate) fn cases() -> Vec<Case> {
    let names = [
        (SHORT, "QuotaMeter, 1,000 wait: expected_wait", "QuotaMeter, 1,000 wait: one comes, one goes"),
        (LONG, "QuotaMeter, 100,000 wait: expected_wait", "QuotaMeter, 100,000 wait: one comes, one goes"),
    ];
    names.into_iter().flat_map(|(length, look, go)| both(length, look, go)).collect()
}

fn both(length: usize, look: &'static str, go: &'static str) -> [Case; 2] {
    // Made by the first call, so that who asks for other rows does not wait for it.
    let line = Rc::new(OnceCell::new());
    let (same, get) = (Rc::clone(&line), move || RefCell::new(Line::with(length)));
    let looks = move |calls| {
        let line = line.get_or_init(get).borrow();
        for _ in 0..calls {
            black_box(line.meter.handle().expected_wait(&line.request));
        }
    };
    let goes = move |calls| {
        let mut line = same.get_or_init(get).borrow_mut();
        (0..calls).for_each(|_| line.come_and_go());
    };
    let case = |name, run| Case { name, over: None, future_bytes: size_of::<ResponseFuture<Bare, Body>>(), run };
    [case(look, Box::new(looks)), case(go, Box::new(goes))]
}

/// What the rows cannot show, as text or as JSON lines.
pub(crate) fn print() {
    let [is_bench, as_json] = ["--bench", "--json"].map(|flag| std::env::args().any(|argument| argument == flag));
    let bytes = bytes_each();
    let [one, two] = [1, 2].map(|threads| between(threads, if is_bench { 40 } else { 1 }));
    if as_json {
        println!(r#"{{"table":"line","name":"bytes of one that waits","waiting":{LONG},"bytes":{bytes:.0}}}"#);
        println!(
            r#"{{"table":"line","name":"a call through one meter","ns_1_thread":{one:.0},"ns_2_threads":{two:.0}}}"#
        );
    } else {
        println!("{LONG} wait: {bytes:.0} bytes each, beside its future");
        println!("a call through one meter, beside the bare one: {one:.0} ns; from two threads at once {two:.0} ns");
    }
}

/// Bytes that the meter holds for each of 100,000 that wait, beside its future.
pub(crate) fn bytes_each() -> f64 {
    // Its timers want a runtime around them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _context = runtime.enter();
    let mut line = Line::new(LONG);
    let mut own = usize::MAX;
    let region = Region::new(ALLOCATOR);
    let held = || {
        let change = region.change();
        change.bytes_allocated - change.bytes_deallocated
    };
    for _ in 0..LONG {
        let before = held();
        let come = line.come();
        // One that finds room in the meter's tables allocates its future alone.
        own = own.min(held() - before);
        line.waiting.push(come);
    }
    (held() - own * LONG) as f64 / LONG as f64
}

/// Nanoseconds that one of all the calls takes that so many threads make at once, beside the bare service's: the least
/// of so many rounds.
fn between(threads: u32, rounds: usize) -> f64 {
    let meter = QuotaMeterLayer::fixed().seed(1);
    let least = |round: &dyn Fn() -> f64| (0..rounds).map(|_| round()).fold(f64::INFINITY, f64::min);
    least(&|| round(threads, || meter.layer(Bare::new(ok())))) - least(&|| round(threads, || Bare::new(ok())))
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn round<S, RB>(threads: u32, service: impl Fn() -> S) -> f64
where
    S: Service<Request<Body>, Response = Response<RB>> + Send,
{
    const CALLS: u32 = 20_000;
    let start = std::time::Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            let mut service = service();
            scope.spawn(move || {
                let request = request();
                (0..CALLS).for_each(|_| call(&mut service, &request));
            });
        }
    });
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS * threads)
}
