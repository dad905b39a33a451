//! Imported flags give every context what the other system's package gives it.

use std::collections::BTreeMap;

use lockgate_policy::{
    Algorithm, Bundle, Extent, Field, ImportOptions, Imported, Models, PLACEHOLDER_MODEL, RequestContext,
    System, import,
};
use serde_json::Value;

use crate::{bundle, json};

const CONTEXTS: &str = include_str!("../../../../tests/profiles/import/contexts.json");

fn imported(system: System, source: &str, options: &ImportOptions) -> Imported {
    import(system, "flags.json", source, options).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Variant and payload.
fn decided(bundle: &Bundle, context: &RequestContext, now: i64) -> (String, Value) {
    let decision =
        bundle.decide(context, now, &[]).unwrap_or_else(|_| panic!("there is no route {}", context.route));
    let variant = decision.variant();
    (variant.name.to_owned(), variant.payload.map(json).unwrap_or_default())
}

/// Compares every flag that became a route, and says which flags are not wholly kept.
#[track_caller]
fn check(
    system: System,
    hash: Algorithm,
    source: &str,
    vectors: &str,
    answer: impl Fn(&str, &Value) -> Value,
) -> Vec<String> {
    let names = [
        ("targetingKey", Field::User),
        ("userId", Field::User),
        ("id", Field::User),
        ("sessionId", Field::Session),
    ];
    let of_system: &[&str] = match system {
        System::Flagd => &["targetingKey", "sessionId"],
        System::Unleash => &["userId", "sessionId"],
        _ => &["id", "sessionId"],
    };
    let fields = names.into_iter().filter(|(name, _)| of_system.contains(name));
    let fields: BTreeMap<String, Field> = fields.map(|(name, field)| (name.to_owned(), field)).collect();
    let options =
        ImportOptions { hash: Some(hash), fields, models: Models::default().otherwise("m@1.0.0").unwrap() };
    let imported = imported(system, source, &options);
    let bundle = bundle(&imported.source);
    let (vectors, contexts) = (json(vectors), json(CONTEXTS));
    let (now, answers) = (vectors["now"].as_i64().unwrap(), vectors["answers"].as_array().unwrap());
    let lost =
        |flag: &str, extent| imported.losses.iter().any(|loss| loss.flag == flag && loss.extent == extent);
    for (flag, given) in vectors["given"].as_object().unwrap() {
        let Some(route) = imported.routes.get(flag) else {
            assert!(lost(flag, Extent::Flag), "`{flag}` has no route, and nothing says why");
            continue;
        };
        let given = given.as_str().unwrap();
        assert_eq!(given.len(), contexts.as_array().unwrap().len());
        for (context, given) in contexts.as_array().unwrap().iter().zip(given.bytes()) {
            let mut request: RequestContext = serde_json::from_value(context.clone()).unwrap();
            request.route.clone_from(route);
            let (variant, payload) = decided(&bundle, &request, now);
            if given == b'?' {
                assert!(lost(flag, Extent::Part), "`{flag}` draws at random, and nothing says so");
                continue;
            }
            let letters = (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z');
            let expected = &answers[letters.into_iter().position(|letter| letter == given).unwrap()];
            if route == "off" && system == System::Flagd {
                // Callers of a disabled flag get what they pass along, which no policy knows; that is listed.
                assert!(lost(flag, Extent::Part) && expected == "code-default" && variant == "off");
                continue;
            }
            assert_eq!(
                &answer(&variant, &payload),
                expected,
                "{flag}: {context} has {variant}\n{}",
                imported.source
            );
        }
    }
    let lines =
        imported.losses.iter().map(|loss| format!("{} {}: {}", loss.extent.name(), loss.path, loss.reason));
    lines.collect()
}

/// flagd's value; the variant without one stands for what callers pass along.
fn value(variant: &str, payload: &Value) -> Value {
    if variant == "code-default" { variant.into() } else { payload.clone() }
}

#[test]
fn flagd() {
    let source = include_str!("../../../../tests/profiles/import/flagd.source.json");
    let vectors = include_str!("../../../../tests/profiles/import/flagd.json");
    let losses = check(System::Flagd, Algorithm::Flagd, source, vectors, value);
    insta::assert_snapshot!(losses.join("\n"), @r"
    part flags.off.state: it is disabled: flagd gives callers the value that they pass along, the route serves its baseline
    name flags.header color: `header color` cannot name a route; the route is called `header-color`
    part flags.by-flag-and-company.targeting.fractional: in flagd's SDK for JavaScript, `cat` makes an empty text of what is missing or the word `null`, depending on what stands around it; here it is an empty text
    name flags.twice.targeting.fractional[2]: the variant `a` occurs twice in one split; here it is called `a-2`
    name flags.twice.targeting.fractional[3]: the variant `b` occurs twice in one split; here it is called `b-2`
    part flags.no-default.defaultVariant: there is no default variant: flagd gives callers the value that they pass along, the route serves `code-default`
    part flags.unknown-variant.targeting.if[1]: there is no variant `perhaps`: flagd gives callers the value that they pass along, the route serves `code-default`
    flag flags.computed.targeting.if[0].==: `%` computes what is compared
    flag flags.variant-from-attribute.targeting.var: the variant is computed by `var`
    ");
}

#[test]
fn flagd_legacy() {
    let source = include_str!("../../../../tests/profiles/import/flagd-legacy.source.json");
    let vectors = include_str!("../../../../tests/profiles/import/flagd-legacy.json");
    let losses = check(System::Flagd, Algorithm::FlagdLegacy, source, vectors, value);
    assert_eq!(losses, Vec::<String>::new());
}

#[test]
fn unleash() {
    let source = include_str!("../../../../tests/profiles/import/unleash.source.json");
    let vectors = include_str!("../../../../tests/profiles/import/unleash.json");
    let losses = check(System::Unleash, Algorithm::Unleash, source, vectors, |variant, _| variant.into());
    insta::assert_snapshot!(losses.join("\n"), @r"
    part features[4].strategies[0].parameters.stickiness: contexts with neither user nor session were drawn anew for every request; here they are not among the 50 %
    part features[9].variants: contexts without user drew a variant anew for every request; here `red` serves them
    part features[10].variants: contexts without user, session and remoteAddress drew a variant anew for every request; here `b` serves them
    part features[15].strategies[0]: `ourOwn` is a strategy of your own; without its code it never switches the feature on
    name features[16]: `Funktion für alle` cannot name a route; the route is called `Funktion-f-r-alle`
    flag features[17].strategies[0].parameters.IPs: `2001:db8::/32` is a network of IPv6
    flag features[18].strategies[0]: it asks for the name of the machine that the SDK runs on
    part features[12].dependencies[1]: it depends on the feature `variants`, which is not wholly kept
    ");
}

#[test]
fn growthbook() {
    let source = include_str!("../../../../tests/profiles/import/growthbook.source.json");
    let vectors = include_str!("../../../../tests/profiles/import/growthbook.json");
    let losses =
        check(System::GrowthBook, Algorithm::GrowthBook, source, vectors, |_, payload| payload.clone());
    insta::assert_snapshot!(losses.join("\n"), @"flag features.lists.rules[0].condition.tags.$elemMatch: `$elemMatch` is no test that a policy has");
}

#[test]
fn without_a_model_every_variant_has_the_placeholder() {
    let source = r#"{ "flags": { "f": { "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "on" } } }"#;
    let imported = imported(System::Flagd, source, &ImportOptions::default());
    assert!(imported.source.contains(PLACEHOLDER_MODEL), "{}", imported.source);
    assert_eq!(imported.losses.len(), 1);
    assert_eq!(imported.losses[0].extent, Extent::Name);
}
