//! Files that are written whole or not at all, with the previous generation kept beside the current one.
//!
//! [`write_atomically`] fills a temporary file in the same folder, brings it to the disk, renames the current file
//! to `<path>.previous` and the temporary file to `<path>`, and brings the folder to the disk. [`read_newest`]
//! takes the newest of the two generations that passes a check of the caller.
//!
//! Whatever fails, and wherever a crash interrupts, a complete generation is there to be read: up to the first
//! rename nothing has changed; between the renames the contents are at `<path>.previous`; when the second rename
//! fails, the first one is undone (the generation before is gone by then). One process may write a path at a time.
//!
//! Cost: one write of the bytes, two flushes, two renames; the folder needs room for three generations.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AtomicError {
    /// A step of writing failed.
    #[error("{}: cannot {operation}: {cause}; {}", .path.display(), .operation.consequence())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// The step that failed.
        operation: Operation,
        /// Why; its kind is what the operating system reported, such as [`io::ErrorKind::StorageFull`].
        cause: io::Error,
    },
    /// Neither generation can be used.
    #[error(
        "{}: {current}; {}: {previous}; restore one of the two files from a copy, or start afresh",
        .path.display(),
        previous_of(.path).display()
    )]
    Read {
        /// The file that was to be read.
        path: PathBuf,
        /// What is wrong with it.
        current: String,
        /// What is wrong with the previous generation.
        previous: String,
        /// That of the newest file that exists, [`io::ErrorKind::InvalidData`] where the check refused it;
        /// [`io::ErrorKind::NotFound`] where there is neither file.
        kind: io::ErrorKind,
    },
}

impl AtomicError {
    /// The kind of the failure.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Write { cause, .. } => cause.kind(),
            Self::Read { kind, .. } => *kind,
        }
    }
}

impl From<AtomicError> for io::Error {
    fn from(error: AtomicError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// The steps of [`write_atomically`], in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Make sure that the path is free or holds a file.
    Inspect,
    /// Create the temporary file in the folder of the path.
    Create,
    /// Write the bytes to it.
    Write,
    /// Bring them to the disk.
    Sync,
    /// Rename the current file to `<path>.previous`.
    KeepPrevious,
    /// Rename the temporary file to the path.
    Publish,
    /// Bring the renames to the disk.
    SyncFolder,
}

impl Operation {
    fn consequence(self) -> &'static str {
        match self {
            Self::SyncFolder => {
                "the new contents are in place but may not survive a loss of power: write again"
            }
            Self::Inspect => "give the path of a file",
            _ => {
                "the contents from before are still there: check the space and permissions, then write again"
            }
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inspect => "replace what is there",
            Self::Create => "create a temporary file in its folder",
            Self::Write => "write a temporary file in its folder",
            Self::Sync => "flush a temporary file in its folder to the disk",
            Self::KeepPrevious => "rename the current file to the previous one",
            Self::Publish => "rename the temporary file to the current one",
            Self::SyncFolder => "flush its folder to the disk",
        })
    }
}

/// The calls that can fail, so that tests can make each of them fail.
struct Calls<'a> {
    write: &'a dyn Fn(&mut File, &[u8]) -> io::Result<()>,
    sync: &'a dyn Fn(&File) -> io::Result<()>,
    rename: &'a dyn Fn(&Path, &Path) -> io::Result<()>,
}

const SYSTEM: Calls<'static> = Calls {
    write: &|file, bytes| file.write_all(bytes),
    sync: &|file| file.sync_all(),
    rename: &|from, to| fs::rename(from, to),
};

/// Where the generation before `path` is kept: `<path>.previous`.
#[must_use]
pub fn previous_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

/// Replaces the contents of `path` by `bytes`, whole or not at all, and keeps the contents from before at
/// [`previous_of`]`(path)`.
///
/// # Errors
/// [`AtomicError::Write`] with the step that failed. The temporary file is removed, and the contents from before
/// can still be read, from `path` itself unless undoing the first rename failed as well.
///
/// ```
/// use ekfac_std::atomic::{Generation, read_newest, write_atomically};
///
/// # let folder = std::env::temp_dir().join(format!("ekfac-atomic-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("state");
/// write_atomically(&path, b"one")?;
/// write_atomically(&path, b"two")?;
/// std::fs::write(&path, b"damage")?;
/// let check = |bytes: &[u8]| if bytes.len() == 3 { Ok(bytes.to_vec()) } else { Err("not three bytes") };
/// let newest = read_newest(&path, &check)?;
/// assert_eq!(newest.value, b"one");
/// assert_eq!(newest.generation, Generation::Previous);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), AtomicError> {
    write_with(path.as_ref(), bytes, &SYSTEM)
}

