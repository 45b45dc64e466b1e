//! What goes wrong, how often, and the seeded chance that says when.

use std::{ops::RangeInclusive, time::Duration};

/// The share of admitted calls on which each fault falls, from 0 to 1. A call meets one fault at the most.
///
/// The shares add up: with three of 0.1, three calls in ten meet one. What exceeds 1 in all never comes.
/// A fault falls after the call was admitted, so it has used its quota, as a failed call does at OpenAI.
///
/// ```
/// use tower_outbound::mock::Faults;
///
/// let faults = Faults::none().server_error(0.01).dropped(0.005);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    server_error: f64,
    bad_gateway: f64,
    unavailable: f64,
    dropped: f64,
    cut: f64,
    truncated: f64,
    html_429: f64,
}

impl Faults {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything goes wrong, each fault on this share of the calls.
    #[must_use]
    pub fn each(share: f64) -> Self {
        let share = sound(share);
        Self {
            server_error: share,
            bad_gateway: share,
            unavailable: share,
            dropped: share,
            cut: share,
            truncated: share,
            html_429: share,
        }
    }

    /// 500 with OpenAI's JSON body.
    #[must_use]
    pub fn server_error(mut self, share: f64) -> Self {
        self.server_error = sound(share);
        self
    }

    /// 502 with a gateway's HTML page.
    #[must_use]
    pub fn bad_gateway(mut self, share: f64) -> Self {
        self.bad_gateway = sound(share);
        self
    }

    /// 503 with OpenAI's `server_is_overloaded`.
    #[must_use]
    pub fn unavailable(mut self, share: f64) -> Self {
        self.unavailable = sound(share);
        self
    }

    /// The connection is reset before the head of the response.
    #[must_use]
    pub fn dropped(mut self, share: f64) -> Self {
        self.dropped = sound(share);
        self
    }

    /// The connection is reset in the middle of the body.
    #[must_use]
    pub fn cut(mut self, share: f64) -> Self {
        self.cut = sound(share);
        self
    }

    /// The body ends, and the connection with it, before the `Content-Length` that was announced.
    #[must_use]
    pub fn truncated(mut self, share: f64) -> Self {
        self.truncated = sound(share);
        self
    }

    /// Of the 429s, this share has an HTML page for a body. (The other faults fall on admitted calls.)
    #[must_use]
    pub fn html_429(mut self, share: f64) -> Self {
        self.html_429 = sound(share);
        self
    }

    fn draw(&self, chance: f64) -> Option<Fault> {
        let mut sum = 0.0;
        [
            (self.server_error, Fault::ServerError),
            (self.bad_gateway, Fault::BadGateway),
            (self.unavailable, Fault::Unavailable),
            (self.dropped, Fault::Dropped),
            (self.cut, Fault::Cut),
            (self.truncated, Fault::Truncated),
        ]
        .into_iter()
        .find_map(|(share, fault)| {
            sum += share;
            (chance < sum).then_some(fault)
        })
    }
}

fn sound(share: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

/// What went wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// 500.
    ServerError,
    /// 502 with an HTML page.
    BadGateway,
    /// 503.
    Unavailable,
    /// The connection was reset before the head.
    Dropped,
    /// The connection was reset in the body.
    Cut,
    /// The body was shorter than announced.
    Truncated,
}

/// All that chance decides of one call. It depends on the seed and the call's number alone, not on when it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fate {
    pub(crate) up: Duration,
    pub(crate) service: Duration,
    pub(crate) down: Duration,
    pub(crate) fault: Option<Fault>,
    pub(crate) html_429: bool,
    /// From -1 to 1: how far, in shares of the error allowed, the true cost is off the estimate.
    pub(crate) cost_off: f64,
    /// From 0 to 1: how much of the completion's limit was used.
    pub(crate) completion: f64,
    /// Names the request, as in `x-request-id`.
    pub(crate) id: u128,
}

impl Fate {
    pub(crate) fn draw(
        seed: u64,
        number: u64,
        faults: &Faults,
        network: &RangeInclusive<Duration>,
        service: &RangeInclusive<Duration>,
    ) -> Self {
        let mut chance = Chance::new(seed, number);
        Self {
            up: chance.within(network),
            service: chance.within(service),
            down: chance.within(network),
            fault: faults.draw(chance.share()),
            html_429: chance.share() < faults.html_429,
            cost_off: chance.share() * 2.0 - 1.0,
            completion: chance.share(),
            id: u128::from(chance.next()) << 64 | u128::from(chance.next()),
        }
    }
}

/// SplitMix64: small, good enough for chance in tests, and the same on every machine and in every version.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut outer = Self(number);
        Self(seed ^ outer.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In [0, 1), with the 53 bits that an `f64` holds.
    pub(crate) fn share(&mut self) -> f64 {
        const STEPS: f64 = (1_u64 << 53) as f64;
        (self.next() >> 11) as f64 / STEPS
    }

    fn within(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let share = self.share();
        let span = range.end().saturating_sub(*range.start());
        range.start().saturating_add(Duration::try_from_secs_f64(span.as_secs_f64() * share).unwrap_or(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn shares_come_out_as_set() {
        let faults = Faults::none().server_error(0.1).truncated(0.2).html_429(0.5);
        let fates: Vec<_> =
            (0..20_000).map(|n| Fate::draw(7, n, &faults, &(ms(15)..=ms(35)), &(ms(500)..=ms(1500)))).collect();
        let share = |test: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| test(fate)).count() as f64 / 20_000.0;
        assert!((share(&|fate| fate.fault == Some(Fault::ServerError)) - 0.1).abs() < 0.01);
        assert!((share(&|fate| fate.fault == Some(Fault::Truncated)) - 0.2).abs() < 0.01);
        assert!((share(&|fate| fate.fault.is_none()) - 0.7).abs() < 0.01);
        assert!((share(&|fate| fate.html_429) - 0.5).abs() < 0.02);
        assert!(fates.iter().all(|fate| (ms(15)..=ms(35)).contains(&fate.up)));
        let mean = fates.iter().map(|fate| fate.service).sum::<Duration>() / 20_000;
        assert!(mean > ms(990) && mean < ms(1010), "{mean:?}");
    }

    #[test]
    fn unsound_shares_are_made_sound() {
        assert_eq!(Faults::none().dropped(f64::NAN).cut(-3.0).truncated(9.0), Faults::none().truncated(1.0));
        let backwards = RangeInclusive::new(ms(9), ms(3));
        assert_eq!(Fate::draw(1, 1, &Faults::none(), &backwards, &backwards).up, ms(9));
    }
}
