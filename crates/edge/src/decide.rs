//! Asking the policy module, and turning what it says into names.

use lockgate_abi::{
    CompactDecision, DecideRequestWriter, DecisionRecord, Malformed, Reply, Response, Shadows,
};
use lockgate_package::Digest;
use lockgate_policy::{BUCKETS, Placement, Reason, Step};
use lockgate_shell::exchange::{self, DecisionNames, OTHER_COUNT, Texts, UNKNOWN_NUMBER, UNKNOWN_PLACE};
use lockgate_shell::{Context, RequestError, Served, ServedRow, ServedVersion, Why};

use crate::catalog::{Catalog, RouteEntry, Target};
use crate::core::{Core, CoreFault};

/// What the policy said.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) served: Served,
    /// The definition of the route that each row sees, by its place in the catalogue.
    pub(crate) definitions: Vec<usize>,
    pub(crate) recorded: Recorded,
    pub(crate) shadows: Vec<ShadowRows>,
}

/// Which share of such requests the definitions want recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The largest that one of them names, out of [`BUCKETS`].
    named: u32,
    /// Whether one of them leaves it to the setting.
    is_left: bool,
}

impl Recorded {
    fn add(&mut self, named: Option<u32>) {
        self.named = self.named.max(named.unwrap_or(0));
        self.is_left |= named.is_none();
    }

    /// The share for a request whose rows see these definitions: the largest, so that none gets less than it asks for.
    pub(crate) fn share(self, setting: f64) -> f64 {
        let named = f64::from(self.named) / f64::from(BUCKETS);
        if self.is_left { named.max(setting) } else { named }
    }
}

/// The rows that a shadow gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShadowRows {
    /// The definition of the route, by its place in the catalogue.
    pub(crate) route: usize,
    /// The shadow's place in it.
    pub(crate) shadow: usize,
    pub(crate) rows: Vec<usize>,
}

/// Requests and responses, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

/// Asks which version serves each context. There is one at least.
pub(crate) fn ask(
    core: &mut dyn Core,
    buffers: &mut Buffers,
    catalog: &Catalog,
    route: &str,
    contexts: &[Context],
    now_ms: i64,
    unavailable: &[Digest],
) -> Result<Asked, RequestError> {
    let mut writer = DecideRequestWriter::new(&mut buffers.request, now_ms);
    if core.is_flat() {
        writer = writer.compact();
    }
    exchange::write_contexts(&mut writer, route, contexts)?;
    let unavailable: Vec<[u8; 32]> = unavailable.iter().map(|package| package.0).collect();
    writer.finish(&unavailable).map_err(exchange::too_many_contexts)?;

    let called = core.decide(&buffers.request, &mut buffers.response);
    let result = called.and_then(|()| {
        let reply = Reply::read(&buffers.response, 0).map_err(CoreFault::Malformed)?;
        match reply {
            Reply::Failed(failure) => Ok(Err(RequestError::reported("policy", failure))),
            Reply::Done(response) => {
                read(&response, core.is_flat(), catalog, contexts.len(), route).map_err(CoreFault::Malformed)
            }
        }
    });
    result.unwrap_or_else(|fault| {
        if fault.is_fatal() {
            core.drop_policy();
        }
        Err(fault.into_error("policy", "deciding", "send fewer contexts at once"))
    })
}

const OTHER: Malformed = Malformed { problem: "the decisions are those of another bundle", at: 24 };

/// Collects rows; those of one variant share a version.
struct Collector<'c> {
    catalog: &'c Catalog,
    asked: Asked,
    /// Definition and variant of each version.
    places: Vec<(usize, String)>,
    texts: Texts,
}

