//! Takes the key out of what servers and clients say of a call.
//!
//! What looks like a key is masked by [`ApiError`] itself; here it is known.

use std::{error::Error, fmt};

use tower::BoxError;

use super::{ApiKey, placement::encoded};
use crate::{ApiError, error::causes};

const MASK: &str = "***";
/// A shorter one is no secret, and would be found in all sorts of words.
const SHORTEST: usize = 6;

/// Whether the text has the key in it, plain or percent-encoded.
fn shows(text: &str, key: &ApiKey) -> bool {
    let secret = key.expose();
    secret.len() >= SHORTEST && (text.contains(secret) || text.contains(encoded(secret).as_str()))
}

fn masked(text: &str, key: &ApiKey) -> String {
    text.replace(key.expose(), MASK).replace(encoded(key.expose()).as_str(), MASK)
}

/// The same error with the key masked; `None` if it does not show it.
pub(super) fn in_failure(error: &ApiError, key: &ApiKey) -> Option<ApiError> {
    type Set = fn(ApiError, &str) -> ApiError;
    let texts: [(Option<&str>, Set); 5] = [
        (error.message(), ApiError::with_message),
        (error.code(), ApiError::with_code),
        (error.error_type(), ApiError::with_error_type),
        (error.param(), ApiError::with_param),
        (error.request_id(), ApiError::with_request_id),
    ];
    let mut concealed = None;
    for (text, set) in texts {
        if let Some(text) = text.filter(|text| shows(text, key)) {
            concealed = Some(set(concealed.unwrap_or_else(|| error.clone()), &masked(text, key)));
        }
    }
    concealed
}

/// The same error, or, if it shows the key, one that says and means the same without it.
///
/// Clients put the URL into their errors, and a key may be in its query.
pub(super) fn in_error(error: BoxError, key: &ApiKey) -> BoxError {
    let debug = format!("{error:?}");
    if !shows(&debug, key) && !causes(&*error).any(|cause| shows(&cause.to_string(), key)) {
        return error;
    }
    #[cfg(feature = "quota-meter")]
    if let Some(concealed) = in_refusal(&error, key) {
        return concealed;
    }
    let meaning = ApiError::from_error(&*error);
    Box::new(Concealed {
        display: masked(&error.to_string(), key),
        debug: masked(&debug, key),
        meaning: in_failure(&meaning, key).unwrap_or(meaning),
    })
}

/// The meter's refusal because of an answer that shows the key: the same, with the answer's error masked.
#[cfg(feature = "quota-meter")]
fn in_refusal(error: &BoxError, key: &ApiKey) -> Option<BoxError> {
    use crate::{Refused, quota_meter::Refusal};

    let refused: &Refused = error.downcast_ref()?;
    let Some(Refusal::Spent { error, wait }) = refused.cause().downcast_ref() else { return None };
    let spent = Refusal::Spent { error: in_failure(error, key)?, wait: *wait };
    Some(Refused::new(refused.by(), refused.wait(), spent).into())
}

/// An error whose own words, or whose causes', show the key. What it means is its cause.
struct Concealed {
    display: String,
    debug: String,
    meaning: ApiError,
}

impl fmt::Display for Concealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

impl fmt::Debug for Concealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.debug)
    }
}

impl Error for Concealed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.meaning)
    }
}
