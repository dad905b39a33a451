//! Which package each model version is, and whether it fits the routes that use it.

use std::collections::{BTreeMap, BTreeSet};

use lockgate_package::{Digest, Signature, TensorSpec};

use super::writer::Writer;
use super::{CompileOptions, PackageRef, Problems, document};
use crate::bundle::format::{Model as ModelRecord, Sha256};
use crate::diagnostic::{list_of, suggestion};
use crate::policy::{ModelVersion, Origin, Policy, Route, RouteKey, Variant};
use crate::{Bundle, Placement};

/// The model versions of a bundle, and the signatures of its routes.
#[derive(Default)]
pub(super) struct Pins<'p> {
    models: BTreeMap<&'p ModelVersion, Pin>,
    signatures: BTreeMap<&'p RouteKey, Signature>,
}

/// What a stand-in's digest is made of, before the model version.
const STAND_IN: &str = "lockgate/stand-in/1";

/// The digest that stands in for the package of a model version.
pub(crate) fn stand_in(model_version: &str) -> Digest {
    Digest::of(format!("{STAND_IN} {model_version}").as_bytes())
}

/// The model versions of a bundle whose digests stand in for packages that were not at hand, `m@1.0.0`.
pub fn stand_ins(bundle: &Bundle) -> Vec<String> {
    let names = bundle.models().map(|model| (format!("{}@{}", model.name, model.version), model.digest));
    names.filter(|(name, digest)| stand_in(name) == *digest).map(|(name, _)| name).collect()
}

struct Pin {
    digest: Digest,
    placement: Placement,
    /// The place among the bundle's models.
    place: u32,
}

impl Pins<'_> {
    pub(super) fn write(&self, writer: &mut Writer) {
        for (model, pin) in &self.models {
            let record = ModelRecord {
                name: writer.text(&model.model),
                version: writer.text(&model.version),
                placement: pin.placement.number().into(),
                digest: Sha256(pin.digest.0),
            };
            writer.push(&record);
        }
    }

    /// The place of a model version among those of the bundle.
    pub(super) fn place(&self, model: &ModelVersion) -> u32 {
        self.models.get(model).map_or(0, |pin| pin.place)
    }

    pub(super) fn signature(&self, route: &RouteKey) -> Option<&Signature> {
        self.signatures.get(route)
    }
}

type Packages<'a> = BTreeMap<ModelVersion, &'a PackageRef>;

pub(super) fn resolve<'p>(
    problems: &mut Problems<'_>,
    policy: &'p Policy,
    options: &CompileOptions<'_>,
) -> Pins<'p> {
    let packages = by_name(problems, options.packages);
    let stand_ins = options.stand_ins;
    let mut pins = Pins::default();
    let mut seen = BTreeSet::new();
    for variant in policy.routes.values().flat_map(|route| &route.variants) {
        if seen.insert(&variant.model)
            && let Some(pin) = pin(problems, policy, &packages, variant, stand_ins)
        {
            pins.models.insert(&variant.model, pin);
        }
    }
    for (pin, place) in pins.models.values_mut().zip(0..) {
        pin.place = place;
    }
    for (key, route) in &policy.routes {
        // The lack of a package has been reported already; the lack of a signature would only be its consequence.
        let pinned = route.variants.iter().all(|variant| pins.models.contains_key(&variant.model));
        let needed = pinned && !stand_ins;
        if let Some(signature) = signature(problems, &packages, route, needed) {
            pins.signatures.insert(key, signature);
        } else if stand_ins {
            pins.signatures.insert(key, Signature::default());
        }
    }
    pins
}

fn by_name<'a>(problems: &mut Problems<'_>, packages: &'a [PackageRef]) -> Packages<'a> {
    let mut by_name: Packages<'a> = BTreeMap::new();
    for package in packages {
        let name = ModelVersion { model: package.model.clone(), version: package.version.clone() };
        if let Some(other) = by_name.get(&name).filter(|other| other.digest != package.digest) {
            let mut digests = [other.digest, package.digest];
            digests.sort_unstable();
            let [first, second] = digests;
            let message =
                format!("two different packages are called `{name}`: sha256:{first} and sha256:{second}");
            let hint =
                "a version's package never changes; keep one of them, and give new content a new version";
            problems.report(&document(), message, None, Some(hint.to_owned()));
        } else {
            by_name.insert(name, package);
        }
    }
    by_name
}

