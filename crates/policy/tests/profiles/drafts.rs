//! What flags become besides their assignments: names, bounds, and what is left out because nothing can reach it.

use std::fmt::Write as _;

use lockgate_policy::{ImportOptions, Imported, RequestContext, System, import};
use serde_json::{Value, json};

use crate::{bundle, variant};

fn imported(system: System, document: &Value) -> Imported {
    let imported = import(system, "flags.json", &document.to_string(), &ImportOptions::default());
    imported.unwrap_or_else(|problems| panic!("{problems}"))
}

/// The routes, and everything that is not kept but for the models, which nobody named here.
fn summary(imported: &Imported) -> String {
    let mut out = String::new();
    for (flag, route) in &imported.routes {
        writeln!(out, "{flag} -> {route}").unwrap();
    }
    for loss in imported.losses.iter().filter(|loss| !loss.reason.starts_with("nothing says which model")) {
        writeln!(out, "{} {}: {}", loss.extent.name(), loss.path, loss.reason).unwrap();
    }
    out
}

/// A section of the source, without the models.
fn section(imported: &Imported, from: &str) -> String {
    let (_, rest) = imported.source.split_once(&format!("\n{from}:\n")).unwrap();
    rest.replace("model: replace-me@0.0.0, ", "")
}

/// A flag of flagd.
fn flag(targeting: Value) -> Value {
    let mut flag =
        json!({ "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": "off" });
    flag["targeting"] = targeting;
    flag
}

#[expect(clippy::needless_pass_by_value, reason = "tests write it in place")]
fn flagd(flags: Value) -> Imported {
    imported(System::Flagd, &json!({ "flags": flags }))
}

