//! Policies from files: sources are compiled, bundles loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockgate_package::signing::TrustError;
use lockgate_package::{AlignedBytes, Digest, Kind, Package};
use lockgate_policy::{Bundle, CompileOptions, Compiled, Diagnostics, ListObject, PackageRef, Policy};

use crate::failure::Failure;
use crate::files;
use crate::trust::{Gate, untrusted};

/// A package file, opened.
#[derive(Debug)]
pub(crate) struct PackageFile {
    /// Where it lies.
    pub(crate) path: PathBuf,
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
    /// What it says.
    pub(crate) package: Package,
    /// Reading and checking it.
    pub(crate) load: std::time::Duration,
}

/// Opens a package file, if it may pass.
pub(crate) fn open_package(path: &Path, gate: &Gate) -> Result<PackageFile, Failure> {
    let started = std::time::Instant::now();
    let bytes = files::read(path)?;
    gate.admit(path, &bytes, Kind::Package)?;
    let package = Package::open(AlignedBytes::copy_of(&bytes))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    Ok(PackageFile { path: path.to_owned(), bytes, package, load: started.elapsed() })
}

/// Opens every package in a folder, unless one may not pass, with a progress bar where somebody watches.
pub(crate) fn open_packages(folder: &Path, gate: &Gate) -> Result<Vec<PackageFile>, Failure> {
    let paths = files::packages_in(folder)?;
    let progress = crate::output::progress(paths.len(), "opening packages");
    let mut packages = Vec::with_capacity(paths.len());
    for path in &paths {
        packages.push(open_package(path, gate)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(packages)
}

/// What compiling needs to know of packages.
pub(crate) fn package_refs(packages: &[PackageFile]) -> Vec<PackageRef> {
    packages.iter().map(|file| PackageRef::new(file.package.manifest(), file.package.digest())).collect()
}

/// What compiling needs to know of the packages in a folder, if one is named.
pub(crate) fn packages(folder: Option<&Path>, gate: &Gate) -> Result<Vec<PackageRef>, Failure> {
    folder.map_or(Ok(Vec::new()), |folder| Ok(package_refs(&open_packages(folder, gate)?)))
}

/// The folder of unit lists beside a bundle. Its files are named by what they hold, so several bundles share it, and a list that stays
/// as it is stays where it is.
const OBJECTS: &str = "objects";

/// Where an object of the bundle at `path` lies.
pub(crate) fn object_path(path: &Path, digest: &Digest) -> PathBuf {
    path.with_file_name(OBJECTS).join(format!("{digest}.{}", files::LIST_EXTENSION))
}

/// The objects that the bundle at `path` needs, each with its file. They are sound, and those that the bundle names.
pub(crate) fn read_objects(path: &Path, bytes: &[u8]) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let needed = Bundle::required_objects(bytes)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let read = |digest: &Digest| {
        let file = object_path(path, digest);
        if !file.exists() {
            let message =
                format!("{} needs the unit list {}, which is not there", path.display(), file.display());
            return Err(Failure::new(message).code("missing_object").hint(format!(
                "keep the folder `{OBJECTS}` beside the bundle; `lockgate policy compile` writes both"
            )));
        }
        let bytes = files::read(&file)?;
        // A damaged list is named by its file, which is more than its digest would say.
        let list = ListObject::open(AlignedBytes::copy_of(&bytes))
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        if list.digest() != *digest {
            let found =
                TrustError::WrongPin { what: Kind::UnitList.name(), found: list.digest(), expected: *digest };
            return Err(untrusted(&file, &found).hint(format!(
                "{} needs the list that the file is named after; `lockgate policy compile` writes both",
                path.display()
            )));
        }
        Ok((file, bytes))
    };
    needed.iter().map(read).collect()
}

/// Opens a bundle file with the unit lists beside it, if it may pass.
pub(crate) fn open_bundle(path: &Path, gate: &Gate) -> Result<Bundle, Failure> {
    let bytes = files::read(path)?;
    gate.admit_bundle(path, &bytes)?;
    load_bundle(path, &bytes)
}

/// Opens a bundle whose file has been read already.
pub(crate) fn load_bundle(path: &Path, bytes: &[u8]) -> Result<Bundle, Failure> {
    let objects = read_objects(path, bytes)?;
    let objects = objects.iter().map(|(_, bytes)| AlignedBytes::copy_of(bytes)).collect();
    Bundle::load_with(AlignedBytes::copy_of(bytes), objects)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Reads and checks policy source.
pub(crate) fn check_source(path: &Path, text: &str) -> Result<Policy, Diagnostics> {
    let source = lockgate_policy::parse(&path.display().to_string(), text)?;
    lockgate_policy::check(&source)
}

/// The units of the files that a policy names, which lie beside the source unless they have absolute paths.
pub(crate) fn read_lists(source: &Path, policy: &Policy) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let read = |name: &str| {
        let units = read_units(&list_path(source, name))
            .map_err(|failure| failure.hint(format!("{} names it as a list of units", source.display())))?;
        Ok((name.to_owned(), units))
    };
    policy.list_files().into_iter().map(read).collect()
}

/// Where the list of units lies that the policy source at `source` calls `name`.
pub(crate) fn list_path(source: &Path, name: &str) -> PathBuf {
    source.parent().unwrap_or(Path::new("")).join(name)
}

/// The units of a file, one a line.
fn read_units(path: &Path) -> Result<Vec<String>, Failure> {
    lockgate_policy::parse_list(&path.display().to_string(), &files::read(path)?).map_err(failure)
}

/// How a policy source becomes a bundle. Nothing of it concerns a file that is a bundle already.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) version: Option<u64>,
    pub(crate) packages: &'a [PackageRef],
    pub(crate) base: Option<&'a Bundle>,
    /// Whether versions without a package at hand get a made-up digest.
    pub(crate) stand_ins: bool,
}

