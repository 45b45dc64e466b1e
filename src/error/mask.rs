//! Takes out what looks like a key. Servers echo keys, headers and URLs in their errors.

/// What keys begin with, by their first letter, and how many characters more it takes to be one.
const fn prefixes(first: u8) -> &'static [(&'static str, usize)] {
    match first {
        b's' => &[("sk-", 6), ("sk_live_", 6), ("sk_test_", 6), ("sess-", 12)],
        b'r' => &[("rk_live_", 6), ("rk_test_", 6), ("r8_", 12)],
        b'A' => &[("AIza", 10), ("AKIA", 12), ("ASIA", 12)],
        b'g' => &[
            ("gsk_", 6),
            ("ghp_", 8),
            ("gho_", 8),
            ("ghu_", 8),
            ("ghs_", 8),
            ("ghr_", 8),
            ("github_pat_", 8),
            ("glpat-", 8),
        ],
        b'd' => &[("dapi", 16)],
        b'e' => &[("eyJ", 16)],
        b'h' => &[("hf_", 12)],
        b'n' => &[("nvapi-", 8)],
        b'p' => &[("pplx-", 8)],
        b'x' => &[("xai-", 6)],
        b'y' => &[("ya29.", 10)],
        _ => &[],
    }
}

/// Names whose value is a secret, in `name=value`, `name: value` and `"name": "value"`.
const NAMES: [&str; 10] = [
    "key",
    "sig",
    "token",
    "api_key",
    "access_token",
    "refresh_token",
    "client_secret",
    "secret",
    "password",
    "signature",
];

/// Headers whose value is a secret.
const HEADERS: [&str; 15] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "apikey",
    "x-goog-api-key",
    "x-api-token",
    "x-auth-token",
    "auth-token",
    "x-access-token",
    "x-session-token",
    "x-csrf-token",
    "x-xsrf-token",
    "cookie",
    "set-cookie",
];

/// Whether a request's header may say who asks: with another value, another may get what is not this one's.
#[cfg(feature = "fallback")]
pub(crate) fn tells_callers_apart(header: &str) -> bool {
    const ENDS: [&str; 9] =
        ["-token", "-key", "-secret", "-auth", "-session", "-signature", "-organization", "-project", "-tenant"];
    // By which servers tell requests apart, and not callers.
    const NOT: [&str; 2] = ["idempotency-key", "x-idempotency-key"];
    HEADERS.contains(&header) || (ENDS.iter().any(|end| header.ends_with(end)) && !NOT.contains(&header))
}

/// Long identifiers that are no secret, and that support will ask for.
const HARMLESS: [&str; 14] = [
    "req_",
    "req-",
    "org-",
    "org_",
    "proj_",
    "resp_",
    "run_",
    "asst_",
    "thread_",
    "batch_",
    "file-",
    "msg_",
    "call_",
    "chatcmpl-",
];

const MASK: &str = "***";

/// The length from which a run of letters and digits mixed is taken for a key with no prefix (Azure, Cohere, Mistral).
const LONG: usize = 32;

/// The least that a word can be and still have a key in it.
const SHORT: usize = 9;

/// Whether a URL has something in it that looks like a key.
#[cfg(feature = "reqwest")]
pub(crate) fn shows_key(url: &str) -> bool {
    let mut masked = String::with_capacity(url.len());
    mask_into(&mut masked, url, false);
    masked != url
}

/// Appends the text with every key in it masked: what it begins with stays, so that one can tell which it was.
///
/// `prose`: long runs of letters and digits go as well. Identifiers, which may be such, keep them.
pub(super) fn mask_into(out: &mut String, text: &str, prose: bool) {
    // Nearly every text is copied in one piece, in the end: `done` is how much of it has been.
    let (mut done, mut start) = (0, 0);
    let mut rest = text.as_bytes();
    loop {
        let length = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        // Most words end here: too short for a key, and no sign behind them that they name one.
        let named = match rest.get(length..) {
            Some([b':' | b'=' | b'"' | b'\'', ..] | [b' ', b':' | b'=', ..]) => true,
            Some([b' ', ..]) => matches!(length, 5 | 6),
            _ => false,
        };
        if (named || length >= SHORT)
            && start >= done
            && let Some((from, to)) = secret(text, start, start + length, named, prose)
        {
            out.push_str(text.get(done..from).unwrap_or_default());
            out.push_str(MASK);
            done = to;
        }
        // What is between two words, one byte at a time.
        let Some(after) = rest.get(length + 1..) else { break };
        (rest, start) = (after, start + length + 1);
    }
    out.push_str(text.get(done..).unwrap_or_default());
}

