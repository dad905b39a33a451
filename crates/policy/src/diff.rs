//! What changes from one bundle to another: who moves, exactly, and what was written otherwise.

mod periods;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lockgate_package::Digest;
use serde::Serialize;
use serde_json::Value as Json;

use crate::compile::stand_in;
use crate::diagnostic::write_key;
use crate::missing::{MissingUnit, MissingUnits};
use crate::moment;
use crate::policy::{Millis, RouteKey, RouteScope, write_percent};
use crate::steps::{RouteStep, Served, killed, outcomes, steps};
use crate::{Bundle, Decision, RequestContext, RouteView, Step, UnknownRoute, unit_lists};

use periods::Labels;

/// How long a value may be in words before it is cut.
const SHOWN: usize = 100;

/// What changes from one bundle to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PolicyDiff {
    /// The versions of the bundles.
    pub versions: (u64, u64),
    /// The moment for which the stages of ramps were compared.
    pub now: Millis,
    /// Definitions of routes that differ.
    pub routes: Vec<RouteDiff>,
    /// What is written otherwise outside of routes.
    pub changes: Vec<Change>,
    /// Model versions that are pinned to other packages.
    pub packages: Vec<PackageChange>,
    /// Files with lists of units whose content differs.
    pub lists: Vec<ListChange>,
    /// Whether both bundles carry their source. Without it only shares and packages can be compared.
    pub complete: bool,
}

/// What changes in one definition of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RouteDiff {
    /// The route: `name`, `tenant/name`, `tenant/user/name` or `/user/name`.
    pub route: String,
    /// Whether it is new, gone or different.
    pub status: Status,
    /// Steps of the precedence that are new, gone or move units.
    pub steps: Vec<StepDiff>,
    /// What is written otherwise.
    pub changes: Vec<Change>,
}

/// Whether something is new, gone or different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is different.
    Changed,
}

/// What a step gives to other units than before, given that it matches.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepDiff {
    /// Which step.
    pub step: Step,
    /// The holdout, test group, symbol rollout or rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is new, gone or different.
    pub status: Status,
    /// Who moves from where to where; to and from a step that is new or gone, the next steps stand for what its units have without it.
    pub moves: Vec<Move>,
    /// The share of all units that move, in percent.
    pub moved: f64,
    /// Whether units get other buckets or turns, because layer, salt, hash, seed or unit is another. The shares are then
    /// expectations over units; else they are exact.
    pub rehashed: bool,
    /// Whether shares count time too, because a switchback serves: of all pairs of a unit and a moment, so many.
    pub of_time: bool,
    /// What differs in each stretch of time in which neither policy changes what the step serves. One entry when time plays no part.
    pub periods: Vec<Period>,
    /// What of a switchback is set otherwise.
    pub settings: Vec<Change>,
}

/// A stretch of time in which neither policy changes what a step serves; it lasts until the next one begins.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Period {
    /// When it begins; `None` for the first one, which has no beginning.
    pub from: Option<Millis>,
    /// What the old policy serves, in words: `stage 2`.
    pub old: String,
    /// What the new one serves.
    pub new: String,
    /// The share of units to which the new policy gives something else than in the period before, in percent; `None` for the
    /// first period, and next to a switchback.
    pub advancing: Option<f64>,
    /// Who is served otherwise by the new policy than by the old one.
    pub moves: Vec<Move>,
    /// The share of all units that are served otherwise, in percent.
    pub moved: f64,
    /// As [`StepDiff::rehashed`].
    pub rehashed: bool,
    /// As [`StepDiff::of_time`].
    pub of_time: bool,
}

/// A share of units that move.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Move {
    /// The variant before.
    pub from: String,
    /// The variant after.
    pub to: String,
    /// The share of all units that the step matches, in percent.
    pub percent: f64,
}

/// Something that is written otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// Where in the source.
    pub path: String,
    /// What stood there; `None` for nothing.
    pub old: Option<Json>,
    /// What stands there now; `None` for nothing.
    pub new: Option<Json>,
}

/// A model version that is pinned to another package.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PackageChange {
    /// The model version.
    pub model: String,
    /// The package before.
    pub old: Digest,
    /// The package after.
    pub new: Digest,
}

