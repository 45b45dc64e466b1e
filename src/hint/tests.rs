use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_795_360_416;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn millis(wait: Option<Duration>) -> Option<u128> {
    wait.map(|wait| wait.as_nanos().div_ceil(1_000_000))
}

#[test]
fn go_durations() {
    for (text, expected) in [
        ("1s", Some(1000)),
        ("6m0s", Some(360_000)),
        ("12ms", Some(12)),
        ("2m59.56s", Some(179_560)),
        ("1h2m3s", Some(3_723_000)),
        ("7.66s", Some(7660)),
        ("9m38.016s", Some(578_016)),
        ("45.837906927s", Some(45_838)),
        ("373.801628ms", Some(374)),
        ("1.5h", Some(5_400_000)),
        ("100us", Some(1)),
        ("100µs", Some(1)),
        ("1d", Some(86_400_000)),
        ("0s", None),
        ("0", None),
        ("", None),
        ("s", None),
        ("5", None),
        ("-5s", None),
        ("5s ", None),
        ("5x", None),
        ("1.2.3s", None),
        ("1e9s", None),
        ("99999999999999999999h", None),
        ("400d", None),
    ] {
        assert_eq!(millis(go_duration(text)), expected, "{text}");
    }
}

#[test]
fn points_in_time() {
    for (text, expected) in [
        ("30", Some(30_000)),
        ("1.5", Some(1500)),
        ("1795360446", Some(30_000)),
        ("1795360446.25", Some(30_250)),
        ("1795360446000", Some(30_000)),
        ("1795360400", None),
        ("2026-11-22T15:13:53Z", Some(17_000)),
        ("2026-11-22T16:13:53.5+01:00", Some(17_500)),
        ("Sun, 22 Nov 2026 15:14:06 GMT", Some(30_000)),
        ("6m0s", Some(360_000)),
        ("40000000", None),
        ("1e400", None),
        ("-1", None),
        ("NaN", None),
        ("179536044600000000", None),
        ("9999-12-31T23:59:59Z", None),
        ("Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)", None),
        ("Sun Nov 22 2026 16:14:06 GMT+0100 (Central European Standard Time)", Some(30_000)),
        ("Sun Nov 22 2026 15:14:06 GMT+0000", Some(30_000)),
        ("Sun Nov 42 2026 15:14:06 GMT+0000", None),
        ("Sun Nov 22 2026 15:14:06 GMT+0", None),
        ("Sun (", None),
        ("soon", None),
    ] {
        assert_eq!(millis(when(text, now)), expected, "{text}");
    }
}

#[test]
fn prose() {
    for (text, expected) in [
        ("Please try again in 9.816s. Visit https://x", Some(9816)),
        ("Please try again in 28ms.", Some(28)),
        ("Please try again in 9m38.016s. Need more tokens?", Some(578_016)),
        ("Please retry after 86400 seconds. Please go", Some(86_400_000)),
        ("Please retry in 58.9s", Some(58_900)),
        ("quota will reset after 13h4m5s.", Some(47_045_000)),
        ("Try again in 1 hour 5 minutes", Some(3_900_000)),
        ("try again in 2 minutes and 3 seconds.", Some(123_000)),
        ("Please TRY AGAIN IN 1 Minute", Some(60_000)),
        ("try again in 0s; retry after 5 s", Some(5000)),
        ("try again in 114h18m0s", Some(411_480_000)),
        ("try again in a few seconds", None),
        ("try again in 5", None),
        ("try again in 5 parsecs", None),
        ("try again in 20 000 seconds", None),
        ("limit is 5 s", None),
        ("entry in 5s", None),
        ("try again in ", None),
    ] {
        assert_eq!(millis(in_message(text)), expected, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_or_waits_for_years(text in "\\PC{0,60}") {
        for wait in [go_duration(&text), when(&text, now), in_message(&text), in_message(&format!("try again in {text}"))] {
            prop_assert!(wait.is_none_or(|wait| wait > Duration::ZERO && wait <= MAX));
        }
    }

    #[test]
    fn what_go_prints_is_read(hours in 0_u64..1000, minutes in 0_u64..60, millis in 1_u64..60_000) {
        let text = format!("{hours}h{minutes}m{}.{:03}s", millis / 1000, millis % 1000);
        let expected = Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_millis(millis);
        prop_assert_eq!(go_duration(&text), Some(expected));
    }

    #[test]
    fn an_epoch_is_told_by_its_size(wait in 1_u64..10_000_000) {
        let expected = Some(Duration::from_secs(wait));
        prop_assert_eq!(when(&(NOW + wait).to_string(), now), expected);
        prop_assert_eq!(when(&((NOW + wait) * 1000).to_string(), now), expected);
        prop_assert_eq!(when(&wait.to_string(), now), expected);
    }
}
