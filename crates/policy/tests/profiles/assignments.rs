//! The vectors in `tests/profiles`: one text per case, in which the nth character is the variant of the nth unit.

use lockgate_policy::{Algorithm, RequestContext};
use serde_json::{Value, json};

use crate::{bundle, json, texts, variant};

const UNITS: &str = include_str!("../../../../tests/profiles/units.json");

const VECTORS: [(Algorithm, &str); 14] = [
    (Algorithm::Flagd, include_str!("../../../../tests/profiles/flagd.json")),
    (Algorithm::FlagdLegacy, include_str!("../../../../tests/profiles/flagd-legacy.json")),
    (Algorithm::Unleash, include_str!("../../../../tests/profiles/unleash.json")),
    (Algorithm::UnleashVariants, include_str!("../../../../tests/profiles/unleash-variants.json")),
    (Algorithm::GrowthBook, include_str!("../../../../tests/profiles/growthbook.json")),
    (Algorithm::GrowthBookV1, include_str!("../../../../tests/profiles/growthbook-v1.json")),
    (Algorithm::LaunchDarkly, include_str!("../../../../tests/profiles/launchdarkly.json")),
    (Algorithm::Statsig, include_str!("../../../../tests/profiles/statsig.json")),
    (Algorithm::StatsigExperiment, include_str!("../../../../tests/profiles/statsig-experiment.json")),
    (Algorithm::FlagdUtf8, include_str!("../../../../tests/profiles/flagd-utf8.json")),
    (Algorithm::FlagdLegacyUtf8, include_str!("../../../../tests/profiles/flagd-legacy-utf8.json")),
    (Algorithm::UnleashUtf8, include_str!("../../../../tests/profiles/unleash-utf8.json")),
    (Algorithm::UnleashVariantsUtf8, include_str!("../../../../tests/profiles/unleash-variants-utf8.json")),
    (Algorithm::FlagdCbor, include_str!("../../../../tests/profiles/flagd-cbor.json")),
];

/// A policy whose only split has these weights in a layer with this hash and salt.
fn source(hash: Algorithm, salt: &str, weights: &[Value]) -> String {
    let pair = |pair: &Value| (pair[0].as_str().unwrap().to_owned(), pair[1].clone());
    let weights: serde_json::Map<String, Value> = weights.iter().map(pair).collect();
    let variants: serde_json::Map<String, Value> =
        weights.keys().map(|name| (name.clone(), json!({ "model": "m@1.0.0" }))).collect();
    let policy = json!({
        "lockgate": 1,
        "layers": { "old": { "hash": hash.name(), "salt": salt } },
        "routes": { "r": {
            "variants": variants,
            "baseline": weights.keys().next().unwrap(),
            "default": { "layer": "old", "unit": "user", "weights": weights },
        } },
    });
    policy.to_string()
}

#[track_caller]
fn check(hash: Algorithm, vectors: &str) {
    let (units, vectors) = (json(UNITS), json(vectors));
    assert_eq!(vectors["profile"], hash.name());
    for case in vectors["cases"].as_array().unwrap() {
        let salt = case["salt"].as_str().unwrap();
        let bundle = bundle(&source(hash, salt, case["weights"].as_array().unwrap()));
        let assigned = case["assigned"].as_str().unwrap();
        assert_eq!(assigned.len(), units.as_array().unwrap().len());
        for (unit, expected) in texts(&units).into_iter().zip(assigned.split_inclusive(|_| true)) {
            let context = RequestContext { user: Some(unit.to_owned()), ..RequestContext::new("r") };
            let unit: String = unit.chars().take(40).collect();
            assert_eq!(variant(&bundle, &context, 0), expected, "{} {salt:?} {unit:?}", hash.name());
        }
    }
}

#[test]
fn every_profile_assigns_as_the_packages_of_its_system_do() {
    let tested: Vec<Algorithm> = VECTORS.iter().map(|(hash, _)| *hash).collect();
    let missing: Vec<&str> =
        Algorithm::ALL.iter().filter(|hash| !tested.contains(hash)).map(|hash| hash.name()).collect();
    assert_eq!(missing, ["lockgate"]);
    for (hash, vectors) in VECTORS {
        check(hash, vectors);
    }
}

/// The table of examples in `docs/profiles.md`, one bucket at a time.
#[test]
fn the_examples_of_the_documentation_are_right() {
    let page = include_str!("../../../../docs/profiles.md");
    let cells =
        |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>();
    let mut lines = page.lines().skip_while(|line| !line.starts_with("| `hash` | scale | `alice`"));
    let units = cells(lines.next().unwrap());
    let rows: Vec<Vec<String>> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert_eq!(rows.len(), VECTORS.len());
    for row in rows {
        let hash = Algorithm::ALL.into_iter().find(|hash| hash.name() == row[1]).unwrap();
        let scale: u32 = row[2].parse().unwrap();
        for (unit, bucket) in units.iter().zip(&row).skip(3).filter(|(unit, _)| !unit.is_empty()) {
            let bucket: u32 = bucket.parse().unwrap();
            let weights =
                [json!(["below", bucket]), json!(["here", 1]), json!(["above", scale - bucket - 1])];
            let bundle = bundle(&source(hash, "checkout", &weights));
            let context = RequestContext { user: Some(unit.clone()), ..RequestContext::new("r") };
            assert_eq!(variant(&bundle, &context, 0), "here", "{} {unit}", hash.name());
        }
    }
}
