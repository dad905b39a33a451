//! Metadata of routes, and how this edge is.

use std::collections::BTreeMap;

use lockgate_oip::{ModelMetadata, TensorMetadata};
use lockgate_package::{Digest, Engine};
use lockgate_policy::Placement;
use lockgate_shell::metadata::{ModelFacts, platform, shared_parameters};
use lockgate_shell::{RequestError, versions};
use serde::Serialize;

use crate::catalog::{Catalog, RouteEntry};
use crate::core::Core;
use crate::edge::{Edge, Serving};
use crate::fresh::Mode;
use crate::http::{Name, Response};
use crate::records::QueueReport;
use crate::shadows::ShadowReport;

pub(crate) fn metadata(
    catalog: &Catalog,
    route: &RouteEntry,
    name: &Name,
    chosen: &[Digest],
) -> Result<Response, RequestError> {
    let packages: Vec<_> = chosen.iter().filter_map(|digest| catalog.packages.get(digest)).collect();
    let facts: Vec<ModelFacts<'_>> = packages.iter().map(|entry| ModelFacts::from(*entry)).collect();
    let signature = match (&name.version, packages.as_slice()) {
        (Some(_), [entry]) => &entry.signature,
        _ => &route.signature,
    };
    let metadata = ModelMetadata {
        name: name.route.clone(),
        versions: versions::versions(catalog.variants(route))
            .into_iter()
            .map(|version| version.name)
            .collect(),
        platform: platform(&facts).to_owned(),
        inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
        outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
        parameters: shared_parameters(&facts),
    };
    Ok(Response::json(200, &metadata))
}

/// How well something is; the worst part decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Healthy,
    /// It serves, but somebody should look.
    Degraded,
    /// It does not serve.
    Unhealthy,
}

impl Health {
    fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }

    fn degraded_if(condition: bool) -> Self {
        if condition { Self::Degraded } else { Self::Healthy }
    }
}

/// What `/health` answers; `docs/http-api.md` says what each field means.
#[derive(Serialize)]
struct Report<'a> {
    status: &'static str,
    version: &'static str,
    shell: &'static str,
    emitter: &'a str,
    uptime_seconds: i64,
    core: CorePart,
    parts: Parts<'a>,
}

#[derive(Serialize)]
struct CorePart {
    policy: Digest,
    inference: Digest,
    image: Option<Digest>,
}

#[derive(Serialize)]
struct Parts<'a> {
    policy: PolicyPart<'a>,
    packages: PackagesPart<'a>,
    records: QueueReport<'a>,
    shadows: BTreeMap<&'a str, ShadowReport<'a>>,
}

#[derive(Serialize)]
struct PolicyPart<'a> {
    status: &'static str,
    version: Option<u64>,
    digest: Option<Digest>,
    routes: usize,
    source: &'static str,
    age_seconds: Option<u64>,
    max_stale_seconds: u64,
    mode: &'static str,
    last_load: Option<LastLoad<'a>>,
}

#[derive(Serialize)]
struct LastLoad<'a> {
    error: &'a str,
    code: &'a str,
}

#[derive(Serialize)]
struct PackagesPart<'a> {
    status: &'static str,
    loaded: usize,
    models: Vec<ModelPart<'a>>,
}

#[derive(Serialize)]
struct ModelPart<'a> {
    model: &'a str,
    version: &'a str,
    digest: Digest,
    placement: &'static str,
    engine: Option<Engine>,
    status: &'static str,
    faults: u64,
    quarantined_for_ms: Option<u64>,
}

impl Edge {
    pub(crate) fn health(&self, core: &mut dyn Core, serving: Serving<'_>, now_ms: i64) -> Response {
        let fresh = serving.freshness;
        let mode = fresh.mode(&self.settings, now_ms);
        let policy_health = match serving.catalog {
            None => Health::Unhealthy,
            Some(_) => Health::degraded_if(mode != Mode::Serve || fresh.error().is_some()),
        };
        let bundle = serving.catalog.map(|catalog| catalog.bundle);
        let policy = PolicyPart {
            status: policy_health.name(),
            version: bundle.map(|bundle| bundle.version),
            digest: bundle.map(|bundle| bundle.digest),
            routes: serving.catalog.map_or(0, |catalog| catalog.routes.len()),
            source: if fresh.is_baked() { "baked" } else { "fetched" },
            age_seconds: fresh.age_seconds(now_ms),
            max_stale_seconds: self.settings.max_stale.as_secs(),
            mode: if serving.catalog.is_some() { mode.name() } else { "none" },
            last_load: fresh.error().map(|error| LastLoad { error: &error.message, code: &error.code }),
        };
        let mut packages_health = Health::Healthy;
        let mut models = Vec::new();
        for model in serving.catalog.iter().flat_map(|catalog| &catalog.models) {
            let quarantined = self.quarantined(&model.digest, now_ms);
            let status = match (quarantined, model.placement) {
                (Some(_), _) => "quarantined",
                (None, Placement::Edge) => serving
                    .catalog
                    .and_then(|catalog| self.problem_here(core, catalog, &model.digest))
                    .unwrap_or("loaded"),
                (None, _) if self.identity.has_origin => "forwarded",
                (None, _) => "no_origin",
            };
            if !matches!(status, "loaded" | "forwarded") {
                packages_health = Health::Degraded;
            }
            let entry = serving.catalog.and_then(|catalog| catalog.packages.get(&model.digest));
            models.push(ModelPart {
                model: &model.model,
                version: &model.version,
                digest: model.digest,
                placement: model.placement.name(),
                engine: entry.map(|entry| entry.engine),
                status,
                faults: self.faults.total(&model.digest),
                quarantined_for_ms: quarantined
                    .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            });
        }
        let loaded = models.iter().filter(|model| model.status == "loaded").count();
        let mut records = self.records.report();
        let records_health = Health::degraded_if(!records.dropped.is_empty());
        records.status = records_health.name();
        let worst = policy_health.max(packages_health).max(records_health);
        let uptime = now_ms.saturating_sub(self.identity.started_ms).max(0);
        let report = Report {
            status: worst.name(),
            version: env!("CARGO_PKG_VERSION"),
            shell: self.identity.shell,
            emitter: &self.identity.emitter,
            uptime_seconds: uptime / 1000,
            core: CorePart {
                policy: core.policy_identity(),
                inference: core.inference_identity(),
                image: serving.image,
            },
            parts: Parts {
                policy,
                packages: PackagesPart { status: packages_health.name(), loaded, models },
                records,
                shadows: self.shadows.report(),
            },
        };
        Response::json(if worst == Health::Unhealthy { 503 } else { 200 }, &report)
    }
}
