//! One decision. The steps and their order are specified in `docs/policy-semantics.md`.

mod conditions;
mod serve;
mod shadows;
mod texts;

use crate::bundle::format::{
    Holdout, MAX_PREREQUISITES, NONE, Name, Override, OverrideValue, ROUTE_ENABLED, ROUTE_NAMES, Request,
    Route, RouteHoldout, ScopedRoute, Set, Shadow, Target, Tenant, Test, VariantPlace, Window,
};
use crate::bundle::{Bundle, Reader, RouteView};
use crate::context::{Context, Field};
use crate::decision::{Decision, Reason, Step, UnknownRoute};
use crate::hash::{probe, set_hash};
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
        choose(self, context, now_ms, unavailable, &mut ()).map(|choice| self.decision(&choice))
    }

    /// Decides and leaves it at numbers, which is what the flat entry point hands on. They are written to `choice`, which says nothing
    /// after an error.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    #[inline]
    pub fn choose<C: Context + ?Sized>(
        &self,
        context: &C,
        now_ms: i64,
        unavailable: &[[u8; 32]],
        choice: &mut Choice,
    ) -> Result<(), UnknownRoute> {
        choose_into(self, context, now_ms, unavailable, &mut (), choice)
    }

    /// The decision that a choice made with this bundle stands for.
    #[inline]
    pub fn decision(&self, choice: &Choice) -> Decision<'_> {
        Decision::new(self, choice)
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

/// A [`Decision`] as numbers alone. What its fields mean is said there; [`NONE`](Self::NONE) stands for what there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The place of the route's definition.
    pub route: u32,
    /// The variant's place among the route's.
    pub variant: u32,
    /// Why this variant.
    pub reason: Reason,
    /// A [`Step`]'s number.
    pub step: u8,
    /// The bits [`UNIT_MISSING`](Self::UNIT_MISSING), [`HOLDOUT`](Self::HOLDOUT), [`WASHOUT`](Self::WASHOUT) and
    /// [`UNAVAILABLE`](Self::UNAVAILABLE).
    pub flags: u8,
    /// The unit's bucket.
    pub bucket: u32,
    /// The ramp's stage.
    pub stage: u32,
    /// The switchback's window.
    pub window: u32,
    /// The place of the variant that this one stands in for.
    pub intended: u32,
    /// The place of the rule's and the layer's names.
    pub target: u32,
    /// A bit for each shadow that runs.
    pub shadows: u32,
}

impl Choice {
    /// Nothing.
    pub const NONE: u32 = NONE;
    /// The default's choice, which every step adds to.
    pub const EMPTY: Self = Self {
        route: NONE,
        variant: NONE,
        reason: Reason::Default,
        step: Step::Default as u8,
        flags: 0,
        bucket: NONE,
        stage: NONE,
        window: NONE,
        intended: NONE,
        target: NONE,
        shadows: 0,
    };
    /// The unit that the split sticks to was missing.
    pub const UNIT_MISSING: u8 = 1;
    /// The unit is held out.
    pub const HOLDOUT: u8 = 1 << 1;
    /// A window of a switchback has only begun.
    pub const WASHOUT: u8 = 1 << 2;
    /// Neither the variant can serve nor one that could have stood in for it.
    pub const UNAVAILABLE: u8 = 1 << 3;
}

/// What is being decided, and the hashes of the context's fields, computed when first needed.
struct Evaluation<'b, 'i, C: ?Sized, O> {
    reader: Reader<'b>,
    context: &'i C,
    now: i64,
    unavailable: &'i [[u8; 32]],
    observer: &'i mut O,
    /// Which of the hashes are known, a bit for each field.
    hashed: u8,
    hashes: [u64; Field::ALL.len()],
    /// How many routes are waiting for this one.
    depth: u32,
}

pub(crate) fn choose<C: Context + ?Sized, O: Observer>(
    bundle: &Bundle,
    context: &C,
    now: i64,
    unavailable: &[[u8; 32]],
    observer: &mut O,
) -> Result<Choice, UnknownRoute> {
    let mut choice = Choice::EMPTY;
    choose_into(bundle, context, now, unavailable, observer, &mut choice).map(|()| choice)
}

