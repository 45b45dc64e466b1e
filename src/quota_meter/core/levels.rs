//! What is left of each limit: reserved, given back, and brought in line with what the server says.

use std::time::Duration;

use super::{Core, Wakes, gate::FIRST_WINDOW};
use crate::{
    limits::{Dimension, Limits, MORE, Unit},
    quota_meter::{
        bucket::{Bucket, Heard, Level},
        cost::Cost,
        demand::Sure,
        flights::{Flight, FlightId},
        known::least,
        moment::Moment,
        refusal::Refusal,
        snapshot::Also,
    },
};

pub(super) use crate::quota_meter::SetBy as Origin;

/// A token estimate is taken as this much short: without the margin 0.5 % of calls meet a 429.
const TOKEN_MARGIN: f64 = 1.1;
/// A call larger than the whole limit is refused for so long after the server named that; then one looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// A server may count so many times the estimate.
const OWN_TOKENS: f64 = 1.25;
/// The least window once a limit is known.
const LEAST_KNOWN_WINDOW: f64 = 8.0;

/// Of which tokens an answer told how many are left.
#[derive(Clone, Copy, Debug)]
pub(in crate::quota_meter) struct Told {
    tokens: bool,
    input: bool,
    output: bool,
}

impl Told {
    pub(in crate::quota_meter) fn by(limits: &Limits) -> Self {
        let of = |unit| limits.more.iter().any(|more| more.unit == unit && more.limit.remaining.is_some());
        let tokens = limits.tokens.is_some_and(|tokens| tokens.remaining.is_some()) || of(Unit::Tokens);
        Self { tokens, input: of(Unit::InputTokens), output: of(Unit::OutputTokens) }
    }

    fn of(self, unit: Unit) -> bool {
        match unit {
            Unit::Requests => true,
            Unit::Tokens => self.tokens,
            Unit::InputTokens => self.input,
            Unit::OutputTokens => self.output,
        }
    }
}

/// A limit beside the usual two: in and out apart, a project's, a second policy.
#[derive(Debug)]
pub(super) struct More {
    pub(super) name: Box<str>,
    pub(super) origin: Origin,
    pub(super) unit: Unit,
    pub(super) bucket: Bucket,
}

impl More {
    /// What must be free for this cost.
    pub(super) fn wanted(&self, cost: f64) -> f64 {
        let is_exact = self.unit == Unit::Requests || self.origin != Origin::Server;
        let wanted = if is_exact { cost } else { cost * TOKEN_MARGIN };
        self.bucket.limit().map_or(wanted, |limit| wanted.min(limit))
    }

    pub(super) fn holds(&self, cost: Cost, now: Moment) -> bool {
        let cost = cost.in_unit(self.unit);
        cost <= 0.0 || self.bucket.holds(self.wanted(cost), now)
    }

    /// How long until there is room for this cost, and before it for those `ahead`.
    pub(super) fn wait_for(&self, ahead: Cost, cost: Cost, now: Moment) -> Duration {
        let cost = cost.in_unit(self.unit);
        if cost <= 0.0 {
            return Duration::ZERO;
        }
        self.bucket.wait_for(ahead.in_unit(self.unit) + self.wanted(cost), now)
    }
}

impl Core {
    /// Whether a call of this cost may leave now.
    #[inline(always)]
    pub(super) fn fits(&self, now: Moment, cost: Cost) -> bool {
        self.gate.opens.is_none_or(|opens| opens <= now) && self.has_room(now) && self.holds(now, cost)
    }

    /// Whether the levels hold this cost, and the pace allows it.
    #[inline(always)]
    pub(super) fn holds(&self, now: Moment, cost: Cost) -> bool {
        self.requests.holds(cost.requests, now)
            && (cost.tokens <= 0.0 || self.tokens.holds(self.with_margin(cost.tokens), now))
            && self.pace.as_ref().is_none_or(|pace| pace.wait_for(now, cost.requests).is_zero())
            && self.more.iter().all(|more| more.holds(cost, now))
            && self.leases.as_ref().is_none_or(|leases| leases.holds(cost, now))
    }

    /// How long until the levels hold this cost.
    pub(super) fn announced_wait(&self, now: Moment, cost: Cost) -> Duration {
        let tokens = if cost.tokens > 0.0 {
            self.tokens.wait_at_least(self.with_margin(cost.tokens), now)
        } else {
            Duration::ZERO
        };
        let more = self.more.iter().map(|more| more.wait_for(Cost::ZERO, cost, now)).max().unwrap_or_default();
        self.requests.wait_at_least(cost.requests, now).max(tokens).max(more)
    }

    pub(super) fn with_margin(&self, tokens: f64) -> f64 {
        let wanted = tokens * TOKEN_MARGIN;
        self.tokens.limit().map_or(wanted, |limit| least(wanted, limit))
    }

