//! Takes the key out of what servers and clients say of a call.
//!
//! What looks like a key is masked by [`ApiError`] itself; here it is known.

use std::{error::Error, fmt, ops::Range};

use tower::BoxError;
use zeroize::Zeroizing;

use super::ApiKey;
use crate::{ApiError, error::causes};

const MASK: &str = "***";
/// A shorter one is no secret, and would be found in all sorts of words.
const SHORTEST: usize = 6;

/// What a key looks like in a text: as it is, with any of its characters percent-encoded or escaped, or in base64.
struct Traces<'a> {
    secret: &'a [u8],
    /// Of whole groups of three bytes: how it ends hangs on what follows it.
    base64: Zeroizing<Vec<u8>>,
}

impl<'a> Traces<'a> {
    fn of(key: &'a ApiKey) -> Option<Self> {
        let secret = key.expose().as_bytes();
        (secret.len() >= SHORTEST).then(|| Self { secret, base64: base64(secret) })
    }

    /// The first place at or behind `from`.
    fn find(&self, text: &[u8], from: usize) -> Option<Range<usize>> {
        (from..text.len()).find_map(|start| {
            let rest = text.get(start..)?;
            let length = self.spelled(rest).or_else(|| self.in_base64(rest)).or_else(|| self.cut_off(rest))?;
            Some(start..start + length)
        })
    }

    fn spelled(&self, text: &[u8]) -> Option<usize> {
        if text.starts_with(self.secret) {
            return Some(self.secret.len());
        }
        self.secret.iter().try_fold(0, |length, byte| Some(length + one(text.get(length..)?, *byte)?))
    }

    fn in_base64(&self, text: &[u8]) -> Option<usize> {
        let head = text.get(..self.base64.len())?;
        // Both alphabets.
        let plain = |byte: u8| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        };
        if !head.iter().zip(self.base64.iter()).all(|(found, wanted)| plain(*found) == *wanted) {
            return None;
        }
        let rest = text.get(head.len()..).unwrap_or_default().iter();
        let is_more = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
        let more = if self.secret.len().is_multiple_of(3) { 0 } else { 4 };
        Some(head.len() + rest.take(more).take_while(is_more).count())
    }

    /// A text may end in the middle of it.
    fn cut_off(&self, text: &[u8]) -> Option<usize> {
        (text.len() >= SHORTEST && self.secret.starts_with(text)).then_some(text.len())
    }
}

/// How many bytes of the text stand for this one.
fn one(text: &[u8], byte: u8) -> Option<usize> {
    match text {
        [b'%', high, low, ..] if hex(*high).zip(hex(*low)).is_some_and(|(high, low)| high << 4 | low == byte) => {
            Some(3)
        }
        [b'\\', next, ..] if *next == byte => Some(2),
        [next, ..] if *next == byte => Some(1),
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn base64(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() / 3 * 4));
    for group in bytes.chunks_exact(3) {
        let bits = group.iter().fold(0, |bits: u32, byte| bits << 8 | u32::from(*byte));
        out.extend([18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize]));
    }
    out
}

fn shows(text: &str, keys: &[ApiKey]) -> bool {
    keys.iter().filter_map(Traces::of).any(|traces| traces.find(text.as_bytes(), 0).is_some())
}

/// The text with the keys masked; `None` if it shows none.
pub(super) fn in_text(text: &str, keys: &[ApiKey]) -> Option<String> {
    let mut masked = None;
    for traces in keys.iter().filter_map(Traces::of) {
        let text = masked.as_deref().unwrap_or(text);
        let (mut out, mut done) = (String::new(), 0);
        while let Some(found) = traces.find(text.as_bytes(), done) {
            // What is found is ASCII, so that both ends are between characters.
            out.push_str(text.get(done..found.start).unwrap_or_default());
            out.push_str(MASK);
            done = found.end;
        }
        if done > 0 {
            out.push_str(text.get(done..).unwrap_or_default());
            masked = Some(out);
        }
    }
    masked
}

