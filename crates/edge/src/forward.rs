//! Sending a version's rows to the origin, and reading what it says.

use std::sync::Arc;
use std::time::Duration;

use lockgate_oip::{
    ErrorMessage, HEADER_LENGTH, InferRequest, Parameter, Parameters, decode_response, encode_request,
};
use lockgate_package::plan::explain::{CONTRIBUTIONS, Contributions};
use lockgate_package::{Digest, Engine, Tensor};
use lockgate_policy::Attribute;
use lockgate_shell::{
    BundleId, Context, Execution, HEADER_DECISION, HEADER_TIMEOUT, Headers, OutOfRange, ServedVersion,
    header_length, versions,
};
use serde::Serialize;
use serde_json::Value;

use crate::http::Response;
use crate::predict::Predicted;

/// A request to the origin, a POST. Its path begins with a slash and goes behind the origin's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The path.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the origin answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The HTTP status.
    pub status: u16,
    /// The value of `inference-header-content-length`.
    pub header_length: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why the origin gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// It could not be reached, or broke off.
    Unreachable(String),
    /// It took too long.
    TimedOut,
    /// No origin is configured.
    NoOrigin,
}

/// What is told with every forwarded request.
pub(crate) struct Told<'a> {
    pub(crate) route: &'a str,
    pub(crate) decision_id: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) bundle: BundleId,
    pub(crate) policy_core: Digest,
    pub(crate) key: Option<&'a str>,
    pub(crate) shadow: Option<&'a str>,
    pub(crate) contributions: Contributions,
}

/// The header that tells the origin what was decided here.
#[derive(Serialize)]
struct Decision<'a> {
    id: &'a str,
    bundle_version: u64,
    bundle_digest: Digest,
    policy_core: Digest,
    package_digest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<&'a str>,
}

/// Writes the request for some rows of a version. `contexts` are one for all rows, or one for each of them.
pub(crate) fn fetch(
    told: &Told<'_>,
    version: &ServedVersion,
    contexts: &[&Context],
    inputs: Vec<Tensor>,
    timeout: Duration,
) -> Result<Fetch, lockgate_oip::Error> {
    let mut parameters = parameters(contexts);
    if let Some(value) = told.contributions.value() {
        parameters.insert(CONTRIBUTIONS.to_owned(), Parameter::from(value));
    }
    let request = InferRequest { id: None, parameters, inputs, outputs: Vec::new() };
    let body = encode_request(&request, true)?;
    let name = versions::model_name(&version.model, &version.version);
    let decision = Decision {
        id: told.decision_id,
        bundle_version: told.bundle.version,
        bundle_digest: told.bundle.digest,
        policy_core: told.policy_core,
        package_digest: version.package,
        variant: version.variant.as_deref(),
        shadow: told.shadow,
    };
    // Texts and numbers; writing them cannot fail.
    let decision = serde_json::to_string(&decision).unwrap_or_default();
    let mut headers = vec![
        ("content-type".to_owned(), "application/octet-stream".to_owned()),
        ("x-request-id".to_owned(), told.request_id.to_owned()),
        (HEADER_TIMEOUT.to_owned(), timeout.as_millis().max(1).to_string()),
        (HEADER_DECISION.to_owned(), ascii(&decision)),
    ];
    if let Some(length) = body.header_length {
        headers.push((HEADER_LENGTH.to_owned(), length.to_string()));
    }
    if let Some(key) = told.key {
        headers.push(("authorization".to_owned(), format!("Bearer {key}")));
    }
    let path = format!("/v2/models/{}/versions/{}/infer", encode(told.route), encode(&name));
    Ok(Fetch { path, headers, body: body.bytes, timeout })
}

/// The contexts as request parameters: one value where all agree, else an array.
fn parameters(contexts: &[&Context]) -> Parameters {
    let mut parameters = Parameters::new();
    parameters.insert("binary_data_output".to_owned(), Parameter::Boolean(true));
    let mut add = |name: &str, values: Vec<Parameter>| {
        let Some(first) = values.first() else { return };
        if values.iter().all(|value| *value == Parameter::Null) {
            return;
        }
        let value =
            if values.iter().all(|value| value == first) { first.clone() } else { Parameter::List(values) };
        parameters.insert(name.to_owned(), value);
    };
    let text = |text: &Option<String>| text.as_deref().map_or(Parameter::Null, Parameter::from);
    add("user", contexts.iter().map(|context| text(&context.user)).collect());
    add("symbol", contexts.iter().map(|context| text(&context.symbol)).collect());
    add("tenant", contexts.iter().map(|context| text(&context.tenant)).collect());
    add("session", contexts.iter().map(|context| text(&context.session)).collect());
    let mut names: Vec<&str> =
        contexts.iter().flat_map(|context| context.attributes.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let value = |context: &&Context| match context.attributes.get(name) {
            None => Parameter::Null,
            Some(Attribute::Text(text)) => Parameter::Text(text.clone()),
            Some(Attribute::Number(number)) => Parameter::Number(*number),
            Some(Attribute::Boolean(value)) => Parameter::Boolean(*value),
        };
        add(name, contexts.iter().map(value).collect());
    }
    parameters
}

