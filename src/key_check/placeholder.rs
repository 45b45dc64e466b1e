//! What manuals, templates and scripts write where a key goes.

/// What keys begin with, and so do their examples; each may follow on another.
const PREFIXES: [&str; 20] = [
    "sk-", "sk_", "pk_", "proj-", "svcacct-", "admin-", "none-", "ant-", "api03-", "or-", "v1-", "sess-", "gsk_",
    "xai-", "ghp_", "test-", "test_", "live_", "aiza", "sk",
];
/// Whole, without separators.
const WHOLE: [&str; 6] = ["apikey", "changeme", "changethis", "replaceme", "replacethis", "insertme"];
/// What is to be filled in.
const NOUNS: [&str; 3] = ["key", "token", "secret"];
/// What stands before `api_key`.
const BEFORE_API_KEY: [&str; 13] = [
    "my",
    "the",
    "insert",
    "paste",
    "enter",
    "put",
    "add",
    "replace",
    "openai",
    "anthropic",
    "azure",
    "gemini",
    "google",
];
/// The longest before `your`: a prefix, or "please replace with".
const MAX_BEFORE: usize = 24;

/// Whether this is no key but stands for one. It has no white space around it.
pub(super) fn is_one(key: &str) -> bool {
    let key = &*zeroize::Zeroizing::new(key.to_ascii_lowercase());
    is_bracketed(key) || is_filler(key) || is_variable(key) || is_in_words(key)
}

fn is_bracketed(key: &str) -> bool {
    let is_in = |open: char, close: char| key.starts_with(open) && key.ends_with(close);
    is_in('<', '>') || is_in('{', '}') || is_in('[', ']') || key.starts_with("${") || key.starts_with("$(")
}

/// `$NAME` and `%NAME%`, which nobody has filled in, with a noun at the end as in the name of a variable for a key.
fn is_variable(key: &str) -> bool {
    let name = key.strip_prefix('$').or_else(|| key.strip_prefix('%')?.strip_suffix('%'));
    name.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') && ends_in_noun(name))
}

/// `xxxx`, `sk-...`, `sk-proj-xxxx-xxxx`.
fn is_filler(key: &str) -> bool {
    let rest = without_prefixes(key);
    let is_filling = |c: char| matches!(c, '.' | '*' | 'x');
    rest.chars().all(|c| is_filling(c) || matches!(c, '-' | '_'))
        && rest.chars().filter(|c| is_filling(*c)).count() >= 3
}

/// `your_openai_api_key_here`, `sk-YOUR-KEY`, `insert-key-here`, `my-api-key`, `CHANGE_ME`.
fn is_in_words(key: &str) -> bool {
    let is_separator = |c: char| !c.is_ascii_alphanumeric();
    let text = without_prefixes(key).trim_matches(is_separator);
    let before_here = text.strip_suffix("here").map(|text| text.trim_end_matches(is_separator));
    let before_here = before_here.map(|text| text.strip_suffix("goes").unwrap_or(text));
    let words: Vec<&str> = before_here.unwrap_or(text).split(is_separator).filter(|word| !word.is_empty()).collect();
    if WHOLE.iter().any(|whole| words.iter().flat_map(|word| word.chars()).eq(whole.chars())) {
        return true;
    }
    let your = words.iter().position(|word| word.starts_with("your"));
    if your.is_some_and(|at| is_your_key(words.split_at(at))) {
        return true;
    }
    let is_of_letters = words.iter().all(|word| is_of_letters(word));
    match *words {
        [.., last] if is_of_letters && before_here.is_some() => ends_in_noun(last),
        [only] if is_of_letters => only.strip_suffix("apikey").is_some_and(|before| BEFORE_API_KEY.contains(&before)),
        [first, .., last] if is_of_letters && BEFORE_API_KEY.contains(&first) => {
            last == "apikey" || words.ends_with(&["api", "key"])
        }
        _ => false,
    }
}

/// `your`, some words, and `key`, together or apart.
fn is_your_key((before, words): (&[&str], &[&str])) -> bool {
    let is_yours = match *words {
        [only] => ends_in_noun(only),
        ["your", .., last] => ends_in_noun(last),
        _ => false,
    };
    let length: usize = before.iter().map(|word| word.len()).sum();
    is_yours && length <= MAX_BEFORE && words.iter().all(|word| is_of_letters(word))
}

fn is_of_letters(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphabetic())
}

