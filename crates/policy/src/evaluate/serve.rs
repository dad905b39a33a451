//! What a step serves: a variant, a split, a stage of a ramp, an experiment's share of a layer, or a window of a switchback.

use super::{Choice, Evaluation, Observer, Outcome};
use crate::bundle::Reader;
use crate::bundle::format::{
    Attribute, FIELDS, Interval, Kind, Layer, MAX_UNIT_PARTS, Model, NONE, Pause, RAMP_AUTOMATIC, Ramp,
    Route, SWITCHBACK_ENDS, Span, Split, Stage, Switchback, Target, Unit, UnitPart, VARIANT_DISABLED,
    Variant, VariantPlace,
};
use crate::clock;
use crate::context::{AttributeValue, Context, Field};
use crate::decision::{Reason, Step};
use crate::hash::turn;
use crate::profiles::bucket_of;

impl<C: Context + ?Sized, O: Observer> Evaluation<'_, '_, C, O> {
    /// Gives the context what a target whose condition holds serves; false when the next one is to be looked at.
    #[inline(always)]
    pub(super) fn serve(&mut self, route: &Route, target: &Target, choice: &mut Choice) -> bool {
        let outcome = match target.kind() {
            Some(Kind::Variant) => {
                choice.variant = target.serve;
                choice.reason = untargeted(route, target);
                Outcome::Variant
            }
            Some(Kind::Split) => {
                let split: Split = self.reader.get(target.serve);
                self.split(&split, None, choice)
            }
            _ => self.serve_otherwise(target, choice),
        };
        self.observer.target(target, outcome);
        if let Outcome::PassedWithoutUnit | Outcome::PassedByBucket(_) | Outcome::PassedByTime = outcome {
            return false;
        }
        choice.step = target.step_number();
        choice.target = target.label;
        true
    }

    /// A split, or the stage of a ramp that is one.
    #[inline(always)]
    fn split(&self, split: &Split, stage: Option<u32>, choice: &mut Choice) -> Outcome {
        match self.bucket_of(split) {
            Some(bucket) => {
                choice.variant = owner(self.reader, split.intervals, bucket);
                choice.reason = Reason::Split;
                choice.bucket = bucket;
                Outcome::Bucket { bucket, stage }
            }
            // The baseline serves, for its default reason.
            None => {
                choice.flags |= Choice::UNIT_MISSING;
                Outcome::UnitMissing { stage }
            }
        }
    }

    #[inline(never)]
    fn serve_otherwise(&self, target: &Target, choice: &mut Choice) -> Outcome {
        match target.kind() {
            Some(Kind::Experiment) => self.experiment(target, choice),
            Some(Kind::Ramp) => self.ramp(target, choice),
            _ => self.switchback(target, choice),
        }
    }

    fn experiment(&self, target: &Target, choice: &mut Choice) -> Outcome {
        let split: Split = self.reader.get(target.serve);
        let Some(bucket) = self.bucket_of(&split) else { return Outcome::PassedWithoutUnit };
        let variant = owner(self.reader, split.intervals, bucket);
        if variant == NONE {
            return Outcome::PassedByBucket(bucket);
        }
        (choice.variant, choice.reason, choice.bucket) = (variant, Reason::Split, bucket);
        Outcome::Bucket { bucket, stage: None }
    }

    fn ramp(&self, target: &Target, choice: &mut Choice) -> Outcome {
        let reader = self.reader;
        let ramp: Ramp = reader.get(target.serve);
        let (number, stage) = stage_in_force(reader, &ramp, self.now);
        let first = || reader.get::<Stage>(ramp.stages.start);
        let Stage { scale, intervals, .. } = stage.unwrap_or_else(first);
        choice.stage = number;
        let split = Split { layer: ramp.layer, unit: ramp.unit, scale, intervals };
        let outcome = self.split(&split, Some(number), choice);
        if let (Outcome::Bucket { .. }, None) = (outcome, stage) {
            choice.variant = ramp.from;
        }
        outcome
    }

    /// The variant whose turn it is; the baseline stays while the window has only begun.
    fn switchback(&self, target: &Target, choice: &mut Choice) -> Outcome {
        let reader = self.reader;
        let switchback: Switchback = reader.get(target.serve);
        let over = switchback.flags & SWITCHBACK_ENDS != 0 && self.now >= switchback.end;
        let since = clock::since(switchback.start, self.now).filter(|_| !over);
        let Some(since) = since else { return Outcome::PassedByTime };
        let Some(parts) = self.unit(switchback.unit) else { return Outcome::PassedWithoutUnit };
        // `Bundle::load` has seen to it that windows and variants are more than none.
        let count = u64::from(switchback.variants.count.max(1));
        let (window, into) = (since / switchback.window.max(1), since % switchback.window.max(1));
        choice.reason = Reason::Split;
        // The highest number a shell can be told.
        choice.window = u32::try_from(window).unwrap_or(u32::MAX).min(u32::MAX - 1);
        if into < switchback.washout {
            choice.flags |= Choice::WASHOUT;
            return Outcome::Turn { window, washout: true };
        }
        let (block, place) = (window / count, (window % count) as u32);
        let turn =
            turn(reader.text(switchback.seed), parts.as_slice(), block, place, switchback.variants.count);
        choice.variant = reader.get::<VariantPlace>(switchback.variants.start.wrapping_add(turn)).variant;
        Outcome::Turn { window, washout: false }
    }

