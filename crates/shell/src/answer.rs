//! What an answer says about the versions that ran: one value where all rows agree, an array with one value per row where they
//! differ, nothing where no row has a value.

use lockgate_package::{Digest, Tensor};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::{BundleId, Caller, OutOfRange, Problem, Served, ServedRow, ServedVersion, Why, contributions};

/// One field of a row's provenance.
type Field = (&'static str, for<'a> fn(&'a ServedRow, &'a ServedVersion) -> Said<'a>);

/// What a field says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Nothing,
    Text(&'a str),
    Number(u64),
    Yes(bool),
    Digest(Digest),
}

const FIELDS: [Field; 21] = [
    ("variant", |_, version| text(version.variant.as_deref())),
    ("model", |_, version| Said::Text(&version.model)),
    ("version", |_, version| Said::Text(&version.version)),
    ("package_digest", |_, version| Said::Digest(version.package)),
    ("placement", |_, version| Said::Text(version.placement.name())),
    ("engine", |_, version| text(version.execution.as_ref().map(|execution| execution.engine.name()))),
    ("inference_core", |_, version| {
        version.execution.as_ref().map_or(Said::Nothing, |execution| Said::Digest(execution.core))
    }),
    ("mock", |_, version| match &version.execution {
        Some(execution) if execution.mock => Said::Yes(true),
        _ => Said::Nothing,
    }),
    ("payload", |_, version| text(version.payload.as_deref())),
    ("reason", |row, _| text(row.decision.as_ref().map(|why| why.reason.name()))),
    ("step", |row, _| text(row.decision.as_ref().map(|why| why.step.name()))),
    ("rule", |row, _| text(row.decision.as_ref().and_then(|why| why.rule.as_deref()))),
    ("layer", |row, _| text(row.decision.as_ref().and_then(|why| why.layer.as_deref()))),
    ("bucket", |row, _| number(row.decision.as_ref().and_then(|why| why.bucket))),
    ("stage", |row, _| number(row.decision.as_ref().and_then(|why| why.stage))),
    ("window", |row, _| number(row.decision.as_ref().and_then(|why| why.window))),
    ("intended_variant", |row, _| text(row.decision.as_ref().and_then(|why| why.intended.as_deref()))),
    ("unit_missing", |row, _| flag(row, |why| why.unit_missing)),
    ("holdout", |row, _| flag(row, |why| why.holdout)),
    ("washout", |row, _| flag(row, |why| why.washout)),
    ("fallback", |row, _| flag(row, |why| why.intended.is_some())),
];

fn text(value: Option<&str>) -> Said<'_> {
    value.map_or(Said::Nothing, Said::Text)
}

fn number<'a>(value: Option<impl Into<u64>>) -> Said<'a> {
    value.map_or(Said::Nothing, |value| Said::Number(value.into()))
}

/// What is true of few rows is left out where it is false.
fn flag<'a>(row: &ServedRow, is_set: impl Fn(&Why) -> bool) -> Said<'a> {
    match &row.decision {
        Some(why) if is_set(why) => Said::Yes(true),
        _ => Said::Nothing,
    }
}

/// What an answer says beside its outputs.
#[derive(Debug, Clone, Copy)]
pub struct Provenance<'a> {
    /// Names this request's decisions.
    pub decision_id: &'a str,
    /// Whether the caller named the version.
    pub pinned: bool,
    /// The policy bundle.
    pub bundle: BundleId,
    /// The identity of the policy module.
    pub policy_core: Digest,
    /// What each row got.
    pub served: &'a Served,
    /// Features outside the range seen in training.
    pub out_of_range: &'a [OutOfRange],
    /// Who asked.
    pub caller: &'a Caller,
}

impl Provenance<'_> {
    /// The `parameters` of the answer, where they must outlive what they speak of.
    pub fn parameters(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        }
    }
}

/// The `parameters` of the answer.
impl Serialize for Provenance<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("decision_id", self.decision_id)?;
        map.serialize_entry("pinned", &self.pinned)?;
        map.serialize_entry("bundle_version", &self.bundle.version)?;
        map.serialize_entry("bundle_digest", &self.bundle.digest)?;
        map.serialize_entry("policy_core", &self.policy_core)?;
        let rows = || (0..self.served.rows.len()).filter_map(|row| self.served.row(row));
        for (name, value) in FIELDS {
            let mut values = rows().map(|(row, version)| value(row, version));
            let Some(first) = values.next() else { continue };
            if values.any(|other| other != first) {
                let all: Vec<Said<'_>> = rows().map(|(row, version)| value(row, version)).collect();
                map.serialize_entry(name, &all)?;
            } else if first != Said::Nothing {
                map.serialize_entry(name, &first)?;
            }
        }
        let caller = self.caller;
        if caller.verified {
            let verified: Vec<&str> = [("user", &caller.user), ("tenant", &caller.tenant)]
                .into_iter()
                .filter_map(|(name, value)| value.as_ref().map(|_| name))
                .collect();
            map.serialize_entry("verified", &verified.join(","))?;
        }
        if !self.out_of_range.is_empty() {
            let all: Vec<Value> = self.out_of_range.iter().map(out_of_range).collect();
            map.serialize_entry("out_of_range", &all)?;
        }
        map.end()
    }
}

/// The outputs that the caller asked for, in that order; all of them when it named none.
///
/// # Errors
/// An output that does not exist.
pub fn select(message: &lockgate_oip::InferRequest, outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Problem> {
    if message.outputs.is_empty() {
        return Ok(outputs);
    }
    let find = |name: &str| {
        outputs.iter().find(|output| output.name == name).cloned().ok_or_else(|| {
            let names: Vec<String> = outputs.iter().map(|output| format!("`{}`", output.name)).collect();
            Problem::bad_request(
                "unknown_output",
                format!("there is no output `{name}`; expected {}", names.join(" or ")),
            )
        })
    };
    let asked = contributions(&message.parameters)?;
    let is_more = |output: &&Tensor| {
        asked.is_output(&output.name)
            && !message.outputs.iter().any(|requested| requested.name == output.name)
    };
    // Who asks for contributions gets them, named or not.
    let more = outputs.iter().filter(is_more).cloned().map(Ok);
    message.outputs.iter().map(|requested| find(&requested.name)).chain(more).collect()
}

fn out_of_range(warning: &OutOfRange) -> Value {
    let value = match warning.value {
        value if value.is_finite() => json!(value),
        value if value.is_nan() => json!("NaN"),
        value if value > 0.0 => json!("Infinity"),
        _ => json!("-Infinity"),
    };
    json!({ "row": warning.row, "feature": &*warning.name, "index": warning.feature, "value": value })
}
