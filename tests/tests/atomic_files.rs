//! Atomic files through the public interface. Failures of single steps, a full disk among them, are injected by the
//! unit tests in `std-adapter/src/atomic.rs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ekfac_std::atomic::{AtomicError, Generation, Operation, previous_of, read_newest, write_atomically};

/// A folder of its own for each test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ekfac-atomic-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Accepts what starts with `good`.
fn good(bytes: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if text.starts_with("good") { Ok(text) } else { Err(format!("{text:?} is not good")) }
}

// Mutant: keep three generations, none, or leave the temporary file behind.
#[test]
fn two_generations_are_kept_and_nothing_else() {
    let folder = Folder::new("generations");
    let path = folder.0.join("state");
    write_atomically(&path, b"good 1").unwrap();
    assert_eq!(names(&folder.0), ["state"]);
    write_atomically(&path, b"good 2").unwrap();
    write_atomically(&path, b"").unwrap();
    assert_eq!(names(&folder.0), ["state", "state.previous"]);
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert_eq!(fs::read(previous_of(&path)).unwrap(), b"good 2");
}

// Mutant: `with_extension("previous")`, by which `a.x` and `a.y` would share a previous generation.
#[test]
fn the_previous_path_keeps_the_extension() {
    assert_eq!(previous_of(Path::new("a/b.tar.gz")), Path::new("a/b.tar.gz.previous"));
}

// Mutant: prefer the previous file, or do not check the current one.
#[test]
fn the_newest_good_generation_is_read() {
    let folder = Folder::new("newest");
    let path = folder.0.join("state");
    write_atomically(&path, b"good 1").unwrap();
    write_atomically(&path, b"good 2").unwrap();
    let newest = read_newest(&path, &good).unwrap();
    assert_eq!(
        (newest.value.as_str(), newest.generation, newest.passed_over),
        ("good 2", Generation::Current, None)
    );

    fs::write(&path, b"goo").unwrap();
    let newest = read_newest(&path, &good).unwrap();
    assert_eq!((newest.value.as_str(), newest.generation), ("good 1", Generation::Previous));
    assert_eq!(newest.passed_over.as_deref(), Some("\"goo\" is not good"));

    fs::remove_file(&path).unwrap();
    assert_eq!(read_newest(&path, &good).unwrap().generation, Generation::Previous);
}

// Mutant: report only one of the two reasons, or the kind of the wrong one.
#[test]
fn without_a_good_generation_both_reasons_are_reported() {
    let folder = Folder::new("none");
    let path = folder.0.join("state");
    assert_eq!(read_newest(&path, &good).unwrap_err().kind(), io::ErrorKind::NotFound);

    fs::write(previous_of(&path), b"old damage").unwrap();
    assert_eq!(read_newest(&path, &good).unwrap_err().kind(), io::ErrorKind::InvalidData);

    fs::write(&path, b"new damage").unwrap();
    let message = read_newest(&path, &good).unwrap_err().to_string();
    for part in ["state: \"new damage\" is not good", "state.previous: \"old damage\" is not good", "restore"]
    {
        assert!(message.contains(part), "{message}");
    }
}

// Mutant: create missing folders, or put the temporary file into the folder for temporary files.
#[test]
fn a_missing_folder_is_an_error_that_names_the_file() {
    let folder = Folder::new("missing");
    let path = folder.0.join("no").join("state");
    let error = write_atomically(&path, b"x").unwrap_err();
    assert!(matches!(error, AtomicError::Write { operation: Operation::Create, .. }), "{error}");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(names(&folder.0).is_empty());
}

// Mutant: rename without looking, which moves a whole folder away.
#[test]
fn a_folder_is_not_replaced() {
    let folder = Folder::new("folder");
    let path = folder.0.join("state");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), b"x").unwrap();
    assert_eq!(write_atomically(&path, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(names(&folder.0), ["state"]);
    assert_eq!(names(&path), ["inside"]);
}

// Mutant: leave out the permissions, and checkpoints are readable by their owner only.
#[cfg(unix)]
#[test]
fn the_file_has_the_permissions_of_an_ordinary_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("permissions");
    let (path, ordinary) = (folder.0.join("state"), folder.0.join("ordinary"));
    write_atomically(&path, b"x").unwrap();
    fs::write(&ordinary, b"x").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), mode(&ordinary));
}
