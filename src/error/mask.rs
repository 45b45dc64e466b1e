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

/// Appends the text with every key in it masked: what it begins with stays, so that one can tell which it was.
///
/// `prose`: long runs of letters and digits go as well. Identifiers, which may be such, keep them.
pub(super) fn mask_into(out: &mut String, text: &str, prose: bool) {
    let start = out.len();
    let mut rest = text;
    while let Some(at) = rest.find(is_word) {
        let (between, from) = rest.split_at(at);
        out.push_str(between);
        let (word, after) = from.split_at(from.find(|c| !is_word(c)).unwrap_or(from.len()));
        rest = after;
        if let Some(keep) = key_at(word).or_else(|| (prose && is_long(word)).then_some(0)) {
            out.push_str(word.get(..keep).unwrap_or_default());
            out.push_str(MASK);
            continue;
        }
        out.push_str(word);
        if let Some((gap, value)) = named_value(word, after, out.get(start..).unwrap_or_default()) {
            out.push_str(after.get(..gap).unwrap_or_default());
            out.push_str(MASK);
            rest = after.get(gap + value..).unwrap_or_default();
        }
    }
    out.push_str(rest);
}

/// `*` counts: a key that the server has masked in the middle is still half a key.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*')
}

/// How much of the word stays, if a key begins in it.
fn key_at(word: &str) -> Option<usize> {
    let mut before = b'-';
    word.bytes().enumerate().find_map(|(at, byte)| {
        let begins = !before.is_ascii_alphanumeric()
            && matches!(byte, b's' | b'r' | b'A' | b'y' | b'g' | b'x' | b'p' | b'n' | b'd' | b'h' | b'e');
        before = byte;
        let from = begins.then(|| word.get(at..))??;
        let prefix = PREFIXES.iter().find(|prefix| begins_with(from, prefix))?;
        Some(at + prefix.0.len())
    })
}

fn begins_with(word: &str, (prefix, more): &(&str, usize)) -> bool {
    word.len() >= prefix.len() + more && word.starts_with(prefix)
}

fn is_long(word: &str) -> bool {
    word.len() >= LONG
        && !HARMLESS.iter().any(|id| word.starts_with(id))
        && word.split(['_', '-', '.']).any(|run| {
            run.len() >= LONG && run.bytes().any(|b| b.is_ascii_digit()) && run.bytes().any(|b| b.is_ascii_alphabetic())
        })
}

/// Where the word names a secret: how long the gap behind it is, and the value behind that.
fn named_value(word: &str, after: &str, so_far: &str) -> Option<(usize, usize)> {
    // Most words end here.
    if !after.starts_with([':', '=', ' ', '"', '\'']) {
        return None;
    }
    let gap = after.find(|c| !matches!(c, ':' | '=' | ' ' | '"' | '\'')).unwrap_or(after.len());
    let (between, value) = after.split_at(gap);
    let end = value
        .find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '\'' | ',' | ';' | ')' | '}'))
        .unwrap_or(value.len());
    let value = value.get(..end)?;
    let assigned = gap <= 4 && between.contains([':', '=']);
    let is = |name: &str| word.eq_ignore_ascii_case(name);
    let secret = if is("bearer") || is("basic") {
        between == " " && value.len() >= 8 && !value.bytes().all(|b| b.is_ascii_lowercase() || b == b'.')
    } else if is("key") || is("sig") || is("token") {
        between.starts_with('=') && !value.is_empty()
    } else if is("provided") {
        assigned && so_far.ends_with("key provided") && value.len() >= 8
    } else {
        assigned
            && NAMES.iter().any(|name| is(name))
            && value.len() >= 4
            && !["bearer", "basic"].iter().any(|scheme| value.eq_ignore_ascii_case(scheme))
    };
    // A value that shows what it is keeps its beginning, when its turn comes.
    let by_prefix = value.chars().all(is_word) && PREFIXES.iter().any(|prefix| begins_with(value, prefix));
    (secret && !by_prefix).then_some((gap, value.len()))
}
