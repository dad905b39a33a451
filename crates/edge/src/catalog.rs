//! The names of a bundle, and what its packages say: what a shell must know to turn a decision's indices into words, to answer requests
//! for metadata and to find a pinned version, and nothing of how to decide.

use std::collections::BTreeMap;

use lockgate_package::{AlignedBytes, Digest, Engine, Manifest, Package, PackageError, Signature};
use lockgate_policy::{Bundle, LoadError, Placement, RouteView, ShadowLimits, VariantView};
use lockgate_shell::metadata::ModelFacts;
use lockgate_shell::{BundleId, RequestError, versions};
use serde::{Deserialize, Serialize};

/// The format of a catalogue that is written down. Readers ignore what they do not know.
pub const FORMAT: u32 = 1;

/// What a bundle names. `lockgate bake` writes it beside the modules, as `catalog.json`; a shell that fetches bundles makes it of their
/// bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// [`FORMAT`].
    pub lockgate_catalog: u32,
    /// The bundle.
    pub bundle: BundleId,
    /// The bundle that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// The model versions that it pins, in its order.
    pub models: Vec<PinnedModel>,
    /// The definitions of routes, in its order.
    pub routes: Vec<RouteEntry>,
    /// What a decision's `target_index` names.
    pub targets: Vec<Target>,
    /// What the packages say that were at hand.
    pub packages: BTreeMap<Digest, PackageEntry>,
}

/// A model version that the bundle pins to a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedModel {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The package.
    pub digest: Digest,
    /// Where it runs.
    pub placement: Placement,
}

/// A definition of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteEntry {
    /// The name that callers ask for.
    pub name: String,
    /// The tenant whose definition it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The user whose definition it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether it is enabled; a disabled one serves its baseline.
    pub enabled: bool,
    /// The baseline's place among the variants.
    pub baseline: u32,
    /// What goes in and comes out.
    pub signature: Signature,
    /// The variants.
    pub variants: Vec<VariantEntry>,
    /// The share of requests that are recorded, out of [`BUCKETS`](lockgate_policy::BUCKETS); `None` leaves it to the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u32>,
    /// The shadows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<ShadowEntry>,
}

/// A variant of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantEntry {
    /// Its name.
    pub name: String,
    /// Its model version's place in [`Catalog::models`].
    pub model: u32,
    /// What a caller receives beside the prediction, JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Whether it is enabled.
    pub enabled: bool,
}

/// A shadow of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowEntry {
    /// Its name.
    pub name: String,
    /// Its variant's place among the route's.
    pub variant: u32,
    /// What it may cost.
    pub limits: ShadowLimits,
}

/// What matched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The permitted request, holdout, test group, symbol rollout or rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
}

/// What a package says about its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackageEntry {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// What goes in and comes out.
    pub signature: Signature,
    /// The engine that runs it.
    pub engine: Engine,
    /// Names of the classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Names of the features.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The version of what computes the features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_version: Option<String>,
    /// An upper bound of what one row costs.
    #[serde(default)]
    pub operations_per_row: u64,
    /// The ways in which it says what each feature contributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<String>,
    /// Whether it is a mock.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mock: bool,
}

/// Why there is no catalogue.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] LoadError),
    /// A package cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A catalogue that was written down cannot be read.
    #[error("the catalogue cannot be read: {0}; bake again with this version of Lockgate")]
    Unreadable(String),
}

impl Catalog {
    /// Reads the names in these bytes, which the policy module has loaded before: it checked them. Packages that the bundle does not pin
    /// are left out.
    ///
    /// # Errors
    /// Content that cannot be read.
    pub fn of(bundle: &[u8], packages: &[&[u8]]) -> Result<Self, CatalogError> {
        let bundle = Bundle::outline(AlignedBytes::copy_of(bundle))?;
        let packages = packages
            .iter()
            .map(|bytes| Ok(Package::open(AlignedBytes::copy_of(bytes))?))
            .collect::<Result<Vec<_>, CatalogError>>()?;
        Self::new(&bundle, packages.iter().map(|package| (package.digest(), package.manifest())))
    }

    /// The names of a bundle and what these packages say.
    ///
    /// # Errors
    /// A signature in the bundle that cannot be read.
    pub fn new<'p>(
        bundle: &Bundle,
        packages: impl Iterator<Item = (Digest, &'p Manifest)>,
    ) -> Result<Self, CatalogError> {
        let models: Vec<PinnedModel> = bundle
            .models()
            .map(|model| PinnedModel {
                model: model.name.to_owned(),
                version: model.version.to_owned(),
                digest: model.digest,
                placement: model.placement,
            })
            .collect();
        let routes =
            bundle.routes().map(|route| RouteEntry::of(&route, &models)).collect::<Result<_, _>>()?;
        let target = |(rule, layer): (Option<&str>, Option<&str>)| Target {
            rule: rule.map(str::to_owned),
            layer: layer.map(str::to_owned),
        };
        let targets = (0..).map_while(|index| bundle.target_names(index)).map(target).collect();
        let mut known = BTreeMap::new();
        for (digest, manifest) in packages {
            if models.iter().any(|model| model.digest == digest) {
                known.insert(digest, PackageEntry::from(manifest));
            }
        }
        Ok(Self {
            lockgate_catalog: FORMAT,
            bundle: BundleId { version: bundle.version(), digest: bundle.digest() },
            parent: bundle.parent(),
            models,
            routes,
            targets,
            packages: known,
        })
    }

