//! A key is checked where it is made.

use tower_outbound::key_check::{ApiKey, KeyFault, KeySource, Origin, OriginError};

use super::folder::Folder;

#[test]
fn from_the_environment_every_fault_names_the_variable() {
    // Variables that cargo sets for every test.
    let key = ApiKey::from_env("CARGO_PKG_NAME").unwrap();
    assert_eq!(key.fingerprint(), ApiKey::new("tower-outbound").unwrap().fingerprint());
    for (variable, fault) in [
        ("CARGO_PKG_HOMEPAGE", KeyFault::Empty),
        ("CARGO_PKG_LICENSE", KeyFault::InnerSpace { position: 4 }),
        ("TOWER_OUTBOUND_NO_SUCH_VARIABLE", KeyFault::NotSet),
        ("", KeyFault::NotSet),
        ("A=B", KeyFault::NotSet),
        ("NUL\0", KeyFault::NotSet),
    ] {
        let error = ApiKey::from_env(variable).unwrap_err();
        assert_eq!((error.fault(), error.variable()), (&fault, Some(variable)));
        assert!(error.to_string().contains(variable), "{error}");
    }
}

#[test]
fn from_a_file_every_fault_names_the_file() {
    let folder = Folder::new();
    for (content, fault) in [
        (&b""[..], KeyFault::Empty),
        (b"\n", KeyFault::Empty),
        (b" \n", KeyFault::Blank),
        (b"sk-abcdef \n", KeyFault::TrailingSpace { position: 10 }),
        (b"sk-abcdef\nsk-ghijkl\n", KeyFault::InnerSpace { position: 10 }),
        (b"\xef\xbb\xbfsk-abcdef\n", KeyFault::ByteOrderMark),
        (b"\xff\xfes\0k\0", KeyFault::NotUnicode),
        (b"'sk-abcdef'\n", KeyFault::Quoted),
        (&[b'k'; 65_537], KeyFault::TooLarge),
    ] {
        let path = folder.write("key", content);
        for error in [ApiKey::from_file(&path).unwrap_err(), KeySource::file(&path).unwrap_err()] {
            assert_eq!((error.fault(), error.file()), (&fault, Some(&*path)));
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
    let missing = folder.path().join("missing");
    assert_eq!(ApiKey::from_file(&missing).unwrap_err().fault(), &KeyFault::NoFile);
    assert_eq!(ApiKey::from_file(folder.path()).unwrap_err().fault(), &KeyFault::Directory);
    assert_eq!(ApiKey::from_file("/dev/zero").unwrap_err().fault(), &KeyFault::TooLarge, "the read is bounded");
}

/// As `echo`, editors, and `kubectl create secret --from-file` leave them.
#[test]
fn line_ends_after_the_key_are_no_part_of_a_file() {
    let folder = Folder::new();
    for content in ["sk-abcdef", "sk-abcdef\n", "sk-abcdef\r\n", "sk-abcdef\n\n"] {
        let key = ApiKey::from_file(folder.write("key", content.as_bytes())).unwrap();
        assert_eq!(key.fingerprint(), ApiKey::new("sk-abcdef").unwrap().fingerprint(), "{content:?}");
    }
}

#[test]
fn positions_count_characters_not_bytes() {
    let error = ApiKey::new("sk-é—x").unwrap_err();
    assert_eq!(error.fault(), &KeyFault::NotAscii { position: 4, character: 'é' });
    assert!(error.to_string().contains("character 4, U+00E9"), "{error}");
    assert_eq!(
        ApiKey::new("sk-abc\u{feff}").unwrap_err().fault(),
        &KeyFault::NotAscii { position: 7, character: '\u{feff}' }
    );
}

#[test]
fn what_no_header_may_carry_is_refused_here_and_not_later() {
    for byte in 0..=0x7f_u8 {
        let key = format!("sk-ab{}cd", char::from(byte));
        let is_sound = ApiKey::new(&key).is_ok();
        assert_eq!(is_sound, (0x21..=0x7e).contains(&byte), "{byte:#x}");
    }
}

#[test]
fn long_keys_and_odd_keys_are_keys() {
    for key in ["x", "-", "0", "sk-proj-\"quoted\"-inside", "a=b&c=d", "🔑".repeat(0).as_str(), &"k".repeat(100_000)]
    {
        assert_eq!(ApiKey::new(key).is_ok(), !key.is_empty(), "{}", key.len());
    }
}

#[test]
fn a_port_that_is_none_is_no_origin() {
    for url in ["https://api.example:99999", "https://api.example:65536/v1", "http://localhost:123456"] {
        assert_eq!(Origin::parse(url), Err(OriginError::NotAUrl), "{url}");
    }
}

#[test]
fn origins_are_the_same_however_they_are_spelled() {
    let origin = Origin::parse("https://api.example").unwrap();
    for url in
        ["https://API.EXAMPLE", "https://api.example:443/", " https://api.example/v1/ \n", "https://api.example?x"]
    {
        assert_eq!(Origin::parse(url).as_ref(), Ok(&origin), "{url}");
    }
    assert_eq!(origin.to_string(), "https://api.example");
    assert_eq!(Origin::parse("http://[::1]:8080/x").unwrap().to_string(), "http://[::1]:8080");
}
