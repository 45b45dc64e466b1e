//! The file of results: what is there already, and that nothing of anybody else's is touched.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use crate::{
    args::Args,
    ledger::Ledger,
    record::{BEGINNING, Recorded},
    temp,
    wire::MAX_ANSWER,
};

/// The longest line that can be a result: a body of which each byte is written as `\u00xx`, and what is around it.
const MAX_RECORD: u64 = 6 * MAX_ANSWER as u64 + (32 << 20);

/// Where results go; a temporary one is removed in the end.
pub(crate) struct Output {
    pub(crate) path: PathBuf,
    is_temporary: bool,
}

impl Output {
    pub(crate) fn of(args: &Args) -> Result<Self, String> {
        let path = match (&args.output, &args.input) {
            (Some(path), _) => path.clone(),
            (None, Some(input)) => input.with_extension("results.jsonl"),
            (None, None) => return Self::temporary(),
        };
        if args.input.as_deref().is_some_and(|input| is_same(input, &path)) {
            return Err(format!("the input and the output are the same file, {}", path.display()));
        }
        Ok(Self { path, is_temporary: false })
    }

    pub(crate) fn temporary() -> Result<Self, String> {
        let folder = std::env::temp_dir();
        let (path, _) = temp::create(&folder, "tower-outbound-batch")
            .map_err(|error| format!("no temporary file in {}: {error}", folder.display()))?;
        Ok(Self { path, is_temporary: true })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.is_temporary {
            // It may be gone already, and then that is that.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// An output that was opened, and is this run's alone until its file is closed.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file itself, whatever links lead to it.
    path: PathBuf,
    /// At its end, ready for more.
    pub(crate) file: File,
    pub(crate) ledger: Ledger,
    /// What was done to it, for the user.
    pub(crate) note: Option<String>,
}

/// Opens the output, reads what is there, and repairs its end: a run that was killed may have left half a line.
pub(crate) fn open(path: &Path) -> Result<Opened, String> {
    let shown = path.display();
    let cannot = |what: &str, error: io::Error| format!("cannot {what} the output {shown}: {error}");
    let file =
        OpenOptions::new().read(true).append(true).create(true).open(path).map_err(|error| cannot("write", error))?;
    let (mut ledger, mut note) = (Ledger::default(), None);
    if !file.metadata().map_err(|error| cannot("read", error))?.is_file() {
        // A pipe or a device holds no results, and may have no end.
        return Ok(Opened { path: path.to_owned(), file, ledger, note });
    }
    let path = fs::canonicalize(path).map_err(|error| cannot("find", error))?;
    if !lock(&file) || !is_at(&file, &path) {
        return Err(format!("another run writes the output {shown}: wait for its end, or give it another file"));
    }

    let mut reader = BufReader::with_capacity(1 << 16, &file);
    let (mut end, mut number, mut text) = (0_u64, 0_u64, Vec::new());
    let foreign = |number: u64| {
        format!(
            "line {number} of the output {shown} is no result of a batch: is it the right file? Nothing was changed"
        )
    };
    loop {
        text.clear();
        let first = reader.fill_buf().map_err(|error| cannot("read", error))?.first().copied();
        let Some(first) = first else { break };
        number += 1;
        // So that nothing but what may be a result is read to its end.
        if first != b'{' && !first.is_ascii_whitespace() {
            return Err(foreign(number));
        }
        let read = (&mut reader).take(MAX_RECORD).read_until(b'\n', &mut text);
        let read = read.map_err(|error| cannot("read", error))? as u64;
        let is_whole = text.last() == Some(&b'\n');
        match serde_json::from_slice::<Recorded>(&text) {
            _ if is_whole && text.trim_ascii().is_empty() => {}
            Ok(record) if ledger.note(&record) && read < MAX_RECORD => {
                if !is_whole {
                    (&file).write_all(b"\n").map_err(|error| cannot("repair", error))?;
                }
            }
            _ if !is_whole && read < MAX_RECORD && is_begun(&text, number) => {
                file.set_len(end).map_err(|error| cannot("repair", error))?;
                note = Some(format!("{shown}: took away a half-written line {number} ({read} bytes)"));
                break;
            }
            _ => return Err(foreign(number)),
        }
        end += read;
    }
    Ok(Opened { path, file, ledger, note })
}

/// Whether this is the beginning of a line of ours. One so short that it could be anything must follow others.
fn is_begun(text: &[u8], number: u64) -> bool {
    text.starts_with(BEGINNING) || number > 1 && BEGINNING.starts_with(text)
}

/// Whether the file is this run's alone from now on: until it is closed, as it is by a kill, too. Where files cannot be
/// locked, nobody is kept out.
#[cfg(unix)]
fn lock(file: &File) -> bool {
    use rustix::{fs::FlockOperation::NonBlockingLockExclusive, io::Errno};
    rustix::fs::flock(file, NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
}

#[cfg(not(unix))]
fn lock(_: &File) -> bool {
    true
}

/// Whether the file is still the one at that place: another run may have put a new one there before its lock was released.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    matches!((file.metadata(), fs::metadata(path)), (Ok(one), Ok(other)) if (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

impl Opened {
    /// Takes the errors out of it that belong to the input, so that their items are missing again. Call it after the
    /// survey.
    pub(crate) fn without_errors(mut self) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("cannot rewrite the output {}: {error}", self.path.display());
        let (beside, taken, file) = self.copied_without_errors().map_err(cannot)?;
        let rename = fs::rename(&beside, &self.path);
        if let Err(error) = rename {
            let _ = fs::remove_file(beside);
            return Err(cannot(error));
        }
        self.note = Some(format!("{}: took out {taken} errors, to send their items again", self.path.display()));
        self.file = file;
        self.ledger.forget_errors();
        Ok(self)
    }

    /// The results without the errors, in a file beside this one, to be put in its place at once.
    fn copied_without_errors(&self) -> io::Result<(PathBuf, u64, File)> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let (beside, file) = temp::create(folder, &name)?;
        let copy = || {
            let mut reader = BufReader::new(File::open(&self.path)?);
            let mut writer = BufWriter::new(&file);
            let (mut text, mut taken) = (Vec::new(), 0);
            while (&mut reader).take(MAX_RECORD).read_until(b'\n', &mut text)? > 0 {
                if serde_json::from_slice::<Recorded>(&text).is_ok_and(|record| self.ledger.is_error_here(&record)) {
                    taken += 1;
                } else {
                    writer.write_all(&text)?;
                }
                text.clear();
            }
            writer.flush()?;
            drop(writer);
            file.set_permissions(self.file.metadata()?.permissions())?;
            file.sync_all()?;
            // Nobody else has it yet.
            lock(&file);
            Ok(taken)
        };
        match copy() {
            Ok(taken) => Ok((beside, taken, file)),
            Err(error) => {
                let _ = fs::remove_file(beside);
                Err(error)
            }
        }
    }
}
