//! The book of all scopes of a meter: what was used today and ever, what it cost, who wants to hear of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use tokio::sync::{broadcast, watch};

use super::{Measure, Price, Reached, ScopeName, Threshold, Totals, Used, cost::Cost, refusal::Refusal, usage::Cache};
use crate::wall_clock::WallClock;

const DAY: u64 = 86_400;
/// So many seconds may pass from the look at the date to what is put down.
const MEANWHILE: u64 = 10;
/// Scopes that are counted by name; what more there are is counted together.
const MOST_NAMES: usize = 4096;
const OTHERS: &str = "(all others)";
/// Thresholds reached that a listener may be behind; of more it sees the last.
const ALERTS: usize = 64;

pub(super) type Call = dyn Fn(&Reached) + Send + Sync;

/// What the book is set up with.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    pub(super) prices: BTreeMap<String, Price>,
    pub(super) budget: Option<f64>,
    pub(super) thresholds: Vec<Watch>,
    pub(super) clock: WallClock,
    pub(super) reads_usage: bool,
}

#[derive(Clone)]
pub(super) struct Watch {
    pub(super) threshold: Threshold,
    pub(super) call: Option<Arc<Call>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.threshold, f)
    }
}

impl Accounts {
    /// By the longest of the names that the model's begins with.
    fn price(&self, model: &str) -> Option<&Price> {
        let fits = self.prices.iter().filter(|(name, _)| model.starts_with(name.as_str()));
        fits.max_by_key(|(name, _)| name.len()).map(|(_, price)| price)
    }

    /// Whether tokens are booked at all: as the answers say, or, where those are not read, as reckoned.
    fn counts_tokens(&self) -> bool {
        let wants_tokens = |watch: &Watch| watch.threshold.measure() != Measure::Requests;
        self.reads_usage || self.budget.is_some() || !self.prices.is_empty() || self.thresholds.iter().any(wants_tokens)
    }
}

#[derive(Debug)]
pub(super) struct Book {
    accounts: Accounts,
    counts_tokens: bool,
    /// No tokens are counted, and nobody wants to hear of calls.
    is_silent: bool,
    names: Mutex<BTreeMap<String, Arc<Account>>>,
    ledger: Mutex<Ledger>,
    changes: watch::Sender<()>,
    alerts: broadcast::Sender<Reached>,
}

/// What the scopes of one name have used. Each has its own lock: those that use different ones do not meet.
#[derive(Debug, Default)]
pub(super) struct Account(Mutex<Page>);

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    day: u64,
    today: Used,
    ever: Used,
}

/// What is asked of all accounts together. Nothing is put down here where nobody asks.
#[derive(Debug, Default)]
struct Ledger {
    day: u64,
    /// The sum of today's.
    today: Used,
    /// What the calls under way are reckoned to cost.
    under_way: f64,
    /// Which of the thresholds were reached today.
    reached: Vec<bool>,
}

/// The date, in seconds since 1970. Asked for before a scope is locked: the user's clock may look at the meter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Today(u64);

impl Today {
    fn day(self) -> u64 {
        self.0 / DAY
    }

    /// Whether a page of that day is not the one to write on. Who asked the date just before midnight and comes after another
    /// who asked just after it writes on the new page.
    fn turns(self, day: u64) -> bool {
        let is_just_before = self.0 + MEANWHILE >= day.saturating_mul(DAY);
        self.day() > day || self.day() < day && !is_just_before
    }

    fn until_tomorrow(self) -> Duration {
        Duration::from_secs(DAY - self.0 % DAY)
    }
}

impl Book {
    pub(super) fn new(accounts: Accounts) -> Arc<Self> {
        let ledger = Ledger { reached: vec![false; accounts.thresholds.len()], ..Ledger::default() };
        let (changes, alerts) = (watch::Sender::new(()), broadcast::Sender::new(ALERTS));
        let counts_tokens = accounts.counts_tokens();
        let is_silent = !counts_tokens && accounts.thresholds.is_empty();
        Arc::new(Self {
            accounts,
            counts_tokens,
            is_silent,
            names: Mutex::default(),
            ledger: Mutex::new(ledger),
            changes,
            alerts,
        })
    }

