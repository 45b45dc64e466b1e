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

/// No key is shorter.
const SHORTEST: usize = {
    let mut shortest = usize::MAX;
    let mut at = 0;
    while at < PREFIXES.len() {
        let (prefix, more) = PREFIXES[at];
        if prefix.len() + more < shortest {
            shortest = prefix.len() + more;
        }
        at += 1;
    }
    shortest
};

/// The bytes that keys begin with.
const FIRST: [bool; 256] = {
    let mut first = [false; 256];
    let mut at = 0;
    while at < PREFIXES.len() {
        first[PREFIXES[at].0.as_bytes()[0] as usize] = true;
        at += 1;
    }
    first
};

const MASK: &str = "***";

/// The length from which a run of letters and digits mixed is taken for a key with no prefix (Azure, Cohere, Mistral).
const LONG: usize = 32;

/// Appends the text with every key in it masked: what it begins with stays, so that one can tell which it was.
///
/// `prose`: long runs of letters and digits go as well. Identifiers, which may be such, keep them.
pub(super) fn mask_into(out: &mut String, text: &str, prose: bool) {
    let piece = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let bytes = text.as_bytes();
    // What lies between is copied at once, so that a text without a key is one copy.
    let (mut copied, mut at) = (0, 0);
    // By bytes: a word is ASCII, so it begins and ends where characters do.
    while let Some(start) = find(bytes, at, is_word) {
        let end = find(bytes, start, |byte| !is_word(byte)).unwrap_or(bytes.len());
        let word = &bytes[start..end];
        at = end;
        if let Some(keep) = key_at(word).or_else(|| (prose && is_long(piece(start, end))).then_some(0)) {
            out.push_str(piece(copied, start + keep));
            out.push_str(MASK);
            copied = end;
        } else if let Some((gap, value)) = named_value(word, text, end) {
            out.push_str(piece(copied, end + gap));
            out.push_str(MASK);
            at = end + gap + value;
            copied = at;
        }
    }
    out.push_str(piece(copied, text.len()));
}

/// The first such byte at `from` or behind it.
fn find(bytes: &[u8], from: usize, is: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.get(from..)?.iter().position(|byte| is(*byte)).map(|at| from + at)
}

/// `*` counts: a key that the server has masked in the middle is still half a key.
fn is_word(byte: u8) -> bool {
    const WORD: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte: u8 = 0;
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'*');
            byte += 1;
        }
        table
    };
    WORD[usize::from(byte)]
}

/// How much of the word stays, if a key begins in it.
fn key_at(word: &[u8]) -> Option<usize> {
    // Most words end here.
    if word.len() < SHORTEST {
        return None;
    }
    let mut before = b'-';
    word.iter().enumerate().find_map(|(at, byte)| {
        let begins = FIRST[usize::from(*byte)] && !before.is_ascii_alphanumeric();
        before = *byte;
        let from = begins.then(|| word.get(at..))??;
        let prefix = PREFIXES.iter().find(|prefix| begins_with(from, prefix))?;
        Some(at + prefix.0.len())
    })
}

fn begins_with(word: &[u8], (prefix, more): &(&str, usize)) -> bool {
    word.first() == prefix.as_bytes().first()
        && word.len() >= prefix.len() + more
        && word.starts_with(prefix.as_bytes())
}

fn is_long(word: &str) -> bool {
    word.len() >= LONG
        && !HARMLESS.iter().any(|id| word.starts_with(id))
        && word.split(['_', '-', '.']).any(|run| {
            run.len() >= LONG && run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic())
        })
}

/// Where the word, which ends at `end`, names a secret: how long the gap behind it is, and the value behind that.
fn named_value(word: &[u8], text: &str, end: usize) -> Option<(usize, usize)> {
    let is_gap = |byte| matches!(byte, b':' | b'=' | b' ' | b'"' | b'\'');
    let bytes = text.as_bytes();
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    // Nearly all words of a sentence end here: behind them is a blank, and then the next.
    match bytes.get(end..).unwrap_or_default() {
        [] => return None,
        [b' ', next, ..] if !is_gap(*next) && !is("bearer") && !is("basic") => return None,
        [next, ..] if !is_gap(*next) => return None,
        _ => {}
    }
    let start = find(bytes, end, |byte| !is_gap(byte)).unwrap_or(bytes.len());
    let between = &bytes[end..start];
    let assigns = between.iter().any(|byte| matches!(byte, b':' | b'='));
    if !assigns && !is("bearer") && !is("basic") {
        return None;
    }
    let value = text.get(start..)?;
    let length = value
        .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | ',' | ';' | ')' | '}'))
        .unwrap_or(value.len());
    let value = value.get(..length)?;
    let gap = between.len();
    let assigned = gap <= 4 && assigns;
    let secret = if is("bearer") || is("basic") {
        between == b" " && value.len() >= 8 && !value.bytes().all(|b| b.is_ascii_lowercase() || b == b'.')
    } else if is("key") || is("sig") || is("token") {
        between.starts_with(b"=") && !value.is_empty()
    } else if is("provided") {
        assigned && bytes[..end].ends_with(b"key provided") && value.len() >= 8
    } else {
        assigned
            && NAMES.iter().any(|name| is(name))
            && value.len() >= 4
            && !["bearer", "basic"].iter().any(|scheme| value.eq_ignore_ascii_case(scheme))
    };
    // A value that shows what it is keeps its beginning, when its turn comes.
    let by_prefix = || value.bytes().all(is_word) && PREFIXES.iter().any(|key| begins_with(value.as_bytes(), key));
    (secret && !by_prefix()).then_some((gap, value.len()))
}
