//! One decision. The steps and their order are specified in `docs/policy-semantics.md`.

use crate::bundle::Bundle;
use crate::bundle::format::{
    ACCEPT, Instruction, Interval, Layer, NONE, Override, OverrideValue, REJECT, Route, Section, Segment,
    Table, Target, Test, unit_fields,
};
use crate::bundle::{RouteView, VariantView};
use crate::context::{AttributeValue, Context, Field};
use crate::decision::{Decision, Reason, Step, UnknownRoute};
use crate::hash::{bucket, set_hash};

impl Bundle {
    /// Decides which variant of the context's route serves, and says why.
    ///
    /// `now_ms` counts milliseconds since 1970-01-01T00:00Z, and `unavailable` lists the digests of packages that cannot
    /// serve. Bundles of format 1.0 hold neither times nor fallbacks, so these two change nothing yet; callers pass what
    /// they know all the same.
    ///
    /// Allocates nothing.
    ///
    /// # Errors
    /// The bundle has no such route.
    pub fn decide<C: Context + ?Sized>(
        &self,
        context: &C,
        now_ms: i64,
        unavailable: &[[u8; 32]],
    ) -> Result<Decision<'_>, UnknownRoute> {
        let _ = (now_ms, unavailable);
        evaluate(self, context, &mut ())
    }
}

/// Watches an evaluation, so that what explains a decision is what made it.
pub(crate) trait Observer {
    /// The route was found.
    fn route(&mut self, _route: &RouteView<'_>) {}
    /// The overrides by one field were searched; `found` says where the entry stands in the source.
    fn overrides(&mut self, _field: Field, _found: Option<OverrideValue>) {}
    /// All overrides were searched.
    fn overridden(&mut self, _first: Option<OverrideValue>) {}
    /// A test was made. `segment` is the segment whose program the test belongs to.
    fn test(&mut self, _test: Test, _segment: Option<u32>, _result: bool) {}
    /// A target's condition was settled.
    fn target(&mut self, _target: &Target, _matched: bool) {}
    /// A target's split was looked up; no bucket means that the unit is missing.
    fn split(&mut self, _target: &Target, _bucket: Option<u32>) {}
}

/// Watches nothing.
impl Observer for () {}

/// What is being decided, and the hashes of the context's fields, computed when first needed.
struct Evaluation<'b, 'c, C: ?Sized, O> {
    bundle: &'b Bundle,
    context: &'c C,
    observer: &'c mut O,
    hashes: [Option<u64>; Field::ALL.len()],
}

pub(crate) fn evaluate<'b, C: Context + ?Sized, O: Observer>(
    bundle: &'b Bundle,
    context: &C,
    observer: &mut O,
) -> Result<Decision<'b>, UnknownRoute> {
    let view = bundle.route(context.route()).ok_or(UnknownRoute)?;
    observer.route(&view);
    let route = view.record();
    let mut evaluation = Evaluation { bundle, context, observer, hashes: [None; Field::ALL.len()] };

    if !view.enabled() {
        return Ok(decision(bundle, &view, route.baseline, Reason::Disabled, Step::Disabled));
    }
    if let Some(variant) = evaluation.overridden(&route) {
        return Ok(decision(bundle, &view, variant, Reason::TargetingMatch, Step::Override));
    }
    let targets: Table<'_, Target> = bundle.table(Section::Targets);
    for target in targets.range(route.targets_start, route.targets_count) {
        let matched = evaluation.matches(target.program_start, target.program_len, None);
        evaluation.observer.target(&target, matched);
        if matched {
            return Ok(evaluation.serve(&view, &target));
        }
    }
    // A route's last target is its default, which matches everyone; `Bundle::load` has seen to it.
    Ok(decision(bundle, &view, route.baseline, Reason::Default, Step::Default))
}

