//! What is installed: a bundle and its packages, checked against each other and loaded once before anyone is served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate_abi::Reply;
use lockgate_package::signing::{Accepted, Demands, TrustError};
use lockgate_package::{AlignedBytes, Digest, Kind, Manifest, Package, Signature, TensorSpec};
use lockgate_policy::{Bundle, ListObject, Placement, RouteView, VariantView};

use crate::engine::{Closing, Guest, Guests};
use crate::worker::{failed, fault};
use crate::{BundleId, Content, Contents, Context, InstallError, RuntimeError, Settings, Trust};

/// A bundle and the packages that it pins, as they serve together. It never changes; installing makes a new one.
#[derive(Debug)]
pub struct Generation {
    pub(crate) number: u64,
    pub(crate) policy: Option<Policy>,
    pub(crate) models: BTreeMap<Digest, Arc<InstalledModel>>,
}

/// An installed bundle.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) bundle: Bundle,
    pub(crate) load: Duration,
}

/// An installed package.
#[derive(Debug)]
pub struct InstalledModel {
    pub(crate) package: Package,
    pub(crate) load: Duration,
}

impl Generation {
    pub(crate) fn empty() -> Self {
        Self { number: 0, policy: None, models: BTreeMap::new() }
    }

    /// How often something was installed, this time included.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The bundle, to look routes and their signatures up.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.policy.as_ref().map(|policy| &policy.bundle)
    }

    /// The packages, by digest.
    pub fn models(&self) -> impl ExactSizeIterator<Item = &InstalledModel> {
        self.models.values().map(Arc::as_ref)
    }

    /// The package with this digest.
    pub fn model(&self, digest: &Digest) -> Option<&InstalledModel> {
        self.models.get(digest).map(Arc::as_ref)
    }

    /// The definition of a route that a context may see.
    pub(crate) fn resolve(
        &self,
        route: &str,
        context: &Context,
        now_ms: i64,
        unavailable: &[[u8; 32]],
    ) -> Result<RouteView<'_>, RuntimeError> {
        let bundle = self.bundle().ok_or(RuntimeError::NoBundle)?;
        let seen = bundle.resolve(&context.for_route(route), now_ms, unavailable);
        seen.ok_or_else(|| RuntimeError::UnknownRoute { route: route.to_owned() })
    }

    /// The variant of a route that a caller pins by `<version>`, which must be unique in the route, or by
    /// `<model>@<version>`.
    ///
    /// # Errors
    /// An unknown or ambiguous version.
    pub fn pinned<'g>(
        &'g self,
        view: &RouteView<'g>,
        version: &str,
    ) -> Result<VariantView<'g>, RuntimeError> {
        let route = view.name();
        let name = |variant: &VariantView<'_>| model_name(variant.model, variant.version);
        let mut versions: Vec<VariantView<'_>> = Vec::new();
        for variant in view.variants() {
            if !versions.iter().any(|have| (have.model, have.version) == (variant.model, variant.version)) {
                versions.push(variant);
            }
        }
        let wanted: Vec<_> = versions
            .iter()
            .filter(|variant| variant.version == version || name(variant) == version)
            .collect();
        match wanted.as_slice() {
            [variant] => Ok(**variant),
            [] => Err(RuntimeError::UnknownVersion {
                route: route.to_owned(),
                version: version.to_owned(),
                available: versions.iter().map(name).collect(),
            }),
            several => Err(RuntimeError::AmbiguousVersion {
                route: route.to_owned(),
                version: version.to_owned(),
                candidates: several.iter().map(|variant| name(variant)).collect(),
            }),
        }
    }
}

impl Policy {
    pub(crate) fn id(&self) -> BundleId {
        BundleId { version: self.bundle.version(), digest: self.bundle.digest() }
    }
}

impl InstalledModel {
    /// What the package says about its model.
    pub fn manifest(&self) -> &Manifest {
        self.package.manifest()
    }

    /// SHA-256 of the package's content.
    pub fn digest(&self) -> Digest {
        self.package.digest()
    }

    /// The package's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.package.envelope().as_bytes()
    }

    pub(crate) fn name(&self) -> String {
        model_name(&self.manifest().model, &self.manifest().version)
    }
}

pub(crate) fn model_name(model: &str, version: &str) -> String {
    format!("{model}@{version}")
}

