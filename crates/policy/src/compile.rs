//! From policy to bundle: models pinned to packages, conditions turned into programs, shares into intervals.

mod pins;
mod program;
mod writer;

use std::collections::BTreeMap;

use lockgate_package::{Digest, EnvelopeBuilder, Kind, Manifest, Signature};

use crate::bundle::Meta;
use crate::bundle::format::{
    self, ENABLED, Interval, NONE, Override as OverrideRecord, OverrideValue, Route as RouteRecord, Section,
    Segment as SegmentRecord, Target, Variant as VariantRecord, pack_unit,
};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::intervals::{Intervals, fresh, rebase};
use crate::policy::{Condition, Members, Origin, Policy, Route, Serve, Split};
use crate::source::Position;
use crate::{BUCKETS, Bundle, Field, RouteView, Step};
use pins::Pins;
use program::program;
use writer::{Writer, count};

/// What a bundle is compiled with, beside the policy.
#[derive(Debug, Clone, Copy, Default)]
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
/// route's signature; a version that is not above the parent's; a policy too large for one bundle.
pub fn compile(policy: &Policy, options: &CompileOptions<'_>) -> Result<Vec<u8>, Diagnostics> {
    let mut problems = Problems { file: &policy.file, list: Vec::new() };
    let version = version(&mut problems, policy, options);
    let pins = pins::resolve(&mut problems, policy, options.packages);
    Diagnostics::check(problems.list)?;

    let mut writer = Writer::default();
    writer.route_names(policy.routes.keys().map(String::as_str));
    pins.write(&mut writer);
    let segments = segments(&mut writer, policy);
    let mut signatures = BTreeMap::new();
    for (name, route) in &policy.routes {
        let base = options.base.and_then(|base| base.route(name).map(|view| Base { bundle: base, view }));
        let mut emitter = RouteEmitter { writer: &mut writer, pins: &pins, segments: &segments, route, base };
        emitter.emit(name, &mut signatures);
    }

    let unwritable = |message: String| Diagnostics::from(Diagnostic::of_document(&policy.file, message));
    let meta = Meta { version, parent: options.parent.map(Bundle::digest) };
    let meta = rmp_serde::to_vec_named(&meta).map_err(|error| unwritable(error.to_string()))?;
    let mut builder = EnvelopeBuilder::new(Kind::Bundle, format::FORMAT, meta);
    for (section, bytes) in writer.finish().map_err(|problem| unwritable(problem.to_owned()))? {
        builder.section(section.name(), bytes);
    }
    builder.seal().map_err(|error| unwritable(error.to_string()))
}

/// What stands in the way of compiling.
struct Problems<'p> {
    file: &'p str,
    list: Vec<Diagnostic>,
}

impl Problems<'_> {
    fn report(&mut self, origin: &Origin, message: String, expected: Option<String>, hint: Option<String>) {
        let Origin { position: Position { line, column }, path } = origin.clone();
        self.list.push(Diagnostic {
            line,
            column,
            file: self.file.to_owned(),
            path,
            message,
            expected,
            hint,
        });
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

/// Writes the segments, each with the members of the segments it contains, and returns their places by name.
fn segments<'p>(writer: &mut Writer, policy: &'p Policy) -> BTreeMap<&'p str, u32> {
    let mut places = BTreeMap::new();
    for (name, place) in policy.segments.keys().zip(0..) {
        let mut whole = Members::default();
        let mut open = vec![name.as_str()];
        while let Some(name) = open.pop() {
            if whole.segments.contains(name) {
                continue;
            }
            whole.segments.insert(name.to_owned());
            let Some(members) = policy.segments.get(name) else { continue };
            for (field, values) in &members.values {
                whole.values.entry(*field).or_default().extend(values.iter().cloned());
            }
            open.extend(members.segments.iter().map(String::as_str));
        }
        whole.segments.clear();
        let code = program::members(writer, &BTreeMap::new(), &whole);
        let (program_start, program_len) = writer.program(&code);
        let name_text = writer.text(name);
        writer.push(Section::Segments, &SegmentRecord { name: name_text, program_start, program_len });
        places.insert(name.as_str(), place);
    }
    places
}

/// The same route in the bundle that the intervals are taken from.
struct Base<'a> {
    bundle: &'a Bundle,
    view: RouteView<'a>,
}

impl<'a> Base<'a> {
    /// The intervals of the step of this name; a single variant owns all buckets. `None` when there was no such step.
    fn intervals(&self, step: Step, name: Option<&str>) -> Option<Intervals<'a>> {
        let route = self.view.record();
        let targets = self.bundle.table::<Target>(Section::Targets);
        let target = targets.range(route.targets_start, route.targets_count).find(|target| {
            target.step == u32::from(step.number()) && self.bundle.optional_text(target.name) == name
        })?;
        let variant = |index: u32| self.bundle.variant(&route, index).name;
        if target.variant != NONE {
            return Some(vec![(BUCKETS, variant(target.variant))]);
        }
        let intervals = self.bundle.table::<Interval>(Section::Intervals);
        let intervals = intervals.range(target.intervals_start, target.intervals_count);
        Some(intervals.map(|interval| (interval.end, variant(interval.variant))).collect())
    }
}