fn ends_in_noun(text: &str) -> bool {
    NOUNS.iter().any(|noun| text.ends_with(noun))
}

fn without_prefixes(key: &str) -> &str {
    let mut rest = key;
    while let Some(stripped) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = stripped;
    }
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_manuals_write_is_no_key() {
        for key in [
            "your_openai_api_key_here",
            "sk-your-openai-api-key",
            "REPLACE_ME",
            "[YOUR_KEY]",
            "insert-your-key-here",
            "paste-your-key-here",
            "sk-proj-xxxx-xxxx",
            "<your key>",
            "{{ api_key }}",
            "${OPENAI_API_KEY}",
            "$(cat key)",
            "$OPENAI_API_KEY",
            "%OPENAI_API_KEY%",
            "sk-...",
            "sk-xxxxxxxx",
            "xxxx-xxxx-xxxx",
            "sk-****************",
            "AIzaXXXXXXXXXXXX",
            "sk-ant-api03-xxxxx",
            "YOUR_API_KEY",
            "YourApiKey",
            "yourapikeyhere",
            "your key",
            "your-token",
            "your_github_token_here",
            "your-secret-key",
            "sk-YOURKEY",
            "skyourkey",
            "sk-your-key-here",
            "sk-ant-your-anthropic-api-key",
            "sk-or-v1-your-key-here",
            "gsk_your_key",
            "AIza-your-key",
            "replace-with-your-api-key",
            "please_replace_me_with_your_key",
            "your-key-goes-here",
            "key-here",
            "sk-key-here",
            "openai-api-key-here",
            "apikey",
            "API_KEY",
            "my-api-key",
            "OPENAI_API_KEY",
            "enter_your_api_key",
            "insert-api-key",
            "changeme",
            "CHANGE_ME",
            "sk-replace-me",
        ] {
            assert!(is_one(key), "{key}");
        }
    }

    /// Servers that are compatible with OpenAI's take any text, and people think up some.
    #[test]
    fn what_people_think_up_is_a_key() {
        for key in [
            "EMPTY",
            "test",
            "x",
            "xx",
            "-",
            "ollama",
            "lm-studio",
            "not-needed",
            "sk-1234",
            "sk-test-0123456789",
            "my-secret-key",
            "yourcompany-prod-key",
            "sk-team-key",
            "hereford",
            "keyhere9",
            "your",
            "your-cat",
            "$pa55word",
            "a.b.c",
        ] {
            assert!(!is_one(key), "{key}");
        }
    }

    /// As each provider makes them.
    fn shape() -> impl Strategy<Value = String> {
        prop_oneof![
            "sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}",
            "sk-(proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,74}T3BlbkFJ[A-Za-z0-9_-]{20,74}",
            "sess-[A-Za-z0-9]{40}",
            "sk-ant-(api03|oat01)-[A-Za-z0-9_-]{93}AA",
            "sk-or-v1-[0-9a-f]{64}",
            "sk-[0-9a-f]{32}",
            "[0-9a-f]{32}",
            "AIza[A-Za-z0-9_-]{35}",
            "xai-[A-Za-z0-9]{80}",
            "gsk_[A-Za-z0-9]{52}",
            "(AKIA|ASIA)[A-Z2-7]{16}",
            "dapi[0-9a-f]{32}",
            "ghp_[A-Za-z0-9]{36}",
            "sk_(live|test)_[A-Za-z0-9]{24,99}",
            "[A-Za-z0-9]{32,40}",
            "[A-Za-z0-9+/]{43}=",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "eyJ[A-Za-z0-9_-]{20,80}[.]eyJ[A-Za-z0-9_-]{20,80}[.][A-Za-z0-9_-]{43}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_real_key_is_none(key in shape()) {
            prop_assert!(!is_one(&key));
        }

        /// Whatever words chance has put in.
        #[test]
        fn nor_is_one_with_such_words_in_it(
            key in shape(),
            word in "[-_]?(your|key|here|x{4}|changeme|replaceme|yourkey|your-key|apikey|my-api-key)[-_]?",
            at in any::<prop::sample::Index>(),
        ) {
            // Within, and not at its end.
            let at = 8 + at.index(key.len() - 16);
            prop_assume!(!ends_in_noun(&key.to_ascii_lowercase()));
            let key = format!("{}{word}{}", &key[..at], &key[at..]);
            prop_assert!(!is_one(&key), "{}", key);
        }
    }
}