/// What an installation brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// How often something was installed, this time included.
    pub generation: u64,
    /// The bundle.
    pub bundle: Option<BundleId>,
    /// How many packages serve.
    pub models: usize,
    /// Packages that were given but that the bundle does not pin to run here, `model@version`. They are not installed.
    pub unused: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// Builds the next generation. `current` is what serves now; what it shares with the next one is not loaded again.
pub(crate) fn build(
    guests: &Guests,
    settings: &Settings,
    current: &Generation,
    newest: Option<BundleId>,
    contents: Contents,
    mut trust: Option<Trust<'_>>,
) -> Result<(Generation, Vec<String>), InstallError> {
    let bundle_name = contents.bundle.as_ref().map(|bundle| bundle.name.clone()).unwrap_or_default();
    let demands = demands(trust.as_ref(), newest);
    let Checked { bundle, packages, unused } =
        Checked::new(contents, &demands, &[Placement::Edge, Placement::Host])?;

    let mut models = BTreeMap::new();
    for (digest, package) in packages {
        let model = match current.models.get(&digest) {
            Some(model) => Arc::clone(model),
            None => Arc::new(load_model(guests, settings, package)?),
        };
        models.insert(digest, model);
    }
    let policy = bundle.map(|bundle| load_policy(guests, settings, current, bundle)).transpose()?;
    // The last thing that can fail: what is recorded serves, and what serves is recorded.
    let accepted = policy.as_ref().map(|policy| accepted(&policy.bundle));
    if let (Some(accepted), Some(trust)) = (accepted, &mut trust)
        && trust.demands.newest != Some(accepted)
    {
        (trust.record)(accepted)
            .map_err(|problem| InstallError::NotRecorded { name: bundle_name, problem })?;
    }
    Ok((Generation { number: current.number.saturating_add(1), policy, models }, unused))
}

/// A bundle and packages that meet what is demanded of them and fit each other. None of them has been loaded into the core.
#[derive(Debug)]
pub struct Checked {
    /// The bundle, with its unit lists.
    pub bundle: Option<Bundle>,
    /// The packages that the bundle needs; without one, all that were given.
    pub packages: BTreeMap<Digest, Package>,
    /// Packages that were given but that the bundle does not need, `model@version`.
    pub unused: Vec<String>,
}

impl Checked {
    /// Checks what is to be loaded where the versions with one of the placements `runs` run.
    ///
    /// # Errors
    /// What a loader refuses: a demand that is not met, content that cannot be read, packages that are missing, that are not the
    /// pinned ones, or that do not fit their routes.
    pub fn new(contents: Contents, demands: &Demands, runs: &[Placement]) -> Result<Self, InstallError> {
        check_bytes(demands, &contents)?;
        let Contents { bundle, lists, packages } = contents;
        let mut given = BTreeMap::new();
        let mut files = BTreeMap::new();
        for Content { name, bytes } in packages {
            let package = open(&bytes, &name)?;
            drop(bytes);
            files.insert(package.digest(), name);
            given.insert(package.digest(), package);
        }
        ensure_names_are_unique(&given)?;

        let bundle_name = bundle.as_ref().map(|bundle| bundle.name.clone()).unwrap_or_default();
        let bundle = bundle.map(|bundle| {
            let aligned = AlignedBytes::copy_of(&bundle.bytes);
            drop(bundle);
            // Each list is let go of as soon as it is copied: together they may be large.
            let lists = lists.into_iter().map(|list| AlignedBytes::copy_of(&list.bytes)).collect();
            Bundle::load_with(aligned, lists).map_err(|error| InstallError::Bundle(error.to_string()))
        });
        let bundle = bundle.transpose()?;
        let mut unused = Vec::new();
        if let Some(bundle) = &bundle {
            demands
                .check_version(accepted(bundle), bundle.parent())
                .map_err(|error| InstallError::Untrusted { name: bundle_name, error: Box::new(error) })?;
            let needed = needed(bundle, &given, &files, runs)?;
            given.retain(|digest, package| {
                let keep = needed.contains(digest);
                if !keep {
                    unused.push(model_name(&package.manifest().model, &package.manifest().version));
                }
                keep
            });
            ensure_signatures_fit(bundle, &given)?;
        }
        Ok(Self { bundle, packages: given, unused })
    }
}

