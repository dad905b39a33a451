//! The JSON Schema of policy sources.

use serde_json::{Map, Value, json};

use super::{DOCUMENT, FORMS, Form, Json, Key, Kind, MAPPINGS, Mapping, Presence};

/// What the schema is called wherever it lies. The number is the language's version, which a policy's key `lockgate` gives.
const SCHEMA_ID: &str = "urn:lockgate:policy:1";

/// The JSON Schema (draft 2020-12) of policy sources, from which editors complete keys and show what they mean.
///
/// It knows every key, every type and which keys exclude each other. What needs the whole document, such as names that must
/// exist and shares that must add up, only [`check`](crate::check) knows.
pub fn schema() -> String {
    let mut definitions = Map::new();
    for form in FORMS.iter().copied().chain(extra_forms()) {
        definitions.insert(form.name.to_owned(), of_form(form));
    }
    for mapping in MAPPINGS.iter().filter(|mapping| mapping.name != DOCUMENT.name) {
        definitions.insert(mapping.name.to_owned(), of_mapping(mapping));
    }
    for shared in MAPPINGS.iter().flat_map(|mapping| mapping.keys()).filter_map(|key| match &key.kind {
        Kind::Shared(shared) => Some(shared),
        _ => None,
    }) {
        definitions.entry(shared.name).or_insert_with(|| of_kind(&shared.kind));
    }
    definitions.sort_keys();
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Lockgate policy",
        "$comment": "Written from crates/policy/src/language/table.rs. An editor with the YAML language server picks it up from a first line `# yaml-language-server: $schema=…/policy.schema.json`; in JSON, name it under `json.schemas` of the editor's settings.",
    });
    if let (Some(schema), Value::Object(root)) = (schema.as_object_mut(), of_mapping(&DOCUMENT)) {
        schema.extend(root);
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    // A tree of texts and numbers can always be written.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// Forms that only one key uses and that therefore have no place in the list of forms.
fn extra_forms() -> impl Iterator<Item = &'static Form> {
    let kinds = MAPPINGS.iter().flat_map(|mapping| mapping.keys()).filter_map(|key| match &key.kind {
        Kind::List { of: Kind::Form(form), .. } | Kind::Form(form) => Some(*form),
        _ => None,
    });
    kinds.filter(|form| !FORMS.iter().any(|known| known.name == form.name))
}

fn of_mapping(mapping: &Mapping) -> Value {
    let properties: Map<String, Value> =
        mapping.keys().map(|key| (key.name.to_owned(), of_key(key))).collect();
    let required: Vec<&str> =
        mapping.keys().filter(|key| matches!(key.presence, Presence::Required)).map(|key| key.name).collect();
    let mut schema = Map::new();
    schema.insert("description".to_owned(), mapping.doc.into());
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if mapping.name == "condition" {
        schema.insert("minProperties".to_owned(), 1.into());
    }
    let has = |key: &&str| json!({ "required": [key] });
    let one_of =
        mapping.one_of.iter().map(|keys| json!({ "oneOf": keys.iter().map(has).collect::<Vec<_>>() }));
    let some_of =
        mapping.some_of.iter().map(|keys| json!({ "anyOf": keys.iter().map(has).collect::<Vec<_>>() }));
    let groups: Vec<Value> = one_of.chain(some_of).collect();
    if !groups.is_empty() {
        schema.insert("allOf".to_owned(), groups.into());
    }
    let needs: Map<String, Value> =
        mapping.needs.iter().map(|(key, needed)| ((*key).to_owned(), json!([needed]))).collect();
    if !needs.is_empty() {
        schema.insert("dependentRequired".to_owned(), needs.into());
    }
    schema.into()
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind(&key.kind);
    let description = match key.presence {
        Presence::Default(default) => format!("{} Without it: {default}.", key.doc),
        Presence::Required | Presence::Optional => key.doc.to_owned(),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), description.into());
    }
    schema
}

fn reference_to(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Form(form) => reference_to(form.name),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Whole { min, max } if min == max => json!({ "const": min }),
        Kind::Whole { min, max } if *max == u64::MAX => json!({ "type": "integer", "minimum": min }),
        Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Words(words) if words.iter().all(|(_, meaning)| meaning.is_empty()) => {
            json!({ "enum": words.iter().map(|(word, _)| word).collect::<Vec<_>>() })
        }
        Kind::Words(words) => {
            let words = words.iter().map(|(word, meaning)| json!({ "const": word, "description": meaning }));
            json!({ "oneOf": words.collect::<Vec<_>>() })
        }
        Kind::NameOf(_) => reference_to("name"),
        Kind::Mapping(mapping) => reference_to(mapping.name),
        Kind::MappingOrNothing(mapping) => {
            json!({ "oneOf": [reference_to(mapping.name), { "type": "null" }] })
        }
        Kind::Named { name, value, .. } => json!({
            "type": "object",
            "propertyNames": reference_to(name.name),
            "additionalProperties": of_kind(value),
        }),
        Kind::List { of, min, max } => {
            let mut schema = json!({ "type": "array", "items": of_kind(of) });
            if let Some(schema) = schema.as_object_mut() {
                if *min > 0 {
                    schema.insert("minItems".to_owned(), json!(min));
                }
                if let Some(max) = max {
                    schema.insert("maxItems".to_owned(), json!(max));
                }
            }
            schema
        }
        Kind::Shared(shared) => reference_to(shared.name),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(of_kind).collect::<Vec<_>>() }),
    }
}

fn of_form(form: &Form) -> Value {
    let mut schema = match form.json {
        Json::Text("") => json!({ "type": "string" }),
        Json::Text(pattern) => json!({ "type": "string", "pattern": pattern }),
        Json::Number(None) => json!({ "type": "number" }),
        Json::Number(Some((min, max))) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Json::Whole(min) => json!({ "type": "integer", "minimum": min }),
        Json::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Json::WholeOrText(pattern) => json!({
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": pattern }],
        }),
        Json::Any => json!({}),
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), form.doc.into());
        if let Ok(example) = serde_json::from_str::<Value>(form.example) {
            schema.insert("examples".to_owned(), json!([example]));
        }
    }
    schema
}
