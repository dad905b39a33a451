//! The versions of a route, as a path names them.

use lockgate_package::Digest;
use lockgate_policy::VariantView;

use crate::{RequestError, Served};

/// A version of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteVersion<'a> {
    /// `<version>` if only one model of the route has it, else `<model>@<version>`.
    pub name: String,
    /// The model.
    pub model: &'a str,
    /// The model's version.
    pub version: &'a str,
    /// The package.
    pub digest: Digest,
}

/// `<model>@<version>`.
pub fn model_name(model: &str, version: &str) -> String {
    format!("{model}@{version}")
}

/// The versions of a route, each once, in the order of its variants.
pub fn versions<'a>(variants: impl Iterator<Item = VariantView<'a>>) -> Vec<RouteVersion<'a>> {
    let mut all: Vec<RouteVersion<'a>> = Vec::new();
    for variant in variants {
        let (model, version, digest) = (variant.model, variant.version, variant.digest);
        if !all.iter().any(|have| have.model == model && have.version == version) {
            all.push(RouteVersion { name: String::new(), model, version, digest });
        }
    }
    let names: Vec<String> = all
        .iter()
        .map(|one| match all.iter().filter(|other| other.version == one.version).count() {
            1 => one.version.to_owned(),
            _ => model_name(one.model, one.version),
        })
        .collect();
    for (one, name) in all.iter_mut().zip(names) {
        one.name = name;
    }
    all
}

/// How a path would name the version that served all rows; `None` when several did. `variants` gives those of the definition of the route
/// for a tenant and a user.
pub fn name_of_served<'a, I: Iterator<Item = VariantView<'a>>>(
    served: &Served,
    variants: impl FnOnce(Option<&str>, Option<&str>) -> Option<I>,
) -> Option<String> {
    let (first, others) = served.versions.split_first()?;
    // Two variants may share a version.
    if others.iter().any(|other| (&other.model, &other.version) != (&first.model, &first.version)) {
        return None;
    }
    // A pinned version is named as the platform's definition names it, and any other as that of the first row.
    let why = served.rows.first().and_then(|row| row.decision.as_ref());
    let (tenant, user) = why.map_or((None, None), |why| (why.tenant.as_deref(), why.user.as_deref()));
    let all = variants(tenant, user).map(versions).unwrap_or_default();
    let found = all.into_iter().find(|one| one.model == first.model && one.version == first.version);
    Some(found.map_or_else(|| first.version.clone(), |one| one.name))
}

/// The variant of a route that a caller pins by `<version>`, which must be unique in the route, or by `<model>@<version>`.
///
/// # Errors
/// An unknown or ambiguous version.
pub fn pinned<'a>(
    route: &str,
    variants: impl Iterator<Item = VariantView<'a>>,
    version: &str,
) -> Result<VariantView<'a>, RequestError> {
    let name = |variant: &VariantView<'_>| model_name(variant.model, variant.version);
    let mut versions: Vec<VariantView<'_>> = Vec::new();
    for variant in variants {
        if !versions.iter().any(|have| (have.model, have.version) == (variant.model, variant.version)) {
            versions.push(variant);
        }
    }
    let wanted: Vec<_> =
        versions.iter().filter(|variant| variant.version == version || name(variant) == version).collect();
    match wanted.as_slice() {
        [variant] => Ok(**variant),
        [] => Err(RequestError::UnknownVersion {
            route: route.to_owned(),
            version: version.to_owned(),
            available: versions.iter().map(name).collect(),
        }),
        several => Err(RequestError::AmbiguousVersion {
            route: route.to_owned(),
            version: version.to_owned(),
            candidates: several.iter().map(|variant| name(variant)).collect(),
        }),
    }
}

/// A caller who names a version goes past the policy's rules, and not past its kill switches: what serves nobody is not run.
/// `baseline` is the variant that a disabled route serves; `None` for an enabled one.
///
/// # Errors
/// A version that is switched off.
pub fn ensure_enabled<'a>(
    route: &str,
    mut variants: impl Iterator<Item = VariantView<'a>>,
    baseline: Option<&VariantView<'_>>,
    pinned: &VariantView<'_>,
) -> Result<(), RequestError> {
    let is_it = |variant: &VariantView<'_>| variant.digest == pinned.digest;
    let serves = match baseline {
        None => variants.any(|variant| is_it(&variant) && variant.enabled),
        Some(baseline) => is_it(baseline),
    };
    if serves {
        return Ok(());
    }
    let version = model_name(pinned.model, pinned.version);
    Err(RequestError::VersionDisabled { route: route.to_owned(), version })
}