/// From where to where the text is to be masked, for what the word there is or names.
#[inline(never)]
fn secret(text: &str, start: usize, end: usize, named: bool, prose: bool) -> Option<(usize, usize)> {
    let word = text.get(start..end)?;
    if let Some(keep) = key_at(word).or_else(|| (prose && is_long(word)).then_some(0)) {
        return Some((start + keep, end));
    }
    let after = text.get(end..)?;
    let other = after.starts_with("://")
        || matches!(after.as_bytes(), [b' ', next, ..] if !matches!(next, b':' | b'=')) && !is_scheme(word);
    if !named || other {
        return None;
    }
    let (gap, value) = named_value(word, after, text.get(..start)?)?;
    Some((end + gap, end + gap + value))
}

/// `*` counts: a key that the server has masked in the middle is still half a key.
const fn is_word(byte: u8) -> bool {
    const WORD: [bool; 256] = {
        let mut word = [false; 256];
        let mut byte = 0;
        while byte < 128 {
            word[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'_' | b'-' | b'.' | b'*');
            byte += 1;
        }
        word
    };
    WORD[byte as usize]
}

/// How much of the word stays, if a key begins in it.
fn key_at(word: &str) -> Option<usize> {
    let last = word.len().checked_sub(SHORT)?;
    let mut begins = true;
    word.bytes().take(last + 1).enumerate().find_map(|(at, byte)| {
        let here = begins && !prefixes(byte).is_empty();
        begins = !byte.is_ascii_alphanumeric();
        Some(at + prefix(here.then(|| word.get(at..))??)?)
    })
}

/// How long the prefix of a key is that the word begins with.
fn prefix(word: &str) -> Option<usize> {
    let known = prefixes(*word.as_bytes().first()?);
    let found = known.iter().find(|(prefix, more)| word.len() >= prefix.len() + more && word.starts_with(prefix))?;
    Some(found.0.len())
}

fn is_long(word: &str) -> bool {
    word.len() >= LONG
        && !HARMLESS.iter().any(|id| word.starts_with(id))
        && word.split(['_', '-', '.']).any(|run| {
            run.len() >= LONG && run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic())
        })
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Where the word names a secret: how long the gap behind it is, and the value behind that.
fn named_value(word: &str, after: &str, before: &str) -> Option<(usize, usize)> {
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    let scheme = || is_scheme(word);
    let gap = after.find(|c| !matches!(c, ':' | '=' | ' ' | '"' | '\'')).unwrap_or(after.len());
    let (between, value) = after.split_at_checked(gap)?;
    // Of cookies there are several on a line, each with a name of its own.
    let is_cookie = is("cookie") || is("set-cookie");
    let ends = |c: char| match c {
        '"' | '\n' | '\r' => true,
        _ => !is_cookie && (c.is_whitespace() || matches!(c, '&' | '\'' | ',' | ';' | ')' | '}')),
    };
    let value = value.split(ends).next().unwrap_or_default();
    let assigned = gap <= 4 && between.contains([':', '=']);
    let secret = if scheme() {
        between == " " && value.len() >= 8 && !value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.')
    } else if is("key") || is("sig") || is("token") {
        between.starts_with('=') && !value.is_empty()
    } else if is("provided") {
        assigned && before.ends_with("key ") && value.len() >= 8
    } else {
        assigned && NAMES.iter().chain(&HEADERS).any(|name| is(name)) && value.len() >= 4 && !is_scheme(value)
    };
    // A value that shows what it is keeps its beginning, when its turn comes.
    let by_prefix = || value.bytes().all(is_word) && prefix(value).is_some();
    (secret && !by_prefix()).then_some((gap, value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_found() {
        assert_eq!((0..=255).flat_map(prefixes).count(), 25);
        for (prefix, more) in (0..=255).flat_map(prefixes) {
            let key = format!("{prefix}{}", "a".repeat(*more));
            assert!(key.len() >= SHORT, "{prefix}");
            assert_eq!(key_at(&key), Some(prefix.len()), "{prefix}");
            assert_eq!(key_at(&format!("x-{key}")), Some(prefix.len() + 2), "{prefix}");
        }
    }
}
