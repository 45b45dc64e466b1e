//! The reset of what is used up: `x-ratelimit-*`, `anthropic-ratelimit-*`, `RateLimit`.
//!
//! A response names the resets of all its limits. Only the one that is used up says how long to wait; the others would
//! send the caller back too early, or keep it for nothing.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor},
};

use super::{header, plausible, server_now, when};

const FAMILIES: [&str; 4] = ["x-ratelimit-", "anthropic-ratelimit-", "x-rate-limit-", "ratelimit-"];

/// Whether a header of this name speaks of a limit.
pub(crate) fn is_limit(name: &str) -> bool {
    // Most names end here.
    matches!(name.as_bytes().first(), Some(b'x' | b'a' | b'r'))
        && (name == "ratelimit" || FAMILIES.iter().any(|family| name.starts_with(family)))
}

/// How long until the dimension that is used up is there again; the longest, where several are.
///
/// A dimension is used up when its `remaining` is 0. Where the server names one reset alone and no `remaining`, that one
/// counts: it would hardly be sent otherwise. Mostly it is the time until the limit is *full* again, so it is an upper bound.
pub(crate) fn exhausted_reset(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Option<Duration> {
    let mut now = Some(now);
    let mut clock = None;
    let mut used_up = None;
    let (mut alone, mut without) = (None, 0);
    for (name, value) in headers {
        let name = name.as_str();
        if !is_limit(name) {
            continue;
        }
        let Some((before, after)) = name.split_once("reset") else { continue };
        let remaining = remaining(headers, before, after);
        if remaining.is_some_and(|remaining| remaining != 0.0) {
            continue;
        }
        let Ok(value) = value.to_str() else { continue };
        let mut wall = || {
            *clock.get_or_insert_with(|| server_now(headers, || now.take().map_or(SystemTime::UNIX_EPOCH, |now| now())))
        };
        let wait = when(value.trim(), &mut wall);
        if remaining.is_some() {
            used_up = used_up.max(wait);
        } else {
            without += 1;
            alone = wait;
        }
    }
    used_up.or(alone.filter(|_| without == 1))
}

/// `remaining` of the dimension whose reset header is `before` + "reset" + `after`. What is no number is unknown, not 0.
fn remaining(headers: &HeaderMap, before: &str, after: &str) -> Option<f64> {
    let mut name = [0_u8; 80];
    let mut end = 0;
    for part in [before, "remaining", after] {
        name.get_mut(end..end + part.len())?.copy_from_slice(part.as_bytes());
        end += part.len();
    }
    let name = std::str::from_utf8(name.get(..end)?).ok()?;
    let value = header(headers, name)?;
    // "1,000", as one server writes it, is surely not 0.
    Some(value.parse().unwrap_or(f64::NAN))
}

/// The IETF draft's `RateLimit: "default";r=0;t=30`, and the dictionary of its 7th version: the longest `t` of those
/// with nothing left. One without `t` lasts at most its window, `w` in `RateLimit-Policy`.
pub(crate) fn ietf_rate_limit(headers: &HeaderMap) -> Option<Duration> {
    let mut longest = None;
    policies(headers, "ratelimit", &mut |limit| {
        if limit.remaining == Some(0) {
            let wait = limit.reset.or_else(|| window(headers, limit.name.as_deref()?));
            longest = longest.max(wait);
        }
    });
    longest.and_then(|seconds| plausible(Duration::from_secs(seconds)))
}

/// Shows every limit of a header that lists them as the IETF draft does; nothing where it is not there or no such list.
pub(crate) fn policies(headers: &HeaderMap, name: &str, each: &mut impl FnMut(&Policy<'_>)) {
    // A list may go on in further lines of its name; so may the old dictionary.
    let lines = headers.iter().filter(|(present, _)| present.as_str().eq_ignore_ascii_case(name));
    let mut old = None;
    for text in lines.filter_map(|(_, value)| value.to_str().ok()) {
        if let Some(listed) = list(text.trim()) {
            listed.iter().for_each(&mut *each);
            continue;
        }
        let mut members = old.clone().unwrap_or_default();
        if Parser::new(text.trim()).parse_dictionary_with_visitor(&mut members).is_ok() {
            old = Some(members);
        }
    }
    old.iter().for_each(each);
}

fn list<'a>(text: &'a str) -> Option<Vec<Policy<'a>>> {
    let mut listed = Vec::new();
    let mut add = |policy: &Policy<'a>| listed.push(policy.clone());
    Parser::new(text).parse_list_with_visitor(List(&mut add)).ok()?;
    Some(listed)
}