    /// The bucket of the context's unit in a split's layer; `None` when a part of the unit is missing.
    #[inline]
    pub(super) fn bucket_of(&self, split: &Split) -> Option<u32> {
        self.bucket(split.layer, split.unit, split.scale)
    }

    /// The bucket of the context's unit in a layer; `None` when a part of the unit is missing.
    #[inline]
    pub(super) fn bucket(&self, layer: u32, unit: u32, scale: u32) -> Option<u32> {
        match (Field::from_number(unit), self.reader.bundle().prefix(layer)) {
            // Nearly all splits are of this kind.
            (Some(field), Some(prefix)) => field.of(self.context).map(|text| prefix.bucket(text)),
            _ => self.bucket_of_parts(layer, unit, scale),
        }
    }

    #[inline(never)]
    fn bucket_of_parts(&self, layer: u32, number: u32, scale: u32) -> Option<u32> {
        let parts = self.unit(number)?;
        let layer: Layer = self.reader.get(layer);
        let algorithm = layer.algorithm().unwrap_or_default();
        // One function for all kinds of contexts, since it knows so many hashes.
        Some(bucket_of(algorithm, scale, self.reader.text(layer.salt), parts.as_slice()))
    }

    /// The parts of the context's unit; `None` when one of them is missing.
    fn unit(&self, unit: u32) -> Option<UnitParts<'_>> {
        let mut parts = UnitParts::default();
        match unit.checked_sub(FIELDS) {
            None => parts.push(self.part(unit)?),
            Some(place) => {
                for UnitPart { part } in self.reader.list(self.reader.get::<Unit>(place).parts) {
                    parts.push(self.part(part)?);
                }
            }
        }
        Some(parts)
    }

    /// The value of a part of a unit.
    fn part(&self, part: u32) -> Option<&str> {
        let Some(attribute) = part.checked_sub(FIELDS) else {
            return Field::from_number(part)?.of(self.context);
        };
        let name = self.reader.get::<Attribute>(attribute).name;
        match self.context.attribute(self.reader.text(name))? {
            AttributeValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A variant of the route.
    #[inline]
    pub(super) fn variant(&self, route: &Route, variant: u32) -> Variant {
        self.reader.get(route.variants.start.wrapping_add(variant))
    }

    /// Whether a variant of the route has this name.
    pub(super) fn is_called(&self, route: &Route, variant: u32, name: &str) -> bool {
        self.reader.is(self.variant(route, variant).name, name)
    }

    /// Whether a variant of the route can serve.
    #[inline]
    pub(super) fn is_available(&self, route: &Route, variant: u32) -> bool {
        let Variant { flags, model, .. } = self.variant(route, variant);
        if flags & VARIANT_DISABLED != 0 {
            return false;
        }
        self.unavailable.is_empty() || {
            let Model { digest, .. } = self.reader.get(model);
            !self.unavailable.contains(&digest.0)
        }
    }
}

/// Why a target serves one variant.
#[inline]
fn untargeted(route: &Route, target: &Target) -> Reason {
    let nothing_else = route.targets.count == 1
        && route.overrides.is_empty()
        && route.requests.is_empty()
        && route.holdouts.is_empty();
    match (target.step_number() == Step::Default.number(), nothing_else) {
        (true, true) => Reason::Static,
        (true, false) => Reason::Default,
        _ => Reason::TargetingMatch,
    }
}

/// The number of the stage of a ramp that is in force, and the stage, unless it is stage 0.
pub(crate) fn stage_in_force(reader: Reader<'_>, ramp: &Ramp, now: i64) -> (u32, Option<Stage>) {
    let pauses = reader.list::<Pause>(ramp.pauses);
    let Some(elapsed) = clock::elapsed(ramp.start, now, pauses) else { return (0, None) };
    let approved = if ramp.flags & RAMP_AUTOMATIC != 0 { u32::MAX } else { ramp.approved_stage };
    let stages = (1..=approved).zip(reader.list::<Stage>(ramp.stages));
    let reached = stages.take_while(|(_, stage)| stage.offset <= elapsed).last();
    reached.map_or((0, None), |(number, stage)| (number, Some(stage)))
}

/// The owner of the interval that holds `bucket`.
#[inline]
pub(super) fn owner(reader: Reader<'_>, intervals: Span, bucket: u32) -> u32 {
    /// Up to this many are looked at one by one.
    const FEW: u32 = 8;
    let (mut low, mut high) = (0, intervals.count.saturating_sub(1));
    let at = |place: u32| reader.get::<Interval>(intervals.start.wrapping_add(place));
    while high - low > FEW {
        let middle = low + (high - low) / 2;
        if at(middle).end > bucket { high = middle } else { low = middle + 1 }
    }
    loop {
        let interval = at(low);
        if interval.end > bucket || low >= high {
            return interval.variant;
        }
        low += 1;
    }
}

/// The values of a unit's parts, in order.
#[derive(Default)]
struct UnitParts<'a> {
    texts: [&'a str; MAX_UNIT_PARTS as usize],
    count: usize,
}

impl<'a> UnitParts<'a> {
    fn push(&mut self, text: &'a str) {
        if let Some(place) = self.texts.get_mut(self.count) {
            *place = text;
            self.count += 1;
        }
    }

    fn as_slice(&self) -> &[&'a str] {
        self.texts.get(..self.count).unwrap_or_default()
    }
}