#[test]
fn flags_that_can_keep_their_names_keep_them() {
    let split = json!({ "fractional": [["on", 1], ["off", 1]] });
    let imported = flagd(json!({
        "a b": flag(json!("on")), "a-b": flag(split), "a/b": flag(json!("on")), "a-b-2": flag(json!("on")),
        "flagd.a-b": flag(json!("on")),
    }));
    insta::assert_snapshot!(summary(&imported), @"
    a b -> a-b-3
    a-b -> a-b
    a-b-2 -> a-b-2
    a/b -> a-b-4
    flagd.a-b -> flagd.a-b
    name flags.a b: `a b` cannot name a route; the route is called `a-b-3`
    name flags.a/b: `a/b` cannot name a route; the route is called `a-b-4`
    ");
}

#[test]
fn variants_of_flagd_that_can_keep_their_names_keep_them() {
    let imported = flagd(json!({ "f": {
        "state": "ENABLED",
        "variants": { "x y": 1, "x-y": 2, "code-default": 3 },
        "defaultVariant": null,
        "targeting": { "if": [{ "var": "a" }, "x y", { "var": "b" }, "x-y", { "var": "c" }, "code-default"] },
    } }));
    insta::assert_snapshot!(summary(&imported), @"
    f -> f
    name flags.f.variants.x y: `x y` cannot name a variant; it is called `x-y-2`
    part flags.f.defaultVariant: there is no default variant: flagd gives callers the value that they pass along, the route serves `code-default-2`
    ");
    insta::assert_snapshot!(section(&imported, "routes"), @r#"
    f:
      variants:
        x-y-2: { payload: 1 }
        x-y: { payload: 2 }
        code-default: { payload: 3 }
        code-default-2: { model: replace-me@0.0.0 }
      baseline: code-default-2
      rules:
        - name: targeting
          if:
            all:
              - { attribute: a, present: true }
              - { attribute: a, not_in: [false, 0, ""] }
          serve: x-y-2
        - name: targeting-2
          if:
            all:
              - { attribute: b, present: true }
              - { attribute: b, not_in: [false, 0, ""] }
          serve: x-y
        - name: targeting-3
          if:
            all:
              - { attribute: c, present: true }
              - { attribute: c, not_in: [false, 0, ""] }
          serve: code-default
      default: { serve: code-default-2 }
    "#);
}

/// A feature of Unleash that is on for everyone.
#[expect(clippy::needless_pass_by_value, reason = "tests write it in place")]
fn feature(name: &str, variants: Value, parents: Value) -> Value {
    let strategies = json!([{ "name": "default" }]);
    json!({ "name": name, "enabled": true, "strategies": strategies, "variants": variants, "dependencies": parents })
}

#[test]
fn names_of_unleash_that_can_be_kept_are_kept() {
    let sticky = |name: &str, weight: u32| json!({ "name": name, "weight": weight, "stickiness": "userId" });
    let variants =
        json!([sticky("v 1", 1000), sticky("v-1", 0), sticky("disabled", 0), sticky("enabled", 0)]);
    let imported = imported(
        System::Unleash,
        &json!({ "version": 2, "features": [
            feature("a/b", variants, json!([])),
            feature("a-b", json!([]), json!([{ "feature": "a/b", "variants": ["v 1"] }])),
            feature("twice", json!([]), json!([{ "feature": "nobody" }])),
            feature("twice", json!([]), json!([])),
            feature("child", json!([]), json!([{ "feature": "a/b", "enabled": false }])),
            {},
        ] }),
    );
    insta::assert_snapshot!(summary(&imported), @"
    a-b -> a-b
    a/b -> a-b-2
    child -> child
    twice -> twice
    flag features[5]: this is no feature: it has no name
    name features[2]: the feature stands again at features[3], which counts, as in the SDK
    name features[0]: `a/b` cannot name a route; the route is called `a-b-2`
    name features[0]: `v 1` cannot name a variant; it is called `v-1-2`
    name features[0]: the feature has a variant of its own called `disabled`; off is `disabled-2`
    ");
    let bundle = bundle(&imported.source);
    let decided = |feature: &str| {
        let route = imported.routes[feature].clone();
        variant(&bundle, &RequestContext { route, user: Some("u".to_owned()), ..Default::default() }, 0)
    };
    // The second depends on a variant of the first that has another name here.
    assert_eq!([decided("a/b"), decided("a-b"), decided("twice")], ["v-1-2", "enabled", "enabled"]);
}

#[test]
fn names_of_growthbook_that_can_be_kept_are_kept() {
    let rule = |group: &str, value: Value| json!({ "condition": { "country": { "$inGroup": group } }, "force": value });
    let imported = imported(
        System::GrowthBook,
        &json!({
            "features": {
                "a b": { "defaultValue": { "x": 1 }, "rules": [
                    rule("g 1", json!([1])), rule("g-1", json!("value")), rule("g-1", json!(-1)), rule("g 1", json!("1")),
                    { "variations": [{ "x": 2 }, { "x": 3 }], "meta": [{ "key": "b c" }, { "key": "b-c" }] },
                ] },
                "a-b": { "defaultValue": true },
            },
            "savedGroups": { "g 1": ["DE"], "g-1": ["FR"] },
        }),
    );
    insta::assert_snapshot!(summary(&imported), @"
    a b -> a-b-2
    a-b -> a-b
    name features.a b: `a b` cannot name a route; the route is called `a-b-2`
    ");
    insta::assert_snapshot!(section(&imported, "segments"), @r#"
      g-1-2:
        if: { attribute: country, in: [DE] }
      g-1:
        if: { attribute: country, in: [FR] }

    layers:
      growthbook-v1.a-b: { hash: growthbook-v1, salt: "a b" }

    routes:
      a-b-2:
        variants:
          value-2: { payload: { x: 1 } }
          value-3: { payload: [1] }
          value: { payload: value }
          value-4: { payload: -1 }
          "1": { payload: "1" }
          b-c-2: { payload: { x: 2 } }
          b-c: { payload: { x: 3 } }
        baseline: value-2
        rules:
          - { name: rule, if: { segment: g-1-2 }, serve: value-3 }
          - { name: rule-2, if: { segment: g-1 }, serve: value }
          - { name: rule-3, if: { segment: g-1 }, serve: value-4 }
          - { name: rule-4, if: { segment: g-1-2 }, serve: "1" }
          - name: rule-5
            if: { bucket: { layer: growthbook-v1.a-b, unit: user, below: 100 } }
            layer: growthbook-v1.a-b
            unit: user
            weights: { b-c-2: 500, b-c: 500 }
        default: { serve: value-2 }
      a-b:
        variants: { "true": { payload: true } }
        baseline: "true"
        default: { serve: "true" }
    "#);
}

/// `{"if": [{"==": [{"var": "a1"}, 1]}, t, t]}`, and so on: every level doubles the rules.
fn doubling(levels: usize) -> Value {
    (0..levels).fold(
        json!("on"),
        |inner, level| json!({ "if": [{ "==": [{ "var": format!("a{level}") }, 1] }, inner, inner] }),
    )
}

#[test]
fn a_flag_that_would_become_too_many_rules_is_left_out() {
    let imported = flagd(json!({ "many": flag(doubling(12)), "more": flag(doubling(14)) }));
    insta::assert_snapshot!(summary(&imported), @"
    many -> many
    flag flags.more: it becomes more than 10000 rules
    ");
    // Each way through the tree that is a rule; the way around it is the default.
    assert_eq!(imported.source.matches("serve: \"on\"").count(), 4096);
}

/// Fails by never ending, or by taking all memory.
#[test]
fn what_multiplies_with_every_level_is_left_out() {
    let question = (0..25).fold(
        json!({ "var": "a" }),
        |inner, level| json!({ "if": [inner, { "var": format!("b{level}") }, { "var": "c" }] }),
    );
    let mut document = json!({ "flags": {
        "kept": flag(json!("on")),
        "question": flag(json!({ "if": [question, "on"] })),
        "evaluated": flag(json!({ "if": [{ "$ref": "e12" }, "on"] })),
    } });
    for level in (1..=12).rev() {
        let below = json!({ "$ref": format!("e{}", level - 1) });
        document["$evaluators"][format!("e{level}")] = json!({ "and": vec![below; 10] });
    }
    document["$evaluators"]["e0"] = json!({ "var": "a" });
    insta::assert_snapshot!(summary(&imported(System::Flagd, &document)), @"
    kept -> kept
    flag flags.question.targeting.if[0].if[0].if[0].if[0].if[0].if[0].if[0].if[0].if[0].if[0].if[0].if[0].if: its rules have more than 201504 tests and listed values
    flag flags.evaluated.targeting: its evaluators hold more than 200000 values
    ");
    let mut document = json!({ "features": {
        "kept": { "defaultValue": true },
        "f": { "defaultValue": true, "rules": [{ "condition": { "$savedGroup": { "id": "g12" } }, "force": false }] },
    } });
    document["savedGroups"]["g0"] = json!({ "type": "condition", "condition": { "country": "DE" } });
    for level in 1..=12 {
        let below = json!({ "$savedGroup": { "id": format!("g{}", level - 1) } });
        document["savedGroups"][format!("g{level}")] =
            json!({ "type": "condition", "condition": { "$or": vec![below; 10] } });
    }
    insta::assert_snapshot!(summary(&imported(System::GrowthBook, &document)), @"
    kept -> kept
    flag savedGroups.g3.condition.$or[3].$savedGroup: its rules have more than 201104 tests and listed values
    ");
}

#[test]
fn what_no_document_can_hold_is_left_out_alone() {
    let condition = (0..28).fold(json!({ "var": "a" }), |inner, level| {
        let operator = if level % 2 == 0 { "and" } else { "or" };
        json!({ operator: [inner, { "var": format!("b{level}") }] })
    });
    let value = (0..59).fold(json!(1), |inner, _| json!([inner]));
    let mut deep = flag(json!("on"));
    deep["variants"]["on"] = value;
    let imported = flagd(
        json!({ "kept": flag(json!("on")), "deep": flag(json!({ "if": [condition, "on"] })), "value": deep }),
    );
    insta::assert_snapshot!(summary(&imported), @"
    kept -> kept
    flag flags.deep: its conditions are nested too deeply to be written as policy source
    flag flags.value: the value of `on` is nested more than 56 levels deep
    ");
}

#[test]
fn branches_that_nothing_can_reach_are_left_out() {
    let by_email = json!({ "fractional": [{ "cat": [{ "var": "$flagd.flagKey" }, { "var": "email" }] }, ["on", 25], ["off", 75]] });
    let imported = flagd(json!({
        // From flagd's documentation.
        "header-color": flag(json!({ "if": [{ "in": ["@faas.com", { "var": "email" }] }, by_email] })),
        "plans": flag(json!({ "if": [
            { "==": [{ "var": "plan" }, "pro"] },
            { "if": [{ "==": [{ "var": "plan" }, "free"] }, "nowhere", { "in": [{ "var": "plan" }, ["pro", "max"]] }, "on", "nowhere"] },
            { "!": [{ "!=": [{ "var": "plan" }, "pro"] }] }, "nowhere",
            { "!": [{ "var": "plan" }] }, "off",
            { "!!": [{ "var": "plan" }] }, "on",
            "nowhere",
        ] })),
    }));
    insta::assert_snapshot!(section(&imported, "routes"), @r#"
    header-color:
      variants:
        "on": { payload: true }
        "off": { payload: false }
      baseline: "off"
      rules:
        - name: targeting
          if: { attribute: email, contains: "@faas.com" }
          layer: flagd.header-color
          unit: { attribute: email }
          weights: { "on": 25, "off": 75 }
      default: { serve: "off" }
    plans:
      variants:
        "on": { payload: true }
        "off": { payload: false }
      baseline: "off"
      rules:
        - { name: targeting, if: { attribute: plan, eq: pro }, serve: "on" }
        - name: targeting-2
          if:
            not:
              all:
                - { attribute: plan, present: true }
                - { attribute: plan, not_in: [false, 0, ""] }
          serve: "off"
      default: { serve: "on" }
    "#);
}

#[test]
fn a_split_that_everyone_has_the_unit_of_draws_for_nobody() {
    let variants = json!([{ "name": "a", "weight": 500 }, { "name": "b", "weight": 500 }]);
    let rollout = json!({ "rollout": "50", "stickiness": "userId", "groupId": "g" });
    let mut by_user = feature("by-user", variants, json!([]));
    by_user["strategies"] = json!([{ "name": "flexibleRollout", "parameters": rollout }]);
    let imported = imported(System::Unleash, &json!({ "features": [by_user] }));
    insta::assert_snapshot!(summary(&imported), @"by-user -> by-user");
    insta::assert_snapshot!(section(&imported, "routes"), @"
    by-user:
      variants:
        a: { model: replace-me@0.0.0 }
        b: { model: replace-me@0.0.0 }
        disabled: { model: replace-me@0.0.0 }
      baseline: disabled
      rules:
        - name: strategy
          if: { bucket: { layer: unleash.g, unit: user, below: 50 } }
          layer: unleash-variants.by-user
          unit: user
          weights: { a: 500, b: 500 }
      default: { serve: disabled }
    ");
}

#[test]
fn what_is_no_flag_is_named() {
    let document = json!({
        "flags": {
            "list": [], "nothing": null, "text": "on", "variants": { "state": "ENABLED", "variants": [] },
            "state": { "variants": {} }, "wrong-state": { "state": 1, "variants": {} },
            "unknown": flag(json!({ "$ref": "nobody" })),
            "itself": flag(json!({ "if": [{ "$ref": "itself" }, "on"] })),
            "before": flag(json!({ "if": [{ "$ref": "later" }, "on"] })),
            "in-order": flag(json!({ "if": [{ "$ref": "asks" }, "on"] })),
        },
        "$evaluators": {
            "first": { "var": "a" }, "itself": { "!": [{ "$ref": "itself" }] },
            "later": { "!": [{ "$ref": "first" }] }, "asks": { "!": [{ "$ref": "last" }] }, "last": { "var": "a" },
        },
    });
    insta::assert_snapshot!(summary(&imported(System::Flagd, &document)), @"
    in-order -> in-order
    flag flags.list: a flag is a mapping, and this is a list
    flag flags.nothing: a flag is a mapping, and this is nothing
    flag flags.text: a flag is a mapping, and this is a text
    flag flags.variants.variants: `variants` is a mapping, and this is a list
    flag flags.state.state: it has no state
    flag flags.wrong-state.state: 1 is no state
    flag flags.unknown.targeting: there is no evaluator `nobody`
    flag flags.itself.targeting.if[0].![0]: the evaluator `itself` asks for itself, or is asked for by one that stands behind it; flagd puts evaluators in one after the other, so this reference stays
    flag flags.before.targeting.if[0].![0]: the evaluator `first` asks for itself, or is asked for by one that stands behind it; flagd puts evaluators in one after the other, so this reference stays
    ");
    let document = json!({ "features": { "list": [], "nothing": null } });
    insta::assert_snapshot!(summary(&imported(System::GrowthBook, &document)), @"
    flag features.list: a feature is a mapping, and this is a list
    flag features.nothing: a feature is a mapping, and this is nothing
    ");
}
