//! What a number of JSON says.

/// What a number says.
#[inline]
pub(super) fn value_of(number: &[u8]) -> f64 {
    // A number of JSON is one of Rust's.
    let parsed = || std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN);
    short_decimal(number).unwrap_or_else(parsed)
}

/// Of a number like `0.7`, as most are: both parts of the fraction are exact, and so is then its nearest number.
fn short_decimal(number: &[u8]) -> Option<f64> {
    if number.len() > 9 {
        return None;
    }
    let (mut digits, mut scale) = (0u32, None);
    for byte in number {
        match (byte, &mut scale) {
            (b'0'..=b'9', scale) => {
                digits = digits * 10 + u32::from(byte - b'0');
                *scale = scale.map(|scale: u32| scale * 10);
            }
            (b'.', None) => scale = Some(1),
            _ => return None,
        }
    }
    Some(f64::from(digits) / f64::from(scale.unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_says_what_it_says_to_rust(whole in 0u64..100_000_000, part in "|\\.[0-9]{1,8}", sign in "-?") {
            let number = format!("{sign}{whole}{part}");
            prop_assert_eq!(value_of(number.as_bytes()), number.parse::<f64>().unwrap());
        }
    }

    #[test]
    fn what_most_send_is_read_at_once() {
        for (number, expected) in
            [("0.7", Some(0.7)), ("2", Some(2.0)), ("1.0", Some(1.0)), ("1e3", None), ("-1", None)]
        {
            assert_eq!(short_decimal(number.as_bytes()), expected, "{number}");
        }
    }
}