impl Collector<'_> {
    fn version(&mut self, definition: usize, name: &str, make: impl FnOnce() -> ServedVersion) -> usize {
        let is_it = |(route, variant): &(usize, String)| *route == definition && variant == name;
        match self.places.iter().position(is_it) {
            Some(version) => version,
            None => {
                self.places.push((definition, name.to_owned()));
                self.asked.served.versions.push(make());
                self.places.len() - 1
            }
        }
    }

    fn push(&mut self, definition: usize, version: usize, why: Why, shadows: impl Iterator<Item = usize>) {
        let row = self.asked.served.rows.len();
        self.asked.served.rows.push(ServedRow { version, decision: Some(why) });
        self.asked.definitions.push(definition);
        let route = self.catalog.routes.get(definition);
        self.asked.recorded.add(route.and_then(|route| route.records));
        for shadow in shadows {
            let known = self
                .asked
                .shadows
                .iter_mut()
                .find(|known| (known.route, known.shadow) == (definition, shadow));
            match known {
                Some(known) => known.rows.push(row),
                None => self.asked.shadows.push(ShadowRows { route: definition, shadow, rows: vec![row] }),
            }
        }
    }

    /// A decision of places.
    fn compact(&mut self, decision: &CompactDecision) -> Result<(), Malformed> {
        let catalog = self.catalog;
        let definition = usize::try_from(decision.route_index).map_err(|_| UNKNOWN_PLACE)?;
        let route = catalog.routes.get(definition).ok_or(UNKNOWN_PLACE)?;
        let variant = catalog.variant(route, decision.variant_index).ok_or(UNKNOWN_PLACE)?;
        let none = Target::default();
        let target = match decision.target_index {
            Some(index) => usize::try_from(index)
                .ok()
                .and_then(|index| catalog.targets.get(index))
                .ok_or(UNKNOWN_PLACE)?,
            None => &none,
        };
        let intended = match decision.intended_index {
            Some(index) => Some(catalog.variant(route, index).ok_or(UNKNOWN_PLACE)?.name),
            None => None,
        };
        let names = DecisionNames {
            rule: target.rule.as_deref(),
            layer: target.layer.as_deref(),
            intended,
            tenant: route.tenant.as_deref(),
            user: route.user.as_deref(),
        };
        let why = Why::read(decision, &names, &mut self.texts)?;
        let version = self.version(definition, variant.name, || (&variant).into());
        let mask = decision.shadow_mask;
        self.push(definition, version, why, (0..32).filter(|shadow| mask >> shadow & 1 != 0));
        Ok(())
    }

    /// A decision of names.
    fn named(
        &mut self,
        route: &str,
        decision: &DecisionRecord<'_>,
        shadows: Shadows<'_>,
    ) -> Result<(), Malformed> {
        let is_it = |entry: &RouteEntry| {
            entry.name == route
                && entry.tenant.as_deref() == decision.tenant
                && entry.user.as_deref() == decision.user
        };
        let definition = self.catalog.routes.iter().position(is_it).ok_or(UNKNOWN_PLACE)?;
        let DecisionRecord { rule, layer, intended, tenant, user, .. } = *decision;
        let names = DecisionNames { rule, layer, intended, tenant, user };
        let why = Why::read(&decision.compact, &names, &mut self.texts)?;
        let placement = Placement::from_number(decision.placement).ok_or(UNKNOWN_NUMBER)?;
        let version = self.version(definition, decision.variant, || ServedVersion {
            variant: Some(decision.variant.to_owned()),
            model: decision.model.to_owned(),
            version: decision.version.to_owned(),
            package: Digest(decision.package),
            placement,
            payload: decision.payload.map(str::to_owned),
            execution: None,
        });
        let entries = self.catalog.routes.get(definition).map_or(&[][..], |route| &route.shadows);
        let place = |name: &str| entries.iter().position(|entry| entry.name == name).ok_or(UNKNOWN_PLACE);
        let places = shadows.map(|shadow| place(shadow?.name)).collect::<Result<Vec<_>, _>>()?;
        self.push(definition, version, why, places.into_iter());
        Ok(())
    }
}

fn read(
    response: &Response<'_>,
    is_flat: bool,
    catalog: &Catalog,
    expected: usize,
    route: &str,
) -> Result<Result<Asked, RequestError>, Malformed> {
    if response.digest != catalog.bundle.digest.0 {
        return Err(OTHER);
    }
    let unknown = || Ok(Err(RequestError::UnknownRoute { route: route.to_owned() }));
    let mut rows =
        Collector { catalog, asked: Asked::default(), places: Vec::new(), texts: Texts::default() };
    if is_flat && response.is_compact() {
        for decision in response.compact_decisions()? {
            match decision? {
                Some(decision) => rows.compact(&decision)?,
                None => return unknown(),
            }
        }
    } else {
        for decision in response.decisions() {
            let Some((decision, shadows)) = decision? else { return unknown() };
            // The names are enough, whether or not the indices are those of the bundle.
            rows.named(route, &decision, shadows)?;
        }
    }
    if rows.asked.served.rows.len() != expected {
        return Err(OTHER_COUNT);
    }
    Ok(Ok(rows.asked))
}

/// Gives every row its definition's baseline, as a shell does that may not go by the policy any more.
pub(crate) fn to_baselines(catalog: &Catalog, asked: &mut Asked) -> Result<(), RequestError> {
    let internal = || RequestError::Internal { message: "a route without its baseline".to_owned() };
    let mut rows =
        Collector { catalog, asked: Asked::default(), places: Vec::new(), texts: Texts::default() };
    for (row, definition) in asked.served.rows.iter().zip(&asked.definitions) {
        let route = catalog.routes.get(*definition).ok_or_else(internal)?;
        let baseline = catalog.baseline(route).ok_or_else(internal)?;
        let version = rows.version(*definition, baseline.name, || (&baseline).into());
        let (tenant, user) =
            row.decision.as_ref().map_or((None, None), |why| (why.tenant.clone(), why.user.clone()));
        let why = Why {
            reason: Reason::Error,
            step: Step::Default,
            rule: None,
            layer: None,
            bucket: None,
            stage: None,
            window: None,
            unit_missing: false,
            holdout: false,
            washout: false,
            unavailable: false,
            intended: None,
            tenant,
            user,
        };
        rows.push(*definition, version, why, std::iter::empty());
    }
    *asked = rows.asked;
    Ok(())
}