    /// The same cost, as far as it is certain; what is but reckoned of it is held down to what the limits hold. Nobody is
    /// refused for a guess.
    pub(super) fn fitted(&self, cost: Cost, sure: Sure) -> Cost {
        let limit = |unit| {
            let more = self.more.iter().filter(|more| more.unit == unit).filter_map(|more| more.bucket.named_limit());
            let usual = self.tokens.named_limit().filter(|_| unit == Unit::Tokens);
            more.chain(usual).fold(f64::INFINITY, f64::min)
        };
        match sure {
            Sure::Whole => cost,
            Sure::Sum => Cost {
                input: cost.input.min(limit(Unit::InputTokens)),
                output: cost.output.min(limit(Unit::OutputTokens)),
                ..cost
            },
            Sure::Output => {
                let room = limit(Unit::InputTokens).min(limit(Unit::Tokens) - cost.output).max(0.0);
                let input = cost.input.min(room);
                Cost { tokens: input + cost.output, input, ..cost }
            }
        }
    }

    pub(super) fn never_fits(&self, now: Moment, cost: Cost) -> Option<Refusal> {
        // Of what nobody knows how it splits, only the sum can be held against a limit.
        let is_split = cost.input + cost.output <= cost.tokens;
        let more = self.more.iter().filter_map(|more| {
            let is_counted = more.unit == Unit::Tokens || more.unit != Unit::Requests && is_split;
            let limit = match more.origin {
                Origin::Server | Origin::Share => more.bucket.limit_told_within(LOOK_AGAIN, now),
                Origin::Given => more.bucket.limit(),
            };
            limit.filter(|_| is_counted).map(|limit| (cost.in_unit(more.unit), limit))
        });
        let tokens = self.tokens.limit_told_within(LOOK_AGAIN, now).map(|limit| (cost.tokens, limit));
        let (tokens, limit) =
            more.chain(tokens).filter(|(cost, limit)| cost > limit).min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(Refusal::TooLarge { tokens: tokens as u64, limit: limit as u64 })
    }

    /// Reserves for a call that leaves later.
    pub(super) fn reserve(&mut self, now: Moment, cost: Cost) -> FlightId {
        self.granted += cost;
        self.launch(now, cost)
    }

    #[inline(always)]
    pub(super) fn launch(&mut self, now: Moment, cost: Cost) -> FlightId {
        self.requests.reserve(cost.requests, now);
        self.tokens.reserve(cost.tokens, now);
        for more in &mut self.more {
            more.bucket.reserve(cost.in_unit(more.unit), now);
        }
        if let Some(pace) = &mut self.pace {
            pace.reserve(now, cost.requests);
        }
        if let Some(leases) = &mut self.leases {
            leases.take(cost);
        }
        let (probe, looks) = (self.gate.probing, self.spent.is_some());
        self.gate.probe = probe.then_some(now);
        if let Some(spent) = &mut self.spent {
            spent.probe = Some(now);
        }
        let mut flight = Flight::new(cost, self.epoch, Some(now), self.sent);
        (flight.probe, flight.looks) = (probe, looks);
        self.flights.add(flight)
    }

    pub(super) fn give_back(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.take(id) {
            self.end_probe(&flight);
            self.granted -= flight.cost;
            self.requests.refund(flight.cost.requests);
            self.tokens.refund(flight.cost.tokens);
            for more in &mut self.more {
                more.bucket.refund(flight.cost.in_unit(more.unit));
            }
            if let Some(pace) = &mut self.pace {
                pace.refund(flight.cost.requests);
            }
            if let Some(leases) = &mut self.leases {
                leases.put(flight.cost);
            }
        }
    }

    /// Of a call for which so much was reserved, an answer says what it took, in and out.
    /// Where the server told what is left (`told`), it has counted the call in its own way.
    pub(in crate::quota_meter) fn correct(
        &mut self,
        now: Moment,
        taken: Cost,
        reserved: Cost,
        told: Told,
        wakes: &mut Wakes,
    ) {
        self.credit_tokens(now, reserved - taken, told);
        self.move_up(now, wakes);
    }

    /// So many tokens were reserved and not taken. Where the server told what is left, that says it already.
    pub(super) fn credit_tokens(&mut self, now: Moment, cost: Cost, told: Told) {
        if let Some(leases) = &mut self.leases {
            leases.put(Cost { requests: 0.0, ..cost });
        }
        if !told.tokens {
            self.tokens.correct(-cost.tokens, now);
        }
        for limit in &mut self.more {
            if limit.unit != Unit::Requests && (limit.origin != Origin::Server || !told.of(limit.unit)) {
                limit.bucket.correct(-cost.in_unit(limit.unit), now);
            }
        }
    }

    #[inline(always)]
    pub(super) fn learn(&mut self, now: Moment, flight: &Flight, limits: &Limits) {
        if !limits.is_empty() {
            self.take_in(now, flight, limits);
        }
    }

