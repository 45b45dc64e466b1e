//! What tells keys apart on every machine, and says nothing else of them.

/// 32 bits of a hash of a key: FNV-1a, mixed as MurmurHash3 does at its end, the same on every machine and in every version.
pub(crate) fn fingerprint(key: &[u8]) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    ((hash ^ (hash >> 33)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other machines, and later versions, know keys by these.
    #[test]
    fn it_stays_what_it_is() {
        let of = |key: &str| format!("{:08x}", fingerprint(key.as_bytes()));
        assert_eq!([of(""), of("sk-test-0123456789"), of("sk-test-0123456788")], ["efd01f60", "c9b9ba3a", "b2a16afe"]);
    }
}