/// A list of units that has other units than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ListChange {
    /// The file that the policies name.
    pub file: String,
    /// How many units are new.
    pub added: usize,
    /// How many are gone.
    pub removed: usize,
}

impl PolicyDiff {
    /// Whether nothing changes but perhaps the version.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.changes.is_empty() && self.packages.is_empty() && self.lists.is_empty()
    }
}

/// Compares two bundles, over all of time; the shares at `now` stand for a step as a whole.
pub fn diff(old: &Bundle, new: &Bundle, now: Millis) -> PolicyDiff {
    let sources = old.source().zip(new.source());
    let parsed = sources.and_then(|(old, new)| Some((json(old)?, json(new)?)));
    let mut written = BTreeMap::new();
    let mut changes = Vec::new();
    if let Some((old, new)) = &parsed {
        for (path, old, new) in differences(old, new) {
            match route_of(&path) {
                // A definition that is new or gone is reported as a whole.
                Some((key, rest)) if !rest.is_empty() => {
                    let path = write_path(rest);
                    written.entry(key).or_insert_with(Vec::new).push(Change { path, old, new });
                }
                Some(_) => {}
                None if path == [Part::Key("version".to_owned())] => {}
                None => changes.push(Change { path: write_path(&path), old, new }),
            }
        }
    }
    let views =
        |bundle: &'_ Bundle| -> BTreeSet<RouteKey> { bundle.routes().map(|route| key(&route)).collect() };
    let keys: BTreeSet<RouteKey> = views(old).union(&views(new)).cloned().collect();
    let find = |bundle: &'_ Bundle, key: &RouteKey| {
        let RouteScope { tenant, user } = &key.scope;
        bundle.definition(&key.name, tenant.as_deref(), user.as_deref()).map(|view| view.index())
    };
    let mut routes = Vec::new();
    for key in keys {
        let at = |bundle: &'_ Bundle| find(bundle, &key);
        let (status, steps) =
            match (at(old).and_then(|at| old.route_at(at)), at(new).and_then(|at| new.route_at(at))) {
                (Some(before), Some(after)) => {
                    let labels =
                        Labels::new(&outcomes(old.reader(), &before), &outcomes(new.reader(), &after));
                    let (before, after) = (in_effect(old, &before), in_effect(new, &after));
                    (Status::Changed, step_diffs(&before, &after, &labels, now))
                }
                (None, _) => (Status::Added, Vec::new()),
                (_, None) => (Status::Removed, Vec::new()),
            };
        let changes = written.remove(&key).unwrap_or_default();
        if status != Status::Changed || !steps.is_empty() || !changes.is_empty() {
            routes.push(RouteDiff { route: key.layer_name(), status, steps, changes });
        }
    }
    PolicyDiff {
        versions: (old.version(), new.version()),
        now,
        routes,
        changes,
        packages: packages(old, new),
        lists: lists(old, new),
        complete: parsed.is_some(),
    }
}

fn json(source: &str) -> Option<Json> {
    serde_json::from_str(source).ok()
}

/// The scope and name of a definition.
fn key(route: &RouteView<'_>) -> RouteKey {
    let scope =
        RouteScope { tenant: route.tenant().map(str::to_owned), user: route.user().map(str::to_owned) };
    RouteKey { name: route.name().to_owned(), scope }
}

fn packages(old: &Bundle, new: &Bundle) -> Vec<PackageChange> {
    let mut changes = Vec::new();
    for before in old.models() {
        let same =
            |after: &crate::ModelView<'_>| after.name == before.name && after.version == before.version;
        let model = format!("{}@{}", before.name, before.version);
        let differs = |after: &crate::ModelView<'_>| other_package(&model, before.digest, after.digest);
        if let Some(after) = new.models().find(same).filter(differs) {
            changes.push(PackageChange { model, old: before.digest, new: after.digest });
        }
    }
    changes
}

