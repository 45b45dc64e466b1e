//! Takes out what looks like a key. Servers echo keys, headers and URLs in their errors.

/// What keys begin with, and how many characters more it takes to be one.
const PREFIXES: [(&str, usize); 25] = [
    ("sk-", 6),
    ("sk_live_", 6),
    ("sk_test_", 6),
    ("rk_live_", 6),
    ("rk_test_", 6),
    ("sess-", 12),
    ("AIza", 10),
    ("ya29.", 10),
    ("gsk_", 6),
    ("xai-", 6),
    ("pplx-", 8),
    ("nvapi-", 8),
    ("ghp_", 8),
    ("gho_", 8),
    ("ghu_", 8),
    ("ghs_", 8),
    ("ghr_", 8),
    ("github_pat_", 8),
    ("glpat-", 8),
    ("AKIA", 12),
    ("ASIA", 12),
    ("dapi", 16),
    ("hf_", 12),
    ("r8_", 12),
    ("eyJ", 16),
];

/// Names whose value is a secret, in `name=value`, `name: value` and `"name": "value"`.
const NAMES: [&str; 19] = [
    "key",
    "sig",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "x-api-token",
    "x-auth-token",
    "auth-token",
    "access_token",
    "refresh_token",
    "client_secret",
    "secret",
    "password",
    "authorization",
    "proxy-authorization",
    "signature",
];

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

/// Appends the text with every key in it masked: what it begins with stays, so that one can tell which it was.
///
/// `prose`: long runs of letters and digits go as well. Identifiers, which may be such, keep them.
pub(super) fn mask_into(out: &mut String, text: &str, prose: bool) {
    // Nearly every text is copied in one piece, in the end: `done` is how much of it has been.
    let (mut done, mut start) = (0, 0);
    let mut rest = text.as_bytes();
    loop {
        let length = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        if length > 0 && start >= done {
            if let Some((from, to)) = secret(text, start, start + length, prose) {
                out.push_str(text.get(done..from).unwrap_or_default());
                out.push_str(MASK);
                done = to;
            }
        }
        // What is between two words, one byte at a time.
        let Some(after) = rest.get(length + 1..) else { break };
        (rest, start) = (after, start + length + 1);
    }
    out.push_str(text.get(done..).unwrap_or_default());
}

/// From where to where the text is to be masked, for what the word there is or names.
#[inline]
fn secret(text: &str, start: usize, end: usize, prose: bool) -> Option<(usize, usize)> {
    if end - start >= SHORT {
        let word = text.get(start..end)?;
        if let Some(keep) = key_at(word).or_else(|| (prose && is_long(word)).then_some(0)) {
            return Some((start + keep, end));
        }
    }
    // Most words end here: no sign behind them, or a blank and then another word.
    match text.as_bytes().get(end..)? {
        [b':', b'/', ..] => return None,
        [b':' | b'=' | b'"' | b'\'', ..] | [b' ', b':' | b'=', ..] => {}
        [b' ', ..] if matches!(end - start, 5 | 6) && is_scheme(text.get(start..end)?) => {}
        _ => return None,
    }
    let (gap, value) = named_value(text.get(start..end)?, text.get(end..)?, text.get(..start)?)?;
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
        // The first letters of the prefixes, which a test holds to them.
        let here = begins && matches!(byte, b's' | b'r' | b'A' | b'y' | b'g' | b'x' | b'p' | b'n' | b'd' | b'h' | b'e');
        begins = !byte.is_ascii_alphanumeric();
        let from = here.then(|| word.get(at..))??;
        let prefix = PREFIXES.iter().find(|prefix| begins_with(from, prefix))?;
        Some(at + prefix.0.len())
    })
}

fn begins_with(word: &str, (prefix, more): &(&str, usize)) -> bool {
    word.as_bytes().first() == prefix.as_bytes().first()
        && word.len() >= prefix.len() + more
        && word.starts_with(prefix)
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
    let ends = |c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | ',' | ';' | ')' | '}');
    let value = value.split(ends).next().unwrap_or_default();
    let assigned = gap <= 4 && between.contains([':', '=']);
    let secret = if scheme() {
        between == " " && value.len() >= 8 && !value.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.')
    } else if is("key") || is("sig") || is("token") {
        between.starts_with('=') && !value.is_empty()
    } else if is("provided") {
        assigned && before.ends_with("key ") && value.len() >= 8
    } else {
        assigned && NAMES.iter().any(|name| is(name)) && value.len() >= 4 && !is_scheme(value)
    };
    // A value that shows what it is keeps its beginning, when its turn comes.
    let by_prefix = || value.bytes().all(is_word) && PREFIXES.iter().any(|prefix| begins_with(value, prefix));
    (secret && !by_prefix()).then_some((gap, value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_found() {
        for (prefix, more) in PREFIXES {
            let key = format!("{prefix}{}", "a".repeat(more));
            assert!(key.len() >= SHORT, "{prefix}");
            assert_eq!(key_at(&key), Some(prefix.len()), "{prefix}");
            assert_eq!(key_at(&format!("x-{key}")), Some(prefix.len() + 2), "{prefix}");
        }
    }
}