fn window(headers: &HeaderMap, name: &str) -> Option<u64> {
    let mut found = None;
    policies(headers, "ratelimit-policy", &mut |policy| {
        if policy.name.as_deref() == Some(name) {
            found = policy.window;
        }
    });
    found
}

/// One limit: the parameters of a list's item, or the members of the old dictionary.
#[derive(Clone, Default)]
pub(crate) struct Policy<'de> {
    pub(crate) name: Option<std::borrow::Cow<'de, str>>,
    pub(crate) remaining: Option<u64>,
    pub(crate) reset: Option<u64>,
    pub(crate) window: Option<u64>,
    pub(crate) quota: Option<u64>,
    /// What is counted; requests where it is not said.
    pub(crate) unit: Option<std::borrow::Cow<'de, str>>,
}

impl<'de> Policy<'de> {
    fn set(&mut self, key: &str, value: BareItemFromInput<'de>) {
        if key == "qu" {
            self.unit = name(value);
            return;
        }
        let BareItemFromInput::Integer(value) = value else { return };
        let Ok(value) = u64::try_from(i64::from(value)) else { return };
        match key {
            "r" | "remaining" => self.remaining = Some(value),
            "t" | "reset" => self.reset = Some(value),
            "w" => self.window = Some(value),
            "q" | "limit" => self.quota = Some(value),
            _ => {}
        }
    }
}

struct List<F>(F);
struct OnePolicy<'a, 'de, F>(&'a mut F, Policy<'de>);

impl<'de, F: FnMut(&Policy<'de>)> ListVisitor<'de> for List<F> {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(OnePolicy(&mut self.0, Policy::default()))
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<'de, F: FnMut(&Policy<'de>)> EntryVisitor<'de> for OnePolicy<'_, 'de, F> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

impl<'de, F: FnMut(&Policy<'de>)> ItemVisitor<'de> for OnePolicy<'_, 'de, F> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(mut self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        self.1.name = name(item);
        Ok(self)
    }
}

/// A text, quoted or not.
fn name(item: BareItemFromInput<'_>) -> Option<std::borrow::Cow<'_, str>> {
    match item {
        BareItemFromInput::String(name) => Some(text(name)),
        BareItemFromInput::Token(name) => Some(name.as_str().into()),
        _ => None,
    }
}

fn text(name: std::borrow::Cow<'_, sfv::StringRef>) -> std::borrow::Cow<'_, str> {
    match name {
        std::borrow::Cow::Borrowed(name) => name.as_str().into(),
        std::borrow::Cow::Owned(name) => String::from(name).into(),
    }
}

impl<'de, F: FnMut(&Policy<'de>)> ParameterVisitor<'de> for OnePolicy<'_, 'de, F> {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), Infallible> {
        self.1.set(key.as_str(), value);
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        (self.0)(&self.1);
        Ok(())
    }
}

impl<'de> DictionaryVisitor<'de> for &mut Policy<'de> {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(Member(self, key))
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Member<'a, 'de>(&'a mut Policy<'de>, &'de KeyRef);

impl<'de> EntryVisitor<'de> for Member<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Member<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        self.0.set(self.1.as_str(), item);
        Ok(Ignored)
    }
}
