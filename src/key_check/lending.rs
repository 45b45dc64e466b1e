//! Which key a call gets.

use std::sync::Arc;

use tokio::{sync::futures::OwnedNotified, time::Instant};

use super::{
    ApiKey, KeySnapshot, NoSoundKey,
    loan::Loan,
    pool::Pool,
    slot::{Held, Slot},
};
use crate::{Call, Gate, Refused};

/// What is known of the keys, under the pool's lock.
pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    /// Counts what was lent, for keys of equal merit to take turns.
    turn: u64,
}

/// What a call gets that asks for a key.
pub(super) enum Lent {
    Now(Loan),
    /// A source is being asked; then it is to ask again.
    Later(OwnedNotified),
    Refused(Refused),
}

/// Which slots' sources are to be asked, once the lock is released.
pub(super) type ToFetch = Vec<usize>;

impl State {
    pub(super) fn new(slots: Vec<Slot>) -> Self {
        Self { slots, turn: 0 }
    }

    pub(super) fn keys(&self) -> Vec<ApiKey> {
        self.slots.iter().filter_map(|slot| Some(slot.held.as_ref()?.key.0.clone())).collect()
    }

    pub(super) fn snapshot(&self, now: Instant) -> Vec<KeySnapshot> {
        self.slots.iter().map(|slot| slot.snapshot(now)).collect()
    }

    pub(super) fn refusal(&self, now: Instant) -> Refused {
        let wait = self.slots.iter().filter_map(|slot| slot.back_in(now)).min();
        Refused::new(Gate::Key, wait, NoSoundKey { keys: self.snapshot(now) })
    }

    pub(super) fn lend(
        &mut self,
        pool: &Pool,
        call: Option<&Call>,
        wished: Option<u32>,
        now: Instant,
        to_fetch: &mut ToFetch,
    ) -> Lent {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.is_fetch_due(now) && slot.begin_fetch(now) {
                to_fetch.push(number);
            }
        }
        if let Some(wished) = wished.and_then(|number| self.numbered(number, now)) {
            return self.lend_slot(wished, Loan::of);
        }
        let seq = call.map(Call::seq);
        // One that this call has not looked at, if there is one.
        let due = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_probe_due(now));
        let probe = due.min_by_key(|(_, slot)| seq.is_some() && slot.looker() == seq).map(|(number, _)| number);
        if let Some(best) = self.best(now) {
            // Who can go again loses nothing if the key is still out of use: it goes with another.
            return match probe.filter(|_| call.is_some_and(Call::is_kept)) {
                Some(probe) => self.lend_probe(pool, probe, seq),
                None => self.lend_slot(best, Loan::of),
            };
        }
        let mut is_asked = false;
        // Made before the sources are asked, so that no answer is missed.
        let later = pool.next_answer();
        for (number, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| slot.may_get_key(now)) {
            is_asked = true;
            if slot.begin_fetch(now) {
                to_fetch.push(number);
            }
        }
        match probe {
            _ if is_asked => Lent::Later(later),
            Some(probe) => self.lend_probe(pool, probe, seq),
            None => Lent::Refused(self.refusal(now)),
        }
    }

    /// The sound key that cools off first, has the fewest calls outstanding, and was lent the longest ago.
    fn best(&self, now: Instant) -> Option<usize> {
        let sound = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_sound(now));
        let best = sound.min_by_key(|(_, slot)| (slot.cooling_until(now), slot.outstanding(), slot.last_lent));
        best.map(|(number, _)| number)
    }

    /// The sound key with this number.
    fn numbered(&self, number: u32, now: Instant) -> Option<usize> {
        let is_it = |slot: &Slot| slot.held.as_ref().is_some_and(|held| held.lease.id() == number);
        self.slots.iter().position(|slot| slot.is_sound(now) && is_it(slot))
    }

    /// The key that a call would get that came now, if it is there.
    #[cfg(feature = "stack")]
    pub(super) fn next(&self, now: Instant) -> Option<Arc<Held>> {
        let place = self.best(now).or_else(|| self.slots.iter().position(|slot| slot.is_probe_due(now)))?;
        self.slots.get(place)?.held.clone()
    }

    fn lend_slot(&mut self, number: usize, loan: impl FnOnce(Arc<Held>) -> Loan) -> Lent {
        self.turn += 1;
        let turn = self.turn;
        let held = self.slots.get_mut(number).and_then(|slot| {
            slot.last_lent = turn;
            slot.held.clone()
        });
        match held {
            Some(held) => Lent::Now(loan(held)),
            None => Lent::Refused(self.refusal(Instant::now())),
        }
    }

    fn lend_probe(&mut self, pool: &Pool, number: usize, looker: Option<u64>) -> Lent {
        if let Some(slot) = self.slots.get_mut(number)
            && let (Some(held), Some(outage)) = (slot.held.clone(), &mut slot.outage)
        {
            (outage.probed, outage.looker) = (true, looker);
            // A lease of its own: the old one has ended.
            slot.hold(Arc::clone(&held.key), pool.weak(), number);
        }
        self.lend_slot(number, Loan::to_look)
    }

    pub(super) fn others(&self, number: usize) -> impl Iterator<Item = &Slot> {
        self.slots.iter().enumerate().filter(move |(other, _)| *other != number).map(|(_, slot)| slot)
    }

    /// Whether a call that comes now gets a key, or one is on the way.
    pub(super) fn has_prospect(&self, now: Instant) -> bool {
        self.slots.iter().any(|slot| slot.is_sound(now) || slot.may_get_key(now) || slot.is_probe_due(now))
    }

    /// The same for a call whose key was just put out of use; `look` if it was to look, with its number if it has one.
    ///
    /// It looks at each key once: else it would go round until the retry gives up. Without a number nobody can tell.
    pub(super) fn has_prospect_after(&self, own: usize, look: Option<Option<u64>>, now: Instant) -> bool {
        let is_new = |slot: &Slot| look.is_none_or(|looker| looker.is_some() && slot.looker() != looker);
        let is_new = |slot: &Slot| slot.is_probe_due(now) && is_new(slot);
        self.slots.iter().any(|slot| slot.is_sound(now) || slot.may_get_key(now)) || self.others(own).any(is_new)
    }
}
