//! One decision. The steps and their order are specified in `docs/policy-semantics.md`.

mod conditions;
mod serve;
mod shadows;
mod texts;

use crate::bundle::format::{
    Holdout, MAX_PREREQUISITES, NONE, Name, Override, OverrideValue, ROUTE_ENABLED, ROUTE_NAMES, Request,
    Route, RouteHoldout, ScopedRoute, Shadow, Target, Tenant, Test, VariantPlace, Window,
};
use crate::bundle::{Bundle, Reader, RouteView};
use crate::context::{Context, Field};
use crate::decision::{Decision, Reason, Step, UnknownRoute};
use crate::hash::set_hash;
pub(crate) use shadows::ShadowOutcome;

impl Bundle {
    /// Decides which variant of the context's route serves, and says why.
    ///
    /// `now_ms` counts milliseconds since 1970-01-01T00:00Z, and `unavailable` lists the digests of packages that cannot
    /// serve. Allocates nothing.
    ///
    /// # Errors
    /// The bundle has no such route, or none that this context may know of.
    #[inline]
    pub fn decide<C: Context + ?Sized>(
        &self,
        context: &C,
        now_ms: i64,
        unavailable: &[[u8; 32]],
    ) -> Result<Decision<'_>, UnknownRoute> {
        decide(self, context, now_ms, unavailable, &mut ())
    }

    /// The definition of the context's route that [`decide`](Self::decide) would take; `None` where it would say that there
    /// is no such route.
    pub fn resolve<C: Context + ?Sized>(
        &self,
        context: &C,
        now_ms: i64,
        unavailable: &[[u8; 32]],
    ) -> Option<RouteView<'_>> {
        let mut observer = ();
        let mut evaluation = Evaluation::new(self, context, now_ms, unavailable, &mut observer);
        let route = evaluation.resolve()?;
        Some(RouteView::new(evaluation.reader, route))
    }
}

/// Watches an evaluation, so that what explains a decision is what made it.
pub(crate) trait Observer {
    /// A definition of the route was looked at; one whose `access` does not hold is passed over.
    fn definition(&mut self, _route: &RouteView<'_>, _admitted: bool) {}
    /// The overrides by one field were searched; `found` says where the entry stands in the source.
    fn overrides(&mut self, _field: Field, _found: Option<OverrideValue>) {}
    /// All overrides were searched.
    fn overridden(&mut self, _first: Option<OverrideValue>) {}
    /// The context asks for a variant, and this is what a request said to it.
    fn request(&mut self, _request: &Request, _permitted: bool) {}
    /// A holdout was looked at; no bucket means that its unit is missing.
    fn holdout(&mut self, _holdout: &Holdout, _bucket: Option<u32>, _held_out: bool) {}
    /// A test was made. `segment` is the segment whose program the test belongs to.
    fn test(&mut self, _test: Test, _segment: Option<u32>, _result: bool) {}
    /// A target was looked at.
    fn target(&mut self, _target: &Target, _outcome: Outcome) {}
    /// The variant that was chosen is unavailable.
    fn fallback(&mut self, _intended: u32, _serves: Option<u32>) {}
    /// A shadow was looked at.
    fn shadow(&mut self, _index: u32, _shadow: &Shadow, _outcome: ShadowOutcome) {}
}

/// Watches nothing.
impl Observer for () {}

/// What became of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is not its time.
    OutsideWindow,
    /// Its condition does not hold.
    ConditionFails,
    /// One variant serves.
    Variant,
    /// The unit of a split or ramp is missing; `stage` is the ramp's.
    UnitMissing { stage: Option<u32> },
    /// The bucket decided; `stage` is the ramp's.
    Bucket { bucket: u32, stage: Option<u32> },
    /// The unit of an experiment or a switchback is missing, so the next step is looked at.
    PassedWithoutUnit,
    /// The bucket is not the experiment's, so the next step is looked at.
    PassedByBucket(u32),
    /// The switchback has not begun or is over, so the next step is looked at.
    PassedByTime,
    /// The window of a switchback decided.
    Turn { window: u64, washout: bool },
}

/// What is being decided, and the hashes of the context's fields, computed when first needed.
struct Evaluation<'b, 'i, C: ?Sized, O> {
    reader: Reader<'b>,
    context: &'i C,
    now: i64,
    unavailable: &'i [[u8; 32]],
    observer: &'i mut O,
    hashes: [Option<u64>; Field::ALL.len()],
    /// How many routes are waiting for this one.
    depth: u32,
}

