//! What other processes take from the same quota, and this one's part of it while they are there.
//!
//! Each hears from the server what is left, and so what the others took until then. Of what they took since it knows
//! only how fast they were. So all of them let go a little more or less as there is more or less left than a small
//! reserve, and none runs the quota dry before it can have heard of it.

use std::time::Duration;

use super::moment::Moment;

/// Weight of a new observation of what others take.
const WEIGHT: f64 = 0.3;
/// Less than this share of the refill is taken for noise.
const NOISE: f64 = 0.03;
/// More than this share of it is somebody.
const CLEAR: f64 = 0.3;
/// The most of it that they are first taken for. What they burn is what was saved up, and soon gone: who took it for their
/// rate would leave them everything for minutes.
const MOST_AT_FIRST: f64 = 1.2;
/// Seconds of the use of others that is not clear, that are left alone.
const HOLD_BACK: f64 = 2.5;
/// Looks, of a second and more each, for which somebody is remembered who takes nothing now: their calls may be waiting
/// for a gate to open, and find nothing then if all was taken.
const COMPANY: u8 = 60;
/// Looks for which they are suspected.
const SUSPICION: u8 = 5;
/// Seconds of the refill that are to be left, beside those for which the server's word is old.
const RESERVE: f64 = 0.7;
/// The least of that, and the most, as a share of the limit.
const LEAST_RESERVE: f64 = 4.0;
const MOST_RESERVE: f64 = 0.1;
/// The part of the reserve that nobody takes whatever the rate.
const FLOOR: f64 = 0.25;
/// Weight of how old the newest word is, on the mean: an answer more would else move the reserve.
const AGE_WEIGHT: f64 = 0.03;
/// Seconds over which what is there beyond the reserve is used up; so many more for each that the server's word is old.
/// Four processes do it in a quarter of that, which must be well beyond that age.
const DESCENT: f64 = 6.0;
/// The same in calls: where they are few, one more or less that is left says little.
const DESCENT_CALLS: f64 = 20.0;
/// What a part grows each second, as a share of the refill, and what it loses of itself where all of the reserve is
/// gone. All grow by the same and lose in proportion, so that they become equal, however many they are (as in TCP).
const GROWTH: f64 = 0.01;
const LOSS: f64 = 0.1;
/// So much of what the others take is taken for theirs. Who left them all would never get back what they once took.
const YIELD: f64 = 0.65;
/// How fast a part comes to what the others leave, a second.
const PULL: f64 = 0.07;
/// A part moves for no longer than so many seconds at once, however rarely an answer comes.
const LONGEST_STEP: f64 = 10.0;
/// A part is never less than this share of the refill, nor is what leaves; and no more than the other share while the
/// others take all.
const LEAST_PART: f64 = 0.1;
const PART_AMONG_MANY: f64 = 0.25;
/// Seconds of the rate that may leave at once.
const BURST: f64 = 0.5;

/// What is missing from the server's count when this process's own calls are taken off.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Others {
    last: Option<Sample>,
    /// What they take, a second.
    rate: f64,
    company: Option<Company>,
}

/// What this process lets go while others take from the same quota.
#[derive(Clone, Copy, Debug)]
struct Company {
    /// Not yet, where the first answers alone spoke of them: it may have been used by somebody who is long gone. Until
    /// it is clear, only the descent is slow.
    is_clear: bool,
    /// For so many more looks it counts that there was somebody.
    looks: u8,
    /// What this process takes for its own of the refill, a second.
    part: f64,
    /// What it lets go a second: its part, and what there is beyond the reserve, or less.
    rate: f64,
    reserve: f64,
    /// Seconds.
    age: f64,
    /// What may leave now.
    free: f64,
    at: Moment,
    /// When an answer last said what is left.
    steered: Moment,
    /// The most that ever left at once.
    largest: f64,
}

/// What a server told, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) seen: Moment,
    pub(super) remaining: f64,
    pub(super) mark: f64,
}

impl Others {
    /// Whether the rate is another than before.
    #[inline(always)]
    pub(super) fn observe(&mut self, sample: Sample, limit: f64, period: f64) -> bool {
        let Sample { seen, remaining, mark } = sample;
        // Most answers come too soon after the last that counted.
        let is_soon = self.last.as_ref().is_some_and(|last| seen.seconds_since(last.seen) < 1.0);
        !is_soon && self.compare(seen, remaining, mark, limit, limit / period)
    }

    #[cold]
    fn compare(&mut self, seen: Moment, remaining: f64, mark: f64, limit: f64, refill: f64) -> bool {
        let sample = Sample { seen, remaining, mark };
        let Some(last) = self.last else {
            self.last = Some(sample);
            return false;
        };
        let elapsed = seen.seconds_since(last.seen);
        // A burst tells as much as a long time, if it is not this process's own, of which the order is not known.
        let burst = if self.company.is_some() { last.remaining - remaining } else { 0.0 };
        if (elapsed * refill).max(burst) < 8.0 {
            return false;
        }
        self.last = Some(sample);
        // A full bucket loses its refill: nothing can be read from it.
        if last.remaining.max(remaining) >= limit * 0.98 {
            return true;
        }
        let taken = refill * elapsed - (mark - last.mark) - (remaining - last.remaining);
        let is_clear = taken > refill * elapsed * CLEAR && taken > 4.0;
        let rate = taken / elapsed;
        if is_clear && !self.are_met() {
            self.rate = rate.max(refill / 2.0).min(refill * MOST_AT_FIRST);
            self.suspect(refill, seen);
        } else {
            self.rate += WEIGHT * (rate.min(refill) - self.rate);
        }
        if let Some(company) = &mut self.company {
            company.is_clear |= is_clear;
            company.looks = if is_clear { COMPANY } else { company.looks.saturating_sub(1) };
            if company.looks == 0 {
                self.company = None;
            }
        }
        true
    }

