//! Routes by name and scope, and what they serve.

use super::Validator;
use super::programs::Asker;
use crate::bundle::LoadError;
use crate::bundle::format::{
    Holdout, Kind, Label, MAX_PREREQUISITES, MAX_SHADOWS, MAX_SWITCHBACK_VARIANTS, MAX_TESTS, MAX_VARIANTS,
    Map, Model, NONE, Name, Override, OverrideValue, Pause, ROUTE_NAMES, Ramp, Request, Route, RouteHoldout,
    RouteText, ScopedRoute, Section, Set, SetMember, Shadow, Span, Split, Stage, Switchback, Target, Tenant,
    Variant, VariantPlace, Window,
};
use crate::{BUCKETS, Field, Step};

impl Validator<'_> {
    /// Checks all routes, those first that others ask.
    pub(super) fn names(&mut self) {
        self.order_of_routes();
        // From here on each definition is looked at once, by its name.
        if !self.is_sound() {
            return;
        }
        let names = self.reader.count::<Name>();
        self.names = vec![None; names as usize];
        for depth in 0..=MAX_PREREQUISITES {
            for (place, name) in (0..names).zip(self.reader.all::<Name>()) {
                if name.depth == depth {
                    let cost = self.name(&name);
                    if let Some(known) = self.names.get_mut(place as usize) {
                        *known = Some(cost);
                    }
                }
            }
        }
        self.ensure(self.names.iter().all(Option::is_some), Section::Name, "routes ask routes too deep");
    }

    /// Checks that the definitions are sorted and that each name has its own.
    fn order_of_routes(&self) {
        let (section, routes) = (Section::Name, self.reader.count::<Route>());
        let texts = self.reader.count::<RouteText>();
        self.ensure(texts == routes, Section::RouteText, "not one record per route");
        self.ensure(
            self.reader.count::<Set>() > ROUTE_NAMES,
            Section::Set,
            "the set of route names is missing",
        );
        let Set { members, .. } = self.reader.get(ROUTE_NAMES);
        self.ensure(members.count == self.reader.count::<Name>(), section, "not one record per route name");
        let mut before = None;
        for text in self.reader.all::<RouteText>() {
            let section = Section::RouteText;
            self.text(text.name, section);
            self.optional_text(text.tenant, section);
            self.optional_text(text.user, section);
            self.optional_text(text.description, section);
            let signatures = self.reader.section(Section::Signatures).len() as u32;
            let Span { start, count } = text.signature;
            let inside = start.checked_add(count).is_some_and(|end| end <= signatures);
            self.ensure(inside, section, "a signature lies outside its section");
            let is_share = text.records == NONE || text.records <= BUCKETS;
            self.ensure(is_share, section, "a share of records is above the whole");
            let scope = (self.reader.optional(text.tenant), self.reader.optional(text.user));
            let key = Some((self.reader.text(text.name), scope));
            self.ensure(before < key, section, "the routes are not sorted");
            before = key;
        }
        let mut next = 0;
        for (name, member) in self.reader.all::<Name>().zip(self.reader.list::<SetMember>(members)) {
            self.ensure(
                name.routes.start == next && !name.routes.is_empty(),
                section,
                "a name has no routes of its own",
            );
            let wanted = self.reader.text(member.text);
            for text in self.list::<RouteText>(name.routes, section) {
                self.ensure(self.reader.is(text.name, wanted), section, "a route has another name");
            }
            next = name.routes.places().end;
        }
        self.ensure(next == routes, section, "a route has no name");
    }

    /// Checks a name and its definitions, and says how many tests a decision takes at most.
    fn name(&self, name: &Name) -> u64 {
        self.scopes(name);
        let (mut access, mut steps) = (0_u64, 0);
        for route in self.reader.list::<Route>(name.routes) {
            let asker = Asker::Route(name.depth);
            access = self.program(route.access, asker, Section::Route).cost.max(access);
            steps = self.route(&route, asker).max(steps);
        }
        // A context has four definitions of a name at most.
        let cost = access.saturating_mul(4).saturating_add(steps);
        if cost > u64::from(MAX_TESTS) {
            let text: RouteText = self.reader.get(name.routes.start);
            self.fail(LoadError::TooCostly { route: self.reader.text(text.name).to_owned() });
        }
        cost
    }

    /// Checks that each scope leads to a definition of the name for this scope.
    fn scopes(&self, name: &Name) {
        let section = Section::Name;
        let leads = |route: u32, tenant: Option<&str>, user: Option<&str>| {
            let text: RouteText = self.reader.get(route);
            let scope = (self.reader.optional(text.tenant), self.reader.optional(text.user));
            let right = name.routes.places().contains(&route) && scope == (tenant, user);
            self.ensure(right, section, "a scope leads to the route of another");
        };
        let users = |users: Map, tenant: Option<&str>| {
            self.map::<ScopedRoute>(users, section)
                .for_each(|(user, ScopedRoute { route })| leads(route, tenant, Some(user)));
        };
        if name.platform != NONE {
            leads(name.platform, None, None);
        }
        users(name.users, None);
        for (tenant, record) in self.map::<Tenant>(name.tenants, section) {
            if record.route != NONE {
                leads(record.route, Some(tenant), None);
            }
            users(record.users, Some(tenant));
        }
    }

    /// Checks a definition and says how many tests its steps take at most.
    fn route(&self, route: &Route, asker: Asker) -> u64 {
        let section = Section::Route;
        self.ensure((1..=MAX_VARIANTS).contains(&route.variants.count), section, "no variants or too many");
        self.ensure(route.baseline < route.variants.count, section, "a baseline does not exist");
        let costs = [
            self.variants(route),
            self.overrides(route),
            self.requests(route, asker),
            self.holdouts(route),
            self.targets(route, asker),
            self.shadows(route, asker),
        ];
        costs.into_iter().fold(0, u64::saturating_add)
    }

    fn variants(&self, route: &Route) -> u64 {
        let (section, mut cost) = (Section::Variant, 0);
        for variant in self.list::<Variant>(route.variants, Section::Route) {
            self.text(variant.name, section);
            self.optional_text(variant.payload, section);
            self.place::<Model>(variant.model, section, "a model does not exist");
            self.variant_places(variant.fallbacks, route, section);
            cost = variant.fallbacks.count.max(cost);
        }
        cost.into()
    }

    fn variant_places(&self, places: Span, route: &Route, owner: Section) {
        for VariantPlace { variant } in self.list(places, owner) {
            self.ensure(variant < route.variants.count, Section::VariantPlace, "a variant does not exist");
        }
    }

    fn overrides(&self, route: &Route) -> u64 {
        let (section, mut cost) = (Section::Override, 0_u64);
        for entry in self.list::<Override>(route.overrides, Section::Route) {
            self.ensure(Field::from_number(entry.field).is_some(), section, "a field does not exist");
            for (_, value) in self.map::<OverrideValue>(entry.entries, section) {
                let exists = value.variant < route.variants.count;
                self.ensure(exists, Section::OverrideValue, "a variant does not exist");
            }
            cost = cost.saturating_add(self.set_cost(entry.entries.set)).saturating_add(1);
        }
        cost
    }

    fn requests(&self, route: &Route, asker: Asker) -> u64 {
        let (section, mut cost) = (Section::Request, 0_u64);
        for request in self.list::<Request>(route.requests, Section::Route) {
            self.label(request.label, section);
            self.variant_places(request.variants, route, section);
            let members = self.program(request.members, asker, section).cost;
            cost = cost.saturating_add(members).saturating_add(request.variants.count.into());
        }
        cost
    }

    fn holdouts(&self, route: &Route) -> u64 {
        for RouteHoldout { holdout } in self.list(route.holdouts, Section::Route) {
            self.place::<Holdout>(holdout, Section::RouteHoldout, "a holdout does not exist");
        }
        route.holdouts.count.into()
    }

    fn targets(&self, route: &Route, asker: Asker) -> u64 {
        let section = Section::Target;
        let (mut before, mut cost) = (None, 0_u64);
        for target in self.list::<Target>(route.targets, Section::Route) {
            let step = target.step();
            let known =
                matches!(step, Some(Step::TestGroup | Step::SymbolRollout | Step::Rule | Step::Default));
            self.ensure(known, section, "a step does not exist");
            self.ensure(
                before != Some(Step::Default) && before <= step,
                section,
                "the steps are not in order",
            );
            before = step;
            if step == Some(Step::Default) {
                let everyone = target.condition.is_empty() && target.window == NONE;
                self.ensure(everyone, section, "a default has a condition");
                self.optional_place::<Label>(target.label, section, "a label does not exist");
            } else {
                self.label(target.label, section);
                let name = self.reader.get::<Label>(target.label).name;
                self.ensure(!name.is_none(), section, "a name is missing");
            }
            self.window(target.window, section);
            let condition = self.program(target.condition, asker, section).cost;
            let serve = self.served(route, &target);
            cost = cost.saturating_add(condition).saturating_add(serve);
        }
        self.ensure(before == Some(Step::Default), section, "a route has no default");
        cost
    }

    fn window(&self, window: u32, owner: Section) {
        self.optional_place::<Window>(window, owner, "a window of time does not exist");
    }

    /// Checks what a target serves, and says how much finding it takes.
    fn served(&self, route: &Route, target: &Target) -> u64 {
        let (section, place, variants) = (Section::Target, target.serve, route.variants.count);
        let step = target.step();
        match target.kind() {
            Some(Kind::Variant) => {
                self.ensure(place < variants, section, "a variant does not exist");
                1
            }
            Some(kind @ (Kind::Split | Kind::Experiment)) => {
                let experiment = kind == Kind::Experiment;
                self.ensure(!experiment || step == Some(Step::Rule), section, "an experiment is no rule");
                self.place::<Split>(place, section, "a split does not exist");
                self.split(&self.reader.get(place), variants, experiment);
                1
            }
            Some(Kind::Ramp) => {
                self.place::<Ramp>(place, section, "a ramp does not exist");
                self.ramp(&self.reader.get(place), variants)
            }
            Some(Kind::Switchback) => {
                self.ensure(step != Some(Step::Default), section, "a switchback is a default");
                self.place::<Switchback>(place, section, "a switchback does not exist");
                self.switchback(&self.reader.get(place), route)
            }
            None => {
                self.ensure(false, section, "a kind does not exist");
                0
            }
        }
    }

    fn ramp(&self, ramp: &Ramp, variants: u32) -> u64 {
        let section = Section::Ramp;
        self.unit(ramp.unit, section);
        self.ensure(ramp.from < variants, section, "a variant does not exist");
        self.ensure(!ramp.stages.is_empty(), section, "a ramp has no stages");
        let mut before = None;
        for Stage { offset, scale, intervals } in self.list(ramp.stages, section) {
            self.ensure(before < Some(offset), Section::Stage, "the stages are not in order");
            before = Some(offset);
            self.layer(ramp.layer, scale, Section::Stage);
            self.intervals(intervals, scale, variants, false);
        }
        let mut end = None;
        for Pause { from, until } in self.list(ramp.pauses, section) {
            let apart = end < Some(from) && from < until;
            self.ensure(apart, Section::Pause, "the pauses are not in order and apart from each other");
            end = Some(until);
        }
        u64::from(ramp.stages.count) + u64::from(ramp.pauses.count)
    }

    fn switchback(&self, switchback: &Switchback, route: &Route) -> u64 {
        let section = Section::Switchback;
        let &Switchback { unit, variants, window, washout, seed, .. } = switchback;
        self.unit(unit, section);
        self.text(seed, section);
        let fits = (2..=MAX_SWITCHBACK_VARIANTS).contains(&variants.count);
        self.ensure(fits, section, "a switchback has too few or too many variants");
        self.variant_places(variants, route, section);
        self.ensure(washout < window, section, "a washout is as long as its window");
        variants.count.into()
    }

    fn shadows(&self, route: &Route, asker: Asker) -> u64 {
        let (section, mut cost) = (Section::Shadow, 0_u64);
        self.ensure(route.shadows.count <= MAX_SHADOWS, section, "a route has too many shadows");
        for shadow in self.list::<Shadow>(route.shadows, Section::Route) {
            self.text(shadow.name, section);
            self.ensure(shadow.variant < route.variants.count, section, "a variant does not exist");
            self.window(shadow.window, section);
            self.layer(shadow.layer, BUCKETS, section);
            self.unit(shadow.unit, section);
            let condition = self.program(shadow.condition, asker, section).cost;
            cost = cost.saturating_add(condition).saturating_add(1);
        }
        cost
    }
}
