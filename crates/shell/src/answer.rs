//! What an answer says about the versions that ran: one value where all rows agree, an array with one value per row where they
//! differ, nothing where no row has a value.

use lockgate_package::{Digest, Tensor};
use serde_json::{Map, Value, json};

use crate::{BundleId, Caller, OutOfRange, Problem, Served, ServedRow, ServedVersion, Why};

/// One field of a row's provenance.
type Field = (&'static str, fn(&ServedRow, &ServedVersion) -> Value);

const FIELDS: [Field; 20] = [
    ("variant", |_, version| json!(version.variant)),
    ("model", |_, version| json!(version.model)),
    ("version", |_, version| json!(version.version)),
    ("package_digest", |_, version| json!(version.package)),
    ("placement", |_, version| json!(version.placement.name())),
    ("engine", |_, version| json!(version.execution.map(|execution| execution.engine))),
    ("inference_core", |_, version| json!(version.execution.map(|execution| execution.core))),
    ("payload", |_, version| json!(version.payload)),
    ("reason", |row, _| json!(row.decision.as_ref().map(|why| why.reason.name()))),
    ("step", |row, _| json!(row.decision.as_ref().map(|why| why.step.name()))),
    ("rule", |row, _| json!(row.decision.as_ref().and_then(|why| why.rule.as_deref()))),
    ("layer", |row, _| json!(row.decision.as_ref().and_then(|why| why.layer.as_deref()))),
    ("bucket", |row, _| json!(row.decision.as_ref().and_then(|why| why.bucket))),
    ("stage", |row, _| json!(row.decision.as_ref().and_then(|why| why.stage))),
    ("window", |row, _| json!(row.decision.as_ref().and_then(|why| why.window))),
    ("intended_variant", |row, _| json!(row.decision.as_ref().and_then(|why| why.intended.as_deref()))),
    ("unit_missing", |row, _| flag(row, |why| why.unit_missing)),
    ("holdout", |row, _| flag(row, |why| why.holdout)),
    ("washout", |row, _| flag(row, |why| why.washout)),
    ("fallback", |row, _| flag(row, |why| why.intended.is_some())),
];

/// What is true of few rows is left out where it is false.
fn flag(row: &ServedRow, is_set: impl Fn(&Why) -> bool) -> Value {
    match &row.decision {
        Some(why) if is_set(why) => Value::Bool(true),
        _ => Value::Null,
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
    /// The `parameters` of the answer.
    pub fn parameters(&self) -> Map<String, Value> {
        let mut parameters = Map::new();
        parameters.insert("decision_id".to_owned(), json!(self.decision_id));
        parameters.insert("pinned".to_owned(), json!(self.pinned));
        parameters.insert("bundle_version".to_owned(), json!(self.bundle.version));
        parameters.insert("bundle_digest".to_owned(), json!(self.bundle.digest));
        parameters.insert("policy_core".to_owned(), json!(self.policy_core));
        let served: Vec<_> = (0..self.served.rows.len()).filter_map(|row| self.served.row(row)).collect();
        for (name, value) in FIELDS {
            let mut values: Vec<Value> = served.iter().map(|(row, version)| value(row, version)).collect();
            let Some(first) = values.first() else { continue };
            let value = if values.iter().all(|value| value == first) {
                values.swap_remove(0)
            } else {
                Value::Array(values)
            };
            if !value.is_null() {
                parameters.insert(name.to_owned(), value);
            }
        }
        let caller = self.caller;
        if caller.verified {
            let verified: Vec<&str> = [("user", &caller.user), ("tenant", &caller.tenant)]
                .into_iter()
                .filter_map(|(name, value)| value.as_ref().map(|_| name))
                .collect();
            parameters.insert("verified".to_owned(), json!(verified.join(",")));
        }
        if !self.out_of_range.is_empty() {
            parameters
                .insert("out_of_range".to_owned(), self.out_of_range.iter().map(out_of_range).collect());
        }
        parameters
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
    message.outputs.iter().map(|requested| find(&requested.name)).collect()
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