impl<'b, C: Context + ?Sized, O: Observer> Evaluation<'b, '_, C, O> {
    /// The variant of the override that names the context; of several, the first in the source.
    fn overridden(&mut self, route: &Route) -> Option<u32> {
        let entries: Table<'_, Override> = self.bundle.table(Section::Overrides);
        let values: Table<'_, OverrideValue> = self.bundle.table(Section::OverrideValues);
        let mut first: Option<OverrideValue> = None;
        for entry in entries.range(route.overrides_start, route.overrides_count) {
            let Some(field) = Field::from_number(entry.field) else { continue };
            let member = self.find(field, entry.set);
            let value = member.map(|member| values.get(entry.values_start.saturating_add(member)));
            self.observer.overrides(field, value);
            if value.is_some_and(|value| first.is_none_or(|first| value.order < first.order)) {
                first = value;
            }
        }
        self.observer.overridden(first);
        first.map(|value| value.variant)
    }

    /// The place of the field's value in a set.
    fn find(&mut self, field: Field, set: u32) -> Option<u32> {
        let text = field.of(self.context)?;
        let hash = match self.hashes.get_mut(field as usize) {
            Some(hash) => *hash.get_or_insert_with(|| set_hash(text)),
            None => set_hash(text),
        };
        self.bundle.find(set, text, hash)
    }

    /// Runs a program. Jumps lead forward only, so every instruction runs once at most.
    fn matches(&mut self, start: u32, len: u32, segment: Option<u32>) -> bool {
        let instructions: Table<'_, Instruction> = self.bundle.table(Section::Programs);
        let mut at = 0;
        while at < len {
            let instruction = instructions.get(start.saturating_add(at));
            let Some(test) = Test::of(instruction) else { return false };
            let result = self.test(test, segment.is_none());
            self.observer.test(test, segment, result);
            let next = if result { instruction.on_true } else { instruction.on_false };
            match next {
                ACCEPT => return true,
                REJECT => return false,
                next if next > at => at = next,
                _ => return false,
            }
        }
        len == 0
    }

    fn test(&mut self, test: Test, may_enter_segment: bool) -> bool {
        let attribute = |name: u32| self.context.attribute(self.bundle.text(name));
        match test {
            Test::FieldIn(field, set) => self.find(field, set).is_some(),
            Test::FieldPresent(field) => field.of(self.context).is_some(),
            Test::AttributeIn { name, set } => match attribute(name) {
                Some(AttributeValue::Text(text)) => self.bundle.find(set, text, set_hash(text)).is_some(),
                _ => false,
            },
            Test::AttributePresent { name } => attribute(name).is_some(),
            Test::AttributeNumber { name, test, value } => match attribute(name) {
                Some(AttributeValue::Number(have)) => test.holds(have, value),
                _ => false,
            },
            Test::AttributeBoolean { name, value } => attribute(name) == Some(AttributeValue::Boolean(value)),
            Test::Segment(index) => {
                let segment: Segment = self.bundle.table(Section::Segments).get(index);
                // The programs of segments ask for no segment, which keeps this one level deep.
                may_enter_segment && self.matches(segment.program_start, segment.program_len, Some(index))
            }
        }
    }

    fn serve(&mut self, view: &RouteView<'b>, target: &Target) -> Decision<'b> {
        let route = view.record();
        let step = u8::try_from(target.step).ok().and_then(Step::from_number).unwrap_or(Step::Default);
        let rule = self.bundle.optional_text(target.name);
        if target.variant != NONE {
            let untargeted = route.targets_count == 1 && route.overrides_count == 0;
            let reason = match step {
                Step::Default if untargeted => Reason::Static,
                Step::Default => Reason::Default,
                _ => Reason::TargetingMatch,
            };
            return Decision { rule, ..decision(self.bundle, view, target.variant, reason, step) };
        }

        let layer: Layer = self.bundle.table(Section::Layers).get(target.layer);
        let bucket = self.bucket(target.unit, self.bundle.text(layer.salt));
        self.observer.split(target, bucket);
        let (variant, reason) = match bucket {
            Some(bucket) => (self.owner(target, bucket), Reason::Split),
            None => (route.baseline, Reason::Default),
        };
        Decision {
            rule,
            layer: Some(self.bundle.text(layer.name)),
            bucket,
            unit_missing: bucket.is_none(),
            ..decision(self.bundle, view, variant, reason, step)
        }
    }

    /// The bucket of the context's unit, or `None` when a part of the unit is missing.
    fn bucket(&self, unit: u32, salt: &str) -> Option<u32> {
        let context = self.context;
        if unit_fields(unit).any(|field| field.of(context).is_none()) {
            return None;
        }
        Some(bucket(salt, unit_fields(unit).filter_map(|field| field.of(context))))
    }

    /// The variant whose interval holds `bucket`.
    fn owner(&self, target: &Target, bucket: u32) -> u32 {
        let intervals: Table<'_, Interval> = self.bundle.table(Section::Intervals);
        let (mut low, mut high) = (0, target.intervals_count.saturating_sub(1));
        while low < high {
            let middle = low + (high - low) / 2;
            if intervals.get(target.intervals_start.saturating_add(middle)).end > bucket {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        intervals.get(target.intervals_start.saturating_add(low)).variant
    }
}

fn decision<'b>(
    bundle: &'b Bundle,
    view: &RouteView<'b>,
    variant_index: u32,
    reason: Reason,
    step: Step,
) -> Decision<'b> {
    let route = view.record();
    let VariantView { name: variant, model, version, digest: package, placement, payload } =
        bundle.variant(&route, variant_index);
    Decision {
        route: view.name(),
        route_index: view.index(),
        variant,
        variant_index,
        payload,
        model,
        version,
        package,
        placement,
        reason,
        step,
        rule: None,
        layer: None,
        bucket: None,
        unit_missing: false,
    }
}
