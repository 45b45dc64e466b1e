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

use http::HeaderValue;
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
    waiting: Vec<Waiting>,
    /// Where the next one goes out of the line.
    next: usize,
}

impl Line {
    fn new(length: usize) -> Self {
        let meter = QuotaMeterLayer::fixed().seed(1).max_queue(NonZeroUsize::new(length + 1).expect("not zero"));
        let mut answer = ok();
        for (name, value) in [("limit", "48"), ("remaining", "0"), ("reset", "24h")] {
            let name = http::HeaderName::try_from(format!("x-ratelimit-{name}-requests")).expect("a name");
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let mut service = meter.layer(Bare::new(answer));
        call(&mut service, &request());
        Self { meter, service, waiting: Vec::with_capacity(length), next: 0 }
    }

    fn with(length: usize) -> Self {
        let mut line = Self::new(length);
        line.waiting = (0..length).map(|_| line.come()).collect();
        line
    }

    /// One more, at the end of the line.
    fn come(&mut self) -> Waiting {
        let mut waiting = Box::pin(self.service.call(request()));
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
        (0..calls).for_each(|_| drop(black_box(line.meter.handle().expected_wait(&request()))));
    };
    let goes = move |calls| {
        let mut line = same.get_or_init(get).borrow_mut();
        (0..calls).for_each(|_| line.come_and_go());
    };
    let case = |name, run| Case { name, over: None, future_bytes: size_of::<ResponseFuture<Bare, Body>>(), run };
    [case(look, Box::new(looks)), case(go, Box::new(goes))]
}

/// What the rows cannot show, as text or as JSON lines.
pub(crate) fn print(is_bench: bool, as_json: bool) {
    let length = if is_bench { LONG } else { SHORT };
    let bytes = bytes_each(length);
    let calls = if is_bench { 1_000_000 } else { 1_000 };
    let (one, two) = (between(1, calls), between(2, calls));
    if as_json {
        println!(r#"{{"table":"line","name":"bytes of one that waits","waiting":{length},"bytes":{bytes:.0}}}"#);
        println!(
            r#"{{"table":"line","name":"a call through one meter","ns_1_thread":{one:.0},"ns_2_threads":{two:.0}}}"#
        );
    } else {
        println!("{length} wait: {bytes:.0} bytes each, beside its future");
        println!(
            "a call through one meter: {one:.0} ns from one thread, {two:.0} ns from two at once (elapsed, of all)"
        );
    }
}

/// Bytes that the meter holds for one that waits, beside its future.
fn bytes_each(length: usize) -> f64 {
    let mut line = Line::new(length);
    let mut own = usize::MAX;
    let region = Region::new(ALLOCATOR);
    let held = || {
        let change = region.change();
        change.bytes_allocated - change.bytes_deallocated
    };
    for _ in 0..length {
        let before = held();
        let come = line.come();
        // One that finds room in the meter's tables allocates its future alone.
        own = own.min(held() - before);
        line.waiting.push(come);
    }
    (held() - own * length) as f64 / length as f64
}

/// Nanoseconds of one of all the calls that so many threads make at once.
#[expect(clippy::disallowed_methods, reason = "real time is what is measured")]
fn between(threads: u32, calls: u32) -> f64 {
    let meter = QuotaMeterLayer::fixed().seed(1);
    let start = std::time::Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            let mut service = meter.layer(Bare::new(ok()));
            scope.spawn(move || {
                let request = request();
                (0..calls).for_each(|_| call(&mut service, &request));
            });
        }
    });
    start.elapsed().as_secs_f64() * 1e9 / f64::from(calls * threads)
}
