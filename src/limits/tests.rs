//! Headers as `docs/` and users' reports have them.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::*;

fn read(headers: &[(&'static str, &str)]) -> Limits {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
    Limits::from_headers(&headers.collect::<HeaderMap>())
}

fn limit(limit: f64, remaining: f64, reset_ms: u64) -> Limit {
    let reset = Some(Duration::from_millis(reset_ms));
    Limit { limit: Some(limit), remaining: Some(remaining), reset, ..Limit::default() }
}

fn window(limit: f64, remaining: f64, reset_s: u64) -> Limit {
    Limit { kind: Kind::Window, ..self::limit(limit, remaining, reset_s * 1000) }
}

#[test]
fn openai_with_a_projects_tokens() {
    let limits = read(&[
        ("x-ratelimit-limit-requests", "5000"),
        ("x-ratelimit-limit-tokens", "160,000"),
        ("x-ratelimit-limit-project-tokens", "90000"),
        ("x-ratelimit-remaining-requests", "4999"),
        ("x-ratelimit-remaining-tokens", "159976"),
        ("x-ratelimit-remaining-project-tokens", "80000"),
        ("x-ratelimit-reset-requests", "12ms"),
        ("x-ratelimit-reset-tokens", "9ms"),
        ("x-ratelimit-reset-project-tokens", "6.667s"),
    ]);
    assert_eq!(limits.requests, Some(limit(5000.0, 4999.0, 12)));
    assert_eq!(limits.tokens, Some(limit(160_000.0, 159_976.0, 9)));
    let project =
        Dimension { name: "project-tokens".into(), unit: Unit::Tokens, limit: limit(90_000.0, 80_000.0, 6_667) };
    assert!(limits.more.iter().eq([&project]), "{limits:?}");
}

#[test]
fn azures_minus_one_is_unknown() {
    let limits = read(&[
        ("x-ratelimit-limit-tokens", "-1"),
        ("x-ratelimit-remaining-tokens", "-1"),
        ("x-ratelimit-reset-tokens", "0"),
        ("x-ratelimit-remaining-requests", "119"),
        ("x-rate-limit-reset-tokens", "55"),
    ]);
    let reset = Some(Duration::from_secs(55));
    assert_eq!(limits.tokens, Some(Limit { reset, ..Limit::default() }));
    assert_eq!(limits.requests, Some(Limit { remaining: Some(119.0), ..Limit::default() }));
}

#[test]
fn anthropics_four_with_dates() {
    let limits = read(&[
        ("date", "Sun, 22 Nov 2026 15:13:00 GMT"),
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-requests-reset", "2026-11-22T15:13:01Z"),
        ("anthropic-ratelimit-tokens-limit", "48000"),
        ("anthropic-ratelimit-tokens-remaining", "47000"),
        ("anthropic-ratelimit-tokens-reset", "2026-11-22T15:13:02Z"),
        ("anthropic-ratelimit-input-tokens-limit", "40000"),
        ("anthropic-ratelimit-input-tokens-remaining", "40000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-22T15:13:00Z"),
        ("anthropic-ratelimit-output-tokens-limit", "8000"),
        ("anthropic-ratelimit-output-tokens-remaining", "7000"),
        ("anthropic-ratelimit-output-tokens-reset", "2026-11-22T15:13:08Z"),
        ("anthropic-ratelimit-unified-reset", "1795360380"),
    ]);
    assert_eq!(limits.requests, Some(limit(50.0, 49.0, 1_000)));
    assert_eq!(limits.tokens, Some(limit(48_000.0, 47_000.0, 2_000)));
    let [input, output] = limits.more.iter().collect::<Vec<_>>()[..] else { panic!("{limits:?}") };
    assert_eq!((&*input.name, input.unit, input.limit.reset), ("input-tokens", Unit::InputTokens, None));
    assert_eq!((output.unit, output.limit), (Unit::OutputTokens, limit(8_000.0, 7_000.0, 8_000)));
}

/// Requests are by the day there and tokens by the minute; the resets tell.
#[test]
fn groqs_day_and_minute() {
    let limits = read(&[
        ("x-ratelimit-limit-requests", "14400"),
        ("x-ratelimit-limit-tokens", "18000"),
        ("x-ratelimit-remaining-requests", "14370"),
        ("x-ratelimit-remaining-tokens", "17997"),
        ("x-ratelimit-reset-requests", "2m59.56s"),
        ("x-ratelimit-reset-tokens", "7.66s"),
    ]);
    assert_eq!(limits.requests, Some(limit(14_400.0, 14_370.0, 179_560)));
    assert_eq!(limits.tokens, Some(limit(18_000.0, 17_997.0, 7_660)));
}

#[test]
fn windows_with_an_epoch() {
    for reset in ["1795360440", "1795360440000", "60"] {
        let limits = read(&[
            ("date", "Sun, 22 Nov 2026 15:13:00 GMT"),
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "4987"),
            ("x-ratelimit-used", "13"),
            ("x-ratelimit-resource", "core"),
            ("x-ratelimit-reset", reset),
        ]);
        assert_eq!(limits, Limits { requests: Some(window(5_000.0, 4_987.0, 60)), ..Limits::default() }, "{reset}");
    }
}

#[test]
fn the_drafts_policies_by_name() {
    let limits = read(&[
        ("ratelimit-policy", r#""burst";q=100;w=60,"daily";q=1000;w=86400,"bytes";q=9;qu="content-bytes""#),
        ("ratelimit", r#""burst";r=50;t=30,"daily";r=900;t=4000"#),
    ]);
    let burst = Limit { period: Some(Duration::from_secs(60)), ..window(100.0, 50.0, 30) };
    let daily = Limit { period: Some(Duration::from_secs(86_400)), ..window(1000.0, 900.0, 4000) };
    assert_eq!(limits.requests, Some(burst));
    let daily = Dimension { name: "daily".into(), unit: Unit::Requests, limit: daily };
    assert!(limits.more.iter().eq([&daily]), "{limits:?}");
}

/// Names tell them apart, not their order, nor the lines they stand in.
#[test]
fn the_drafts_policies_in_any_order_and_in_several_lines() {
    let one = read(&[
        ("ratelimit-policy", r#""burst";q=100;w=60,"daily";q=1000;w=86400"#),
        ("ratelimit", r#""burst";r=50;t=30,"daily";r=900;t=4000"#),
    ]);
    assert_eq!(one.requests.and_then(|limit| limit.limit), Some(100.0));
    let mut lines = HeaderMap::new();
    for (name, value) in [
        ("ratelimit-policy", r#""daily";q=1000;w=86400"#),
        ("ratelimit", "no (list"),
        ("ratelimit-policy", r#""burst";q=100;w=60"#),
        ("ratelimit", r#""daily";r=900;t=4000"#),
        ("ratelimit", r#""burst";r=50;t=30"#),
    ] {
        lines.append(name, http::HeaderValue::from_static(value));
    }
    assert_eq!(Limits::from_headers(&lines), one);
    let mut old = HeaderMap::new();
    for value in ["limit=100, remaining=50", "reset=5"] {
        old.append("ratelimit", http::HeaderValue::from_static(value));
    }
    assert_eq!(Limits::from_headers(&old).requests, Some(window(100.0, 50.0, 5)));
}

#[test]
fn the_older_drafts_limit_with_its_policies() {
    for (limit, expected, period) in [
        ("100, 100;w=60", Some(100.0), Some(60)),
        ("100, 10;w=1, 100;w=60;burst=5", Some(100.0), Some(60)),
        ("100;w=60", Some(100.0), Some(60)),
        ("100, 100", Some(100.0), None),
        ("30,000", Some(30_000.0), None),
        ("100, 100;w=99999999999", Some(100.0), None),
        ("100, 100;w=x", Some(100.0), None),
        (";w=60", None, None),
        ("x, 100;w=60", None, None),
    ] {
        let limits = read(&[("ratelimit-limit", limit), ("ratelimit-remaining", "0"), ("ratelimit-reset", "50")]);
        let requests = limits.requests.expect("three headers");
        assert_eq!((requests.limit, requests.period), (expected, period.map(Duration::from_secs)), "{limit}");
        assert_eq!((requests.remaining, requests.kind), (Some(0.0), Kind::Window), "{limit}");
    }
    let docker = read(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")]);
    assert_eq!(docker.requests.and_then(|limit| limit.remaining), Some(76.0));
}

#[cfg(feature = "quota-meter")]
#[test]
fn a_date_of_javascripts_by_the_clock_that_is_given() {
    let clock = WallClock::new(|| std::time::UNIX_EPOCH + Duration::from_secs(1_795_360_416));
    let mut headers = HeaderMap::new();
    headers.insert("x-ratelimit-limit", http::HeaderValue::from_static("100"));
    headers.insert("x-ratelimit-remaining", http::HeaderValue::from_static("1"));
    let date = "Sun Nov 22 2026 16:14:06 GMT+0100 (Central European Standard Time)";
    headers.insert("x-ratelimit-reset", http::HeaderValue::from_static(date));
    let mut limits = Limits::default();
    limits.read(&headers, &clock);
    assert_eq!(limits.requests, Some(window(100.0, 1.0, 30)));
}

#[test]
fn the_drafts_older_forms() {
    let own = read(&[("ratelimit-limit", "100"), ("ratelimit-remaining", "99"), ("ratelimit-reset", "40")]);
    assert_eq!(own.requests, Some(window(100.0, 99.0, 40)));
    let dictionary = read(&[("ratelimit", "limit=100, remaining=50, reset=5")]);
    assert_eq!(dictionary.requests, Some(window(100.0, 50.0, 5)));
}

#[test]
fn more_dimensions_than_a_server_has_are_left_out() {
    let many: Vec<String> = (0..50).map(|n| format!(r#""policy{n}";q={};r=1;t=1"#, n + 1)).collect();
    let limits = read(&[("ratelimit", &many.join(","))]);
    assert!((1..=MORE).contains(&limits.more.len()), "{limits:?}");
}

#[test]
fn nonsense_is_unknown() {
    for value in ["", "-", "abc", "1.5.5s", "99999999999999999999", "s", "ms", ".s", "1e400", "NaN", "-5"] {
        let limits = read(&[
            ("x-ratelimit-limit-requests", value),
            ("x-ratelimit-remaining-requests", value),
            ("x-ratelimit-reset-requests", value),
            ("ratelimit", value),
        ]);
        assert_eq!(limits.requests.and_then(|limit| limit.limit), None, "{value}");
        assert_eq!(limits.requests.and_then(|limit| limit.reset), None, "{value}");
    }
}

proptest::proptest! {
    /// The short way says what the general one says.
    #[test]
    fn a_short_reset_is_read_as_a_long_one(text in r"[0-9.]{0,12}(ms|s)") {
        let value = http::HeaderValue::from_str(&text).expect("ASCII");
        let general = crate::hint::go_duration(&text);
        proptest::prop_assert_eq!(value::reset(&value, &HeaderMap::new(), &WallClock::default()), general);
    }

    #[test]
    fn a_count_is_digits_and_nothing_else(text in "[0-9/:]{1,9}") {
        let value = http::HeaderValue::from_str(&text).expect("ASCII");
        proptest::prop_assert_eq!(value::amount(&value), text.parse().ok());
    }

    #[test]
    fn a_short_count_is_read_as_a_number(number in 0_u64..1_000_000_000_000_000_000) {
        proptest::prop_assert_eq!(value::amount(&number.into()), Some(number as f64));
    }
}
