//! The walk through the JSON.

use std::{borrow::Cow, fmt, time::Duration};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Facts, Fields};
use crate::hint;

/// How deep objects are followed; what lies below is skipped, which `serde_json` does without recursion.
const DEPTH: u8 = 8;

pub(super) fn read<'a>(json: &'a [u8], facts: &mut Facts<'a>) {
    let mut json = serde_json::Deserializer::from_slice(json);
    // An error leaves what was read before it.
    let _ = At { facts, place: Place::Top, depth: 0 }.deserialize(&mut json);
}

/// Where in the body a value stands, and so what its members mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Top,
    /// A response inside the body: a batch's line, or the object of a `response.failed` event.
    Response,
    Error,
    /// FastAPI's `detail`: a text, an error, or a list of what is wrong.
    Detail,
    Validation,
    Choice,
    Incomplete,
    Inner,
    Details,
    Metadata,
    Reasons,
    Headers,
    Violation,
}

struct At<'f, 'a> {
    facts: &'f mut Facts<'a>,
    place: Place,
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for At<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth >= DEPTH {
            deserializer.deserialize_ignored_any(IgnoredAny).map(drop)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> At<'_, 'de> {
    fn follow<M: MapAccess<'de>>(&mut self, map: &mut M, place: Place) -> Result<(), M::Error> {
        map.next_value_seed(At { facts: self.facts, place, depth: self.depth + 1 })
    }

    /// One member of an object at this place.
    fn member<M: MapAccess<'de>>(&mut self, key: &str, map: &mut M) -> Result<(), M::Error> {
        use Place::{
            Choice, Detail, Details, Error as Err, Headers, Incomplete, Inner, Metadata, Reasons, Response, Top,
            Validation, Violation,
        };
        match (self.place, key) {
            (Top | Response | Err | Detail | Choice, "error") => return self.follow(map, Err),
            (Top | Response, "errors") => {
                self.facts.from_list = true;
                return self.follow(map, Err);
            }
            (Err, "data") => return self.follow(map, Err),
            (Top | Response, "last_error") => {
                self.facts.from_run = true;
                return self.follow(map, Err);
            }
            (Top | Response, "response") => return self.follow(map, Response),
            (Response, "body") => return self.follow(map, Top),
            (Top | Response, "incomplete_details") => return self.follow(map, Incomplete),
            (Top, "detail") => return self.follow(map, Detail),
            (Top | Response, "choices") => return self.follow(map, Choice),
            (Err | Detail, "details") => return self.follow(map, Details),
            (Err | Detail, "innererror" | "inner_error") => return self.follow(map, Inner),
            (Err | Details, "metadata") => return self.follow(map, Metadata),
            (Details, "violations") => return self.follow(map, Violation),
            (Metadata, "headers") => return self.follow(map, Headers),
            (Metadata, "reasons") => return self.follow(map, Reasons),
            _ => {}
        }
        let facts = &mut *self.facts;
        match (self.place, key) {
            (Top | Response, "code" | "type" | "param" | "message" | "Message" | "msg" | "error_description") => {
                return field(&mut facts.top, key, map);
            }
            (Err | Detail, "code" | "type" | "param" | "message" | "msg" | "error_description") => {
                return field(&mut facts.error, key, map);
            }
            (Validation, "msg" | "message") => return field(&mut facts.top, key, map),
            _ => {}
        }
        let text = match (self.place, key) {
            (Top | Response, "__type") => &mut facts.aws_type,
            (Top | Response, "title") => &mut facts.title,
            (Top | Response, "object") => &mut facts.object,
            (Top | Response, "status") => &mut facts.state,
            (Top | Response | Err, "request_id") => &mut facts.request_id,
            (Err | Detail, "status") => &mut facts.status_word,
            (Err | Details, "error_code") => &mut facts.detail_code,
            (Metadata, "limit_source") => &mut facts.limit_source,
            (Details | Incomplete, "reason") => &mut facts.reason,
            (Inner, "code") => &mut facts.inner_code,
            (Headers, _) if key.eq_ignore_ascii_case("x-ratelimit-reset") => &mut facts.reset,
            (Response, "status_code") => {
                if let Scalar::Number(number) = map.next_value_seed(AsScalar)? {
                    // Some batches have a 0 here, which is no status.
                    facts.nested_status = (100.0..1000.0).contains(&number).then_some(number as u16);
                }
                return Ok(());
            }
            (Details, "retryDelay") => return delay(&mut facts.retry_delay, map),
            (Top | Err | Metadata, "retry_after" | "retry_after_seconds") => return delay(&mut facts.retry_delay, map),
            (Metadata, "quotaResetDelay") => return delay(&mut facts.reset_delay, map),
            (Violation, "quotaId") => {
                if let Scalar::Text(id) = map.next_value_seed(AsScalar)? {
                    facts.per_day |= id.contains("PerDay");
                }
                return Ok(());
            }
            (Violation, "quotaValue") => {
                let value = map.next_value_seed(AsScalar)?;
                facts.zero_quota |= matches!(value, Scalar::Text(text) if text == "0");
                return Ok(());
            }
            _ => return map.next_value::<IgnoredAny>().map(drop),
        };
        if let Scalar::Text(value) = map.next_value_seed(AsScalar)?
            && text.is_none()
        {
            *text = Some(value);
        }
        Ok(())
    }
}

