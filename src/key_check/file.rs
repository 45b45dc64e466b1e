//! Reads a secret from a file, bounded.

use std::{fs, io::Read, path::Path, time::SystemTime};

use zeroize::Zeroizing;

use super::KeyFault;

/// Far longer than any key; a token with many claims is a few KiB.
const LIMIT: u64 = 64 * 1024;

/// What a file looks like from outside: another stamp, another content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    number: u64,
}

/// Follows links, as secrets are mounted: Kubernetes swaps the link.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0;
    Some(Stamp { length: metadata.len(), modified: metadata.modified().ok(), number })
}

/// The file's text, in a buffer that is wiped.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, KeyFault> {
    let fault = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => KeyFault::NoFile,
        std::io::ErrorKind::IsADirectory => KeyFault::Directory,
        kind => KeyFault::Unreadable(kind),
    };
    let metadata = fs::metadata(path).map_err(fault)?;
    if metadata.is_dir() {
        return Err(KeyFault::Directory);
    }
    if metadata.len() > LIMIT {
        return Err(KeyFault::TooLarge);
    }
    // A buffer that grew would leave pieces of the key behind. Pipes and devices say 0.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT as usize + 2));
    fs::File::open(path).map_err(fault)?.take(LIMIT + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > LIMIT {
        return Err(KeyFault::TooLarge);
    }
    // Checked where it lies, then copied once: `String::from_utf8` would hand the bytes out of their wrapper.
    str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned())).map_err(|_| KeyFault::NotUnicode)
}
