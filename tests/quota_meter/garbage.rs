//! Headers without sense: they never panic, and never stall anybody.

use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{sleep, timeout};
use tower_outbound::{ApiError, RetryHint, nz, quota_meter::Quota};

use super::{Office, limits, meter};
use crate::common::{Reply, ms, reply, secs, settled};

const SENSELESS: &[&str] = &[
    "",
    " ",
    "-1",
    "-0",
    "0",
    "00",
    "NaN",
    "inf",
    "-inf",
    "1e400",
    "1e18",
    "0x10",
    "1_000",
    "abc",
    "1;w=60",
    "1",
    "10",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "0.0000001",
    "1.5",
    ",",
    ",,,1",
    "1,2",
    "null",
    "unlimited",
    "1s",
    "-1s",
    "1e30s",
    "1d",
    "99999999999h",
    "0ms",
    "1h1h1h",
    "Fri, 29 Sep 100000 16:26:57 GMT",
    "2023-09-29T16:26:57Z",
    "9999-12-31T23:59:59Z",
    "1696004797",
];

/// Sixty calls, each of which costs a request and a token, all answered so: all end, and soon.
async fn all_end(what: &str, answer: impl Fn() -> Reply) {
    let office = Office::new(meter());
    let calls: Vec<_> = (0..60).map(|n| office.send(super::costing(&n.to_string(), 1))).collect();
    let ended = timeout(secs(3600.0), async {
        while !calls.iter().all(|call| call.is_finished()) {
            drop(office.desk.answer_all(&answer));
            // Paused time passes only once everybody has done what they can.
            sleep(ms(500)).await;
        }
    });
    assert!(ended.await.is_ok(), "{what}: stalled after {} calls, {:?}", office.desk.count(), office.meter.snapshot());
    let now = office.meter.snapshot();
    assert_eq!((now.in_flight, now.waiting), (0, 0), "{what}");
}

#[tokio::test(start_paused = true)]
async fn each_senseless_value_in_each_place() {
    for what in ["requests", "tokens"] {
        for value in SENSELESS {
            all_end(&format!("limit-{what}: {value}"), || limits(reply(200), what, value, 50, "1s")).await;
            all_end(&format!("remaining-{what}: {value}"), || limits(reply(200), what, 600, value, "1s")).await;
            all_end(&format!("reset-{what}: {value}"), || limits(reply(200), what, 600, 300, value)).await;
            all_end(&format!("all of {what}: {value}"), || limits(reply(200), what, value, value, value)).await;
        }
    }
}

