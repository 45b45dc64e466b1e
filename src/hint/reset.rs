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
    let text = header(headers, "ratelimit")?;
    let mut longest = None;
    let mut used_up = |limit: &Limit<'_>| {
        if limit.remaining == Some(0) {
            let wait = limit.reset.or_else(|| window(headers, limit.name.as_deref()?));
            longest = longest.max(wait);
        }
    };
    if Parser::new(text).parse_list_with_visitor(Limits(&mut used_up)).is_err() {
        let mut old = Limit::default();
        Parser::new(text).parse_dictionary_with_visitor(&mut old).ok()?;
        used_up(&old);
    }
    longest.and_then(|seconds| plausible(Duration::from_secs(seconds)))
}

fn window(headers: &HeaderMap, name: &str) -> Option<u64> {
    let mut found = None;
    let mut same = |policy: &Limit<'_>| {
        if policy.name.as_deref() == Some(name) {
            found = policy.window;
        }
    };
    Parser::new(header(headers, "ratelimit-policy")?).parse_list_with_visitor(Limits(&mut same)).ok()?;
    found
}

/// One limit: the parameters of a list's item, or the members of the old dictionary.
#[derive(Default)]
struct Limit<'de> {
    name: Option<std::borrow::Cow<'de, str>>,
    remaining: Option<u64>,
    reset: Option<u64>,
    window: Option<u64>,
}

impl Limit<'_> {
    fn set(&mut self, key: &str, value: &BareItemFromInput<'_>) {
        let BareItemFromInput::Integer(value) = value else { return };
        let Ok(value) = u64::try_from(i64::from(*value)) else { return };
        match key {
            "r" | "remaining" => self.remaining = Some(value),
            "t" | "reset" => self.reset = Some(value),
            "w" => self.window = Some(value),
            _ => {}
        }
    }
}

struct Limits<F>(F);
struct OneLimit<'a, 'de, F>(&'a mut F, Limit<'de>);

impl<'de, F: FnMut(&Limit<'de>)> ListVisitor<'de> for Limits<F> {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(OneLimit(&mut self.0, Limit::default()))
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<'de, F: FnMut(&Limit<'de>)> EntryVisitor<'de> for OneLimit<'_, 'de, F> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

impl<'de, F: FnMut(&Limit<'de>)> ItemVisitor<'de> for OneLimit<'_, 'de, F> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(mut self, item: BareItemFromInput<'de>) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        match item {
            BareItemFromInput::String(name) => self.1.name = Some(text(name)),
            BareItemFromInput::Token(name) => self.1.name = Some(name.as_str().into()),
            _ => {}
        }
        Ok(self)
    }
}

fn text(name: std::borrow::Cow<'_, sfv::StringRef>) -> std::borrow::Cow<'_, str> {
    match name {
        std::borrow::Cow::Borrowed(name) => name.as_str().into(),
        std::borrow::Cow::Owned(name) => String::from(name).into(),
    }
}

impl<'de, F: FnMut(&Limit<'de>)> ParameterVisitor<'de> for OneLimit<'_, 'de, F> {
    type Out = ();
    type Error = Infallible;

    fn parameter(&mut self, key: &'de KeyRef, value: BareItemFromInput<'de>) -> Result<(), Infallible> {
        self.1.set(key.as_str(), &value);
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        (self.0)(&self.1);
        Ok(())
    }
}

impl<'de> DictionaryVisitor<'de> for &mut Limit<'de> {
    type Out = ();
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(Member(self, key))
    }

    fn finish(self) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Member<'a, 'de>(&'a mut Limit<'de>, &'de KeyRef);

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
        self.0.set(self.1.as_str(), &item);
        Ok(Ignored)
    }
}