    /// Reads `catalog.json`.
    ///
    /// # Errors
    /// Another format, or text that is no catalogue.
    pub fn from_json(text: &[u8]) -> Result<Self, CatalogError> {
        let catalog: Self =
            serde_json::from_slice(text).map_err(|error| CatalogError::Unreadable(error.to_string()))?;
        if catalog.lockgate_catalog != FORMAT {
            let format = catalog.lockgate_catalog;
            return Err(CatalogError::Unreadable(format!("it has format {format}, expected {FORMAT}")));
        }
        Ok(catalog)
    }

    /// Writes `catalog.json`.
    pub fn to_json(&self) -> Vec<u8> {
        // Names, numbers and digests alone; writing them into a vector cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The definition of the route called `name` for exactly this scope.
    pub(crate) fn definition(
        &self,
        name: &str,
        tenant: Option<&str>,
        user: Option<&str>,
    ) -> Option<&RouteEntry> {
        let is_it = |route: &&RouteEntry| {
            route.name == name && route.tenant.as_deref() == tenant && route.user.as_deref() == user
        };
        self.routes.iter().find(is_it)
    }

    /// The model version at this place.
    pub(crate) fn model(&self, index: u32) -> Option<&PinnedModel> {
        self.models.get(usize::try_from(index).ok()?)
    }

    /// A variant of a route of this catalogue, by its place.
    pub(crate) fn variant<'c>(&'c self, route: &'c RouteEntry, index: u32) -> Option<VariantView<'c>> {
        self.view(route.variants.get(usize::try_from(index).ok()?)?)
    }

    /// The variants of a route of this catalogue.
    pub(crate) fn variants<'c>(&'c self, route: &'c RouteEntry) -> impl Iterator<Item = VariantView<'c>> {
        route.variants.iter().filter_map(|variant| self.view(variant))
    }

    /// The baseline of a route of this catalogue.
    pub(crate) fn baseline<'c>(&'c self, route: &'c RouteEntry) -> Option<VariantView<'c>> {
        self.variant(route, route.baseline)
    }

    /// The variant of a route that a caller pins.
    ///
    /// # Errors
    /// An unknown, ambiguous or disabled version.
    pub(crate) fn pinned<'c>(
        &'c self,
        route: &'c RouteEntry,
        version: &str,
    ) -> Result<VariantView<'c>, RequestError> {
        versions::pinned(&route.name, self.variants(route), version)
    }

    fn view<'c>(&'c self, variant: &'c VariantEntry) -> Option<VariantView<'c>> {
        let model = self.model(variant.model)?;
        Some(VariantView {
            name: &variant.name,
            model: &model.model,
            version: &model.version,
            digest: model.digest,
            placement: model.placement,
            payload: variant.payload.as_deref(),
            enabled: variant.enabled,
        })
    }
}

impl RouteEntry {
    fn of(route: &RouteView<'_>, models: &[PinnedModel]) -> Result<Self, LoadError> {
        let place = |found: Option<usize>| u32::try_from(found.unwrap_or(usize::MAX)).unwrap_or(u32::MAX);
        let model = |variant: &VariantView<'_>| {
            let is_it = |model: &PinnedModel| {
                (model.model.as_str(), model.version.as_str()) == (variant.model, variant.version)
            };
            place(models.iter().position(is_it))
        };
        let baseline = route.baseline().name;
        Ok(Self {
            name: route.name().to_owned(),
            tenant: route.tenant().map(str::to_owned),
            user: route.user().map(str::to_owned),
            enabled: route.enabled(),
            baseline: place(route.variants().position(|variant| variant.name == baseline)),
            signature: route.signature()?,
            variants: route
                .variants()
                .map(|variant| VariantEntry {
                    name: variant.name.to_owned(),
                    model: model(&variant),
                    payload: variant.payload.map(str::to_owned),
                    enabled: variant.enabled,
                })
                .collect(),
            records: route.records(),
            shadows: route
                .shadows()
                .map(|shadow| ShadowEntry {
                    name: shadow.name.to_owned(),
                    variant: shadow.variant_index,
                    limits: shadow.limits,
                })
                .collect(),
        })
    }
}

impl From<&Manifest> for PackageEntry {
    fn from(manifest: &Manifest) -> Self {
        Self {
            model: manifest.model.clone(),
            version: manifest.version.clone(),
            signature: manifest.signature.clone(),
            engine: manifest.engine,
            labels: manifest.labels.clone(),
            features: manifest.features.iter().map(|feature| feature.name.clone()).collect(),
            feature_version: manifest.feature_version.clone(),
            operations_per_row: manifest.operations_per_row,
            contributions: manifest.contributions.clone(),
            mock: manifest.mock,
        }
    }
}

impl<'a> From<&'a PackageEntry> for ModelFacts<'a> {
    fn from(entry: &'a PackageEntry) -> Self {
        Self {
            engine: entry.engine,
            labels: &entry.labels,
            features: entry.features.iter().map(String::as_str).collect(),
            feature_version: entry.feature_version.as_deref(),
            contributions: &entry.contributions,
        }
    }
}