fn write_with(path: &Path, bytes: &[u8], calls: &Calls<'_>) -> Result<(), AtomicError> {
    let failed = |operation| move |cause| AtomicError::Write { path: path.to_owned(), operation, cause };
    let exists = inspect(path).map_err(failed(Operation::Inspect))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Removed when dropped, which every early return does.
    let mut temporary = create_in(folder).map_err(failed(Operation::Create))?;
    (calls.write)(temporary.as_file_mut(), bytes).map_err(failed(Operation::Write))?;
    (calls.sync)(temporary.as_file()).map_err(failed(Operation::Sync))?;
    let previous = previous_of(path);
    if exists {
        (calls.rename)(path, &previous).map_err(failed(Operation::KeepPrevious))?;
    }
    let mut temporary = temporary.into_temp_path();
    if let Err(cause) = (calls.rename)(&temporary, path) {
        if exists {
            // Should this fail as well, the contents are at the previous path, where `read_newest` finds them.
            let _ = (calls.rename)(&previous, path);
        }
        return Err(failed(Operation::Publish)(cause));
    }
    // The name is free again; there is nothing left to remove.
    temporary.disable_cleanup(true);
    sync_folder(folder, calls).map_err(failed(Operation::SyncFolder))
}

/// Whether there is a file to be kept. A folder or a device would be renamed like a file and must not be.
fn inspect(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        Err(e) if e.kind() == io::ErrorKind::NotFound && path.file_name().is_some() => Ok(false),
        Err(e) => Err(e),
    }
}

fn create_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".ekfac-").suffix(".tmp");
    // Temporary files are private by default; the result is an ordinary file, subject to the umask.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// A rename is in the folder, so it is the folder that must reach the disk. Only Unix opens folders.
fn sync_folder(folder: &Path, calls: &Calls<'_>) -> io::Result<()> {
    if cfg!(unix) { (calls.sync)(&File::open(folder)?) } else { Ok(()) }
}

/// Which of the two files was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The path itself.
    Current,
    /// `<path>.previous`.
    Previous,
}

/// What [`read_newest`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest<T> {
    /// What the check made of the contents.
    pub value: T,
    /// The file that was used.
    pub generation: Generation,
    /// Why the current file was passed over, where it was: worth a warning.
    pub passed_over: Option<String>,
}

