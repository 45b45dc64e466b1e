//! Files that are there for the time of a run alone.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// A new file under a name that nobody else has, to read and to append to; for this user alone.
pub(crate) fn create(folder: &Path, stem: &str) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    for _ in 0..16 {
        let path = folder.join(format!("{stem}.{}-{:08x}.tmp", std::process::id(), rand::random::<u32>()));
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (path, file)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