    /// There may be somebody.
    #[cold]
    pub(super) fn suspect(&mut self, refill: f64, now: Moment) {
        if self.company.is_some() {
            return;
        }
        let part = refill / 2.0;
        self.company = Some(Company {
            is_clear: false,
            looks: SUSPICION,
            part,
            rate: part,
            reserve: LEAST_RESERVE,
            age: 1.0,
            free: f64::INFINITY,
            at: now,
            steered: now,
            largest: 1.0,
        });
    }

    /// Whether there is somebody for certain.
    pub(super) fn are_met(&self) -> bool {
        self.company.as_ref().is_some_and(|company| company.is_clear)
    }

    /// What is left of the refill beside them.
    pub(super) fn leave_of(&self, refill: f64) -> f64 {
        refill - self.share(refill) * YIELD
    }

    /// What they take of the refill.
    fn share(&self, refill: f64) -> f64 {
        if self.rate < refill * NOISE { 0.0 } else { self.rate.min(refill * 0.95) }
    }

    /// What is left alone.
    pub(super) fn held(&self, refill: f64) -> f64 {
        match &self.company {
            Some(company) if company.is_clear => (company.reserve * FLOOR).max(1.0),
            _ if self.share(refill) > 0.0 => (self.share(refill) * HOLD_BACK).max(1.0),
            _ => 0.0,
        }
    }

    /// So much was left `age` seconds ago, less what the server cannot have counted by then.
    #[inline]
    pub(super) fn steer(&mut self, left: f64, age: f64, refill: f64, limit: f64, now: Moment) {
        if let Some(company) = &mut self.company {
            company.steer(left, age, refill, self.rate, limit, now);
        }
    }

    /// Whether `amount` is within this process's part.
    #[inline]
    pub(super) fn leave(&self, amount: f64, now: Moment) -> bool {
        self.company.is_none() || self.wait_for(amount, now).is_zero()
    }

    /// How long until it is.
    #[cold]
    pub(super) fn wait_for(&self, amount: f64, now: Moment) -> Duration {
        let Some(company) = &self.company else { return Duration::ZERO };
        let missing = company.missing(amount, now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        let wait = Duration::try_from_secs_f64(missing / company.rate).unwrap_or(Duration::MAX);
        wait.saturating_add(company.at.since(now)).saturating_add(Duration::from_nanos(1))
    }

    #[inline]
    pub(super) fn reserve(&mut self, amount: f64, now: Moment) {
        if let Some(company) = &mut self.company {
            company.take(amount, now);
        }
    }

    pub(super) fn refund(&mut self, amount: f64) {
        if let Some(company) = &mut self.company {
            company.free += amount;
        }
    }
}

impl Company {
    fn missing(&self, amount: f64, now: Moment) -> f64 {
        amount - self.free - self.rate * now.seconds_since(self.at)
    }

    #[cold]
    fn steer(&mut self, left: f64, age: f64, refill: f64, taken: f64, limit: f64, now: Moment) {
        let elapsed = now.seconds_since(self.steered).min(LONGEST_STEP);
        self.steered = now;
        self.advance(now);
        self.age += AGE_WEIGHT * (age - self.age);
        self.reserve = (refill * (RESERVE + self.age)).max(LEAST_RESERVE).min(limit * MOST_RESERVE);
        let beyond = left + (refill - taken) * age - self.reserve;
        let excess = beyond / self.reserve;
        let theirs = refill - taken * YIELD;
        let growth = GROWTH * refill * (1.0 + excess.clamp(0.0, 3.0));
        let loss = LOSS * self.part * (-excess).clamp(0.0, 1.0);
        let pull = PULL * (theirs.clamp(refill * LEAST_PART, refill) - self.part);
        self.part = (self.part + elapsed * (growth - loss + pull))
            .clamp(refill * LEAST_PART, theirs.clamp(refill * PART_AMONG_MANY, refill));
        let rate =
            (self.part + beyond / (DESCENT.max(DESCENT_CALLS / refill) * (1.0 + self.age))).max(refill * LEAST_PART);
        self.rate = rate;
        self.free = self.free.min((rate * BURST).max(self.largest));
    }

    #[cold]
    fn take(&mut self, amount: f64, now: Moment) {
        self.largest = self.largest.max(amount);
        self.advance(now);
        self.free -= amount;
    }

    fn advance(&mut self, now: Moment) {
        let free = self.free + self.rate * now.seconds_since(self.at);
        self.free = free.min((self.rate * BURST).max(self.largest));
        self.at = self.at.max(now);
    }
}