/// Reads `path`, or `<path>.previous` where `path` cannot be read or `validate` refuses its contents.
///
/// # Errors
/// [`AtomicError::Read`] where neither file can be used.
pub fn read_newest<T, E: std::fmt::Display>(
    path: impl AsRef<Path>,
    validate: &dyn Fn(&[u8]) -> Result<T, E>,
) -> Result<Newest<T>, AtomicError> {
    let path = path.as_ref();
    let attempt = |path: &Path| {
        let bytes = fs::read(path).map_err(|e| (e.kind(), format!("cannot read: {e}")))?;
        validate(&bytes).map_err(|e| (io::ErrorKind::InvalidData, e.to_string()))
    };
    let (kind, current) = match attempt(path) {
        Ok(value) => return Ok(Newest { value, generation: Generation::Current, passed_over: None }),
        Err(reason) => reason,
    };
    match attempt(&previous_of(path)) {
        Ok(value) => Ok(Newest { value, generation: Generation::Previous, passed_over: Some(current) }),
        Err((previous_kind, previous)) => {
            let kind = if kind == io::ErrorKind::NotFound { previous_kind } else { kind };
            Err(AtomicError::Read { path: path.to_owned(), current, previous, kind })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const OLD: &[u8] = b"old contents, longer than the new ones";

    /// A folder with two generations at `state`; the writes under test try to replace `OLD`.
    fn two_generations() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_atomically(&path, b"oldest").unwrap();
        write_atomically(&path, OLD).unwrap();
        (folder, path)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn refuse(kind: io::ErrorKind) -> io::Result<()> {
        Err(io::Error::from(kind))
    }

    /// The write fails at `operation` with `kind`; the current generation is untouched and nothing is left over.
    fn assert_survives(calls: &Calls<'_>, operation: Operation, kind: io::ErrorKind, left: &[&str]) {
        let (folder, path) = two_generations();
        let error = write_with(&path, b"new", calls).unwrap_err();
        assert!(matches!(error, AtomicError::Write { operation: o, .. } if o == operation), "{error}");
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(fs::read(&path).unwrap(), OLD);
        assert_eq!(names(folder.path()), left);
        if left.len() == 2 {
            assert_eq!(fs::read(previous_of(&path)).unwrap(), b"oldest");
        }
        assert_eq!(io::Error::from(error).kind(), kind);
    }

    const BOTH: [&str; 2] = ["state", "state.previous"];

    // Mutant: write to the path itself, or drop the kind of the error. The failure is a real full device.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_both_generations() {
        let full =
            |_: &mut File, bytes: &[u8]| File::options().write(true).open("/dev/full")?.write_all(bytes);
        let calls = Calls { write: &full, ..SYSTEM };
        assert_survives(&calls, Operation::Write, io::ErrorKind::StorageFull, &BOTH);
    }

    // Mutant: rename after a partial write.
    #[test]
    fn a_disk_that_fills_up_half_way_leaves_both_generations() {
        let half = |file: &mut File, bytes: &[u8]| {
            file.write_all(&bytes[..bytes.len() / 2])?;
            refuse(io::ErrorKind::StorageFull)
        };
        let calls = Calls { write: &half, ..SYSTEM };
        assert_survives(&calls, Operation::Write, io::ErrorKind::StorageFull, &BOTH);
    }

    // Mutant: ignore the result of the flush, which is where delayed allocation reports a full disk.
    #[test]
    fn a_failing_flush_leaves_both_generations() {
        let sync = |_: &File| refuse(io::ErrorKind::QuotaExceeded);
        assert_survives(
            &Calls { sync: &sync, ..SYSTEM },
            Operation::Sync,
            io::ErrorKind::QuotaExceeded,
            &BOTH,
        );
    }

    // Mutant: publish although the current file could not be kept.
    #[test]
    fn a_failing_first_rename_leaves_both_generations() {
        let rename = |_: &Path, _: &Path| refuse(io::ErrorKind::PermissionDenied);
        let calls = Calls { rename: &rename, ..SYSTEM };
        assert_survives(&calls, Operation::KeepPrevious, io::ErrorKind::PermissionDenied, &BOTH);
    }

    fn failing_from(
        count: &Cell<u32>,
        fails: impl Fn(u32) -> bool,
        from: &Path,
        to: &Path,
    ) -> io::Result<()> {
        count.set(count.get() + 1);
        if fails(count.get()) { refuse(io::ErrorKind::ReadOnlyFilesystem) } else { fs::rename(from, to) }
    }

    // Mutant: leave out undoing the first rename.
    #[test]
    fn a_failing_second_rename_is_undone() {
        let count = Cell::new(0);
        let rename = |from: &Path, to: &Path| failing_from(&count, |n| n == 2, from, to);
        let calls = Calls { rename: &rename, ..SYSTEM };
        assert_survives(&calls, Operation::Publish, io::ErrorKind::ReadOnlyFilesystem, &["state"]);
    }

    // Mutant: remove the previous file before publishing. This is also what a crash between the renames leaves.
    #[test]
    fn when_undoing_fails_too_the_previous_path_has_the_contents() {
        let (folder, path) = two_generations();
        let count = Cell::new(0);
        let rename = |from: &Path, to: &Path| failing_from(&count, |n| n >= 2, from, to);
        write_with(&path, b"new", &Calls { rename: &rename, ..SYSTEM }).unwrap_err();
        assert_eq!(names(folder.path()), ["state.previous"]);
        let newest = read_newest(&path, &|bytes| Ok::<_, String>(bytes.to_vec())).unwrap();
        assert_eq!((newest.value.as_slice(), newest.generation), (OLD, Generation::Previous));
    }

    // Mutant: ignore the flush of the folder, or undo the renames when it fails.
    #[test]
    fn a_failing_flush_of_the_folder_is_reported_with_the_new_contents_in_place() {
        let (_folder, path) = two_generations();
        let count = Cell::new(0);
        let sync = |file: &File| {
            count.set(count.get() + 1);
            if count.get() == 2 { refuse(io::ErrorKind::Other) } else { file.sync_all() }
        };
        let error = write_with(&path, b"new", &Calls { sync: &sync, ..SYSTEM }).unwrap_err();
        assert!(matches!(error, AtomicError::Write { operation: Operation::SyncFolder, .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(previous_of(&path)).unwrap(), OLD);
    }

    // Mutant: flush after the renames, when a crash can already expose an empty file.
    #[test]
    fn the_contents_are_flushed_before_any_rename() {
        let (_folder, path) = two_generations();
        let flushed = Cell::new(false);
        let sync = |file: &File| {
            flushed.set(true);
            file.sync_all()
        };
        let rename = |from: &Path, to: &Path| {
            assert!(flushed.get());
            fs::rename(from, to)
        };
        write_with(&path, b"new", &Calls { sync: &sync, rename: &rename, ..SYSTEM }).unwrap();
    }
}
