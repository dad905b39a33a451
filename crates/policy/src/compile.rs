//! From policy to bundle: models pinned to packages, conditions turned into programs, shares into intervals.
//!
//! What has a name of its own comes first (lists, segments, layers), then the routes that refer to it by place. A record that
//! several places refer to is stored once, in the order in which it is first needed, so equal policies give equal bytes.

pub(crate) mod base;
pub(crate) mod layers;
mod lists;
mod pins;
mod program;
pub(crate) mod routes;
mod scopes;
mod segments;
mod writer;

pub(crate) use pins::stand_in;
pub use pins::stand_ins;

use std::collections::BTreeMap;

use lockgate_package::{AlignedBytes, Digest, EnvelopeBuilder, Kind, Manifest, Signature};

use crate::bundle::Meta;
use crate::bundle::format;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::policy::{Origin, Policy};
use crate::source::Position;
use crate::{BUCKETS, Bundle, LoadError};
use base::Base;
use routes::Routes;
use writer::Writer;

/// What a bundle is compiled with, beside the policy.
#[derive(Debug, Clone, Copy)]
pub struct CompileOptions<'a> {
    /// The bundle's version. Without it: the policy's own, else one more than the parent's, else 1.
    pub version: Option<u64>,
    /// The bundle that the new one replaces. It must have a lower version.
    pub parent: Option<&'a Bundle>,
    /// The bundle whose bucket intervals are changed as little as the new shares allow. Without it every split is laid out
    /// anew from its shares.
    pub base: Option<&'a Bundle>,
    /// The packages at hand.
    pub packages: &'a [PackageRef],
    /// The units of the files that the policy names ([`Policy::list_files`]), by the name that it gives them.
    pub lists: &'a BTreeMap<String, Vec<String>>,
    /// Whether the bundle carries its policy in source form ([`Bundle::source`]).
    pub source: bool,
    /// Whether a model version that has neither a package nor a pinned digest gets a made-up one, and a route without
    /// signature an empty one. For trying a policy out; nothing can be run by such a bundle.
    pub stand_ins: bool,
}

static NO_LISTS: BTreeMap<String, Vec<String>> = BTreeMap::new();

impl Default for CompileOptions<'_> {
    fn default() -> Self {
        Self {
            version: None,
            parent: None,
            base: None,
            packages: &[],
            lists: &NO_LISTS,
            source: true,
            stand_ins: false,
        }
    }
}

/// A compiled policy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compiled {
    /// The bundle.
    pub bundle: Vec<u8>,
    /// The unit lists that the bundle refers to by digest, in the order of the digests.
    pub objects: Vec<Object>,
}

/// A part of a long list of units, named by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A package, as far as compiling a policy needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct PackageRef {
    /// The model's name.
    pub model: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the package's content.
    pub digest: Digest,
    /// What goes in and what comes out.
    pub signature: Signature,
}

impl PackageRef {
    /// The package that this manifest describes.
    pub fn new(manifest: &Manifest, digest: Digest) -> Self {
        Self {
            model: manifest.model.clone(),
            version: manifest.version.clone(),
            digest,
            signature: manifest.signature.clone(),
        }
    }
}