/// One of the usual members. The first of a name counts.
fn field<'de, M: MapAccess<'de>>(fields: &mut Fields<'de>, key: &str, map: &mut M) -> Result<(), M::Error> {
    let value = map.next_value_seed(AsScalar)?;
    let slot = match key {
        "code" => {
            fields.has_code = true;
            if let Scalar::Number(number) = value {
                // Statuses and small numbers; a larger one saturates, which harms nobody.
                fields.number = fields.number.or(Some(number as i64));
            }
            &mut fields.code
        }
        "type" => &mut fields.error_type,
        "param" => &mut fields.param,
        _ => &mut fields.message,
    };
    if let Scalar::Text(text) = value
        && slot.is_none()
    {
        *slot = Some(text);
    }
    Ok(())
}

/// `"26s"`, or a number of seconds.
fn delay<'de, M: MapAccess<'de>>(slot: &mut Option<Duration>, map: &mut M) -> Result<(), M::Error> {
    let delay = match map.next_value_seed(AsScalar)? {
        Scalar::Text(text) => hint::go_duration(&text).or_else(|| hint::seconds(text.parse().ok()?)),
        Scalar::Number(number) => hint::seconds(number),
        Scalar::Other => None,
    };
    *slot = slot.or(delay);
    Ok(())
}

impl<'de> Visitor<'de> for At<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key_seed(AsKey)? {
            self.member(&key, &mut map)?;
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        let place = if self.place == Place::Detail { Place::Validation } else { self.place };
        // Of several errors the first is what failed; of details each may hold something else.
        let all = matches!(place, Place::Details | Place::Violation | Place::Choice);
        let mut first = true;
        while all || first {
            first = false;
            if list.next_element_seed(At { facts: self.facts, place, depth: self.depth + 1 })?.is_none() {
                return Ok(());
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.text(Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text(Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

impl<'de> At<'_, 'de> {
    /// A text where an object is usual: then it is the message.
    fn text(self, text: Cow<'de, str>) {
        let fields = match self.place {
            Place::Error => &mut self.facts.error,
            Place::Top | Place::Detail => &mut self.facts.top,
            Place::Reasons => {
                self.facts.flagged = true;
                return;
            }
            _ => return,
        };
        if !text.is_empty() && fields.message.is_none() {
            fields.message = Some(text);
        }
    }
}

/// A member's name, borrowed where it is written without escapes.
struct AsKey;

impl<'de> DeserializeSeed<'de> for AsKey {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match deserializer.deserialize_str(AsScalar)? {
            Scalar::Text(key) => Ok(key),
            _ => Ok(Cow::Borrowed("")),
        }
    }
}

/// A value with nothing inside it. Empty texts are as good as none.
enum Scalar<'de> {
    Text(Cow<'de, str>),
    Number(f64),
    Other,
}

struct AsScalar;

impl<'de> DeserializeSeed<'de> for AsScalar {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AsScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(if text.is_empty() { Scalar::Other } else { Scalar::Text(Cow::Borrowed(text)) })
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(if text.is_empty() { Scalar::Other } else { Scalar::Text(Cow::Owned(text.to_owned())) })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
