//! Models that packaging must refuse, and what the refusal must name.

use std::collections::BTreeMap;

use lockgate_package::import::{ImportError, ImportOptions, ManifestSource, import};
use lockgate_tests::root;
use serde_json::Value;

#[test]
fn refusals_name_node_operator_and_attribute_with_a_hint() {
    let folder = root().join("tests/models/refused");
    let expected: BTreeMap<String, Value> =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    assert!(expected.len() >= 5);
    for (file, expected) in expected {
        let onnx = std::fs::read(folder.join(&file)).unwrap();
        let options =
            ImportOptions { model: Some("m".into()), version: Some("1.0.0".into()), ..Default::default() };
        let error = import(&onnx, &ManifestSource::default(), &options).expect_err(&file);
        let ImportError::Unsupported { refusals } = &error else { panic!("{file}: {error}") };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let found = refusals.iter().any(|refusal| {
            text(&expected["node"]).is_none_or(|node| refusal.node == node)
                && text(&expected["operator"]).is_none_or(|operator| refusal.operator == operator)
                && text(&expected["attribute"])
                    .is_none_or(|name| refusal.attribute.as_deref() == Some(name.as_str()))
                && !refusal.hint.is_empty()
        });
        assert!(found, "{file}: expected {expected}, found {refusals:#?}");
    }
}

#[test]
fn truncated_files_are_refused_wherever_they_are_cut() {
    let onnx = std::fs::read(root().join("tests/models/forest_binary.onnx")).unwrap();
    let options =
        ImportOptions { model: Some("m".into()), version: Some("1.0.0".into()), ..Default::default() };
    for end in (0..onnx.len()).step_by(97).chain([onnx.len() - 1]) {
        assert!(import(&onnx[..end], &ManifestSource::default(), &options).is_err(), "cut at {end}");
    }
}