/// Lists that both name; one that only one of them names is a change of what is written.
fn lists(old: &Bundle, new: &Bundle) -> Vec<ListChange> {
    let objects = |bundle: &Bundle| Bundle::required_objects(bundle.as_bytes()).unwrap_or_default();
    if objects(old) == objects(new) {
        return Vec::new();
    }
    let after = unit_lists(new);
    let mut changes = Vec::new();
    for (file, before) in unit_lists(old) {
        let Some(after) = after.get(&file) else { continue };
        let (before, after): (BTreeSet<&String>, BTreeSet<&String>) =
            (before.iter().collect(), after.iter().collect());
        let (added, removed) = (after.difference(&before).count(), before.difference(&after).count());
        if added + removed > 0 {
            changes.push(ListChange { file, added, removed });
        }
    }
    changes
}

/// Whether a version's packages differ. A stand-in says nothing about the package that will be pinned.
fn other_package(model: &str, old: Digest, new: Digest) -> bool {
    old != new && ![old, new].contains(&stand_in(model))
}

/// The steps of a route; those of a disabled one serve the baseline.
fn in_effect<'b>(bundle: &'b Bundle, route: &RouteView<'b>) -> Vec<RouteStep<'b>> {
    let mut steps = steps(bundle.reader(), route);
    if let Some(baseline) = killed(route) {
        steps.retain(|step| step.step != Step::Holdout);
        steps.iter_mut().for_each(|step| step.serve = Served::Variant(baseline));
    }
    steps
}

fn step_diffs<'b>(
    old: &[RouteStep<'b>],
    new: &[RouteStep<'b>],
    labels: &Labels<'b>,
    now: Millis,
) -> Vec<StepDiff> {
    let twin = |steps: &'_ [RouteStep<'_>], step: &RouteStep<'_>| {
        steps.iter().position(|other| other.step == step.step && other.name == step.name)
    };
    let whole = |step: &RouteStep<'_>, status: Status| StepDiff {
        step: step.step,
        name: step.name.map(str::to_owned),
        status,
        moves: Vec::new(),
        moved: 0.0,
        rehashed: false,
        of_time: false,
        periods: Vec::new(),
        settings: Vec::new(),
    };
    // What a step gives or leaves to the next ones that the other policy lacks.
    let alone = |step: &RouteStep<'b>, status: Status| {
        let (before, after) = if status == Status::Added { (None, Some(step)) } else { (Some(step), None) };
        with_periods(whole(step, status), periods::compare(before, after, labels), now)
    };
    let mut diffs = Vec::new();
    for step in new {
        let Some(before) = twin(old, step).and_then(|place| old.get(place)) else {
            diffs.push(alone(step, Status::Added));
            continue;
        };
        let periods = periods::compare(Some(before), Some(step), labels);
        let settings = match (&before.serve, &step.serve) {
            (Served::Switchback(old), Served::Switchback(new)) => turns::settings(old, new),
            _ => Vec::new(),
        };
        if settings.is_empty() && periods.iter().all(|period| period.moves.is_empty()) {
            continue;
        }
        let changed = StepDiff { settings, ..whole(step, Status::Changed) };
        diffs.push(with_periods(changed, periods, now));
    }
    let gone = old.iter().filter(|step| twin(new, step).is_none());
    diffs.extend(gone.map(|step| alone(step, Status::Removed)));
    diffs
}

/// A difference with its periods; that at `now` stands for all.
fn with_periods(diff: StepDiff, periods: Vec<Period>, now: Millis) -> StepDiff {
    let begun = |period: &&Period| period.from.is_none_or(|from| from <= now);
    match periods.iter().rev().find(begun).cloned() {
        Some(Period { moves, moved, rehashed, of_time, .. }) => {
            StepDiff { moves, moved, rehashed, of_time, periods, ..diff }
        }
        None => diff,
    }
}

/// A piece of a path.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Key(String),
    /// An entry of a list by its name.
    Name(String),
}

fn write_path(path: &[Part]) -> String {
    let mut text = String::new();
    for part in path {
        // Writing into a string cannot fail.
        let _ = match part {
            Part::Key(key) => {
                let first = text.is_empty();
                write_key(&mut text, first, key)
            }
            Part::Name(name) => fmt::Write::write_fmt(&mut text, format_args!("[{name}]")),
        };
    }
    text
}

