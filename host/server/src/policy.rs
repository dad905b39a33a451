//! Policies from files: sources are compiled, bundles loaded.

use std::path::Path;

use lockgate_package::{AlignedBytes, Package};
use lockgate_policy::{Bundle, CompileOptions, Diagnostics, PackageRef};

use crate::failure::Failure;
use crate::files;

/// A package file, opened.
#[derive(Debug)]
pub(crate) struct PackageFile {
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
    /// What it says.
    pub(crate) package: Package,
    /// Reading and checking it.
    pub(crate) load: std::time::Duration,
}

/// Opens a package file.
pub(crate) fn open_package(path: &Path) -> Result<PackageFile, Failure> {
    let started = std::time::Instant::now();
    let bytes = files::read(path)?;
    let package = Package::open(AlignedBytes::copy_of(&bytes))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    Ok(PackageFile { bytes, package, load: started.elapsed() })
}

/// Opens every package in a folder, with a progress bar where somebody watches.
pub(crate) fn open_packages(folder: &Path) -> Result<Vec<PackageFile>, Failure> {
    let paths = files::packages_in(folder)?;
    let progress = crate::output::progress(paths.len(), "opening packages");
    let mut packages = Vec::with_capacity(paths.len());
    for path in &paths {
        packages.push(open_package(path)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(packages)
}

/// What compiling needs to know of packages.
pub(crate) fn package_refs(packages: &[PackageFile]) -> Vec<PackageRef> {
    packages.iter().map(|file| PackageRef::new(file.package.manifest(), file.package.digest())).collect()
}

/// Opens a bundle file.
pub(crate) fn open_bundle(path: &Path) -> Result<Bundle, Failure> {
    let bytes = files::read(path)?;
    Bundle::load(AlignedBytes::copy_of(&bytes))
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Reads and checks policy source.
pub(crate) fn check_source(path: &Path, text: &str) -> Result<lockgate_policy::Policy, Diagnostics> {
    let source = lockgate_policy::parse(&path.display().to_string(), text)?;
    lockgate_policy::check(&source)
}

/// The bytes of a bundle: the file's own, or compiled from source.
pub(crate) fn bundle_bytes(path: &Path, options: &CompileOptions<'_>) -> Result<Vec<u8>, Failure> {
    let bytes = files::read(path)?;
    if bytes.starts_with(files::MAGIC) {
        return Ok(bytes);
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(format!("{} is neither a policy source nor a compiled bundle", path.display()))
    })?;
    check_source(path, &text).and_then(|policy| lockgate_policy::compile(&policy, options)).map_err(failure)
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
            failure.hint(format!("{more} more problems; `lockgate policy check --json` lists them all"))
        }
    }
}
