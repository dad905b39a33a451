//! What the documentation shows is what the code does.

use lockgate_policy::bucket;

use crate::{bundle_with, checked};

const POLICY: &str = include_str!("../../../../docs/policy.md");
const HASHING: &str = include_str!("../../../../docs/hashing.md");

fn yaml() -> &'static str {
    let (_, rest) = POLICY.split_once("```yaml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_complete_example_of_the_language_compiles() {
    let policy = crate::policy(yaml());
    let mut packages = crate::packages(&policy);
    for package in &mut packages {
        package.signature = policy.routes[&lockgate_policy::RouteKey::platform("eurusd-direction")]
            .signature
            .clone()
            .unwrap();
        if package.model == "eurusd_lr" {
            package.digest =
                "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef".parse().unwrap();
        }
    }
    let options = lockgate_policy::CompileOptions { packages: &packages, ..Default::default() };
    let bytes =
        lockgate_policy::compile(&policy, &options).unwrap_or_else(|problems| panic!("{problems}")).bundle;
    let bundle = crate::load(&bytes);
    assert_eq!(bundle.version(), 3);
    crate::check_decision(
        &bundle,
        "eurusd-direction user=ines",
        "canary TARGETING_MATCH test_group rule=insiders",
    );
}

#[test]
fn the_policy_of_the_example_is_one() {
    crate::policy(include_str!("../../../../examples/eurusd/policy.yaml"));
}

#[test]
fn the_table_of_hashes_is_right() {
    let rows: Vec<Vec<&str>> = HASHING
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 11);
    for row in rows {
        let [salt, unit, hash, expected] = row[..] else { panic!("{row:?}") };
        let parts: Vec<&str> = unit.split('`').skip(1).step_by(2).collect();
        let hash = u64::from_str_radix(hash.trim_matches('`'), 16).unwrap();
        let expected: u32 = expected.parse().unwrap();
        assert_eq!(bucket(salt.trim_matches('`'), parts.iter().copied()), expected, "{unit}");
        assert_eq!(((hash >> 32) * 100_000) >> 32, u64::from(expected), "{unit}");
    }
    assert_eq!(bucket("eurusd-direction", ["alice"]), 36_064);
}

/// JSON is the same language.
#[test]
fn the_same_policy_in_json_gives_the_same_bundle() {
    let yaml = "
lockgate: 1
segments: { s: { users: [a, ü] } }
routes:
  r:
    variants: { x: { model: m@1.0.0, payload: { a: [1, 2.50, true, null], b: \"ü\" } }, y: { model: n@1.0.0 } }
    baseline: x
    rules: [{ name: rule, if: { segment: s, attribute: n, gte: 1.5 }, serve: y }]
    default: { split: { x: 99.875, y: 0.125 } }
";
    let json = r#"{
  "lockgate": 1,
  "segments": {"s": {"users": ["a", "ü"]}},
  "routes": {"r": {
    "default": {"split": {"y": 0.125, "x": 99.875}},
    "variants": {"x": {"model": "m@1.0.0", "payload": {"a": [1, 2.50, true, null], "b": "\u00fc"}}, "y": {"model": "n@1.0.0"}},
    "baseline": "x",
    "rules": [{"name": "rule", "if": {"segment": "s", "attribute": "n", "gte": 1.5}, "serve": "y"}]
  }}
}"#;
    let from_yaml = bundle_with(yaml, Default::default());
    let policy = checked("policy.json", json).unwrap();
    let packages = crate::packages(&policy);
    let options = lockgate_policy::CompileOptions { packages: &packages, ..Default::default() };
    let from_json = lockgate_policy::compile(&policy, &options).unwrap().bundle;
    assert_eq!(from_yaml.as_bytes(), from_json);
}