/// The route that a path leads into, and the rest of the path.
fn route_of(path: &[Part]) -> Option<(RouteKey, &[Part])> {
    let key = |place: usize| match path.get(place) {
        Some(Part::Key(key)) => Some(key.as_str()),
        _ => None,
    };
    let (scope, place) = match (key(0)?, key(2), key(4)) {
        ("routes", ..) => (RouteScope::default(), 1),
        ("tenants", Some("routes"), _) => (RouteScope { tenant: Some(key(1)?.to_owned()), user: None }, 3),
        ("tenants", Some("users"), Some("routes")) => {
            let (tenant, user) = (key(1)?.to_owned(), key(3)?.to_owned());
            (RouteScope { tenant: Some(tenant), user: Some(user) }, 5)
        }
        ("users", Some("routes"), _) => (RouteScope { tenant: None, user: Some(key(1)?.to_owned()) }, 3),
        _ => return None,
    };
    let name = key(place)?.to_owned();
    Some((RouteKey { name, scope }, path.get(place.saturating_add(1)..).unwrap_or_default()))
}

type Difference = (Vec<Part>, Option<Json>, Option<Json>);

/// Where two documents differ, as deep as both have the same shape.
fn differences(old: &Json, new: &Json) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut Vec::new(), old, new, &mut found);
    found
}

fn compare(path: &mut Vec<Part>, old: &Json, new: &Json, found: &mut Vec<Difference>) {
    match (old, new) {
        (Json::Object(old), Json::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                path.push(Part::Key(key.clone()));
                either(path, old.get(key), new.get(key), found);
                path.pop();
            }
            // The order counts where variants are numbered.
            let order = |object: &serde_json::Map<String, Json>, other: &serde_json::Map<String, Json>| {
                object.keys().filter(|key| other.contains_key(*key)).cloned().collect::<Vec<_>>()
            };
            let ordered = matches!(path.last(), Some(Part::Key(key)) if key == "variants");
            if ordered && order(old, new) != order(new, old) {
                reordered(path, order(old, new), order(new, old), found);
            }
        }
        (Json::Array(before), Json::Array(after)) => match (names(before), names(after)) {
            (Some(old_names), Some(new_names)) => {
                let all: BTreeSet<&str> = old_names.iter().chain(&new_names).copied().collect();
                let at = |names: &[&str], list: &[Json], name: &str| {
                    names.iter().position(|other| *other == name).and_then(|place| list.get(place)).cloned()
                };
                for name in all {
                    path.push(Part::Name(name.to_owned()));
                    let (old, new) = (at(&old_names, before, name), at(&new_names, after, name));
                    either(path, old.as_ref(), new.as_ref(), found);
                    path.pop();
                }
                let common = |names: &[&str], others: &[&str]| -> Vec<String> {
                    names.iter().filter(|name| others.contains(name)).map(|name| (*name).to_owned()).collect()
                };
                let (old, new) = (common(&old_names, &new_names), common(&new_names, &old_names));
                if old != new {
                    reordered(path, old, new, found);
                }
            }
            // Stages, overrides and pauses: what stands in the same place is the same thing.
            _ if before.len() == after.len() && before.iter().chain(after).all(Json::is_object) => {
                for ((old, new), place) in before.iter().zip(after).zip(0_usize..) {
                    path.push(Part::Name(place.to_string()));
                    compare(path, old, new, found);
                    path.pop();
                }
            }
            _ if before != after => found.push((path.clone(), Some(old.clone()), Some(new.clone()))),
            _ => {}
        },
        (old, new) if old != new => found.push((path.clone(), Some(old.clone()), Some(new.clone()))),
        _ => {}
    }
}

fn either(path: &mut Vec<Part>, old: Option<&Json>, new: Option<&Json>, found: &mut Vec<Difference>) {
    match (old, new) {
        (Some(old), Some(new)) => compare(path, old, new, found),
        // Whole sections open up, so that a route within one is found.
        (Some(Json::Object(entries)), None) if path.len() == 1 => {
            for (key, value) in entries {
                path.push(Part::Key(key.clone()));
                found.push((path.clone(), Some(value.clone()), None));
                path.pop();
            }
        }
        (None, Some(Json::Object(entries))) if path.len() == 1 => {
            for (key, value) in entries {
                path.push(Part::Key(key.clone()));
                found.push((path.clone(), None, Some(value.clone())));
                path.pop();
            }
        }
        (old, new) => found.push((path.clone(), old.cloned(), new.cloned())),
    }
}