pub(crate) fn decide<'b, C: Context + ?Sized, O: Observer>(
    bundle: &'b Bundle,
    context: &C,
    now: i64,
    unavailable: &[[u8; 32]],
    observer: &mut O,
) -> Result<Decision<'b>, UnknownRoute> {
    let mut evaluation = Evaluation::new(bundle, context, now, unavailable, observer);
    let index = evaluation.resolve().ok_or(UnknownRoute)?;
    let route: Route = evaluation.reader.get(index);
    let mut decision = Decision::new(bundle, index, route.baseline);
    evaluation.serves(&route, &mut decision);
    if !route.shadows.is_empty() && route.flags & ROUTE_ENABLED != 0 {
        decision.shadow_mask = evaluation.shadows(&route, decision.variant_index);
    }
    Ok(decision)
}

impl<'b, 'i, C: Context + ?Sized, O: Observer> Evaluation<'b, 'i, C, O> {
    #[inline]
    fn new(
        bundle: &'b Bundle,
        context: &'i C,
        now: i64,
        unavailable: &'i [[u8; 32]],
        observer: &'i mut O,
    ) -> Self {
        let reader = bundle.reader();
        Self { reader, context, now, unavailable, observer, hashes: [None; Field::ALL.len()], depth: 0 }
    }

    /// The place of the context's route, in the definition that it gets.
    #[inline]
    fn resolve(&mut self) -> Option<u32> {
        let wanted = self.context.route();
        let name = self.reader.find(ROUTE_NAMES, wanted, || set_hash(wanted))?;
        self.definition(name)
    }

    /// The first of the name's definitions, from the most specific on, that the context may know of.
    #[inline]
    fn definition(&mut self, name: u32) -> Option<u32> {
        let name: Name = self.reader.get(name);
        if name.tenants.set != NONE || name.users.set != NONE {
            let [of_tenant_and_user, of_user, of_tenant] = self.definitions(&name);
            for route in [of_tenant_and_user, of_user, of_tenant].into_iter().flatten() {
                if self.admits(route) {
                    return Some(route);
                }
            }
        }
        (name.platform != NONE && self.admits(name.platform)).then_some(name.platform)
    }

    /// The definitions for the context's tenant and user, for its user, and for its tenant.
    fn definitions(&mut self, name: &Name) -> [Option<u32>; 3] {
        let reader = self.reader;
        let route = |place: Option<u32>| place.map(|place| reader.get::<ScopedRoute>(place).route);
        let of_user = route(self.value(Field::User, name.users));
        let tenant = self.value(Field::Tenant, name.tenants).map(|place| reader.get::<Tenant>(place));
        let Some(Tenant { route: own, users }) = tenant else { return [None, of_user, None] };
        [route(self.value(Field::User, users)), of_user, (own != NONE).then_some(own)]
    }

    /// Whether the context may know of a definition.
    #[inline]
    fn admits(&mut self, route: u32) -> bool {
        let access = self.reader.get::<Route>(route).access;
        let admitted = self.holds(access, None);
        self.observer.definition(&RouteView::new(self.reader, route), admitted);
        admitted
    }

    /// What the route gives to the context, shadows aside. `decision` is a new one.
    #[inline]
    fn serves(&mut self, route: &Route, decision: &mut Decision<'b>) {
        self.choose(route, decision);
        if !self.is_available(route, decision.variant_index) {
            self.fall_back(route, decision);
        }
    }

    /// Finds the first step that matches.
    #[inline]
    fn choose(&mut self, route: &Route, decision: &mut Decision<'b>) {
        if route.flags & ROUTE_ENABLED == 0 {
            (decision.reason, decision.step) = (Reason::Disabled, Step::Disabled);
            return;
        }
        let special = !(route.overrides.is_empty() && route.requests.is_empty() && route.holdouts.is_empty());
        if special && self.is_special(route, decision) {
            return;
        }
        for target in self.reader.list::<Target>(route.targets) {
            if target.window != NONE && !self.is_time(target.window) {
                self.observer.target(&target, Outcome::OutsideWindow);
            } else if !self.holds(target.condition, None) {
                self.observer.target(&target, Outcome::ConditionFails);
            } else if self.serve(route, &target, decision) {
                return;
            }
        }
        // A route's last target is its default, which matches everyone; `Bundle::load` has seen to it.
    }

    /// Whether an override, a permitted request or a holdout decides.
    #[inline(never)]
    fn is_special(&mut self, route: &Route, decision: &mut Decision<'b>) -> bool {
        if let Some(variant) = self.overridden(route) {
            decision.variant_index = variant;
            (decision.reason, decision.step) = (Reason::TargetingMatch, Step::Override);
        } else if let Some((variant, label)) = self.requested(route) {
            decision.variant_index = variant;
            decision.target_index = Some(label);
            (decision.reason, decision.step) = (Reason::TargetingMatch, Step::Override);
        } else if let Some((label, bucket)) = self.held_out(route) {
            decision.target_index = Some(label);
            (decision.bucket, decision.holdout) = (Some(bucket), true);
            (decision.reason, decision.step) = (Reason::Split, Step::Holdout);
        } else {
            return false;
        }
        true
    }

