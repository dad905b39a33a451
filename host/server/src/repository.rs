//! What is served: the policy and the packages, from files into the runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockgate_package::{Digest, Kind};
use lockgate_policy::{Compiled, Object, PackageRef};
use lockgate_runtime::{Content, Contents, InstallError, Installed, Runtime, Trust};

use crate::failure::Failure;
use crate::trust::{Gate, TrustSettings};
use crate::{files, policy};

/// The files and how reading them went. A load that fails leaves what was installed before.
pub(crate) struct Repository {
    policy: PathBuf,
    packages: Option<PathBuf>,
    trust: TrustSettings,
    last: Mutex<Option<LastLoad>>,
    loading: Mutex<()>,
}

/// How the latest load went.
#[derive(Debug, Clone)]
pub(crate) struct LastLoad {
    /// Reading, compiling and installing all of it.
    pub(crate) took: Duration,
    pub(crate) error: Option<String>,
    /// A stable word for what went wrong, where there is one.
    pub(crate) code: Option<&'static str>,
    /// Reading and checking each package's file.
    pub(crate) reads: BTreeMap<Digest, Duration>,
}

impl Repository {
    pub(crate) fn new(policy: PathBuf, packages: Option<PathBuf>, trust: TrustSettings) -> Self {
        Self { policy, packages, trust, last: Mutex::new(None), loading: Mutex::new(()) }
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
        let code = result.as_ref().err().and_then(Failure::code_text);
        let last = LastLoad { took: started.elapsed(), error, code, reads };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        result
    }

    fn install(
        &self,
        runtime: &Runtime,
        reads: &mut BTreeMap<Digest, Duration>,
    ) -> Result<Installed, Failure> {
        let gate = self.trust.gate(|_| true)?;
        let packages = match &self.packages {
            Some(folder) => policy::open_packages(folder, &gate)?,
            None => Vec::new(),
        };
        reads.extend(packages.iter().map(|file| (file.package.digest(), file.load)));
        let (bundle, lists) = self.bundle(runtime, &gate, &policy::package_refs(&packages))?;
        let named = |file: policy::PackageFile| Content::new(file.path.display().to_string(), file.bytes);
        let contents = Contents {
            bundle: Some(Content::new(self.policy.display().to_string(), bundle)),
            lists,
            packages: packages.into_iter().map(named).collect(),
            baked: None,
        };
        let mut record = |accepted| self.trust.record(accepted);
        let trust = Trust { demands: gate.into_demands(), record: &mut record };
        runtime.install_contents(contents, Some(trust)).map_err(|error| install_failure(&error))
    }

    /// The bundle and the unit lists that it needs. A source that gives no version gets one: 1 at first, one more whenever its content has
    /// changed.
    fn bundle(
        &self,
        runtime: &Runtime,
        gate: &Gate,
        packages: &[PackageRef],
    ) -> Result<(Vec<u8>, Vec<Content>), Failure> {
        let bytes = files::read(&self.policy)?;
        if bytes.starts_with(files::MAGIC) {
            gate.admit(&self.policy, &bytes, Kind::Bundle)?;
            let objects = policy::read_objects(&self.policy, &bytes)?.into_iter();
            let lists = objects.map(|(file, bytes)| Content::new(file.display().to_string(), bytes));
            return Ok((bytes, lists.collect()));
        }
        gate.admit_source(&self.policy)?;
        let (source, lists) = policy::read_source(&self.policy, bytes)?;
        let compile = |version| {
            let how = policy::How { version, packages, base: None, stand_ins: false };
            let Compiled { bundle, objects, .. } = policy::compile_source(&source, &lists, &how)?;
            let named = |object: Object| Content::new(format!("sha256:{}", object.digest), object.bytes);
            Ok((bundle, objects.into_iter().map(named).collect()))
        };
        let generation = runtime.generation();
        let Some(current) = generation.bundle().filter(|_| source.version.is_none()) else {
            return compile(None);
        };
        let unchanged: (Vec<u8>, Vec<Content>) = compile(Some(current.version()))?;
        if unchanged.0 == current.as_bytes() {
            return Ok(unchanged);
        }
        compile(Some(current.version().saturating_add(1)))
    }
}

/// How an installation failed, for people and programs.
pub(crate) fn install_failure(error: &InstallError) -> Failure {
    let failure = Failure::new(error.to_string()).code(error.code());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
