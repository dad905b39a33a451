//! What is served: the policy and the packages, from files into the runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockgate_package::Digest;
use lockgate_policy::{CompileOptions, PackageRef, RouteView};
use lockgate_runtime::{Installed, Runtime};

use crate::failure::Failure;
use crate::{files, policy};

/// The files and how reading them went. A load that fails leaves what was installed before.
pub(crate) struct Repository {
    policy: PathBuf,
    packages: Option<PathBuf>,
    last: Mutex<Option<LastLoad>>,
    loading: Mutex<()>,
}

/// How the latest load went.
#[derive(Debug, Clone)]
pub(crate) struct LastLoad {
    /// Reading, compiling and installing all of it.
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
    /// Reading and checking each package's file.
    pub(crate) reads: BTreeMap<Digest, Duration>,
}

/// A version of a route, as a path can name it.
pub(crate) struct RouteVersion<'a> {
    /// `<version>` if only one model of the route has it, else `<model>@<version>`.
    pub(crate) name: String,
    pub(crate) model: &'a str,
    pub(crate) version: &'a str,
    pub(crate) digest: Digest,
}

impl Repository {
    pub(crate) fn new(policy: PathBuf, packages: Option<PathBuf>) -> Self {
        Self { policy, packages, last: Mutex::new(None), loading: Mutex::new(()) }
    }

    /// How the latest load went; `None` while the first is under way.
    pub(crate) fn last_load(&self) -> Option<LastLoad> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files and installs them. Takes as long as that takes.
    pub(crate) fn load(&self, runtime: &Runtime) -> Result<Installed, Failure> {
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        let mut reads = BTreeMap::new();
        let result = self.install(runtime, &mut reads);
        let error = result.as_ref().err().map(ToString::to_string);
        let last = LastLoad { took: started.elapsed(), error, reads };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        result
    }

    fn install(
        &self,
        runtime: &Runtime,
        reads: &mut BTreeMap<Digest, Duration>,
    ) -> Result<Installed, Failure> {
        let packages = match &self.packages {
            Some(folder) => policy::open_packages(folder)?,
            None => Vec::new(),
        };
        reads.extend(packages.iter().map(|file| (file.package.digest(), file.load)));
        let bundle = self.bundle(runtime, &policy::package_refs(&packages))?;
        let packages = packages.into_iter().map(|file| file.bytes).collect();
        runtime.install(Some(bundle), packages).map_err(|error| Failure::new(error.to_string()))
    }

    /// The bundle's bytes. A source that gives no version gets one: 1 at first, one more whenever its content has changed.
    fn bundle(&self, runtime: &Runtime, packages: &[PackageRef]) -> Result<Vec<u8>, Failure> {
        let bytes = files::read(&self.policy)?;
        if bytes.starts_with(files::MAGIC) {
            return Ok(bytes);
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::new(format!(
                "{} is neither a policy source nor a compiled bundle",
                self.policy.display()
            ))
        })?;
        let source = policy::check_source(&self.policy, &text).map_err(policy::failure)?;
        let compile = |version| {
            let options = CompileOptions { version, packages, ..CompileOptions::default() };
            lockgate_policy::compile(&source, &options).map_err(policy::failure)
        };
        let generation = runtime.generation();
        let Some(current) = generation.bundle().filter(|_| source.version.is_none()) else {
            return compile(None);
        };
        let unchanged = compile(Some(current.version()))?;
        if unchanged == current.as_bytes() {
            return Ok(unchanged);
        }
        compile(Some(current.version().saturating_add(1)))
    }
}

/// The versions of a route, each once, in the order of its variants.
pub(crate) fn versions<'a>(route: &RouteView<'a>) -> Vec<RouteVersion<'a>> {
    let mut all: Vec<RouteVersion<'a>> = Vec::new();
    for variant in route.variants() {
        let (model, version, digest) = (variant.model, variant.version, variant.digest);
        if !all.iter().any(|have| have.model == model && have.version == version) {
            all.push(RouteVersion { name: String::new(), model, version, digest });
        }
    }
    let names: Vec<String> = all
        .iter()
        .map(|one| match all.iter().filter(|other| other.version == one.version).count() {
            1 => one.version.to_owned(),
            _ => format!("{}@{}", one.model, one.version),
        })
        .collect();
    for (one, name) in all.iter_mut().zip(names) {
        one.name = name;
    }
    all
}