/// One after the other in each header, with the others as they should be, and then in all.
async fn each_in(headers: &[(&str, &str)]) {
    let with = |said: &[(&str, &str)]| {
        let mut reply = reply(200);
        for (name, value) in said {
            reply.headers_mut().insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        reply
    };
    for value in SENSELESS {
        let all: Vec<_> = headers.iter().map(|(name, _)| (*name, *value)).collect();
        all_end(&format!("all of {headers:?}: {value}"), || with(&all)).await;
        for place in 0..headers.len() {
            let mut said = headers.to_vec();
            said[place].1 = value;
            all_end(&format!("{said:?}"), || with(&said)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_senseless_value_in_the_headers_of_windows() {
    each_in(&[("x-ratelimit-limit", "600"), ("x-ratelimit-remaining", "300"), ("x-ratelimit-reset", "30")]).await;
    each_in(&[("ratelimit-limit", "600, 600;w=60"), ("ratelimit-remaining", "300"), ("ratelimit-reset", "30")]).await;
}

#[tokio::test(start_paused = true)]
async fn each_senseless_value_in_the_ietfs_headers() {
    each_in(&[("ratelimit-policy", r#""a";q=600;w=60"#), ("ratelimit", r#""a";r=300;t=30"#)]).await;
    for value in SENSELESS {
        let said = |value: &str| {
            let mut answer = reply(200);
            for (name, text) in [
                ("ratelimit-policy", format!(r#""a";q={value};w={value},"b";q=600;w=60"#)),
                ("ratelimit", format!(r#""a";r={value};t={value}"#)),
            ] {
                answer.headers_mut().insert(http::HeaderName::from_static(name), text.parse().unwrap());
            }
            answer
        };
        all_end(&format!("in the policies: {value}"), || said(value)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_senseless_value_in_anthropics_headers() {
    for what in ["requests", "input-tokens", "output-tokens"] {
        let name = |field: &str| format!("anthropic-ratelimit-{what}-{field}");
        let (limit, remaining, reset) = (name("limit"), name("remaining"), name("reset"));
        each_in(&[(&limit, "600"), (&remaining, "300"), (&reset, "1s")]).await;
    }
}

/// A server that says it used up what no model takes.
#[tokio::test(start_paused = true)]
async fn each_senseless_value_in_usage() {
    for value in
        ["-1", "0", "1e300", "18446744073709551615", "99999999999999999999", "null", "\"x\"", "[]", "1e400", "NaN"]
    {
        for body in [
            format!(r#"{{"usage":{{"prompt_tokens":{value},"completion_tokens":{value}}}}}"#),
            format!(r#"{{"usage":{value}}}"#),
        ] {
            let quota = Quota::learned().tokens_per_minute(nz!(60));
            let office = Office::new(meter().quota(quota));
            let calls: Vec<_> = (0..60)
                .map(|n| {
                    let call = office.send(super::costing(&n.to_string(), 1));
                    tokio::spawn(async move { call.await.unwrap().unwrap().into_body().collect().await.unwrap() })
                })
                .collect();
            let ended = timeout(secs(600.0), async {
                while !calls.iter().all(|call| call.is_finished()) {
                    drop(office.desk.answer_all(|| {
                        let mut answer = reply(200);
                        *answer.body_mut() = body.clone().into();
                        answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
                        answer
                    }));
                    sleep(ms(500)).await;
                }
            });
            assert!(ended.await.is_ok(), "{body}: stalled, {:?}", office.meter.snapshot());
        }
    }
}

/// "Nothing left, and come back in a century": the next call looks whether that is so.
#[tokio::test(start_paused = true)]
async fn nothing_left_for_a_century_is_not_believed_for_a_century() {
    for reset in ["99999999999", "3155760000s", "900000h", "9999-12-31T23:59:59Z"] {
        all_end(reset, || limits(reply(200), "requests", 600, 0, reset)).await;
    }
}

/// Azure: -1 is unknown.
#[tokio::test(start_paused = true)]
async fn what_is_unknown_stays_unknown() {
    let office = Office::new(meter());
    let _call = office.call("0");
    settled().await;
    office.desk.answer("0", limits(limits(reply(200), "requests", -1, -1, "0"), "tokens", -1, -1, "0")).await;
    let now = office.meter.snapshot();
    assert!(now.requests.is_none() && now.tokens.is_none(), "{now:?}");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_text() {
    let answer = || {
        let mut reply = limits(reply(200), "requests", 600, 300, "1s");
        for (name, value) in reply.headers_mut().iter_mut() {
            if name.as_str() != "x-ratelimit-limit-requests" {
                *value = http::HeaderValue::from_bytes(b"\xff\xfe").unwrap();
            }
        }
        reply
    };
    all_end("bytes", answer).await;
}

/// More left than there is at all.
#[tokio::test(start_paused = true)]
async fn more_left_than_there_is() {
    all_end("more", || limits(reply(200), "requests", 10, 1_000_000, "1s")).await;
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(SENSELESS).prop_map(str::to_owned),
        "[0-9]{1,25}",
        "[0-9]{1,4}(ms|s|m|h|d|us)",
        "[ -~]{0,12}",
    ]
}

/// Calls, a second apart, until a hundred in a row each leave at once; how long that took.
async fn recovery(office: &Office) -> f64 {
    let start = tokio::time::Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 100 {
        let call = office.send(super::costing("sane", 1));
        settled().await;
        let at_once = !office.desk.open().is_empty();
        let mut pause = ms(500);
        while office.desk.open().is_empty() {
            sleep(pause).await;
            pause = (2 * pause).min(secs(60.0));
        }
        let answer = limits(reply(200), "requests", 6_000, 5_000, "10s");
        office.desk.answer("sane", limits(answer, "tokens", 60_000, 50_000, "10s")).await;
        assert!(call.is_finished());
        in_a_row = if at_once { in_a_row + 1 } else { 0 };
        sleep(secs(1.0)).await;
    }
    start.elapsed().as_secs_f64() - 100.0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever it said: once it is sane again, so is the meter, within a time that has a bound.
    #[test]
    fn sanity_returns(said in prop::collection::vec((any::<bool>(), prop::collection::vec(any_value(), 7)), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let office = Office::new(meter());
            let mut named = tokio::time::Instant::now();
            for (is_limited, said) in &said {
                let call = office.send(super::costing("call", 1));
                settled().await;
                if office.desk.open().is_empty() {
                    call.abort();
                    break;
                }
                let mut answer = limits(reply(if *is_limited { 429 } else { 200 }), "requests", &said[0], &said[1], &said[2]);
                answer = limits(answer, "tokens", &said[3], &said[4], &said[5]);
                answer.headers_mut().insert("retry-after", said[6].parse().unwrap());
                if let Some(RetryHint::After(hint)) = ApiError::of(&answer).map(|error| error.retry()) {
                    named = named.max(tokio::time::Instant::now() + hint.min(secs(10.0 * 86_400.0)));
                }
                office.desk.answer("call", answer).await;
            }
            // A hint is a floor for a day; all else is believed for an hour.
            let hint = (named - tokio::time::Instant::now()).as_secs_f64();
            let patience = if hint <= 86_400.0 { hint.max(3_600.0) } else { 3_600.0 };
            let took = recovery(&office).await;
            prop_assert!(took <= patience + 600.0, "{} s", took);
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A server that says something else each time, in every header; some of its answers are 429s.
    #[test]
    fn a_server_gone_mad(said in prop::collection::vec((any::<bool>(), prop::collection::vec(any_value(), 7)), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let office = Office::new(meter());
            for (is_limited, said) in &said {
                let call = office.send(super::costing("call", 1));
                settled().await;
                if office.desk.open().is_empty() {
                    call.abort();
                    // What a server says for hours to come it is held to, but no panic.
                    sleep(secs(3600.0)).await;
                    continue;
                }
                let status = if *is_limited { 429 } else { 200 };
                let mut answer = limits(reply(status), "requests", &said[0], &said[1], &said[2]);
                answer = limits(answer, "tokens", &said[3], &said[4], &said[5]);
                answer.headers_mut().insert("retry-after", said[6].parse().unwrap());
                office.desk.answer("call", answer).await;
                let _ = office.meter.snapshot();
                assert!(call.is_finished());
            }
        });
    }
}