/// Compiles a policy to a bundle. Equal input gives equal bytes.
///
/// # Errors
/// A model version without a package, with two, or with another than the policy pins; a package that does not fit its
/// route's signature; a list that is not at hand; a version that is not above the parent's; a policy too large for one
/// bundle, or one whose conditions multiply to more than a decision may take.
pub fn compile(policy: &Policy, options: &CompileOptions<'_>) -> Result<Compiled, Diagnostics> {
    let mut problems = Problems { file: &policy.file, list: Vec::new() };
    let version = version(&mut problems, policy, options);
    let pins = pins::resolve(&mut problems, policy, options);
    let lists = lists::resolve(&mut problems, policy, options.lists);
    Diagnostics::check(problems.list)?;

    let mut problems = Problems { file: &policy.file, list: Vec::new() };
    let mut writer = Writer::new();
    let mut places = Places::default();
    let definitions = scopes::names(&mut writer, &mut places, policy);
    pins.write(&mut writer);
    lists.write(&mut writer, &mut places);
    segments::write(&mut problems, &mut writer, &mut places, policy);
    scopes::write(&mut problems, &mut writer, &definitions);
    Diagnostics::check(problems.list)?;

    let base = options.base.map(Base::new);
    let layers = layers::write(&mut writer, policy, base.as_ref());
    let mut routes = Routes {
        writer: &mut writer,
        policy,
        places: &places,
        pins: &pins,
        layers: &layers,
        base: base.as_ref(),
        signatures: BTreeMap::new(),
    };
    for (key, route) in &policy.routes {
        routes.write(key, route);
    }

    let unwritable = |message: String| Diagnostics::from(Diagnostic::of_document(&policy.file, message));
    let meta = Meta { version, parent: options.parent.map(Bundle::digest) };
    let meta = rmp_serde::to_vec_named(&meta).map_err(|error| unwritable(error.to_string()))?;
    let mut builder = EnvelopeBuilder::new(Kind::Bundle, format::FORMAT, meta);
    for (section, bytes) in writer.finish().map_err(unwritable)? {
        builder.section(section.name(), bytes);
    }
    if options.source {
        builder.section(format::Section::Source.name(), crate::write_source(policy).into_bytes());
    }
    let bundle = builder.seal().map_err(|error| unwritable(error.to_string()))?;
    let objects = lists.into_objects();
    // Loading checks what a single route cannot show: how much a decision may cost in the worst case.
    let opened = objects.iter().map(|object| AlignedBytes::copy_of(&object.bytes)).collect();
    Bundle::load_with(AlignedBytes::copy_of(&bundle), opened).map_err(|error| {
        let LoadError::TooCostly { route: name } = &error else { return unwritable(error.to_string()) };
        let route = policy.routes.iter().find(|(key, _)| key.name == *name);
        let Origin { position, path } = route.map_or_else(document, |(_, route)| route.origin.clone());
        Diagnostics::from(Diagnostic::error(&policy.file, position, path, error.to_string()))
    })?;
    Ok(Compiled { bundle, objects })
}

/// Where things with names of their own lie in the bundle.
#[derive(Default)]
struct Places<'p> {
    names: BTreeMap<&'p str, u32>,
    lists: BTreeMap<&'p str, u32>,
    segments: BTreeMap<&'p str, u32>,
    tiers: BTreeMap<&'p str, u32>,
    lowest_tier: Option<&'p str>,
}

/// A checked policy names nothing that it does not have.
impl Places<'_> {
    fn name(&self, route: &str) -> u32 {
        self.names.get(route).copied().unwrap_or_default()
    }

    fn list(&self, file: &str) -> u32 {
        self.lists.get(file).copied().unwrap_or_default()
    }

    fn segment(&self, name: &str) -> u32 {
        self.segments.get(name).copied().unwrap_or_default()
    }

    /// The segment of the tier and those above it; `None` for the lowest, which everyone has.
    fn tier(&self, name: &str) -> Option<u32> {
        (self.lowest_tier != Some(name)).then(|| self.tiers.get(name).copied().unwrap_or_default())
    }
}

/// Brings owners into the order in which they lie: by name, the baseline last.
pub(crate) fn by_name(widths: &mut [(&str, u32)], baseline: &str) {
    widths.sort_unstable_by_key(|(name, _)| (*name == baseline, *name));
}

/// What stands in the way of compiling.
struct Problems<'p> {
    file: &'p str,
    list: Vec<Diagnostic>,
}

impl Problems<'_> {
    fn report(&mut self, origin: &Origin, message: String, expected: Option<String>, hint: Option<String>) {
        let Origin { position, path } = origin.clone();
        let error = Diagnostic::error(self.file, position, path, message);
        self.list.push(Diagnostic { expected, hint, ..error });
    }
}

/// The origin of what concerns the whole document.
fn document() -> Origin {
    Origin { position: Position::START, path: String::new() }
}

fn version(problems: &mut Problems<'_>, policy: &Policy, options: &CompileOptions<'_>) -> u64 {
    let lowest = options.parent.map_or(1, |parent| parent.version().saturating_add(1));
    let version = options.version.or(policy.version).unwrap_or(lowest);
    if version < lowest || options.parent.is_some_and(|parent| parent.version() == u64::MAX) {
        let message = match options.parent {
            Some(parent) => {
                format!("version {version} is not above the parent's, which is {}", parent.version())
            }
            None => format!("{version} is no version"),
        };
        let hint =
            options.parent.map(|_| "a rollback, too, is old content under a higher version".to_owned());
        let origin = Origin { path: "version".to_owned(), ..document() };
        problems.report(&origin, message, Some(format!("{lowest} or higher")), hint);
    }
    version
}
