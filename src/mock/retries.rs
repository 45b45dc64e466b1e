//! What the kit can ask for decisions without sending anything: [`Retries`].

use http::{Request, Response};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;
use tower::BoxError;

use crate::backoff_retry::{BackoffRetryLayer, Course, Decision, Policy, course::Traits};

/// What can be rehearsed and simulated: every [`Policy`], and a whole [`BackoffRetryLayer`] with its budget and limits.
///
/// No others can implement it.
pub trait Retries: sealed::Sealed {}

impl<P: Policy> Retries for P {}
impl Retries for BackoffRetryLayer {}

mod sealed {
    use rand::RngExt;

    use super::{BackoffRetryLayer, Chance, Client, Policy};

    pub trait Sealed {
        /// A client with this chance; with its own budget `afresh`, or with the one that the layer has.
        #[doc(hidden)]
        fn client(&self, chance: Chance, afresh: bool) -> Client<'_>;
    }

    impl<P: Policy> Sealed for P {
        fn client(&self, chance: Chance, _: bool) -> Client<'_> {
            Client::Policy(self, chance)
        }
    }

    impl Sealed for BackoffRetryLayer {
        fn client(&self, chance: Chance, afresh: bool) -> Client<'_> {
            let layer = if afresh { self.afresh() } else { self.clone() };
            Client::Layer(match chance {
                Chance::AsItHolds if layer.holds_jitter() => layer,
                Chance::AsItHolds => layer.hold_jitter(1.0),
                Chance::Held(random) => layer.hold_jitter(random),
                Chance::Seeded(mut rng) => layer.seed(rng.random()),
            })
        }
    }
}

/// Where the random numbers come from.
#[derive(Clone, Debug)]
pub enum Chance {
    /// Where a layer holds them; else at 1.
    AsItHolds,
    Held(f64),
    Seeded(SmallRng),
}

impl Chance {
    pub(super) fn seeded(seed: u64) -> Self {
        Self::Seeded(SmallRng::seed_from_u64(seed))
    }

    fn draw(&mut self) -> f64 {
        match self {
            Self::AsItHolds => 1.0,
            Self::Held(random) => *random,
            Self::Seeded(rng) => rng.random(),
        }
    }
}

/// One process that makes calls, and decides over their retries.
#[allow(missing_debug_implementations)]
pub enum Client<'a> {
    Policy(&'a dyn Policy, Chance),
    Layer(BackoffRetryLayer),
}

impl Client<'_> {
    /// A call begins, with this request, to which a layer adds what it would add.
    pub(super) fn begin(&self, request: &mut Request<()>, now: Instant) -> Course {
        match self {
            Self::Policy(..) => Course::at(now),
            Self::Layer(layer) => Course::begin_with(layer, request, now),
        }
    }

    /// What follows this outcome; `None` after a success.
    pub(super) fn judge(
        &mut self,
        course: &mut Course,
        request: &Request<()>,
        result: &Result<Response<()>, BoxError>,
        now: Instant,
    ) -> Option<Decision> {
        match self {
            Self::Policy(policy, chance) => course.judge_alone(*policy, chance.draw(), result, now),
            Self::Layer(layer) => {
                let traits = Traits::of(request);
                let decision = course.judge(layer, Some(traits), result, now);
                // Nothing comes between a decision and the sending.
                course.sent();
                decision
            }
        }
    }
}