/// Whether an error or one of its causes shows a key, in its words or as a debugger sees it.
fn is_shown_by(error: &(dyn Error + 'static), keys: &[ApiKey]) -> bool {
    causes(error).any(|cause| shows(&cause.to_string(), keys) || shows(&format!("{cause:?}"), keys))
}

/// The same error with the keys masked; `None` if it does not show them.
pub(super) fn in_failure(error: &ApiError, keys: &[ApiKey]) -> Option<ApiError> {
    type Set = fn(ApiError, &str) -> ApiError;
    let texts: [(Option<&str>, Set); 5] = [
        (error.message(), ApiError::with_message),
        (error.code(), ApiError::with_code),
        (error.error_type(), ApiError::with_error_type),
        (error.param(), ApiError::with_param),
        (error.request_id(), ApiError::with_request_id),
    ];
    let mut concealed = None;
    if error.source().is_some_and(|source| is_shown_by(source, keys)) {
        concealed = Some(error.clone().without_source());
    }
    for (text, set) in texts {
        if let Some(text) = text.and_then(|text| in_text(text, keys)) {
            concealed = Some(set(concealed.unwrap_or_else(|| error.clone()), &text));
        }
    }
    concealed
}

/// Masks the key in what a stream tells of its failures, now and as it passes.
#[cfg(feature = "error-classify")]
#[inline]
pub(super) fn in_stream(extensions: &http::Extensions, key: &std::sync::Arc<(ApiKey, super::placement::Credential)>) {
    if let Some(errors) = extensions.get::<crate::error_classify::StreamErrors>() {
        conceal_in(errors, std::sync::Arc::clone(key));
    }
}

#[cfg(feature = "error-classify")]
#[inline(never)]
fn conceal_in(
    errors: &crate::error_classify::StreamErrors,
    key: std::sync::Arc<(ApiKey, super::placement::Credential)>,
) {
    errors.conceal(move |error| in_failure(error, std::slice::from_ref(&key.0)));
}

/// The same error, or, if it shows a key, one that says and means the same without it.
///
/// Clients put the URL into their errors, and a key may be in its query.
pub(super) fn in_error(error: BoxError, keys: &[ApiKey]) -> BoxError {
    if !is_shown_by(&*error, keys) {
        return error;
    }
    #[cfg(feature = "quota-meter")]
    if let Some(concealed) = in_refusal(&error, keys) {
        return concealed;
    }
    let masked = |text: String| in_text(&text, keys).unwrap_or(text);
    let meaning = ApiError::from_error(&*error);
    Box::new(Concealed {
        display: masked(error.to_string()),
        debug: masked(format!("{error:?}")),
        // An error that was known already has its own causes with it.
        meaning: in_failure(&meaning, keys).unwrap_or(meaning),
    })
}

/// The meter's refusal because of an answer that shows the key: the same, with the answer's error masked.
#[cfg(feature = "quota-meter")]
fn in_refusal(error: &BoxError, keys: &[ApiKey]) -> Option<BoxError> {
    use crate::{Refused, quota_meter::Refusal};

    let refused: &Refused = error.downcast_ref()?;
    let Some(Refusal::Spent { error, wait }) = refused.cause().downcast_ref() else { return None };
    let spent = Refusal::Spent { error: in_failure(error, keys)?, wait: *wait };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_masked_and_nothing_else() {
        let keys = [ApiKey::new("se$ame+/%41!x").expect("a sound key")];
        for spelled in [
            "se$ame+/%41!x",
            "se%24ame%2B%2F%2541%21x",
            "se%24ame%2b%2f%2541%21x",
            "%73%65%24%61%6d%65%2b%2f%25%34%31%21%78",
            "se$ame+\\/%41!x",
            "c2UkYW1lKy8lNDEheA==",
            "c2UkYW1lKy8lNDEheA",
            "c2UkYW1lKy8lNDEheAo=",
        ] {
            let text = in_text(&format!("é {spelled} é"), &keys);
            assert_eq!(text.as_deref(), Some("é *** é"), "{spelled}");
        }
        let of_two = in_text("se$ame+/%41!x,se$ame+/%41!x se$ame+", &keys);
        assert_eq!(of_two.as_deref(), Some("***,*** ***"));
        for other in ["se$ame", "se$ame+/%42!x", "", "%", "c2UkYW1l", "\\", "é%2é"] {
            let text = format!("{other} and more");
            assert_eq!(in_text(&text, &keys), None, "{other}");
        }
        assert_eq!(in_text("abcde", &[ApiKey::new("abcde").expect("a sound key")]), None);
    }

    #[test]
    fn the_other_alphabet_of_base64_is_known_too() {
        let keys = [ApiKey::new("??>>?~~?>~").expect("a sound key")];
        for spelled in ["Pz8+Pj9+fj8+fg==", "Pz8-Pj9-fj8-fg"] {
            assert_eq!(in_text(spelled, &keys).as_deref(), Some("***"), "{spelled}");
        }
    }
}