/// What is demanded of these contents: what the caller demands, and always that versions rise.
fn demands(trust: Option<&Trust<'_>>, newest: Option<BundleId>) -> Demands {
    let mut demands = trust.map(|trust| trust.demands.clone()).unwrap_or_default();
    let here = newest.map(|BundleId { version, digest }| Accepted { version, digest });
    let is_newer = |here: &Accepted| demands.newest.is_none_or(|known| known.version < here.version);
    demands.newest = here.filter(is_newer).or(demands.newest);
    demands
}

fn check_bytes(demands: &Demands, contents: &Contents) -> Result<(), InstallError> {
    if contents.bundle.is_none() && demands.is_of_bundle() {
        let error = Box::new(TrustError::NoBundle);
        return Err(InstallError::Untrusted { name: "nothing is installed".to_owned(), error });
    }
    // Without a bundle nothing names the digests of the packages, so each must speak for itself.
    let sign_packages = demands.sign_packages || contents.bundle.is_none();
    let demands = Demands { sign_packages, ..demands.clone() };
    let bundle = contents.bundle.iter().map(|content| (Kind::Bundle, content));
    let packages = contents.packages.iter().map(|content| (Kind::Package, content));
    for (kind, Content { name, bytes }) in bundle.chain(packages) {
        demands
            .check_bytes(bytes, kind)
            .map_err(|error| InstallError::Untrusted { name: name.clone(), error: Box::new(error) })?;
    }
    Ok(())
}

fn accepted(bundle: &Bundle) -> Accepted {
    Accepted { version: bundle.version(), digest: bundle.digest() }
}

fn open(bytes: &[u8], name: &str) -> Result<Package, InstallError> {
    Package::open(AlignedBytes::copy_of(bytes))
        .map_err(|error| InstallError::Package { name: name.to_owned(), problem: error.to_string() })
}

fn ensure_names_are_unique(packages: &BTreeMap<Digest, Package>) -> Result<(), InstallError> {
    let mut names = BTreeMap::new();
    for (digest, package) in packages {
        let name = model_name(&package.manifest().model, &package.manifest().version);
        if let Some(first) = names.insert(name.clone(), *digest) {
            return Err(InstallError::Conflict { name, first, second: *digest });
        }
    }
    Ok(())
}

/// The packages that the bundle wants to run here. All that are missing, or that are other ones, are reported at once.
fn needed(
    bundle: &Bundle,
    given: &BTreeMap<Digest, Package>,
    files: &BTreeMap<Digest, String>,
    runs: &[Placement],
) -> Result<Vec<Digest>, InstallError> {
    let file = |digest: &Digest| files.get(digest).map_or("the one given", String::as_str);
    let mut needed = Vec::new();
    let mut missing = Vec::new();
    let mut wrong = false;
    for model in bundle.models().filter(|model| runs.contains(&model.placement)) {
        let name = model_name(model.name, model.version);
        let pinned = model.digest.short();
        let name_of = |package: &Package| {
            let manifest = package.manifest();
            model_name(&manifest.model, &manifest.version)
        };
        match given.get(&model.digest) {
            Some(package) if name == name_of(package) => needed.push(model.digest),
            Some(package) => {
                wrong = true;
                let found = name_of(package);
                missing.push(format!("{name} is pinned to package {pinned}, which is {found}"));
            }
            None => missing.push(match given.values().find(|package| name_of(package) == name) {
                Some(other) => {
                    wrong = true;
                    let (file, found) = (file(&other.digest()), other.digest().short());
                    format!("{name} is pinned to package {pinned}, {file} is {found}")
                }
                None => format!("{name}, package {pinned}"),
            }),
        }
    }
    match (missing.is_empty(), wrong) {
        (true, _) => Ok(needed),
        (false, false) => Err(InstallError::Missing(missing)),
        (false, true) => Err(InstallError::WronglyPinned(missing)),
    }
}

