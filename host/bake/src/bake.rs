//! Which modules, and what goes into them.

use lockgate_core::{BAKED_FORMAT, BakedManifest, CoreModules};
use lockgate_edge::Catalog;
use lockgate_package::{Engine, Package};
use lockgate_policy::{Bundle, ListObject, Placement};
use lockgate_runtime::{Checked, Contents, Demands, InstallError};

use crate::image::Part;
use crate::{BakeError, CATALOG, Image, manifest};

/// How to bake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The flavour of the inference module; `None` takes the smallest that runs the packages.
    pub flavour: Option<Engine>,
    /// Versions with these placements run in the baked module, so the bundle's packages for them must be there. Packages for other
    /// placements are left out.
    pub placements: Vec<Placement>,
}

impl Default for Options {
    /// What an edge needs.
    fn default() -> Self {
        Self { flavour: None, placements: vec![Placement::Edge] }
    }
}

/// What was baked: both modules, so that a shell has all that it needs, and what they hold.
#[derive(Debug)]
pub struct Baked {
    /// The policy module, plain when there was no bundle.
    pub policy: Image,
    /// The inference module, plain when there were no packages.
    pub inference: Image,
    /// What the modules hold; goes to the file [`MANIFEST`](lockgate_core::MANIFEST).
    pub manifest: BakedManifest,
    /// The names that the bundle gives; goes to the file [`CATALOG`](crate::CATALOG). JSON, `null` without a bundle.
    pub catalog: Vec<u8>,
    /// The component that tells an application which core it is composed with; goes to the file [`ABOUT`](lockgate_compose::ABOUT). `None` when the core
    /// came without components.
    pub about: Option<Vec<u8>>,
    /// Packages that were given but left out, because the bundle does not need them here, `model@version`.
    pub unused: Vec<String>,
    /// Versions of the bundle that need a package here when none was given at all, `model@version`.
    pub unbaked: Vec<String>,
}

/// Bakes a bundle with its unit lists, packages, or both into the modules of a core. Without any package the policy alone is baked, and the
/// packages are for the shell to load.
///
/// # Errors
/// What a loader would refuse, and what the modules cannot hold.
pub fn bake(
    core: &CoreModules,
    contents: Contents,
    demands: &Demands,
    options: &Options,
) -> Result<Baked, BakeError> {
    if contents.bundle.is_none() && contents.packages.is_empty() {
        return Err(BakeError::Nothing);
    }
    let runs = if contents.packages.is_empty() { &[][..] } else { &options.placements };
    let Checked { bundle, packages, unused } = Checked::new(contents, demands, runs)?;
    // Handles are numbered in this order, whatever the order of the files.
    let mut packages: Vec<Package> = packages.into_values().collect();
    packages
        .sort_by_cached_key(|package| (package.manifest().model.clone(), package.manifest().version.clone()));
    let flavour = flavour(&packages, options.flavour)?;

    let policy = Image::bake("policy", &core.policy, &bundle.as_ref().map(policy_parts).unwrap_or_default())?;
    let (name, module) = match flavour {
        Engine::Tabular => ("tabular", &core.tabular),
        Engine::Graph => {
            let needs = packages.iter().find(|package| package.manifest().engine == Engine::Graph);
            let name = needs.map_or_else(|| "this bake".to_owned(), name_of);
            ("graph", core.graph.as_ref().ok_or(BakeError::NoGraph { name })?)
        }
    };
    let parts: Vec<Part<'_>> = packages.iter().map(package_part).collect();
    let inference = Image::bake(name, module, &parts)?;

    let unbaked = match &bundle {
        Some(bundle) if packages.is_empty() => unbaked(bundle, &options.placements),
        _ => Vec::new(),
    };
    let catalog = match &bundle {
        Some(bundle) => catalog(bundle, packages.iter().chain(unused.values()))?,
        None => b"null".to_vec(),
    };
    let about = match (&policy.component, &inference.component) {
        (Some(policy), Some(inference)) => Some(
            lockgate_compose::about(policy, inference, bundle.as_ref().map(|_| catalog.as_slice()))
                .map_err(|error| BakeError::Module { module: "about", problem: error.to_string() })?,
        ),
        _ => None,
    };
    let manifest = BakedManifest {
        lockgate_baked: BAKED_FORMAT,
        policy: manifest::module("policy", None, &policy),
        inference: manifest::module("inference", Some(flavour), &inference),
        catalog: manifest::file(CATALOG, &catalog),
        about: about.as_deref().map(|bytes| manifest::file(lockgate_compose::ABOUT, bytes)),
        bundle: bundle.as_ref().map(manifest::bundle),
        packages: (0..).zip(&packages).map(|(handle, package)| manifest::package(handle, package)).collect(),
    };
    let unused = unused.values().map(name_of).collect();
    Ok(Baked { policy, inference, manifest, catalog, about, unused, unbaked })
}

fn catalog<'p>(bundle: &Bundle, packages: impl Iterator<Item = &'p Package>) -> Result<Vec<u8>, BakeError> {
    let packages = packages.map(|package| (package.digest(), package.manifest()));
    let catalog = Catalog::new(bundle, packages)
        .map_err(|error| BakeError::Refused(InstallError::Bundle(error.to_string())))?;
    Ok(catalog.to_json())
}

/// The smallest flavour that runs the packages, or the one that was asked for.
fn flavour(packages: &[Package], wanted: Option<Engine>) -> Result<Engine, BakeError> {
    let graph = packages.iter().find(|package| package.manifest().engine == Engine::Graph);
    match (wanted, graph) {
        (Some(Engine::Tabular), Some(package)) => Err(BakeError::WrongFlavour { name: name_of(package) }),
        (Some(wanted), _) => Ok(wanted),
        (None, Some(_)) => Ok(Engine::Graph),
        (None, None) => Ok(Engine::Tabular),
    }
}

/// The unit lists, then the bundle that names them.
fn policy_parts(bundle: &Bundle) -> Vec<Part<'_>> {
    let lists = bundle.list_objects().iter().map(|list: &ListObject| Part {
        name: format!("unit list {}", list.digest().short()),
        bytes: list.as_bytes(),
        digest: None,
    });
    let name = format!("bundle version {}", bundle.version());
    lists.chain([Part { name, bytes: bundle.as_bytes(), digest: Some(bundle.digest()) }]).collect()
}

fn package_part(package: &Package) -> Part<'_> {
    Part { name: name_of(package), bytes: package.envelope().as_bytes(), digest: Some(package.digest()) }
}

fn name_of(package: &Package) -> String {
    format!("{}@{}", package.manifest().model, package.manifest().version)
}

fn unbaked(bundle: &Bundle, placements: &[Placement]) -> Vec<String> {
    let runs_here = bundle.models().filter(|model| placements.contains(&model.placement));
    runs_here.map(|model| format!("{}@{}", model.name, model.version)).collect()
}
