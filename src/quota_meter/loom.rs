//! The core behind its lock, with its wakers, under every order in which three threads can meet:
//! `RUSTFLAGS="--cfg outbound_loom" cargo test --manifest-path loom/Cargo.toml --lib loom`.
//!
//! Time stands still: nobody is woken by a timer, so a wake that gets lost is a deadlock, which loom reports.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{
    Estimate, Quota, ScopeName, Scoping, Settings,
    book::{Accounts, Book},
    core::{Outcome, Told},
    demand::{Arriving, Demand, Tokens},
    guards::{Entry, Flight, Load, Turn, Waiter},
    permits,
    refusal::Refusal,
    scope::Scope,
    usage::Usage,
};
use crate::{ApiError, ErrorKind, RetryHint, limits::Limits};

fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    // Found enough in practice; all orders would take hours.
    model.preemption_bound = Some(3);
    model.check(test);
}

/// A scope with this quota, whose permits may be kept for so long.
fn scope_of(quota: Quota, permit_time: Duration) -> Arc<Scope> {
    let max_queue = crate::nz!(10);
    let settings = Settings {
        max_wait: None,
        max_queue,
        spent_recheck: Duration::from_secs(60),
        seed: Some(1),
        max_scopes: max_queue,
        scoping: Scoping::default(),
        estimate: Estimate::default(),
        accounts: Arc::default(),
        store: None,
        quota,
        permit_time,
    };
    Scope::new(ScopeName::default(), settings, Book::new(Accounts::default()))
}

/// A scope that lets one call go at a time: the other places of its first window are taken.
fn narrow() -> (Arc<Scope>, Vec<Flight>) {
    let scope = scope_of(Quota::learned(), Duration::from_secs(60));
    let taken = (0..3).map(|seq| match arrive(&scope, seq) {
        Entry::Go(flight) => flight,
        _ => panic!("the first window has four places"),
    });
    let taken = taken.collect();
    (scope, taken)
}

fn arrive(scope: &Arc<Scope>, seq: u64) -> Entry {
    arrive_with(scope, seq, 0)
}

/// A call of so many tokens comes, as the service has it come.
fn arrive_with(scope: &Arc<Scope>, seq: u64, tokens: u32) -> Entry {
    let demand = demand(tokens);
    let scope = Arc::clone(scope);
    match scope.go(&demand) {
        Some((id, stage)) => Entry::Go(Flight::new(scope, Load::of(demand), id, stage)),
        None => scope.arrive(&Arriving { class: 0, seq, had_its_turn: false, demand }, None),
    }
}

const fn demand(tokens: u32) -> Demand {
    Demand { tokens: Tokens::Together(tokens), bytes: 0 }
}

/// Waits for its turn, as its future does when it is moved from one task to another in between.
fn turn(waiter: &mut Waiter) -> Result<Flight, Refusal> {
    let first = waiter.poll(&mut Context::from_waker(Waker::noop()))?;
    if let Turn::Now(flight) = first {
        return Ok(flight);
    }
    block_on(poll_fn(|cx| match waiter.poll(cx) {
        Ok(Turn::Now(flight)) => Poll::Ready(Ok(flight)),
        Ok(Turn::Later(_)) => Poll::Pending,
        Err(refusal) => Poll::Ready(Err(refusal)),
    }))
}

/// A whole call, which ends as `outcome` says; whether it was sent.
fn call(scope: &Arc<Scope>, seq: u64, outcome: Outcome<'_>) -> bool {
    let mut flight = match arrive(scope, seq) {
        Entry::Go(flight) => flight,
        Entry::Refused(_) => return false,
        Entry::Wait(mut waiter) => {
            let Ok(mut flight) = turn(&mut waiter) else { return false };
            if !flight.send() {
                // The gate has closed, or the money is gone, between its grant and its leaving.
                waiter.rejoin(flight);
                return false;
            }
            flight
        }
    };
    flight.settle(outcome);
    true
}

/// A call that is given up, wherever it stands after its first look.
fn given_up(scope: &Arc<Scope>, seq: u64) {
    if let Entry::Wait(mut waiter) = arrive(scope, seq) {
        let _ = waiter.poll(&mut Context::from_waker(Waker::noop()));
    }
}

#[track_caller]
fn assert_empty(scope: &Scope, taken: Vec<Flight>) {
    let now = scope.snapshot();
    assert_eq!((now.in_flight, now.waiting), (taken.len(), 0), "{now:?}");
    drop(taken);
    assert_eq!(scope.snapshot().in_flight, 0);
}

