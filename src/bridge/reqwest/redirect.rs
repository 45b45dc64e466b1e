//! Redirects that take no key elsewhere.

use reqwest::redirect::Policy;

/// As reqwest's default.
const MAX_REDIRECTS: usize = 10;

/// Follows up to 10 redirects within one origin (scheme, host and port). One that leads elsewhere is not followed: its
/// response is the answer. So no header with a key, whatever its name, reaches another host.
#[must_use]
pub fn same_origin() -> Policy {
    Policy::custom(|attempt| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        let from_here = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
        if from_here { attempt.follow() } else { attempt.stop() }
    })
}