fn reordered(path: &[Part], old: Vec<String>, new: Vec<String>, found: &mut Vec<Difference>) {
    let mut path = path.to_vec();
    path.push(Part::Name("order".to_owned()));
    found.push((path, Some(old.into()), Some(new.into())));
}

/// The names of a list's entries, if all have one and none twice.
fn names(list: &[Json]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> =
        list.iter().map(|entry| entry.get("name").and_then(Json::as_str)).collect();
    let names = names.filter(|names| !names.is_empty())?;
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    (unique.len() == names.len()).then_some(names)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, old, new } = self;
        match (old, new) {
            (Some(Json::Array(old)), Some(Json::Array(new))) if !path.ends_with("[order]") => {
                let missing = |list: &[Json], other: &[Json]| {
                    list.iter().filter(|value| !other.contains(value)).map(short).collect::<Vec<_>>()
                };
                let (gone, come) = (missing(old, new), missing(new, old));
                if gone.is_empty() && come.is_empty() {
                    return write!(f, "{path}: another order");
                }
                write!(f, "{path}:")?;
                for (sign, values) in [("−", gone), ("+", come)] {
                    let more = values.len().saturating_sub(8);
                    if let Some((first, _)) =
                        values.split_at_checked(values.len().min(8)).filter(|(first, _)| !first.is_empty())
                    {
                        write!(f, " {sign} {}", first.join(", "))?;
                        if more > 0 {
                            write!(f, " and {more} more")?;
                        }
                    }
                }
                Ok(())
            }
            (Some(old), Some(new)) => write!(f, "{path}: {} → {}", short(old), short(new)),
            (None, Some(new)) => write!(f, "{path}: added, {}", short(new)),
            (Some(old), None) => write!(f, "{path}: removed, was {}", short(old)),
            (None, None) => f.write_str(path),
        }
    }
}

/// A value in few words.
fn short(value: &Json) -> String {
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Array(list) if list.iter().all(Json::is_string) => {
            list.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A share in percent with at most three decimals.
pub(crate) fn percent_words(percent: f64) -> String {
    let mut text = String::new();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is between 0 and 100 %"
    )]
    let thousandths = (percent * 1000.0).round() as u64;
    if thousandths == 0 && percent > 0.0 {
        return "less than 0.001 %".to_owned();
    }
    // Writing into a string cannot fail.
    let _ = write_percent(thousandths, &mut text);
    text.push_str(" %");
    text
}

impl fmt::Display for PolicyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = self.versions;
        write!(f, "version {old} → {new}")?;
        if self.is_empty() {
            f.write_str(": nothing else changes")?;
        }
        for RouteDiff { route, status, steps, changes } in &self.routes {
            write!(f, "\nroute {route}: {}", status.word())?;
            for step in steps {
                write!(f, "\n  {step}")?;
                // Where the sources are at hand, these are among what is written otherwise.
                for change in step.settings.iter().filter(|_| !self.complete) {
                    write!(f, "\n    {change}")?;
                }
            }
            for change in changes {
                write!(f, "\n  {change}")?;
            }
        }
        for change in &self.changes {
            write!(f, "\n{change}")?;
        }
        for PackageChange { model, old, new } in &self.packages {
            write!(f, "\npackage {model}: sha256:{old} → sha256:{new}")?;
        }
        for ListChange { file, added, removed } in &self.lists {
            write!(f, "\nlist {file}: {added} added, {removed} removed")?;
        }
        if !self.complete {
            f.write_str("\nnote: a bundle carries no source, so only shares and packages were compared")?;
        }
        Ok(())
    }
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

impl fmt::Display for StepDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.step.name().replace('_', " "))?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        if self.status != Status::Changed {
            write!(f, ": {}", self.status.word())?;
            // That a step with one variant gives it to everyone goes without saying.
            if self.moves.len() < 2 && self.moved == 100.0 && self.periods.len() == 1 {
                return Ok(());
            }
            return self.details(f);
        }
        let what = if self.of_time { "units and time" } else { "units" };
        write!(f, ": {} of the {what} that it matches move", percent_words(self.moved))?;
        f.write_str(match (self.rehashed, self.of_time) {
            (false, _) => "",
            (true, false) => " (expected: they get other buckets)",
            (true, true) => " (expected: they get other turns)",
        })?;
        self.details(f)
    }
}