fn ensure_signatures_fit(bundle: &Bundle, packages: &BTreeMap<Digest, Package>) -> Result<(), InstallError> {
    const LISTED: usize = 20;
    let mut problems = Vec::new();
    // Many routes share few signatures and models: compare each pair once.
    let mut fitting: Vec<(Digest, Signature)> = Vec::new();
    for route in bundle.routes() {
        let signature = route.signature().map_err(|error| InstallError::Bundle(error.to_string()))?;
        for variant in route.variants() {
            let Some(package) = packages.get(&variant.digest) else { continue };
            if fitting.iter().any(|(digest, fits)| (*digest, fits) == (variant.digest, &signature)) {
                continue;
            }
            match misfit(&signature, &package.manifest().signature) {
                Some(problem) => problems.push(describe(&route, &variant, &problem)),
                None => fitting.push((variant.digest, signature.clone())),
            }
        }
        if problems.len() >= LISTED {
            break;
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(InstallError::Signature(problems)) }
}

fn describe(route: &RouteView<'_>, variant: &VariantView<'_>, problem: &str) -> String {
    let model = model_name(variant.model, variant.version);
    format!("route `{}`, variant `{}`, {model}: {problem}", route.name(), variant.name)
}

/// What keeps a model from serving a route.
fn misfit(route: &Signature, model: &Signature) -> Option<String> {
    let show = |spec: &TensorSpec| format!("{} {:?}", spec.datatype, spec.shape);
    let sides = [("input", &route.inputs, &model.inputs), ("output", &route.outputs, &model.outputs)];
    for (what, route, model) in sides {
        for want in route {
            let Some(have) = model.iter().find(|have| have.name == want.name) else {
                return Some(format!("the route has {what} `{}`, the model does not", want.name));
            };
            let free = |(a, b): (&i64, &i64)| a == b || *a == -1 || *b == -1;
            let fits = want.datatype == have.datatype
                && want.shape.len() == have.shape.len()
                && want.shape.iter().zip(&have.shape).all(free);
            if !fits {
                let name = &want.name;
                return Some(format!(
                    "{what} `{name}`: expected {}, the model has {}",
                    show(want),
                    show(have)
                ));
            }
        }
    }
    let extra = model.inputs.iter().find(|have| route.inputs.iter().all(|want| want.name != have.name));
    extra.map(|input| format!("the model needs input `{}`, the route does not have it", input.name))
}

fn load_model(
    guests: &Guests,
    settings: &Settings,
    package: Package,
) -> Result<InstalledModel, InstallError> {
    let manifest = package.manifest();
    let name = model_name(&manifest.model, &manifest.version);
    let guest = guests.inference(manifest.engine).map_err(|problem| InstallError::Module {
        name: name.clone(),
        flavour: match manifest.engine {
            lockgate_package::Engine::Tabular => "tabular",
            lockgate_package::Engine::Graph => "graph",
        },
        problem,
    })?;
    let contents = [package.envelope().as_bytes()].into_iter();
    let load = try_load(guest, settings.inference_memory, settings, contents, &name)?;
    Ok(InstalledModel { package, load })
}

fn load_policy(
    guests: &Guests,
    settings: &Settings,
    current: &Generation,
    bundle: Bundle,
) -> Result<Policy, InstallError> {
    if let Some(policy) = current.policy.as_ref().filter(|policy| policy.bundle.digest() == bundle.digest()) {
        return Ok(Policy { bundle, load: policy.load });
    }
    let name = format!("bundle version {}", bundle.version());
    let load = try_load(&guests.policy, settings.policy_memory, settings, policy_contents(&bundle), &name)?;
    Ok(Policy { bundle, load })
}

/// What an instance of the policy module is loaded with: the unit lists, then the bundle that names them.
pub(crate) fn policy_contents(bundle: &Bundle) -> impl Iterator<Item = &[u8]> {
    bundle.list_objects().iter().map(ListObject::as_bytes).chain([bundle.as_bytes()])
}

/// Loads into an instance of its own, which is dropped again; returns how long that took.
fn try_load<'c>(
    guest: &Guest,
    memory: usize,
    settings: &Settings,
    contents: impl Iterator<Item = &'c [u8]>,
    name: &str,
) -> Result<Duration, InstallError> {
    let begin = Instant::now();
    let refuse = |error| InstallError::Load { name: name.to_owned(), error };
    let mut instance = guest
        .instance(memory, &Closing::default())
        .map_err(|error| refuse(RuntimeError::Internal { message: format!("no instance: {error:#}") }))?;
    for bytes in contents {
        match instance.load(bytes, begin + settings.load_deadline) {
            Ok(Reply::Done(_)) => {}
            Ok(Reply::Failed(failure)) => return Err(refuse(failed(guest.name, failure))),
            Err(failure) => {
                return Err(refuse(fault(guest.name, failure, settings.load_deadline, "loading")));
            }
        }
    }
    Ok(begin.elapsed())
}