impl<'a> How<'a> {
    /// For a tool that decides and runs nothing.
    pub(crate) fn tool(packages: &'a [PackageRef]) -> Self {
        Self { version: None, packages, base: None, stand_ins: true }
    }
}

/// A compiled bundle from a file, or compiled from the source in it, if the file may pass.
pub(crate) fn open(path: &Path, how: &How<'_>, gate: &Gate) -> Result<Bundle, Failure> {
    let bytes = files::read(path)?;
    if bytes.starts_with(files::MAGIC) {
        gate.admit_bundle(path, &bytes)?;
        return load_bundle(path, &bytes);
    }
    gate.admit_source(path)?;
    let (policy, lists) = read_source(path, bytes)?;
    load_compiled(&compile_source(&policy, &lists, how)?)
}

/// A checked policy and the lists that it names, from the bytes of the file at `path`.
pub(crate) fn read_source(
    path: &Path,
    bytes: Vec<u8>,
) -> Result<(Policy, BTreeMap<String, Vec<String>>), Failure> {
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(format!("{} is neither a policy source nor a compiled bundle", path.display()))
    })?;
    let policy = check_source(path, &text).map_err(failure)?;
    let lists = read_lists(path, &policy)?;
    Ok((policy, lists))
}

/// Compiles a checked policy.
pub(crate) fn compile_source(
    policy: &Policy,
    lists: &BTreeMap<String, Vec<String>>,
    how: &How<'_>,
) -> Result<Compiled, Failure> {
    let How { version, packages, base, stand_ins } = *how;
    let options = CompileOptions { version, packages, base, stand_ins, lists, ..CompileOptions::default() };
    lockgate_policy::compile(policy, &options).map_err(failure)
}

/// Opens what was compiled.
pub(crate) fn load_compiled(compiled: &Compiled) -> Result<Bundle, Failure> {
    let objects = compiled.objects.iter().map(|object| AlignedBytes::copy_of(&object.bytes)).collect();
    Bundle::load_with(AlignedBytes::copy_of(&compiled.bundle), objects)
        .map_err(|error| Failure::new(format!("the bundle that was made cannot be read back: {error}")))
}

/// How many of a policy's problems are shown to people at once; nobody reads further than that.
const SHOWN: usize = 20;

/// What is wrong with a policy, as one failure.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` calls")]
pub(crate) fn failure(diagnostics: Diagnostics) -> Failure {
    let all = diagnostics.as_slice();
    let shown: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    let failure = Failure::new(shown.join("\n"));
    match all.len().checked_sub(shown.len()) {
        None | Some(0) => failure,
        Some(more) => {
            failure.hint(format!("this is not all: `lockgate policy check` shows the other {more} as well"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_stand_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("units.txt");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_units(&path)
                .map_err(|error| error.message().replace(&path.display().to_string(), "units.txt"))
        };
        assert_eq!(
            read("\u{feff}alice\r\nZo\u{eb}\n\n# 1\n".as_bytes()).unwrap(),
            ["alice", "Zo\u{eb}", "# 1"]
        );
        assert_eq!(read(b"").unwrap(), [""; 0]);
        assert_eq!(read(b"a\n\xff\n").unwrap_err(), "units.txt:2:1: this line is not UTF-8 text");
        assert!(read(b"a\nb \n").unwrap_err().starts_with("units.txt:2:1: this unit begins or ends"));
    }
}
