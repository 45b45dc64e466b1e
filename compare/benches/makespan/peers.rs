//! Each way to send the batch, set up as its authors would.
//!
//! Beside a simulation of the same server in which these policies were written anew (R: requests a minute, K: workers; time by
//! the least possible, 429s an item, items failed; there the mean of its seeds, here the worst of three):
//!
//! | | there | here | |
//! |---|---|---|---|
//! | SDK, 2 retries, R500 K64 | 266 %, 89 % | 266 %, 89 % | |
//! | the same, R10,000 K512 | 136 %, 40 % | 134 %, 39 % | |
//! | SDK, no cap, R500 K64 | 7.85, 5099 % | 8.88, 5799 % | worst, not mean |
//! | AWS, R60 K64 | 1.52, 65 %, 2.8 % | 1.75, 86 %, 27 % | since then its rate limiter makes a call that has waited ask again: 64 calls wake at once for one place |
//! | AWS, R500 K64 | 1.04, 4.7 %, 0 | 1.04, 5.0 %, 0 | |
//! | AWS, R10,000 K512 | 1.04, 1 %, 0 | 1.08, 1.1 %, 0 | |
//! | cookbook, R60 K64 | 1.00, 0.8 % | 1.01, 0.5 % | |
//! | cookbook, R500 K64 | 1.00, 0.1 % | 1.00, 0.1 % | |
//! | cookbook at half, R500 K64 | 2.11, 0 | 2.11, 0 | |

use compare::{AwsAdaptive, Cookbook, openai_sdk, resilience_limiter, resilience_retry, tower_retry};
use tower::{BoxError, ServiceBuilder};

use crate::scenario::{Figures, Scenario, cost};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// This crate's layers, with nothing configured.
    Ours,
    /// OpenAI's SDK for Python, with so many retries.
    Sdk { max_retries: u32 },
    /// The AWS SDK's runtime in adaptive mode, three attempts.
    Aws,
    /// tower's retry, three attempts.
    Tower,
    /// tower-resilience's retry, three attempts, each of which waits for its rate limiter.
    Resilience,
    /// The OpenAI cookbook's parallel processor, with this share of the limits typed in.
    Cookbook { share: f64 },
}

pub(crate) const PEERS: [(&str, Peer); 8] = [
    ("tower-outbound, limits learned", Peer::Ours),
    ("OpenAI's SDK, 2 retries", Peer::Sdk { max_retries: 2 }),
    ("OpenAI's SDK, no cap on retries", Peer::Sdk { max_retries: u32::MAX }),
    ("AWS SDK, adaptive", Peer::Aws),
    ("tower's retry", Peer::Tower),
    ("tower-resilience, exact limit", Peer::Resilience),
    ("OpenAI cookbook, exact limits", Peer::Cookbook { share: 1.0 }),
    ("OpenAI cookbook, half of them", Peer::Cookbook { share: 0.5 }),
];

impl Peer {
    /// The batch through it. What limits are typed in are those that the server publishes, in each process.
    ///
    /// # Errors
    /// As [`Scenario::run`].
    pub(crate) async fn run(self, scenario: Scenario, seed: u64) -> Result<Figures, BoxError> {
        match self {
            Self::Ours => scenario.run(seed).await,
            Self::Sdk { max_retries } => {
                let client = |api, seed| {
                    ServiceBuilder::new()
                        .layer(openai_sdk(max_retries, seed))
                        .map_err(Into::<BoxError>::into)
                        .service(api)
                };
                scenario.run_with(seed, client).await
            }
            Self::Aws => {
                // Its jitter.
                fastrand::seed(seed);
                scenario.run_with(seed, |api, _| AwsAdaptive::new(api)).await
            }
            Self::Tower => {
                let client = |api, seed| {
                    ServiceBuilder::new().layer(tower_retry(seed)).map_err(Into::<BoxError>::into).service(api)
                };
                scenario.run_with(seed, client).await
            }
            Self::Resilience => {
                let limiter = resilience_limiter(usize::try_from(scenario.requests)?)?;
                let client = |api, _| {
                    ServiceBuilder::new()
                        .layer(resilience_retry())
                        .map_err(Into::<BoxError>::into)
                        .layer(limiter.clone())
                        .service(api)
                };
                scenario.run_with(seed, client).await
            }
            Self::Cookbook { share } => {
                let limits = [scenario.requests, scenario.tokens].map(|limit| limit as f64 * share);
                let cost = f64::from(cost()?.0);
                scenario.run_with(seed, |api, _| Cookbook::new(api, limits[0], limits[1], cost)).await
            }
        }
    }
}