    /// Something may be seen that was not before. Costs nothing where nobody listens.
    #[inline]
    pub(super) fn changed(&self) {
        if self.changes.receiver_count() > 0 {
            self.changes.send_replace(());
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn alerts(&self) -> broadcast::Receiver<Reached> {
        self.alerts.subscribe()
    }

    /// Whether somebody wants to hear of calls that say nothing of tokens.
    pub(super) fn counts_at_once(&self) -> bool {
        !self.accounts.thresholds.is_empty()
    }

    /// Whether nothing of a call is put down here when it ends.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent
    }

    #[inline]
    pub(super) fn has_budget(&self) -> bool {
        self.accounts.budget.is_some()
    }

    pub(super) fn clock(&self) -> &WallClock {
        &self.accounts.clock
    }

    pub(super) fn reads_usage(&self) -> bool {
        self.accounts.reads_usage
    }

    /// Whether tokens are booked at all.
    pub(super) fn counts_tokens(&self) -> bool {
        self.counts_tokens
    }

    /// What so many tokens cost in this scope.
    pub(super) fn priced(&self, scope: &ScopeName, input: u64, output: u64, cache: Cache) -> Used {
        let money = self.accounts.price(scope.model()).map_or(0.0, |price| price.of(input, output, cache));
        Used { money, ..Used::default() }
    }

    /// The account of this scope; past the most of them one for all others.
    pub(super) fn account(&self, scope: &ScopeName) -> Arc<Account> {
        self.named(scope.label())
    }

    fn named(&self, name: String) -> Arc<Account> {
        let mut names = self.names();
        let has_room = names.len() < MOST_NAMES || names.contains_key(&name);
        Arc::clone(names.entry(if has_room { name } else { OTHERS.to_owned() }).or_default())
    }

    pub(super) fn record(&self, account: &Account, used: Used) {
        let now = self.now();
        account.open(now).add(used);
        let Accounts { budget, thresholds, .. } = &self.accounts;
        if budget.is_none() && thresholds.is_empty() {
            return;
        }
        let mut reached = Vec::new();
        {
            let mut ledger = self.open(now);
            ledger.today += used;
            let Ledger { today, reached: known, .. } = &mut *ledger;
            for (watch, known) in thresholds.iter().zip(known) {
                if !*known && watch.threshold.is_reached(today) {
                    *known = true;
                    reached.push((watch, Reached { threshold: watch.threshold, today: *today }));
                }
            }
        }
        for (watch, reached) in reached {
            if let Some(call) = &watch.call {
                call(&reached);
            }
            // Nobody listens: then nobody hears.
            let _ = self.alerts.send(reached);
        }
    }

    /// The date, where money is limited.
    #[inline]
    pub(super) fn today(&self) -> Option<Today> {
        self.accounts.budget.map(|_| self.now())
    }

    /// Holds what a call of this cost is reckoned to take of today's money, if there is as much; so much that is.
    pub(super) fn hold(&self, scope: &ScopeName, cost: Cost, today: Today) -> Result<f32, Refusal> {
        let Some(budget) = self.accounts.budget else { return Ok(0.0) };
        let money = self.accounts.price(scope.model()).map_or(0.0, |price| price.reckon(cost)) as f32;
        let mut ledger = self.open(today);
        let (spent, under_way) = (ledger.today.money, ledger.under_way);
        let taken = spent + under_way;
        // So put that a budget that is no number allows nothing.
        if taken < budget && taken + f64::from(money) <= budget {
            ledger.under_way += f64::from(money);
            return Ok(money);
        }
        drop(ledger);
        Err(Refusal::OverBudget { spent, under_way, budget, wait: today.until_tomorrow() })
    }

    /// What was held is free, or booked by now.
    pub(super) fn release(&self, money: f32) {
        if money > 0.0 {
            let mut ledger = self.ledger();
            ledger.under_way = (ledger.under_way - f64::from(money)).max(0.0);
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let now = self.now();
        let mut totals = Totals { day: now.day(), ..Totals::default() };
        for (name, account) in &*self.names() {
            let page = *account.open(now);
            for (all, used) in [(&mut totals.today, page.today), (&mut totals.ever, page.ever)] {
                if used != Used::default() {
                    all.insert(name.clone(), used);
                }
            }
        }
        totals
    }

    pub(super) fn restore(&self, saved: Totals) {
        let now = self.now();
        for (name, used) in &saved.ever {
            let account = self.named(name.clone());
            account.open(now).ever += *used;
        }
        if saved.day != now.day() {
            return;
        }
        for (name, used) in &saved.today {
            let account = self.named(name.clone());
            account.open(now).today += *used;
        }
        let before = saved.of_today();
        let mut ledger = self.open(now);
        ledger.today += before;
        for (watch, known) in self.accounts.thresholds.iter().zip(&mut ledger.reached) {
            // Somebody was told of it when it was reached.
            *known |= watch.threshold.is_reached(&before);
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Account>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger, opened at today's page.
    fn open(&self, today: Today) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.ledger();
        if today.turns(ledger.day) {
            ledger.day = today.day();
            ledger.today = Used::default();
            ledger.reached.fill(false);
        }
        ledger
    }

    fn now(&self) -> Today {
        Today(self.accounts.clock.now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }
}

impl Account {
    /// The page, turned to today's.
    fn open(&self, today: Today) -> MutexGuard<'_, Page> {
        let mut page = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if today.turns(page.day) {
            page.day = today.day();
            page.today = Used::default();
        }
        page
    }
}

impl Page {
    fn add(&mut self, used: Used) {
        self.today += used;
        self.ever += used;
    }
}
