//! Metadata and readiness.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lockgate_oip::{BINARY_EXTENSION, ModelMetadata, ModelReady, Parameters, ServerMetadata, TensorMetadata};
use lockgate_package::Digest;
use lockgate_policy::RouteView;
use lockgate_runtime::{Context, Generation, InstalledModel, RuntimeError};
use lockgate_shell::metadata::{ModelFacts, platform, shared_parameters};
use lockgate_shell::versions::versions;
use lockgate_shell::{Caller, Problem, contexts};
use serde::Deserialize;

use super::error::refusal;
use super::headers::RequestHeaders;
use super::identity::identify;
use super::{App, RouteLabel};

/// What a path names.
#[derive(Deserialize)]
pub(super) struct ModelPath {
    pub(super) model: String,
    #[serde(default)]
    pub(super) version: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| path).map_err(|_| refusal(Problem::invalid_path(), None))
    }
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
    path: ModelPath,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    with_route(&app, &path, &headers, peer, |generation, route, chosen| {
        let models: Vec<&InstalledModel> =
            chosen.iter().filter_map(|digest| generation.model(digest)).collect();
        let facts: Vec<ModelFacts<'_>> = models.iter().map(|model| model.manifest().into()).collect();
        let signature = match (&path.version, models.as_slice()) {
            (Some(_), [model]) => model.manifest().signature.clone(),
            _ => route.signature().map_err(|error| RuntimeError::Internal { message: error.to_string() })?,
        };
        Ok(Json(ModelMetadata {
            name: path.model.clone(),
            versions: versions(route.variants()).into_iter().map(|version| version.name).collect(),
            platform: platform(&facts).to_owned(),
            inputs: signature.inputs.iter().map(TensorMetadata::from).collect(),
            outputs: signature.outputs.iter().map(TensorMetadata::from).collect(),
            parameters: shared_parameters(&facts),
        })
        .into_response())
    })
}

pub(super) async fn ready(
    State(app): State<Arc<App>>,
    path: ModelPath,
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
) -> Result<RouteView<'g>, Problem> {
    let seen = app.runtime.resolve(generation, name, context);
    match seen {
        Ok(route) if caller.may_ask(name) => Ok(route),
        Ok(_) | Err(RuntimeError::UnknownRoute { .. }) => Err(Problem::unknown_route(name)),
        Err(error) => Err(error.into()),
    }
}

/// Calls `answer` with the route that the path names and the packages of its version, or of all versions when it names none.
fn with_route(
    app: &App,
    path: &ModelPath,
    headers: &HeaderMap,
    peer: SocketAddr,
    answer: impl FnOnce(&Generation, RouteView<'_>, &[Digest]) -> Result<Response, Problem>,
) -> Response {
    let mut known = false;
    let result = identify(&app.config, headers, peer.ip()).and_then(|caller| {
        let generation = app.runtime.generation();
        let names = app.config.settings.context_headers();
        let contexts = contexts(&names, &RequestHeaders(headers), &caller, &Parameters::default(), None)?;
        let context = contexts.all.into_iter().next().unwrap_or_default();
        let route = visible(app, &generation, &caller, &path.model, &context)?;
        known = true;
        let chosen: Vec<Digest> = match &path.version {
            None => versions(route.variants()).iter().map(|version| version.digest).collect(),
            Some(version) => vec![generation.pinned(&route, version)?.digest],
        };
        answer(&generation, route, &chosen)
    });
    let mut response = result.unwrap_or_else(|problem| refusal(problem, None));
    response.extensions_mut().insert(RouteLabel { name: path.model.clone(), known });
    response
}
