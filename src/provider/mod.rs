//! How one API spells its errors: the trait [`Provider`], and one for each API we know.
//!
//! All share one reading of bodies, one set of rules and one engine for hints. A provider says only where it differs,
//! mostly as data: [`Code`]s, [`Phrase`]s, [`StatusRule`]s. The rules are asked in this order, and the first that knows decides:
//!
//! 1. the provider's own [`judge`](Provider::judge);
//! 2. exact identifiers of quota, policy, context and authentication, wherever the body has them;
//! 3. status 402;
//! 4. a few messages, by how they *begin*. Never by what they contain alone: messages echo what was sent;
//! 5. identifiers of overload;
//! 6. status 429, and identifiers of rate limits;
//! 7. the status, made more exact by the remaining identifiers where it is as vague as 400;
//! 8. `x-should-retry` and `stripe-should-retry`, which overrule whether it may succeed later, not what it is.
//!
//! # One's own API
//!
//! ```
//! use tower_outbound::{ErrorKind, provider::{Code, Failure, Provider, Verdict}};
//!
//! /// Answers `{"fault": …, "code": "E_FUNDS"}`, and 420 when it is too much.
//! #[derive(Debug)]
//! struct Acme;
//!
//! impl Provider for Acme {
//!     fn name(&self) -> &str {
//!         "acme"
//!     }
//!     fn hosts(&self) -> &[&str] {
//!         &["api.acme.test", "*.eu.acme.test"]
//!     }
//!     fn codes(&self) -> &[Code] {
//!         const { &[Code::new("E_FUNDS", ErrorKind::QuotaExhausted), Code::new("E_BUSY", ErrorKind::Overloaded)] }
//!     }
//!     fn judge(&self, failure: &Failure<'_>) -> Option<Verdict> {
//!         (failure.status() == 420).then(|| Verdict::new(ErrorKind::RateLimit))
//!     }
//! }
//! ```

mod apis;
#[cfg_attr(not(feature = "error-classify"), allow(dead_code, reason = "only ErrorClassify reads bodies"))]
mod facts;
mod failure;
mod grpc;
#[cfg_attr(not(feature = "error-classify"), allow(dead_code, reason = "only ErrorClassify reads bodies"))]
mod judge;
mod rules;
mod set;
mod tables;

use std::fmt;

pub use apis::{
    Anthropic, Aws, Azure, Cohere, DeepSeek, Gemini, Generic, GitHub, Groq, Mistral, OpenAi, OpenRouter, Stripe,
    Together, XAi, by_name,
};
pub use failure::{Failure, Verdict};
pub use grpc::Grpc;
#[cfg(feature = "error-classify")]
pub(crate) use grpc::head_fails as grpc_head_fails;
pub(crate) use judge::judge_head;
#[cfg(feature = "error-classify")]
pub(crate) use judge::{Reply, Success, judge, judge_event, judge_success};
pub use rules::{Code, Phrase, StatusRule};
#[cfg(feature = "error-classify")]
pub(crate) use set::Choice;
pub use set::{IntoProvider, Providers};

/// How one API spells its errors. See the [module](self) for an example and the order of the rules.
///
/// Every method has a default, which is what [`Generic`] does; more may come with the same promise.
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// The name, as in settings and metrics.
    fn name(&self) -> &str;

    /// The hosts it answers on, for [`Providers::by_host`]. One that begins with `*` is any host that ends with the rest.
    fn hosts(&self) -> &[&str] {
        &[]
    }

    /// Its own identifiers, asked before those that all share.
    fn codes(&self) -> &[Code] {
        &[]
    }

    /// How its messages begin that tell more than its identifiers, asked before those that all share.
    fn phrases(&self) -> &[Phrase] {
        &[]
    }

    /// Statuses that mean something else here than elsewhere.
    fn statuses(&self) -> &[StatusRule] {
        &[]
    }

    /// The first word on a failure, for what data cannot say. `None` leaves it to the rules.
    ///
    /// It is called for every failure, so it had better be quick, and it must not panic whatever the server sent.
    fn judge(&self, failure: &Failure<'_>) -> Option<Verdict> {
        let _ = failure;
        None
    }
}
