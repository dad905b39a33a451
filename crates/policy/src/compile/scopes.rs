//! Which definition of a route name is whose.

use std::collections::BTreeMap;

use super::writer::{Writer, count};
use super::{Places, Problems};
use crate::bundle::format::{MAX_PREREQUISITES, Map, NONE, Name, ScopedRoute, Span, Tenant};
use crate::policy::{Condition, Policy, Route, RouteKey};

/// The definitions of each name, with their places among the routes.
type Definitions<'p> = BTreeMap<&'p str, Vec<(u32, &'p RouteKey, &'p Route)>>;

/// Numbers the names and writes the set of them, which must be the first set.
pub(super) fn names<'p>(writer: &mut Writer, places: &mut Places<'p>, policy: &'p Policy) -> Definitions<'p> {
    let mut definitions: Definitions<'p> = BTreeMap::new();
    for ((key, route), place) in policy.routes.iter().zip(0..) {
        definitions.entry(&key.name).or_default().push((place, key, route));
    }
    places.names = definitions.keys().copied().zip(0..).collect();
    writer.set(definitions.keys().copied());
    definitions
}

/// Writes the names.
pub(super) fn write(problems: &mut Problems<'_>, writer: &mut Writer, definitions: &Definitions<'_>) {
    let mut depths = Depths { definitions, known: BTreeMap::new() };
    for (name, routes) in definitions {
        let Some(depth) = depths.of(name, 0) else {
            let origin = routes.first().map(|(_, _, route)| &route.origin).cloned().unwrap_or_default();
            let message = "routes ask in a circle, or too deep, what other routes serve";
            let expected = format!("conditions on other routes, {MAX_PREREQUISITES} deep at most");
            problems.report(&origin, message.to_owned(), Some(expected), None);
            return;
        };
        let mut users: BTreeMap<Option<&str>, BTreeMap<&str, u32>> = BTreeMap::new();
        let mut tenants: BTreeMap<&str, u32> = BTreeMap::new();
        let mut platform = NONE;
        for (place, RouteKey { scope, .. }, _) in routes {
            match (scope.tenant.as_deref(), scope.user.as_deref()) {
                (None, None) => platform = *place,
                (Some(tenant), None) => drop(tenants.insert(tenant, *place)),
                (tenant, Some(user)) => {
                    if let Some(tenant) = tenant {
                        tenants.entry(tenant).or_insert(NONE);
                    }
                    users.entry(tenant).or_default().insert(user, *place);
                }
            }
        }
        let mut users_of = |tenant: Option<&str>| match users.get(&tenant) {
            None => Map::EMPTY,
            Some(users) => {
                let routes: Vec<ScopedRoute> =
                    users.values().map(|route| ScopedRoute { route: *route }).collect();
                let values = writer.push_all(&routes).start;
                Map { set: writer.set(users.keys().copied()), values }
            }
        };
        let platform_users = users_of(None);
        let records: Vec<Tenant> = tenants
            .iter()
            .map(|(tenant, route)| Tenant { route: *route, users: users_of(Some(tenant)) })
            .collect();
        let tenants = match records.is_empty() {
            true => Map::EMPTY,
            false => {
                let values = writer.push_all(&records).start;
                Map { set: writer.set(tenants.keys().copied()), values }
            }
        };
        let start = routes.first().map_or(0, |(place, ..)| *place);
        let routes = Span { start, count: count(routes.len()) };
        writer.push(&Name { routes, depth, platform, users: platform_users, tenants });
    }
}

/// How deep routes ask what other routes serve.
struct Depths<'a, 'p> {
    definitions: &'a Definitions<'p>,
    known: BTreeMap<&'p str, u32>,
}

impl<'p> Depths<'_, 'p> {
    /// The depth of a name that was asked for at depth `at`; `None` when it is too deep.
    fn of(&mut self, name: &str, at: u32) -> Option<u32> {
        let Some((name, routes)) = self.definitions.get_key_value(name) else { return Some(0) };
        if let Some(depth) = self.known.get(name) {
            return Some(*depth);
        }
        if at > MAX_PREREQUISITES {
            return None;
        }
        let mut asked = Vec::new();
        for (_, _, route) in routes {
            let conditions = route.access.iter();
            let conditions = conditions.chain(route.rules.iter().filter_map(|rule| rule.condition.as_ref()));
            let conditions =
                conditions.chain(route.shadows.iter().filter_map(|shadow| shadow.condition.as_ref()));
            conditions.for_each(|condition| prerequisites(condition, &mut asked));
        }
        asked.sort_unstable();
        asked.dedup();
        let mut depth = 0;
        for route in asked {
            depth = depth.max(self.of(route, at + 1)? + 1);
        }
        self.known.insert(name, depth);
        (depth <= MAX_PREREQUISITES).then_some(depth)
    }
}

/// The routes that a condition asks for.
fn prerequisites<'p>(condition: &'p Condition, routes: &mut Vec<&'p str>) {
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().for_each(|part| prerequisites(part, routes));
        }
        Condition::Not(inner) => prerequisites(inner, routes),
        Condition::Route { route, .. } => routes.push(route),
        _ => {}
    }
}