/// Runs these on a thread each, and one more here.
fn together(scope: &Arc<Scope>, one: fn(&Arc<Scope>), other: fn(&Arc<Scope>), here: fn(&Arc<Scope>)) {
    let threads = [one, other].map(|act| {
        let scope = Arc::clone(scope);
        thread::spawn(move || act(&scope))
    });
    here(scope);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn every_call_has_its_turn_though_one_is_given_up() {
    model(|| {
        let (scope, taken) = narrow();
        let whole = |scope: &Arc<Scope>| assert!(call(scope, 10, Outcome::Other));
        together(&scope, whole, |scope| assert!(call(scope, 11, Outcome::Other)), |scope| given_up(scope, 9));
        assert_empty(&scope, taken);
    });
}

#[test]
fn three_through_one_place_all_have_their_turn() {
    model(|| {
        let (scope, taken) = narrow();
        let whole = |scope: &Arc<Scope>| assert!(call(scope, 10, Outcome::Success(&Limits::default())));
        together(&scope, whole, whole, |scope| assert!(call(scope, 9, Outcome::Other)));
        assert_eq!(scope.snapshot().counts.sent, 6);
        assert_empty(&scope, taken);
    });
}

/// Whoever is in line when it is found, or comes after, is refused; nobody waits on.
#[test]
fn a_spent_quota_turns_out_all_who_wait() {
    model(|| {
        let (scope, taken) = narrow();
        let spends = |scope: &Arc<Scope>| {
            let spent = ApiError::new(ErrorKind::QuotaExhausted, RetryHint::Never);
            call(scope, 10, Outcome::Spent(spent));
        };
        let other = |scope: &Arc<Scope>| {
            call(scope, 11, Outcome::Other);
        };
        together(&scope, spends, other, |scope| given_up(scope, 9));
        assert!(scope.snapshot().spent.is_some());
        assert_empty(&scope, taken);
    });
}

/// A grant and a 429 meet: once the 429 has closed the gate, what was granted before does not leave through it.
#[test]
fn what_was_granted_does_not_leave_through_a_closed_gate() {
    model(|| {
        let (scope, mut taken) = narrow();
        let Entry::Go(mut ends) = arrive(&scope, 3) else { panic!("the first window has four places") };
        let mut limited = taken.pop().expect("three are taken");
        let Entry::Wait(mut waiter) = arrive(&scope, 10) else { panic!("all places are taken") };
        let is_closed = Arc::new(AtomicBool::new(false));
        let closes = Arc::clone(&is_closed);
        let threads = [
            thread::spawn(move || {
                ends.settle(Outcome::Other);
            }),
            thread::spawn(move || {
                limited.settle(Outcome::Limited(&Limits::default(), None));
                closes.store(true, Ordering::SeqCst);
            }),
        ];
        if let Ok(Turn::Now(mut flight)) = waiter.poll(&mut Context::from_waker(Waker::noop())) {
            let was_closed = is_closed.load(Ordering::SeqCst);
            if flight.send() {
                assert!(!was_closed);
            } else {
                waiter.rejoin(flight);
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        drop(waiter);
        assert_empty(&scope, taken);
    });
}

/// A permit leaves or is refused, and nothing that it took is lost; who waits has the place after it.
#[test]
fn a_permit_takes_a_place_and_gives_it_back() {
    model(|| {
        let (scope, taken) = narrow();
        let goes = |scope: &Arc<Scope>| {
            let Ok(permit) = Arc::clone(scope).try_acquire(0, demand(0)) else { return };
            let mut flight = permits::take(&permit, scope).expect("nobody else has it");
            assert!(flight.send());
            flight.settle(Outcome::Other);
        };
        let dropped = |scope: &Arc<Scope>| drop(Arc::clone(scope).try_acquire(0, demand(0)));
        together(&scope, goes, dropped, |scope| assert!(call(scope, 9, Outcome::Other)));
        assert_empty(&scope, taken);
    });
}

/// Two calls with one permit, and its time is over: one of the three has it.
#[test]
fn a_permit_goes_once() {
    model(|| {
        let scope = scope_of(Quota::learned(), Duration::ZERO);
        let permit = Arc::clone(&scope).try_acquire(0, demand(0)).expect("there is room");
        let threads = [(); 2].map(|()| {
            let (scope, permit) = (Arc::clone(&scope), Arc::clone(&permit));
            thread::spawn(move || {
                let Some(mut flight) = permits::take(&permit, &scope) else { return 0 };
                assert!(flight.send());
                flight.settle(Outcome::Success(&Limits::default()));
                1
            })
        });
        // Whoever looks takes back what was kept for too long.
        let seen = scope.snapshot().in_flight;
        let gone: u64 = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert!(seen <= 1 && gone <= 1, "{seen} {gone}");
        let now = scope.snapshot();
        assert_eq!((now.counts.sent, now.counts.succeeded, now.in_flight), (gone, gone, 0));
    });
}

/// Time stands still, so that nothing comes back but what answers say was not used: all who wait for it must hear.
#[test]
fn what_an_answer_did_not_use_lets_others_go() {
    const TOKENS: std::num::NonZeroU64 = crate::nz!(100);
    model(|| {
        let scope = scope_of(Quota::learned().tokens_per_minute(TOKENS), Duration::from_secs(60));
        let Entry::Go(mut first) = arrive_with(&scope, 0, 100) else { panic!("all of it is there") };
        let waits = |scope: &Arc<Scope>| match arrive_with(scope, 1, 40) {
            Entry::Go(mut flight) => drop(flight.settle(Outcome::Other)),
            Entry::Wait(mut waiter) => {
                let Ok(mut flight) = turn(&mut waiter) else { panic!("it is refused") };
                assert!(flight.send());
                flight.settle(Outcome::Other);
            }
            Entry::Refused(refusal) => panic!("{refusal}"),
        };
        let (one, gives_up) = (Arc::clone(&scope), Arc::clone(&scope));
        let threads = [
            thread::spawn(move || waits(&one)),
            thread::spawn(move || {
                if let Entry::Wait(mut waiter) = arrive_with(&gives_up, 2, 40) {
                    let _ = waiter.poll(&mut Context::from_waker(Waker::noop()));
                }
            }),
        ];
        let pending = first.pending(Told::by(&Limits::default()));
        first.settle(Outcome::Success(&Limits::default()));
        drop(first);
        let usage = Usage { input: Some(10), output: Some(5), is_whole: true, ..Usage::default() };
        scope.settle_usage(pending, &usage);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let now = scope.snapshot();
        assert_eq!((now.in_flight, now.waiting), (0, 0), "{now:?}");
        assert_eq!(now.used.tokens(), 15);
        let left = now.tokens.expect("it was given").remaining;
        assert!((left - 45.0).abs() < 1e-6 || (left - 5.0).abs() < 1e-6, "{left}");
    });
}