/// What a forwarded request came to.
pub(crate) enum Came {
    /// An answer.
    Predicted(Box<Predicted>),
    /// The caller's mistake, which the origin found.
    Refused(Response),
    /// Nothing that can be used.
    Failed { problem: String, timed_out: bool },
}

/// Reads what the origin said to `rows` rows of a version.
pub(crate) fn came(
    result: Result<Fetched, FetchError>,
    version: &ServedVersion,
    id: Option<&String>,
) -> Came {
    let failed = |problem: String| Came::Failed { problem, timed_out: false };
    let answer = match result {
        Ok(answer) => answer,
        Err(FetchError::TimedOut) => {
            return Came::Failed { problem: "gave no answer in time".to_owned(), timed_out: true };
        }
        Err(FetchError::Unreachable(problem)) => return failed(format!("cannot be reached: {problem}")),
        Err(FetchError::NoOrigin) => return failed("is not configured".to_owned()),
    };
    if answer.status != 200 {
        let message: Option<ErrorMessage> = serde_json::from_slice(&answer.body).ok();
        return match message {
            // What the caller sent is wrong, whoever says so.
            Some(message) if matches!(answer.status, 400 | 413) && is_callers(&message.code) => {
                let message = ErrorMessage { id: id.cloned(), ..message };
                Came::Refused(Response::json(answer.status, &message))
            }
            Some(message) => {
                failed(format!("answered {} `{}`: {}", answer.status, message.code, message.error))
            }
            None => failed(format!("answered {}", answer.status)),
        };
    }
    let headers = answer.header_length.map(|length| (HEADER_LENGTH.to_owned(), length));
    let headers = lockgate_shell::HeaderList(headers.into_iter().collect());
    match read(&headers, &answer.body, version) {
        Ok(predicted) => Came::Predicted(Box::new(predicted)),
        Err(problem) => failed(problem),
    }
}

/// Errors that say what is wrong with the tensors. Others are about what this edge sent.
fn is_callers(code: &str) -> bool {
    matches!(code, "invalid_input" | "missing_value" | "limit_exceeded" | "body_too_large" | "outputs_differ")
}

fn read(headers: &impl Headers, body: &[u8], version: &ServedVersion) -> Result<Predicted, String> {
    let length = header_length(headers).map_err(|problem| problem.message)?;
    let response =
        decode_response(body, length).map_err(|error| format!("gave an unreadable answer: {error}"))?;
    let text = |name: &str| response.parameters.get(name).and_then(Value::as_str);
    let package = text("package_digest").and_then(|digest| digest.parse::<Digest>().ok());
    if package != Some(version.package) {
        let found = package.map_or("none that it names".to_owned(), |digest| digest.short());
        return Err(format!("served package {found}, pinned is {}", version.package.short()));
    }
    let engine = match text("engine") {
        Some("tabular") => Some(Engine::Tabular),
        Some("graph") => Some(Engine::Graph),
        _ => None,
    };
    let core = text("inference_core").and_then(|core| core.parse().ok());
    let mock = response.parameters.get("mock").and_then(Value::as_bool) == Some(true);
    let execution = engine.zip(core).map(|(engine, core)| Execution { engine, core, mock });
    let warnings = response.parameters.get("out_of_range").and_then(Value::as_array);
    let out_of_range = warnings.into_iter().flatten().filter_map(warning).collect();
    Ok(Predicted { outputs: response.outputs, out_of_range, execution })
}

fn warning(value: &Value) -> Option<OutOfRange> {
    let number = |name: &str| value.get(name)?.as_u64().and_then(|number| u32::try_from(number).ok());
    let name: Arc<str> = value.get("feature")?.as_str()?.into();
    let value = match value.get("value")? {
        Value::String(text) => match text.as_str() {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => f64::NAN,
        },
        value => value.as_f64()?,
    };
    Some(OutOfRange { row: number("row")?, feature: number("index")?, name, value })
}

/// A part of a path, its special characters escaped.
pub(crate) fn encode(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// JSON in ASCII, as a header wants it.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_become_parameters_again() {
        let context = |user: Option<&str>, n: Option<f64>| Context {
            user: user.map(str::to_owned),
            tenant: Some("acme".to_owned()),
            attributes: n.map(|n| ("n".to_owned(), Attribute::Number(n))).into_iter().collect(),
            ..Context::default()
        };
        let all = [context(Some("a"), None), context(None, Some(1.5))];
        let parameters = parameters(&all.iter().collect::<Vec<_>>());
        assert_eq!(
            serde_json::to_string(&parameters).unwrap(),
            r#"{"binary_data_output":true,"n":[null,1.5],"tenant":"acme","user":["a",null]}"#
        );
    }

    #[test]
    fn what_is_special_is_escaped() {
        assert_eq!(encode("a b/é@1.0.0"), "a%20b%2F%C3%A9@1.0.0");
        assert_eq!(ascii("{\"é😀\":1}"), "{\"\\u00e9\\ud83d\\ude00\":1}");
        let back: Value = serde_json::from_str(&ascii("\"é😀\"")).unwrap();
        assert_eq!(back, "é😀");
    }
}