struct RouteEmitter<'a, 'w> {
    writer: &'w mut Writer,
    pins: &'w Pins<'a>,
    segments: &'w BTreeMap<&'a str, u32>,
    route: &'a Route,
    base: Option<Base<'a>>,
}

impl RouteEmitter<'_, '_> {
    fn emit(&mut self, name: &str, signatures: &mut BTreeMap<Vec<u8>, (u32, u32)>) {
        let route = self.route;
        let variants_start = self.writer.len(Section::Variants);
        for variant in &route.variants {
            let record = VariantRecord {
                name: self.writer.text(&variant.name),
                model: self.pins.place(&variant.model),
                payload: variant.payload.as_ref().map_or(NONE, |payload| self.writer.text(payload)),
            };
            self.writer.push(Section::Variants, &record);
        }
        let (overrides_start, overrides_count) = self.overrides();

        let targets_start = self.writer.len(Section::Targets);
        for group in &route.test_groups {
            let code = program::members(self.writer, self.segments, &group.members);
            self.target(Step::TestGroup, Some(&group.name), &code, &group.serve);
        }
        for rollout in &route.symbol_rollouts {
            let code = program::members(self.writer, self.segments, &rollout.members);
            self.target(Step::SymbolRollout, Some(&rollout.name), &code, &rollout.serve);
        }
        for rule in &route.rules {
            let code = self.condition(&rule.condition);
            self.target(Step::Rule, Some(&rule.name), &code, &rule.serve);
        }
        self.target(Step::Default, None, &[], &route.default);
        let targets_count = self.writer.len(Section::Targets) - targets_start;

        // The encoding of a type without maps or floats cannot fail; an empty one would be noticed when it is read.
        let signature = rmp_serde::to_vec_named(&self.pins.signature(name)).unwrap_or_default();
        let writer = &mut *self.writer;
        let (signature_start, signature_len) =
            *signatures.entry(signature).or_insert_with_key(|bytes| writer.bytes(Section::Signatures, bytes));
        let record = RouteRecord {
            name: self.writer.text(name),
            description: route.description.as_ref().map_or(NONE, |text| self.writer.text(text)),
            flags: if route.enabled { ENABLED } else { 0 },
            baseline: self.variant(&route.baseline),
            variants_start,
            variants_count: count(route.variants.len()),
            overrides_start,
            overrides_count,
            targets_start,
            targets_count,
            signature_start,
            signature_len,
        };
        self.writer.push(Section::Routes, &record);
    }

    /// The variant's place in the route.
    fn variant(&self, name: &str) -> u32 {
        count(self.route.variants.iter().position(|variant| variant.name == name).unwrap_or_default())
    }

    fn overrides(&mut self) -> (u32, u32) {
        let start = self.writer.len(Section::Overrides);
        for field in Field::ALL {
            let mut values: BTreeMap<&str, OverrideValue> = BTreeMap::new();
            for (entry, order) in self.route.overrides.iter().zip(0..) {
                if entry.field == field {
                    let value = OverrideValue { order, variant: self.variant(&entry.serve) };
                    values.extend(entry.values.iter().map(|text| (text.as_str(), value)));
                }
            }
            if values.is_empty() {
                continue;
            }
            let set = self.writer.set(values.keys().copied());
            let values_start = self.writer.len(Section::OverrideValues);
            values.values().for_each(|value| self.writer.push(Section::OverrideValues, value));
            let record = OverrideRecord { field: field.number(), set, values_start };
            self.writer.push(Section::Overrides, &record);
        }
        (start, self.writer.len(Section::Overrides) - start)
    }

    fn condition(&mut self, condition: &Condition) -> Vec<format::Instruction> {
        program(self.writer, self.segments, condition)
    }

    fn target(&mut self, step: Step, name: Option<&str>, code: &[format::Instruction], serve: &Serve) {
        let (program_start, program_len) = self.writer.program(code);
        let mut record = Target {
            step: step.number().into(),
            name: name.map_or(NONE, |name| self.writer.text(name)),
            program_start,
            program_len,
            variant: NONE,
            unit: 0,
            layer: NONE,
            intervals_start: self.writer.len(Section::Intervals),
            intervals_count: 0,
        };
        match serve {
            Serve::Variant(name) => record.variant = self.variant(name),
            Serve::Split(split) => {
                record.unit = pack_unit(split.unit.fields());
                record.layer = self.writer.layer(&split.layer);
                let intervals = self.intervals(step, name, split);
                record.intervals_count = count(intervals.len());
                for interval in intervals {
                    self.writer.push(Section::Intervals, &interval);
                }
            }
        }
        self.writer.push(Section::Targets, &record);
    }

    fn intervals(&self, step: Step, name: Option<&str>, split: &Split) -> Vec<Interval> {
        let shares = split.shares.iter().map(|(name, share)| (name.as_str(), share.buckets())).collect();
        let old = self.base.as_ref().and_then(|base| base.intervals(step, name));
        let intervals = match old {
            Some(old) => rebase(&old, &shares),
            None => fresh(&shares, &self.route.baseline),
        };
        intervals.into_iter().map(|(end, name)| Interval { end, variant: self.variant(name) }).collect()
    }
}
