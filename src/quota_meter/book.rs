//! The book of all scopes of a meter: what was used today and ever, what it cost, who wants to hear of it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use tokio::sync::{broadcast, watch};

use super::{Measure, Price, Reached, ScopeName, Threshold, Totals, Used, cost::Cost, refusal::Refusal};
use crate::wall_clock::WallClock;

const DAY: u64 = 86_400;
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
}

#[derive(Debug)]
pub(super) struct Book {
    accounts: Accounts,
    ledger: Mutex<Ledger>,
    changes: watch::Sender<()>,
    alerts: broadcast::Sender<Reached>,
}

#[derive(Debug, Default)]
struct Ledger {
    totals: Totals,
    /// The sum of today's.
    today: Used,
    /// What the calls under way are reckoned to cost.
    under_way: f64,
    /// Which of the thresholds were reached today.
    reached: Vec<bool>,
}

impl Book {
    pub(super) fn new(accounts: Accounts) -> Arc<Self> {
        let ledger = Ledger { reached: vec![false; accounts.thresholds.len()], ..Ledger::default() };
        let (changes, alerts) = (watch::Sender::new(()), broadcast::Sender::new(ALERTS));
        Arc::new(Self { accounts, ledger: Mutex::new(ledger), changes, alerts })
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

    pub(super) fn reads_usage(&self) -> bool {
        self.accounts.reads_usage
    }

    /// Whether tokens are booked at all: as the answers say, or, where those are not read, as reckoned.
    pub(super) fn counts_tokens(&self) -> bool {
        let Accounts { prices, budget, thresholds, reads_usage, .. } = &self.accounts;
        let wants_tokens = |watch: &Watch| watch.threshold.measure() != Measure::Requests;
        *reads_usage || budget.is_some() || !prices.is_empty() || thresholds.iter().any(wants_tokens)
    }

    /// What so many tokens cost in this scope.
    pub(super) fn priced(&self, scope: &ScopeName, input: u64, output: u64) -> Used {
        let money = self.accounts.price(scope.model()).map_or(0.0, |price| price.of(input, output));
        Used { money, ..Used::default() }
    }

    pub(super) fn record(&self, scope: &ScopeName, used: Used) {
        let mut reached = Vec::new();
        {
            let mut ledger = self.today();
            ledger.add(scope.label(), used);
            let Ledger { today, reached: known, .. } = &mut *ledger;
            for (watch, known) in self.accounts.thresholds.iter().zip(known) {
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

    /// Whether money is limited.
    #[inline]
    pub(super) fn has_budget(&self) -> bool {
        self.accounts.budget.is_some()
    }

    /// Holds what a call of this cost is reckoned to take of today's money, if there is as much; so much that is.
    pub(super) fn hold(&self, scope: &ScopeName, cost: Cost) -> Result<f32, Refusal> {
        let Some(budget) = self.accounts.budget else { return Ok(0.0) };
        let money = self.accounts.price(scope.model()).map_or(0.0, |price| price.reckon(cost)) as f32;
        let mut ledger = self.today();
        let (spent, under_way) = (ledger.today.money, ledger.under_way);
        let taken = spent + under_way;
        // So put that a budget that is no number allows nothing.
        if taken < budget && taken + f64::from(money) <= budget {
            ledger.under_way += f64::from(money);
            return Ok(money);
        }
        drop(ledger);
        Err(Refusal::OverBudget { spent, under_way, budget, wait: self.until_tomorrow() })
    }

    /// What was held is free, or booked by now.
    pub(super) fn release(&self, money: f32) {
        if money > 0.0 {
            let mut ledger = self.today();
            ledger.under_way = (ledger.under_way - f64::from(money)).max(0.0);
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.today().totals.clone()
    }

    pub(super) fn restore(&self, saved: Totals) {
        let mut ledger = self.today();
        let is_of_today = saved.day == ledger.totals.day;
        for (name, used) in saved.ever {
            ledger.add_ever(name, used);
        }
        for (name, used) in saved.today.into_iter().filter(|_| is_of_today) {
            ledger.add_today(name, used);
        }
    }

    /// The ledger, opened at today's page.
    fn today(&self) -> MutexGuard<'_, Ledger> {
        let day = self.seconds() / DAY;
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if ledger.totals.day != day {
            ledger.totals.day = day;
            ledger.totals.today.clear();
            ledger.today = Used::default();
            ledger.reached.fill(false);
        }
        ledger
    }

    fn until_tomorrow(&self) -> Duration {
        Duration::from_secs(DAY - self.seconds() % DAY)
    }

    fn seconds(&self) -> u64 {
        self.accounts.clock.now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }
}

impl Ledger {
    fn add(&mut self, name: String, used: Used) {
        self.add_ever(name.clone(), used);
        self.add_today(name, used);
    }

    fn add_ever(&mut self, name: String, used: Used) {
        *entry(&mut self.totals.ever, name) += used;
    }

    fn add_today(&mut self, name: String, used: Used) {
        *entry(&mut self.totals.today, name) += used;
        self.today += used;
    }
}

fn entry(page: &mut BTreeMap<String, Used>, name: String) -> &mut Used {
    let has_room = page.len() < MOST_NAMES || page.contains_key(&name);
    page.entry(if has_room { name } else { OTHERS.to_owned() }).or_default()
}