    #[inline(always)]
    fn take_in(&mut self, now: Moment, flight: &Flight, limits: &Limits) {
        let seen = match flight.left {
            Some(left) => {
                self.fastest = self.fastest.min(now.nanos_since(left));
                left.plus_nanos(self.fastest / 2)
            }
            // Nobody looked when it left. So late at the most: less is counted as come back since than may have.
            None => now.minus_nanos(if self.fastest == u64::MAX { 0 } else { self.fastest / 2 }),
        };
        let was_known = self.is_known();
        // The first calls leave at once, and the server may have counted any of them first.
        let first = f64::from(FIRST_WINDOW);
        let Cost { requests, tokens, .. } = flight.mark;
        let together = if requests < first { first / requests.max(1.0) } else { 1.0 };
        let (unseen, anew) = (self.unseen_by(flight), flight.anew);
        if let Some(told) = &limits.requests {
            let heard = Heard { seen, mark: requests, unseen: unseen.requests, own: together * requests, anew };
            self.requests.reconcile(told, heard, now);
        }
        if let Some(told) = &limits.tokens {
            let own = together * tokens * OWN_TOKENS;
            let heard = Heard { seen, mark: tokens, unseen: unseen.tokens, own, anew };
            self.tokens.reconcile(told, heard, now);
        }
        if !limits.more.is_empty() {
            limits.more.iter().for_each(|dimension| self.learn_more(dimension, seen, *flight, now));
        }
        if let Some(share) = self.settings.quota.ceiling() {
            self.follow(share, now);
        }
        if !was_known && self.is_known() {
            let second = self.requests.refill().unwrap_or(0.0);
            self.window = self.window.max(second.max(LEAST_KNOWN_WINDOW) as u32);
        }
    }

    /// What is reserved that the server had not counted when it counted this call.
    fn unseen_by(&self, flight: &Flight) -> Cost {
        self.sent - flight.mark + self.granted
    }

    /// Keeps to a share of what the server says.
    #[cold]
    pub(super) fn follow(&mut self, share: f64, now: Moment) {
        let usual = [("requests", Unit::Requests, &self.requests), ("tokens", Unit::Tokens, &self.tokens)];
        let of_server = self.more.iter().filter(|more| more.origin == Origin::Server);
        let more = of_server.map(|more| (&*more.name, more.unit, &more.bucket));
        let outlines = usual.into_iter().chain(more).filter_map(|(name, unit, bucket)| {
            let whole = bucket.outline(now)?;
            let place = self.more.iter().position(|more| more.origin == Origin::Share && *more.name == *name);
            Some((place.ok_or_else(|| Box::from(name)), unit, whole))
        });
        for (place, unit, whole) in outlines.collect::<Vec<_>>() {
            match place {
                Ok(place) => self.more[place].bucket.follow(whole, share, now),
                Err(name) => {
                    let mut bucket = Bucket::new();
                    bucket.follow(whole, share, now);
                    self.more.push(More { name, origin: Origin::Share, unit, bucket });
                }
            }
        }
    }

    #[cold]
    fn learn_more(&mut self, dimension: &Dimension, seen: Moment, flight: Flight, now: Moment) {
        let place = self.more.iter().position(|more| more.origin == Origin::Server && *more.name == *dimension.name);
        let place = place.or_else(|| {
            let is_new = self.more.iter().filter(|more| more.origin == Origin::Server).count() < MORE;
            is_new.then(|| {
                let (name, unit) = ((*dimension.name).into(), dimension.unit);
                self.more.push(More { name, origin: Origin::Server, unit, bucket: Bucket::new() });
            })?;
            Some(self.more.len() - 1)
        });
        let unseen = self.unseen_by(&flight);
        if let Some(more) = place.and_then(|place| self.more.get_mut(place)) {
            let mark = flight.mark.in_unit(more.unit);
            // What is in flight is unseen by the server, of a limit that is told for the first time, too.
            let unseen = unseen.in_unit(more.unit);
            let heard = Heard { seen, mark, unseen, own: f64::INFINITY, anew: flight.anew };
            more.bucket.reconcile(&dimension.limit, heard, now);
        }
    }

    /// Whether of one of them no more is known than what was left.
    pub(super) fn is_vague(&self) -> bool {
        self.requests.is_vague() || self.tokens.is_vague() || self.more.iter().any(|more| more.bucket.is_vague())
    }

    pub(super) fn is_known(&self) -> bool {
        self.requests.limit().is_some()
            || self.tokens.limit().is_some()
            || self.more.iter().any(|more| more.bucket.limit().is_some())
    }

    /// Whether a call may be held up for its tokens.
    #[inline]
    pub(in crate::quota_meter) fn limits_tokens(&self) -> bool {
        self.tokens.limit().is_some() || !self.more.is_empty()
    }

    /// All limits beside the usual two.
    pub(super) fn others(&self, now: Moment) -> Vec<Also> {
        let also = |more: &More| {
            let level = more.bucket.level(now)?;
            Some(Also { name: (*more.name).into(), unit: more.unit, set_by: more.origin, level })
        };
        self.more.iter().filter_map(also).collect()
    }

    /// What the server says, or what is given where it says nothing.
    pub(super) fn level(&self, unit: Unit, learned: &Bucket, now: Moment) -> Option<Level> {
        let given = || self.more.iter().find(|more| more.unit == unit && more.origin == Origin::Given);
        learned.level(now).or_else(|| given()?.bucket.level(now))
    }
}
