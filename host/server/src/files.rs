//! Files: reading with errors that name them, writing without ever changing what others rely on.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The bytes with which every bundle and package begins.
pub(crate) const MAGIC: &[u8] = b"LOCKGATE";
/// What package files are called.
pub(crate) const PACKAGE_EXTENSION: &str = "lgp";
/// What bundle files are called.
pub(crate) const BUNDLE_EXTENSION: &str = "lgb";

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
}

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| Failure::new(format!("{} is not UTF-8 text", path.display())))
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
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new().prefix(".lockgate-").tempfile_in(folder).map_err(cannot)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
    readable_by_all(file.as_file()).map_err(cannot)?;
    // Fails when the file exists, also when it was made a moment ago by somebody else.
    match file.persist_noclobber(path) {
        Ok(_) => Ok(Written::New),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            if read(path)? == bytes {
                return Ok(Written::Unchanged);
            }
            Err(Failure::new(format!("{} exists with other content", path.display())).hint(
                "packages and bundles never change; give another name or a new version, or remove the file",
            ))
        }
        Err(error) => Err(cannot(error.error)),
    }
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