    /// The variant of the override that names the context; of several, the first in the source.
    fn overridden(&mut self, route: &Route) -> Option<u32> {
        let mut first: Option<OverrideValue> = None;
        for entry in self.reader.list::<Override>(route.overrides) {
            let Some(field) = Field::from_number(entry.field) else { continue };
            let place = self.value(field, entry.entries);
            let value = place.map(|place| self.reader.get::<OverrideValue>(place));
            self.observer.overrides(field, value);
            if value.is_some_and(|value| first.is_none_or(|first| value.order < first.order)) {
                first = value;
            }
        }
        self.observer.overridden(first);
        first.map(|value| value.variant)
    }

    /// The variant that the context asks for and the label of the request that permits it.
    fn requested(&mut self, route: &Route) -> Option<(u32, u32)> {
        let wanted = self.context.requested_variant().filter(|wanted| !wanted.is_empty())?;
        let reader = self.reader;
        for request in reader.list::<Request>(route.requests) {
            let listed = reader.list::<VariantPlace>(request.variants);
            let variant =
                listed.map(|place| place.variant).find(|variant| self.is_called(route, *variant, wanted));
            let permitted = variant.filter(|_| self.holds(request.members, None));
            self.observer.request(&request, permitted.is_some());
            if let Some(variant) = permitted {
                return Some((variant, request.label));
            }
        }
        None
    }

    /// The label of the holdout that the context belongs to, and its bucket there.
    fn held_out(&mut self, route: &Route) -> Option<(u32, u32)> {
        let reader = self.reader;
        for RouteHoldout { holdout } in reader.list(route.holdouts) {
            let holdout: Holdout = reader.get(holdout);
            let split = reader.get(holdout.split);
            let bucket = self.bucket_of(&split);
            let held_out = bucket.is_some_and(|bucket| serve::owner(reader, split.intervals, bucket) != NONE);
            self.observer.holdout(&holdout, bucket, held_out);
            if let (Some(bucket), true) = (bucket, held_out) {
                return Some((holdout.label, bucket));
            }
        }
        None
    }

    /// Lets a fallback serve instead of a variant that cannot.
    #[cold]
    fn fall_back(&mut self, route: &Route, decision: &mut Decision<'b>) {
        let intended = decision.variant_index;
        let fallbacks = self.variant(route, intended).fallbacks;
        let mut fallbacks = self.reader.list::<VariantPlace>(fallbacks).map(|place| place.variant);
        let serves = fallbacks.find(|variant| self.is_available(route, *variant));
        self.observer.fallback(intended, serves);
        match serves {
            Some(serves) => {
                decision.variant_index = serves;
                decision.intended_index = Some(intended);
                decision.step = Step::Fallback;
            }
            None => decision.unavailable = true,
        }
    }

    /// Whether `now` lies in a window.
    #[inline]
    fn is_time(&self, window: u32) -> bool {
        let Window { first, last } = self.reader.get(window);
        first <= self.now && self.now <= last
    }

    /// The place in a map for the field's value.
    #[inline]
    fn value(&mut self, field: Field, map: crate::bundle::format::Map) -> Option<u32> {
        if map.set == NONE {
            return None;
        }
        let text = field.of(self.context)?;
        let hashes = &mut self.hashes;
        self.reader.value(map, text, || hash_of(hashes, field, text))
    }

    /// An evaluation of another route for the same context, which nobody watches.
    fn inner<'n>(&self, observer: &'n mut ()) -> Option<Evaluation<'b, 'n, C, ()>>
    where
        'i: 'n,
    {
        let Self { reader, context, now, unavailable, hashes, depth, .. } = *self;
        // `Bundle::load` has seen to it that no route asks deeper.
        (depth < MAX_PREREQUISITES).then_some(Evaluation {
            reader,
            context,
            now,
            unavailable,
            observer,
            hashes,
            depth: depth + 1,
        })
    }
}

/// The hash of a field's value, computed once.
#[inline]
fn hash_of(hashes: &mut [Option<u64>; Field::ALL.len()], field: Field, text: &str) -> u64 {
    match hashes.get_mut(field as usize) {
        Some(hash) => *hash.get_or_insert_with(|| set_hash(text)),
        None => set_hash(text),
    }
}