impl StepDiff {
    /// Who moves, and when.
    fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: &str| text.chars().count();
        let from = self.moves.iter().map(|one| width(&one.from)).max().unwrap_or_default();
        let to = self.moves.iter().map(|one| width(&one.to)).max().unwrap_or_default();
        for Move { from: old, to: new, percent } in &self.moves {
            write!(f, "\n    {old:<from$} → {new:<to$}  {}", percent_words(*percent))?;
        }
        if self.periods.len() > 1 { self.table(f) } else { Ok(()) }
    }

    /// What differs when: a line for each period.
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["from", "old", "new", "advance", "differ"].map(str::to_owned)];
        for period in &self.periods {
            let at = |from: Millis| moment::format(from).unwrap_or_else(|| from.to_string());
            let moves: Vec<String> = period
                .moves
                .iter()
                .map(|Move { from, to, percent }| format!("{from} → {to} {}", percent_words(*percent)))
                .collect();
            let differ = match moves.as_slice() {
                [] => percent_words(period.moved),
                [only] => only.clone(),
                several => format!("{}: {}", percent_words(period.moved), several.join(", ")),
            };
            rows.push([
                period.from.map_or_else(|| "the beginning".to_owned(), at),
                period.old.clone(),
                period.new.clone(),
                period.advancing.map(percent_words).unwrap_or_default(),
                differ,
            ]);
        }
        let mut widths = [0; 5];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            write!(f, "\n    {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// What changes for real units.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct UnitsDiff {
    /// How many contexts were decided with both bundles.
    pub contexts: u64,
    /// How many of them are served otherwise: by another variant, model version, package or payload.
    pub moved: u64,
    /// By route, in the order of the names.
    pub routes: BTreeMap<String, RouteUnits>,
    /// Routes that neither bundle has, and how many contexts asked for them.
    pub unknown: BTreeMap<String, u64>,
    /// How many contexts lacked the unit of a step; no split moves these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingInDiff>,
}

/// What changes for the units of one route.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RouteUnits {
    /// How many contexts asked for the route.
    pub contexts: u64,
    /// How many of them are served otherwise.
    pub moved: u64,
    /// How many go from where to where; the most frequent first.
    pub moves: Vec<UnitMove>,
}

/// How many units go from one variant to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct UnitMove {
    /// What served before.
    pub from: String,
    /// What serves after.
    pub to: String,
    /// How many.
    pub units: u64,
}

/// How many contexts lacked the unit of a step, with one policy or with both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MissingInDiff {
    /// Whether it is so with the old policy.
    pub old: bool,
    /// Whether it is so with the new policy.
    pub new: bool,
    /// What is missing.
    #[serde(flatten)]
    pub missing: MissingUnit,
}

/// Decides every context with both bundles. A context without a route is decided for every route that either has.
pub fn diff_units(
    old: &Bundle,
    new: &Bundle,
    contexts: impl IntoIterator<Item = RequestContext>,
    now: Millis,
) -> UnitsDiff {
    let names: BTreeSet<&str> = old.routes().chain(new.routes()).map(|route| route.name()).collect();
    let mut diff = UnitsDiff::default();
    let mut counts: BTreeMap<String, BTreeMap<(String, String), u64>> = BTreeMap::new();
    let (mut missing_before, mut missing_after) = (MissingUnits::default(), MissingUnits::default());
    let mut decide = |context: &RequestContext| {
        if !names.contains(context.route.as_str()) {
            let count = diff.unknown.entry(context.route.clone()).or_default();
            *count = count.saturating_add(1);
        }
        let route = diff.routes.entry(context.route.clone()).or_default();
        route.contexts = route.contexts.saturating_add(1);
        diff.contexts = diff.contexts.saturating_add(1);
        let before = missing_before.decide(old, context, now, &[]);
        let after = missing_after.decide(new, context, now, &[]);
        if let Some(moved) = outcome(before, after) {
            route.moved = route.moved.saturating_add(1);
            diff.moved = diff.moved.saturating_add(1);
            let count = counts.entry(context.route.clone()).or_default().entry(moved).or_default();
            *count = count.saturating_add(1);
        }
    };
    for mut context in contexts {
        if !context.route.is_empty() {
            decide(&context);
            continue;
        }
        for name in &names {
            context.route.clear();
            context.route.push_str(name);
            decide(&context);
        }
    }
    for (route, counts) in counts {
        if let Some(route) = diff.routes.get_mut(&route) {
            let moves = counts.into_iter().map(|((from, to), units)| UnitMove { from, to, units });
            route.moves = moves.collect();
            route.moves.sort_by_key(|one| std::cmp::Reverse(one.units));
        }
    }
    diff.missing = MissingInDiff::both(&missing_before.of(old), &missing_after.of(new));
    diff
}

