//! Files: reading with errors that name them, writing without ever changing what others rely on.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use lockgate_package::signing::Signed;

use crate::failure::Failure;

/// The bytes with which every bundle and package begins.
pub(crate) const MAGIC: &[u8] = b"LOCKGATE";
/// What package files are called.
pub(crate) const PACKAGE_EXTENSION: &str = "lgp";
/// What unit lists are called.
pub(crate) const LIST_EXTENSION: &str = "lgl";
/// What bundle files are called.
pub(crate) const BUNDLE_EXTENSION: &str = "lgb";

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|error| {
        let (bytes, place) = (error.as_bytes(), error.utf8_error().valid_up_to());
        let file = path.display();
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            let failure = Failure::new(format!("{file} is not UTF-8 text but UTF-16"));
            return failure.hint("save it as UTF-8");
        }
        let before = bytes.get(..place).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::new(format!(
            "{file} is not UTF-8 text: line {line} has a byte that is no part of any letter"
        ))
    })
}

/// The packages in a folder, sorted by file name: files with the extension, and files that begin as an envelope does. What else
/// lies there (manifests, models, notes) is none of our business.
pub(crate) fn packages_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::new(format!("cannot read the packages in {}: {error}", folder.display()))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if !path.is_file() {
            continue;
        }
        let named = path.extension().is_some_and(|extension| extension == PACKAGE_EXTENSION);
        if named || begins_with_magic(&path) && path.extension().is_none_or(|e| e != BUNDLE_EXTENSION) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn begins_with_magic(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start))
        .is_ok_and(|()| start == MAGIC)
}

/// What writing a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The file is new.
    New,
    /// It was there, with the same bytes.
    Unchanged,
}

/// Writes a file that must never change: one that exists with other bytes is refused. Readers see all of it or nothing.
pub(crate) fn write_immutable(path: &Path, bytes: &[u8]) -> Result<Written, Failure> {
    let cannot = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    let file = temporary(path, bytes).map_err(cannot)?;
    readable_by_all(file.as_file()).map_err(cannot)?;
    // Fails when the file exists, also when it was made a moment ago by somebody else.
    match file.persist_noclobber(path) {
        Ok(_) => Ok(Written::New),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            if is_same(&read(path)?, bytes) {
                return Ok(Written::Unchanged);
            }
            Err(Failure::new(format!("{} exists with other content", path.display())).hint(
                "packages and bundles never change; give another name or a new version, or remove the file",
            ))
        }
        Err(error) => Err(cannot(error.error)),
    }
}

/// Writes an object into its folder, which may not exist yet. The name is made of the content, so a file that is there is left alone unless
/// it is damaged.
pub(crate) fn write_object(path: &Path, bytes: &[u8]) -> Result<Written, Failure> {
    if std::fs::read(path).is_ok_and(|existing| existing == bytes) {
        return Ok(Written::Unchanged);
    }
    create_folder_of(path)?;
    write_immutable(path, bytes)
}

/// Makes the folder of a file, and those around it, where they are not there yet.
pub(crate) fn create_folder_of(path: &Path) -> Result<(), Failure> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", folder.display())))
}

/// Whether two files are the same, or the same content with other signatures: those in the existing file stay.
fn is_same(existing: &[u8], new: &[u8]) -> bool {
    let content = |bytes| Signed::read(bytes).ok().map(|signed| (signed.kind(), signed.digest()));
    existing == new || content(new).is_some_and(|new| content(existing) == Some(new))
}

/// Puts other bytes into a file. Readers see the old ones or the new ones, never a mixture, also after a power cut. Permissions stay as
/// they were.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    // A link stays one: what it points to is replaced.
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(cannot(error)),
    };
    let file = temporary(&target, bytes).map_err(cannot)?;
    match std::fs::metadata(&target) {
        Ok(metadata) => file.as_file().set_permissions(metadata.permissions()).map_err(cannot)?,
        Err(_) => readable_by_all(file.as_file()).map_err(cannot)?,
    }
    file.persist(&target).map_err(|error| cannot(error.error))?;
    sync_folder(folder_of(&target)).map_err(cannot)
}

/// Writes a file that was not there, readable by its owner alone.
pub(crate) fn write_new_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_new(path, bytes, |_| Ok(()))
}

/// Writes a file that was not there, readable by all.
pub(crate) fn write_new_public(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_new(path, bytes, readable_by_all)
}

fn write_new(
    path: &Path,
    bytes: &[u8],
    permit: impl FnOnce(&std::fs::File) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let cannot =
        |error: &dyn std::fmt::Display| Failure::new(format!("cannot write {}: {error}", path.display()));
    let file = temporary(path, bytes).map_err(|error| cannot(&error))?;
    permit(file.as_file()).map_err(|error| cannot(&error))?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(folder_of(path)).map_err(|error| cannot(&error)),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(cannot(&"it exists")),
        Err(error) => Err(cannot(&error.error)),
    }
}

/// A temporary file beside `path`, written to the disk. Only its maker can read it.
fn temporary(path: &Path, bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(".lockgate-").tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Without this, a power cut could bring back what the folder held before.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Temporary files are private to their maker; what is kept should have the usual permissions.
#[cfg(unix)]
fn readable_by_all(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_never_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lgp");
        assert_eq!(write_immutable(&path, b"one").unwrap(), Written::New);
        assert_eq!(write_immutable(&path, b"one").unwrap(), Written::Unchanged);
        let error = write_immutable(&path, b"two").unwrap_err();
        assert!(error.message().ends_with("a.lgp exists with other content"), "{error}");
        assert_eq!(read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn packages_are_found_by_name_or_by_their_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("b.lgp", &b"damaged"[..]),
            ("a.bin", b"LOCKGATE..."),
            ("bundle.lgb", b"LOCKGATE..."),
            ("model.onnx", b"onnx"),
            ("x", b""),
        ] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        std::fs::create_dir(folder.path().join("sub.lgp")).unwrap();
        let found: Vec<_> = packages_in(folder.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, ["a.bin", "b.lgp"]);
        assert!(packages_in(&folder.path().join("none")).is_err());
    }
}
