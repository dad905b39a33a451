//! What is installed: a bundle and its packages, checked against each other and loaded once before anyone is served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockgate_abi::Reply;
use lockgate_core::BakedModules;
use lockgate_package::signing::{Accepted, Demands, TrustError};
use lockgate_package::{AlignedBytes, Digest, Kind, Manifest, Package, Signature, TensorSpec};
use lockgate_policy::{Bundle, ListObject, Placement, RouteView, VariantView};
use lockgate_shell::versions::{self, model_name};

use crate::engine::{Closing, Guest, Guests};
use crate::worker::fault;
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
    /// A module that holds the bundle.
    pub(crate) baked: Option<Arc<Guest>>,
}

/// An installed package.
#[derive(Debug)]
pub struct InstalledModel {
    pub(crate) package: Package,
    pub(crate) load: Duration,
    /// A module that holds the package, and the package's handle in it.
    pub(crate) baked: Option<(Arc<Guest>, u32)>,
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
        versions::pinned(view.name(), view.variants(), version)
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

fn package_name(package: &Package) -> String {
    model_name(&package.manifest().model, &package.manifest().version)
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
    mut contents: Contents,
    mut trust: Option<Trust<'_>>,
) -> Result<(Generation, Vec<String>), InstallError> {
    let bundle_name = contents.bundle.as_ref().map(|bundle| bundle.name.clone()).unwrap_or_default();
    let demands = demands(trust.as_ref(), newest);
    let baked = contents.baked.take();
    let Checked { bundle, packages, unused } =
        Checked::new(contents, &demands, &[Placement::Edge, Placement::Host])?;
    refuse_mocks(settings, &packages)?;

    let images = Images::new(guests, baked.as_ref(), bundle.as_ref(), &packages)?;
    let mut models = BTreeMap::new();
    for (digest, package) in packages {
        let image = images.inference.as_ref().and_then(|inference| inference.of(&digest));
        let model = match (current.models.get(&digest), image) {
            (_, Some(image)) => Arc::new(wake_model(settings, package, image)?),
            (Some(model), None) => Arc::clone(model),
            (None, None) => Arc::new(load_model(guests, settings, package)?),
        };
        models.insert(digest, model);
    }
    let policy = match (bundle, images.policy) {
        (Some(bundle), Some(image)) => Some(wake_policy(settings, bundle, image)?),
        (Some(bundle), None) => Some(load_policy(guests, settings, current, bundle)?),
        (None, _) => None,
    };
    // The last thing that can fail: what is recorded serves, and what serves is recorded.
    let accepted = policy.as_ref().map(|policy| accepted(&policy.bundle));
    if let (Some(accepted), Some(trust)) = (accepted, &mut trust)
        && trust.demands.newest != Some(accepted)
    {
        (trust.record)(accepted)
            .map_err(|problem| InstallError::NotRecorded { name: bundle_name, problem })?;
    }
    let unused = unused.values().map(package_name).collect();
    Ok((Generation { number: current.number.saturating_add(1), policy, models }, unused))
}

/// A bundle and packages that meet what is demanded of them and fit each other. None of them has been loaded into the core.
#[derive(Debug)]
pub struct Checked {
    /// The bundle, with its unit lists.
    pub bundle: Option<Bundle>,
    /// The packages that the bundle needs; without one, all that were given.
    pub packages: BTreeMap<Digest, Package>,
    /// Packages that were given but that the bundle does not need here.
    pub unused: BTreeMap<Digest, Package>,
}

impl Checked {
    /// Checks what is to be loaded where the versions with one of the placements `runs` run.
    ///
    /// # Errors
    /// What a loader refuses: a demand that is not met, content that cannot be read, packages that are missing, that are not the
    /// pinned ones, or that do not fit their routes.
    pub fn new(contents: Contents, demands: &Demands, runs: &[Placement]) -> Result<Self, InstallError> {
        check_bytes(demands, &contents)?;
        let Contents { bundle, lists, packages, baked: _ } = contents;
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
        let mut unused = BTreeMap::new();
        if let Some(bundle) = &bundle {
            demands
                .check_version(accepted(bundle), bundle.parent())
                .map_err(|error| InstallError::Untrusted { name: bundle_name, error: Box::new(error) })?;
            let needed = needed(bundle, &given, &files, runs)?;
            (given, unused) = given.into_iter().partition(|(digest, _)| needed.contains(digest));
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

/// A mock answers, and nothing of what it says was learnt.
fn refuse_mocks(settings: &Settings, packages: &BTreeMap<Digest, Package>) -> Result<(), InstallError> {
    let is_mock = |package: &&Package| settings.production && package.manifest().mock;
    let mocks: Vec<String> = packages.values().filter(is_mock).map(package_name).collect();
    if mocks.is_empty() { Ok(()) } else { Err(InstallError::Mock(mocks)) }
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
        match given.get(&model.digest) {
            Some(package) if name == package_name(package) => needed.push(model.digest),
            Some(package) => {
                wrong = true;
                let found = package_name(package);
                missing.push(format!("{name} is pinned to package {pinned}, which is {found}"));
            }
            None => missing.push(match given.values().find(|package| package_name(package) == name) {
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
        flavour: manifest.engine.name(),
        problem,
    })?;
    let contents = [package.envelope().as_bytes()].into_iter();
    let load = try_load(guest, settings.inference_memory, settings, contents, &name)?;
    Ok(InstalledModel { package, load, baked: None })
}

fn load_policy(
    guests: &Guests,
    settings: &Settings,
    current: &Generation,
    bundle: Bundle,
) -> Result<Policy, InstallError> {
    if let Some(policy) = current.policy.as_ref().filter(|policy| policy.bundle.digest() == bundle.digest()) {
        return Ok(Policy { bundle, load: policy.load, baked: policy.baked.clone() });
    }
    let name = format!("bundle version {}", bundle.version());
    let load = try_load(&guests.policy, settings.policy_memory, settings, policy_contents(&bundle), &name)?;
    Ok(Policy { bundle, load, baked: None })
}

/// Baked modules, compiled, of which instances can be made for what is installed.
struct Images {
    policy: Option<Arc<Guest>>,
    inference: Option<InferenceImage>,
}

struct InferenceImage {
    guest: Arc<Guest>,
    /// The packages in it, in the order of their handles.
    packages: Vec<Digest>,
}

impl Images {
    /// Compiles those that hold something of what is installed.
    fn new(
        guests: &Guests,
        baked: Option<&BakedModules>,
        bundle: Option<&Bundle>,
        packages: &BTreeMap<Digest, Package>,
    ) -> Result<Self, InstallError> {
        let Some(BakedModules { manifest, policy, inference }) = baked else {
            return Ok(Self { policy: None, inference: None });
        };
        let unusable = |module| move |problem| InstallError::Baked { module, problem };
        let policy = match (&manifest.bundle, bundle) {
            (Some(baked), Some(bundle)) if baked.digest == bundle.digest() => {
                Some(Arc::new(guests.policy_image(policy).map_err(unusable("policy"))?))
            }
            (Some(baked), Some(bundle)) => {
                let (found, expected) = (baked.version, bundle.version());
                let problem = format!(
                    "it holds version {found} of the bundle, {}; version {expected}, {}, is installed",
                    baked.digest.short(),
                    bundle.digest().short()
                );
                return Err(unusable("policy")(problem));
            }
            _ => None,
        };
        let holds: Vec<Digest> = manifest.packages.iter().map(|package| package.digest).collect();
        let inference = if holds.iter().any(|digest| packages.contains_key(digest)) {
            let flavour = manifest.inference.flavour.unwrap_or(lockgate_package::Engine::Tabular);
            let guest = guests.inference_image(inference, flavour).map_err(unusable("inference"))?;
            Some(InferenceImage { guest: Arc::new(guest), packages: holds })
        } else {
            None
        };
        Ok(Self { policy, inference })
    }
}

impl InferenceImage {
    /// The module that holds this package, and the package's handle.
    fn of(&self, package: &Digest) -> Option<(Arc<Guest>, u32)> {
        let place = self.packages.iter().position(|digest| digest == package)?;
        Some((Arc::clone(&self.guest), u32::try_from(place).ok()?))
    }
}

fn wake_model(
    settings: &Settings,
    package: Package,
    (guest, handle): (Arc<Guest>, u32),
) -> Result<InstalledModel, InstallError> {
    let load = try_wake(&guest, settings.inference_memory, settings, handle, package.digest())
        .map_err(|problem| InstallError::Baked { module: "inference", problem })?;
    Ok(InstalledModel { package, load, baked: Some((guest, handle)) })
}

fn wake_policy(settings: &Settings, bundle: Bundle, guest: Arc<Guest>) -> Result<Policy, InstallError> {
    let load = try_wake(&guest, settings.policy_memory, settings, 0, bundle.digest())
        .map_err(|problem| InstallError::Baked { module: "policy", problem })?;
    Ok(Policy { bundle, load, baked: Some(guest) })
}

/// Asks an instance of its own, which is dropped again, whether it holds what it should; returns how long that took.
fn try_wake(
    guest: &Guest,
    memory: usize,
    settings: &Settings,
    index: u32,
    expected: Digest,
) -> Result<Duration, String> {
    let begin = Instant::now();
    let mut instance =
        guest.instance(memory, &Closing::default()).map_err(|error| format!("no instance: {error:#}"))?;
    match instance.loaded(index, begin + settings.load_deadline) {
        Ok(Reply::Done(response)) if response.digest == expected.0 => Ok(begin.elapsed()),
        Ok(Reply::Done(response)) => Err(format!(
            "it holds {} as number {index}, its manifest says {}",
            Digest(response.digest).short(),
            expected.short()
        )),
        Ok(Reply::Failed(failure)) => {
            Err(format!("asked what it holds as number {index}, it says: {}", failure.message))
        }
        Err(failure) => Err(fault(guest.name, failure, settings.load_deadline, "waking up").to_string()),
    }
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
            Ok(Reply::Failed(failure)) => return Err(refuse(RuntimeError::reported(guest.name, failure))),
            Err(failure) => {
                return Err(refuse(fault(guest.name, failure, settings.load_deadline, "loading")));
            }
        }
    }
    Ok(begin.elapsed())
}
