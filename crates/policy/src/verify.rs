//! Whether the source in a bundle is what the bundle was compiled from.

use std::collections::BTreeMap;
use std::fmt;

use lockgate_package::{AlignedBytes, Envelope, Kind};

use crate::bundle::format::{FORMAT, List, Section, Shard};
use crate::compile::{CompileOptions, compile};
use crate::policy::{Model, ModelVersion, Origin, Policy};
use crate::{Bundle, check, parse, write_source};

/// Why a bundle's source is not what the bundle was compiled from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceMismatch {
    problem: String,
}

impl fmt::Display for SourceMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for SourceMismatch {}

/// Compiles the source that a bundle carries and compares what comes out with the bundle, section by section.
///
/// Packages are not at hand, so their digests and signatures are taken from the bundle; a bundle that was compiled on a base is
/// laid out on itself, so its intervals must have the widths that the source gives them, wherever they lie.
///
/// # Errors
/// The bundle carries no source, the source cannot be used, or a section differs: its name.
pub fn verify_source(bundle: &Bundle) -> Result<(), SourceMismatch> {
    let mismatch = |problem: String| SourceMismatch { problem };
    let source = bundle.source().ok_or_else(|| mismatch("the bundle carries no source".to_owned()))?;
    let mut policy = parse("source.json", source)
        .and_then(|source| check(&source))
        .map_err(|problems| mismatch(format!("the source cannot be used: {problems}")))?;
    if write_source(&policy) != source {
        return Err(mismatch("the source is not in its canonical form".to_owned()));
    }
    complete(&mut policy, bundle);
    let lists = unit_lists(bundle);
    let options = CompileOptions {
        version: Some(bundle.version()),
        base: Some(bundle),
        lists: &lists,
        source: false,
        ..CompileOptions::default()
    };
    let compiled = compile(&policy, &options)
        .map_err(|problems| mismatch(format!("the source cannot be compiled: {problems}")))?;
    let open = |bytes: &[u8]| {
        Envelope::open(AlignedBytes::copy_of(bytes), Kind::Bundle, FORMAT)
            .map_err(|error| mismatch(error.to_string()))
    };
    let (have, made) = (open(bundle.as_bytes())?, open(&compiled.bundle)?);
    for section in Section::ALL.iter().filter(|section| **section != Section::Source) {
        let name = section.name();
        let bytes =
            |envelope: &Envelope| envelope.section(name).map(|range| envelope.bytes_of(range).to_vec());
        if bytes(&have).unwrap_or_default() != bytes(&made).unwrap_or_default() {
            let problem = format!("the source compiles to something else: the section `{name}` differs");
            return Err(mismatch(problem));
        }
    }
    Ok(())
}

/// Pins each model version to the bundle's package and gives each route the bundle's signature.
fn complete(policy: &mut Policy, bundle: &Bundle) {
    let models = policy.models.get_or_insert_with(BTreeMap::new);
    for view in bundle.models() {
        let name = ModelVersion { model: view.name.to_owned(), version: view.version.to_owned() };
        let placement = view.placement;
        let model =
            models.entry(name).or_insert(Model { digest: None, placement, origin: Origin::default() });
        // One that the source pins otherwise stays, and differs.
        model.digest.get_or_insert(view.digest);
    }
    for (key, route) in &mut policy.routes {
        let (tenant, user) = (key.scope.tenant.as_deref(), key.scope.user.as_deref());
        let view = bundle.definition(&key.name, tenant, user);
        if let Some(Ok(signature)) = view.map(|view| view.signature()) {
            route.signature.get_or_insert(signature);
        }
    }
}

/// The units of the files that the policy named when the bundle was compiled, by the name that it gave them, out of the bundle's unit
/// lists.
pub fn unit_lists(bundle: &Bundle) -> BTreeMap<String, Vec<String>> {
    let reader = bundle.reader();
    let units = |list: List| {
        let mut objects: Vec<u32> = reader.list::<Shard>(list.shards).map(|shard| shard.object).collect();
        objects.dedup();
        let objects = objects.into_iter().filter_map(|place| bundle.list_object(place));
        objects.flat_map(|object| object.units().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    reader.all::<List>().map(|list| (reader.text(list.name).to_owned(), units(list))).collect()
}