/// [`choose`] without a choice that is copied from frame to frame.
#[inline]
fn choose_into<C: Context + ?Sized, O: Observer>(
    bundle: &Bundle,
    context: &C,
    now: i64,
    unavailable: &[[u8; 32]],
    observer: &mut O,
    choice: &mut Choice,
) -> Result<(), UnknownRoute> {
    let mut evaluation = Evaluation::new(bundle, context, now, unavailable, observer);
    let route = evaluation.resolve().ok_or(UnknownRoute)?;
    evaluation.choose(route, choice);
    evaluation.shadows(route, choice);
    Ok(())
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
        let hashes = [0; Field::ALL.len()];
        Self { reader, context, now, unavailable, observer, hashed: 0, hashes, depth: 0 }
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
        let admitted = self.holds(access);
        self.observer.definition(&RouteView::new(self.reader, route), admitted);
        admitted
    }

    /// What a definition gives to the context, shadows aside.
    #[inline(never)]
    fn choose(&mut self, index: u32, choice: &mut Choice) {
        let route: Route = self.reader.get(index);
        *choice = Choice { route: index, variant: route.baseline, ..Choice::EMPTY };
        self.find(&route, choice);
        if !self.is_available(&route, choice.variant) {
            self.fall_back(&route, choice);
        }
    }

    /// Finds the first step that matches.
    #[inline(always)]
    fn find(&mut self, route: &Route, choice: &mut Choice) {
        if route.flags & ROUTE_ENABLED == 0 {
            (choice.reason, choice.step) = (Reason::Disabled, Step::Disabled.number());
            return;
        }
        let special = !(route.overrides.is_empty() && route.requests.is_empty() && route.holdouts.is_empty());
        if special && self.is_special(route, choice) {
            return;
        }
        for target in self.reader.list::<Target>(route.targets) {
            if target.window != NONE && !self.is_time(target.window) {
                self.observer.target(&target, Outcome::OutsideWindow);
            } else if !self.target_holds(target.condition) {
                self.observer.target(&target, Outcome::ConditionFails);
            } else if self.serve(route, &target, choice) {
                return;
            }
        }
        // A route's last target is its default, which matches everyone; `Bundle::load` has seen to it.
    }

    /// Whether an override, a permitted request or a holdout decides.
    #[inline(never)]
    fn is_special(&mut self, route: &Route, choice: &mut Choice) -> bool {
        if let Some(variant) = self.overridden(route) {
            choice.variant = variant;
            (choice.reason, choice.step) = (Reason::TargetingMatch, Step::Override.number());
        } else if let Some((variant, label)) = self.requested(route) {
            choice.variant = variant;
            choice.target = label;
            (choice.reason, choice.step) = (Reason::TargetingMatch, Step::Override.number());
        } else if let Some((label, bucket)) = self.held_out(route) {
            choice.target = label;
            choice.bucket = bucket;
            choice.flags |= Choice::HOLDOUT;
            (choice.reason, choice.step) = (Reason::Split, Step::Holdout.number());
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
            let permitted = variant.filter(|_| self.holds(request.members));
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
    fn fall_back(&mut self, route: &Route, choice: &mut Choice) {
        let intended = choice.variant;
        let fallbacks = self.variant(route, intended).fallbacks;
        let mut fallbacks = self.reader.list::<VariantPlace>(fallbacks).map(|place| place.variant);
        let serves = fallbacks.find(|variant| self.is_available(route, *variant));
        self.observer.fallback(intended, serves);
        match serves {
            Some(serves) => {
                choice.variant = serves;
                choice.intended = intended;
                choice.step = Step::Fallback.number();
            }
            None => choice.flags |= Choice::UNAVAILABLE,
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
        let place = self.find_in(map.set, field, text)?;
        Some(map.values.wrapping_add(place))
    }

    /// The place among a set's members of a text, which is the field's.
    #[inline]
    fn find_in(&mut self, set: u32, field: Field, text: &str) -> Option<u32> {
        let set: Set = self.reader.get(set);
        if set.probes & probe(text) == 0 {
            None
        } else if set.slots.is_empty() {
            self.reader.find_among(set.members, text)
        } else {
            let hash = self.hash_of(field, text);
            self.reader.find_in_slots(&set, text, hash)
        }
    }

    /// The hash of a field's value, computed once.
    fn hash_of(&mut self, field: Field, text: &str) -> u64 {
        let Some(hash) = self.hashes.get_mut(field as usize) else { return set_hash(text) };
        if self.hashed >> field as u32 & 1 == 0 {
            self.hashed |= 1 << field as u32;
            *hash = set_hash(text);
        }
        *hash
    }

    /// An evaluation of another route for the same context, which nobody watches.
    fn inner<'n>(&self, observer: &'n mut ()) -> Option<Evaluation<'b, 'n, C, ()>>
    where
        'i: 'n,
    {
        let Self { reader, context, now, unavailable, hashed, hashes, depth, .. } = *self;
        // `Bundle::load` has seen to it that no route asks deeper.
        (depth < MAX_PREREQUISITES).then_some(Evaluation {
            reader,
            context,
            now,
            unavailable,
            observer,
            hashed,
            hashes,
            depth: depth + 1,
        })
    }
}
