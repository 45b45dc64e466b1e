//! `RateLimit` and `RateLimit-Policy`: several policies by name, what is left of each, and what each allows.

use std::time::Duration;

use http::HeaderMap;

use super::{Kind, Limit, Limits, MORE, Unit};
use crate::hint::{self, Policy};

struct Seen {
    name: Box<str>,
    unit: Unit,
    limit: Limit,
}

pub(super) fn read(headers: &HeaderMap, limits: &mut Limits) {
    let mut seen: Vec<Seen> = Vec::new();
    let mut add = |policy: &Policy<'_>| {
        let name = policy.name.as_deref().unwrap_or_default();
        // What counts neither requests nor tokens costs an amount that nobody here knows.
        let unit = match policy.unit.as_deref() {
            None | Some("requests") => Unit::Requests,
            Some("tokens") => Unit::Tokens,
            Some(_) => return,
        };
        let place = seen.iter().position(|one| &*one.name == name);
        if place.is_none() && seen.len() < MORE {
            let limit = Limit { kind: Kind::Window, ..Limit::default() };
            seen.push(Seen { name: name.into(), unit, limit });
        }
        let Some(one) = place.or(seen.len().checked_sub(1)).and_then(|place| seen.get_mut(place)) else { return };
        if &*one.name != name {
            return;
        }
        if policy.unit.is_some() {
            one.unit = unit;
        }
        let limit = &mut one.limit;
        let number = |number: Option<u64>| number.map(|number| number as f64);
        limit.limit = number(policy.quota).filter(|limit| *limit > 0.0).or(limit.limit);
        limit.remaining = number(policy.remaining).or(limit.remaining);
        limit.reset = policy.reset.map(Duration::from_secs).and_then(hint::plausible).or(limit.reset);
        limit.period = policy.window.map(Duration::from_secs).and_then(hint::plausible).or(limit.period);
    };
    hint::policies(headers, "ratelimit-policy", &mut add);
    hint::policies(headers, "ratelimit", &mut add);
    // Whatever order the server names them in: one that is the first of them once is so always.
    seen.sort_by(|one, other| one.name.cmp(&other.name));
    for Seen { name, unit, limit } in seen {
        match unit {
            Unit::Requests if limits.requests.is_none() => limits.requests = Some(limit),
            Unit::Tokens if limits.tokens.is_none() => limits.tokens = Some(limit),
            _ => {
                if let Some(slot) = limits.more.named(&name, unit) {
                    *slot = limit;
                }
            }
        }
    }
}
