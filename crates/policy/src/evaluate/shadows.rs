//! What runs beside the variant that serves.

use super::{Choice, Evaluation, Observer};
use crate::bundle::format::{MAX_SHADOWS, Model, NONE, ROUTE_ENABLED, Route, Shadow};
use crate::context::Context;
use crate::hash::BUCKETS;

/// What became of a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShadowOutcome {
    /// Its variant is the one that serves, or runs the same package.
    Serves,
    /// Its variant is unavailable.
    Unavailable,
    /// It is not its time.
    OutsideWindow,
    /// Its condition does not hold.
    ConditionFails,
    /// Its unit is missing.
    UnitMissing,
    /// The bucket is not below its sample.
    NotSampled(u32),
    /// It runs.
    Runs(u32),
}

impl<C: Context + ?Sized, O: Observer> Evaluation<'_, '_, C, O> {
    /// Which of the route's shadows run beside the variant that serves.
    #[inline(always)]
    pub(super) fn shadows(&mut self, route: u32, choice: &mut Choice) {
        let Route { shadows, flags, .. } = self.reader.get(route);
        if !shadows.is_empty() && flags & ROUTE_ENABLED != 0 {
            choice.shadows = self.running_shadows(route, choice.variant);
        }
    }

    /// A bit for each shadow that runs; bit 0 is the first one.
    #[inline(never)]
    fn running_shadows(&mut self, route: u32, serves: u32) -> u32 {
        let route: Route = self.reader.get(route);
        let mut mask = 0;
        for (shadow, index) in self.reader.list::<Shadow>(route.shadows).zip(0..MAX_SHADOWS) {
            let outcome = self.shadow(&route, serves, &shadow);
            self.observer.shadow(index, &shadow, outcome);
            if matches!(outcome, ShadowOutcome::Runs(_)) {
                mask |= 1 << index;
            }
        }
        mask
    }

    fn shadow(&mut self, route: &Route, serves: u32, shadow: &Shadow) -> ShadowOutcome {
        let package = |variant: u32| self.reader.get::<Model>(self.variant(route, variant).model).digest;
        if shadow.variant == serves || package(shadow.variant) == package(serves) {
            ShadowOutcome::Serves
        } else if !self.is_available(route, shadow.variant) {
            ShadowOutcome::Unavailable
        } else if shadow.window != NONE && !self.is_time(shadow.window) {
            ShadowOutcome::OutsideWindow
        } else if !self.holds(shadow.condition) {
            ShadowOutcome::ConditionFails
        } else {
            match self.bucket(shadow.layer, shadow.unit, BUCKETS) {
                None => ShadowOutcome::UnitMissing,
                Some(bucket) if bucket < shadow.sample => ShadowOutcome::Runs(bucket),
                Some(bucket) => ShadowOutcome::NotSampled(bucket),
            }
        }
    }
}