fn pin(
    problems: &mut Problems<'_>,
    policy: &Policy,
    packages: &Packages<'_>,
    variant: &Variant,
    stand_ins: bool,
) -> Option<Pin> {
    let declared = policy.models.as_ref().and_then(|models| models.get(&variant.model));
    let placement = declared.map_or(Placement::default(), |model| model.placement);
    let found = packages.get(&variant.model).map(|package| package.digest);
    let digest = match (declared.and_then(|model| model.digest), found) {
        (Some(pinned), Some(found)) if pinned != found => {
            let origin = declared.map_or(&variant.origin, |model| &model.origin);
            let message = format!("the package of `{}` has the digest sha256:{found}", variant.model);
            let expected = format!("sha256:{pinned}, as the policy pins it");
            let hint = "a version's package never changes; get the pinned one, or pin the new one under a new version";
            problems.report(origin, message, Some(expected), Some(hint.to_owned()));
            return None;
        }
        (Some(digest), _) | (None, Some(digest)) => digest,
        (None, None) if stand_ins => stand_in(&variant.model.to_string()),
        (None, None) => {
            let message = format!("there is no package of `{}`", variant.model);
            let expected = "a package of this model version, or its digest in `models`".to_owned();
            let hint = at_hand(packages, &variant.model);
            problems.report(&variant.origin, message, Some(expected), Some(hint));
            return None;
        }
    };
    Some(Pin { digest, placement, place: 0 })
}

/// What there is instead of a package of `wanted`.
fn at_hand(packages: &Packages<'_>, wanted: &ModelVersion) -> String {
    let versions: Vec<String> =
        packages.keys().filter(|name| name.model == wanted.model).map(ToString::to_string).collect();
    if !versions.is_empty() {
        return format!("of this model there is {}", list_of(versions.iter().map(String::as_str)));
    }
    suggestion(&wanted.model, packages.keys().map(|name| name.model.as_str()))
        .unwrap_or_else(|| "say where the packages are with `--packages`".to_owned())
}

/// The route's signature, once every package at hand has been held against it.
fn signature(
    problems: &mut Problems<'_>,
    packages: &Packages<'_>,
    route: &Route,
    needed: bool,
) -> Option<Signature> {
    let known = route.variants.iter().filter_map(|variant| Some((variant, packages.get(&variant.model)?)));
    let mut reference = route.signature.as_ref().map(|signature| (signature, None));
    for (variant, package) in known {
        match reference {
            None => reference = Some((&package.signature, Some(variant))),
            Some((signature, source)) => {
                let by = match source {
                    None => "as the route's signature says".to_owned(),
                    Some(first) => format!("as in variant `{}`", first.name),
                };
                let fits =
                    Fit { problems: &mut *problems, origin: &variant.origin, model: &variant.model, by: &by };
                fits.check(signature, &package.signature, source.is_some());
            }
        }
    }
    if reference.is_none() && needed {
        let message = "the route has no signature, and no package at hand says it".to_owned();
        let expected = "`signature: { inputs: […], outputs: […] }`".to_owned();
        let hint = "declare it, or say where the packages are with `--packages`".to_owned();
        problems.report(&route.origin, message, Some(expected), Some(hint));
    }
    reference.map(|(signature, _)| signature.clone())
}

/// Holds a package's signature against another one.
struct Fit<'a, 'p> {
    problems: &'a mut Problems<'p>,
    origin: &'a Origin,
    model: &'a ModelVersion,
    by: &'a str,
}

impl Fit<'_, '_> {
    fn check(mut self, wanted: &Signature, found: &Signature, equal: bool) {
        self.tensors("input", &wanted.inputs, &found.inputs, equal);
        self.tensors("output", &wanted.outputs, &found.outputs, equal);
    }

    fn tensors(&mut self, kind: &str, wanted: &[TensorSpec], found: &[TensorSpec], equal: bool) {
        let by_name = |specs: &[TensorSpec], name: &str| specs.iter().find(|spec| spec.name == name).cloned();
        for want in wanted {
            let expected = format!("{}, {}", form(want), self.by);
            match by_name(found, &want.name) {
                None => {
                    let message = format!("`{}` has no {kind} `{}`", self.model, want.name);
                    self.problems.report(self.origin, message, Some(expected), None);
                }
                Some(have) => {
                    // Whatever a request may send must be taken, and whatever the model may answer be allowed.
                    let shapes = match kind {
                        _ if equal => want.shape == have.shape,
                        "input" => have.admits(&want.shape),
                        _ => want.admits(&have.shape),
                    };
                    if want.datatype != have.datatype || !shapes {
                        let message =
                            format!("{kind} `{}` of `{}` is {}", want.name, self.model, form(&have));
                        self.problems.report(self.origin, message, Some(expected), None);
                    }
                }
            }
        }
        for have in found.iter().filter(|have| by_name(wanted, &have.name).is_none()) {
            let message = format!("`{}` has a further {kind} `{}`, {}", self.model, have.name, form(have));
            let names: Vec<String> = wanted.iter().map(|want| format!("`{}`", want.name)).collect();
            let expected = format!("no {kind}s but {}, {}", names.join(", "), self.by);
            self.problems.report(self.origin, message, Some(expected), None);
        }
    }
}

/// Datatype and shape, `FP32 [-1, 17]`.
fn form(spec: &TensorSpec) -> String {
    format!("{} {:?}", spec.datatype, spec.shape)
}