impl MissingInDiff {
    /// What is missing in either policy; what is in both alike stands there once.
    fn both(old: &[MissingUnit], new: &[MissingUnit]) -> Vec<Self> {
        let of = |old: bool, new: bool, missing: &MissingUnit| Self { old, new, missing: missing.clone() };
        let in_old = old.iter().map(|missing| of(true, new.contains(missing), missing));
        let in_new =
            new.iter().filter(|missing| !old.contains(missing)).map(|missing| of(false, true, missing));
        in_old.chain(in_new).collect()
    }
}

/// What served before and after, in words, if that differs.
fn outcome(
    before: Result<Decision<'_>, UnknownRoute>,
    after: Result<Decision<'_>, UnknownRoute>,
) -> Option<(String, String)> {
    let unknown = || "(unknown route)".to_owned();
    let (before, after) = match (before, after) {
        (Err(_), Err(_)) => return None,
        (Ok(before), Err(_)) => return Some((before.variant().name.to_owned(), unknown())),
        (Err(_), Ok(after)) => return Some((unknown(), after.variant().name.to_owned())),
        (Ok(before), Ok(after)) => (before.variant(), after.variant()),
    };
    if before.name != after.name {
        return Some((before.name.to_owned(), after.name.to_owned()));
    }
    let model = |view: &crate::VariantView<'_>| format!("{} {}@{}", view.name, view.model, view.version);
    if (before.model, before.version) != (after.model, after.version) {
        return Some((model(&before), model(&after)));
    }
    let version = format!("{}@{}", before.model, before.version);
    if other_package(&version, before.digest, after.digest) {
        let package = |view: &crate::VariantView<'_>| format!("{} sha256:{}", model(view), view.digest);
        return Some((package(&before), package(&after)));
    }
    let payload = |view: &crate::VariantView<'_>| {
        format!("{} {}", view.name, view.payload.map_or("without payload", |payload| payload))
    };
    (before.payload != after.payload).then(|| (payload(&before), payload(&after)))
}

impl fmt::Display for UnitsDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |moved: u64, contexts: u64| {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
            let percent = 100.0 * moved as f64 / contexts.max(1) as f64;
            percent_words(percent)
        };
        write!(
            f,
            "units: {} of {} are served otherwise ({})",
            self.moved,
            self.contexts,
            share(self.moved, self.contexts)
        )?;
        for (route, count) in &self.unknown {
            write!(f, "\n  route {route}: neither policy has it, and {count} ask for it")?;
        }
        for MissingInDiff { old, new, missing } in &self.missing {
            let route = &missing.route;
            let of = match (old, new) {
                (true, true) => "with both policies",
                (true, false) => "with the old policy",
                (false, _) => "with the new policy",
            };
            let total = self.routes.get(route).map_or(0, |route| route.contexts);
            write!(f, "\n  note: {of}, {}", missing.words(total))?;
            if self.routes.len() > 1 {
                write!(f, " (route {route})")?;
            }
        }
        for (route, RouteUnits { contexts, moved, moves }) in &self.routes {
            if *moved == 0 {
                continue;
            }
            write!(f, "\n  route {route}: {moved} of {contexts} ({})", share(*moved, *contexts))?;
            for UnitMove { from, to, units } in moves {
                write!(f, "\n    {from} → {to}  {units}")?;
            }
        }
        Ok(())
    }
}
