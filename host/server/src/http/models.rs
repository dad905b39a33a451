//! Metadata and readiness.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lockgate_oip::{BINARY_EXTENSION, ModelMetadata, ModelReady, Parameters, ServerMetadata, TensorMetadata};
use lockgate_package::{Digest, Engine, Manifest};
use lockgate_policy::RouteView;
use lockgate_runtime::{Context, Generation, RuntimeError};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::contexts;
use super::error::ApiError;
use super::identity::{Caller, identify};
use super::{App, RouteLabel};
use crate::repository::versions;

/// What a path names.
#[derive(Deserialize)]
pub(super) struct ModelPath {
    pub(super) model: String,
    #[serde(default)]
    pub(super) version: Option<String>,
}

pub(super) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "lockgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec![BINARY_EXTENSION.to_owned()],
    })
}

pub(super) async fn metadata(
    State(app): State<Arc<App>>,
    Path(path): Path<ModelPath>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    with_route(&app, &path, &headers, peer, |generation, route, chosen| {
        let manifests: Vec<&Manifest> = chosen
            .iter()
            .filter_map(|digest| generation.model(digest))
            .map(lockgate_runtime::InstalledModel::manifest)
            .collect();
        let signature = match (&path.version, manifests.as_slice()) {
            (Some(_), [manifest]) => manifest.signature.clone(),
            _ => route.signature().map_err(|error| RuntimeError::Internal { message: error.to_string() })?,
        };
        Ok(Json(ModelMetadata {
            name: path.model.clone(),
            versions: versions(&route).into_iter().map(|version| version.name).collect(),
            platform: platform(&manifests).to_owned(),
            inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
            outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
            parameters: shared_parameters(&manifests),
        })
        .into_response())
    })
}

pub(super) async fn ready(
    State(app): State<Arc<App>>,
    Path(path): Path<ModelPath>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    with_route(&app, &path, &headers, peer, |_, _, chosen| {
        let quarantined = app.quarantined();
        let ready = app.is_ready() && !chosen.iter().any(|digest| quarantined.contains(digest));
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok((status, Json(ModelReady { name: path.model.clone(), ready })).into_response())
    })
}

/// The definition of a route that a caller may see. One that does not exist and one that the caller may not see give the same answer.
pub(super) fn visible<'g>(
    app: &App,
    generation: &'g Generation,
    caller: &Caller,
    name: &str,
    context: &Context,
) -> Result<RouteView<'g>, ApiError> {
    let seen = app.runtime.resolve(generation, name, context);
    match seen {
        Ok(route) if caller.may_ask(name) => Ok(route),
        Ok(_) | Err(RuntimeError::UnknownRoute { .. }) => Err(ApiError::unknown_route(name)),
        Err(error) => Err(error.into()),
    }
}

/// Calls `answer` with the route that the path names and the packages of its version, or of all versions when it names none.
fn with_route(
    app: &App,
    path: &ModelPath,
    headers: &HeaderMap,
    peer: SocketAddr,
    answer: impl FnOnce(&Generation, RouteView<'_>, &[Digest]) -> Result<Response, ApiError>,
) -> Response {
    let mut known = false;
    let result = identify(&app.config, headers, peer.ip()).and_then(|caller| {
        let generation = app.runtime.generation();
        let contexts = contexts(&app.config.settings, headers, &caller, &Parameters::default(), None)?;
        let context = contexts.into_iter().next().unwrap_or_default();
        let route = visible(app, &generation, &caller, &path.model, &context)?;
        known = true;
        let chosen: Vec<Digest> = match &path.version {
            None => versions(&route).iter().map(|version| version.digest).collect(),
            Some(version) => vec![generation.pinned(&route, version)?.digest],
        };
        answer(&generation, route, &chosen)
    });
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    response.extensions_mut().insert(RouteLabel { name: path.model.clone(), known });
    response
}

fn platform(manifests: &[&Manifest]) -> &'static str {
    let all = |engine| !manifests.is_empty() && manifests.iter().all(|manifest| manifest.engine == engine);
    if all(Engine::Tabular) {
        "lockgate_tabular"
    } else if all(Engine::Graph) {
        "lockgate_graph"
    } else {
        "lockgate"
    }
}

/// What all these models say alike of their labels and features.
fn shared_parameters(manifests: &[&Manifest]) -> Map<String, Value> {
    let mut shared = Map::new();
    let Some((first, others)) = manifests.split_first() else { return shared };
    let names = |manifest: &Manifest| -> Vec<String> {
        manifest.features.iter().map(|feature| feature.name.clone()).collect()
    };
    if !first.labels.is_empty() && others.iter().all(|other| other.labels == first.labels) {
        shared.insert("labels".to_owned(), json!(first.labels));
    }
    if !first.features.is_empty() && others.iter().all(|other| names(other) == names(first)) {
        shared.insert("features".to_owned(), json!(names(first)));
    }
    if let Some(version) = &first.feature_version
        && others.iter().all(|other| other.feature_version == first.feature_version)
    {
        shared.insert("feature_version".to_owned(), json!(version));
    }
    shared
}
